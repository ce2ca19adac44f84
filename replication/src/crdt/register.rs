//! Last-writer-wins register.

use crate::error::DecodeError;
use crate::id::Position;

/// A value and the stamp of its write; the larger (rank, position) wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// What was written.
    pub value: Option<String>,
    /// When, and by whom; positions are unique.
    pub position: Position,
    /// Was it written by a change? What a creation wrote ranks below.
    pub changed: bool,
}

impl Register {
    /// Takes the write if it wins.
    pub fn merge(slot: &mut Option<Self>, write: Self) {
        let wins = slot.as_ref().is_none_or(|held| held.rank() < write.rank());
        if wins {
            *slot = Some(write);
        }
    }

    fn rank(&self) -> (bool, Position) {
        (self.changed, self.position)
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Wire {
    #[prost(string, optional, tag = "1")]
    value: Option<String>,
    #[prost(bytes = "vec", tag = "2")]
    position: Vec<u8>,
    #[prost(bool, tag = "3")]
    changed: bool,
}

impl From<&Register> for Wire {
    fn from(register: &Register) -> Self {
        Self {
            value: register.value.clone(),
            position: register.position.as_bytes().to_vec(),
            changed: register.changed,
        }
    }
}

impl TryFrom<Wire> for Register {
    type Error = DecodeError;
    fn try_from(wire: Wire) -> Result<Self, DecodeError> {
        Ok(Self {
            value: wire.value,
            position: wire.position.as_slice().try_into()?,
            changed: wire.changed,
        })
    }
}
