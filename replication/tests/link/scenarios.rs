//! Whole clusters in chosen situations. Regions: 1 is A, 2 is B, 3 is C.

use whimbrel_replication::cursor::ShardCursor;
use whimbrel_replication::id::{OpStamp, ShardId};
use whimbrel_replication::link::Alert;

use crate::sim::{Path, Sim, ms, origin, region, stamp};
use crate::store::batch;

const S: ShardId = ShardId(0);

fn held(sim: &Sim, node: u16, by: u16) -> whimbrel_replication::id::Stamp {
    sim.nodes[&node].store.held(S, origin(by))
}

/// Fresh messages flow without polling: one way, not a round trip.
#[test]
fn g3_a_fresh_batch_takes_one_way() {
    let mut sim = Sim::new(2, 1);
    sim.dial_all();
    sim.run_for(ms(3_000));
    let at = sim.commit(1, 0, 20);
    sim.run_for(ms(20 + 3 + 10 + 1));
    assert_eq!(held(&sim, 2, 1), at);
    sim.run_for(ms(40));
    assert_eq!(sim.nodes[&1].engine.peer_holds(region(2), S, origin(1)), at);
}

#[test]
fn g2_messages_of_a_reach_c_over_b_while_a_and_c_are_cut() {
    let mut sim = Sim::new(3, 2);
    sim.set_both(1, 3, false);
    sim.dial_all();
    sim.run_for(ms(1_000));
    for _ in 0..20 {
        sim.commit(1, 0, 20);
        sim.commit(3, 0, 20);
        sim.run_for(ms(50));
    }
    assert!(sim.settle(ms(2_000)) < ms(1_000));

    // B answers what it has seen: C applies the answer after the question that came the same way.
    sim.commit(1, 0, 20);
    sim.run_for(ms(200));
    sim.commit(2, 0, 20);
    sim.settle(ms(1_000));

    // Once the direct way is back and has brought something, the detour ends.
    sim.set_both(1, 3, true);
    sim.run_for(ms(3_000));
    sim.commit(1, 0, 20);
    sim.run_for(ms(1_000));
    let over_b = sim.sent[&("Batches", 2, 3)];
    for _ in 0..20 {
        sim.commit(1, 0, 20);
        sim.run_for(ms(50));
    }
    sim.settle(ms(1_000));
    assert_eq!(sim.sent[&("Batches", 2, 3)], over_b);
}

/// What reached C over B is known in A to be there: B tells it, within a heartbeat.
#[test]
fn g14_what_a_region_holds_is_known_over_a_third_while_its_link_is_cut() {
    let mut sim = Sim::new(3, 11);
    sim.set_both(1, 3, false);
    sim.dial_all();
    sim.run_for(ms(1_000));
    let mut last = stamp(0);
    for _ in 0..20 {
        last = sim.commit(1, 0, 20);
        sim.run_for(ms(50));
        let known = sim.nodes[&1].engine.peer_holds(region(3), S, origin(1));
        assert!(known <= held(&sim, 3, 1), "{known} is not there");
    }
    sim.run_for(ms(1_500));
    let peers = sim.nodes[&1].engine.peers();
    assert_eq!(
        (peers[&region(3)].pulling, peers[&region(3)].serving),
        (0, 0)
    );
    assert_eq!(peers[&region(3)].origin, Some(origin(3)));
    assert_eq!(
        sim.nodes[&1].engine.peer_holds(region(3), S, origin(1)),
        last
    );
}

#[test]
fn g2_the_messages_of_a_dark_region_spread_from_whoever_has_them() {
    let mut sim = Sim::new(3, 3);
    sim.set_both(1, 3, false);
    sim.set_both(2, 3, false);
    sim.dial_all();
    sim.run_for(ms(500));
    sim.commit(1, 0, 20);
    sim.run_for(ms(500));
    sim.set_both(1, 2, false);
    sim.set_both(2, 3, true);
    sim.run_for(ms(2_000));
    assert_eq!(held(&sim, 3, 1), stamp(1));
    assert_eq!(held(&sim, 2, 1), stamp(1));
}

