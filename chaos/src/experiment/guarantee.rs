//! The promises, by id.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The promises as `docs/guarantees.md` has them, for users.
const PROMISES: [(&str, &str); 19] = [
    ("G1", "What was acked is not lost."),
    ("G2", "Any region that is left serves everything."),
    ("G3", "No conversation has a home region."),
    ("G4", "All regions end up with the same."),
    ("G5", "Edits merge, and nothing vanishes."),
    ("G6", "Read markers never go back and never lie."),
    ("G7", "One key, one thing."),
    ("G8", "A stream goes on anywhere."),
    ("G9", "You read what you wrote, anywhere."),
    ("G10", "Nothing shows before what it refers to."),
    ("G11", "One order."),
    ("G12", "Bad clocks do no harm."),
    ("G13", "Safety wins."),
    ("G14", "Durability as declared."),
    ("G15", "Lag is visible."),
    ("G16", "A region can join or be rebuilt live."),
    ("G17", "Nobody gets in."),
    ("G18", "Refuse rather than lie."),
    ("G19", "Rolling upgrade."),
];

/// Those that a history of clients shows to be broken.
const JUDGED_BY_HISTORY: [&str; 9] = ["G1", "G4", "G6", "G7", "G8", "G9", "G10", "G11", "G13"];

/// A promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "&'static str")]
pub struct Guarantee(usize);

impl Guarantee {
    /// The promise of an id such as `G1`.
    pub fn of(id: &str) -> Option<Self> {
        PROMISES
            .iter()
            .position(|(known, _)| *known == id)
            .map(Self)
    }

    /// Such as `G1`.
    pub fn id(self) -> &'static str {
        PROMISES[self.0].0
    }

    /// In words, for users.
    pub fn promise(self) -> &'static str {
        PROMISES[self.0].1
    }

    /// Whether what clients did and saw is enough to judge it.
    pub fn is_judged_by_history(self) -> bool {
        JUDGED_BY_HISTORY.contains(&self.id())
    }
}

impl TryFrom<String> for Guarantee {
    type Error = String;

    fn try_from(id: String) -> Result<Self, String> {
        Self::of(&id).ok_or_else(|| format!("`{id}` is no guarantee; there are G1 to G19"))
    }
}

impl From<Guarantee> for &'static str {
    fn from(guarantee: Guarantee) -> Self {
        guarantee.id()
    }
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_promises_are_those_of_the_docs() {
        let docs = include_str!("../../../docs/guarantees.md");
        for (id, promise) in PROMISES {
            let row = format!("| {id} | **{promise}**");
            assert!(docs.contains(&row), "{row}");
        }
    }
}
