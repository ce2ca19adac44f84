//! The text of one message, as an Automerge document.
//!
//! Everybody derives the same first change from the message's id and text, so it is never sent.
//! An edit is one more change, made on the revision that its author saw. Its actor hashes all that
//! it depends on, its sequence is 1 and its time 0: the same edit made again, in any region, is the
//! same change. Concurrent edits merge as text; every version stays readable.

mod document;
mod encode;
mod history;
mod revision;
mod scan;
#[cfg(test)]
mod tests;

pub use document::{Document, Version};
pub use revision::{Revision, RevisionRef};

/// Goes into every actor: two encoders that make different bytes of one edit must not share an
/// actor, since Automerge then refuses the second change for good. Raise it with any change of the
/// encoding here, or of Automerge's or its text diff's.
const ENCODER_VERSION: u8 = 1;

/// The document's only key; its value is the text.
const KEY: &str = "text";

/// Bytes of an actor, the start of a BLAKE3 hash.
const ACTOR_BYTES: usize = 16;

/// Why a change or an edit was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// Peer's fault: the bytes are not a change of this message's text.
    #[error("malformed change: {0}")]
    Malformed(&'static str),
    /// Peer's fault: a compressed change; a few bytes of it may expand to anything.
    #[error("compressed changes are refused")]
    Compressed,
    /// The change, or the text of an edit, exceeds a limit.
    #[error("the change exceeds a limit")]
    TooLarge,
    /// The edit's base is not in this document: not yet here, or never was.
    #[error("the base of the edit is not known here")]
    UnknownBase,
    /// Our own bug: Automerge refused what we checked or made.
    #[error("automerge: {0}")]
    Automerge(String),
}

impl From<automerge::AutomergeError> for TextError {
    fn from(error: automerge::AutomergeError) -> Self {
        Self::Automerge(error.to_string())
    }
}
