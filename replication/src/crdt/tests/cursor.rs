use std::collections::BTreeMap;

use super::*;
use crate::cursor::ShardCursor;
use crate::id::{ConversationId, OpId};
use crate::op::{Batch, FORMAT, Op, OpKind};

impl Row for ShardCursor {
    type Op = Place;

    fn take(&mut self, op: &Place) {
        self.advance(op.origin, op.at);
    }

    fn join(&mut self, other: Self) {
        Self::join(self, &other);
    }

    /// As a receipt travels.
    fn stored(&self) -> Self {
        let op = Op {
            position: Position::MIN,
            id: OpId::MIN,
            actor: "ada".into(),
            conversation: ConversationId::MIN,
            kind: OpKind::Read {
                user: "ada".into(),
                marker: self.clone(),
            },
            trace: None,
        };
        let batch = Batch {
            origin: origin_number(0),
            node: NodeId(1),
            number: 1,
            deps: self.clone(),
            ops: vec![op],
        };
        let read = Batch::decode(&batch.encode(FORMAT)).unwrap();
        match &read.ops[0].kind {
            OpKind::Read { marker, .. } if *marker == read.deps => marker.clone(),
            other => panic!("a receipt came back as {other:?}"),
        }
    }
}

/// As markers are stored: a key per origin, of whose values the store keeps the larger bytes.
fn byte_max<'a>(places: impl IntoIterator<Item = &'a Place>) -> BTreeMap<Origin, Vec<u8>> {
    let mut rows = BTreeMap::<Origin, Vec<u8>>::new();
    for place in places {
        let row = rows.entry(place.origin).or_default();
        *row = std::mem::take(row).max(place.at.to_bytes().to_vec());
    }
    rows
}

proptest! {
    #[test]
    fn a_marker_covers_what_it_took_and_all_before_it_and_no_more(
        ops in prop::collection::vec(place(), 0..=OPS_MAX),
        probe in place(),
        deliveries in deliveries(),
    ) {
        check_laws::<ShardCursor>(&ops, &deliveries, |row, ops| {
            let covered = |op: &Place| op.origin == probe.origin && op.at >= probe.at;
            prop_assert_eq!(row.covers(&probe), ops.iter().any(|op| covered(op)));
            let rows = row.iter().map(|(origin, at)| (origin, at.to_bytes().to_vec()));
            prop_assert_eq!(rows.collect::<BTreeMap<_, _>>(), byte_max(ops.iter().copied()));
            Ok(())
        })?;
    }

    #[test]
    fn a_join_never_takes_back(
        ops in prop::collection::vec(place(), 0..=OPS_MAX),
        others in prop::collection::vec(place(), 0..=OPS_MAX),
    ) {
        let before = ShardCursor::of(&ops);
        let after = before.joined(&ShardCursor::of(&others));
        prop_assert!(after.covers_all(&before));
    }
}
