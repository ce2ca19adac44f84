//! Links as a table.

use whimbrel_chaos::link::{Faults, LinkReport};

use super::amount::Rate;

const HEAD: [&str; 8] = [
    "LINK", "FAULTS", "PASSED", "KB", "DELAYED", "TWICE", "LATE", "DROPPED",
];

/// One line for each direction, under a head.
pub(super) fn render(links: &[LinkReport]) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(links.iter().map(row));
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    };
    let widths: [usize; HEAD.len()] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            // Words to the left, numbers to the right; what was dropped is words again.
            line += &match column {
                0 | 1 => format!("{cell:<width$}  "),
                7 => cell.clone(),
                _ => format!("{cell:>width$}  "),
            };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn row(link: &LinkReport) -> [String; HEAD.len()] {
    let counters = &link.counters;
    let dropped = [
        ("cut", counters.dropped.cut),
        ("loss", counters.dropped.loss),
        ("bandwidth", counters.dropped.bandwidth),
        ("no room", counters.dropped.room),
    ];
    [
        format!("{} -> {}", link.from, link.to),
        faults(&link.faults),
        counters.passed.to_string(),
        (counters.bytes / 1_000).to_string(),
        counters.delayed.to_string(),
        counters.duplicated.to_string(),
        counters.reordered.to_string(),
        or_none(
            dropped
                .iter()
                .filter(|(_, count)| *count > 0)
                .map(|(cause, count)| format!("{count} {cause}")),
        ),
    ]
}

/// Faults as one types them.
fn faults(faults: &Faults) -> String {
    let share =
        |name: &str, share: f64| (share > 0.0).then(|| format!("{name} {}%", percent(share)));
    let jitter = match faults.jitter_ms {
        0 => String::new(),
        jitter => format!(" +-{jitter}ms"),
    };
    let parts = [
        faults.cut.then(|| "cut".to_owned()),
        (faults.delay_ms > 0).then(|| format!("delay {}ms{jitter}", faults.delay_ms)),
        share("loss", faults.loss),
        share("duplicate", faults.duplicate),
        share("reorder", faults.reorder),
        faults
            .bits_per_second
            .map(|rate| format!("bandwidth {}", Rate(Some(rate)))),
    ];
    or_none(parts.into_iter().flatten())
}

/// Without the noise of binary fractions.
fn percent(share: f64) -> f64 {
    (share * 1e6).round() / 1e4
}

fn or_none(parts: impl Iterator<Item = String>) -> String {
    let joined = parts.collect::<Vec<_>>().join(", ");
    if joined.is_empty() {
        "-".to_owned()
    } else {
        joined
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_chaos::link::{Counters, Dropped};

    use super::*;

    #[test]
    fn a_table_lines_up() {
        let link = |from: &str, faults, counters| LinkReport {
            from: from.to_owned(),
            to: "us".to_owned(),
            faults,
            counters,
        };
        let slow = Faults {
            delay_ms: 80,
            jitter_ms: 20,
            loss: 0.05,
            bits_per_second: Some(1_000_000),
            ..Faults::default()
        };
        let counted = Counters {
            passed: 1_200,
            bytes: 64_500,
            delayed: 7,
            duplicated: 0,
            reordered: 1,
            dropped: Dropped {
                cut: 3,
                room: 1,
                ..Dropped::default()
            },
        };
        let text = render(&[
            link("eu", slow, counted),
            link("us-west", Faults::default(), Counters::default()),
        ]);
        let expected = "\
LINK           FAULTS                                       PASSED  KB  DELAYED  TWICE  LATE  DROPPED
eu -> us       delay 80ms +-20ms, loss 5%, bandwidth 1mbit    1200  64        7      0     1  3 cut, 1 no room
us-west -> us  -                                                 0   0        0      0     0  -
";
        assert_eq!(text, expected);
    }
}
