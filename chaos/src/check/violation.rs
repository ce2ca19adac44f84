//! What a check can find.

use std::fmt;

use crate::history::{OpId, Operation};

/// A promise that was broken, with the operations that show it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Acked, and not there after heal.
    #[error("G1: acked and lost in {region}: {write}")]
    Lost {
        /// What was acked.
        write: Cited,
        /// Where it is missing.
        region: String,
    },
    /// With a region's disk more is gone than the region had said.
    #[error("G14: {gone} acked writes are gone with {region}, which had told of {reported} ops")]
    BeyondTail {
        /// Whose disk was lost.
        region: String,
        /// Writes acked before the report.
        gone: u64,
        /// What the report told of.
        reported: u64,
    },
    /// One key gave several things.
    #[error("G7: key `{key}` was answered {one} and {other}")]
    TwoAnswers {
        /// The idempotency key.
        key: String,
        /// An id.
        one: String,
        /// Another.
        other: String,
    },
    /// The same thing is shown more than once.
    #[error("G7: {at} shows `{what}` more than once")]
    Doubled {
        /// Who shows it.
        at: At,
        /// A message or a word of a text.
        what: String,
    },
    /// Nobody wrote what is shown, or not yet.
    #[error("G7: {at} shows {what}, which nobody had written")]
    Phantom {
        /// Who shows it.
        at: At,
        /// What.
        what: String,
    },
    /// Messages are not shown in the order of their positions.
    #[error("G11: {at} shows {first} before {second}, against their positions")]
    OutOfOrder {
        /// Who shows it.
        at: At,
        /// A message.
        first: String,
        /// The one behind it.
        second: String,
    },
    /// Regions show other messages, or in other places.
    #[error("G11: {one} and {other} page differently through {conversation}, at {message}")]
    TwoOrders {
        /// A region.
        one: String,
        /// Another.
        other: String,
        /// Of which conversation.
        conversation: String,
        /// Where it begins.
        message: String,
    },
    /// Regions show the same messages, and not the same of them.
    #[error("G4: {one} and {other} differ in {what}")]
    Diverged {
        /// A region.
        one: String,
        /// Another.
        other: String,
        /// In what.
        what: String,
    },
    /// A redacted text shows again.
    #[error("G13: {at} shows the text of {message}, whose redaction was seen: {redaction}")]
    Undead {
        /// Who shows it.
        at: At,
        /// The message.
        message: String,
        /// How the redaction was known.
        redaction: Cited,
    },
    /// *Read your writes* (Terry et al., "Session Guarantees for Weakly Consistent Replicated
    /// Data", 1994) does not hold.
    #[error("G9: own write is not read: {read} lacks {what}, written by {write}")]
    ReadYourWrites {
        /// The write of the session.
        write: Cited,
        /// Its later read.
        read: Cited,
        /// The message or word that is not there.
        what: String,
    },
    /// *Monotonic reads* (Terry et al.) do not hold.
    #[error("G9: reads go back: {read} lacks {what}, seen by {earlier}")]
    MonotonicReads {
        /// What the session saw first.
        earlier: Cited,
        /// Its later read.
        read: Cited,
        /// The message or word that is not there.
        what: String,
    },
    /// *Writes follow reads* (Terry et al.) does not hold: a write shows, and not what its session
    /// had seen before.
    #[error("G10: {at} shows {write}, and not message {cause}, which its writer had seen before")]
    WritesFollowReads {
        /// Who shows it.
        at: At,
        /// What shows.
        write: Cited,
        /// The message that does not.
        cause: String,
    },
    /// Something shows before what it refers to.
    #[error("G10: {at} shows {what} before message {cause}, to which it refers")]
    BeforeItsCause {
        /// Who shows it.
        at: At,
        /// A reply, a change or a receipt.
        what: String,
        /// The message to which it refers.
        cause: String,
    },
    /// A stream never told of a message.
    #[error("G8: session {session} never heard of {message}")]
    NeverTold {
        /// Who listened.
        session: u32,
        /// The message.
        message: String,
    },
    /// A stream told twice of a message.
    #[error("G8: session {session} heard twice of {message}, the second time by {listen}")]
    ToldTwice {
        /// Who listened.
        session: u32,
        /// The message.
        message: String,
        /// When it was told once more.
        listen: Cited,
    },
    /// A stream lost its place.
    #[error("G8: a gap, although nothing was trimmed: {listen}")]
    Gap {
        /// Who heard it.
        listen: Cited,
    },
    /// What a stream told last of a message is not how it is.
    #[error("G8: session {session} was told last of {message} by {listen}, and not how it is now")]
    ToldWrong {
        /// Who listened.
        session: u32,
        /// The message.
        message: String,
        /// When it was told last.
        listen: Cited,
    },
    /// A read marker covers less than before.
    #[error("G6: the marker of {user} goes back to {message}: {listen}")]
    MarkerWentBack {
        /// Whose.
        user: String,
        /// The last message that it covers now.
        message: String,
        /// Who saw it.
        listen: Cited,
    },
    /// A count of unread messages is not what a recount gives.
    #[error(
        "G6: {region} counts {count} unread for {user} in {conversation}, a recount {least} to {most}"
    )]
    Miscounted {
        /// The region.
        region: String,
        /// The user.
        user: String,
        /// The conversation.
        conversation: String,
        /// What the region says.
        count: u64,
        /// What no mark can have covered.
        least: u64,
        /// What no acked mark has covered.
        most: u64,
    },
}

/// An operation, named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cited {
    /// Which: to be looked up in the history.
    pub id: OpId,
    line: String,
}

impl From<&Operation> for Cited {
    fn from(operation: &Operation) -> Self {
        Self {
            id: operation.id,
            line: operation.to_string(),
        }
    }
}

impl fmt::Display for Cited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

/// Who shows something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum At {
    /// The answer of an operation.
    #[error("{0}")]
    Operation(Cited),
    /// A region, in the end.
    #[error("{0}, in the end,")]
    Region(String),
}

impl Violation {
    /// The id of the promise that was broken.
    pub fn guarantee(&self) -> &'static str {
        match self {
            Self::Lost { .. } => "G1",
            Self::Diverged { .. } => "G4",
            Self::MarkerWentBack { .. } | Self::Miscounted { .. } => "G6",
            Self::TwoAnswers { .. } | Self::Doubled { .. } | Self::Phantom { .. } => "G7",
            Self::NeverTold { .. }
            | Self::ToldTwice { .. }
            | Self::ToldWrong { .. }
            | Self::Gap { .. } => "G8",
            Self::ReadYourWrites { .. } | Self::MonotonicReads { .. } => "G9",
            Self::WritesFollowReads { .. } | Self::BeforeItsCause { .. } => "G10",
            Self::OutOfOrder { .. } | Self::TwoOrders { .. } => "G11",
            Self::Undead { .. } => "G13",
            Self::BeyondTail { .. } => "G14",
        }
    }
}
