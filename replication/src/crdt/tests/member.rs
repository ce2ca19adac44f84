use std::collections::BTreeSet;

use super::pending::filled_in;
use super::*;
use crate::crdt::member::{Member, Value};
use crate::cursor::ShardCursor;
use crate::op::Standing;

/// A committed op, as the model sees it.
#[derive(Clone, Debug)]
pub(super) struct Write {
    value: Value,
    /// What its batch says that it has seen, of other origins.
    deps: ShardCursor,
    /// Ops that its writer had truly seen, by number.
    seen: BTreeSet<usize>,
    number: usize,
}

impl Row for Member {
    type Op = Write;

    fn take(&mut self, op: &Write) {
        self.set(op.value.clone(), &op.deps);
    }

    fn join(&mut self, other: Self) {
        Self::join(self, &other);
    }

    fn stored(&self) -> Self {
        Self::decode(&self.encode().bytes).unwrap()
    }
}

/// Of the writes that no other has seen, the most restrictive, then the latest.
fn model<'a>(ops: &[&'a Write]) -> Option<&'a Value> {
    let superseded = |op: &Write| ops.iter().any(|other| other.seen.contains(&op.number));
    let standing = ops.iter().filter(|op| !superseded(op));
    standing
        .map(|op| &op.value)
        .max_by_key(|value| (value.standing, value.position))
}

#[derive(Clone, Debug)]
enum Step {
    /// A batch, with what it sets the member to, in order; nothing where it is about others.
    Commit {
        at: usize,
        sets: Vec<Standing>,
        clock: u64,
    },
    /// Takes another origin's next batches, as far as what they have seen is held.
    Pull {
        to: usize,
        from: usize,
        batches: usize,
    },
}

