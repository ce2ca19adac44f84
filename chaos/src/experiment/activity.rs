//! One step of an experiment.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use whimbrel_client::api::ProblemCode;

use super::{Guarantee, Offset, Span};
use crate::link::Faults;

/// One step: something is done, or looked at.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Written")]
pub struct Activity {
    /// In words.
    pub name: String,
    /// What.
    pub task: Task,
    /// What a probe must give.
    pub tolerance: Option<Tolerance>,
    /// How long a probe is asked again until it gives that. Without it, it is asked once.
    pub within: Option<Span>,
    /// The promise that is broken where it gives anything else.
    pub shows: Option<Guarantee>,
    /// Waits around it.
    pub pauses: Pauses,
}

/// Waits around a step.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pauses {
    /// Until it begins.
    pub before: Option<Span>,
    /// Until the next one.
    pub after: Option<Span>,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Task {
    /// It changes something.
    Action(Action),
    /// It only looks.
    Probe(Probe),
}

/// What can be done. Each fault holds until it is ended.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// SIGKILLs a region.
    Kill {
        /// Which.
        region: String,
    },
    /// SIGKILLs a region and deletes all its data.
    Destroy {
        /// Which.
        region: String,
    },
    /// Starts a region that has ended, and waits until it is ready.
    Start {
        /// Which.
        region: String,
    },
    /// Stops a region in mid-air (SIGSTOP).
    Freeze {
        /// Which.
        region: String,
    },
    /// Lets it go on (SIGCONT).
    Thaw {
        /// Which.
        region: String,
    },
    /// Makes links bad: these faults and no others.
    Link {
        /// A region, or `all`.
        from: End,
        /// A region, or `all`.
        to: End,
        /// Only what `from` sends to `to`.
        #[serde(default)]
        one_way: bool,
        /// What is wrong.
        faults: Faults,
    },
    /// Makes all links good.
    Heal {},
    /// Moves the wall clock of a running region; by `0s` it is right again.
    Clock {
        /// Which.
        region: String,
        /// Against the true time.
        offset: Offset,
    },
    /// Leaves no byte free on a region's disk.
    FillDisk {
        /// Which.
        region: String,
    },
    /// Gives the room back.
    FreeDisk {
        /// Which.
        region: String,
    },
    /// Makes a region's calls of fdatasync and fsync slow, or fail.
    Sync {
        /// Which.
        region: String,
        /// How.
        syncs: Syncs,
    },
    /// Posts the same messages under the same keys into two regions, one after the other.
    PostTwice {
        /// Into which.
        regions: [String; 2],
        /// How many messages.
        messages: u32,
    },
}

/// What becomes of calls that sync files.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Syncs {
    /// As they should.
    Right,
    /// Each waits for so long before it is done.
    Stall(Span),
    /// Each fails with EIO.
    Fail,
}

/// What can be looked at.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Probe {
    /// What a region says of itself: `ready`, why it is not, or `no answer`.
    Readiness {
        /// Which.
        region: String,
    },
    /// Whether all regions have the same digest.
    Converged {},
    /// How many writes are acked in a time, in all regions together.
    Acks {
        /// How long it is counted.
        over: Span,
    },
    /// Milliseconds until a region alone acks a post: the median of several.
    AckMillis {
        /// Which.
        region: String,
    },
    /// Seconds that `to` is behind `from`, as `from` measures it.
    Lag {
        /// Who has it.
        from: String,
        /// Who lacks it.
        to: String,
    },
    /// What became of a post to a region: `acked`, or a problem's code, or `no answer`.
    Post {
        /// To which.
        region: String,
    },
    /// Milliseconds until a post that `from` has acked shows in `to`.
    SeenMillis {
        /// Where it is posted.
        from: String,
        /// Where it is looked for.
        to: String,
    },
    /// Whether a region's process has ended by itself.
    Ended {
        /// Which.
        region: String,
    },
}

impl Probe {
    /// Errs where nothing that it gives would be tolerated.
    pub(super) fn check_tolerance(&self, tolerance: &Tolerance) -> Result<(), String> {
        let value = match tolerance {
            Tolerance::Range(Range { range, .. }) if range[0] > range[1] => {
                return Err(format!(
                    "no number is in {tolerance}; give the smaller one first"
                ));
            }
            Tolerance::Range(_) => None,
            Tolerance::Exactly(value) => Some(value),
        };
        let (can_be, gives) = match self {
            Self::Readiness { .. } => (
                value.is_some_and(Value::is_string),
                "`ready`, why a region is not, or `no answer`",
            ),
            Self::Post { .. } => (
                value.is_some_and(is_fate_of_a_post),
                "`acked`, the code of a problem such as `store_unavailable`, or `no answer`",
            ),
            Self::Converged {} | Self::Ended { .. } => {
                (value.is_some_and(Value::is_boolean), "true or false")
            }
            Self::Acks { .. }
            | Self::AckMillis { .. }
            | Self::Lag { .. }
            | Self::SeenMillis { .. } => (
                value.is_none_or(Value::is_number),
                "a number; give one or a range",
            ),
        };
        if can_be {
            Ok(())
        } else {
            Err(format!(
                "`tolerance` is {tolerance}; this probe gives {gives}"
            ))
        }
    }
}

