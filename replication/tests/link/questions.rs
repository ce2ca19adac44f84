//! Questions to peers: each is answered once, and comes to an end whatever the peer does.

use bytes::Bytes;
use whimbrel_replication::limits::LINK_QUESTIONS_MAX;
use whimbrel_replication::link::{Effect, Event, Frame, Hello, QUESTION_TIMEOUT, Role};

use crate::hand::{Hand, LINK, close_reason, hello, names};
use crate::sim::region;

fn ask(hand: &mut Hand, peer: u16, id: u64) -> Vec<Effect> {
    hand.event(Event::Ask {
        peer: region(peer),
        id,
        question: Bytes::from_static(b"what?"),
    })
}

/// Which questions ended, and whether with an answer.
fn ended(effects: &[Effect]) -> Vec<(u64, bool)> {
    let answered = effects.iter().filter_map(|effect| match effect {
        Effect::Answered { id, answer, .. } => Some((*id, answer.is_some())),
        _ => None,
    });
    answered.collect()
}

fn answer(id: u64) -> Frame {
    let answer = Some(Bytes::from_static(b"that"));
    Frame::Answer { id, answer }
}

#[test]
fn a_question_is_answered_once() {
    let mut hand = Hand::open(Role::Puller);
    assert_eq!(names(&ask(&mut hand, 2, 1)), ["Question"]);
    assert_eq!(ended(&hand.frame(answer(2))), [], "it was not asked");
    assert_eq!(ended(&hand.frame(answer(1))), [(1, true)]);
    assert_eq!(ended(&hand.frame(answer(1))), [], "it came twice");
}

#[test]
fn who_cannot_be_asked_does_not_answer() {
    let mut hand = Hand::open(Role::Puller);
    assert_eq!(
        ended(&ask(&mut hand, 3, 1)),
        [(1, false)],
        "there is no link"
    );
    assert_eq!(
        ended(&ask(&mut hand, 9, 2)),
        [(2, false)],
        "there is no such region"
    );
    ask(&mut hand, 2, 3);
    let down = hand.event(Event::Down { link: LINK });
    assert_eq!(ended(&down), [(3, false)], "the link is gone");

    // A peer that speaks no protocol which has questions is never asked.
    let mut hand = Hand::new();
    hand.up(2, Role::Puller);
    hand.frame(Frame::Welcome(Hello {
        protocols: (1, 2),
        ..hello()
    }));
    assert_eq!(ended(&ask(&mut hand, 2, 1)), [(1, false)]);
}

#[test]
fn a_peer_that_forgets_questions_is_asked_again_later() {
    let mut hand = Hand::open(Role::Puller);
    let most = LINK_QUESTIONS_MAX as u64;
    for id in 0..most {
        assert_eq!(names(&ask(&mut hand, 2, id)), ["Question"]);
    }
    assert_eq!(ended(&ask(&mut hand, 2, most)), [(most, false)], "too many");
    // It says that it lives, and nothing else.
    let step = QUESTION_TIMEOUT / 10;
    for _ in 0..10 {
        hand.now += step;
        hand.frame(Frame::Have(whimbrel_replication::link::Have {
            ..whimbrel_replication::link::Have::default()
        }));
    }
    let effects = ask(&mut hand, 2, most + 1);
    assert_eq!(names(&effects), ["Question"]);
    assert_eq!(ended(&effects).len(), LINK_QUESTIONS_MAX);
}

#[test]
fn g17_a_peer_asks_only_so_much_at_once() {
    let mut hand = Hand::open(Role::Server);
    let question = |id| Frame::Question {
        id,
        question: Bytes::from_static(b"what?"),
    };
    let mut asked = 0;
    for id in 0..LINK_QUESTIONS_MAX as u64 {
        // Twice is once.
        for _ in 0..2 {
            let effects = hand.frame(question(id));
            let questions = effects.iter();
            asked += questions
                .filter(|effect| matches!(effect, Effect::Question { .. }))
                .count();
            assert_eq!(close_reason(&effects), None);
        }
    }
    assert_eq!(asked, LINK_QUESTIONS_MAX);
    let link = LINK;
    let told = |hand: &mut Hand| {
        hand.event(Event::Answer {
            link,
            id: 0,
            answer: None,
        })
    };
    assert_eq!(names(&told(&mut hand)), ["Answer"]);
    assert_eq!(names(&told(&mut hand)), [""; 0], "it was answered");
    hand.frame(question(100));
    let reason = hand.frame(question(101));
    let reason = close_reason(&reason).expect("it is one too many");
    assert!(reason.contains("questions at once"), "{reason}");
}
