//! What two regions say to each other. Frames are protobuf; field numbers are never reused.

use bytes::Bytes;
use prost::Message as _;

use crate::cursor::{Cursor, ShardCursor};
use crate::error::DecodeError;
use crate::id::{ClusterId, NodeId, Origin, RegionId, ShardId, Stamp};
use crate::limits::{
    FRAME_BYTES_MAX, ORIGINS_MAX, PEER_TEXT_BYTES_MAX, QUESTION_BYTES_MAX, SHARDS_MAX,
    SNAPSHOT_KEY_BYTES_MAX,
};
use crate::wire::{self, CursorEntry};

use super::SnapshotPage;

/// The oldest protocol that this program speaks.
pub const PROTOCOL_MIN: u32 = 1;
/// The newest protocol that this program speaks. Both sides use the smaller of their newest.
pub const PROTOCOL_MAX: u32 = 3;

/// One frame. Who lacks, pulls: the side that dialled subscribes, the other side serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// First frame of the side that dialled.
    Hello(Hello),
    /// The answer, if all that Hello says fits.
    Welcome(Hello),
    /// The answer, if it does not; the link is closed after it.
    Refused {
        /// In words, for the operator.
        reason: String,
    },
    /// What the sender has committed.
    Have(Have),
    /// Stream me this log after `from`. Replaces an earlier subscription to the same log. The
    /// sender has committed everything up to `from`.
    Subscribe {
        /// Shard of the log.
        shard: ShardId,
        /// Origin of the log.
        origin: Origin,
        /// Exclusive.
        from: Stamp,
    },
    /// Send no more of this log.
    Unsubscribe {
        /// Shard of the log.
        shard: ShardId,
        /// Origin of the log.
        origin: Origin,
    },
    /// A piece of a log.
    Batches(Batches),
    /// Everything up to `to` is committed by the sender, on disk.
    Ack {
        /// Shard of the log.
        shard: ShardId,
        /// Origin of the log.
        origin: Origin,
        /// Inclusive.
        to: Stamp,
    },
    /// The log was trimmed up to `floor`, past what was asked for; the subscription is gone.
    TooOld {
        /// Shard of the log.
        shard: ShardId,
        /// Origin of the log.
        origin: Origin,
        /// Everything up to here is gone, inclusive.
        floor: Stamp,
    },
    /// Send me a page of this shard's state. Since protocol 2.
    SnapshotRequest {
        /// Shard of the state.
        shard: ShardId,
        /// The page begins after this key; `None`: at the first.
        after: Option<Bytes>,
    },
    /// A page of a shard's state. Since protocol 2.
    Snapshot(SnapshotPage),
    /// Something that the nodes at both ends understand. Since protocol 3.
    Question {
        /// Of this link, never used again.
        id: u64,
        /// At most [`QUESTION_BYTES_MAX`].
        question: Bytes,
    },
    /// Answers a question. Since protocol 3.
    Answer {
        /// As asked.
        id: u64,
        /// At most [`QUESTION_BYTES_MAX`]; `None` where it cannot be answered, or not now.
        answer: Option<Bytes>,
    },
}

/// Who somebody is and what they speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The cluster that they belong to.
    pub cluster: ClusterId,
    /// Their region.
    pub region: RegionId,
    /// Their region's name.
    pub region_name: String,
    /// Their store's current life.
    pub origin: Origin,
    /// The node that speaks.
    pub node: NodeId,
    /// The cluster's shard count.
    pub shards: u16,
    /// The oldest and the newest protocol that they speak, inclusive.
    pub protocols: (u32, u32),
    /// The newest format of batches that all nodes of their region read.
    pub format: u32,
}

/// What a region has committed; or, where `heard` is there, what a third one has, and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Have {
    /// Whole batches only. Logs that it does not name have not changed.
    pub cursor: Cursor,
    /// The sender's wall clock, in Unix milliseconds; `None` if it was not told.
    pub unix_ms: Option<i64>,
    /// The newest format of batches that all nodes of the sender's region read; `None` if it was not told.
    pub format: Option<u32>,
    /// The sender serves nobody yet: it is new, or built anew.
    pub rebuilding: bool,
    /// What the sender knows of a third region.
    pub heard: Option<Heard>,
}

/// What a region has told its peer that it holds of the log of a third one, to which its link may be cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The life of the store that holds it.
    pub holder: Origin,
    /// The receiver's own logs only.
    pub cursor: Cursor,
}

