//! Frames of a peer.

use bytes::Bytes;
use whimbrel_replication::cursor::{Cursor, ShardCursor};
use whimbrel_replication::id::{OpStamp, Origin, ShardId, Stamp};
use whimbrel_replication::limits::{FRAME_BYTES_MAX, ORIGINS_MAX, SHARDS_MAX};
use whimbrel_replication::link::{Batches, Frame, Have, Heard, SnapshotPage};
use whimbrel_replication::op::FORMAT_MIN;

use super::memory::Bounds;
use super::sample;

/// Two bytes on the wire can be one empty message of a list, whose form in memory has 56; a list
/// that grows is held twice for a moment.
const BOUNDS: Bounds = Bounds {
    least: 64 * 1024,
    each: 128,
    work: 8,
};

pub(crate) fn run(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    let Ok(frame) = BOUNDS.hold(input.len(), || Frame::decode(bytes)) else {
        return;
    };
    assert!(input.len() <= FRAME_BYTES_MAX);
    assert_eq!(Frame::decode(frame.encode()).as_ref(), Ok(&frame));
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let place = (ShardId(0), sample::origin(2));
    let (shard, origin) = place;
    let mut frames = vec![
        Frame::Hello(sample::hello(2)),
        Frame::Welcome(sample::hello(2)),
        Frame::Refused {
            reason: "no\nand no".to_owned(),
        },
        Frame::Have(Have {
            cursor: Cursor::of(shard, sample::cursor(&[(2, 5), (3, 9)])),
            unix_ms: Some(-1),
            heard: Some(Heard {
                holder: sample::origin(3),
                cursor: Cursor::of(shard, sample::cursor(&[(1, 5)])),
            }),
            ..Have::default()
        }),
        Frame::Subscribe {
            shard,
            origin,
            from: Stamp::MIN,
        },
        Frame::Unsubscribe { shard, origin },
        Frame::Ack {
            shard,
            origin,
            to: Stamp::MAX,
        },
        Frame::TooOld {
            shard,
            origin,
            floor: Stamp::new(7, 0),
        },
        Frame::SnapshotRequest {
            shard,
            after: Some(Bytes::from_static(b"key")),
        },
        Frame::Snapshot(SnapshotPage {
            shard,
            after: None,
            cursor: sample::cursor(&[(2, 5)]),
            reaches: sample::cursor(&[(2, 5), (3, 9)]),
            rows: vec![(Bytes::from_static(b"key"), Bytes::from_static(b"value"))],
            next: Some(Bytes::from_static(b"key")),
        }),
        Frame::Question {
            id: 7,
            question: Bytes::from_static(b"question"),
        },
        Frame::Answer {
            id: 7,
            answer: Some(Bytes::from_static(b"answer")),
        },
        Frame::Answer {
            id: 8,
            answer: None,
        },
    ];
    let batches = [1, 2, 4].map(|n| (Stamp::new(n, 0), sample::batch(0, &[]).encode(FORMAT_MIN)));
    frames.push(Frame::Batches(Batches {
        shard,
        origin,
        from: Stamp::MIN,
        to: Stamp::new(9, 0),
        batches: batches.to_vec(),
    }));
    frames.push(Frame::Have(Have {
        cursor: (0..SHARDS_MAX)
            .map(|shard| (ShardId(shard), full()))
            .collect(),
        ..Have::default()
    }));
    let mut seeds: Vec<Vec<u8>> = frames.iter().map(|f| f.encode().to_vec()).collect();
    seeds.extend(hostile());
    seeds
}

fn full() -> ShardCursor {
    (0..ORIGINS_MAX as u32)
        .map(|incarnation| {
            let origin = Origin {
                incarnation,
                ..sample::origin(2)
            };
            (origin, OpStamp::whole(Stamp::MAX))
        })
        .collect()
}

/// Lists that count more than they hold, or that hold nothing as often as a frame allows.
fn hostile() -> Vec<Vec<u8>> {
    const HAVE: u8 = 4;
    const BATCHES: u8 = 7;
    let many = |tag: u8| [tag << 3 | 2, 0].repeat((FRAME_BYTES_MAX - 8) / 2);
    vec![
        vec![HAVE << 3 | 2, 0xff, 0xff, 0xff, 0xff, 0x0f],
        vec![
            BATCHES << 3 | 2,
            0xff,
            0xff,
            0xff,
            0xff,
            0xff,
            0xff,
            0xff,
            0xff,
            0xff,
            1,
        ],
        sample::field(HAVE, &many(1)),
        sample::field(HAVE, &sample::field(1, &many(2))),
        sample::field(BATCHES, &many(5)),
        // Groups within groups: nothing of ours has any.
        vec![0x0b; 4096],
        vec![0; FRAME_BYTES_MAX + 1],
    ]
}
