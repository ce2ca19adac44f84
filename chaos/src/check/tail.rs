//! A region's disk is lost, and with it what that region alone had acked: its *tail*. What had been
//! acked there by itself, and is of the tail, may be gone; nothing else may.

use std::collections::BTreeSet;

use super::{Report, Violation, check};
use crate::history::{Answer, Call, History, OpId, Operation, Outcome, Settled, Told};

/// What was lost with a region's disk, at most: what the region acked by itself meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The region.
    pub region: String,
    /// All that was acked before this is said to be elsewhere, too. Microseconds since the run began.
    pub since_us: u64,
    /// When the region told what no other has.
    pub reported_us: u64,
    /// How many ops these were.
    pub ops: u64,
    /// When the disk was lost.
    pub until_us: u64,
}

/// What remains to be found, and what is gone as it may be.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Without what may be gone.
    pub report: Report,
    /// Acked writes of tails that are gone.
    pub gone: BTreeSet<OpId>,
}

/// As [`check()`], where disks were lost.
pub fn check_without(history: &History, settled: &Settled, tails: &[Tail]) -> Judged {
    let before = check(history, settled);
    let mut excused = history.clone();
    let covered = |operation: &&Operation| tails.iter().any(|tail| tail.covers(operation));
    let covered: BTreeSet<OpId> = history
        .operations
        .iter()
        .filter(covered)
        .map(|o| o.id)
        .collect();
    for operation in &mut excused.operations {
        // A mark of what such a page showed covers what is gone, and not what is posted again.
        let marks = matches!(&operation.call, Call::Mark { read, .. } if covered.contains(read));
        if marks || covered.contains(&operation.id) {
            excuse(operation);
        }
    }
    let after = check(&excused, settled);
    let lost = |report: &Report| -> BTreeSet<OpId> {
        let lost = report
            .violations
            .iter()
            .filter_map(|violation| match violation {
                Violation::Lost { write, .. } => Some(write.id),
                _ => None,
            });
        lost.collect()
    };
    let gone = &lost(&before) - &lost(&after);
    // What such a stream told of changes may have been lost, or may have stayed: it is wrong if it is wrong with
    // it and without it.
    let told_wrong = |violation: &Violation| match violation {
        Violation::ToldWrong {
            session, message, ..
        } => Some((*session, message.clone())),
        _ => None,
    };
    let wrong: BTreeSet<_> = before.violations.iter().filter_map(told_wrong).collect();
    let mut violations = after.violations;
    violations.retain(|violation| told_wrong(violation).is_none_or(|told| wrong.contains(&told)));
    violations.extend(
        tails
            .iter()
            .filter_map(|tail| tail.exceeded(history, &gone)),
    );
    Judged {
        gone,
        report: Report {
            violations,
            // What clients saw they saw.
            counts: before.counts,
        },
    }
}

impl Tail {
    /// What is gone was reported, or acked since: each write is an op at least.
    fn exceeded(&self, history: &History, gone: &BTreeSet<OpId>) -> Option<Violation> {
        let here = history
            .operations
            .iter()
            .filter(|o| o.region == self.region);
        let of_tail = here.filter(|o| gone.contains(&o.id) && o.ended_us < self.reported_us);
        let gone = of_tail.count() as u64;
        (gone > self.ops).then(|| Violation::BeyondTail {
            region: self.region.clone(),
            gone,
            reported: self.ops,
        })
    }

    fn covers(&self, operation: &Operation) -> bool {
        let by_more = matches!(operation.call, Call::Post { regions: 2.., .. });
        operation.region == self.region
            && operation.ended_us >= self.since_us
            && operation.invoked_us <= self.until_us
            && !by_more
    }
}

