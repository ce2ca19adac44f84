//! Lanes: a backlog takes the one for bulk, what is fresh does not, and nothing of a log is under way on
//! both at once.

use whimbrel_replication::limits::BULK_AFTER_READS;
use whimbrel_replication::link::{Effect, Event, Frame, Lane, Role};

use crate::hand::{Hand, LINK, S, appended, subscribe};
use crate::sim::{origin, stamp};

/// Lanes of the batches that are sent, and from where the log is read next.
fn lanes(effects: &[Effect]) -> (Vec<Lane>, Option<u64>) {
    let sent = effects.iter().filter_map(|effect| match effect {
        Effect::Send {
            lane,
            frame: Frame::Batches(_),
            ..
        } => Some(*lane),
        _ => None,
    });
    let read = effects.iter().find_map(|effect| match effect {
        Effect::ReadLog { from, .. } => Some(from.version()),
        _ => None,
    });
    (sent.collect(), read)
}

fn ack(to: u64) -> Frame {
    Frame::Ack {
        shard: S,
        origin: origin(1),
        to: stamp(to),
    }
}

/// A peer that lacks 100 batches, each read brings one.
fn behind() -> (Hand, u64) {
    let mut hand = Hand::open(Role::Server);
    hand.event(appended(100));
    assert_eq!(lanes(&hand.frame(subscribe(0))), (vec![], Some(0)));
    (hand, 0)
}

#[test]
fn a_backlog_changes_lanes_while_nothing_is_under_way() {
    let (mut hand, mut at) = behind();
    hand.event(Event::Bulk { link: LINK });
    for _ in 1..BULK_AFTER_READS {
        let told = lanes(&hand.read(at, &[at + 1], 10));
        at += 1;
        assert_eq!(told, (vec![Lane::Live], Some(at)));
    }
    // It is a backlog now, but some of it is under way.
    assert_eq!(
        lanes(&hand.read(at, &[at + 1], 10)),
        (vec![Lane::Live], None)
    );
    at += 1;
    assert_eq!(lanes(&hand.frame(ack(at - 1))), (vec![], None));
    let effects = hand.frame(ack(at));
    assert_eq!(lanes(&effects), (vec![], Some(at)));
    let is_for_bulk =
        |effect: &Effect| matches!(effect, Effect::ReadLog { lane, .. } if *lane == Lane::Bulk);
    assert!(effects.iter().any(is_for_bulk), "{effects:?}");
    while at < 99 {
        let told = lanes(&hand.read(at, &[at + 1], 10));
        at += 1;
        assert_eq!(told, (vec![Lane::Bulk], Some(at)));
    }
    // The end of the log: what comes after it is fresh, once the rest has arrived.
    assert_eq!(lanes(&hand.read(at, &[100], 10)), (vec![Lane::Bulk], None));
    assert_eq!(lanes(&hand.event(appended(101))), (vec![], None));
    assert_eq!(lanes(&hand.frame(ack(99))), (vec![], None));
    assert_eq!(lanes(&hand.frame(ack(100))), (vec![], Some(100)));
    assert_eq!(lanes(&hand.read(100, &[101], 10)), (vec![Lane::Live], None));
}

#[test]
fn a_link_without_a_lane_for_bulk_carries_all_on_the_other() {
    let (mut hand, _) = behind();
    for at in 0..50 {
        let told = lanes(&hand.read(at, &[at + 1], 10));
        assert_eq!(told, (vec![Lane::Live], Some(at + 1)));
    }
}

/// A backlog that has used up its credit leaves that of what is fresh alone.
#[test]
fn each_lane_has_credit_of_its_own() {
    let (mut hand, mut at) = behind();
    hand.event(Event::Bulk { link: LINK });
    for _ in 0..BULK_AFTER_READS {
        hand.read(at, &[at + 1], 10);
        at += 1;
    }
    assert_eq!(lanes(&hand.frame(ack(at))), (vec![], Some(at)));
    // 60,000 bytes each, until nothing more may be under way.
    let mut sent = 0;
    while lanes(&hand.read(at, &[at + 1], 60_000)).1.is_some() {
        at += 1;
        sent += 1;
        assert!(sent < 100);
    }
    assert!(sent > 10);
    let other = Frame::Subscribe {
        shard: whimbrel_replication::id::ShardId(1),
        origin: origin(1),
        from: stamp(0),
    };
    hand.frame(other);
    let fresh = hand.event(Event::Appended {
        shard: whimbrel_replication::id::ShardId(1),
        origin: origin(1),
        stamp: stamp(1),
    });
    assert_eq!(lanes(&fresh).1, Some(0));
}
