//! Protobuf forms of batches, and the helpers that other protobuf forms share. Field numbers are
//! never reused.

use bytes::Bytes;

use crate::cursor::ShardCursor;
use crate::error::DecodeError;
use crate::id::{NodeId, OpStamp, Origin, Stamp};
use crate::op::{self, ConversationKind, OpKind, Standing};

/// An origin and how far it is covered.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CursorEntry {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) origin: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) stamp: Vec<u8>,
    /// Index of the last op that is covered; absent: the whole batch.
    #[prost(uint32, optional, tag = "3")]
    pub(crate) index: Option<u32>,
}

pub(crate) fn cursor_to_wire(cursor: &ShardCursor) -> Vec<CursorEntry> {
    cursor
        .iter()
        .map(|(origin, at)| CursorEntry {
            origin: origin.to_bytes().to_vec(),
            stamp: at.stamp.as_bytes().to_vec(),
            index: (at.index != u16::MAX).then(|| at.index.into()),
        })
        .collect()
}

pub(crate) fn cursor_from_wire(entries: &[CursorEntry]) -> Result<ShardCursor, DecodeError> {
    entries
        .iter()
        .map(|entry| {
            let index = match entry.index {
                None => u16::MAX,
                Some(index) => u16::try_from(index).map_err(|_| DecodeError::Range("index"))?,
            };
            let stamp = Stamp::try_from(entry.stamp.as_slice())?;
            Ok((
                Origin::try_from(entry.origin.as_slice())?,
                OpStamp::new(stamp, index),
            ))
        })
        .collect()
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Batch {
    #[prost(uint32, tag = "1")]
    pub(crate) format: u32,
    #[prost(bytes = "vec", tag = "2")]
    origin: Vec<u8>,
    #[prost(uint32, tag = "3")]
    node: u32,
    #[prost(uint64, tag = "4")]
    number: u64,
    #[prost(message, repeated, tag = "5")]
    deps: Vec<CursorEntry>,
    #[prost(message, repeated, tag = "6")]
    ops: Vec<Op>,
    /// Over all bytes before it; always the last field. Written by [`put_checksum`] only.
    #[prost(fixed64, optional, tag = "15")]
    checksum: Option<u64>,
}

/// The first format whose batches end in a checksum.
pub(crate) const CHECKSUM_FORMAT: u32 = 2;
/// Field 15, eight bytes.
const CHECKSUM_TAG: u8 = 15 << 3 | 1;
const CHECKSUM_BYTES: usize = 9;

/// The first eight bytes of BLAKE3: it finds what disks and memory damage, nobody's bad will.
fn checksum(bytes: &[u8]) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(bytes).as_bytes();
    [a, b, c, d, e, f, g, h]
}

/// Ends an encoded batch with its checksum.
pub(crate) fn put_checksum(bytes: &mut Vec<u8>) {
    let sum = checksum(bytes);
    bytes.push(CHECKSUM_TAG);
    bytes.extend_from_slice(&sum);
}

/// Whether an encoded batch is as it was written.
pub(crate) fn check_checksum(bytes: &[u8]) -> Result<(), DecodeError> {
    match bytes.split_last_chunk::<CHECKSUM_BYTES>() {
        Some((before, [CHECKSUM_TAG, sum @ ..])) if *sum == checksum(before) => Ok(()),
        _ => Err(DecodeError::Checksum),
    }
}