/// An ack says no more that it was done, and a stream no more how things stay.
fn excuse(operation: &mut Operation) {
    let is_write = operation.call.key().is_some() || matches!(operation.call, Call::Mark { .. });
    match &mut operation.outcome {
        outcome @ Outcome::Done(_) if is_write => {
            *outcome = Outcome::Unknown("lost with the disk".to_owned());
        }
        Outcome::Done(Answer::Told(told)) => {
            told.retain(|told| matches!(told, Told::Posted(_) | Told::Behind | Told::Gap));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Page, RegionState, Seen, Unread};

    fn post(number: u32, region: &str, us: u64, regions: u16) -> Operation {
        let key = format!("p{number}");
        let seen = Seen {
            id: format!("m{number}"),
            conversation: "c".to_owned(),
            position: number.to_string(),
            sender: "ana".to_owned(),
            text: Some(key.clone()),
            reply_to: None,
            reactions: std::collections::BTreeMap::new(),
        };
        Operation {
            id: OpId { session: 0, number },
            user: "ana".to_owned(),
            region: region.to_owned(),
            invoked_us: us,
            ended_us: us + 1,
            call: Call::Post {
                text: key.clone(),
                key,
                conversation: "c".to_owned(),
                reply_to: None,
                regions,
            },
            outcome: Outcome::Done(Answer::Message {
                seen,
                replayed: false,
            }),
        }
    }

    /// None of these is there in the end; which are missed, and which may be gone.
    fn check_all(posts: Vec<Operation>, missed: &[u32], gone: &[u32]) {
        let history = History { operations: posts };
        let settled = Settled {
            regions: [("us".to_owned(), RegionState::default())].into(),
        };
        let tail = Tail {
            region: "eu".to_owned(),
            since_us: 100,
            reported_us: 180,
            ops: 1,
            until_us: 200,
        };
        let judged = check_without(&history, &settled, &[tail]);
        let violations = judged.report.violations.iter();
        let lost: Vec<u32> = violations
            .map(|violation| match violation {
                Violation::Lost { write, .. } => write.id.number,
                Violation::BeyondTail { gone, .. } => 100 + u32::try_from(*gone).unwrap(),
                other => panic!("{other}"),
            })
            .collect();
        assert_eq!(lost, missed);
        let numbers: Vec<u32> = judged.gone.iter().map(|id| id.number).collect();
        assert_eq!(numbers, gone);
    }

    #[test]
    fn g14_only_the_tail_may_be_gone() {
        check_all(vec![post(0, "eu", 150, 1)], &[], &[0]);
        // Acked before the tail began, or after the disk was lost, or in another region.
        check_all(vec![post(0, "eu", 50, 1)], &[0], &[]);
        check_all(vec![post(0, "eu", 250, 1)], &[0], &[]);
        check_all(vec![post(0, "us", 150, 1)], &[0], &[]);
        // Acked by more than one region.
        check_all(vec![post(0, "eu", 150, 2)], &[0], &[]);
        check_all(
            vec![post(0, "eu", 50, 1), post(1, "eu", 150, 1)],
            &[0],
            &[1],
        );
        // More of it is gone than was reported; what came after the report does not count.
        let later = [post(0, "eu", 150, 1), post(1, "eu", 190, 1)];
        check_all(later.to_vec(), &[], &[0, 1]);
        let both = [post(0, "eu", 150, 1), post(1, "eu", 160, 1)];
        check_all(both.to_vec(), &[102], &[0, 1]);
    }

    /// Somebody reads a page in a region at a time, marks it as read there, and still has it unread.
    fn check_mark(read_in: &str, us: u64, expected: usize) {
        let post = post(0, "us", 50, 1);
        let Outcome::Done(Answer::Message { seen, .. }) = &post.outcome else {
            panic!("it was done");
        };
        let seen = seen.clone();
        let by_ben = |number, region: &str, us, call, answer| Operation {
            id: OpId { session: 1, number },
            user: "ben".to_owned(),
            region: region.to_owned(),
            invoked_us: us,
            ended_us: us + 1,
            call,
            outcome: Outcome::Done(answer),
        };
        let conversation = || "c".to_owned();
        let page = Page {
            messages: vec![seen.clone()],
            complete: true,
            stale: vec![],
        };
        let read = Call::Page {
            conversation: conversation(),
        };
        let read = by_ben(0, read_in, us, read, Answer::Page(page));
        let mark = Call::Mark {
            conversation: conversation(),
            read: read.id,
        };
        // Once the disk is lost: a mark before that is of the tail itself.
        let mark = by_ben(1, read_in, us + 500, mark, Answer::Nothing);
        let history = History {
            operations: vec![post, read, mark],
        };
        let state = RegionState {
            conversations: [(conversation(), vec![seen])].into(),
            unread: vec![Unread {
                user: "ben".to_owned(),
                conversation: conversation(),
                count: 1,
            }],
            ..RegionState::default()
        };
        let settled = Settled {
            regions: [("us".to_owned(), state)].into(),
        };
        let tail = Tail {
            region: "eu".to_owned(),
            since_us: 100,
            reported_us: 180,
            ops: 1,
            until_us: 200,
        };
        let judged = check_without(&history, &settled, &[tail]);
        let is_miscounted = |v: &&Violation| matches!(v, Violation::Miscounted { .. });
        let miscounted = judged.report.violations.iter().filter(is_miscounted);
        assert_eq!(miscounted.count(), expected, "{:?}", judged.report);
    }

    #[test]
    fn g6_only_a_mark_of_what_the_tail_showed_may_cover_less() {
        check_mark("eu", 150, 0);
        check_mark("us", 150, 1);
        check_mark("eu", 60, 1);
        check_mark("eu", 250, 1);
    }

    /// A stream tells of a post in us and of its edit in eu, whose disk is lost then.
    fn check_told(told_by_eu: &str, in_the_end: &str, expected: usize) {
        let post = post(0, "us", 50, 1);
        let Outcome::Done(Answer::Message { seen, .. }) = &post.outcome else {
            panic!("it was done");
        };
        let with = |text: &str| Seen {
            text: Some(text.to_owned()),
            ..seen.clone()
        };
        let listen = |number, region: &str, us, told| Operation {
            id: OpId { session: 1, number },
            user: "ben".to_owned(),
            region: region.to_owned(),
            invoked_us: us,
            ended_us: us + 1,
            call: Call::Listen,
            outcome: Outcome::Done(Answer::Told(told)),
        };
        let state = RegionState {
            conversations: [("c".to_owned(), vec![with(in_the_end)])].into(),
            ..RegionState::default()
        };
        let operations = vec![
            listen(0, "us", 10, vec![]),
            post.clone(),
            listen(1, "us", 60, vec![Told::Posted(seen.clone())]),
            listen(2, "eu", 150, vec![Told::Changed(with(told_by_eu))]),
        ];
        let tail = Tail {
            region: "eu".to_owned(),
            since_us: 100,
            reported_us: 180,
            ops: 1,
            until_us: 200,
        };
        let settled = Settled {
            regions: [("us".to_owned(), state)].into(),
        };
        let judged = check_without(&History { operations }, &settled, &[tail]);
        let is_wrong = |v: &&Violation| matches!(v, Violation::ToldWrong { .. });
        let wrong = judged.report.violations.iter().filter(is_wrong);
        assert_eq!(wrong.count(), expected, "{:?}", judged.report);
    }

    #[test]
    fn g8_what_the_tail_told_may_be_lost_or_stay() {
        check_told("p0 e1", "p0 e1", 0);
        check_told("p0 e1", "p0", 0);
        check_told("p0 e1", "p0 e2", 1);
    }
}