fn standing() -> impl Strategy<Value = Standing> {
    prop_oneof![
        Just(Standing::Owner),
        Just(Standing::Admin),
        Just(Standing::Member),
        Just(Standing::Left),
        Just(Standing::Banned),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let sets = prop_oneof![
        1 => Just(vec![]),
        4 => standing().prop_map(|standing| vec![standing]),
        1 => prop::collection::vec(standing(), 2..4),
    ];
    prop_oneof![
        // Clocks say nothing about what was seen.
        2 => (0..ORIGINS, sets, 0..4_u64)
            .prop_map(|(at, sets, clock)| Step::Commit { at, sets, clock }),
        3 => (0..ORIGINS, 0..ORIGINS, 1..4_usize)
            .prop_map(|(to, from, batches)| Step::Pull { to, from, batches }),
    ]
}

#[derive(Clone, Debug)]
struct Batch {
    stamp: Stamp,
    deps: ShardCursor,
    ops: Vec<usize>,
}

/// One store: a row, and how much it holds of every origin's log.
#[derive(Clone, Debug, Default)]
struct Replica {
    row: Member,
    held: ShardCursor,
    batches: [usize; ORIGINS],
    seen: BTreeSet<usize>,
}

#[derive(Clone, Debug, Default)]
struct History {
    ops: Vec<Write>,
    logs: [Vec<Batch>; ORIGINS],
    replicas: [Replica; ORIGINS],
}

impl History {
    fn of(steps: &[Step]) -> Self {
        let mut history = Self::default();
        for step in steps {
            history.step(step);
        }
        history
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Commit { at, sets, clock } => self.commit(*at, sets, *clock),
            Step::Pull { to, from, batches } => {
                for _ in 0..*batches {
                    self.pull(*to, *from);
                }
            }
        }
    }

    fn commit(&mut self, at: usize, sets: &[Standing], clock: u64) {
        let room = OPS_MAX - self.ops.len();
        let replica = &mut self.replicas[at];
        let origin = origin_number(at);
        let own = replica.held.get(&origin);
        let others = replica.held.iter().filter(|(other, _)| *other != origin);
        let deps: ShardCursor = others.collect();
        let stamp = Stamp::new(own.map_or(0, |own| own.stamp.version()) + 1, 0);
        let mut batch = Batch {
            stamp,
            deps: deps.clone(),
            ops: Vec::new(),
        };

        let mut row = replica.row.clone();
        for (index, standing) in sets.iter().take(room).enumerate() {
            let number = self.ops.len();
            let value = |stamp| Value {
                dot: Place {
                    origin,
                    at: OpStamp::new(stamp, index as u16),
                },
                standing: *standing,
                position: Position::new(Hlc(clock), origin.region, NodeId(number as u32)),
            };
            row.set(value(Stamp::PENDING), &deps);
            self.ops.push(Write {
                value: value(stamp),
                deps: deps.clone(),
                seen: replica.seen.clone(),
                number,
            });
            replica.seen.insert(number);
            batch.ops.push(number);
        }
        if !batch.ops.is_empty() {
            replica.row = Member::decode(&filled_in(&row.encode(), stamp)).unwrap();
        }
        replica.held.advance(origin, OpStamp::whole(stamp));
        replica.batches[at] += 1;
        self.logs[at].push(batch);
    }

    /// Was there a batch to take, and could it be taken?
    fn pull(&mut self, to: usize, from: usize) -> bool {
        let replica = &mut self.replicas[to];
        let Some(batch) = self.logs[from].get(replica.batches[from]) else {
            return false;
        };
        if !replica.held.covers_all(&batch.deps) {
            return false;
        }
        for number in &batch.ops {
            replica.row.take(&self.ops[*number]);
            replica.row = replica.row.stored();
            replica.seen.insert(*number);
        }
        replica
            .held
            .advance(origin_number(from), OpStamp::whole(batch.stamp));
        replica.batches[from] += 1;
        true
    }

    /// Until every replica holds every log.
    fn heal(&mut self) {
        let pairs = || (0..ORIGINS).flat_map(|to| (0..ORIGINS).map(move |from| (to, from)));
        while pairs().fold(false, |any, (to, from)| self.pull(to, from) || any) {}
        for replica in &self.replicas {
            assert_eq!(replica.seen.len(), self.ops.len(), "a batch waits for ever");
        }
    }

    /// Everything in an order that every op's deps allow, by what comes first in `arrivals`; some
    /// ops again, later.
    fn linearized<'a>(&'a self, deliveries: &'a [Delivery]) -> Vec<&'a Write> {
        let arrives = |op: &&Write| deliveries[op.number].arrivals.clone();
        let mut waiting: Vec<&Write> = self.ops.iter().collect();
        let mut order: Vec<&Write> = Vec::new();
        let mut taken = BTreeSet::new();
        while !waiting.is_empty() {
            let ready = waiting.iter().filter(|op| op.seen.is_subset(&taken));
            let next = *ready.min_by_key(|op| arrives(op)).expect("no cycles");
            waiting.retain(|op| op.number != next.number);
            taken.insert(next.number);
            order.push(next);
            let again = deliveries[next.number].arrivals.get(1);
            if let Some(at) = again {
                order.push(order[usize::from(*at) % order.len()]);
            }
        }
        order
    }
}

fn history() -> impl Strategy<Value = History> {
    prop::collection::vec(step(), 1..60).prop_map(|steps| History::of(&steps))
}

