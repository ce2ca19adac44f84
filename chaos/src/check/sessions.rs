//! Session guarantees (Terry et al., "Session Guarantees for Weakly Consistent Replicated Data",
//! 1994), while sessions go from region to region.
//!
//! *Read your writes* and *monotonic reads* hold for a session's pages, whichever region answers:
//! the cursors that it carries make them so. What a region said it lacks is excused, if it may have
//! been written in the regions that were named, and is expected no more.
//!
//! *Writes follow reads* holds for what the region of the write was known to hold: a write never
//! waits, so one in a region that lacks what its session saw elsewhere does not follow it. The
//! session knows that a region holds something when that region showed or took it, or answered a
//! read that carried a cursor of it.

use std::collections::{BTreeMap, BTreeSet};

use super::index::{Index, Write};
use super::violation::{At, Violation};
use crate::history::{Answer, Call, Operation, Outcome, Page, Seen, words};

/// What sessions knew regions to hold, and since which of their operations.
#[derive(Debug, Default)]
pub(super) struct Held<'a> {
    regions: BTreeMap<(u32, &'a str), BTreeMap<&'a str, u32>>,
}

impl<'a> Held<'a> {
    fn add(&mut self, by: &'a Operation, messages: impl IntoIterator<Item = &'a str>) {
        let key = (by.id.session, by.region.as_str());
        let held = self.regions.entry(key).or_default();
        for message in messages {
            held.entry(message).or_insert(by.id.number);
        }
    }

    /// What the region of an operation was known to hold once it was done.
    pub(super) fn after<'s>(&'s self, operation: &'s Operation) -> impl Iterator<Item = &'s str> {
        let key = (operation.id.session, operation.region.as_str());
        let number = operation.id.number;
        let held = self.regions.get(&key).into_iter().flatten();
        held.filter(move |(_, since)| **since <= number)
            .map(|(message, _)| *message)
    }

    /// Whether a write follows the message, by whichever try it happened.
    pub(super) fn follows(&self, write: &Write<'_>, message: &str) -> bool {
        write.possible().next().is_some()
            && write.possible().all(|operation| {
                let held = self
                    .regions
                    .get(&(operation.id.session, operation.region.as_str()));
                held.and_then(|held| held.get(message))
                    .is_some_and(|since| *since < operation.id.number)
            })
    }
}

/// Checks what each session sees of its own, and gives what it knew.
pub(super) fn check<'a>(index: &Index<'a>, found: &mut Vec<Violation>) -> Held<'a> {
    let mut held = Held::default();
    for operations in index.sessions.values() {
        let mut session = Session {
            index,
            known: BTreeMap::new(),
        };
        for operation in operations {
            session.step(operation, &mut held, found);
        }
    }
    held
}

/// Checks all pages against what the writers of what they show had seen.
pub(super) fn check_causes(index: &Index<'_>, held: &Held<'_>, found: &mut Vec<Violation>) {
    for operation in index.sessions.values().flatten() {
        if let (Call::Page { conversation }, Outcome::Done(Answer::Page(page))) =
            (&operation.call, &operation.outcome)
        {
            let texts = page.messages.iter().filter_map(|seen| seen.text.as_deref());
            let writes: Vec<&Write<'_>> = texts
                .flat_map(words)
                .filter_map(|word| index.writer(word))
                .collect();
            for cause in missing(index, conversation, page) {
                let at = || At::Operation((*operation).into());
                let refers = |seen: &&Seen| seen.reply_to.as_deref() == Some(cause);
                if let Some(reply) = page.messages.iter().find(refers) {
                    found.push(Violation::BeforeItsCause {
                        at: at(),
                        what: format!("reply {}", reply.id),
                        cause: cause.to_owned(),
                    });
                }
                let Some(posted) = index.post(cause).map(|post| post.first().invoked_us) else {
                    continue;
                };
                let mut later = writes
                    .iter()
                    .filter(|write| write.first().invoked_us > posted);
                if let Some(write) = later.find(|write| held.follows(write, cause)) {
                    found.push(Violation::WritesFollowReads {
                        at: at(),
                        write: write.first().into(),
                        cause: cause.to_owned(),
                    });
                }
            }
        }
    }
}

/// The messages of its conversation that a page would show if its region held them.
fn missing<'a>(
    index: &Index<'a>,
    conversation: &str,
    page: &'a Page,
) -> impl Iterator<Item = &'a str> {
    let from = match page.messages.first() {
        _ if page.complete => Some(""),
        Some(first) => Some(first.position.as_str()),
        None => None,
    };
    let there: BTreeSet<&str> = page.messages.iter().map(|seen| seen.id.as_str()).collect();
    let window = from.map(|from| index.messages_from(conversation, from));
    window
        .into_iter()
        .flatten()
        .filter(move |message| !there.contains(message))
}

