//! What the engine is told and what it wants done.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::frame::Frame;
use super::{Lane, LinkId, Role, SnapshotPage, SnapshotProgress};
use crate::id::{Origin, RegionId, ShardId, Stamp};

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A connection stands; nothing was said yet.
    Up {
        /// A new link. Ids grow and are never used again.
        link: LinkId,
        /// The region that its certificate proves.
        peer: RegionId,
        /// Who dialled.
        role: Role,
    },
    /// From now on the link has a lane for bulk as well.
    Bulk {
        /// Which.
        link: LinkId,
    },
    /// A connection is gone. Also follows [`Effect::Close`], where it changes nothing.
    Down {
        /// Which.
        link: LinkId,
    },
    /// The peer sent a frame.
    Frame {
        /// On which link.
        link: LinkId,
        /// What it says.
        frame: Frame,
    },
    /// Our store's log of this origin has grown: a local commit, or a batch that any node of this
    /// region applied. Several may be told as one.
    Appended {
        /// Shard of the log.
        shard: ShardId,
        /// Origin of the log.
        origin: Origin,
        /// Its last batch.
        stamp: Stamp,
    },
    /// Answers [`Effect::ReadLog`]: these are all batches in `(from, to]`. With `to == from` the log
    /// could not be read now; it is asked again a little later.
    LogRead {
        /// As asked.
        link: LinkId,
        /// As asked.
        shard: ShardId,
        /// As asked.
        origin: Origin,
        /// As asked.
        from: Stamp,
        /// Inclusive.
        to: Stamp,
        /// In order, at least one if there is any after `from`.
        batches: Vec<(Stamp, Bytes)>,
    },
    /// Answers [`Effect::ReadLog`] where `from` lies below the trim floor.
    LogTrimmed {
        /// As asked.
        link: LinkId,
        /// As asked.
        shard: ShardId,
        /// As asked.
        origin: Origin,
        /// Everything up to here is gone.
        floor: Stamp,
    },
    /// Answers [`Effect::Apply`]: the store's cursor of this origin is now `to`, on disk. It is not
    /// the last batch that was asked for if the cursor was not `from`, or if only some were
    /// committed; with `to` unchanged the engine tries again a little later.
    Applied {
        /// Shard of the log.
        shard: ShardId,
        /// Origin of the log.
        origin: Origin,
        /// The store's cursor.
        to: Stamp,
    },
    /// Answers [`Effect::Apply`] where a batch can never be applied. This log stops until its cursor
    /// is moved past `at`; all others go on.
    ApplyFailed {
        /// Shard of the log.
        shard: ShardId,
        /// Origin of the log.
        origin: Origin,
        /// The batch.
        at: Stamp,
        /// For the operator.
        reason: String,
    },
    /// An operator chose to pass this batch, or had chosen it before a restart. Where its log stands still
    /// at it, it is pulled again, and handed to the store even if it cannot be read.
    Skip {
        /// Shard of the log.
        shard: ShardId,
        /// Origin of the log.
        origin: Origin,
        /// The batch.
        at: Stamp,
    },
    /// Ask a peer something. Comes back as one [`Effect::Answered`].
    Ask {
        /// Whom.
        peer: RegionId,
        /// Never used again.
        id: u64,
        /// What.
        question: Bytes,
    },
    /// Answers [`Effect::Question`].
    Answer {
        /// As asked.
        link: LinkId,
        /// As asked.
        id: u64,
        /// `None` where it cannot be answered, or not now.
        answer: Option<Bytes>,
    },
    /// The store is amid a snapshot of this shard that this engine does not know of: it was begun
    /// before a restart, or by another node. Changes nothing where it is known.
    SnapshotPending {
        /// Shard of the snapshot.
        shard: ShardId,
        /// Everything up to this key is merged.
        after: Option<Bytes>,
    },
    /// Answers [`Effect::ReadSnapshot`].
    SnapshotRead {
        /// As asked.
        link: LinkId,
        /// As asked.
        shard: ShardId,
        /// `None` where it cannot be read now.
        page: Option<SnapshotPage>,
    },
    /// Answers [`Effect::MergeSnapshot`].
    SnapshotMerged {
        /// As asked.
        shard: ShardId,
        /// How far the store has come.
        progress: SnapshotProgress,
    },
    /// The time of the last [`Effect::SetTimer`] has come. Early or needless ones do no harm.
    Timer,
    /// Shards that this node pulls from now on; at the start it pulls all. The others are left to
    /// other nodes of the region, whose commits are told by [`Event::Appended`].
    Pull {
        /// Replaces what was told before.
        shards: BTreeSet<ShardId>,
    },
    /// The wall clock, for peers to measure drift. Tell it at the start and about once a second.
    Wall {
        /// Unix milliseconds.
        unix_ms: i64,
    },
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send a frame.
    Send {
        /// On which link.
        link: LinkId,
        /// On which of its lanes; bulk only after [`Event::Bulk`].
        lane: Lane,
        /// What to say.
        frame: Frame,
    },
    /// Read a log after `from`: whole batches, as many as fit into `bytes_max`, but at least one.
    /// Must be answered exactly once, by [`Event::LogRead`] or [`Event::LogTrimmed`].
    ReadLog {
        /// For whom; to be repeated in the answer.
        link: LinkId,
        /// On which of its lanes the batches will go: reads for one must not wait for those for the other.
        lane: Lane,
        /// Shard of the log.
        shard: ShardId,
        /// Origin of the log.
        origin: Origin,
        /// Exclusive.
        from: Stamp,
        /// Soft bound on the sum of the batches' bytes.
        bytes_max: usize,
    },
    /// Commit these batches in this order, only if the store's cursor is `from`. Must be answered
    /// exactly once, by [`Event::Applied`] or [`Event::ApplyFailed`]. There is never more than one
    /// under way for a log.
    Apply {
        /// Shard of the log.
        shard: ShardId,
        /// Origin of the log.
        origin: Origin,
        /// The cursor that the store must have.
        from: Stamp,
        /// At least one.
        batches: Vec<(Stamp, Bytes)>,
    },
    /// Read a page of a shard's state, with the cursor that the same transaction sees. Must be
    /// answered exactly once, by [`Event::SnapshotRead`].
    ReadSnapshot {
        /// For whom; to be repeated in the answer.
        link: LinkId,
        /// Shard of the state.
        shard: ShardId,
        /// Exclusive; `None`: from the first key.
        after: Option<Bytes>,
        /// Soft bound on the sum of the rows' bytes.
        bytes_max: usize,
    },
    /// Merge a page into the store, only if the snapshot has come to the key before it. Must be
    /// answered exactly once, by [`Event::SnapshotMerged`]. There is never more than one under way
    /// for a shard.
    MergeSnapshot {
        /// Whose state it is.
        peer: RegionId,
        /// The page.
        page: SnapshotPage,
    },
    /// A peer wants to know something. Must be answered exactly once, by [`Event::Answer`].
    Question {
        /// For whom; to be repeated in the answer.
        link: LinkId,
        /// To be repeated in the answer.
        id: u64,
        /// Any bytes.
        question: Bytes,
    },
    /// What became of [`Event::Ask`].
    Answered {
        /// As asked.
        peer: RegionId,
        /// As asked.
        id: u64,
        /// `None` where the peer cannot be asked now, or does not answer.
        answer: Option<Bytes>,
    },
    /// Send what was said before, then close. Worth one line in the log.
    Close {
        /// Which.
        link: LinkId,
        /// In words.
        reason: String,
    },
    /// Give [`Event::Timer`] at this time. Replaces an earlier one.
    SetTimer {
        /// On the clock of `now`.
        at: Duration,
    },
    /// Somebody should know.
    Alert(Alert),
}

