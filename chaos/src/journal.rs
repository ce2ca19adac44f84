//! What was done in a run of an experiment, and what came of it: the journal, in the words of the
//! Chaos Toolkit (<https://chaostoolkit.org/reference/api/journal/>), with faults, verdicts and
//! measurements added.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::check::Counts;
use crate::experiment::Guarantee;

/// One run of one experiment.
#[derive(Clone, Debug, Serialize)]
pub struct Journal {
    /// The name of its file, without the ending.
    pub name: String,
    /// The file as it was.
    pub experiment: Value,
    /// Of all chance.
    pub seed: u64,
    /// `long` or `short`.
    pub form: String,
    /// How far it came.
    pub status: Status,
    /// Whether the steady state was no more after it.
    pub deviated: bool,
    /// What it shows.
    pub outcome: Outcome,
    /// Why, where it shows nothing.
    pub reason: Option<String>,
    /// When it began, RFC 3339.
    pub start: String,
    /// When it ended.
    pub end: String,
    /// Seconds from start to end.
    pub duration: f64,
    /// What the hypothesis gave.
    pub steady_states: SteadyStates,
    /// The method.
    pub run: Vec<Step>,
    /// What was put right.
    pub rollbacks: Vec<Step>,
    /// What was wrong, and that it was.
    pub faults: Vec<Fault>,
    /// One for each guarantee that was put to the test.
    pub verdicts: Vec<Verdict>,
    /// What clients did.
    pub counts: Option<Counts>,
    /// Acked writes that are gone with a disk, as they may be.
    pub gone: usize,
    /// Over time.
    pub measured: Measured,
    /// Where the cluster's files are kept.
    pub kept: Option<String>,
}

/// How far a run came, as the Chaos Toolkit says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// To the end.
    Completed,
    /// The steady state was none before the method.
    Failed,
    /// A step could not be done.
    Aborted,
    /// Somebody interrupted it.
    Interrupted,
    /// This machine cannot do what it takes.
    Skipped,
}

/// What a run shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All guarantees held while the faults bit.
    Held,
    /// A guarantee was violated, or the steady state did not come back.
    Violated,
    /// A fault did not bite: that nothing was found says nothing.
    NoBite,
    /// It did not come to its end.
    NotRun,
    /// It was not begun, for lack of something.
    Skipped,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Held => "held",
            Self::Violated => "VIOLATED",
            Self::NoBite => "shows nothing",
            Self::NotRun => "not run",
            Self::Skipped => "skipped",
        })
    }
}

/// The hypothesis before and after.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SteadyStates {
    /// Before the method.
    pub before: Vec<Step>,
    /// After the rollbacks.
    pub after: Vec<Step>,
}

/// One activity as it went.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Which.
    pub activity: Described,
    /// What an action says, or a probe gives.
    pub output: Value,
    /// Whether it was done.
    pub status: StepStatus,
    /// Whether a probe gave what is tolerated; without a tolerance there is nothing to meet.
    pub tolerance_met: Option<bool>,
    /// Why it was not done.
    pub exception: Option<String>,
    /// Seconds since the run began.
    pub start: f64,
    /// The same.
    pub end: f64,
    /// Seconds.
    pub duration: f64,
}

/// An activity, named.
#[derive(Clone, Debug, Serialize)]
pub struct Described {
    /// `action` or `probe`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// As the file has it.
    pub name: String,
    /// What a probe must give.
    pub tolerance: Option<String>,
    /// The promise that it shows.
    pub shows: Option<Guarantee>,
}

/// Whether a step was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// It was.
    Succeeded,
    /// It was not.
    Failed,
}

/// Something that was wrong for a while.
#[derive(Clone, Debug, Serialize)]
pub struct Fault {
    /// What, in words.
    pub what: String,
    /// Seconds since the run began.
    pub start: f64,
    /// The same; without it until the end.
    pub end: Option<f64>,
    /// Whether it did bite; `None` while nobody knows.
    pub bit: Option<bool>,
    /// What shows that it did, or did not.
    pub evidence: Vec<String>,
}

/// What is found of one guarantee.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Which.
    pub guarantee: Guarantee,
    /// In words.
    pub promise: &'static str,
    /// Whether it held.
    pub held: bool,
    /// How often it was broken.
    pub violations: usize,
    /// The first of these.
    pub examples: Vec<String>,
    /// By what it is judged.
    pub judged_by: Vec<String>,
}

/// What was measured.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Measured {
    /// By region, second by second: writes that were sent to it.
    pub writes: BTreeMap<String, Vec<Second>>,
    /// By pair, `eu to us`: how far the second is behind, as the first says.
    pub lag: BTreeMap<String, Vec<Point>>,
}

/// Writes of one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Second {
    /// That were acked.
    pub acked: u32,
    /// That were refused, or not answered.
    pub failed: u32,
    /// Milliseconds that half of the acked took at most.
    pub p50_ms: Option<f64>,
    /// The same of 99 of 100.
    pub p99_ms: Option<f64>,
}

/// A value at a time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Seconds since the run began.
    pub at: f64,
    /// Seconds.
    pub value: f64,
}

impl Journal {
    /// Whether something was found to be broken.
    pub fn is_violated(&self) -> bool {
        self.outcome == Outcome::Violated
    }

    /// What the file calls itself.
    pub fn title(&self) -> &str {
        self.experiment["title"].as_str().unwrap_or(&self.name)
    }
}
