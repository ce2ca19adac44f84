//! Operations: immutable facts. A batch is what one node commits to one shard in one transaction.

use bytes::Bytes;
use prost::Message as _;

use crate::cursor::ShardCursor;
use crate::error::DecodeError;
use crate::id::{ConversationId, MessageId, NodeId, OpId, Origin, Position};
use crate::wire;

/// The format of batches that this program writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

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

impl Batch {
    /// As it stands in the log and goes to other regions.
    pub fn encode(&self) -> Bytes {
        wire::Batch::from(self).encode_to_vec().into()
    }

    /// Reads a batch. Unknown fields are skipped; an unknown kind of op is an error, since
    /// what counts as seen must have been applied.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        wire::Batch::decode(bytes)?.try_into()
    }
}
