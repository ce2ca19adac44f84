//! Import of chat exports.
//!
//! A room becomes a channel, owned by [`OWNER`]; senders join it; messages keep their time as
//! `sent_at` and their id as idempotency key. So an import that is run again, after a crash or on
//! purpose, in the same or another region, adds nothing twice.

pub mod gitter;
mod run;

pub use run::{Importer, Notice, Summary};

/// Who owns the channels that an import makes.
pub const OWNER: &str = "import";

/// A message of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The line on which it starts, from 1.
    pub line: u64,
    /// Id of the room.
    pub room_id: String,
    /// Name of the room.
    pub room: String,
    /// When it was written, RFC 3339 in UTC with milliseconds.
    pub sent_at: String,
    /// Who wrote it.
    pub sender: String,
    /// Its id.
    pub message_id: String,
    /// What was written.
    pub text: String,
}

/// A record that cannot be imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRecord {
    /// The line on which it starts, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}
