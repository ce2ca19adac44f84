//! Which sessions hear of what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use whimbrel_replication::id::ConversationId;

use super::SessionId;
use crate::apply::rows::Happening;
use crate::event::Event;

pub(super) struct Subscriber {
    pub(super) user: String,
    pub(super) events: mpsc::Sender<Arc<Event>>,
    pub(super) too_slow: CancellationToken,
}

/// Who wants to know what.
#[derive(Default)]
pub(super) struct Sessions {
    all: BTreeMap<SessionId, Subscriber>,
    by_conversation: BTreeMap<ConversationId, BTreeSet<SessionId>>,
    by_user: BTreeMap<String, BTreeSet<SessionId>>,
}

impl Sessions {
    pub(super) fn join(&mut self, session: SessionId, subscriber: Subscriber) {
        self.by_user
            .entry(subscriber.user.clone())
            .or_default()
            .insert(session);
        self.all.insert(session, subscriber);
    }

    pub(super) fn follow(&mut self, session: SessionId, conversation: ConversationId) {
        if self.all.contains_key(&session) {
            self.by_conversation
                .entry(conversation)
                .or_default()
                .insert(session);
        }
    }

    pub(super) fn leave(&mut self, session: SessionId) {
        if let Some(subscriber) = self.all.remove(&session)
            && let Some(sessions) = self.by_user.get_mut(&subscriber.user)
        {
            sessions.remove(&session);
            if sessions.is_empty() {
                self.by_user.remove(&subscriber.user);
            }
        }
        self.by_conversation.retain(|_, sessions| {
            sessions.remove(&session);
            !sessions.is_empty()
        });
    }

    /// Ends all of them; they may resume elsewhere.
    pub(super) fn close_all(&mut self) {
        for subscriber in std::mem::take(self).all.into_values() {
            subscriber.too_slow.cancel();
        }
    }

    fn of_user(&self, user: &str) -> BTreeSet<SessionId> {
        self.by_user.get(user).cloned().unwrap_or_default()
    }

    pub(super) fn care(&self, conversation: &ConversationId, happening: &Happening) -> bool {
        self.by_conversation.contains_key(conversation)
            || matches!(happening, Happening::Member { user, .. } if self.by_user.contains_key(user))
    }

    pub(super) fn hand_out(&mut self, event: &Arc<Event>) {
        let conversation = event.scope.conversation;
        let mut to = self
            .by_conversation
            .get(&conversation)
            .cloned()
            .unwrap_or_default();
        if let Some((user, standing)) = event.member() {
            let own = self.of_user(user);
            to.extend(&own);
            let is_in = standing.is_some_and(whimbrel_replication::op::Standing::is_in);
            for session in own {
                if is_in {
                    self.follow(session, conversation);
                } else if let Some(sessions) = self.by_conversation.get_mut(&conversation) {
                    sessions.remove(&session);
                }
            }
        }
        for session in to {
            let Some(subscriber) = self.all.get(&session) else {
                continue;
            };
            if let Err(error) = subscriber.events.try_send(event.clone()) {
                if matches!(error, mpsc::error::TrySendError::Full(_)) {
                    subscriber.too_slow.cancel();
                }
                self.leave(session);
            }
        }
    }
}
