//! How one user stands to one conversation: a multi-value register with causal contexts.
//!
//! The register is the optimized observed-remove design (Bieniusa et al., "An optimized conflict-free
//! replicated set", 2012): a value's dot is its op's place, its context is all that its writer had
//! seen. A dot inside another value's context is superseded; of what is concurrent the most
//! restrictive standing wins.

use prost::Message as _;

use super::Encoded;
use crate::cursor::ShardCursor;
use crate::error::DecodeError;
use crate::id::{OpStamp, Place, Position, Stamp};
use crate::op::Standing;
use crate::wire::{self, CursorEntry, standing_from_wire, standing_to_wire};

/// One write that no other write has superseded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Value {
    /// Its place: the dot.
    pub dot: Place,
    /// What was written.
    pub standing: Standing,
    /// Position of the op.
    pub position: Position,
}

/// The row of a member. Tombstones (left, banned) are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Concurrent values, by dot.
    values: Vec<Value>,
    /// Join of the contexts that were merged, without the dots of the values that stand.
    context: ShardCursor,
}

impl Member {
    /// Takes a write whose writer had seen `deps` of other origins, and all of its own before it.
    pub fn set(&mut self, value: Value, deps: &ShardCursor) {
        let is_known = self.has_seen(&value.dot);
        let superseded = |held: &Value| {
            deps.covers(&held.dot)
                || (held.dot.origin == value.dot.origin && held.dot.at < value.dot.at)
        };
        self.values.retain(|held| !superseded(held));
        if !is_known {
            self.values.push(value);
            self.values.sort_unstable();
        }
        // Also of what is superseded: or else the row would tell in which order ops arrived.
        self.context.join(deps);
    }

    /// Takes all that another region's row knows.
    pub fn join(&mut self, other: &Self) {
        let stands_there = |v: &&Value| other.values.contains(v) || !other.has_seen(&v.dot);
        let stands_here = |v: &&Value| !self.has_seen(&v.dot);
        let mut values: Vec<Value> = self.values.iter().filter(stands_there).cloned().collect();
        values.extend(other.values.iter().filter(stands_here).cloned());
        values.sort_unstable();
        values.dedup();
        self.values = values;
        self.context.join(&other.context);
    }

    /// Is this op merged here, or superseded by one that is?
    pub fn has_seen(&self, dot: &Place) -> bool {
        self.context.covers(dot)
            || self
                .values
                .iter()
                .any(|v| v.dot.origin == dot.origin && v.dot.at >= dot.at)
    }

    /// Writes that no other has superseded, by dot.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// The value that counts: the most restrictive, then the latest.
    pub fn value(&self) -> Option<&Value> {
        self.values.iter().max_by_key(|v| (v.standing, v.position))
    }

    /// The standing that counts.
    pub fn standing(&self) -> Option<Standing> {
        self.value().map(|v| v.standing)
    }

    /// As stored. At most one value's stamp may be pending.
    pub fn encode(&self) -> Encoded {
        let is_pending = |v: &&Value| v.dot.at.stamp == Stamp::PENDING;
        let settled = self.values.iter().filter(|v| !is_pending(v));
        let last = self.values.iter().find(is_pending);
        let bytes = Wire {
            context: wire::cursor_to_wire(&self.context),
            values: settled.chain(last).map(Into::into).collect(),
        }
        .encode_to_vec();
        Encoded {
            bytes,
            pending: last.is_some(),
        }
    }

    /// Reads a stored row.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let wire = Wire::decode(bytes)?;
        let mut values = wire
            .values
            .into_iter()
            .map(Value::try_from)
            .collect::<Result<Vec<_>, _>>()?;
        values.sort_unstable();
        Ok(Self {
            values,
            context: wire::cursor_from_wire(&wire.context)?,
        })
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Wire {
    #[prost(message, repeated, tag = "1")]
    context: Vec<CursorEntry>,
    /// Stands last, and its stamp last in it, for the sake of a pending stamp.
    #[prost(message, repeated, tag = "15")]
    values: Vec<WireValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireValue {
    #[prost(uint32, tag = "1")]
    standing: u32,
    #[prost(bytes = "vec", tag = "2")]
    position: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    origin: Vec<u8>,
    #[prost(uint32, tag = "4")]
    index: u32,
    #[prost(bytes = "vec", tag = "5")]
    stamp: Vec<u8>,
}

impl From<&Value> for WireValue {
    fn from(value: &Value) -> Self {
        Self {
            standing: standing_to_wire(value.standing),
            position: value.position.as_bytes().to_vec(),
            origin: value.dot.origin.to_bytes().to_vec(),
            index: value.dot.at.index.into(),
            stamp: value.dot.at.stamp.as_bytes().to_vec(),
        }
    }
}

impl TryFrom<WireValue> for Value {
    type Error = DecodeError;
    fn try_from(wire: WireValue) -> Result<Self, DecodeError> {
        let index = u16::try_from(wire.index).map_err(|_| DecodeError::Range("index"))?;
        Ok(Self {
            dot: Place {
                origin: wire.origin.as_slice().try_into()?,
                at: OpStamp::new(wire.stamp.as_slice().try_into()?, index),
            },
            standing: standing_from_wire(wire.standing)?,
            position: wire.position.as_slice().try_into()?,
        })
    }
}