/// What every format of batches has.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct BatchHead {
    #[prost(uint32, tag = "1")]
    pub(crate) format: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Op {
    #[prost(bytes = "vec", tag = "1")]
    position: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    id: Vec<u8>,
    #[prost(string, tag = "3")]
    actor: String,
    #[prost(bytes = "vec", tag = "4")]
    conversation: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "5")]
    trace: Option<Vec<u8>>,
    #[prost(oneof = "Kind", tags = "10, 11, 12, 13, 14, 15, 16, 17")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(message, tag = "10")]
    Created(Created),
    #[prost(message, tag = "11")]
    Changed(Changed),
    #[prost(message, tag = "12")]
    Member(Member),
    #[prost(message, tag = "13")]
    Posted(Posted),
    #[prost(message, tag = "14")]
    Edited(Edited),
    #[prost(message, tag = "15")]
    Redacted(Redacted),
    #[prost(message, tag = "16")]
    Reacted(Reacted),
    #[prost(message, tag = "17")]
    Read(Read),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Created {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(string, optional, tag = "2")]
    title: Option<String>,
    #[prost(string, optional, tag = "3")]
    topic: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Changed {
    #[prost(string, optional, tag = "1")]
    title: Option<String>,
    #[prost(string, optional, tag = "2")]
    topic: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Member {
    #[prost(string, tag = "1")]
    user: String,
    #[prost(uint32, tag = "2")]
    standing: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Posted {
    #[prost(bytes = "vec", tag = "1")]
    message: Vec<u8>,
    #[prost(string, tag = "2")]
    text: String,
    #[prost(bytes = "vec", optional, tag = "3")]
    reply_to: Option<Vec<u8>>,
    #[prost(sint64, optional, tag = "4")]
    sent_at_unix_ms: Option<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Edited {
    #[prost(bytes = "vec", tag = "1")]
    message: Vec<u8>,
    #[prost(bytes = "bytes", tag = "2")]
    change: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Redacted {
    #[prost(bytes = "vec", tag = "1")]
    message: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Reacted {
    #[prost(bytes = "vec", tag = "1")]
    message: Vec<u8>,
    #[prost(string, tag = "2")]
    emoji: String,
    #[prost(bool, tag = "3")]
    present: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Read {
    #[prost(string, tag = "1")]
    user: String,
    #[prost(message, repeated, tag = "2")]
    marker: Vec<CursorEntry>,
}

pub(crate) fn kind_to_wire(kind: ConversationKind) -> u32 {
    match kind {
        ConversationKind::Direct => 1,
        ConversationKind::Group => 2,
        ConversationKind::Channel => 3,
    }
}

pub(crate) fn kind_from_wire(number: u32) -> Result<ConversationKind, DecodeError> {
    match number {
        1 => Ok(ConversationKind::Direct),
        2 => Ok(ConversationKind::Group),
        3 => Ok(ConversationKind::Channel),
        _ => Err(DecodeError::Range("conversation kind")),
    }
}

pub(crate) fn standing_to_wire(standing: Standing) -> u32 {
    match standing {
        Standing::Owner => 1,
        Standing::Admin => 2,
        Standing::Member => 3,
        Standing::Left => 4,
        Standing::Banned => 5,
    }
}

pub(crate) fn standing_from_wire(number: u32) -> Result<Standing, DecodeError> {
    match number {
        1 => Ok(Standing::Owner),
        2 => Ok(Standing::Admin),
        3 => Ok(Standing::Member),
        4 => Ok(Standing::Left),
        5 => Ok(Standing::Banned),
        _ => Err(DecodeError::Range("standing")),
    }
}

impl Batch {
    pub(crate) fn has_checksum(&self) -> bool {
        self.checksum.is_some()
    }

    pub(crate) fn ops_count(&self) -> usize {
        self.ops.len()
    }

    /// Without its checksum.
    pub(crate) fn of(batch: &op::Batch, format: u32) -> Self {
        Self {
            format,
            origin: batch.origin.to_bytes().to_vec(),
            node: batch.node.0,
            number: batch.number,
            deps: cursor_to_wire(&batch.deps),
            ops: batch.ops.iter().map(Op::from).collect(),
            checksum: None,
        }
    }
}

impl From<&op::Op> for Op {
    fn from(op: &op::Op) -> Self {
        let kind = match op.kind.clone() {
            OpKind::ConversationCreated { kind, title, topic } => Kind::Created(Created {
                kind: kind_to_wire(kind),
                title,
                topic,
            }),
            OpKind::ConversationChanged { title, topic } => Kind::Changed(Changed { title, topic }),
            OpKind::MemberSet { user, standing } => Kind::Member(Member {
                user,
                standing: standing_to_wire(standing),
            }),
            OpKind::Posted {
                message,
                text,
                reply_to,
                sent_at_unix_ms,
            } => Kind::Posted(Posted {
                message: message.as_bytes().to_vec(),
                text,
                reply_to: reply_to.map(|id| id.as_bytes().to_vec()),
                sent_at_unix_ms,
            }),
            OpKind::Edited { message, change } => Kind::Edited(Edited {
                message: message.as_bytes().to_vec(),
                change,
            }),
            OpKind::Redacted { message } => Kind::Redacted(Redacted {
                message: message.as_bytes().to_vec(),
            }),
            OpKind::Reacted {
                message,
                emoji,
                present,
            } => Kind::Reacted(Reacted {
                message: message.as_bytes().to_vec(),
                emoji,
                present,
            }),
            OpKind::Read { user, marker } => Kind::Read(Read {
                user,
                marker: cursor_to_wire(&marker),
            }),
        };
        Self {
            position: op.position.as_bytes().to_vec(),
            id: op.id.as_bytes().to_vec(),
            actor: op.actor.clone(),
            conversation: op.conversation.as_bytes().to_vec(),
            trace: op.trace.map(trace_to_wire),
            kind: Some(kind),
        }
    }
}

/// Trace, span, and the flags of W3C Trace Context.
const TRACE_BYTES: usize = 16 + 8 + 1;

fn trace_to_wire(trace: op::Trace) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(TRACE_BYTES);
    bytes.extend_from_slice(&trace.trace.to_be_bytes());
    bytes.extend_from_slice(&trace.span.to_be_bytes());
    bytes.push(trace.is_sampled.into());
    bytes
}

/// One that cannot be read is no reason to stop a log.
fn trace_from_wire(bytes: &[u8]) -> Option<op::Trace> {
    let (trace, rest) = bytes.split_first_chunk()?;
    let (span, rest) = rest.split_first_chunk()?;
    let [flags] = rest else { return None };
    let trace = op::Trace {
        trace: u128::from_be_bytes(*trace),
        span: u64::from_be_bytes(*span),
        is_sampled: flags & 1 == 1,
    };
    (trace.trace != 0 && trace.span != 0).then_some(trace)
}

impl TryFrom<Batch> for op::Batch {
    type Error = DecodeError;
    fn try_from(batch: Batch) -> Result<Self, DecodeError> {
        if batch.format > op::FORMAT {
            return Err(DecodeError::Format(batch.format));
        }
        Ok(Self {
            origin: Origin::try_from(batch.origin.as_slice())?,
            node: NodeId(batch.node),
            number: batch.number,
            deps: cursor_from_wire(&batch.deps)?,
            ops: batch
                .ops
                .into_iter()
                .map(op::Op::try_from)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<Op> for op::Op {
    type Error = DecodeError;
    fn try_from(op: Op) -> Result<Self, DecodeError> {
        let kind = match op.kind.ok_or(DecodeError::Missing("kind"))? {
            Kind::Created(Created { kind, title, topic }) => OpKind::ConversationCreated {
                kind: kind_from_wire(kind)?,
                title,
                topic,
            },
            Kind::Changed(Changed { title, topic }) => OpKind::ConversationChanged { title, topic },
            Kind::Member(Member { user, standing }) => OpKind::MemberSet {
                user,
                standing: standing_from_wire(standing)?,
            },
            Kind::Posted(Posted {
                message,
                text,
                reply_to,
                sent_at_unix_ms,
            }) => OpKind::Posted {
                message: message.as_slice().try_into()?,
                text,
                reply_to: reply_to.map(|id| id.as_slice().try_into()).transpose()?,
                sent_at_unix_ms,
            },
            Kind::Edited(Edited { message, change }) => OpKind::Edited {
                message: message.as_slice().try_into()?,
                change,
            },
            Kind::Redacted(Redacted { message }) => OpKind::Redacted {
                message: message.as_slice().try_into()?,
            },
            Kind::Reacted(Reacted {
                message,
                emoji,
                present,
            }) => OpKind::Reacted {
                message: message.as_slice().try_into()?,
                emoji,
                present,
            },
            Kind::Read(Read { user, marker }) => OpKind::Read {
                user,
                marker: cursor_from_wire(&marker)?,
            },
        };
        Ok(Self {
            position: op.position.as_slice().try_into()?,
            id: op.id.as_slice().try_into()?,
            actor: op.actor,
            conversation: op.conversation.as_slice().try_into()?,
            kind,
            trace: op.trace.as_deref().and_then(trace_from_wire),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ConversationId, Hlc, MessageId, OpId, Position, RegionId};

    fn batch() -> op::Batch {
        let origin = Origin {
            region: RegionId(2),
            incarnation: 7,
        };
        let marker: ShardCursor = [(origin, OpStamp::new(Stamp::new(9, 0), 3))]
            .into_iter()
            .collect();
        let deps = [(origin, OpStamp::whole(Stamp::new(8, 1)))]
            .into_iter()
            .collect();
        let message = MessageId::from_bytes([4; 16]);
        let kinds = [
            OpKind::ConversationCreated {
                kind: ConversationKind::Group,
                title: Some("t".into()),
                topic: None,
            },
            OpKind::ConversationChanged {
                title: None,
                topic: Some(String::new()),
            },
            OpKind::MemberSet {
                user: "ada".into(),
                standing: Standing::Banned,
            },
            OpKind::Posted {
                message,
                text: "zwölf".into(),
                reply_to: Some(message),
                sent_at_unix_ms: Some(-5),
            },
            OpKind::Edited {
                message,
                change: Bytes::from_static(b"change"),
            },
            OpKind::Redacted { message },
            OpKind::Reacted {
                message,
                emoji: "👍".into(),
                present: true,
            },
            OpKind::Read {
                user: "ada".into(),
                marker,
            },
        ];
        let op = |kind| op::Op {
            position: Position::new(Hlc(5), RegionId(1), NodeId(3)),
            id: OpId::derive("ada", "k"),
            actor: "ada".into(),
            conversation: ConversationId::direct("ada", "bob"),
            kind,
            trace: Some(op::Trace {
                trace: 7,
                span: 8,
                is_sampled: true,
            }),
        };
        op::Batch {
            origin,
            node: NodeId(3),
            number: 12,
            deps,
            ops: kinds.map(op).into(),
        }
    }

    #[test]
    fn every_kind_round_trips() {
        let batch = batch();
        for format in op::FORMAT_MIN..=op::FORMAT {
            let bytes = batch.encode(format);
            assert_eq!(op::Batch::format_of(&bytes), Ok(format));
            assert_eq!(op::Batch::decode(&bytes).as_ref(), Ok(&batch));
        }
    }

    #[test]
    fn a_bit_that_flipped_anywhere_is_found() {
        let whole = batch().encode(op::FORMAT);
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(op::Batch::decode(&bytes).is_err(), "bit {bit}");
        }
        let mut longer = whole.to_vec();
        longer.extend_from_slice(&whole[..2]);
        assert!(op::Batch::decode(&longer).is_err());
    }

    /// An older program skips the checksum as a field that it does not know.
    #[test]
    fn formats_differ_in_nothing_else() {
        let (older, newer) = (batch().encode(1), batch().encode(2));
        assert_eq!(newer.len(), older.len() + CHECKSUM_BYTES);
        assert_eq!(newer[2..older.len()], older[2..]);
    }

    #[test]
    fn what_this_program_cannot_know_is_an_error_not_a_skip() {
        let newer = Batch::of(&batch(), op::FORMAT + 1);
        assert_eq!(
            op::Batch::try_from(newer),
            Err(DecodeError::Format(op::FORMAT + 1))
        );
        let mut unknown = Batch::of(&batch(), op::FORMAT);
        unknown.ops[0].kind = None;
        assert_eq!(
            op::Batch::try_from(unknown),
            Err(DecodeError::Missing("kind"))
        );
    }

    /// What is only told never stops a log.
    #[test]
    fn a_trace_that_cannot_be_read_is_left_out() {
        for bad in [vec![], vec![1; TRACE_BYTES - 1], vec![0; TRACE_BYTES]] {
            let mut wire = Batch::of(&batch(), op::FORMAT);
            wire.ops[0].trace = Some(bad);
            let read = op::Batch::try_from(wire).unwrap();
            assert_eq!(read.ops[0].trace, None);
            assert_eq!(read.ops[1], batch().ops[1]);
        }
    }

    #[test]
    fn truncated_batches_never_panic() {
        let bytes = batch().encode(op::FORMAT);
        for end in 0..bytes.len() {
            let _ = op::Batch::decode(&bytes[..end]);
        }
    }
}
