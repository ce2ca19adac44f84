//! One user's reaction to a message with one emoji: a last-writer-wins flag.

use prost::Message as _;

use crate::error::DecodeError;
use crate::id::Position;

/// The row of a reaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reaction {
    /// Set, or taken back.
    pub present: bool,
    /// Stamp of the write.
    pub position: Position,
}

impl Reaction {
    /// Takes a write if it is later.
    pub fn merge(slot: &mut Option<Self>, write: Self) {
        if slot
            .as_ref()
            .is_none_or(|held| held.position < write.position)
        {
            *slot = Some(write);
        }
    }

    /// As stored.
    pub fn encode(&self) -> Vec<u8> {
        Wire {
            present: self.present,
            position: self.position.as_bytes().to_vec(),
        }
        .encode_to_vec()
    }

    /// Reads a stored row.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let wire = Wire::decode(bytes)?;
        Ok(Self {
            present: wire.present,
            position: wire.position.as_slice().try_into()?,
        })
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Wire {
    #[prost(bool, tag = "1")]
    present: bool,
    #[prost(bytes = "vec", tag = "2")]
    position: Vec<u8>,
}
