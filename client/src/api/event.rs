//! Events of `/v1/sync` and `/v1/stream`.

use serde::{Deserialize, Serialize};

use super::{Membership, Message};
#[cfg(feature = "openapi")]
use super::{example, openapi as form};

/// Answer of `GET /v1/sync`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(examples(example::sync))
)]
pub struct Sync {
    /// In arrival order.
    pub events: Vec<Event>,
    /// Resumes after the last event, in any region.
    #[cfg_attr(feature = "openapi", schema(value_type = form::Token))]
    pub token: String,
}

/// Something that happened in one of the user's conversations, or to the stream itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What happened, tagged by `type`.
    #[serde(flatten)]
    pub kind: EventKind,
    /// In which conversation; absent where it is about the stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
    /// Resumes after this event, in any region.
    pub token: String,
    /// Covers what the event tells, fit for `Whimbrel-After` and for marking as read. For
    /// [`EventKind::Receipt`] it is the reader's marker; for one's own join, from where to page.
    /// Absent where nothing was written ([`EventKind::Typing`], [`EventKind::Behind`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type")]
#[non_exhaustive]
pub enum EventKind {
    /// A message was posted.
    #[serde(rename = "message.posted")]
    MessagePosted {
        /// As it is now.
        message: Box<Message>,
    },
    /// A message's text changed.
    #[serde(rename = "message.edited")]
    MessageEdited {
        /// As it is now.
        message: Box<Message>,
    },
    /// A message was taken away for good.
    #[serde(rename = "message.redacted")]
    MessageRedacted {
        /// Its tombstone.
        message: Box<Message>,
    },
    /// A message's reactions changed.
    #[serde(rename = "message.reacted")]
    MessageReacted {
        /// As it is now.
        message: Box<Message>,
    },
    /// A message stands at another position now, in every region.
    #[serde(rename = "message.moved")]
    MessageMoved {
        /// As it is now.
        message: Box<Message>,
    },
    /// Somebody has read further; the marker is the event's `cursor`.
    #[serde(rename = "receipt")]
    Receipt {
        /// Who.
        #[cfg_attr(feature = "openapi", schema(value_type = form::User))]
        user: String,
        /// Id of the latest message that the marker covers.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<form::MessageId>, required))]
        message: Option<String>,
    },
    /// Somebody's membership changed. One's own removal is the last event of that conversation.
    #[serde(rename = "member")]
    Member {
        /// Whose.
        #[cfg_attr(feature = "openapi", schema(value_type = form::User))]
        user: String,
        /// To what.
        role: Membership,
    },
    /// The conversation's title or topic changed.
    #[serde(rename = "conversation")]
    Conversation,
    /// Somebody is typing. Never stored, may be lost.
    #[serde(rename = "typing")]
    Typing {
        /// Who.
        #[cfg_attr(feature = "openapi", schema(value_type = form::User))]
        user: String,
    },
    /// The log is trimmed past the token that was given: page anew.
    #[serde(rename = "gap")]
    Gap,
    /// This region lacks something that the token covers. The stream goes on with everything
    /// else, and what the token covers is never sent again.
    #[serde(rename = "behind")]
    Behind {
        /// Regions whose writes are missing here.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<form::RegionName>))]
        waiting_for: Vec<String>,
    },
    /// A kind that this version does not know.
    #[serde(other)]
    Unknown,
}

impl EventKind {
    /// The message that the event is about and carries.
    pub fn message(&self) -> Option<&Message> {
        match self {
            Self::MessagePosted { message }
            | Self::MessageEdited { message }
            | Self::MessageRedacted { message }
            | Self::MessageReacted { message }
            | Self::MessageMoved { message } => Some(message),
            Self::Receipt { .. }
            | Self::Member { .. }
            | Self::Conversation
            | Self::Typing { .. }
            | Self::Gap
            | Self::Behind { .. }
            | Self::Unknown => None,
        }
    }
}
