//! One engine by hand: each rule of the protocol on its own.

use whimbrel_replication::cursor::{Cursor, ShardCursor};
use whimbrel_replication::id::{OpStamp, Origin, RegionId};
use whimbrel_replication::limits::{
    INBOUND_LOG_BYTES_MAX, LOG_READ_BYTES_MAX, SUBSCRIPTION_UNACKED_BYTES_MAX,
};
use whimbrel_replication::link::{
    Alert, Effect, Event, Frame, HAVE_INTERVAL, HEARTBEAT, Have, Role,
};

use crate::hand::{Hand, S, appended, applies, close_reason, names, reads, sent, subscribe};
use crate::sim::{ms, origin, region, stamp};
use crate::store::batch;

/// G17: memory stays bounded whatever a peer claims.
#[test]
fn g17_a_peer_that_names_too_many_origins_is_cut_off() {
    let mut hand = Hand::open(Role::Puller);
    let mut closed = false;
    for incarnation in 0..1_000 {
        let origin = Origin {
            region: RegionId(2),
            incarnation,
        };
        let part = [(origin, OpStamp::whole(stamp(1)))].into_iter().collect();
        let cursor = Cursor::of(S, part);
        let effects = hand.frame(Frame::Have(Have {
            cursor,
            ..Have::default()
        }));
        closed |= close_reason(&effects).is_some();
    }
    assert!(closed);
}

#[test]
fn g1_acks_follow_the_commit() {
    let mut hand = Hand::open(Role::Puller);
    let effects = hand.batches(0, 5, &[2, 5]);
    assert_eq!(applies(&effects), [(stamp(0), vec![stamp(2), stamp(5)])]);
    assert_eq!(names(&effects), [""; 0]);
    let effects = hand.applied(5);
    let ack = Frame::Ack {
        shard: S,
        origin: origin(2),
        to: stamp(5),
    };
    assert!(sent(&effects).contains(&&ack), "{effects:?}");
}

#[test]
fn overlaps_are_trimmed_and_only_one_apply_is_under_way() {
    let mut hand = Hand::open(Role::Puller);
    assert_eq!(applies(&hand.batches(0, 5, &[2, 5])).len(), 1);
    assert!(applies(&hand.batches(0, 5, &[2, 5])).is_empty());
    assert!(applies(&hand.batches(2, 7, &[5, 7])).is_empty());
    assert_eq!(applies(&hand.applied(5)), [(stamp(5), vec![stamp(7)])]);
    let status = &hand.engine.peers()[&region(2)];
    assert_eq!((status.applied, status.duplicate), (2, 3));
}

#[test]
fn g1_a_gap_is_asked_for_again_from_the_stores_cursor() {
    let mut hand = Hand::open(Role::Puller);
    hand.batches(0, 5, &[5]);
    let effects = hand.batches(7, 9, &[9]);
    let again = Frame::Subscribe {
        shard: S,
        origin: origin(2),
        from: stamp(0),
    };
    assert_eq!(sent(&effects), [&again]);
    // What the broken stream still brings does not ask once more.
    assert!(hand.batches(9, 10, &[10]).is_empty());
    assert_eq!(hand.engine.peers()[&region(2)].dropped, 2);
}

#[test]
fn an_empty_interval_is_part_of_the_log() {
    let mut hand = Hand::open(Role::Puller);
    assert!(hand.batches(0, 5, &[]).is_empty());
    assert_eq!(
        applies(&hand.batches(5, 9, &[9])),
        [(stamp(0), vec![stamp(9)])]
    );
}

#[test]
fn a_store_that_was_moved_by_others_is_followed() {
    let mut hand = Hand::open(Role::Puller);
    hand.batches(0, 5, &[2, 5]);
    hand.batches(5, 9, &[7, 9]);
    // Another node of this region had committed 7 already.
    assert_eq!(applies(&hand.applied(7)), [(stamp(7), vec![stamp(9)])]);
    // The store fell behind: start again from where it is.
    let effects = hand.applied(1);
    let again = Frame::Subscribe {
        shard: S,
        origin: origin(2),
        from: stamp(1),
    };
    assert!(sent(&effects).contains(&&again), "{effects:?}");
    assert!(applies(&effects).is_empty());
}

#[test]
fn an_apply_that_moved_nothing_is_repeated_later() {
    let mut hand = Hand::open(Role::Puller);
    hand.batches(0, 5, &[5]);
    assert!(applies(&hand.applied(0)).is_empty());
    hand.now += ms(100);
    assert_eq!(
        applies(&hand.event(Event::Timer)),
        [(stamp(0), vec![stamp(5)])]
    );
}

