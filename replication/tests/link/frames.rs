//! Frames: what goes out comes in the same, and what is no frame is an error, never a panic.

use bytes::Bytes;
use proptest::prelude::*;
use whimbrel_replication::cursor::{Cursor, ShardCursor};
use whimbrel_replication::id::{ClusterId, NodeId, OpStamp, Origin, RegionId, ShardId, Stamp};
use whimbrel_replication::limits::{FRAME_BYTES_MAX, ORIGINS_MAX, SHARDS_MAX};
use whimbrel_replication::link::{Batches, Frame, Have, Heard, Hello, SnapshotPage};

fn any_stamp() -> impl Strategy<Value = Stamp> {
    any::<[u8; 10]>().prop_map(Stamp::from_bytes)
}

fn any_origin() -> impl Strategy<Value = Origin> {
    any::<[u8; 6]>().prop_map(Origin::from)
}

fn any_shard() -> impl Strategy<Value = ShardId> {
    (0..SHARDS_MAX).prop_map(ShardId)
}

fn any_hello() -> impl Strategy<Value = Hello> {
    let numbers = any::<(u16, u32, u16, u32, u32, u32)>();
    (any::<[u8; 16]>(), any_origin(), "[a-z-]{0,20}", numbers).prop_map(
        |(cluster, origin, region_name, (region, node, shards, min, max, format))| Hello {
            cluster: ClusterId::from_bytes(cluster),
            region: RegionId(region),
            region_name,
            origin,
            node: NodeId(node),
            shards,
            protocols: (min, max),
            format,
        },
    )
}

fn any_cursor() -> impl Strategy<Value = Cursor> {
    let entry = (any_shard(), any_origin(), any_stamp());
    proptest::collection::vec(entry, 0..20).prop_map(|entries| {
        let mut cursor = Cursor::new();
        for (shard, origin, stamp) in entries {
            cursor.advance(shard, origin, OpStamp::whole(stamp));
        }
        cursor
    })
}

fn any_have() -> impl Strategy<Value = Have> {
    let heard = (any_origin(), any_cursor()).prop_map(|(holder, cursor)| Heard { holder, cursor });
    let told = (any::<Option<i64>>(), any::<Option<u32>>(), any::<bool>());
    (any_cursor(), told, proptest::option::of(heard)).prop_map(
        |(cursor, (unix_ms, format, rebuilding), heard)| Have {
            cursor,
            unix_ms,
            format,
            rebuilding,
            heard,
        },
    )
}

fn any_batches() -> impl Strategy<Value = Batches> {
    let stamps = proptest::collection::btree_set(any_stamp(), 2..10);
    (any_shard(), any_origin(), stamps).prop_map(|(shard, origin, stamps)| {
        let mut stamps = stamps.into_iter();
        let from = stamps.next().expect("two at least");
        let batches: Vec<_> = stamps
            .map(|at| (at, Bytes::copy_from_slice(at.as_bytes())))
            .collect();
        Batches {
            shard,
            origin,
            from,
            to: batches.last().expect("one at least").0,
            batches,
        }
    })
}

fn any_page() -> impl Strategy<Value = SnapshotPage> {
    let key = || proptest::collection::vec(any::<u8>(), 1..20);
    let rows = proptest::collection::btree_map(key(), any::<Vec<u8>>(), 0..5);
    let cursors = (any_have(), any_have());
    (any_shard(), rows, cursors, any::<bool>()).prop_map(|(shard, rows, (one, other), more)| {
        let rows: Vec<(Bytes, Bytes)> = rows
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        let of = |have: Have| have.cursor.shard(shard).cloned().unwrap_or_default();
        let last = rows.last().map(|(key, _)| key.clone());
        SnapshotPage {
            shard,
            after: None,
            cursor: of(one),
            reaches: of(other),
            next: last.filter(|_| more),
            rows,
        }
    })
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let place = || (any_shard(), any_origin(), any_stamp());
    prop_oneof![
        any_hello().prop_map(Frame::Hello),
        any_hello().prop_map(Frame::Welcome),
        "[ -~]{0,50}".prop_map(|reason| Frame::Refused { reason }),
        any_have().prop_map(Frame::Have),
        any_batches().prop_map(Frame::Batches),
        place().prop_map(|(shard, origin, from)| Frame::Subscribe {
            shard,
            origin,
            from
        }),
        place().prop_map(|(shard, origin, _)| Frame::Unsubscribe { shard, origin }),
        place().prop_map(|(shard, origin, to)| Frame::Ack { shard, origin, to }),
        place().prop_map(|(shard, origin, floor)| Frame::TooOld {
            shard,
            origin,
            floor
        }),
        (any_shard(), proptest::option::of("[a-z]{1,20}")).prop_map(|(shard, after)| {
            Frame::SnapshotRequest {
                shard,
                after: after.map(Bytes::from),
            }
        }),
        any_page().prop_map(Frame::Snapshot),
    ]
}

