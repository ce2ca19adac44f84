//! Small rows that are no merges: posts and events by place, edits, answered ops, a node's last
//! batch.

use prost::Message as _;
use whimbrel_replication::crdt::Encoded;
use whimbrel_replication::error::DecodeError;
use whimbrel_replication::id::{MessageId, OpStamp, Position, Stamp};

/// `p/`: a post by place. Unread counts read nothing else.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PostRow {
    /// The message.
    #[prost(bytes = "vec", tag = "1")]
    pub message: Vec<u8>,
    /// Its sender: own messages are never unread.
    #[prost(string, tag = "2")]
    pub sender: String,
    /// The position that it got at this place.
    #[prost(bytes = "vec", tag = "3")]
    pub position: Vec<u8>,
    /// Redacted messages are never unread.
    #[prost(bool, tag = "4")]
    pub redacted: bool,
    /// The message has other places too: it is read if a marker covers any of them.
    #[prost(bool, tag = "5")]
    pub elsewhere: bool,
    /// Users whom the text mentions.
    #[prost(string, repeated, tag = "6")]
    pub mentions: Vec<String>,
}

impl PostRow {
    /// The message's id.
    pub fn message(&self) -> Result<MessageId, DecodeError> {
        self.message.as_slice().try_into()
    }

    /// The position at this place.
    pub fn position(&self) -> Result<Position, DecodeError> {
        self.position.as_slice().try_into()
    }
}

/// Which way somebody's standing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crossing {
    /// They were out, and are in now.
    In,
    /// They were in, and are out now.
    Out,
}

/// What happened at a place, as sessions are told. Ids only, never text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// The conversation was made, or its title or topic changed.
    Conversation,
    /// A user's standing changed.
    Member {
        /// Whose.
        user: String,
        /// Whether they got in or out by it, in this region.
        crossed: Option<Crossing>,
    },
    /// A message was posted.
    Posted(MessageId),
    /// Its text was edited.
    Edited(MessageId),
    /// It was redacted.
    Redacted(MessageId),
    /// A reaction was set or taken back.
    Reacted(MessageId),
    /// A user's read marker grew.
    Receipt {
        /// Whose.
        user: String,
    },
}

/// `f/`: a [`Happening`] and when it arrived in this region.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FeedRow {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(bytes = "vec", optional, tag = "2")]
    message: Option<Vec<u8>>,
    #[prost(string, optional, tag = "3")]
    user: Option<String>,
    #[prost(bool, tag = "4")]
    got_in: bool,
    #[prost(uint32, tag = "5")]
    arrival_index: u32,
    #[prost(bool, tag = "6")]
    got_out: bool,
    /// Last, for the sake of a pending stamp; absent where the row's own stamp is its arrival.
    #[prost(bytes = "vec", optional, tag = "15")]
    arrival_stamp: Option<Vec<u8>>,
}

impl FeedRow {
    /// As stored. `arrival` is given for what another region committed.
    pub fn encode_happening(happening: &Happening, arrival: Option<OpStamp>) -> Encoded {
        let (kind, message, user, crossed) = match happening {
            Happening::Conversation => (1, None, None, None),
            Happening::Member { user, crossed } => (2, None, Some(user), *crossed),
            Happening::Posted(message) => (3, Some(message), None, None),
            Happening::Edited(message) => (4, Some(message), None, None),
            Happening::Redacted(message) => (5, Some(message), None, None),
            Happening::Reacted(message) => (6, Some(message), None, None),
            Happening::Receipt { user } => (7, None, Some(user), None),
        };
        let row = Self {
            kind,
            message: message.map(|id| id.as_bytes().to_vec()),
            user: user.cloned(),
            got_in: crossed == Some(Crossing::In),
            got_out: crossed == Some(Crossing::Out),
            arrival_index: arrival.map_or(0, |at| at.index.into()),
            arrival_stamp: arrival.map(|at| at.stamp.as_bytes().to_vec()),
        };
        let pending = arrival.is_some_and(|at| at.stamp == Stamp::PENDING);
        Encoded {
            bytes: row.encode_to_vec(),
            pending,
        }
    }

