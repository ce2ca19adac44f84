use super::message::{edited, places, post};
use super::*;
use crate::crdt::Encoded;
use crate::crdt::member::{Member, Value};
use crate::crdt::message::Message;
use crate::cursor::ShardCursor;
use crate::op::Standing;

/// What the store does at commit.
pub(super) fn filled_in(row: &Encoded, stamp: Stamp) -> Vec<u8> {
    let offset = row.stamp_offset().expect("a stamp is pending");
    let mut bytes = row.bytes.clone();
    assert_eq!(bytes.len(), offset + Stamp::LEN);
    assert_eq!(bytes[offset..], *Stamp::PENDING.as_bytes());
    bytes[offset..].copy_from_slice(stamp.as_bytes());
    bytes
}

fn stamp() -> impl Strategy<Value = Stamp> {
    any::<[u8; Stamp::LEN]>()
        .prop_map(Stamp::from_bytes)
        .prop_filter("pending", |stamp| *stamp != Stamp::PENDING)
}

/// Where an op of a batch that has not committed stands.
fn pending_place() -> impl Strategy<Value = Place> {
    (origin(), any::<u16>()).prop_map(|(origin, index)| Place {
        origin,
        at: OpStamp::new(Stamp::PENDING, index),
    })
}

fn at_stamp(place: Place, stamp: Stamp) -> Place {
    Place {
        at: OpStamp::new(stamp, place.at.index),
        ..place
    }
}

proptest! {
    #[test]
    fn a_message_ends_in_its_pending_stamp(
        places in places(),
        pending in pending_place(),
        position in position(),
        stamp in stamp(),
        is_edited: bool,
        is_redacted: bool,
        reactions in prop::collection::btree_map("\\PC{1,4}", 1_u32.., 0..3),
    ) {
        let with = |place| {
            let mut row = Message { reactions: reactions.clone(), ..Message::default() };
            for (place, position) in &places {
                row.post(*place, *position, post());
            }
            row.post(place, position, post());
            if is_edited {
                row.edit(edited());
            }
            if is_redacted {
                row.redact();
            }
            row
        };
        let bytes = filled_in(&with(pending).encode(), stamp);
        let settled = with(at_stamp(pending, stamp));
        prop_assert_eq!(Message::decode(&bytes), Ok(settled.clone()));
        prop_assert_eq!(settled.encode().stamp_offset(), None);
    }

    /// Of other origins any number of values stand beside the one that is being written.
    #[test]
    fn a_member_ends_in_its_pending_stamp(
        others in prop::collection::btree_map(origin(), (op_stamp(), position()), 0..4),
        pending in pending_place(),
        position in position(),
        stamp in stamp(),
        seen in origin(),
    ) {
        let value = |dot, position| Value { dot, standing: Standing::Admin, position };
        let with = |dot: Place| {
            let mut row = Member::default();
            for (origin, (at, position)) in &others {
                if *origin != dot.origin {
                    row.set(value(Place { origin: *origin, at: *at }, *position), &ShardCursor::new());
                }
            }
            let mut deps = ShardCursor::new();
            if seen != dot.origin {
                deps.advance(seen, OpStamp::whole(Stamp::new(2, 0)));
            }
            row.set(value(dot, position), &deps);
            row
        };
        let bytes = filled_in(&with(pending).encode(), stamp);
        let settled = with(at_stamp(pending, stamp));
        prop_assert_eq!(Member::decode(&bytes), Ok(settled.clone()));
        prop_assert_eq!(settled.encode().stamp_offset(), None);
    }

    /// A user who is set several times in one transaction leaves one pending value: the last.
    #[test]
    fn the_last_of_a_transactions_values_stays(count in 1..5_u16, stamp in stamp()) {
        let origin = origin_number(0);
        let mut row = Member::default();
        for index in 0..count {
            let dot = Place { origin, at: OpStamp::new(Stamp::PENDING, index) };
            let position = Position::new(Hlc(0), RegionId(0), NodeId(index.into()));
            row.set(Value { dot, standing: Standing::Owner, position }, &ShardCursor::new());
        }
        let row = Member::decode(&filled_in(&row.encode(), stamp)).unwrap();
        let last = Place { origin, at: OpStamp::new(stamp, count - 1) };
        prop_assert_eq!(row.value().map(|value| value.dot), Some(last));
    }
}
