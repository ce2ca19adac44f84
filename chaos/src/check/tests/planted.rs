//! A small clean history, and every violation planted into it.

use std::collections::BTreeMap;

use crate::check::{Report, Violation, check};
use crate::history::{
    Answer, Call, History, OpId, Operation, Outcome, Page, RegionState, Seen, Settled, Told, Unread,
};

const C: &str = "c";

/// Sessions of the story.
const ANA: u32 = 0;
const BEN: u32 = 1;
const CLEO: u32 = 2;

fn id(session: u32, number: u32) -> OpId {
    OpId { session, number }
}

fn seen(id: &str, position: &str, sender: &str, text: Option<&str>) -> Seen {
    Seen {
        id: id.to_owned(),
        conversation: C.to_owned(),
        position: position.to_owned(),
        sender: sender.to_owned(),
        text: text.map(str::to_owned),
        reply_to: (id == "m2").then(|| "m1".to_owned()),
        reactions: BTreeMap::new(),
    }
}

/// The messages: the first two are ana's, the second answers the first.
fn first(text: &str) -> Seen {
    seen("m1", "1", "ana", Some(text))
}

fn second() -> Seen {
    seen("m2", "2", "ana", Some("b"))
}

fn third(text: Option<&str>) -> Seen {
    seen("m3", "3", "ben", text)
}

fn answered(seen: Seen) -> Outcome {
    Outcome::Done(Answer::Message {
        seen,
        replayed: false,
    })
}

fn page(messages: Vec<Seen>) -> Outcome {
    Outcome::Done(Answer::Page(Page {
        messages,
        complete: true,
        stale: Vec::new(),
    }))
}

fn told(told: Vec<Told>) -> Outcome {
    Outcome::Done(Answer::Told(told))
}

fn post(key: &str, reply_to: Option<&str>) -> Call {
    Call::Post {
        key: key.to_owned(),
        conversation: C.to_owned(),
        text: key.to_owned(),
        reply_to: reply_to.map(str::to_owned),
        regions: 1,
    }
}

fn read() -> Call {
    Call::Page {
        conversation: C.to_owned(),
    }
}

/// Ana posts twice and edits the first; ben, who reads it in us, posts and redacts a third, and
/// marks; cleo listens in us and then in ap.
fn clean() -> (History, Settled) {
    let edit = Call::Edit {
        key: "e".to_owned(),
        message: "m1".to_owned(),
        text: "a e".to_owned(),
    };
    let redact = Call::Redact {
        key: "r".to_owned(),
        message: "m3".to_owned(),
    };
    let react = Call::React {
        key: "x".to_owned(),
        message: "m2".to_owned(),
        emoji: "👍".to_owned(),
    };
    let mark = Call::Mark {
        conversation: C.to_owned(),
        read: id(BEN, 0),
    };
    let create = Call::Create {
        key: "n".to_owned(),
    };
    let receipt = Told::Receipt {
        user: "ben".to_owned(),
        message: "m2".to_owned(),
    };
    let earlier = Told::Receipt {
        user: "ben".to_owned(),
        message: "m1".to_owned(),
    };
    let reacted = Seen {
        reactions: BTreeMap::from([("👍".to_owned(), 1)]),
        ..second()
    };
    let done = Outcome::Done(Answer::Nothing);
    let unknown = Outcome::Unknown("no answer".to_owned());
    let steps = [
        (CLEO, "us", Call::Listen, told(vec![])),
        (ANA, "eu", post("a", None), answered(first("a"))),
        (ANA, "eu", post("b", Some("m1")), unknown),
        (ANA, "us", post("b", Some("m1")), answered(second())),
        (ANA, "us", edit, answered(first("a e"))),
        (ANA, "ap", read(), page(vec![first("a e"), second()])),
        (BEN, "us", read(), page(vec![first("a e"), second()])),
        (BEN, "us", mark, done.clone()),
        (BEN, "us", post("c", None), answered(third(Some("c")))),
        (BEN, "us", redact, done.clone()),
        (BEN, "us", react, done),
        (
            BEN,
            "ap",
            read(),
            page(vec![first("a e"), reacted.clone(), third(None)]),
        ),
        (
            BEN,
            "ap",
            create,
            Outcome::Done(Answer::Created("d".to_owned())),
        ),
        (
            CLEO,
            "us",
            Call::Listen,
            told(vec![
                Told::Posted(first("a")),
                Told::Posted(second()),
                Told::Changed(first("a e")),
                earlier,
                receipt,
            ]),
        ),
        (
            CLEO,
            "ap",
            Call::Listen,
            told(vec![
                Told::Posted(third(Some("c"))),
                Told::Changed(third(None)),
                Told::Changed(reacted.clone()),
            ]),
        ),
    ];
    let mut numbers = BTreeMap::<u32, u32>::new();
    let mut operations = Vec::new();
    for (at, (session, region, call, outcome)) in (0..).zip(steps) {
        let number = numbers.entry(session).or_default();
        operations.push(Operation {
            id: id(session, *number),
            user: ["ana", "ben", "cleo"][session as usize].to_owned(),
            region: region.to_owned(),
            invoked_us: 1000 * at,
            ended_us: 1000 * at + 400,
            call,
            outcome,
        });
        *number += 1;
    }
    operations.sort_by_key(|operation| operation.id);
    let state = RegionState {
        digest: "same".to_owned(),
        conversations: BTreeMap::from([
            (C.to_owned(), vec![first("a e"), reacted, third(None)]),
            ("d".to_owned(), vec![]),
        ]),
        versions: BTreeMap::from([("m1".to_owned(), vec!["a".to_owned(), "a e".to_owned()])]),
        unread: vec![
            Unread {
                user: "ana".to_owned(),
                conversation: C.to_owned(),
                count: 0,
            },
            Unread {
                user: "ben".to_owned(),
                conversation: C.to_owned(),
                count: 0,
            },
        ],
    };
    let regions = ["ap", "eu", "us"].map(|region| (region.to_owned(), state.clone()));
    (
        History { operations },
        Settled {
            regions: regions.into(),
        },
    )
}