    /// Reads a stored row; `own` is the stamp in its key.
    pub fn decode_happening(
        bytes: &[u8],
        own: OpStamp,
    ) -> Result<(Happening, OpStamp), DecodeError> {
        let row = Self::decode(bytes)?;
        let message = || -> Result<MessageId, DecodeError> {
            row.message
                .as_deref()
                .ok_or(DecodeError::Missing("message"))?
                .try_into()
        };
        let user = || row.user.clone().ok_or(DecodeError::Missing("user"));
        let happening = match row.kind {
            1 => Happening::Conversation,
            2 => Happening::Member {
                user: user()?,
                crossed: match (row.got_in, row.got_out) {
                    (true, _) => Some(Crossing::In),
                    (_, true) => Some(Crossing::Out),
                    _ => None,
                },
            },
            3 => Happening::Posted(message()?),
            4 => Happening::Edited(message()?),
            5 => Happening::Redacted(message()?),
            6 => Happening::Reacted(message()?),
            7 => Happening::Receipt { user: user()? },
            _ => return Err(DecodeError::Range("happening")),
        };
        let index = u16::try_from(row.arrival_index).map_err(|_| DecodeError::Range("arrival"))?;
        let arrival = match &row.arrival_stamp {
            Some(stamp) => OpStamp::new(stamp.as_slice().try_into()?, index),
            None => OpStamp::new(own.stamp, 0),
        };
        Ok((happening, arrival))
    }
}

/// `e/`: one edit.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ChangeRow {
    /// The raw Automerge change.
    #[prost(bytes = "vec", tag = "1")]
    pub change: Vec<u8>,
    /// Who made it.
    #[prost(string, tag = "2")]
    pub author: String,
    /// Position of the op.
    #[prost(bytes = "vec", tag = "3")]
    pub position: Vec<u8>,
}

/// `k/`: an op that was done in this region.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpRow {
    /// Hash of what was asked: another one under the same key is a mismatch.
    #[prost(bytes = "vec", tag = "1")]
    pub request: Vec<u8>,
}

/// `B/`: a node's last batch in a shard.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LastBatch {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// Which attempt to commit it landed.
    #[prost(uint32, tag = "2")]
    pub attempt: u32,
    /// Its stamp; last, for it is pending when written.
    #[prost(bytes = "vec", tag = "15")]
    pub stamp: Vec<u8>,
}

/// `A/`: which batch arrived.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ArrivalRow {
    /// Its origin.
    #[prost(bytes = "vec", tag = "1")]
    pub origin: Vec<u8>,
    /// Its stamp there; absent where it is the arrival's own.
    #[prost(bytes = "vec", optional, tag = "2")]
    pub stamp: Option<Vec<u8>>,
    /// An operator chose to pass it: nothing of it was applied.
    #[prost(bool, tag = "3")]
    pub skipped: bool,
}

/// `Q/`: a batch that an operator chose to pass.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SkippedRow {
    /// Why it could not be applied.
    #[prost(string, tag = "1")]
    pub reason: String,
    /// The stamp of its arrival, once it was passed; last, for it is pending when written.
    #[prost(bytes = "vec", optional, tag = "15")]
    pub arrival: Option<Vec<u8>>,
}

/// `R/`: a conversation that was repaired, or is being repaired.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RepairRow {
    /// A cursor of one shard, as text: the ops up to here that concern the conversation are in its state,
    /// also those of which its feed does not tell.
    #[prost(string, tag = "1")]
    pub last: String,
    /// Some of what a peer knows is merged, and not yet all.
    #[prost(bool, tag = "2")]
    pub is_open: bool,
}

/// `S/`: the snapshot of a shard.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SnapshotRow {
    /// Grows with each change of its stage.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// How far it is.
    #[prost(enumeration = "SnapshotStage", tag = "2")]
    pub stage: i32,
    /// Everything up to this key of the shard is merged.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub after: Option<bytes::Bytes>,
    /// A cursor of one shard, as text: what all merged pages hold; absent before the first.
    #[prost(string, optional, tag = "4")]
    pub holds: Option<String>,
    /// A cursor of one shard, as text: no page holds more.
    #[prost(string, tag = "5")]
    pub reaches: String,
    /// Rows that were merged.
    #[prost(uint64, tag = "6")]
    pub rows: u64,
}

/// How far a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum SnapshotStage {
    /// The shard can be shown.
    Done = 0,
    /// Pages are merged: some of the shard is ahead of what else is here.
    Copying = 1,
    /// All pages are merged; the logs must catch up with the last of them.
    CatchingUp = 2,
}

/// `N/`: a node that runs.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeRow {
    /// Grows while it runs.
    #[prost(uint64, tag = "1")]
    pub beat: u64,
    /// Where clients reach it.
    #[prost(string, tag = "2")]
    pub url: String,
    /// The newest format of batches that it reads; 0 where it does not say, as the first version.
    #[prost(uint32, tag = "3")]
    pub format: u32,
}

/// `E/`: who may pull a group of shards.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LeaseRow {
    /// Its node; 0: nobody.
    #[prost(uint32, tag = "1")]
    pub holder: u32,
    /// Grows while it is held.
    #[prost(uint64, tag = "2")]
    pub revision: u64,
}