#[test]
fn g10_the_head_of_a_log_waits_for_its_deps() {
    let mut hand = Hand::open(Role::Puller);
    let deps: ShardCursor = [(origin(3), OpStamp::whole(stamp(4)))]
        .into_iter()
        .collect();
    let needs = batch(origin(2), 1, deps, 20);
    let free = batch(origin(2), 2, ShardCursor::new(), 20);
    let effects = hand.raw_batches(0, 2, vec![(stamp(1), needs), (stamp(2), free)]);
    assert!(applies(&effects).is_empty());
    assert_eq!(hand.engine.waiting(), 2);
    // The peer has what it depends on: it is asked of it, after a moment for the direct way.
    hand.now += ms(100);
    let asked = Frame::Subscribe {
        shard: S,
        origin: origin(3),
        from: stamp(0),
    };
    assert!(sent(&hand.event(Event::Timer)).contains(&&asked));
    let effects = hand.event(Event::Applied {
        shard: S,
        origin: origin(3),
        to: stamp(4),
    });
    assert_eq!(applies(&effects), [(stamp(0), vec![stamp(1), stamp(2)])]);
}

/// G17: what waits is bounded, and nothing is lost by it.
#[test]
fn g17_what_waits_is_bounded_and_asked_for_again() {
    let mut hand = Hand::open(Role::Puller);
    let deps: ShardCursor = [(origin(3), OpStamp::whole(stamp(1)))]
        .into_iter()
        .collect();
    let per_batch = 50_000;
    for n in 0..100 {
        let batch = batch(origin(2), n, deps.clone(), per_batch);
        hand.raw_batches(n, n + 1, vec![(stamp(n + 1), batch)]);
    }
    let most = INBOUND_LOG_BYTES_MAX / per_batch;
    assert!(hand.engine.waiting() <= most);
    assert!(hand.engine.waiting() > most / 2);
    let mut effects = hand.event(Event::Applied {
        shard: S,
        origin: origin(3),
        to: stamp(1),
    });
    let mut to = 0;
    while let [(_, stamps)] = applies(&effects).as_slice() {
        to = stamps.last().expect("never empty").version();
        effects = hand.applied(to);
    }
    let again = Frame::Subscribe {
        shard: S,
        origin: origin(2),
        from: stamp(to),
    };
    assert!(sent(&effects).contains(&&again), "{effects:?}");
    assert_eq!(hand.engine.waiting(), 0);
}

/// G15: the sender never reads further than credit allows, whatever the backlog.
#[test]
fn the_log_is_read_only_as_far_as_credit_allows() {
    let mut hand = Hand::open(Role::Server);
    hand.event(appended(1_000));
    let mut effects = hand.frame(subscribe(0));
    let mut to = 0;
    while let [(from, bytes_max)] = reads(&effects).as_slice() {
        assert_eq!((*from, *bytes_max), (stamp(to), LOG_READ_BYTES_MAX));
        effects = hand.read(to, &[to + 1, to + 2, to + 3], 60_000);
        to += 3;
    }
    let under_way = (to as usize) * 60_000;
    assert!(under_way >= SUBSCRIPTION_UNACKED_BYTES_MAX - 1_000);
    assert!(under_way <= SUBSCRIPTION_UNACKED_BYTES_MAX + LOG_READ_BYTES_MAX);
    let effects = hand.frame(Frame::Ack {
        shard: S,
        origin: origin(1),
        to: stamp(3),
    });
    assert_eq!(reads(&effects).len(), 1);
    // A Have frees credit as an ack does; only one read is under way.
    let part = [(origin(1), OpStamp::whole(stamp(6)))]
        .into_iter()
        .collect();
    let effects = hand.frame(Frame::Have(Have {
        cursor: Cursor::of(S, part),
        ..Have::default()
    }));
    assert!(reads(&effects).is_empty());
}

/// Between heartbeats what is told grows with what was written, not with the number of origins.
#[test]
fn only_logs_that_have_grown_are_told() {
    let mut hand = Hand::open(Role::Server);
    let foreign = |to| Event::Appended {
        shard: S,
        origin: origin(3),
        stamp: stamp(to),
    };
    hand.event(appended(1));
    hand.event(foreign(1));
    hand.now += HEARTBEAT;
    hand.event(Event::Timer);
    hand.event(foreign(2));
    hand.now += HAVE_INTERVAL;
    let effects = hand.event(Event::Timer);
    let told = sent(&effects).into_iter().filter_map(|frame| match frame {
        Frame::Have(have) => have.cursor.shard(S),
        _ => None,
    });
    let told: Vec<_> = told.flat_map(ShardCursor::iter).collect();
    assert_eq!(told, [(origin(3), OpStamp::whole(stamp(2)))]);
}

