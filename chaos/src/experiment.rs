//! Experiments: what is done to a cluster, and what must hold meanwhile.
//!
//! The vocabulary is that of the Chaos Toolkit (<https://chaostoolkit.org/reference/api/experiment/>): a
//! steady-state hypothesis, a method of actions and probes, and rollbacks. What is added: an
//! experiment names the `guarantees` that it puts to the test and the `load` meanwhile, times have
//! a `long` and a `short` form, and a probe may wait (`within`) and may show a guarantee (`shows`).

mod activity;
mod guarantee;
mod read;
mod time;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use activity::{Action, Activity, End, Probe, Syncs, Task, Tolerance};
pub use guarantee::Guarantee;
pub use read::ReadError;
pub use time::{Form, Offset, Scaled, Span, Time};

/// The regions of a cluster that is started for an experiment.
pub const REGIONS: [&str; 3] = ["eu", "us", "ap"];

/// The JSON Schema of an experiment file.
pub const SCHEMA: &str = include_str!("../experiment.schema.json");

/// One experiment.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Experiment {
    /// One line.
    pub title: String,
    /// What is done, and what is expected of it.
    pub description: String,
    /// To find it by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The promises that it puts to the test; each gets a verdict.
    pub guarantees: Vec<Guarantee>,
    /// Times by name, for `${name}` in the rest.
    #[serde(default)]
    pub configuration: BTreeMap<String, Scaled>,
    /// What users do meanwhile.
    #[serde(default)]
    pub load: LoadSpec,
    /// What holds before the method and after the rollbacks.
    pub steady_state_hypothesis: Hypothesis,
    /// One after the other.
    pub method: Vec<Activity>,
    /// After the method, however that ended. What is still wrong after them is put right, too.
    #[serde(default)]
    pub rollbacks: Vec<Activity>,
}

/// Probes that must be tolerated.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hypothesis {
    /// What it says.
    pub title: String,
    /// Each with a tolerance.
    pub probes: Vec<Activity>,
}

/// How much users do.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoadSpec {
    /// Users who write and read.
    pub writers: u32,
    /// Users who listen.
    pub listeners: u32,
    /// The longest that a user does nothing between two things.
    pub pause: Time,
    /// When a post counts as acked.
    pub ack: AckSpec,
}

impl Default for LoadSpec {
    fn default() -> Self {
        Self {
            writers: 6,
            listeners: 2,
            pause: Time::from_millis(60),
            ack: AckSpec::default(),
        }
    }
}

/// When a post counts as acked: `local`, or `regions:K`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct AckSpec(pub u16);

impl Default for AckSpec {
    fn default() -> Self {
        Self(1)
    }
}

impl TryFrom<String> for AckSpec {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let number = match text.as_str() {
            "local" => Some(1),
            text => text
                .strip_prefix("regions:")
                .and_then(|number| number.parse().ok()),
        };
        number
            .filter(|number| (1..=REGIONS.len()).contains(&usize::from(*number)))
            .map(Self)
            .ok_or_else(|| {
                format!(
                    "`{text}` is no ack; write `local`, or `regions:K` with K from 1 to {}",
                    REGIONS.len()
                )
            })
    }
}

impl From<AckSpec> for String {
    fn from(ack: AckSpec) -> Self {
        match ack.0 {
            1 => "local".to_owned(),
            count => format!("regions:{count}"),
        }
    }
}

/// What an experiment needs of the machine, beyond the node's program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Regions whose data must be on a small disk of their own.
    pub small_disks: BTreeSet<String>,
    /// Regions whose clock must be one that can be moved.
    pub clocks: BTreeSet<String>,
    /// Whether system calls must be tampered with.
    pub strace: bool,
    /// Whether processes or disks are harmed, which somebody else's cluster does not allow.
    pub own_cluster: bool,
}

impl Experiment {
    /// All activities, with where they stand in the file.
    pub fn activities(&self) -> impl Iterator<Item = (String, &Activity)> {
        let placed = |place: &'static str, activities: &'_ [Activity]| {
            let count = activities.len();
            (0..count).map(move |nth| format!("{place}[{nth}]"))
        };
        let probes = &self.steady_state_hypothesis.probes;
        placed("steady-state-hypothesis.probes", probes)
            .zip(probes)
            .chain(placed("method", &self.method).zip(&self.method))
            .chain(placed("rollbacks", &self.rollbacks).zip(&self.rollbacks))
    }

    /// What it needs.
    pub fn needs(&self) -> Needs {
        let mut needs = Needs::default();
        for (_, activity) in self.activities() {
            let Task::Action(action) = &activity.task else {
                continue;
            };
            match action {
                Action::FillDisk { region } => {
                    needs.small_disks.insert(region.clone());
                }
                Action::Clock { region, .. } => {
                    needs.clocks.insert(region.clone());
                }
                Action::Sync { .. } => needs.strace = true,
                _ => {}
            }
            needs.own_cluster |= !matches!(
                action,
                Action::Link { .. } | Action::Heal {} | Action::PostTwice { .. }
            );
        }
        needs
    }

    /// Whether it destroys disks, and with them what nobody else had.
    pub fn destroys(&self) -> bool {
        let destroys =
            |activity: &Activity| matches!(activity.task, Task::Action(Action::Destroy { .. }));
        self.method.iter().any(destroys)
    }
}

#[cfg(test)]
mod tests;
