//! G16: where nobody has a log any more, the state is asked for, page by page.

use bytes::Bytes;
use whimbrel_replication::cursor::ShardCursor;
use whimbrel_replication::id::OpStamp;
use whimbrel_replication::link::{
    Alert, Effect, Event, FETCH_DELAY, Frame, Hello, LinkId, PROTOCOL_MIN, Role, SNAPSHOT_TIMEOUT,
    SnapshotPage, SnapshotProgress,
};

use crate::hand::{Hand, LINK, S, close_reason, hello, names, sent};
use crate::sim::{ms, origin, region, stamp};

const THIRD: LinkId = LinkId(3);

fn key(text: &'static str) -> Option<Bytes> {
    Some(Bytes::from_static(text.as_bytes()))
}

fn holds(to: u64) -> ShardCursor {
    [(origin(2), OpStamp::whole(stamp(to)))]
        .into_iter()
        .collect()
}

fn page(after: Option<Bytes>, next: Option<Bytes>) -> SnapshotPage {
    let row = next.clone().or(key("zz")).expect("one of them");
    SnapshotPage {
        shard: S,
        after,
        cursor: holds(9),
        reaches: holds(9),
        rows: vec![(row, Bytes::from_static(b"value"))],
        next,
    }
}

fn too_old() -> Frame {
    Frame::TooOld {
        shard: S,
        origin: origin(2),
        floor: stamp(8),
    }
}

fn have() -> Frame {
    Frame::Have(whimbrel_replication::link::Have {
        cursor: whimbrel_replication::cursor::Cursor::of(S, holds(9)),
        ..whimbrel_replication::link::Have::default()
    })
}

fn requests(effects: &[Effect]) -> Vec<(LinkId, Option<Bytes>)> {
    let request = |effect: &Effect| match effect {
        Effect::Send {
            link,
            frame: Frame::SnapshotRequest { after, .. },
            ..
        } => Some((*link, after.clone())),
        _ => None,
    };
    effects.iter().filter_map(request).collect()
}

fn merges(effects: &[Effect]) -> usize {
    let is_merge = |effect: &&Effect| matches!(effect, Effect::MergeSnapshot { .. });
    effects.iter().filter(is_merge).count()
}

fn merged(progress: SnapshotProgress) -> Event {
    Event::SnapshotMerged { shard: S, progress }
}

/// Region 2 holds more than we do, and has trimmed it.
fn in_need() -> (Hand, Vec<Effect>) {
    let mut hand = Hand::open(Role::Puller);
    hand.frame(have());
    let effects = hand.frame(too_old());
    (hand, effects)
}

#[test]
fn g16_pages_are_asked_for_one_after_the_other_and_then_the_tail() {
    let (mut hand, effects) = in_need();
    assert_eq!(requests(&effects), [(LINK, None)]);
    let needed = Alert::SnapshotNeeded {
        shard: S,
        origin: origin(2),
    };
    assert!(effects.contains(&Effect::Alert(needed)), "{effects:?}");

    let effects = hand.frame(Frame::Snapshot(page(None, key("b"))));
    assert_eq!((merges(&effects), requests(&effects).len()), (1, 0));
    // The same page again is nothing new.
    let effects = hand.frame(Frame::Snapshot(page(None, key("b"))));
    assert_eq!(merges(&effects), 0);
    let effects = hand.event(merged(SnapshotProgress::After(key("b"))));
    assert_eq!(requests(&effects), [(LINK, key("b"))]);
    // One that does not join on is not taken.
    let effects = hand.frame(Frame::Snapshot(page(key("c"), None)));
    assert_eq!(merges(&effects), 0);

    let effects = hand.frame(Frame::Snapshot(page(key("b"), None)));
    assert_eq!(merges(&effects), 1);
    let effects = hand.event(merged(SnapshotProgress::Merged(holds(8))));
    let tail = Frame::Subscribe {
        shard: S,
        origin: origin(2),
        from: stamp(8),
    };
    assert!(sent(&effects).contains(&&tail), "{effects:?}");
    assert_eq!(hand.engine.snapshots().count(), 0);
}

#[test]
fn g16_a_page_that_does_not_come_is_asked_of_another_region() {
    let (mut hand, _) = in_need();
    hand.event(Event::Up {
        link: THIRD,
        peer: region(3),
        role: Role::Puller,
    });
    let mut third = hello();
    (third.region, third.region_name, third.origin) = (region(3), "r3".into(), origin(3));
    hand.event(Event::Frame {
        link: THIRD,
        frame: Frame::Welcome(third),
    });
    // It has trimmed the log as well.
    for frame in [have(), too_old()] {
        hand.event(Event::Frame { link: THIRD, frame });
        hand.now += FETCH_DELAY;
        hand.event(Event::Timer);
    }
    // It was asked for at 0.
    hand.now = SNAPSHOT_TIMEOUT - ms(1);
    assert_eq!(requests(&hand.event(Event::Timer)), []);
    hand.now += ms(1);
    // The other link would be closed as silent by now; so is its region left.
    let effects = hand.event(Event::Timer);
    assert_eq!(
        requests(&effects).last(),
        Some(&(THIRD, None)),
        "{effects:?}"
    );
}

/// Two regions that lack the same would else give each other for ever what both have.
#[test]
fn g16_who_has_what_is_missing_is_asked() {
    let mut hand = Hand::open(Role::Puller);
    hand.event(Event::Up {
        link: THIRD,
        peer: region(3),
        role: Role::Puller,
    });
    let mut third = hello();
    (third.region, third.region_name, third.origin) = (region(3), "r3".into(), origin(3));
    let from_third = |frame| Event::Frame { link: THIRD, frame };
    hand.event(from_third(Frame::Welcome(third)));
    hand.event(from_third(have()));
    hand.now += FETCH_DELAY;
    hand.event(Event::Timer);
    let effects = hand.event(from_third(too_old()));
    assert_eq!(requests(&effects), [(THIRD, None)]);
}

