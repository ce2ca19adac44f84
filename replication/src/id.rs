//! Ids, positions and stamps, with their public text forms.
//!
//! Byte ids print as lower-case base32hex without padding: it keeps the byte order, survives a
//! double click, and never starts with a dash.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32HEX_NOPAD;

use crate::error::DecodeError;

/// Text form of bytes: lower-case base32hex, order-preserving.
pub(crate) fn to_text(bytes: &[u8]) -> String {
    BASE32HEX_NOPAD.encode(bytes).to_ascii_lowercase()
}

/// Reads [`to_text`] back; upper case is refused, so every value has exactly one text.
pub(crate) fn from_text(text: &str, what: &'static str) -> Result<Vec<u8>, DecodeError> {
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(DecodeError::Text(what));
    }
    BASE32HEX_NOPAD
        .decode(text.to_ascii_uppercase().as_bytes())
        .map_err(|_| DecodeError::Text(what))
}

macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;
            /// The smallest value.
            pub const MIN: Self = Self([0; $len]);
            /// The largest value.
            pub const MAX: Self = Self([0xff; $len]);

            /// From its bytes.
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// Its bytes; they compare as the value does.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = DecodeError;
            fn try_from(bytes: &[u8]) -> Result<Self, DecodeError> {
                bytes.try_into().map(Self).map_err(|_| DecodeError::Range($what))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_text(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = DecodeError;
            fn from_str(text: &str) -> Result<Self, DecodeError> {
                from_text(text, $what)?
                    .as_slice()
                    .try_into()
                    .map_err(|_| DecodeError::Text($what))
            }
        }
    };
}

byte_id!(
    /// All regions together; made once, when the cluster is made.
    ClusterId, 16, "cluster id"
);
byte_id!(
    /// A direct, group or channel conversation.
    ConversationId, 16, "conversation id"
);
byte_id!(
    /// A message: a hash of all that its sender wrote, so that a retry is the same message anywhere.
    MessageId, 16, "message id"
);
byte_id!(
    /// An operation: a hash of actor and idempotency key.
    OpId, 16, "op id"
);
byte_id!(
    /// Hash of an Automerge change.
    ChangeHash, 32, "change hash"
);
byte_id!(
    /// Where a message stands in its conversation: HLC (8), region (2), node (4), big-endian.
    Position, 14, "position"
);
byte_id!(
    /// Commit order of a batch in its origin: a FoundationDB versionstamp.
    Stamp, 10, "stamp"
);

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number_id!(
    /// Number of a region, fixed in the cluster's config and never reused.
    RegionId, u16
);
number_id!(
    /// Number of a node, allocated at every start and never reused in its region.
    NodeId, u32
);
number_id!(
    /// Number of a shard, below the cluster's shard count.
    ShardId, u16
);

/// Physical milliseconds since 2024-01-01 (42 bits) and a counter (22 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hlc(pub u64);

/// Unix milliseconds of the HLC's epoch, 2024-01-01T00:00:00Z.
pub const HLC_EPOCH_UNIX_MS: i64 = 1_704_067_200_000;
/// Bits of the counter below the milliseconds.
pub const HLC_COUNTER_BITS: u32 = 22;

impl Hlc {
    /// Wall-clock part, in Unix milliseconds.
    pub const fn unix_ms(self) -> i64 {
        (self.0 >> HLC_COUNTER_BITS).cast_signed() + HLC_EPOCH_UNIX_MS
    }

    /// The counter within the millisecond.
    pub const fn counter(self) -> u64 {
        self.0 & ((1 << HLC_COUNTER_BITS) - 1)
    }

    /// The smallest stamp of a Unix millisecond; times before the epoch are the epoch.
    pub const fn from_unix_ms(unix_ms: i64) -> Self {
        let ms = unix_ms - HLC_EPOCH_UNIX_MS;
        Self(if ms < 0 {
            0
        } else {
            (ms.cast_unsigned()) << HLC_COUNTER_BITS
        })
    }
}

impl Position {
    /// Puts the parts together.
    pub fn new(hlc: Hlc, region: RegionId, node: NodeId) -> Self {
        let mut bytes = [0; 14];
        bytes[..8].copy_from_slice(&hlc.0.to_be_bytes());
        bytes[8..10].copy_from_slice(&region.0.to_be_bytes());
        bytes[10..].copy_from_slice(&node.0.to_be_bytes());
        Self(bytes)
    }

