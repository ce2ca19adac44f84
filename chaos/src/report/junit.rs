//! JUnit's XML, which continuous integration reads.

use std::fmt::Write as _;

use super::escape::Escaped;
use crate::journal::{Journal, Outcome};

/// A test suite, with a test case for each experiment.
pub fn junit(journals: &[Journal]) -> String {
    let count = |outcomes: &[Outcome]| {
        let of = journals.iter().filter(|j| outcomes.contains(&j.outcome));
        of.count()
    };
    let time: f64 = journals.iter().map(|journal| journal.duration).sum();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    let _ = writeln!(
        xml,
        "  <testsuite name=\"whimbrel-chaos\" tests=\"{}\" failures=\"{}\" errors=\"{}\" \
         skipped=\"{}\" time=\"{time:.3}\">",
        journals.len(),
        count(&[Outcome::Violated]),
        count(&[Outcome::NoBite, Outcome::NotRun]),
        count(&[Outcome::Skipped]),
    );
    for journal in journals {
        case(&mut xml, journal);
    }
    xml + "  </testsuite>\n</testsuites>\n"
}

fn case(xml: &mut String, journal: &Journal) {
    let reason = journal.reason.as_deref().unwrap_or_default();
    let _ = write!(
        xml,
        "    <testcase classname=\"whimbrel-chaos.{}\" name=\"{}\" time=\"{:.3}\"",
        journal.form,
        Escaped(&journal.name),
        journal.duration
    );
    let body = match journal.outcome {
        Outcome::Held => {
            *xml += "/>\n";
            return;
        }
        Outcome::Skipped => format!("<skipped message=\"{}\"/>", Escaped(reason)),
        Outcome::NoBite | Outcome::NotRun => format!(
            "<error type=\"{}\" message=\"{}\"/>",
            journal.outcome,
            Escaped(reason)
        ),
        Outcome::Violated => {
            let broken = journal.verdicts.iter().filter(|verdict| !verdict.held);
            let (mut ids, mut text) = (Vec::new(), String::new());
            for verdict in broken {
                ids.push(verdict.guarantee.id());
                for example in &verdict.examples {
                    let _ = writeln!(text, "{}", Escaped(example));
                }
            }
            let message = format!("{} {reason}", ids.join(", "));
            format!(
                "<failure type=\"violated\" message=\"{}\">{text}</failure>",
                Escaped(message.trim())
            )
        }
    };
    let _ = writeln!(xml, ">\n      {body}\n    </testcase>");
}
