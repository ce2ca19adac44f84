//! The laws of every merge, checked on rows that are stored and read back after each step. A
//! failure prints its input and a `cc` line; that line in `proptest-regressions/` replays it.

/// Title, topic, and who made a conversation.
mod conversation;
/// Read markers.
mod cursor;
/// Standings, over histories in which regions see each other's writes late.
mod member;
/// Places, redactions, and what is derived from edits and reactions.
mod message;
/// Stamps that the store fills in at commit.
mod pending;
/// The last-writer-wins rows: registers and reactions.
mod register;

use std::fmt::{self, Debug};

use proptest::prelude::*;
use proptest::sample::SizeRange;

use crate::id::{Hlc, NodeId, OpStamp, Origin, Place, Position, RegionId, Stamp};

/// A row that takes ops, joins other rows, and is stored.
trait Row: Clone + Debug + Default + PartialEq {
    type Op: Debug;

    fn take(&mut self, op: &Self::Op);
    fn join(&mut self, other: Self);
    /// Encoded and decoded.
    fn stored(&self) -> Self;

    fn of<'a>(ops: impl IntoIterator<Item = &'a Self::Op>) -> Self
    where
        Self::Op: 'a,
    {
        ops.into_iter().fold(Self::default(), |mut row, op| {
            row.take(op);
            row.stored()
        })
    }

    fn joined(&self, other: &Self) -> Self {
        let mut row = self.clone();
        row.join(other.clone());
        row.stored()
    }
}

/// When one op reaches the replica that takes all ops, and which of three others hold it at all.
#[derive(Clone)]
struct Delivery {
    arrivals: Vec<u16>,
    held_by: [bool; 3],
}

/// On one line, also where a failing input is printed at length.
impl Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { arrivals, held_by } = self;
        write!(f, "arrives at {arrivals:?}, held by {held_by:?}")
    }
}

const OPS_MAX: usize = 24;

fn deliveries() -> impl Strategy<Value = Vec<Delivery>> {
    let delivery = (
        prop::collection::vec(any::<u16>(), 1..4),
        any::<[bool; 3]>(),
    )
        .prop_map(|(arrivals, held_by)| Delivery { arrivals, held_by });
    prop::collection::vec(delivery, OPS_MAX)
}

/// `expected` says from a set of ops alone whether a row is right.
fn check_laws<R: Row>(
    ops: &[R::Op],
    deliveries: &[Delivery],
    expected: impl Fn(&R, &[&R::Op]) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    assert!(ops.len() <= deliveries.len(), "every op has a delivery");
    let all: Vec<&R::Op> = ops.iter().collect();
    let sent = R::of(all.iter().copied());
    prop_assert_eq!(&sent.stored(), &sent, "stored");
    expected(&sent, &all)?;

    let mut arriving: Vec<(u16, &R::Op)> = Vec::new();
    for (op, delivery) in ops.iter().zip(deliveries) {
        arriving.extend(delivery.arrivals.iter().map(|at| (*at, op)));
    }
    arriving.sort_by_key(|(at, _)| *at);
    let arrived = R::of(arriving.into_iter().map(|(_, op)| op));
    prop_assert_eq!(&arrived, &sent, "any order, any number of times");

    let held_by = |replicas: &[usize]| -> Vec<&R::Op> {
        let held = |delivery: &Delivery| replicas.iter().any(|r| delivery.held_by[*r]);
        let ops = ops.iter().zip(deliveries);
        ops.filter(|(_, d)| held(d)).map(|(op, _)| op).collect()
    };
    let [a, b, c] = [0, 1, 2].map(|replica| R::of(held_by(&[replica])));
    expected(&a, &held_by(&[0]))?;
    prop_assert_eq!(&a.joined(&b), &b.joined(&a), "commutative");
    prop_assert_eq!(
        &a.joined(&b).joined(&c),
        &a.joined(&b.joined(&c)),
        "associative"
    );
    prop_assert_eq!(&a.joined(&a), &a, "idempotent");
    prop_assert_eq!(&a.joined(&R::default()), &a, "an empty row adds nothing");
    prop_assert_eq!(&R::default().joined(&a), &a, "an empty row takes all");
    prop_assert_eq!(
        &a.joined(&b),
        &R::of(held_by(&[0, 1])),
        "a join is as if all ops had arrived"
    );
    Ok(())
}

/// Ops by position: positions are unique, clocks often equal.
fn by_position<C: Debug>(
    content: impl Strategy<Value = C>,
    count: impl Into<SizeRange>,
) -> impl Strategy<Value = Vec<(Position, C)>> {
    prop::collection::btree_map(position(), content, count)
        .prop_map(|ops| ops.into_iter().collect::<Vec<_>>())
        .prop_shuffle()
}

fn position() -> impl Strategy<Value = Position> {
    (0..6_u64, 0..3_u16, 0..3_u32)
        .prop_map(|(hlc, region, node)| Position::new(Hlc(hlc), RegionId(region), NodeId(node)))
}

fn origin() -> impl Strategy<Value = Origin> {
    (0..ORIGINS).prop_map(origin_number)
}

const ORIGINS: usize = 4;

/// The last two are one region in two lives of its store.
fn origin_number(number: usize) -> Origin {
    Origin {
        region: RegionId(number.min(2) as u16),
        incarnation: 1_700_000_000 + number as u32,
    }
}

fn op_stamp() -> impl Strategy<Value = OpStamp> {
    let index = prop_oneof![4 => 0..3_u16, 1 => Just(256), 1 => Just(u16::MAX)];
    (0..4_u64, 0..2_u16, index)
        .prop_map(|(version, order, index)| OpStamp::new(Stamp::new(version, order), index))
}

fn place() -> impl Strategy<Value = Place> {
    (origin(), op_stamp()).prop_map(|(origin, at)| Place { origin, at })
}