#[test]
fn a_clean_history_is_clean() {
    let (history, settled) = clean();
    let Report { violations, counts } = check(&history, &settled);
    assert_eq!(violations, []);
    assert_eq!(
        (
            counts.posts,
            counts.edits,
            counts.redactions,
            counts.other_writes
        ),
        (3, 1, 1, 2)
    );
    assert_eq!(
        (
            counts.unknown,
            counts.retried_elsewhere,
            counts.pages,
            counts.hops
        ),
        (1, 1, 3, 1)
    );
    assert_eq!((counts.told, counts.resumptions), (8, 2));
}

impl Settled {
    fn region(&mut self, name: &str) -> &mut RegionState {
        self.regions.get_mut(name).unwrap()
    }

    fn everywhere(&mut self, mut change: impl FnMut(&mut RegionState)) {
        self.regions.values_mut().for_each(&mut change);
    }
}

impl RegionState {
    fn messages(&mut self) -> &mut Vec<Seen> {
        self.conversations.get_mut(C).unwrap()
    }
}

impl History {
    fn at(&mut self, session: u32, number: u32) -> &mut Operation {
        let wanted = id(session, number);
        let mut operations = self.operations.iter_mut();
        operations.find(|operation| operation.id == wanted).unwrap()
    }

    fn page(&mut self, session: u32, number: u32) -> &mut Page {
        match &mut self.at(session, number).outcome {
            Outcome::Done(Answer::Page(page)) => page,
            other => panic!("no page: {other:?}"),
        }
    }

    fn told(&mut self, number: u32) -> &mut Vec<Told> {
        match &mut self.at(CLEO, number).outcome {
            Outcome::Done(Answer::Told(told)) => told,
            other => panic!("no stream: {other:?}"),
        }
    }
}

/// What `plant` does to the clean history is found, and reads like this.
fn found(plant: impl FnOnce(&mut History, &mut Settled), expected: &str) {
    let (mut history, mut settled) = clean();
    plant(&mut history, &mut settled);
    let Report { violations, .. } = check(&history, &settled);
    let lines: Vec<String> = violations.iter().map(Violation::to_string).collect();
    let is_expected = |(violation, line): (&Violation, &String)| {
        line.starts_with(violation.guarantee()) && line.starts_with(expected)
    };
    assert!(
        violations.iter().zip(&lines).any(is_expected),
        "`{expected}` is not among {lines:#?}"
    );
}

#[test]
fn g1_what_is_lost_is_found() {
    found(
        |_, settled| drop(settled.region("us").messages().remove(1)),
        "G1: acked and lost in us: [0.2 ana in us, 0.003 to 0.003 s: post `b` in reply to m1, done]",
    );
    found(
        |_, settled| settled.everywhere(|state| state.messages()[0].text = Some("a".to_owned())),
        "G1: acked and lost in ap: [0.3 ana in us",
    );
    // The text has it, the history of the message not.
    let forget = |state: &mut RegionState| {
        let versions = state.versions.get_mut("m1").unwrap();
        *versions = vec!["a".to_owned()];
    };
    found(
        |_, settled| settled.everywhere(forget),
        "G1: acked and lost in ap: [0.3 ana in us",
    );
    found(
        |_, settled| settled.everywhere(|state| drop(state.conversations.remove("d"))),
        "G1: acked and lost in ap: [1.6 ben in ap",
    );
    found(
        |_, settled| settled.everywhere(|state| state.messages()[1].reactions.clear()),
        "G1: acked and lost in ap: [1.4 ben in us",
    );
}