#[test]
fn a_read_for_a_replaced_subscription_is_not_sent() {
    let mut hand = Hand::open(Role::Server);
    hand.event(appended(10));
    assert_eq!(reads(&hand.frame(subscribe(5))).len(), 1);
    assert!(reads(&hand.frame(subscribe(2))).is_empty(), "one at a time");
    let effects = hand.read(5, &[10], 20);
    assert_eq!(names(&effects), [""; 0]);
    assert_eq!(reads(&effects), [(stamp(2), LOG_READ_BYTES_MAX)]);
    assert_eq!(names(&hand.read(2, &[4, 10], 20)), ["Batches"]);
}

#[test]
fn a_failed_read_is_repeated_later() {
    let mut hand = Hand::open(Role::Server);
    hand.event(appended(10));
    hand.frame(subscribe(0));
    assert!(reads(&hand.read(0, &[], 0)).is_empty());
    hand.now += ms(100);
    assert_eq!(reads(&hand.event(Event::Timer)).len(), 1);
}

#[test]
fn a_large_read_is_cut_into_frames_that_join() {
    let mut hand = Hand::open(Role::Server);
    hand.event(appended(30));
    hand.frame(subscribe(0));
    let stamps: Vec<u64> = (1..=30).collect();
    let effects = hand.read(0, &stamps, 60_000);
    let mut at = stamp(0);
    let mut count = 0;
    for frame in sent(&effects) {
        let Frame::Batches(batches) = frame else {
            continue;
        };
        assert_eq!(batches.from, at);
        at = batches.to;
        count += batches.batches.len();
        assert_eq!(Frame::decode(frame.encode()).as_ref(), Ok(frame));
    }
    assert_eq!((at, count), (stamp(30), 30));
}

#[test]
fn changes_are_told_at_most_every_fifty_milliseconds_and_all_each_second() {
    let mut hand = Hand::open(Role::Server);
    let mut haves = 0;
    for next in 1..=2_000 {
        hand.now += ms(1);
        haves += names(&hand.event(appended(next))).len();
    }
    assert!((38..=44).contains(&haves), "{haves}");
}

#[test]
fn the_peers_clock_is_compared() {
    let mut hand = Hand::open(Role::Server);
    hand.event(Event::Wall { unix_ms: 1_000 });
    hand.now += ms(500);
    hand.frame(Frame::Have(Have {
        unix_ms: Some(1_800),
        ..Have::default()
    }));
    assert_eq!(hand.engine.peers()[&region(2)].clock_offset_ms, Some(300));
}

/// G17: batches that no store could have committed, or of another log, stop their log only.
#[test]
fn g17_batches_that_cannot_be_true_stop_their_log() {
    let check = |bytes, expected: &str| {
        let mut hand = Hand::open(Role::Puller);
        let effects = hand.raw_batches(0, 1, vec![(stamp(1), bytes)]);
        assert_eq!(close_reason(&effects), None);
        assert_eq!(names(&effects), ["Unsubscribe"]);
        let stopped = &hand.engine.peers()[&region(2)].stopped;
        assert!(
            matches!(stopped.as_slice(), [(_, _, at, reason)]
                if *at == stamp(1) && reason.contains(expected)),
            "{stopped:?}"
        );
    };
    let none = ShardCursor::new();
    check(batch(origin(3), 1, none.clone(), 20), "its origin is 3.100");
    check(batch(origin(2), 1, none, 66_000), "it has 66");
    check(bytes::Bytes::new(), "origin");
}

#[test]
fn g18_a_peer_that_knows_a_later_life_of_ours_raises_the_alarm() {
    let mut hand = Hand::open(Role::Puller);
    let mut told = |incarnation| {
        let life = Origin {
            incarnation,
            ..origin(1)
        };
        let mut cursor = Cursor::new();
        cursor.advance(S, life, OpStamp::new(stamp(3), 0));
        let effects = hand.frame(Frame::Have(Have {
            cursor,
            ..Have::default()
        }));
        let alarm = |effect: &Effect| match effect {
            Effect::Alert(Alert::LaterLife { origin, .. }) => Some(*origin),
            _ => None,
        };
        effects.iter().find_map(alarm) == Some(life)
    };
    let own = origin(1).incarnation;
    assert!(!told(own - 1), "an earlier one is pulled back");
    assert!(told(own + 1));
}