/// All batches of a log in the half-open interval `(from, to]`, in order. It may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batches {
    /// Shard of the log.
    pub shard: ShardId,
    /// Origin of the log.
    pub origin: Origin,
    /// Exclusive.
    pub from: Stamp,
    /// Inclusive.
    pub to: Stamp,
    /// Stamps and encoded batches.
    pub batches: Vec<(Stamp, Bytes)>,
}

impl Frame {
    /// Its name in logs and reasons.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "Hello",
            Self::Welcome(_) => "Welcome",
            Self::Refused { .. } => "Refused",
            Self::Have(_) => "Have",
            Self::Subscribe { .. } => "Subscribe",
            Self::Unsubscribe { .. } => "Unsubscribe",
            Self::Batches(_) => "Batches",
            Self::Ack { .. } => "Ack",
            Self::TooOld { .. } => "TooOld",
            Self::SnapshotRequest { .. } => "SnapshotRequest",
            Self::Snapshot(_) => "Snapshot",
            Self::Question { .. } => "Question",
            Self::Answer { .. } => "Answer",
        }
    }

    /// As it goes over a link, without the length in front.
    pub fn encode(&self) -> Bytes {
        FrameWire {
            kind: Some(self.into()),
        }
        .encode_to_vec()
        .into()
    }

    /// Reads a frame of at most [`FRAME_BYTES_MAX`] bytes. Keeps nothing of their memory.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        if bytes.len() > FRAME_BYTES_MAX {
            return Err(DecodeError::Range("frame"));
        }
        FrameWire::decode(bytes)?
            .kind
            .ok_or(DecodeError::Missing("frame"))?
            .try_into()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct FrameWire {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(message, tag = "1")]
    Hello(HelloWire),
    #[prost(message, tag = "2")]
    Welcome(HelloWire),
    #[prost(string, tag = "3")]
    Refused(String),
    #[prost(message, tag = "4")]
    Have(HaveWire),
    #[prost(message, tag = "5")]
    Subscribe(PlaceWire),
    #[prost(message, tag = "6")]
    Unsubscribe(PlaceWire),
    #[prost(message, tag = "7")]
    Batches(BatchesWire),
    #[prost(message, tag = "8")]
    Ack(PlaceWire),
    #[prost(message, tag = "9")]
    TooOld(PlaceWire),
    #[prost(message, tag = "10")]
    SnapshotRequest(SnapshotRequestWire),
    #[prost(message, tag = "11")]
    Snapshot(SnapshotWire),
    #[prost(message, tag = "12")]
    Question(QuestionWire),
    #[prost(message, tag = "13")]
    Answer(QuestionWire),
}

