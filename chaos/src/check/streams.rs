//! Streams: no gap and no duplicate from region to region, and nothing before its cause.
//!
//! A session that listens is in every conversation that is posted to, and listens on until all
//! regions have converged and one more message was told in each conversation.

use std::collections::{BTreeMap, BTreeSet};

use super::index::{Index, Write};
use super::sessions::Held;
use super::violation::{At, Violation};
use crate::history::{Answer, Call, Operation, Outcome, Seen, Settled, Told, words};

pub(super) fn check(
    index: &Index<'_>,
    held: &Held<'_>,
    settled: &Settled,
    found: &mut Vec<Violation>,
) {
    let state = settled.regions.values().next();
    let messages = state.into_iter().flat_map(|s| s.conversations.values());
    let in_the_end: Vec<&Seen> = messages.flatten().collect();
    for (session, operations) in &index.sessions {
        let listens = operations.iter().filter_map(|&operation| {
            match (&operation.call, &operation.outcome) {
                (Call::Listen, Outcome::Done(Answer::Told(told))) => Some((operation, told)),
                _ => None,
            }
        });
        let listens: Vec<(&Operation, &Vec<Told>)> = listens.collect();
        let Some((opened, _)) = listens.first() else {
            continue;
        };
        let due = in_the_end.iter().filter(|seen| {
            let post = index.post(&seen.id);
            post.is_some_and(|post| post.first().invoked_us > opened.ended_us)
        });
        let mut stream = Stream {
            index,
            session: *session,
            due: due.map(|seen| seen.id.as_str()).collect(),
            posted: BTreeMap::new(),
            last: BTreeMap::new(),
            was_behind: false,
        };
        for (listen, told) in listens {
            stream.listen(listen, told, found);
        }
        stream.end(&in_the_end, found);
        stream.order(held, found);
    }
}

struct Stream<'i, 'a> {
    index: &'i Index<'a>,
    session: u32,
    /// Messages of which the stream must tell that they were posted.
    due: BTreeSet<&'a str>,
    /// Those of which it did: as how many-th, when, and in which conversation.
    posted: BTreeMap<&'a str, (usize, &'a Operation, &'a Seen)>,
    /// How each message was shown last.
    last: BTreeMap<&'a str, (&'a Operation, &'a Seen)>,
    /// It was once behind what had been heard: then changes may be told that are older than what
    /// was shown.
    was_behind: bool,
}

impl<'a> Stream<'_, 'a> {
    fn listen(&mut self, listen: &'a Operation, told: &'a [Told], found: &mut Vec<Violation>) {
        let mut redacted = BTreeSet::new();
        let mut markers = BTreeMap::new();
        let mut is_behind = false;
        let mut here = BTreeSet::new();
        for told in told {
            match told {
                Told::Posted(seen) => {
                    // A region that is behind cannot know that it was told from another place; what
                    // it told itself it knows.
                    let again = self.posted.contains_key(seen.id.as_str());
                    let first_here = here.insert(&seen.id);
                    let excused = is_behind && first_here && self.may_have_moved(&seen.id);
                    if again && !excused {
                        found.push(Violation::ToldTwice {
                            session: self.session,
                            message: seen.id.clone(),
                            listen: listen.into(),
                        });
                    }
                    if let Some(parent) = &seen.reply_to {
                        self.after(parent, listen, || format!("reply {}", seen.id), found);
                    }
                    let nth = self.posted.len();
                    self.posted.entry(&seen.id).or_insert((nth, listen, seen));
                }
                Told::Changed(seen) => {
                    self.after(&seen.id, listen, || "a change".to_owned(), found);
                }
                Told::Receipt { user, message } => {
                    self.after(message, listen, || format!("a receipt of {user}"), found);
                    self.marker(&mut markers, (user, message), listen, found);
                }
                Told::Behind => {
                    is_behind = true;
                    self.was_behind = true;
                }
                Told::Gap => found.push(Violation::Gap {
                    listen: listen.into(),
                }),
            }
            let Some(seen) = told.seen() else {
                continue;
            };
            if seen.text.is_none() {
                redacted.insert(&seen.id);
            } else if redacted.contains(&seen.id) {
                found.push(Violation::Undead {
                    at: At::Operation(listen.into()),
                    message: seen.id.clone(),
                    redaction: listen.into(),
                });
            }
            self.last.insert(&seen.id, (listen, seen));
        }
    }

    fn may_have_moved(&self, message: &str) -> bool {
        let post = self.index.post(message);
        post.is_none_or(Write::may_have_moved)
    }

    /// `what` refers to a message, of which must have been told.
    fn after(
        &self,
        cause: &str,
        listen: &Operation,
        what: impl FnOnce() -> String,
        found: &mut Vec<Violation>,
    ) {
        if self.due.contains(cause) && !self.posted.contains_key(cause) {
            found.push(Violation::BeforeItsCause {
                at: At::Operation(listen.into()),
                what: what(),
                cause: cause.to_owned(),
            });
        }
    }

    /// In one region a marker's last message only moves up. Of messages that may stand in two
    /// places, which of them it was is not known.
    fn marker(
        &self,
        markers: &mut BTreeMap<(&'a str, &'a str), &'a str>,
        (user, message): (&'a str, &'a str),
        listen: &Operation,
        found: &mut Vec<Violation>,
    ) {
        if self.may_have_moved(message) {
            return;
        }
        let Some((conversation, position)) = self.index.place(message) else {
            return;
        };
        let last = markers.insert((user, conversation), position);
        if last.is_some_and(|last| last > position) {
            found.push(Violation::MarkerWentBack {
                user: user.to_owned(),
                message: message.to_owned(),
                listen: listen.into(),
            });
        }
    }

    /// All was told, and what was told last is how it is.
    fn end(&self, in_the_end: &[&Seen], found: &mut Vec<Violation>) {
        for message in &self.due {
            if !self.posted.contains_key(message) {
                found.push(Violation::NeverTold {
                    session: self.session,
                    message: (*message).to_owned(),
                });
            }
        }
        if self.was_behind {
            return;
        }
        let all = |seen: &Seen| -> Option<BTreeSet<String>> {
            let text = seen.text.as_deref()?;
            Some(words(text).map(str::to_owned).collect())
        };
        for seen in in_the_end {
            if let Some((listen, last)) = self.last.get(seen.id.as_str())
                && (all(last) != all(seen) || last.reactions != seen.reactions)
            {
                found.push(Violation::ToldWrong {
                    session: self.session,
                    message: seen.id.clone(),
                    listen: (*listen).into(),
                });
            }
        }
    }

    /// No post is told before one that its writer had seen.
    fn order(&self, held: &Held<'_>, found: &mut Vec<Violation>) {
        let mut posted: Vec<_> = self.posted.values().collect();
        posted.sort_by_key(|(nth, ..)| nth);
        for (i, (_, listen, effect)) in posted.iter().enumerate() {
            let Some(write) = self.index.post(&effect.id) else {
                continue;
            };
            let later = posted[i + 1..]
                .iter()
                .filter(|(_, _, cause)| cause.conversation == effect.conversation);
            for (_, _, cause) in later {
                let before = self
                    .index
                    .post(&cause.id)
                    .is_some_and(|post| post.first().invoked_us < write.first().invoked_us);
                if before && held.follows(write, &cause.id) {
                    found.push(Violation::WritesFollowReads {
                        at: At::Operation((*listen).into()),
                        write: write.first().into(),
                        cause: cause.id.clone(),
                    });
                }
            }
        }
    }
}
