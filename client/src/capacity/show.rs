//! Numbers as people read them, with three digits that count.

/// Three significant digits, and no more than are there.
fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        it if it >= 99.95 => 0,
        it if it >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let (mut value, mut at) = (value, 0);
    while value.abs() >= step * 0.9995 && at + 1 < units.len() {
        value /= step;
        at += 1;
    }
    format!("{}{}", digits(value), units[at])
}

/// `12K`, `1.5M`: as flags take them.
pub(super) fn count(value: f64) -> String {
    scaled(value, 1000.0, &["", "K", "M", "G", "T"])
}

/// Bytes in powers of a thousand.
pub(super) fn bytes(value: f64) -> String {
    scaled(
        value,
        1000.0,
        &[" B", " KB", " MB", " GB", " TB", " PB", " EB"],
    )
}

/// Of any currency.
pub(super) fn money(value: f64) -> String {
    scaled(value, 1000.0, &["", "K", "M", "G"])
}

/// A part of one, in percent.
pub(super) fn percent(part: f64) -> String {
    format!("{}%", digits(part * 100.0))
}

/// Seconds in the largest unit that leaves one in front.
pub(super) fn duration(seconds: f64) -> String {
    let (unit, name) = [(86_400.0, "days"), (3600.0, "h"), (60.0, "min")]
        .into_iter()
        .find(|(unit, _)| seconds >= unit * 2.0)
        .unwrap_or((1.0, "s"));
    format!("{} {name}", digits(seconds / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_count() {
        assert_eq!(count(11_574.07), "11.6K");
        assert_eq!(count(100e6), "100M");
        assert_eq!(count(999.96), "1K");
        assert_eq!(count(0.0), "0");
        assert_eq!(bytes(740.0), "740 B");
        assert_eq!(bytes(1.25e12), "1.25 TB");
        assert_eq!(percent(0.6), "60%");
        assert_eq!(percent(4.0), "400%");
        assert_eq!(money(123_456.0), "123K");
        assert_eq!(duration(90.0), "90 s");
        assert_eq!(duration(3600.0 * 9.3), "9.3 h");
        assert_eq!(duration(86_400.0 * 3.0), "3 days");
    }
}