#[derive(Clone, PartialEq, prost::Message)]
struct HelloWire {
    #[prost(bytes = "vec", tag = "1")]
    cluster: Vec<u8>,
    #[prost(uint32, tag = "2")]
    region: u32,
    #[prost(string, tag = "3")]
    region_name: String,
    #[prost(bytes = "vec", tag = "4")]
    origin: Vec<u8>,
    #[prost(uint32, tag = "5")]
    node: u32,
    #[prost(uint32, tag = "6")]
    shards: u32,
    #[prost(uint32, tag = "7")]
    protocol_min: u32,
    #[prost(uint32, tag = "8")]
    protocol_max: u32,
    #[prost(uint32, tag = "9")]
    format: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HaveWire {
    #[prost(message, repeated, tag = "1")]
    shards: Vec<ShardWire>,
    #[prost(sint64, optional, tag = "2")]
    unix_ms: Option<i64>,
    #[prost(uint32, optional, tag = "3")]
    format: Option<u32>,
    #[prost(message, optional, tag = "4")]
    heard: Option<HeardWire>,
    #[prost(bool, tag = "5")]
    rebuilding: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HeardWire {
    #[prost(bytes = "vec", tag = "1")]
    holder: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    shards: Vec<ShardWire>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ShardWire {
    #[prost(uint32, tag = "1")]
    shard: u32,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<CursorEntry>,
}

/// A log and a stamp in it.
#[derive(Clone, PartialEq, prost::Message)]
struct PlaceWire {
    #[prost(uint32, tag = "1")]
    shard: u32,
    #[prost(bytes = "vec", tag = "2")]
    origin: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    stamp: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct BatchesWire {
    #[prost(uint32, tag = "1")]
    shard: u32,
    #[prost(bytes = "vec", tag = "2")]
    origin: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    from: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    to: Vec<u8>,
    #[prost(message, repeated, tag = "5")]
    batches: Vec<BatchWire>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct BatchWire {
    #[prost(bytes = "vec", tag = "1")]
    stamp: Vec<u8>,
    #[prost(bytes = "bytes", tag = "2")]
    bytes: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SnapshotRequestWire {
    #[prost(uint32, tag = "1")]
    shard: u32,
    #[prost(bytes = "bytes", optional, tag = "2")]
    after: Option<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SnapshotWire {
    #[prost(uint32, tag = "1")]
    shard: u32,
    #[prost(bytes = "bytes", optional, tag = "2")]
    after: Option<Bytes>,
    #[prost(message, repeated, tag = "3")]
    cursor: Vec<CursorEntry>,
    #[prost(message, repeated, tag = "4")]
    rows: Vec<RowWire>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    next: Option<Bytes>,
    #[prost(message, repeated, tag = "6")]
    reaches: Vec<CursorEntry>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct QuestionWire {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(bytes = "bytes", optional, tag = "2")]
    body: Option<Bytes>,
}

impl QuestionWire {
    fn checked(self) -> Result<(u64, Option<Bytes>), DecodeError> {
        if self
            .body
            .as_ref()
            .is_some_and(|b| b.len() > QUESTION_BYTES_MAX)
        {
            return Err(DecodeError::Range("question or answer"));
        }
        let body = self.body.map(|body| Bytes::copy_from_slice(&body));
        Ok((self.id, body))
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct RowWire {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

impl From<&Frame> for Kind {
    fn from(frame: &Frame) -> Self {
        match frame {
            Frame::Hello(hello) => Self::Hello(hello.into()),
            Frame::Welcome(hello) => Self::Welcome(hello.into()),
            Frame::Refused { reason } => Self::Refused(reason.clone()),
            Frame::Have(have) => Self::Have(have.into()),
            Frame::Subscribe {
                shard,
                origin,
                from,
            } => Self::Subscribe(PlaceWire::new(*shard, *origin, Some(from))),
            Frame::Unsubscribe { shard, origin } => {
                Self::Unsubscribe(PlaceWire::new(*shard, *origin, None))
            }
            Frame::Batches(batches) => Self::Batches(batches.into()),
            Frame::Ack { shard, origin, to } => {
                Self::Ack(PlaceWire::new(*shard, *origin, Some(to)))
            }
            Frame::TooOld {
                shard,
                origin,
                floor,
            } => Self::TooOld(PlaceWire::new(*shard, *origin, Some(floor))),
            Frame::SnapshotRequest { shard, after } => Self::SnapshotRequest(SnapshotRequestWire {
                shard: shard.0.into(),
                after: after.clone(),
            }),
            Frame::Snapshot(page) => Self::Snapshot(page.into()),
            Frame::Question { id, question } => Self::Question(QuestionWire {
                id: *id,
                body: Some(question.clone()),
            }),
            Frame::Answer { id, answer } => Self::Answer(QuestionWire {
                id: *id,
                body: answer.clone(),
            }),
        }
    }
}

impl TryFrom<Kind> for Frame {
    type Error = DecodeError;
    fn try_from(kind: Kind) -> Result<Self, DecodeError> {
        Ok(match kind {
            Kind::Hello(hello) => Self::Hello(hello.try_into()?),
            Kind::Welcome(hello) => Self::Welcome(hello.try_into()?),
            Kind::Refused(reason) => Self::Refused {
                reason: plain_text(&reason),
            },
            Kind::Have(have) => Self::Have(have.try_into()?),
            Kind::Subscribe(place) => {
                let (shard, origin) = place.log()?;
                let from = place.stamp()?;
                Self::Subscribe {
                    shard,
                    origin,
                    from,
                }
            }
            Kind::Unsubscribe(place) => {
                let (shard, origin) = place.log()?;
                Self::Unsubscribe { shard, origin }
            }
            Kind::Batches(batches) => Self::Batches(batches.try_into()?),
            Kind::Ack(place) => {
                let (shard, origin) = place.log()?;
                let to = place.stamp()?;
                Self::Ack { shard, origin, to }
            }
            Kind::SnapshotRequest(request) => Self::SnapshotRequest {
                shard: shard_from_wire(request.shard)?,
                after: request.after.as_deref().map(snapshot_key).transpose()?,
            },
            Kind::Snapshot(page) => Self::Snapshot(page.try_into()?),
            Kind::Question(wire) => {
                let (id, body) = wire.checked()?;
                let question = body.ok_or(DecodeError::Missing("question"))?;
                Self::Question { id, question }
            }
            Kind::Answer(wire) => {
                let (id, answer) = wire.checked()?;
                Self::Answer { id, answer }
            }
            Kind::TooOld(place) => {
                let (shard, origin) = place.log()?;
                let floor = place.stamp()?;
                Self::TooOld {
                    shard,
                    origin,
                    floor,
                }
            }
        })
    }
}

impl From<&SnapshotPage> for SnapshotWire {
    fn from(page: &SnapshotPage) -> Self {
        let row = |(key, value): &(Bytes, Bytes)| RowWire {
            key: key.clone(),
            value: value.clone(),
        };
        Self {
            shard: page.shard.0.into(),
            after: page.after.clone(),
            cursor: wire::cursor_to_wire(&page.cursor),
            rows: page.rows.iter().map(row).collect(),
            next: page.next.clone(),
            reaches: wire::cursor_to_wire(&page.reaches),
        }
    }
}

impl TryFrom<SnapshotWire> for SnapshotPage {
    type Error = DecodeError;
    fn try_from(wire: SnapshotWire) -> Result<Self, DecodeError> {
        if wire.cursor.len().max(wire.reaches.len()) > ORIGINS_MAX {
            return Err(DecodeError::Range("origins of a shard"));
        }
        let after = wire.after.as_deref().map(snapshot_key).transpose()?;
        let mut last = after.clone().unwrap_or_default();
        let mut rows = Vec::with_capacity(wire.rows.len());
        for row in wire.rows {
            let key = snapshot_key(&row.key)?;
            if key <= last {
                return Err(DecodeError::Range("order of keys"));
            }
            last = key.clone();
            rows.push((key, Bytes::copy_from_slice(&row.value)));
        }
        let next = wire.next.as_deref().map(snapshot_key).transpose()?;
        // Each page goes on, or the snapshot would never end.
        if next
            .as_ref()
            .is_some_and(|next| *next < last || Some(next) == after.as_ref())
        {
            return Err(DecodeError::Range("next key"));
        }
        Ok(Self {
            shard: shard_from_wire(wire.shard)?,
            after,
            cursor: wire::cursor_from_wire(&wire.cursor)?,
            reaches: wire::cursor_from_wire(&wire.reaches)?,
            rows,
            next,
        })
    }
}

/// A copy: a slice would keep its whole frame alive.
fn snapshot_key(key: &[u8]) -> Result<Bytes, DecodeError> {
    if key.is_empty() || key.len() > SNAPSHOT_KEY_BYTES_MAX {
        return Err(DecodeError::Range("key of a snapshot"));
    }
    Ok(Bytes::copy_from_slice(key))
}

impl From<&Hello> for HelloWire {
    fn from(hello: &Hello) -> Self {
        Self {
            cluster: hello.cluster.as_bytes().to_vec(),
            region: hello.region.0.into(),
            region_name: hello.region_name.clone(),
            origin: hello.origin.to_bytes().to_vec(),
            node: hello.node.0,
            shards: hello.shards.into(),
            protocol_min: hello.protocols.0,
            protocol_max: hello.protocols.1,
            format: hello.format,
        }
    }
}

impl TryFrom<HelloWire> for Hello {
    type Error = DecodeError;
    fn try_from(hello: HelloWire) -> Result<Self, DecodeError> {
        Ok(Self {
            cluster: hello.cluster.as_slice().try_into()?,
            region: RegionId(
                u16::try_from(hello.region).map_err(|_| DecodeError::Range("region"))?,
            ),
            region_name: plain_text(&hello.region_name),
            origin: hello.origin.as_slice().try_into()?,
            node: NodeId(hello.node),
            shards: u16::try_from(hello.shards).map_err(|_| DecodeError::Range("shards"))?,
            protocols: (hello.protocol_min, hello.protocol_max),
            format: hello.format,
        })
    }
}

impl From<&Have> for HaveWire {
    fn from(have: &Have) -> Self {
        Self {
            shards: shards_to_wire(&have.cursor),
            unix_ms: have.unix_ms,
            format: have.format,
            rebuilding: have.rebuilding,
            heard: have.heard.as_ref().map(|heard| HeardWire {
                holder: heard.holder.to_bytes().to_vec(),
                shards: shards_to_wire(&heard.cursor),
            }),
        }
    }
}

impl TryFrom<HaveWire> for Have {
    type Error = DecodeError;
    fn try_from(have: HaveWire) -> Result<Self, DecodeError> {
        let heard = |heard: HeardWire| -> Result<Heard, DecodeError> {
            Ok(Heard {
                holder: Origin::try_from(heard.holder.as_slice())?,
                cursor: shards_from_wire(heard.shards)?,
            })
        };
        Ok(Self {
            cursor: shards_from_wire(have.shards)?,
            unix_ms: have.unix_ms,
            format: have.format,
            rebuilding: have.rebuilding,
            heard: have.heard.map(heard).transpose()?,
        })
    }
}

fn shards_to_wire(cursor: &Cursor) -> Vec<ShardWire> {
    let shards = cursor.iter().map(|(shard, cursor)| ShardWire {
        shard: shard.0.into(),
        entries: wire::cursor_to_wire(cursor),
    });
    shards.collect()
}

fn shards_from_wire(shards: Vec<ShardWire>) -> Result<Cursor, DecodeError> {
    let shard = |part: ShardWire| -> Result<(ShardId, ShardCursor), DecodeError> {
        if part.entries.len() > ORIGINS_MAX {
            return Err(DecodeError::Range("origins of a shard"));
        }
        Ok((
            shard_from_wire(part.shard)?,
            wire::cursor_from_wire(&part.entries)?,
        ))
    };
    shards.into_iter().map(shard).collect()
}

impl From<&Batches> for BatchesWire {
    fn from(batches: &Batches) -> Self {
        Self {
            shard: batches.shard.0.into(),
            origin: batches.origin.to_bytes().to_vec(),
            from: batches.from.as_bytes().to_vec(),
            to: batches.to.as_bytes().to_vec(),
            batches: batches
                .batches
                .iter()
                .map(|(stamp, bytes)| BatchWire {
                    stamp: stamp.as_bytes().to_vec(),
                    bytes: bytes.clone(),
                })
                .collect(),
        }
    }
}

impl TryFrom<BatchesWire> for Batches {
    type Error = DecodeError;
    fn try_from(wire: BatchesWire) -> Result<Self, DecodeError> {
        let from = Stamp::try_from(wire.from.as_slice())?;
        let to = Stamp::try_from(wire.to.as_slice())?;
        if from > to {
            return Err(DecodeError::Range("interval"));
        }
        let mut last = from;
        let mut batches = Vec::with_capacity(wire.batches.len());
        for batch in wire.batches {
            let stamp = Stamp::try_from(batch.stamp.as_slice())?;
            if stamp <= last || stamp > to {
                return Err(DecodeError::Range("order of stamps"));
            }
            last = stamp;
            // A copy: a slice would keep its whole frame alive, of which we only count the batch.
            batches.push((stamp, Bytes::copy_from_slice(&batch.bytes)));
        }
        Ok(Self {
            shard: shard_from_wire(wire.shard)?,
            origin: wire.origin.as_slice().try_into()?,
            from,
            to,
            batches,
        })
    }
}

impl PlaceWire {
    fn new(shard: ShardId, origin: Origin, stamp: Option<&Stamp>) -> Self {
        Self {
            shard: shard.0.into(),
            origin: origin.to_bytes().to_vec(),
            stamp: stamp.map_or_else(Vec::new, |stamp| stamp.as_bytes().to_vec()),
        }
    }

    fn log(&self) -> Result<(ShardId, Origin), DecodeError> {
        Ok((
            shard_from_wire(self.shard)?,
            self.origin.as_slice().try_into()?,
        ))
    }

    fn stamp(&self) -> Result<Stamp, DecodeError> {
        self.stamp.as_slice().try_into()
    }
}

fn shard_from_wire(shard: u32) -> Result<ShardId, DecodeError> {
    u16::try_from(shard)
        .ok()
        .filter(|shard| *shard < SHARDS_MAX)
        .map(ShardId)
        .ok_or(DecodeError::Range("shard"))
}

/// A peer's words end up in our log: short, and on one line.
fn plain_text(text: &str) -> String {
    let mut end = text.len().min(PEER_TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace(char::is_control, " ")
}