#[test]
fn g13_what_comes_back_is_found() {
    found(
        |_, settled| settled.everywhere(|state| state.messages()[2] = third(Some("c"))),
        "G13: ap, in the end, shows the text of m3, whose redaction was seen: [1.3 ben",
    );
    found(
        |history, _| history.page(BEN, 5).messages[2] = third(Some("c")),
        "G13: [1.5 ben in ap",
    );
    found(
        |history, _| history.told(2).push(Told::Changed(third(Some("c")))),
        "G13: [2.2 cleo in ap",
    );
}

#[test]
fn g7_what_is_doubled_or_made_up_is_found() {
    let again = || Seen {
        id: "m9".to_owned(),
        position: "9".to_owned(),
        ..second()
    };
    found(
        |_, settled| settled.everywhere(|state| state.messages().push(again())),
        "G7: ap, in the end, shows `b` more than once",
    );
    found(
        |history, _| history.page(BEN, 5).messages.push(again()),
        "G7: [1.5 ben in ap",
    );
    found(
        |history, _| {
            let other = Seen {
                id: "m9".to_owned(),
                ..second()
            };
            history.at(ANA, 1).outcome = answered(other);
        },
        "G7: key `b` was answered m2 and m9",
    );
    found(
        |history, _| {
            history.at(ANA, 1).outcome = Outcome::Refused("no".to_owned());
            history.at(ANA, 2).outcome = Outcome::Refused("no".to_owned());
        },
        "G7: ap, in the end, shows message m2 `b`, which nobody had written",
    );
    found(
        |_, settled| settled.everywhere(|state| state.messages()[1].sender = "eve".to_owned()),
        "G7: ap, in the end, shows message m2",
    );
    found(
        |_, settled| settled.everywhere(|state| state.messages()[1].text = None),
        "G7: ap, in the end, shows the redaction of m2",
    );
    found(
        |history, _| history.page(BEN, 0).messages[1].text = Some("b e".to_owned()),
        "G7: [1.0 ben in us",
    );
    found(
        |history, _| history.at(ANA, 4).ended_us = 500,
        "G7: [0.4 ana in ap",
    );
    found(
        |_, settled| {
            let reactions = |state: &mut RegionState| {
                state.messages()[1].reactions.insert("👍".to_owned(), 2);
            };
            settled.everywhere(reactions);
        },
        "G7: ap, in the end, shows 2 👍 on m2",
    );
}

#[test]
fn g11_and_g4_what_differs_is_found() {
    found(
        |_, settled| settled.everywhere(|state| state.messages().swap(0, 1)),
        "G11: ap, in the end, shows m2 before m1",
    );
    found(
        |history, _| history.page(BEN, 0).messages.swap(0, 1),
        "G11: [1.0 ben in us",
    );
    found(
        |_, settled| settled.region("us").messages()[1].position = "25".to_owned(),
        "G11: ap and us page differently through c, at m2",
    );
    found(
        |_, settled| settled.region("us").messages()[0].text = Some("a".to_owned()),
        "G4: ap and us differ in what m1 is",
    );
    found(
        |_, settled| settled.region("eu").unread[0].count = 1,
        "G4: ap and eu differ in what ana has not read of c",
    );
    found(
        |_, settled| settled.region("eu").digest.push('!'),
        "G4: ap and eu differ in their digests",
    );
    found(
        |_, settled| drop(settled.region("eu").versions.get_mut("m1").unwrap().pop()),
        "G4: ap and eu differ in the versions of m1",
    );
    found(
        |_, settled| drop(settled.region("eu").conversations.remove("d")),
        "G4: ap and eu differ in which conversations there are",
    );
}

#[test]
fn g9_a_session_that_forgets_is_found() {
    found(
        |history, _| drop(history.page(ANA, 4).messages.remove(1)),
        "G9: own write is not read: [0.4 ana in ap",
    );
    found(
        |history, _| drop(history.page(BEN, 5).messages.remove(0)),
        "G9: reads go back: [1.5 ben in ap",
    );
    found(
        |history, _| history.page(ANA, 4).messages[0] = first("a"),
        "G9: own write is not read: [0.4 ana in ap",
    );
    found(
        |history, _| history.page(BEN, 5).messages[0] = first("a"),
        "G9: reads go back: [1.5 ben in ap",
    );
}

