//! Several nodes in a region: who pulls, and from which node of a peer.

use std::collections::BTreeSet;

use whimbrel_replication::cursor::Cursor;
use whimbrel_replication::id::{OpStamp, ShardId};
use whimbrel_replication::link::{
    Effect, Event, Frame, Have, LinkId, QUIET_TIMEOUT, Role, STALL_TIMEOUT,
};

use crate::hand::{Hand, LINK, S, applies, hello, sent};
use crate::sim::{ms, origin, region, stamp};

const OTHER: LinkId = LinkId(2);

fn pull(shards: &[u16]) -> Event {
    Event::Pull {
        shards: shards.iter().map(|s| ShardId(*s)).collect(),
    }
}

fn subscribed(effects: &[Effect]) -> Vec<(LinkId, ShardId)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send {
                link,
                frame: Frame::Subscribe { shard, .. },
                ..
            } => Some((*link, *shard)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_shard_that_another_node_pulls_is_left_alone() {
    let mut hand = Hand::open(Role::Puller);
    let effects = hand.batches(0, 2, &[2]);
    assert_eq!(applies(&effects).len(), 1);
    hand.batches(2, 3, &[3]);

    let effects = hand.event(pull(&[1]));
    let unsubscribed = Frame::Unsubscribe {
        shard: S,
        origin: origin(2),
    };
    assert!(sent(&effects).contains(&&unsubscribed), "{effects:?}");
    // What was queued is not handed to the store, what comes late is not taken.
    assert!(applies(&hand.applied(2)).is_empty());
    assert!(applies(&hand.batches(3, 4, &[4])).is_empty());

    // The other node has applied more by the time when it is our turn again.
    hand.event(Event::Appended {
        shard: S,
        origin: origin(2),
        stamp: stamp(5),
    });
    let effects = hand.event(pull(&[0, 1]));
    let again = Frame::Subscribe {
        shard: S,
        origin: origin(2),
        from: stamp(5),
    };
    assert!(sent(&effects).contains(&&again), "{effects:?}");
    let effects = hand.batches(5, 6, &[6]);
    assert_eq!(applies(&effects), [(stamp(5), vec![stamp(6)])]);
}

#[test]
fn a_node_that_falls_silent_is_left_for_another_of_its_region() {
    let mut hand = Hand::open(Role::Puller);
    let frame = |link, frame| Event::Frame { link, frame };
    let role = Role::Puller;
    let peer = region(2);
    hand.event(Event::Up {
        link: OTHER,
        peer,
        role,
    });
    // The newer link is pulled on.
    let effects = hand.event(frame(OTHER, Frame::Welcome(hello())));
    let all: BTreeSet<LinkId> = subscribed(&effects).iter().map(|(link, _)| *link).collect();
    assert_eq!(all, BTreeSet::from([OTHER]));

    let mut moved = Vec::new();
    let from = hand.now;
    while hand.now < from + QUIET_TIMEOUT + ms(100) {
        hand.now += ms(100);
        let heartbeat = Have { ..Have::default() };
        moved.extend(subscribed(&hand.event(frame(LINK, Frame::Have(heartbeat)))));
    }
    assert!(moved.contains(&(LINK, S)), "{moved:?}");
    // Its link stands, and is closed only much later.
    assert_eq!(hand.engine.peers()[&region(2)].pulling, 2);
}

/// All subscriptions that are made while time passes; both nodes go on telling what `has` says.
fn wait(hand: &mut Hand, time: std::time::Duration, has: u64) -> Vec<(LinkId, ShardId)> {
    let mut moved = Vec::new();
    let until = hand.now + time;
    while hand.now < until {
        hand.now += ms(100);
        let mut cursor = Cursor::new();
        cursor.advance(S, origin(2), OpStamp::new(stamp(has), 0));
        for link in [LINK, OTHER] {
            let frame = Frame::Have(Have {
                cursor: cursor.clone(),
                ..Have::default()
            });
            moved.extend(subscribed(&hand.event(Event::Frame { link, frame })));
        }
    }
    moved
}

#[test]
fn a_node_that_lives_and_brings_nothing_is_left_for_another_of_its_region() {
    let mut hand = Hand::open(Role::Puller);
    hand.event(Event::Up {
        link: OTHER,
        peer: region(2),
        role: Role::Puller,
    });
    let welcome = Frame::Welcome(hello());
    hand.event(Event::Frame {
        link: OTHER,
        frame: welcome,
    });
    // Nothing is lacking: however long nothing comes, the link is kept.
    assert_eq!(wait(&mut hand, STALL_TIMEOUT * 3, 0), []);

    // The region has more, and OTHER does not bring it.
    let moved = wait(&mut hand, STALL_TIMEOUT + ms(200), 2);
    assert!(moved.contains(&(LINK, S)), "{moved:?}");
    assert!(moved.iter().all(|(link, _)| *link == LINK), "{moved:?}");

    // LINK brings it and is kept, also when it stalls for less than it takes.
    hand.batches(0, 2, &[2]);
    hand.applied(2);
    assert_eq!(wait(&mut hand, STALL_TIMEOUT - ms(200), 3), []);
    hand.batches(2, 3, &[3]);
    hand.applied(3);

    // Now it is LINK that brings nothing: OTHER gets another chance, then LINK again.
    let moved = wait(&mut hand, STALL_TIMEOUT + ms(200), 4);
    assert!(moved.contains(&(OTHER, S)), "{moved:?}");
    let moved = wait(&mut hand, STALL_TIMEOUT * 2 + ms(200), 4);
    assert!(moved.contains(&(LINK, S)), "{moved:?}");
}
