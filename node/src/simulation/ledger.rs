//! What clients have asked for and were told.

use std::collections::BTreeSet;

use whimbrel_replication::cursor::ShardCursor;
use whimbrel_replication::id::{ConversationId, MessageId};

/// Something that must be seen in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Posted(ConversationId, MessageId),
    Edited(ConversationId, MessageId, String),
    Redacted(ConversationId, MessageId),
    Reacted(ConversationId, MessageId, String, String),
    Read(ConversationId, String, ShardCursor),
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