proptest! {
    #[test]
    fn regions_that_hold_the_same_writes_have_the_same_row(mut history in history()) {
        for replica in &history.replicas {
            let held: Vec<&Write> = replica.seen.iter().map(|n| &history.ops[*n]).collect();
            prop_assert_eq!(replica.row.value(), model(&held));
        }
        history.heal();
        let all: Vec<&Write> = history.ops.iter().collect();
        for replica in &history.replicas {
            prop_assert_eq!(&replica.row, &history.replicas[0].row);
            prop_assert_eq!(replica.row.value(), model(&all));
        }
    }

    #[test]
    fn every_causal_order_leaves_the_same_row(
        history in history(),
        deliveries in deliveries(),
    ) {
        let row = Member::of(history.linearized(&deliveries));
        prop_assert_eq!(&row, &Member::of(&history.ops));
        prop_assert_eq!(row.value(), model(&history.ops.iter().collect::<Vec<_>>()));
    }

    #[test]
    fn rows_of_regions_join(history in history()) {
        let [a, b, c, _] = &history.replicas;
        let seen: BTreeSet<usize> = a.seen.union(&b.seen).copied().collect();
        let held: Vec<&Write> = seen.iter().map(|n| &history.ops[*n]).collect();
        prop_assert_eq!(a.row.joined(&b.row), b.row.joined(&a.row));
        prop_assert_eq!(a.row.joined(&b.row), Member::of(held.iter().copied()));
        let joined = a.row.joined(&b.row);
        prop_assert_eq!(joined.value(), model(&held));
        prop_assert_eq!(
            a.row.joined(&b.row).joined(&c.row),
            a.row.joined(&b.row.joined(&c.row))
        );
        prop_assert_eq!(&a.row.joined(&a.row), &a.row);
    }

    /// Repairs replay without regard to deps.
    #[test]
    fn any_order_of_any_part_of_a_history_leaves_the_same_row(
        history in history(),
        deliveries in deliveries(),
    ) {
        check_laws::<Member>(&history.ops, &deliveries, |row, ops| {
            prop_assert_eq!(row.value(), model(ops));
            Ok(())
        })?;
    }
}

fn commit(at: usize, standing: Standing) -> Step {
    Step::Commit {
        at,
        sets: vec![standing],
        clock: 0,
    }
}

fn pull(to: usize, from: usize) -> Step {
    Step::Pull {
        to,
        from,
        batches: 1,
    }
}

fn check(steps: &[Step], expected: Standing) {
    let mut history = History::of(steps);
    history.heal();
    for replica in &history.replicas {
        assert_eq!(replica.row.standing(), Some(expected), "{steps:?}");
    }
}

#[test]
fn of_concurrent_standings_the_most_restrictive_wins() {
    let standings = [
        Standing::Owner,
        Standing::Admin,
        Standing::Member,
        Standing::Left,
        Standing::Banned,
    ];
    for (i, low) in standings.into_iter().enumerate() {
        for high in &standings[i..] {
            check(&[commit(0, low), commit(1, *high)], *high);
            check(&[commit(0, *high), commit(1, low)], *high);
        }
    }
}

#[test]
fn a_removal_beats_a_concurrent_change_of_role_and_yields_to_a_later_one() {
    let parted = [
        commit(0, Standing::Member),
        pull(1, 0),
        commit(0, Standing::Admin),
        commit(1, Standing::Left),
    ];
    check(&parted, Standing::Left);
    let back = [pull(0, 1), commit(0, Standing::Member)];
    check(&[parted.as_slice(), &back].concat(), Standing::Member);
    let unseen = [commit(0, Standing::Owner)];
    check(&[parted.as_slice(), &unseen].concat(), Standing::Left);
}

#[test]
fn a_ban_beats_a_return_that_has_not_seen_it() {
    let steps = [
        commit(0, Standing::Left),
        pull(1, 0),
        pull(2, 0),
        commit(1, Standing::Member),
        commit(2, Standing::Banned),
    ];
    check(&steps, Standing::Banned);
    let lifted = [pull(1, 2), commit(1, Standing::Member)];
    check(&[&steps[..], &lifted].concat(), Standing::Member);
}

/// The ban was seen by way of a third region, whose own write took its place.
#[test]
fn what_was_seen_through_another_region_is_superseded() {
    let steps = [
        commit(0, Standing::Banned),
        pull(1, 0),
        commit(1, Standing::Left),
        pull(2, 0),
        pull(2, 1),
        commit(2, Standing::Admin),
    ];
    check(&steps, Standing::Admin);
}

/// What a superseded write had seen counts, also where its successor came first.
#[test]
fn a_late_write_leaves_the_row_as_if_it_had_come_in_time() {
    let history = History::of(&[
        commit(1, Standing::Member),
        pull(0, 1),
        commit(0, Standing::Admin),
        pull(1, 0),
        commit(1, Standing::Owner),
    ]);
    let late = history.ops.iter().rev();
    assert_eq!(Member::of(late), Member::of(&history.ops));
}