    /// The clock part.
    pub fn hlc(&self) -> Hlc {
        Hlc(u64::from_be_bytes(
            self.0[..8].try_into().expect("8 of 14 bytes"),
        ))
    }

    /// The region that stamped it.
    pub fn region(&self) -> RegionId {
        RegionId(u16::from_be_bytes([self.0[8], self.0[9]]))
    }
}

impl Stamp {
    /// Stands for the stamp of a transaction that has not committed yet; sorts after all others.
    pub const PENDING: Self = Self::MAX;

    /// From a commit version and the order within it.
    pub fn new(version: u64, order: u16) -> Self {
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&version.to_be_bytes());
        bytes[8..].copy_from_slice(&order.to_be_bytes());
        Self(bytes)
    }

    /// The commit version.
    pub fn version(&self) -> u64 {
        u64::from_be_bytes(self.0[..8].try_into().expect("8 of 10 bytes"))
    }
}

/// The region that first committed an op, in one life of its store. Stamps compare only within one
/// origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The region.
    pub region: RegionId,
    /// Unix seconds at the first start, restore or rebuild of the region's store.
    pub incarnation: u32,
}

impl Origin {
    /// Length in bytes.
    pub const LEN: usize = 6;

    /// Big-endian region, incarnation.
    pub fn to_bytes(self) -> [u8; 6] {
        let mut bytes = [0; 6];
        bytes[..2].copy_from_slice(&self.region.0.to_be_bytes());
        bytes[2..].copy_from_slice(&self.incarnation.to_be_bytes());
        bytes
    }
}

impl From<[u8; 6]> for Origin {
    fn from(b: [u8; 6]) -> Self {
        Self {
            region: RegionId(u16::from_be_bytes([b[0], b[1]])),
            incarnation: u32::from_be_bytes([b[2], b[3], b[4], b[5]]),
        }
    }
}

impl TryFrom<&[u8]> for Origin {
    type Error = DecodeError;
    fn try_from(bytes: &[u8]) -> Result<Self, DecodeError> {
        <[u8; 6]>::try_from(bytes)
            .map(Self::from)
            .map_err(|_| DecodeError::Range("origin"))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.region, self.incarnation)
    }
}

/// One op in an origin's log of a shard: the stamp of its batch and its index there.
/// With [`OpStamp::whole`] it stands for the batch and everything before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpStamp {
    /// The batch.
    pub stamp: Stamp,
    /// The op in the batch.
    pub index: u16,
}

impl OpStamp {
    /// Length in bytes.
    pub const LEN: usize = 12;

    /// One op.
    pub const fn new(stamp: Stamp, index: u16) -> Self {
        Self { stamp, index }
    }

    /// All ops of the batch.
    pub const fn whole(stamp: Stamp) -> Self {
        Self {
            stamp,
            index: u16::MAX,
        }
    }

    /// Stamp, then index, big-endian: bytes compare as the value does.
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..10].copy_from_slice(self.stamp.as_bytes());
        bytes[10..].copy_from_slice(&self.index.to_be_bytes());
        bytes
    }
}

impl TryFrom<&[u8]> for OpStamp {
    type Error = DecodeError;
    fn try_from(bytes: &[u8]) -> Result<Self, DecodeError> {
        let bytes: [u8; 12] = bytes
            .try_into()
            .map_err(|_| DecodeError::Range("op stamp"))?;
        Ok(Self {
            stamp: Stamp::try_from(&bytes[..10])?,
            index: u16::from_be_bytes([bytes[10], bytes[11]]),
        })
    }
}

/// Where an op stands: its origin and its stamp there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The origin.
    pub origin: Origin,
    /// The op in the origin's log.
    pub at: OpStamp,
}

/// Kinds of hashed ids: each starts with its own tag, so none can collide with another kind.
#[derive(Clone, Copy, Debug)]
pub enum HashKind {
    /// A direct conversation, from its sorted pair of users.
    Direct,
    /// A group or channel, from creator and idempotency key.
    Conversation,
    /// A message.
    Message,
    /// An operation.
    Op,
    /// The Automerge actor of an edit.
    Edit,
    /// The Automerge actor of a message's first text.
    Genesis,
    /// The body of a request, to tell a replay from a mismatch.
    Request,
}

