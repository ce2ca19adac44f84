//! What waits in a queue, and what became of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::api::Problem;

/// Names an entry of a queue, for good: no other entry of that queue ever gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ticket(pub(super) u64);

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Ticket {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// A message: one that was sent, or one that waits in the same queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageRef {
    /// Its id.
    Id(String),
    /// The ticket of its post.
    Queued(Ticket),
}

impl From<Ticket> for MessageRef {
    fn from(ticket: Ticket) -> Self {
        Self::Queued(ticket)
    }
}

impl From<&str> for MessageRef {
    fn from(id: &str) -> Self {
        Self::Id(id.to_owned())
    }
}

/// A write that can wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
#[non_exhaustive]
pub enum Write {
    /// Posts a message.
    Post {
        /// Where.
        conversation: String,
        /// What.
        text: String,
        /// What it answers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply_to: Option<MessageRef>,
    },
    /// Sets a message's text.
    Edit {
        /// Where.
        conversation: String,
        /// Which.
        message: MessageRef,
        /// Its whole new text.
        text: String,
        /// The revision that the writer saw. `None` for a message that was posted by this queue:
        /// then it is what the post, or the last edit of it, was answered with. Where an earlier
        /// edit of the message still waits, this one is made on that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base: Option<String>,
    },
    /// Takes a message away for good.
    Redact {
        /// Where.
        conversation: String,
        /// Which.
        message: MessageRef,
    },
    /// Reacts to a message.
    React {
        /// Where.
        conversation: String,
        /// To which.
        message: MessageRef,
        /// One emoji.
        emoji: String,
    },
    /// Takes a reaction back.
    Unreact {
        /// Where.
        conversation: String,
        /// From which.
        message: MessageRef,
        /// One emoji.
        emoji: String,
    },
    /// Marks a conversation as read.
    MarkRead {
        /// Which.
        conversation: String,
        /// Up to here: the cursor of an event or a page.
        cursor: String,
    },
}

impl Write {
    /// The message that it is about or answers.
    pub(super) fn target(&self) -> Option<&MessageRef> {
        match self {
            Self::Post { reply_to, .. } => reply_to.as_ref(),
            Self::Edit { message, .. }
            | Self::Redact { message, .. }
            | Self::React { message, .. }
            | Self::Unreact { message, .. } => Some(message),
            Self::MarkRead { .. } => None,
        }
    }
}

/// What was answered to an entry that was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The message that was posted or edited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Its revision then: of an edit, the revision of that edit alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
}

/// Why an entry was not sent, and never will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The region refused it.
    Refused(Box<Problem>),
    /// It cannot be put into a request.
    Unsendable(String),
    /// It needs an entry that failed.
    Dependent(Ticket),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(problem) => crate::Error::Api(problem.clone()).fmt(f),
            Self::Unsendable(reason) => reason.fmt(f),
            Self::Dependent(ticket) => write!(f, "it needs entry {ticket}, which failed"),
        }
    }
}

/// An entry that failed for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// Its name.
    pub ticket: Ticket,
    /// What was to be done.
    pub write: Write,
    /// Why it was not.
    pub reason: Reason,
}

/// What became of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Sent(Sent),
    /// It never will be.
    Failed(Reason),
}

/// An entry as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) ticket: Ticket,
    /// Fixed when it was put in: however often it is sent, it is done once.
    pub(super) key: String,
    pub(super) write: Write,
    /// Of an edit: the edit of the same message that waited then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<Ticket>,
}

impl Entry {
    /// Entries that must be sent before.
    pub(super) fn needs(&self) -> impl Iterator<Item = Ticket> {
        let queued = match self.write.target() {
            Some(MessageRef::Queued(ticket)) => Some(*ticket),
            Some(MessageRef::Id(_)) | None => None,
        };
        queued.into_iter().chain(self.after)
    }
}