/// The modelled stores check deps at every apply.
#[test]
fn g10_answers_wait_for_questions_that_travel_slowly() {
    for (slow, seed) in [(400, 4), (3_000, 5)] {
        let mut sim = Sim::new(3, seed);
        sim.paths.insert((1, 3), Path::clean(slow));
        sim.dial_all();
        sim.run_for(ms(10_000));
        let question = sim.commit(1, 0, 20);
        sim.run_for(ms(40));
        assert_eq!(held(&sim, 2, 1), question);
        let answer = sim.commit(2, 0, 20);
        sim.run_for(ms(40));
        assert!(
            held(&sim, 3, 2) < answer,
            "C shows the answer without the question"
        );
        // C does not wait for A: B has the question too.
        sim.run_for(ms(260));
        assert_eq!(held(&sim, 3, 1), question);
        assert_eq!(held(&sim, 3, 2), answer);
    }
}

#[test]
fn g1_lost_frames_are_asked_for_again() {
    let mut sim = Sim::new(2, 6);
    sim.dial_all();
    sim.run_for(ms(500));
    let path = sim.paths[&(1, 2)];
    sim.paths.insert((1, 2), Path { loss: 1.0, ..path });
    sim.commit(1, 0, 20);
    sim.run_for(ms(100));
    sim.paths.insert((1, 2), path);
    assert_eq!(held(&sim, 2, 1), stamp(0));
    // The next batch shows the gap; without one the heartbeat shows that something is missing.
    sim.run_for(ms(400));
    sim.commit(1, 0, 20);
    assert!(sim.settle(ms(1_000)) < ms(200));

    sim.paths.insert((1, 2), Path { loss: 1.0, ..path });
    sim.commit(1, 0, 20);
    sim.run_for(ms(100));
    sim.paths.insert((1, 2), path);
    sim.settle(ms(4_000));
}

#[test]
fn g1_a_large_backlog_flows_within_its_credit() {
    let mut sim = Sim::new(2, 7);
    for _ in 0..200 {
        sim.commit(1, 0, 40_000);
        sim.commit(1, 1, 40_000);
    }
    sim.dial_all();
    let took = sim.settle(ms(10_000));
    assert!(took < ms(5_000), "{took:?}");
    let status = &sim.nodes[&2].engine.peers()[&region(1)];
    assert_eq!(
        (status.applied, status.duplicate, status.dropped),
        (400, 0, 0)
    );
}

#[test]
fn g16_a_rebuilt_region_pulls_its_older_life_back() {
    let mut sim = Sim::new(3, 8);
    sim.dial_all();
    sim.run_for(ms(500));
    for _ in 0..10 {
        sim.commit(1, 0, 20);
        sim.commit(2, 0, 20);
    }
    sim.settle(ms(1_000));
    sim.rebuild(1);
    sim.commit(1, 0, 20);
    sim.settle(ms(3_000));
    assert!(sim.alerts.is_empty(), "{:?}", sim.alerts);
}

/// A store that comes back with less than it had, under the same life, must not go on writing.
#[test]
fn g18_a_log_that_lost_its_end_raises_the_alarm() {
    let mut sim = Sim::new(2, 9);
    sim.dial_all();
    sim.run_for(ms(500));
    sim.commit(1, 0, 20);
    let at = sim.commit(1, 0, 20);
    sim.settle(ms(1_000));
    let store = &mut sim.nodes.get_mut(&1).expect("a node").store;
    store
        .logs
        .get_mut(&(S, origin(1)))
        .expect("a log")
        .remove(&at);
    store.cursor.insert((S, origin(1)), stamp(1));
    sim.restart(1);
    sim.run_for(ms(1_000));
    let lost = Alert::OwnLogLost {
        shard: S,
        peer: region(2),
        peer_has: at,
        own: stamp(1),
    };
    assert_eq!(sim.alerts, [(1, lost)]);
}