/// BLAKE3 over the kind's tag and the length-prefixed parts.
pub fn hash(kind: HashKind, parts: &[&[u8]]) -> blake3::Hash {
    let tag: &[u8] = match kind {
        HashKind::Direct => b"direct",
        HashKind::Conversation => b"conversation",
        HashKind::Message => b"message",
        HashKind::Op => b"op",
        HashKind::Edit => b"edit",
        HashKind::Genesis => b"genesis",
        HashKind::Request => b"request",
    };
    let mut hasher = blake3::Hasher::new();
    for part in std::iter::once(&tag).chain(parts) {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize()
}

fn first16(hash: blake3::Hash) -> [u8; 16] {
    hash.as_bytes()[..16].try_into().expect("16 of 32 bytes")
}

impl ConversationId {
    /// The one direct conversation of two users, whoever opens it, wherever.
    pub fn direct(a: &str, b: &str) -> Self {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        Self(first16(hash(
            HashKind::Direct,
            &[low.as_bytes(), high.as_bytes()],
        )))
    }

    /// A group or channel: the same key by the same creator is the same conversation.
    pub fn created(creator: &str, key: &str) -> Self {
        Self(first16(hash(
            HashKind::Conversation,
            &[creator.as_bytes(), key.as_bytes()],
        )))
    }

    /// The shard that holds it.
    pub fn shard(&self, shards: u16) -> ShardId {
        // The id is a hash already: its first bytes are uniform.
        ShardId(u16::from_be_bytes([self.0[0], self.0[1]]) % shards)
    }
}

impl MessageId {
    /// Of a message with this content; `sent_at` in Unix milliseconds.
    pub fn derive(
        conversation: &ConversationId,
        sender: &str,
        key: &str,
        text: &str,
        reply_to: Option<&MessageId>,
        sent_at_unix_ms: Option<i64>,
    ) -> Self {
        let sent_at = sent_at_unix_ms.map(i64::to_be_bytes);
        Self(first16(hash(
            HashKind::Message,
            &[
                conversation.as_bytes(),
                sender.as_bytes(),
                key.as_bytes(),
                text.as_bytes(),
                reply_to.map_or(&[], |m| m.as_bytes().as_slice()),
                sent_at.as_ref().map_or(&[], <[u8; 8]>::as_slice),
            ],
        )))
    }
}

impl OpId {
    /// Of a call by `actor` with this idempotency key.
    pub fn derive(actor: &str, key: &str) -> Self {
        Self(first16(hash(
            HashKind::Op,
            &[actor.as_bytes(), key.as_bytes()],
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_keeps_order_and_refuses_other_spellings() {
        let low = MessageId::from_bytes([1; 16]);
        let high = MessageId::from_bytes([2; 16]);
        assert!(low.to_string() < high.to_string());
        assert_eq!(low.to_string().parse(), Ok(low));
        assert!(low.to_string().to_uppercase().parse::<MessageId>().is_err());
        for bad in ["", "0", "é", "../../etc", &"v".repeat(26), &"0".repeat(27)] {
            assert!(bad.parse::<MessageId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_direct_conversation_is_the_same_from_both_sides() {
        assert_eq!(
            ConversationId::direct("ada", "bob"),
            ConversationId::direct("bob", "ada")
        );
        assert_ne!(
            ConversationId::direct("ada", "bob"),
            ConversationId::created("ada", "bob")
        );
    }

    #[test]
    fn message_id_covers_the_whole_body() {
        let c = ConversationId::direct("ada", "bob");
        let id = |text, reply, sent| MessageId::derive(&c, "ada", "k", text, reply, sent);
        let base = id("hi", None, None);
        assert_eq!(base, id("hi", None, None));
        assert_ne!(base, id("ho", None, None));
        assert_ne!(base, id("hi", Some(&base), None));
        assert_ne!(base, id("hi", None, Some(0)));
    }

    #[test]
    fn position_orders_by_clock_then_region_then_node() {
        let p = |h, r, n| Position::new(Hlc(h), RegionId(r), NodeId(n));
        assert!(p(1, 9, 9) < p(2, 1, 1));
        assert!(p(1, 1, 9) < p(1, 2, 1));
        assert!(p(1, 1, 1) < p(1, 1, 2));
        assert_eq!(p(7, 3, 1).hlc(), Hlc(7));
        assert_eq!(p(7, 3, 1).region(), RegionId(3));
    }
}
