//! What clients have asked for and were told.

use std::collections::BTreeSet;

use whimbrel_replication::crdt::reaction::Reaction;
use whimbrel_replication::cursor::ShardCursor;
use whimbrel_replication::id::{ConversationId, MessageId, Place, Position};

/// Something that must be seen in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Posted(ConversationId, MessageId),
    Edited(ConversationId, MessageId, String),
    Redacted(ConversationId, MessageId),
    /// By whom, and as it stood when it was acked; `None` where one was taken back that was never set.
    Reacted(ConversationId, MessageId, String, String, Option<Reaction>),
    Read(ConversationId, String, ShardCursor),
    Created(ConversationId),
    /// The last change of the title when it was acked.
    Titled(ConversationId, Option<Position>),
    /// A user's standing: the writes of it that stood when it was acked.
    Member(ConversationId, String, Vec<Place>),
}

/// An effect that was acked.
#[derive(Clone, Debug)]
pub(super) struct Acked {
    pub(super) effect: Effect,
    /// The only disk that had it was destroyed.
    pub(super) is_lost: bool,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) acked: Vec<Acked>,
    /// Posts that anybody ever asked for.
    pub(super) attempted: BTreeSet<MessageId>,
}
