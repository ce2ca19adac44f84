//! The handshake, and who gets none.

use whimbrel_replication::cursor::Cursor;
use whimbrel_replication::id::{ClusterId, OpStamp, Origin, ShardId};
use whimbrel_replication::link::{
    Batches, Event, Frame, Have, Heard, Hello, LinkId, PROTOCOL_MAX, PROTOCOL_MIN, Role,
    SILENCE_TIMEOUT,
};
use whimbrel_replication::op::{FORMAT, FORMAT_MIN};

use crate::hand::{Hand, S, appended, close_reason, hello, names, subscribe};
use crate::sim::{SHARDS, ms, origin, region, stamp};

/// G17: whoever does not fit is refused in words, on both sides of a link.
#[test]
fn g17_peers_that_do_not_fit_are_refused() {
    fn check(wrong: impl Fn(&mut Hello), expected: &str) {
        let mut hello = hello();
        wrong(&mut hello);
        let mut server = Hand::new();
        server.up(2, Role::Server);
        let effects = server.frame(Frame::Hello(hello.clone()));
        assert_eq!(names(&effects), ["Refused"]);
        let reason = close_reason(&effects).expect("the server closes");
        assert!(reason.contains(expected), "{reason}");

        let mut puller = Hand::new();
        puller.up(2, Role::Puller);
        let effects = puller.frame(Frame::Welcome(hello));
        let reason = close_reason(&effects).expect("the puller closes");
        assert!(reason.contains(expected), "{reason}");
        assert_eq!(puller.engine.peers()[&region(2)].pulling, 0);
    }
    check(|h| h.cluster = ClusterId::MIN, "cluster");
    check(|h| h.shards += 1, "3 shards, but 2 here");
    check(|h| h.region = region(3), "not the one in its certificate");
    check(|h| h.region_name = "r3".into(), "is called \"r2\" here");
    check(|h| h.origin = origin(3), "origin 3.100 is not of region 2");
    check(
        |h| h.protocols = (PROTOCOL_MAX + 1, PROTOCOL_MAX + 2),
        "speaks protocols",
    );
    check(|h| h.protocols = (2, 1), "speaks protocols");
    check(
        |h| h.format = FORMAT_MIN - 1,
        "reads batches up to format 0",
    );
}

#[test]
fn newer_peers_are_welcome_if_they_still_speak_ours() {
    let mut hand = Hand::new();
    hand.up(2, Role::Server);
    let newer = Hello {
        protocols: (PROTOCOL_MIN, PROTOCOL_MAX + 5),
        format: FORMAT + 1,
        ..hello()
    };
    assert_eq!(names(&hand.frame(Frame::Hello(newer))), ["Welcome", "Have"]);
}

/// G17.
#[test]
fn g17_regions_that_are_not_configured_get_no_link() {
    for peer in [1, 9] {
        let effects = Hand::new().up(peer, Role::Server);
        assert!(close_reason(&effects).is_some());
    }
}

/// G17.
#[test]
fn g17_nothing_but_the_handshake_comes_first() {
    let ack = Frame::Ack {
        shard: S,
        origin: origin(2),
        to: stamp(1),
    };
    let have = Frame::Have(Have { ..Have::default() });
    for frame in [subscribe(0), ack, have, Frame::Welcome(hello())] {
        let mut hand = Hand::new();
        hand.up(2, Role::Server);
        let effects = hand.frame(frame);
        assert!(close_reason(&effects).is_some_and(|r| r.contains("before the handshake")));
        assert_eq!(names(&effects), [""; 0]);
        assert!(hand.frame(Frame::Hello(hello())).is_empty(), "it is closed");
    }
}

/// G17.
#[test]
fn g17_frames_against_the_roles_close_the_link() {
    let check = |role, frame| {
        let mut hand = Hand::open(role);
        assert!(close_reason(&hand.frame(frame)).is_some());
    };
    let batches = Frame::Batches(Batches {
        shard: S,
        origin: origin(2),
        from: stamp(0),
        to: stamp(1),
        batches: Vec::new(),
    });
    check(Role::Server, batches);
    check(Role::Server, Frame::Hello(hello()));
    check(Role::Puller, subscribe(0));
    check(Role::Puller, Frame::Welcome(hello()));
    let far = ShardId(SHARDS);
    let from = stamp(0);
    let origin = origin(1);
    let subscribe = Frame::Subscribe {
        shard: far,
        origin,
        from,
    };
    check(Role::Server, subscribe);
}

#[test]
fn silent_links_are_closed() {
    let mut hand = Hand::new();
    hand.up(2, Role::Server);
    hand.now += ms(5_000);
    assert!(close_reason(&hand.event(Event::Timer)).is_some_and(|r| r.contains("handshake")));

    let mut hand = Hand::open(Role::Server);
    hand.now += SILENCE_TIMEOUT;
    assert!(close_reason(&hand.event(Event::Timer)).is_some_and(|r| r.contains("silent")));
}

#[test]
fn a_puller_subscribes_to_every_shard_of_the_peers_own_log() {
    let mut hand = Hand::new();
    assert_eq!(names(&hand.up(2, Role::Puller)), ["Hello"]);
    let effects = hand.frame(Frame::Welcome(hello()));
    assert_eq!(names(&effects), ["Have", "Subscribe", "Subscribe"]);
}

/// Of two lives of a region's store only the later one holds anything, whoever tells of them.
#[test]
fn g14_what_a_former_life_held_is_not_taken_from_a_third_region() {
    let mut hand = Hand::open(Role::Puller);
    let hear = |hand: &mut Hand, incarnation, to| {
        let mut cursor = Cursor::new();
        cursor.advance(S, origin(1), OpStamp::whole(stamp(to)));
        let holder = Origin {
            incarnation,
            ..origin(3)
        };
        let effects = hand.frame(Frame::Have(Have {
            heard: Some(Heard { holder, cursor }),
            ..Have::default()
        }));
        assert_eq!(close_reason(&effects), None);
        hand.engine.peer_holds(region(3), S, origin(1))
    };
    hand.event(appended(9));
    assert_eq!(hear(&mut hand, 5, 7), stamp(7));
    assert_eq!(hear(&mut hand, 5, 6), stamp(7), "it goes up only");
    assert_eq!(hear(&mut hand, 4, 8), stamp(7), "an earlier life");
    assert_eq!(hear(&mut hand, 6, 1), stamp(1), "a later life");
    // Once it is linked it speaks for itself.
    let link = LinkId(2);
    hand.event(Event::Up {
        link,
        peer: region(3),
        role: Role::Puller,
    });
    let frame = Frame::Welcome(Hello {
        region: region(3),
        region_name: "r3".into(),
        origin: Origin {
            incarnation: 6,
            ..origin(3)
        },
        ..hello()
    });
    let effects = hand.event(Event::Frame { link, frame });
    assert_eq!(close_reason(&effects), None);
    assert_eq!(
        hear(&mut hand, 7, 9),
        stamp(1),
        "a life of which it does not speak"
    );
    assert_eq!(hear(&mut hand, 6, 8), stamp(8));
}