/// What a region says that it lacks is excused, and nothing else is.
#[test]
fn g9_honest_staleness_is_excused() {
    let (mut history, settled) = clean();
    let stale = |history: &mut History, region: &str| {
        let page = history.page(BEN, 5);
        page.messages = vec![first("a")];
        page.stale = vec![region.to_owned()];
    };
    stale(&mut history, "us");
    let report = check(&history, &settled);
    assert_eq!(report.violations, []);
    assert_eq!(report.counts.stale, 1);
    found(
        |history, _| stale(history, "ap"),
        "G9: reads go back: [1.5 ben in ap",
    );
}

#[test]
fn g10_what_shows_before_its_cause_is_found() {
    found(
        |history, _| drop(history.page(BEN, 0).messages.remove(0)),
        "G10: [1.0 ben in us, 0.006 to 0.006 s: page of c, done] shows reply m2 before message m1",
    );
    // Ben had seen m2 in us before he posted there.
    let plant = |history: &mut History| {
        let page = history.page(ANA, 4);
        page.messages = vec![first("a"), third(Some("c"))];
        let at = history.at(ANA, 4);
        (at.invoked_us, at.ended_us) = (8_500, 8_600);
    };
    found(
        |history, _| plant(history),
        "G10: [0.4 ana in ap, 0.009 to 0.009 s: page of c, done] shows [1.2 ben in us",
    );
    // He had not, where he saw it: then nothing was promised.
    let (mut history, settled) = clean();
    plant(&mut history);
    history.at(BEN, 2).region = "eu".to_owned();
    let Report { violations, .. } = check(&history, &settled);
    let follows = |v: &Violation| matches!(v, Violation::WritesFollowReads { .. });
    assert!(!violations.iter().any(follows), "{violations:#?}");

    found(
        |history, _| history.told(1).swap(0, 1),
        "G10: [2.1 cleo in us, 0.013 to 0.013 s: listen, done] shows reply m2 before message m1",
    );
    found(
        |history, _| history.told(1).swap(0, 2),
        "G10: [2.1 cleo in us, 0.013 to 0.013 s: listen, done] shows a change before message m1",
    );
    found(
        |history, _| history.told(1).swap(0, 3),
        "G10: [2.1 cleo in us, 0.013 to 0.013 s: listen, done] shows a receipt of ben before",
    );
    found(
        |history, _| {
            let m3 = history.told(2).remove(0);
            history.told(1).insert(1, m3);
        },
        "G10: [2.1 cleo in us, 0.013 to 0.013 s: listen, done] shows [1.2 ben in us",
    );
}

#[test]
fn g8_what_streams_get_wrong_is_found() {
    found(
        |history, _| drop(history.told(2).remove(0)),
        "G8: session 2 never heard of m3",
    );
    found(
        |history, _| history.told(2).push(Told::Posted(first("a e"))),
        "G8: session 2 heard twice of m1, the second time by [2.2 cleo in ap",
    );
    found(
        |history, _| history.told(2).push(Told::Gap),
        "G8: a gap, although nothing was trimmed: [2.2 cleo in ap",
    );
    found(
        |history, _| drop(history.told(1).remove(2)),
        "G8: session 2 was told last of m1 by [2.1 cleo in us",
    );
}

/// A region that is behind cannot know that it was told of a post from its other place.
#[test]
fn g8_a_retried_post_may_be_told_again_by_who_is_behind() {
    let (mut history, settled) = clean();
    // The second message was sent to eu and to us.
    history
        .told(2)
        .extend([Told::Behind, Told::Posted(second())]);
    let Report { violations, .. } = check(&history, &settled);
    assert_eq!(violations, []);
    found(
        |history, _| {
            let again = Told::Posted(second());
            history.told(2).extend([Told::Behind, again.clone(), again]);
        },
        "G8: session 2 heard twice of m2",
    );
    found(
        |history, _| {
            history
                .told(2)
                .extend([Told::Behind, Told::Posted(first("a e"))]);
        },
        "G8: session 2 heard twice of m1",
    );
}

#[test]
fn g6_markers_that_lie_are_found() {
    found(
        |history, _| {
            history.told(1).swap(3, 4);
            // One that was sent once only: it stands in one place.
            history.at(ANA, 1).outcome = Outcome::Refused("no".to_owned());
        },
        "G6: the marker of ben goes back to m1: [2.1 cleo in us",
    );
    found(
        |_, settled| settled.everywhere(|state| state.unread[1].count = 1),
        "G6: ap counts 1 unread for ben in c, a recount 0 to 0",
    );
    // A mark whose answer is unknown may have covered it, or not.
    for count in 0..=2 {
        let (mut history, mut settled) = clean();
        history.at(BEN, 1).outcome = Outcome::Unknown("no answer".to_owned());
        settled.everywhere(|state| state.unread[1].count = count);
        assert_eq!(check(&history, &settled).violations, []);
    }
}
