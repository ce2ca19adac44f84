//! Values that are valid, to start from.

use bytes::Bytes;
use whimbrel_replication::crdt::text::{Document, RevisionRef};
use whimbrel_replication::cursor::ShardCursor;
use whimbrel_replication::id::{
    ClusterId, ConversationId, Hlc, MessageId, NodeId, OpId, OpStamp, Origin, Position, RegionId,
    Stamp,
};
use whimbrel_replication::link::{Hello, PROTOCOL_MAX, PROTOCOL_MIN};
use whimbrel_replication::op::{Batch, ConversationKind, FORMAT, Op, OpKind, Standing};

pub(crate) const SHARDS: u16 = 2;
pub(crate) const ORIGINAL: &str = "the quick brown fox";
/// Within the drift bound of a node whose wall clock says so.
pub(crate) const NOW_UNIX_MS: i64 = 1_790_000_000_000;

pub(crate) fn cluster() -> ClusterId {
    ClusterId::from_bytes([7; ClusterId::LEN])
}

pub(crate) fn origin(region: u16) -> Origin {
    Origin {
        region: RegionId(region),
        incarnation: 100,
    }
}

pub(crate) fn hello(region: u16) -> Hello {
    Hello {
        cluster: cluster(),
        region: RegionId(region),
        region_name: format!("r{region}"),
        origin: origin(region),
        node: NodeId(9),
        shards: SHARDS,
        protocols: (PROTOCOL_MIN, PROTOCOL_MAX),
        format: FORMAT,
    }
}

/// Whole batches of regions.
pub(crate) fn cursor(entries: &[(u16, u64)]) -> ShardCursor {
    entries
        .iter()
        .map(|(region, at)| (origin(*region), OpStamp::whole(Stamp::new(*at, 0))))
        .collect()
}

pub(crate) fn conversation() -> ConversationId {
    ConversationId::direct("ada", "bob")
}

pub(crate) fn message() -> MessageId {
    MessageId::derive(&conversation(), "ada", "key", ORIGINAL, None, None)
}

pub(crate) fn edit(key: &str, text: &str) -> Bytes {
    let mut document = Document::new(&message(), ORIGINAL);
    let edited = document.edit(&RevisionRef::default(), key, text);
    edited.expect("an edit of the original").1
}

/// One of each kind.
pub(crate) fn kinds() -> Vec<OpKind> {
    let message = message();
    vec![
        OpKind::ConversationCreated {
            kind: ConversationKind::Group,
            title: Some("birds".to_owned()),
            topic: None,
        },
        OpKind::ConversationChanged {
            title: None,
            topic: Some(String::new()),
        },
        OpKind::MemberSet {
            user: "bob".to_owned(),
            standing: Standing::Member,
        },
        OpKind::Posted {
            message,
            text: ORIGINAL.to_owned(),
            reply_to: None,
            sent_at_unix_ms: Some(-5),
        },
        OpKind::Edited {
            message,
            change: edit("a", "the quick red fox"),
        },
        OpKind::Reacted {
            message,
            emoji: "👍".to_owned(),
            present: true,
        },
        OpKind::Read {
            user: "bob".to_owned(),
            marker: cursor(&[(2, 1)]),
        },
        OpKind::Redacted { message },
    ]
}

/// Of region 2, after `number` others.
pub(crate) fn batch(number: u64, kinds: &[OpKind]) -> Batch {
    let op = |(index, kind): (u32, &OpKind)| {
        let hlc = Hlc(Hlc::from_unix_ms(NOW_UNIX_MS).0 + number);
        Op {
            position: Position::new(hlc, RegionId(2), NodeId(index)),
            id: OpId::derive("ada", &format!("{number}.{index}")),
            actor: "ada".to_owned(),
            conversation: conversation(),
            kind: kind.clone(),
            trace: None,
        }
    };
    Batch {
        origin: origin(2),
        node: NodeId(1),
        number: number + 1,
        deps: ShardCursor::new(),
        ops: (0..).zip(kinds).map(op).collect(),
    }
}

/// A protobuf field of bytes, or of a message.
pub(crate) fn field(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    prost::encoding::bytes::encode(tag.into(), &body.to_vec(), &mut out);
    out
}
