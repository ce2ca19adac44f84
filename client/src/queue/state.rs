//! What a queue holds. Pure: records in, decisions out.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Entry, Failed, MessageRef, Outcome, Reason, Sent, Ticket, Write};
use super::log::Record;

/// Answers that are kept, for edits of messages that were sent. More: a larger file.
const SENT_MAX: usize = 1_024;

/// Lines of the file that say nothing any more, before it is written anew.
const DEAD_LINES_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct State {
    next: u64,
    pub(super) waiting: BTreeMap<Ticket, Entry>,
    sent: BTreeMap<Ticket, Sent>,
    failed: BTreeMap<Ticket, (Write, Reason)>,
}

/// What an entry asks for, with nothing left open.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    /// Id of the message that it is about or answers.
    pub(super) message: Option<String>,
    /// The revision that it is made on.
    pub(super) base: Option<String>,
}

impl State {
    pub(super) fn of(records: Vec<Record>) -> Self {
        let mut state = Self {
            next: 1,
            ..Self::default()
        };
        records.into_iter().for_each(|record| state.apply(record));
        state
    }

    pub(super) fn apply(&mut self, record: Record) {
        match record {
            Record::Queue { next, .. } => self.next = self.next.max(next),
            Record::Add(entry) => {
                self.next = self.next.max(entry.ticket.0 + 1);
                self.waiting.insert(entry.ticket, entry);
            }
            Record::Sent { ticket, sent } => {
                self.waiting.remove(&ticket);
                self.sent.insert(ticket, sent);
                self.forget_old();
            }
            Record::Failed { ticket, reason } => {
                if let Some(entry) = self.waiting.remove(&ticket) {
                    self.failed.insert(ticket, (entry.write, reason));
                }
            }
            Record::Cleared { ticket } => {
                self.failed.remove(&ticket);
            }
        }
    }

    fn forget_old(&mut self) {
        if self.sent.len() <= SENT_MAX {
            return;
        }
        let needed: BTreeSet<Ticket> = self.waiting.values().flat_map(Entry::needs).collect();
        let oldest = self.sent.keys().find(|ticket| !needed.contains(ticket));
        if let Some(oldest) = oldest.copied() {
            self.sent.remove(&oldest);
        }
    }