struct Session<'i, 'a> {
    index: &'i Index<'a>,
    /// Conversation to message to what was seen of it.
    known: BTreeMap<&'a str, BTreeMap<&'a str, Known<'a>>>,
}

/// What a session knows of a message.
struct Known<'a> {
    by: &'a Operation,
    words: BTreeMap<&'a str, &'a Operation>,
    redacted: Option<&'a Operation>,
}

impl<'a> Session<'_, 'a> {
    fn step(&mut self, operation: &'a Operation, held: &mut Held<'a>, found: &mut Vec<Violation>) {
        let Outcome::Done(answer) = &operation.outcome else {
            return;
        };
        match (&operation.call, answer) {
            (Call::Page { conversation }, Answer::Page(page)) => {
                self.compare(operation, conversation, page, found);
                self.forget(conversation, page);
                page.messages
                    .iter()
                    .for_each(|seen| self.learn(operation, seen, true));
                // Its cursors covered all that is known now.
                let known = self.known.get(conversation.as_str()).into_iter().flatten();
                held.add(operation, known.map(|(message, _)| *message));
            }
            (_, Answer::Message { seen, .. }) => {
                self.learn(operation, seen, true);
                held.add(operation, [seen.id.as_str()]);
            }
            (Call::Redact { message, .. }, _) => {
                for known in self.known.values_mut() {
                    if let Some(known) = known.get_mut(message.as_str()) {
                        known.redacted.get_or_insert(operation);
                    }
                }
            }
            // An event shows how its message is by now; its cursor covers only what it tells.
            (_, Answer::Told(told)) => {
                for seen in told.iter().filter_map(|told| told.seen()) {
                    self.learn(operation, seen, false);
                    held.add(operation, [seen.id.as_str()]);
                }
            }
            _ => {}
        }
    }

    fn learn(&mut self, by: &'a Operation, seen: &'a Seen, whole: bool) {
        let conversation = self.known.entry(&seen.conversation).or_default();
        let known = conversation.entry(&seen.id).or_insert(Known {
            by,
            words: BTreeMap::new(),
            redacted: None,
        });
        if whole {
            for word in seen.text.iter().flat_map(|text| words(text)) {
                known.words.entry(word).or_insert(by);
            }
            if seen.text.is_none() {
                known.redacted.get_or_insert(by);
            }
        }
    }

    fn compare(
        &self,
        read: &Operation,
        conversation: &str,
        page: &Page,
        found: &mut Vec<Violation>,
    ) {
        let Some(known) = self.known.get(conversation) else {
            return;
        };
        for message in missing(self.index, conversation, page) {
            if let Some(known) = known.get(message)
                && !self.excused(self.index.post(message), page)
            {
                found.push(gone(known.by, read, format!("message {message}")));
            }
        }
        for seen in &page.messages {
            let (Some(known), Some(text)) = (known.get(seen.id.as_str()), &seen.text) else {
                continue;
            };
            let mut redactions = self.index.redactions(&seen.id);
            if let Some(redaction) = known.redacted
                && !redactions.any(|write| self.excused(Some(write), page))
            {
                found.push(Violation::Undead {
                    at: At::Operation(read.into()),
                    message: seen.id.clone(),
                    redaction: redaction.into(),
                });
            }
            let there: BTreeSet<&str> = words(text).collect();
            for (word, by) in &known.words {
                if !there.contains(word) && !self.excused(self.index.writer(word), page) {
                    found.push(gone(by, read, format!("`{word}` in message {}", seen.id)));
                }
            }
        }
    }

    /// Whether the region said that it may lack this.
    fn excused(&self, write: Option<&Write<'_>>, page: &Page) -> bool {
        write.is_some_and(|write| write.may_be_of(&page.stale))
    }

    /// What the region said that it may lack is expected no more, unless the page shows it.
    fn forget(&mut self, conversation: &str, page: &Page) {
        if page.stale.is_empty() {
            return;
        }
        let index = self.index;
        let gone =
            |write: Option<&Write<'_>>| write.is_some_and(|write| write.may_be_of(&page.stale));
        if let Some(known) = self.known.get_mut(conversation) {
            known.retain(|message, _| !gone(index.post(message)));
            for (message, known) in known {
                known.words.retain(|word, _| !gone(index.writer(word)));
                if index.redactions(message).any(|write| gone(Some(write))) {
                    known.redacted = None;
                }
            }
        }
    }
}

/// A session does not see what it had written or seen.
fn gone(earlier: &Operation, read: &Operation, what: String) -> Violation {
    let (earlier_cited, read) = (earlier.into(), read.into());
    if earlier.call.key().is_some() {
        Violation::ReadYourWrites {
            write: earlier_cited,
            read,
            what,
        }
    } else {
        Violation::MonotonicReads {
            earlier: earlier_cited,
            read,
            what,
        }
    }
}
