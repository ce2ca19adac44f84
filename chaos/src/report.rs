//! What people and tools read of runs.

mod escape;
mod junit;
mod page;
mod plot;

use crate::journal::Journal;

pub use junit::junit;
pub use page::html;

/// All journals, as one JSON array.
pub fn json(journals: &[Journal]) -> String {
    let json = serde_json::to_string_pretty(journals);
    json.expect("a journal has only text for keys") + "\n"
}

#[cfg(test)]
mod tests;
