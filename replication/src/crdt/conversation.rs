//! A conversation's kind, creator, title and topic.

use prost::Message as _;

use super::register::{self, Register};
use crate::error::DecodeError;
use crate::id::Position;
use crate::op::ConversationKind;
use crate::wire::{kind_from_wire, kind_to_wire};

/// Who made a conversation, as what, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creation {
    /// Direct, group or channel.
    pub kind: ConversationKind,
    /// The user who made it.
    pub creator: String,
    /// Position of the op.
    pub position: Position,
}

/// The row of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversation {
    /// The first creation wins. `None` while only changes have arrived.
    pub creation: Option<Creation>,
    /// Later write wins.
    pub title: Option<Register>,
    /// Later write wins.
    pub topic: Option<Register>,
    /// Members who are in. Derived from the member rows by whoever writes them; not merged.
    pub members: u32,
}

impl Conversation {
    /// Takes a creation; of several the one with the smallest position stays.
    pub fn created(&mut self, creation: Creation, title: Option<String>, topic: Option<String>) {
        let position = creation.position;
        if self
            .creation
            .as_ref()
            .is_none_or(|held| position < held.position)
        {
            self.creation = Some(creation);
        }
        Register::merge(
            &mut self.title,
            Register {
                value: title,
                position,
                changed: false,
            },
        );
        Register::merge(
            &mut self.topic,
            Register {
                value: topic,
                position,
                changed: false,
            },
        );
    }

    /// Takes a change of the fields that it names.
    pub fn changed(&mut self, position: Position, title: Option<String>, topic: Option<String>) {
        for (slot, value) in [(&mut self.title, title), (&mut self.topic, topic)] {
            if value.is_some() {
                Register::merge(
                    slot,
                    Register {
                        value,
                        position,
                        changed: true,
                    },
                );
            }
        }
    }

    /// Takes all that another region's row knows.
    pub fn join(&mut self, other: Self) {
        if let Some(creation) = other.creation
            && self
                .creation
                .as_ref()
                .is_none_or(|held| creation.position < held.position)
        {
            self.creation = Some(creation);
        }
        for (slot, write) in [
            (&mut self.title, other.title),
            (&mut self.topic, other.topic),
        ] {
            if let Some(write) = write {
                Register::merge(slot, write);
            }
        }
    }

    /// The current title.
    pub fn title(&self) -> Option<&str> {
        self.title.as_ref()?.value.as_deref()
    }

    /// The current topic.
    pub fn topic(&self) -> Option<&str> {
        self.topic.as_ref()?.value.as_deref()
    }

    /// The latest write to a field: a new write must stand above it.
    pub fn last_change(&self) -> Option<Position> {
        [&self.title, &self.topic]
            .into_iter()
            .flatten()
            .map(|r| r.position)
            .max()
    }

    /// As stored.
    pub fn encode(&self) -> Vec<u8> {
        Wire {
            kind: self.creation.as_ref().map(|c| kind_to_wire(c.kind)),
            creator: self.creation.as_ref().map(|c| c.creator.clone()),
            created: self
                .creation
                .as_ref()
                .map(|c| c.position.as_bytes().to_vec()),
            title: self.title.as_ref().map(Into::into),
            topic: self.topic.as_ref().map(Into::into),
            members: self.members,
        }
        .encode_to_vec()
    }

    /// Reads a stored row.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let wire = Wire::decode(bytes)?;
        let creation = match (wire.kind, wire.creator, wire.created) {
            (Some(kind), Some(creator), Some(position)) => Some(Creation {
                kind: kind_from_wire(kind)?,
                creator,
                position: position.as_slice().try_into()?,
            }),
            _ => None,
        };
        Ok(Self {
            creation,
            title: wire.title.map(Register::try_from).transpose()?,
            topic: wire.topic.map(Register::try_from).transpose()?,
            members: wire.members,
        })
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Wire {
    #[prost(uint32, optional, tag = "1")]
    kind: Option<u32>,
    #[prost(string, optional, tag = "2")]
    creator: Option<String>,
    #[prost(bytes = "vec", optional, tag = "3")]
    created: Option<Vec<u8>>,
    #[prost(message, optional, tag = "4")]
    title: Option<register::Wire>,
    #[prost(message, optional, tag = "5")]
    topic: Option<register::Wire>,
    #[prost(uint32, tag = "6")]
    members: u32,
}