/// What an operator must hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alert {
    /// A peer holds more of our current origin than our log does: our store has lost commits.
    /// Writes must stop, a new incarnation is needed. With several nodes in a region, compare
    /// `peer_has` with the store first: another node's commit may have reached the peer before we
    /// were told of it.
    OwnLogLost {
        /// Shard of the log.
        shard: ShardId,
        /// Who has more.
        peer: RegionId,
        /// What the peer holds.
        peer_has: Stamp,
        /// What we know of our own log.
        own: Stamp,
    },
    /// A peer knows a later life of our store than ours: what we are is over, as when an old copy of
    /// the store came back. Writes must stop, a new incarnation is needed.
    LaterLife {
        /// Who knows it.
        peer: RegionId,
        /// The later life.
        origin: Origin,
    },
    /// A batch cannot be decoded or applied: this log stands still here until its cursor is moved
    /// past the batch, or a program that knows it is started.
    Stopped {
        /// Shard of the log.
        shard: ShardId,
        /// Origin of the log.
        origin: Origin,
        /// The batch.
        at: Stamp,
        /// Why.
        reason: String,
    },
    /// Nobody has what we lack of a log: a snapshot of the shard is taken.
    SnapshotNeeded {
        /// The shard.
        shard: ShardId,
        /// The origin of such a log.
        origin: Origin,
    },
    /// A peer has trimmed what we still need; another one may have it.
    TooOld {
        /// Shard of the log.
        shard: ShardId,
        /// Origin of the log.
        origin: Origin,
        /// Who trimmed it.
        peer: RegionId,
        /// Everything up to here is gone there.
        floor: Stamp,
    },
}
