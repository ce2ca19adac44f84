//! Merges, on the types that regions store.
//!
//! Every merge is commutative, associative and idempotent: ops may arrive in any order and any
//! number of times and leave the same row. A row can be joined with another region's (`join`), or
//! take one op.
//!
//! Rows are stored as protobuf. A row may hold one place whose stamp is not known before its
//! transaction commits ([`Stamp::PENDING`]); the stamp is then the last ten bytes of the encoded
//! row, where the store writes it at commit.

pub mod conversation;
pub mod member;
pub mod message;
pub mod reaction;
pub mod register;
#[cfg(test)]
mod tests;
pub mod text;

use crate::id::Stamp;

/// A row ready to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Protobuf.
    pub bytes: Vec<u8>,
    /// Does it end in a stamp that the store fills in at commit?
    pub pending: bool,
}

impl Encoded {
    /// Where the pending stamp stands.
    pub fn stamp_offset(&self) -> Option<usize> {
        self.pending.then(|| self.bytes.len() - Stamp::LEN)
    }
}