#[test]
fn g16_a_snapshot_goes_on_over_another_link() {
    let (mut hand, _) = in_need();
    hand.frame(Frame::Snapshot(page(None, key("b"))));
    hand.event(merged(SnapshotProgress::After(key("b"))));
    hand.event(Event::Down { link: LINK });
    hand.event(Event::Up {
        link: THIRD,
        peer: region(2),
        role: Role::Puller,
    });
    let effects = hand.event(Event::Frame {
        link: THIRD,
        frame: Frame::Welcome(hello()),
    });
    assert_eq!(requests(&effects), [(THIRD, key("b"))]);
}

#[test]
fn g16_one_that_was_begun_before_a_restart_goes_on() {
    let mut hand = Hand::open(Role::Puller);
    let pending = Event::SnapshotPending {
        shard: S,
        after: key("k"),
    };
    let effects = hand.event(pending.clone());
    assert_eq!(requests(&effects), [(LINK, key("k"))]);
    assert_eq!(requests(&hand.event(pending)), []);
}

#[test]
fn g16_what_could_not_be_merged_is_asked_for_again_later() {
    let (mut hand, _) = in_need();
    hand.frame(Frame::Snapshot(page(None, key("b"))));
    let effects = hand.event(merged(SnapshotProgress::Failed));
    assert_eq!(requests(&effects), []);
    hand.now += ms(1_000);
    hand.frame(have());
    let effects = hand.event(Event::Timer);
    let again = requests(&effects);
    assert!(again.is_empty() || again == [(LINK, None)], "{again:?}");
    assert_eq!(hand.engine.snapshots().count(), 1);
}

#[test]
fn g19_a_peer_that_does_not_know_snapshots_is_not_asked() {
    let mut hand = Hand::new();
    hand.up(2, Role::Puller);
    let mut old = hello();
    old.protocols = (PROTOCOL_MIN, 1);
    hand.frame(Frame::Welcome(old));
    hand.frame(have());
    let effects = hand.frame(too_old());
    assert_eq!(requests(&effects), []);
    // And one that asks all the same, or sends what nobody asked for, does no harm.
    let effects = hand.frame(Frame::Snapshot(page(None, None)));
    assert_eq!((merges(&effects), close_reason(&effects)), (0, None));
}

#[test]
fn g17_one_read_at_a_time_for_each_shard_of_a_link() {
    let mut hand = Hand::open(Role::Server);
    let request = |after| Frame::SnapshotRequest { shard: S, after };
    let is_read = |effects: &[Effect]| {
        let reads = |effect: &&Effect| matches!(effect, Effect::ReadSnapshot { .. });
        effects.iter().filter(reads).count()
    };
    assert_eq!(is_read(&hand.frame(request(None))), 1);
    assert_eq!(is_read(&hand.frame(request(key("a")))), 0);
    let read = |page| Event::SnapshotRead {
        link: LINK,
        shard: S,
        page,
    };
    let effects = hand.event(read(Some(page(None, None))));
    assert_eq!(names(&effects), ["Snapshot"]);
    assert_eq!(is_read(&hand.frame(request(key("a")))), 1);
    assert_eq!(names(&hand.event(read(None))), Vec::<&str>::new());
    let beyond = Frame::SnapshotRequest {
        shard: whimbrel_replication::id::ShardId(7),
        after: None,
    };
    assert!(close_reason(&hand.frame(beyond)).is_some());
}

/// What a snapshot brought of a store that is gone, beyond what anybody has of its logs, is not waited
/// for; as long as somebody may have it, it is.
#[test]
fn g16_a_log_ends_where_all_regions_say_so_once_its_life_is_over() {
    let mut hand = Hand::new();
    let old = origin(2);
    let is_all = |hand: &Hand| hand.engine.is_all_there_is(S, old);
    let up = |hand: &mut Hand, link: LinkId, hello: Hello, has: u64| {
        let peer = hello.region;
        let role = Role::Puller;
        hand.event(Event::Up { link, peer, role });
        let welcome = Frame::Welcome(hello);
        hand.event(Event::Frame {
            link,
            frame: welcome,
        });
        let cursor = whimbrel_replication::cursor::Cursor::of(S, holds(has));
        let have = Frame::Have(whimbrel_replication::link::Have {
            cursor,
            ..whimbrel_replication::link::Have::default()
        });
        hand.event(Event::Frame { link, frame: have });
    };
    let third = Hello {
        region: region(3),
        region_name: "r3".into(),
        origin: origin(3),
        ..hello()
    };
    let appended = |to| Event::Appended {
        shard: S,
        origin: old,
        stamp: stamp(to),
    };
    up(&mut hand, THIRD, third.clone(), 5);
    up(&mut hand, LINK, hello(), 4);
    hand.event(appended(4));
    assert!(!is_all(&hand), "region 3 has more");
    hand.event(appended(5));
    assert!(!is_all(&hand), "it lives, and may write more");
    let mut again = hello();
    again.origin.incarnation += 1;
    up(&mut hand, LinkId(5), again, 5);
    assert!(is_all(&hand));
    hand.event(Event::Down { link: THIRD });
    assert!(!is_all(&hand), "region 3 may have got more");
    up(&mut hand, LinkId(6), third, 6);
    assert!(!is_all(&hand), "and it has");
}
