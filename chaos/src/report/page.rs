//! The page: one file that needs nothing else, for screens light and dark, and for paper.

use std::fmt::Write as _;

use super::escape::Escaped;
use super::plot::{Axis, Band, Line, legend, plot, time_line};
use crate::check::Counts;
use crate::journal::{Journal, Outcome, Second, Step, StepStatus};

const STYLE: &str = include_str!("page.css");

/// One page for all: a table of experiments, then each of them.
pub fn html(journals: &[Journal]) -> String {
    let title = match journals {
        [one] => one.title().to_owned(),
        all => format!("{} chaos experiments", all.len()),
    };
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{0}</title>\n<style>\n{STYLE}</style>\n<h1>{0}</h1>\n",
        Escaped(&title)
    );
    if journals.len() > 1 {
        overview(&mut html, journals);
    }
    for journal in journals {
        section(&mut html, journal);
    }
    html + "</html>\n"
}

fn overview(html: &mut String, journals: &[Journal]) {
    *html += "<table><tr><th>experiment<th>what it shows<th class=\"number\">seconds\
              <th class=\"number\">operations<th class=\"number\">violations</tr>\n";
    for journal in journals {
        let operations = journal.counts.map(|counts| counts.operations.to_string());
        let violations: usize = journal.verdicts.iter().map(|v| v.violations).sum();
        let _ = writeln!(
            html,
            "<tr><td><a href=\"#{0}\">{1}</a><td>{2}<td class=\"number\">{3:.1}\
             <td class=\"number\">{4}<td class=\"number\">{5}</tr>",
            Escaped(&journal.name),
            Escaped(journal.title()),
            outcome(journal),
            journal.duration,
            operations.as_deref().unwrap_or("-"),
            if journal.verdicts.is_empty() {
                "-".to_owned()
            } else {
                violations.to_string()
            },
        );
    }
    *html += "</table>\n";
}

fn outcome(journal: &Journal) -> String {
    let class = match journal.outcome {
        Outcome::Held => "good",
        Outcome::Violated => "bad",
        Outcome::NoBite | Outcome::NotRun | Outcome::Skipped => "neutral",
    };
    format!("<span class=\"{class}\">{}</span>", journal.outcome)
}

fn section(html: &mut String, journal: &Journal) {
    let _ = write!(
        html,
        "<section id=\"{}\">\n<h2>{}: {}</h2>\n<p>{}</p>\n\
         <p class=\"quiet\">{} form, {:.1} s from {}, seed {}</p>\n",
        Escaped(&journal.name),
        Escaped(journal.title()),
        outcome(journal),
        Escaped(
            journal.experiment["description"]
                .as_str()
                .unwrap_or_default()
        ),
        journal.form,
        journal.duration,
        journal.start,
        journal.seed,
    );
    if let Some(reason) = &journal.reason {
        let _ = writeln!(html, "<p class=\"reason\">{}</p>", Escaped(reason));
    }
    if let Some(folder) = &journal.kept {
        let _ = writeln!(
            html,
            "<p>The files of its cluster: <code>{}</code></p>",
            Escaped(folder)
        );
    }
    verdicts(html, journal);
    plots(html, journal);
    faults(html, journal);
    steps(html, journal);
    if let Some(counts) = &journal.counts {
        table_of_counts(html, counts, journal.gone);
    }
    *html += "</section>\n";
}

fn verdicts(html: &mut String, journal: &Journal) {
    if journal.verdicts.is_empty() {
        return;
    }
    *html +=
        "<h3>Verdicts</h3>\n<table><tr><th>guarantee<th>promise<th>verdict<th>judged by</tr>\n";
    for verdict in &journal.verdicts {
        let said = match (verdict.held, verdict.violations) {
            (true, _) => "<span class=\"good\">held</span>".to_owned(),
            (false, count) => format!("<span class=\"bad\">violated, {count} times</span>"),
        };
        let _ = writeln!(
            html,
            "<tr><td>{}<td>{}<td>{said}<td class=\"quiet\">{}</tr>",
            verdict.guarantee,
            verdict.promise,
            Escaped(&verdict.judged_by.join("; ")),
        );
        if !verdict.examples.is_empty() {
            let lines = verdict.examples.join("\n");
            let _ = writeln!(
                html,
                "<tr><td><td colspan=\"3\"><pre>{}</pre></tr>",
                Escaped(&lines)
            );
        }
    }
    *html += "</table>\n";
}

fn plots(html: &mut String, journal: &Journal) {
    let (writes, lag) = (&journal.measured.writes, &journal.measured.lag);
    let seconds = writes.values().map(|seconds| seconds.len() as f64);
    let sampled = lag
        .values()
        .filter_map(|points| points.last())
        .map(|point| point.at);
    let end = seconds.chain(sampled).fold(0.0, f64::max);
    if end == 0.0 {
        return;
    }
    let axis = Axis { end };
    let bands: Vec<Band> = journal
        .faults
        .iter()
        .map(|fault| Band {
            from: fault.start,
            to: fault.end.unwrap_or(end),
            label: fault.what.clone(),
        })
        .collect();
    *html += "<h3>Time line</h3>\n";
    *html += &time_line(axis, &bands);
    let by_region = |label: &str, dashed, value: fn(&Second) -> Option<f64>| -> Vec<Line> {
        let line = |(color, (region, seconds)): (usize, (&String, &Vec<Second>))| Line {
            label: format!("{region}{label}"),
            color,
            dashed,
            // A second's value stands in its middle.
            points: (0_u32..)
                .zip(seconds)
                .map(|(nth, second)| (f64::from(nth) + 0.5, value(second)))
                .collect(),
        };
        writes.iter().enumerate().map(line).collect()
    };
    let mut show = |title: &str, lines: &[Line]| {
        let _ = write!(
            html,
            "\n<h3>{title}</h3>\n{}",
            plot(axis, &bands, title, lines)
        );
        *html += &legend(lines);
    };
    let mut rates = by_region(" acked", false, |second| Some(second.acked.into()));
    rates.extend(by_region(" refused or not answered", true, |second| {
        Some(second.failed.into())
    }));
    show("Writes per second, by the region that was asked", &rates);
    let mut times = by_region(" p99", false, |second| second.p99_ms);
    times.extend(by_region(" p50", true, |second| second.p50_ms));
    show("Milliseconds that acked writes took", &times);
    let lags: Vec<Line> = lag
        .iter()
        .enumerate()
        .map(|(color, (pair, points))| Line {
            label: pair.clone(),
            color: color % 6,
            dashed: color >= 6,
            points: broken(points.iter().map(|point| (point.at, point.value))),
        })
        .collect();
    show(
        "Seconds that the second region is behind the first, as the first says",
        &lags,
    );
}

