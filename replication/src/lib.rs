//! Ids, clock, operations, merges and the link protocol of Whimbrel.
//!
//! Everything here takes values and the time as arguments: with default features off there is no
//! socket, task, clock or source of randomness in this crate. QUIC stands behind the feature `quic`,
//! relays that make links bad on purpose behind `relay`.

pub mod clock;
pub mod crdt;
pub mod cursor;
pub mod error;
pub mod id;
pub mod limits;
pub mod link;
pub mod op;
#[cfg(feature = "quic")]
pub mod quic;
#[cfg(feature = "relay")]
pub mod relay;
mod wire;
