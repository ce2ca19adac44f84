use serde_json::json;

use super::*;
use crate::experiment::Guarantee;
use crate::journal::{
    Described, Fault, Measured, Outcome, Point, Second, Status, SteadyStates, Step, StepStatus,
    Verdict,
};

/// A run whose words would break a page if they got out of their places.
fn journal(outcome: Outcome) -> Journal {
    let step = Step {
        activity: Described {
            kind: "probe",
            name: "<b>bold</b>".to_owned(),
            tolerance: Some("\"ready\"".to_owned()),
            shows: None,
        },
        output: json!("</td>&"),
        status: StepStatus::Succeeded,
        tolerance_met: Some(false),
        exception: None,
        start: 1.0,
        end: 2.0,
        duration: 1.0,
    };
    let second = |acked| Second {
        acked,
        failed: 1,
        p50_ms: Some(3.0),
        p99_ms: Some(9.0),
    };
    let point = |at, value| Point { at, value };
    Journal {
        name: "cut".to_owned(),
        experiment: json!({"title": "Links & <regions>", "description": "d"}),
        seed: 7,
        form: "short".to_owned(),
        status: Status::Completed,
        deviated: false,
        outcome,
        reason: Some("because \"it\" <did>".to_owned()),
        start: "2026-01-01T00:00:00Z".to_owned(),
        end: "2026-01-01T00:00:09Z".to_owned(),
        duration: 9.0,
        steady_states: SteadyStates::default(),
        run: vec![step],
        rollbacks: Vec::new(),
        faults: vec![Fault {
            what: "links eu to <us>: cut".to_owned(),
            start: 2.0,
            end: Some(6.0),
            bit: Some(true),
            evidence: vec!["5 dropped".to_owned()],
        }],
        verdicts: vec![Verdict {
            guarantee: Guarantee::of("G1").unwrap(),
            promise: "What was acked is not lost.",
            held: outcome != Outcome::Violated,
            violations: usize::from(outcome == Outcome::Violated),
            examples: match outcome {
                Outcome::Violated => vec!["G1: <lost> `p1`".to_owned()],
                _ => Vec::new(),
            },
            judged_by: vec!["the history of all clients".to_owned()],
        }],
        counts: Some(crate::check::Counts::default()),
        gone: 0,
        measured: Measured {
            writes: [("eu".to_owned(), vec![second(4), second(5)])].into(),
            lag: [(
                "eu to us".to_owned(),
                vec![point(0.5, 0.0), point(8.0, 5.5)],
            )]
            .into(),
        },
        kept: None,
    }
}

#[test]
fn a_page_shows_all_and_needs_nothing_else() {
    let html = html(&[journal(Outcome::Violated)]);
    for words in [
        "<title>Links &amp; &lt;regions&gt;</title>",
        "violated, 1 times",
        "G1: &lt;lost&gt; `p1`",
        "links eu to &lt;us&gt;: cut",
        "5 dropped",
        "&lt;b&gt;bold&lt;/b&gt;",
        "because &quot;it&quot; &lt;did&gt;",
        "eu p99",
        "eu to us",
        "prefers-color-scheme: dark",
        "@media print",
    ] {
        assert!(html.contains(words), "{words}");
    }
    for outside in ["http://", "https://", "src=", "@import", "url(", "<script"] {
        assert!(!html.contains(outside), "{outside}");
    }
    // One band in each plot, and one bar.
    assert_eq!(html.matches("class=\"band\"").count(), 3);
    assert_eq!(html.matches("class=\"bar\"").count(), 1);
}

#[test]
fn a_page_of_many_begins_with_a_table() {
    let html = html(&[journal(Outcome::Held), journal(Outcome::Skipped)]);
    assert!(html.contains("2 chaos experiments"));
    assert!(html.contains("<span class=\"good\">held</span>"));
    assert!(html.contains("<span class=\"neutral\">skipped</span>"));
}

#[test]
fn junit_tells_failures_errors_and_skips_apart() {
    let xml = junit(&[
        journal(Outcome::Held),
        journal(Outcome::Violated),
        journal(Outcome::NoBite),
        journal(Outcome::NotRun),
        journal(Outcome::Skipped),
    ]);
    assert!(
        xml.contains("tests=\"5\" failures=\"1\" errors=\"2\" skipped=\"1\""),
        "{xml}"
    );
    assert!(
        xml.contains("<failure type=\"violated\" message=\"G1 because &quot;it&quot;"),
        "{xml}"
    );
    assert!(xml.contains("G1: &lt;lost&gt; `p1`"), "{xml}");
    assert!(xml.contains("<error type=\"shows nothing\""), "{xml}");
    assert!(xml.contains("<skipped message=\"because"), "{xml}");
}

#[test]
fn a_journal_has_the_words_of_the_chaos_toolkit() {
    let json: serde_json::Value = serde_json::from_str(&json(&[journal(Outcome::Held)])).unwrap();
    let journal = &json[0];
    for field in [
        "status",
        "deviated",
        "steady_states",
        "run",
        "rollbacks",
        "start",
        "end",
        "duration",
    ] {
        assert!(!journal[field].is_null(), "{field}");
    }
    assert_eq!(journal["status"], "completed");
    assert_eq!(journal["run"][0]["activity"]["name"], "<b>bold</b>");
    assert_eq!(journal["run"][0]["status"], "succeeded");
    assert_eq!(journal["verdicts"][0]["guarantee"], "G1");
}