fn is_fate_of_a_post(value: &Value) -> bool {
    let is_code = || ProblemCode::deserialize(value).is_ok_and(|code| code != ProblemCode::Unknown);
    value == "acked" || value == "no answer" || is_code()
}

/// One region, or all.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct End(pub Option<String>);

impl From<String> for End {
    fn from(name: String) -> Self {
        Self((name != "all").then_some(name))
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("all"))
    }
}

/// What a probe must give.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Tolerance {
    /// A number from the first to the second.
    Range(Range),
    /// This.
    Exactly(Value),
}

/// `{"type": "range", "range": [1, 5]}`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    #[serde(rename = "type")]
    kind: RangeKind,
    range: [f64; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum RangeKind {
    Range,
}

impl Tolerance {
    /// Whether this is tolerated.
    pub fn holds(&self, value: &Value) -> bool {
        match self {
            Self::Range(Range { range, .. }) => value
                .as_f64()
                .is_some_and(|value| (range[0]..=range[1]).contains(&value)),
            Self::Exactly(expected) => value == expected,
        }
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(Range { range, .. }) => write!(f, "{} to {}", range[0], range[1]),
            Self::Exactly(value) => write!(f, "{value}"),
        }
    }
}

/// An activity as it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(rename = "type")]
    kind: Kind,
    name: String,
    provider: Provider,
    tolerance: Option<Tolerance>,
    within: Option<Span>,
    shows: Option<Guarantee>,
    #[serde(default)]
    pauses: Pauses,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Action,
    Probe,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Provider {
    /// There is one; the Chaos Toolkit has others.
    #[serde(rename = "type")]
    _kind: ProviderKind,
    func: String,
    #[serde(default = "no_arguments")]
    arguments: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ProviderKind {
    Whimbrel,
}

fn no_arguments() -> Value {
    Value::Object(serde_json::Map::new())
}

impl TryFrom<Written> for Activity {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Provider {
            func, arguments, ..
        } = written.provider;
        let tagged = Value::Object([(func.clone(), arguments)].into_iter().collect());
        let wrong = |error: serde_json::Error| format!("provider `{func}`: {error}");
        let task = match written.kind {
            Kind::Action => Task::Action(serde_json::from_value(tagged).map_err(wrong)?),
            Kind::Probe => Task::Probe(serde_json::from_value(tagged).map_err(wrong)?),
        };
        if written.kind == Kind::Action {
            let of_probes = [
                ("tolerance", written.tolerance.is_some()),
                ("within", written.within.is_some()),
                ("shows", written.shows.is_some()),
            ];
            if let Some((field, _)) = of_probes.iter().find(|(_, is_there)| *is_there) {
                return Err(format!("`{field}` is for probes; leave it away here"));
            }
        } else if written.tolerance.is_none()
            && (written.within.is_some() || written.shows.is_some())
        {
            return Err("`within` and `shows` need a `tolerance`; add one".to_owned());
        }
        Ok(Self {
            name: written.name,
            task,
            tolerance: written.tolerance,
            within: written.within,
            shows: written.shows,
            pauses: written.pauses,
        })
    }
}

impl Activity {
    /// The times that it names.
    pub fn spans(&self) -> impl Iterator<Item = &Span> {
        let own = match &self.task {
            Task::Action(Action::Sync {
                syncs: Syncs::Stall(span),
                ..
            })
            | Task::Probe(Probe::Acks { over: span }) => Some(span),
            _ => None,
        };
        [&self.within, &self.pauses.before, &self.pauses.after]
            .into_iter()
            .flatten()
            .chain(own)
    }

    /// The regions that it names.
    pub fn regions(&self) -> Vec<&str> {
        match &self.task {
            Task::Action(action) => match action {
                Action::Kill { region }
                | Action::Destroy { region }
                | Action::Start { region }
                | Action::Freeze { region }
                | Action::Thaw { region }
                | Action::Clock { region, .. }
                | Action::FillDisk { region }
                | Action::FreeDisk { region }
                | Action::Sync { region, .. } => vec![region],
                Action::Link { from, to, .. } => [&from.0, &to.0]
                    .into_iter()
                    .flatten()
                    .map(String::as_str)
                    .collect(),
                Action::Heal {} => Vec::new(),
                Action::PostTwice { regions, .. } => regions.iter().map(String::as_str).collect(),
            },
            Task::Probe(probe) => match probe {
                Probe::Readiness { region }
                | Probe::AckMillis { region }
                | Probe::Post { region }
                | Probe::Ended { region } => vec![region],
                Probe::Lag { from, to } | Probe::SeenMillis { from, to } => vec![from, to],
                Probe::Converged {} | Probe::Acks { .. } => Vec::new(),
            },
        }
    }
}
