//! What a session has read by itself. An event of the tailers that was read before that may show an older
//! state: a text could come back that this reader has seen redacted.

use std::collections::BTreeMap;
use std::time::Instant;

use whimbrel_replication::id::{ConversationId, MessageId, ShardId};

use crate::event::{Event, EventKind};

/// Whose state an event shows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Message(MessageId),
    Member(ConversationId, String),
}

/// When a session's reads ended.
#[derive(Debug)]
pub(super) struct OwnReads {
    /// Those of what was missed.
    missed: Instant,
    /// Those of events, while older ones of the same subject may still come.
    events: BTreeMap<(ShardId, Subject), Instant>,
}

impl OwnReads {
    /// Of a session that opens.
    pub(super) fn new() -> Self {
        Self {
            missed: Instant::now(),
            events: BTreeMap::new(),
        }
    }

    /// Something that was missed was read.
    pub(super) fn read_missed(&mut self) {
        self.missed = Instant::now();
    }

    /// An event was read once more.
    pub(super) fn read_again(&mut self, event: &Event) {
        if let Some(subject) = subject(event) {
            self.events.insert(subject, Instant::now());
        }
    }

    /// Whether an event of the tailers may show an older state than this session has read.
    pub(super) fn may_be_ahead_of(&mut self, event: &Event) -> bool {
        let Some(subject) = subject(event) else {
            return false;
        };
        let is_older = event.read_at <= self.missed
            || (self.events.get(&subject)).is_some_and(|read| event.read_at <= *read);
        // A shard's tailer reads one event after the other.
        let shard = subject.0;
        self.events
            .retain(|(of, _), read| *of != shard || *read >= event.read_at);
        is_older
    }
}

/// `None` for what shows no state, or shows that of the moment in which it is told.
fn subject(event: &Event) -> Option<(ShardId, Subject)> {
    let subject = match &event.kind {
        EventKind::Message { id, .. } => Subject::Message(*id),
        EventKind::Member { user, .. } => Subject::Member(event.scope.conversation, user.clone()),
        EventKind::Conversation | EventKind::Receipt { .. } | EventKind::Typing { .. } => {
            return None;
        }
    };
    Some((event.scope.shard, subject))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::keys::Scope;

    fn member(user: &str, scope: Scope, read_at: Instant) -> Event {
        Event {
            scope,
            place: None,
            read_at,
            kind: EventKind::Member {
                user: user.to_owned(),
                standing: None,
            },
        }
    }

    /// Two events of one subject wait. The first was read before what was missed, and is read again; the second
    /// was read in between, and must be read again too.
    #[test]
    fn g13_what_was_read_again_makes_older_events_of_it_old() {
        let mut reads = OwnReads::new();
        let scope = Scope::new(ConversationId::from_bytes([1; 16]), 1);
        let early = member("ana", scope, reads.missed);
        assert!(reads.may_be_ahead_of(&early));
        let waiting = |user| member(user, scope, reads.missed + Duration::from_nanos(1));
        let (second, other) = (waiting("ana"), waiting("ben"));
        reads.read_again(&early);
        assert!(reads.may_be_ahead_of(&second), "older than what was shown");
        assert!(!reads.may_be_ahead_of(&other), "nothing newer was shown");
        reads.read_again(&second);
        let fresh = member("ana", scope, Instant::now() + Duration::from_secs(1));
        assert!(!reads.may_be_ahead_of(&fresh));
        assert!(reads.events.is_empty(), "nothing older can come");
    }
}
