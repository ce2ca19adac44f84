//! Conversations and their members.

use whimbrel_replication::crdt::conversation::Creation;
use whimbrel_replication::crdt::member::{Member, Value};
use whimbrel_replication::cursor::ShardCursor;
use whimbrel_replication::id::Place;
use whimbrel_replication::op::{ConversationKind, Op, Standing};

use super::Workspace;
use super::rows::{Crossing, Happening};
use crate::store::StoreError;
use crate::store::keys::Scope;

impl Workspace {
    pub(super) async fn created(
        &mut self,
        scope: &Scope,
        op: &Op,
        kind: ConversationKind,
        title: Option<String>,
        topic: Option<String>,
    ) -> Result<Happening, StoreError> {
        let mut row = self.conversation(scope).await?.unwrap_or_default();
        let creation = Creation {
            kind,
            creator: op.actor.clone(),
            position: op.position,
        };
        row.created(creation, title, topic);
        self.tx.set(&scope.conversation(), &row.encode());
        Ok(Happening::Conversation)
    }

    pub(super) async fn changed(
        &mut self,
        scope: &Scope,
        op: &Op,
        title: Option<String>,
        topic: Option<String>,
    ) -> Result<Happening, StoreError> {
        let mut row = self.conversation(scope).await?.unwrap_or_default();
        row.changed(op.position, title, topic);
        self.tx.set(&scope.conversation(), &row.encode());
        Ok(Happening::Conversation)
    }

    pub(super) async fn set_member(
        &mut self,
        scope: &Scope,
        place: Place,
        op: &Op,
        user: &str,
        standing: Standing,
        deps: &ShardCursor,
    ) -> Result<Happening, StoreError> {
        let value = Value {
            dot: place,
            standing,
            position: op.position,
        };
        let change = |row: &mut Member| row.set(value, deps);
        let crossed = self.change_member(scope, user, change).await?;
        Ok(Happening::Member {
            user: user.to_owned(),
            crossed,
        })
    }

    /// Changes a member's row, and the count of those who are in with it.
    pub(super) async fn change_member(
        &mut self,
        scope: &Scope,
        user: &str,
        change: impl FnOnce(&mut Member),
    ) -> Result<Option<Crossing>, StoreError> {
        let slot = self.member_slot(scope, user).await?;
        let is_in = |row: &Option<Member>| {
            row.as_ref()
                .and_then(Member::standing)
                .is_some_and(Standing::is_in)
        };
        let was_in = is_in(&slot.now);
        change(slot.now.get_or_insert_default());
        let now_in = is_in(&slot.now);
        if was_in != now_in {
            let mut row = self.conversation(scope).await?.unwrap_or_default();
            row.members = if now_in {
                row.members + 1
            } else {
                row.members.saturating_sub(1)
            };
            self.tx.set(&scope.conversation(), &row.encode());
        }
        Ok(match (was_in, now_in) {
            (false, true) => Some(Crossing::In),
            (true, false) => Some(Crossing::Out),
            _ => None,
        })
    }
}