/// Where nothing was said for a while, the line is broken.
fn broken(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, Option<f64>)> {
    const SILENCE: f64 = 1.5;
    let mut line: Vec<(f64, Option<f64>)> = Vec::new();
    for (at, value) in points {
        if line.last().is_some_and(|(last, _)| at - last > SILENCE) {
            line.push((at, None));
        }
        line.push((at, Some(value)));
    }
    line
}

fn faults(html: &mut String, journal: &Journal) {
    if journal.faults.is_empty() {
        return;
    }
    *html += "<h3>Faults</h3>\n<table><tr><th>fault<th class=\"number\">from<th class=\"number\">to\
              <th>did it bite?<th>evidence</tr>\n";
    for fault in &journal.faults {
        let bit = match fault.bit {
            Some(true) => "<span class=\"good\">yes</span>",
            Some(false) => "<span class=\"bad\">no</span>",
            None => "<span class=\"neutral\">not known</span>",
        };
        let end = fault
            .end
            .map_or_else(|| "-".to_owned(), |end| format!("{end:.1} s"));
        let _ = writeln!(
            html,
            "<tr><td>{}<td class=\"number\">{:.1} s<td class=\"number\">{end}<td>{bit}<td>{}</tr>",
            Escaped(&fault.what),
            fault.start,
            Escaped(&fault.evidence.join("; ")),
        );
    }
    *html += "</table>\n";
}

fn steps(html: &mut String, journal: &Journal) {
    let phases = [
        ("before", &journal.steady_states.before),
        ("method", &journal.run),
        ("rollback", &journal.rollbacks),
        ("after", &journal.steady_states.after),
    ];
    if phases.iter().all(|(_, steps)| steps.is_empty()) {
        return;
    }
    *html += "<h3>Steps</h3>\n<table><tr><th>phase<th>step<th class=\"number\">at\
              <th class=\"number\">took<th>output<th>status</tr>\n";
    for (phase, steps) in phases {
        for step in steps {
            let _ = writeln!(
                html,
                "<tr><td>{phase}<td>{}<td class=\"number\">{:.1} s<td class=\"number\">{:.2} s\
                 <td>{}<td>{}</tr>",
                Escaped(&step.activity.name),
                step.start,
                step.duration,
                output(step),
                status(step),
            );
        }
    }
    *html += "</table>\n";
}

fn output(step: &Step) -> String {
    match (&step.exception, &step.output) {
        (Some(why), _) => Escaped(why).to_string(),
        (None, serde_json::Value::Null) => String::new(),
        (None, serde_json::Value::Number(number)) => {
            let value = number.as_f64().unwrap_or_default();
            ((value * 1e3).round() / 1e3).to_string()
        }
        (None, value) => Escaped(&value.to_string()).to_string(),
    }
}

fn status(step: &Step) -> String {
    match (step.status, step.tolerance_met) {
        (StepStatus::Failed, _) => "<span class=\"bad\">failed</span>".to_owned(),
        (_, Some(false)) => {
            let tolerated = step.activity.tolerance.as_deref().unwrap_or_default();
            format!("<span class=\"bad\">not {}</span>", Escaped(tolerated))
        }
        (_, Some(true)) => "<span class=\"good\">as it should be</span>".to_owned(),
        (_, None) => "done".to_owned(),
    }
}

fn table_of_counts(html: &mut String, counts: &Counts, gone: usize) {
    let rows = [
        ("operations, each try counted", counts.operations),
        ("posts acked", counts.posts),
        ("edits acked", counts.edits),
        ("redactions acked", counts.redactions),
        ("other writes acked", counts.other_writes),
        ("tries refused", counts.refused),
        ("tries of writes with no answer", counts.unknown),
        (
            "writes acked by one region after a try in another",
            counts.retried_elsewhere,
        ),
        ("writes that a region had done before", counts.replayed),
        ("pages read", counts.pages),
        (
            "pages read in another region than the one before",
            counts.hops,
        ),
        ("pages that said what they lack", counts.stale),
        ("streams taken up again", counts.resumptions),
        ("events told", counts.told),
        ("times a region was behind a stream", counts.behind),
        ("acked writes gone with a disk, as they may be", gone),
    ];
    *html += "<h3>What clients did</h3>\n<table>\n";
    for (what, count) in rows {
        let _ = writeln!(html, "<tr><td>{what}<td class=\"number\">{count}</tr>");
    }
    *html += "</table>\n";
}
