//! Operations: immutable facts. A batch is what one node commits to one shard in one transaction.

use std::fmt;

use bytes::Bytes;
use prost::Message as _;

use crate::cursor::ShardCursor;
use crate::error::DecodeError;
use crate::id::{ConversationId, MessageId, NodeId, OpId, Origin, Position};
use crate::limits::BATCH_OPS_MAX;
use crate::wire;

/// The newest format of batches that this program reads and writes. It ends in a checksum.
pub const FORMAT: u32 = 2;
/// The oldest that it still writes: as long as some region of the cluster knows no newer one.
pub const FORMAT_MIN: u32 = 1;

const _: () = assert!(FORMAT_MIN <= FORMAT);

/// The ops that one node committed to one shard in one transaction. Its stamp is its key in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Where it was committed first.
    pub origin: Origin,
    /// The node that committed it.
    pub node: NodeId,
    /// The node's own count of its batches in this shard, from 1.
    pub number: u64,
    /// What the committing transaction saw of all other origins; whole batches only. A receiver
    /// applies this batch when it covers these.
    pub deps: ShardCursor,
    /// In order of commit.
    pub ops: Vec<Op>,
}

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// Unique among all ops; for a post, its place in the timeline.
    pub position: Position,
    /// Hash of actor and idempotency key.
    pub id: OpId,
    /// Who did it.
    pub actor: String,
    /// To which conversation.
    pub conversation: ConversationId,
    /// What happened.
    pub kind: OpKind,
    /// The request that asked for it, where one is known.
    pub trace: Option<Trace>,
}

/// A request, as W3C Trace Context names it. It is told to operators; nothing is decided by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Of the whole trace; not 0.
    pub trace: u128,
    /// Of the span that answered the request; not 0.
    pub span: u64,
    /// Whether spans of it are kept.
    pub is_sampled: bool,
}

/// The id by which logs and clients name the request.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.trace)
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpKind {
    /// A conversation was made; its fields rank below every later change.
    ConversationCreated {
        /// Direct, group or channel.
        kind: ConversationKind,
        /// First title.
        title: Option<String>,
        /// First topic.
        topic: Option<String>,
    },
    /// Title or topic were set; `None` leaves a field alone.
    ConversationChanged {
        /// New title.
        title: Option<String>,
        /// New topic.
        topic: Option<String>,
    },
    /// Somebody's standing changed.
    MemberSet {
        /// Whose.
        user: String,
        /// To what.
        standing: Standing,
    },
    /// A message was posted.
    Posted {
        /// Its id, which covers all of the following.
        message: MessageId,
        /// Its text.
        text: String,
        /// The message that it answers.
        reply_to: Option<MessageId>,
        /// Original time of an imported message, in Unix milliseconds.
        sent_at_unix_ms: Option<i64>,
    },
    /// A message's text was edited.
    Edited {
        /// Which.
        message: MessageId,
        /// One uncompressed Automerge change.
        change: Bytes,
    },
    /// A message was taken away for good.
    Redacted {
        /// Which.
        message: MessageId,
    },
    /// A reaction was set or taken back by the actor.
    Reacted {
        /// To which message.
        message: MessageId,
        /// With what.
        emoji: String,
        /// Set, or taken back.
        present: bool,
    },
    /// Somebody has seen everything up to a marker.
    Read {
        /// Who.
        user: String,
        /// Up to where.
        marker: ShardCursor,
    },
}

/// What a conversation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConversationKind {
    /// Two users, for good.
    Direct,
    /// Members only.
    Group,
    /// Anyone who is signed in reads and may join.
    Channel,
}

/// How somebody stands to a conversation, least restricted first: of concurrent values the largest
/// wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// May do all.
    Owner,
    /// Moderates.
    Admin,
    /// Takes part.
    Member,
    /// Is gone, and may come back.
    Left,
    /// Is kept out until an admin lets them in.
    Banned,
}

impl Standing {
    /// Owner, admin or member.
    pub const fn is_in(self) -> bool {
        matches!(self, Self::Owner | Self::Admin | Self::Member)
    }
}

impl OpKind {
    /// The first format that has it. A region that reads older ones only must never meet it.
    pub const fn format(&self) -> u32 {
        match self {
            Self::ConversationCreated { .. }
            | Self::ConversationChanged { .. }
            | Self::MemberSet { .. }
            | Self::Posted { .. }
            | Self::Edited { .. }
            | Self::Redacted { .. }
            | Self::Reacted { .. }
            | Self::Read { .. } => 1,
        }
    }
}

impl Batch {
    /// The oldest format that has all that is in it.
    pub fn format_min(&self) -> u32 {
        let formats = self.ops.iter().map(|op| op.kind.format());
        formats.max().unwrap_or(FORMAT_MIN)
    }

    /// As it stands in the log and goes to other regions, in a format of at least
    /// [`Batch::format_min`].
    pub fn encode(&self, format: u32) -> Bytes {
        let mut bytes = wire::Batch::of(self, format).encode_to_vec();
        if format >= wire::CHECKSUM_FORMAT {
            wire::put_checksum(&mut bytes);
        }
        bytes.into()
    }

    /// Reads a batch. Unknown fields are skipped; an unknown kind of op is an error, since
    /// what counts as seen must have been applied.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let batch = wire::Batch::decode(bytes)?;
        if batch.format >= wire::CHECKSUM_FORMAT || batch.has_checksum() {
            wire::check_checksum(bytes)?;
        }
        if batch.ops_count() > BATCH_OPS_MAX {
            return Err(DecodeError::Range("ops of a batch"));
        }
        batch.try_into()
    }

    /// The format of an encoded batch, also of one that is too new to be read.
    pub fn format_of(bytes: &[u8]) -> Result<u32, DecodeError> {
        Ok(wire::BatchHead::decode(bytes)?.format)
    }
}