    /// Entries that take up room.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.failed.len()
    }

    /// A new entry; `Err` says what is wrong with the write.
    pub(super) fn entry(&self, write: Write, key: String) -> Result<Entry, String> {
        if let Some(MessageRef::Queued(ticket)) = write.target() {
            self.check_is_post(*ticket)?;
        }
        let mut after = None;
        if let Write::Edit { message, base, .. } = &write {
            let of_same = |entry: &&Entry| matches!(&entry.write, Write::Edit { message: other, .. } if self.is_same(message, other));
            let earlier = self.waiting.values().rfind(of_same);
            after = earlier.map(|earlier| earlier.ticket);
            if after.is_none() && base.is_none() && matches!(message, MessageRef::Id(_)) {
                return Err(
                    "an edit of a message that was not posted by this queue names its \
                            `base`: the `revision` that the writer saw"
                        .to_owned(),
                );
            }
        }
        Ok(Entry {
            ticket: Ticket(self.next),
            key,
            write,
            after,
        })
    }

    fn check_is_post(&self, ticket: Ticket) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("entry {ticket} {what}"));
        match (self.waiting.get(&ticket), self.sent.get(&ticket)) {
            (Some(entry), _) if matches!(entry.write, Write::Post { .. }) => Ok(()),
            (None, Some(sent)) if sent.message.is_some() => Ok(()),
            (Some(_), _) | (_, Some(_)) => wrong("is no post"),
            _ if self.failed.contains_key(&ticket) => wrong("has failed"),
            _ if ticket.0 < self.next => wrong("is done; name the message by its id"),
            _ => wrong("is none of this queue"),
        }
    }

    /// Whether two references mean one message, as far as that is known.
    fn is_same(&self, one: &MessageRef, other: &MessageRef) -> bool {
        one == other || matches!((self.id(one), self.id(other)), (Some(a), Some(b)) if a == b)
    }

    fn id<'a>(&'a self, message: &'a MessageRef) -> Option<&'a str> {
        match message {
            MessageRef::Id(id) => Some(id),
            MessageRef::Queued(ticket) => self.sent.get(ticket)?.message.as_deref(),
        }
    }

    /// What a waiting entry asks for now that all before it are done.
    pub(super) fn resolve(&self, entry: &Entry) -> Result<Resolved, Reason> {
        // What neither was sent nor waits has failed, even if that was cleared since.
        for needed in entry.needs() {
            if !self.sent.contains_key(&needed) {
                return Err(Reason::Dependent(needed));
            }
        }
        let message = entry
            .write
            .target()
            .and_then(|m| self.id(m))
            .map(str::to_owned);
        let base = match &entry.write {
            Write::Edit { base, .. } => {
                let earlier = entry.after.and_then(|edit| self.sent.get(&edit));
                let of_message = |sent: &&Sent| sent.message == message && sent.revision.is_some();
                earlier
                    .and_then(|sent| sent.revision.clone())
                    .or_else(|| base.clone())
                    .or_else(|| self.sent.values().rfind(of_message)?.revision.clone())
            }
            _ => None,
        };
        Ok(Resolved { message, base })
    }

    /// Whether a message was posted by this queue: a region that does not know it has not got it
    /// yet.
    pub(super) fn is_own(&self, message: &str) -> bool {
        self.sent
            .values()
            .any(|sent| sent.message.as_deref() == Some(message))
    }

    pub(super) fn outcome(&self, ticket: Ticket) -> Option<Outcome> {
        let sent = self.sent.get(&ticket).cloned().map(Outcome::Sent);
        sent.or_else(|| {
            let (_, reason) = self.failed.get(&ticket)?;
            Some(Outcome::Failed(reason.clone()))
        })
    }

    pub(super) fn failed(&self) -> Vec<Failed> {
        let failed = self.failed.iter().map(|(ticket, (write, reason))| Failed {
            ticket: *ticket,
            write: write.clone(),
            reason: reason.clone(),
        });
        failed.collect()
    }

    /// Whether a file of so many lines is mostly of the past.
    pub(super) fn is_worth_rewriting(&self, lines: usize) -> bool {
        let alive = 1 + self.waiting.len() + self.sent.len() + 2 * self.failed.len();
        lines > 2 * alive + DEAD_LINES_MAX
    }

    /// All that is still of use.
    pub(super) fn records(&self) -> Vec<Record> {
        let mut records = vec![Record::head(self.next)];
        for (ticket, sent) in &self.sent {
            records.push(Record::Sent {
                ticket: *ticket,
                sent: sent.clone(),
            });
        }
        for (ticket, (write, reason)) in &self.failed {
            records.push(Record::Add(Entry {
                ticket: *ticket,
                key: String::new(),
                write: write.clone(),
                after: None,
            }));
            records.push(Record::Failed {
                ticket: *ticket,
                reason: reason.clone(),
            });
        }
        records.extend(self.waiting.values().cloned().map(Record::Add));
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post() -> Write {
        Write::Post {
            conversation: "c".to_owned(),
            text: "hi".to_owned(),
            reply_to: None,
        }
    }

    fn edit(message: impl Into<MessageRef>, base: Option<&str>) -> Write {
        Write::Edit {
            conversation: "c".to_owned(),
            message: message.into(),
            text: "hi!".to_owned(),
            base: base.map(str::to_owned),
        }
    }

    fn add(state: &mut State, write: Write) -> Ticket {
        let entry = state.entry(write, "k".to_owned()).unwrap();
        let ticket = entry.ticket;
        state.apply(Record::Add(entry));
        ticket
    }

    fn sent(state: &mut State, ticket: Ticket, message: &str, revision: &str) {
        state.apply(Record::Sent {
            ticket,
            sent: Sent {
                message: Some(message.to_owned()),
                revision: Some(revision.to_owned()),
            },
        });
    }

    fn resolved(state: &State, ticket: Ticket) -> (String, String) {
        let resolved = state.resolve(&state.waiting[&ticket]).unwrap();
        (resolved.message.unwrap(), resolved.base.unwrap())
    }

    fn pair(message: &str, base: &str) -> (String, String) {
        (message.to_owned(), base.to_owned())
    }

    #[test]
    fn edits_are_made_on_what_was_answered_before() {
        let mut state = State::of(Vec::new());
        let posted = add(&mut state, post());
        let first = add(&mut state, edit(posted, None));
        let second = add(&mut state, edit(posted, None));
        sent(&mut state, posted, "m1", "r0");
        assert_eq!(resolved(&state, first), pair("m1", "r0"));
        sent(&mut state, first, "m1", "r1");
        assert_eq!(resolved(&state, second), pair("m1", "r1"));
        sent(&mut state, second, "m1", "r2");
        // All before it are done; by ticket or by id it is one message.
        let third = add(&mut state, edit(posted, None));
        assert_eq!(resolved(&state, third), pair("m1", "r2"));
        let fourth = add(&mut state, edit("m1", Some("r0")));
        sent(&mut state, third, "m1", "r3");
        assert_eq!(resolved(&state, fourth), pair("m1", "r3"));
        sent(&mut state, fourth, "m1", "r4");
        // The writer saw what others wrote since.
        let fifth = add(&mut state, edit("m1", Some("r9")));
        assert_eq!(resolved(&state, fifth), pair("m1", "r9"));
    }

    #[test]
    fn what_needs_a_failed_entry_fails() {
        let mut state = State::of(Vec::new());
        let posted = add(&mut state, post());
        let edited = add(&mut state, edit(posted, None));
        let reason = Reason::Unsendable("because".to_owned());
        state.apply(Record::Failed {
            ticket: posted,
            reason: reason.clone(),
        });
        let dependent = Err(Reason::Dependent(posted));
        assert_eq!(state.resolve(&state.waiting[&edited]), dependent);
        assert_eq!(state.outcome(posted), Some(Outcome::Failed(reason)));
        state.apply(Record::Cleared { ticket: posted });
        assert_eq!(state.resolve(&state.waiting[&edited]), dependent);
        assert_eq!(state.outcome(posted), None);
    }

    #[test]
    fn references_are_checked() {
        let mut state = State::of(Vec::new());
        let posted = add(&mut state, post());
        let edited = add(&mut state, edit(posted, None));
        let check = |write: Write, says: &str| {
            let error = state.entry(write, "k".to_owned()).unwrap_err();
            assert!(error.contains(says), "{error}");
        };
        check(edit("m1", None), "`base`");
        check(edit(edited, None), "is no post");
        check(edit(Ticket(99), None), "none of this queue");
    }

    #[test]
    fn a_rewritten_file_says_the_same_and_no_ticket_comes_again() {
        let mut state = State::of(Vec::new());
        for n in 0..2 * SENT_MAX {
            let ticket = add(&mut state, post());
            sent(&mut state, ticket, &format!("m{n}"), "r0");
        }
        let failed = add(&mut state, post());
        let waiting = add(&mut state, post());
        state.apply(Record::Failed {
            ticket: failed,
            reason: Reason::Unsendable("because".to_owned()),
        });
        let again = State::of(state.records());
        assert_eq!(again.records(), state.records());
        assert_eq!(again.failed(), state.failed());
        assert_eq!(
            again.entry(post(), String::new()).unwrap().ticket,
            Ticket(waiting.0 + 1)
        );
        assert_eq!(state.sent.len(), SENT_MAX);
        assert!(state.is_worth_rewriting(4 * SENT_MAX));
        assert!(!state.is_worth_rewriting(state.records().len()));
    }
}