proptest! {
    #[test]
    fn frames_round_trip(frame in any_frame()) {
        prop_assert_eq!(Frame::decode(frame.encode()), Ok(frame));
    }

    /// G17.
    #[test]
    fn g17_garbage_is_an_error(bytes in any::<Vec<u8>>()) {
        let _ = Frame::decode(bytes.into());
    }

    /// G17: closer to real frames than pure noise.
    #[test]
    fn g17_broken_frames_are_an_error(
        frame in any_frame(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = frame.encode().to_vec();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes.truncate(cut.index(bytes.len()) + 1);
        }
        let _ = Frame::decode(bytes.into());
    }
}

#[test]
fn g17_over_long_frames_are_refused_unread() {
    assert!(Frame::decode(vec![0; FRAME_BYTES_MAX + 1].into()).is_err());
}

#[test]
fn batches_out_of_order_are_refused() {
    let frame = |stamps: &[u64], from, to| {
        Frame::decode(
            Frame::Batches(Batches {
                shard: ShardId(0),
                origin: Origin::from([0; 6]),
                from: Stamp::new(from, 0),
                to: Stamp::new(to, 0),
                batches: stamps
                    .iter()
                    .map(|n| (Stamp::new(*n, 0), Bytes::new()))
                    .collect(),
            })
            .encode(),
        )
    };
    assert!(frame(&[2, 3], 1, 4).is_ok());
    assert!(frame(&[], 1, 4).is_ok());
    assert!(frame(&[1, 3], 1, 4).is_err());
    assert!(frame(&[3, 2], 1, 4).is_err());
    assert!(frame(&[2, 2], 1, 4).is_err());
    assert!(frame(&[5], 1, 4).is_err());
    assert!(frame(&[], 2, 1).is_err());
}

/// The largest cursor that the limits allow fits into one frame.
#[test]
fn a_full_have_fits() {
    let part: ShardCursor = (0..ORIGINS_MAX)
        .map(|n| {
            let origin = Origin {
                region: RegionId(u16::MAX),
                incarnation: u32::MAX - n as u32,
            };
            (origin, OpStamp::whole(Stamp::MAX))
        })
        .collect();
    let cursor: Cursor = (0..SHARDS_MAX)
        .map(|s| (ShardId(s), part.clone()))
        .collect();
    let unix_ms = Some(i64::MIN);
    assert!(
        Frame::Have(Have {
            cursor,
            unix_ms,
            format: Some(u32::MAX),
            rebuilding: true,
            ..Have::default()
        })
        .encode()
        .len()
            <= FRAME_BYTES_MAX
    );
}

/// G17: a small batch in a large frame must not hold the frame's memory.
#[test]
fn g17_batches_do_not_hold_their_frame() {
    let batches = vec![(Stamp::new(1, 0), Bytes::from_static(b"batch"))];
    let bytes = Frame::Batches(Batches {
        shard: ShardId(0),
        origin: Origin::from([0; 6]),
        from: Stamp::MIN,
        to: Stamp::new(1, 0),
        batches,
    })
    .encode();
    let Ok(Frame::Batches(read)) = Frame::decode(bytes.clone()) else {
        panic!("it is a frame");
    };
    let held = read.batches[0].1.as_ptr();
    assert!(!bytes.as_ptr_range().contains(&held));
}