#[test]
fn a_batch_that_cannot_be_read_stops_its_own_log_only() {
    let mut sim = Sim::new(2, 10);
    sim.dial_all();
    sim.run_for(ms(500));
    let garbage = bytes::Bytes::from_static(b"\xff\xff not a batch");
    let first = sim.commit(1, 0, 20);
    let node = sim.nodes.get_mut(&1).expect("a node");
    node.store.append(S, origin(1), stamp(100), garbage);
    let after = batch(origin(1), 101, ShardCursor::new(), 20);
    node.store.append(S, origin(1), stamp(101), after);
    sim.event(
        1,
        whimbrel_replication::link::Event::Appended {
            shard: S,
            origin: origin(1),
            stamp: stamp(101),
        },
    );
    sim.run_for(ms(1_000));
    assert_eq!(held(&sim, 2, 1), first);
    assert!(matches!(
        sim.alerts.as_slice(),
        [(2, Alert::Stopped { shard: S, at, .. })] if *at == stamp(100)
    ));
    let status = &sim.nodes[&2].engine.peers()[&region(1)];
    assert_eq!(status.stopped.len(), 1);

    // The other shard goes on, and so does the other direction.
    let other = ShardId(1);
    let at = sim.commit(1, 1, 20);
    let back = sim.commit(2, 0, 20);
    sim.run_for(ms(1_000));
    assert_eq!(sim.nodes[&2].store.held(other, origin(1)), at);
    assert_eq!(held(&sim, 1, 2), back);
    assert_eq!(sim.alerts.len(), 1);
    assert!(sim.closed.is_empty(), "{:?}", sim.closed);

    // Passing it is an operator's decision; then the log goes on by itself.
    let node = sim.nodes.get_mut(&2).expect("a node");
    node.store.cursor.insert((S, origin(1)), stamp(100));
    sim.event(
        2,
        whimbrel_replication::link::Event::Applied {
            shard: S,
            origin: origin(1),
            to: stamp(100),
        },
    );
    sim.run_for(ms(1_000));
    assert_eq!(held(&sim, 2, 1), stamp(101));
    assert_eq!(sim.nodes[&2].engine.stopped().count(), 0);
}

#[test]
fn a_batch_that_cannot_be_applied_stops_its_own_log_only() {
    let mut sim = Sim::new(2, 11);
    sim.dial_all();
    sim.poison.insert((origin(1), stamp(1)));
    sim.run_for(ms(500));
    sim.commit(1, 0, 20);
    let at = sim.commit(1, 1, 20);
    sim.run_for(ms(5_000));
    assert_eq!(held(&sim, 2, 1), stamp(0));
    assert_eq!(sim.nodes[&2].store.held(ShardId(1), origin(1)), at);
    assert_eq!(sim.alerts.len(), 1, "{:?}", sim.alerts);
}

#[test]
fn a_trimmed_log_is_told_and_asked_of_others() {
    let mut sim = Sim::new(3, 12);
    sim.set_both(1, 3, false);
    sim.set_both(2, 3, false);
    sim.dial_all();
    sim.run_for(ms(300));
    sim.commit(1, 0, 20);
    let last = sim.commit(1, 0, 20);
    sim.run_for(ms(300));
    let store = &mut sim.nodes.get_mut(&1).expect("a node").store;
    store.floors.insert((S, origin(1)), last);
    store.logs.get_mut(&(S, origin(1))).expect("a log").clear();
    sim.set_both(1, 3, true);
    sim.run_for(ms(2_000));
    let told = Alert::TooOld {
        shard: S,
        origin: origin(1),
        peer: region(1),
        floor: last,
    };
    let needed = Alert::SnapshotNeeded {
        shard: S,
        origin: origin(1),
    };
    assert_eq!(sim.alerts, [(3, told), (3, needed)]);
    // B still has it.
    sim.set_both(2, 3, true);
    sim.run_for(ms(2_000));
    assert_eq!(held(&sim, 3, 1), last);
    assert_eq!(sim.nodes[&3].engine.snapshots().count(), 0);
}

/// What a peer is known to hold starts anew with its store.
#[test]
fn g13_what_a_rebuilt_peer_held_before_does_not_count() {
    let mut sim = Sim::new(2, 13);
    sim.dial_all();
    sim.run_for(ms(300));
    let at = sim.commit(1, 0, 20);
    sim.settle(ms(1_000));
    sim.run_for(ms(200));
    assert_eq!(sim.nodes[&1].engine.peer_holds(region(2), S, origin(1)), at);
    // It cannot pull: nobody dials any more.
    sim.no_dial.insert((2, 1));
    sim.rebuild(2);
    sim.run_for(ms(1_000));
    let holds = sim.nodes[&1].engine.peers()[&region(2)].holds.clone();
    let stamp_held = holds
        .shard(S)
        .and_then(|cursor| cursor.get(&origin(1)))
        .map(|at: OpStamp| at.stamp);
    assert_eq!(stamp_held, None);
}
