//! State of another region, as snapshots and repairs bring it: merged row by row into what is here.
//!
//! Rows may come in any order, any number of times, and older than what is here.

use prost::Message as _;
use whimbrel_replication::crdt::conversation::Conversation;
use whimbrel_replication::crdt::member::Member;
use whimbrel_replication::crdt::message::Message;
use whimbrel_replication::crdt::reaction::Reaction;
use whimbrel_replication::cursor::ShardCursor;
use whimbrel_replication::error::DecodeError;
use whimbrel_replication::id::{ChangeHash, MessageId, OpStamp, Origin, ShardId};

use super::rows::ChangeRow;
use super::{ApplyError, Wanted, Workspace};
use crate::store::StoreError;
use crate::store::keys::{self, Scope};

/// One row of a conversation's state. All that is not among these is derived from them.
#[derive(Clone, Debug)]
pub enum Part {
    /// `c/`
    Conversation(Conversation),
    /// `e/`
    Change(MessageId, ChangeHash, ChangeRow),
    /// `m/`
    Member(String, Member),
    /// `r/`
    Marker(String, Origin, OpStamp),
    /// `s/`
    Message(MessageId, Box<Message>),
    /// `x/`
    Reaction(MessageId, String, String, Reaction),
}

impl Part {
    /// Whether rows of this kind travel.
    pub fn is_one(kind: &str) -> bool {
        matches!(kind, "c" | "e" | "m" | "r" | "s" | "x")
    }

    /// Reads a row of a shard of a cluster with this many.
    ///
    /// # Errors
    ///
    /// What comes from a peer may be anything.
    pub fn read(
        (shard, shards): (ShardId, u16),
        key: &[u8],
        value: &[u8],
    ) -> Result<(Scope, Self), DecodeError> {
        let scope = Scope::new(keys::conversation_of(key)?, shards);
        if scope.shard != shard {
            return Err(DecodeError::Range("conversation of another shard"));
        }
        let (part, same) = match &*keys::kind_of(key)? {
            "c" => {
                let row = Conversation::decode(value)?;
                (Self::Conversation(row), scope.conversation())
            }
            "e" => {
                let (message, change) = scope.change_parts(key)?;
                let row = ChangeRow::decode(value)?;
                let same = scope.change(&message, &change);
                (Self::Change(message, change, row), same)
            }
            "m" => {
                let user = scope.member_user(key)?;
                let same = scope.member(&user);
                (Self::Member(user, Member::decode(value)?), same)
            }
            "r" => {
                let (user, origin) = scope.marker_parts(key)?;
                let same = scope.marker(&user, origin);
                (Self::Marker(user, origin, OpStamp::try_from(value)?), same)
            }
            "s" => {
                let message = scope.message_id(key)?;
                let same = scope.message(&message);
                let row = Box::new(Message::decode(value)?);
                (Self::Message(message, row), same)
            }
            "x" => {
                let (message, emoji, user) = scope.reaction_parts(key)?;
                let same = scope.reaction(&message, &emoji, &user);
                let row = Reaction::decode(value)?;
                (Self::Reaction(message, emoji, user, row), same)
            }
            _ => return Err(DecodeError::Range("kind of a row")),
        };
        // One row, one key: or the same thing could be stored twice.
        if same != key {
            return Err(DecodeError::Range("conversation key"));
        }
        Ok((scope, part))
    }
}

impl Wanted {
    /// What joining a part reads.
    pub fn add_part(&mut self, scope: Scope, part: &Part) {
        match part {
            Part::Member(user, _) => self.add_member(scope, user),
            Part::Change(id, ..) | Part::Message(id, _) | Part::Reaction(id, ..) => {
                self.add_message(scope, *id);
            }
            Part::Conversation(_) | Part::Marker(..) => {}
        }
    }
}

impl Workspace {
    /// Takes all that a row of another region knows.
    pub async fn join(&mut self, scope: &Scope, part: Part) -> Result<(), ApplyError> {
        match part {
            Part::Conversation(other) => {
                let mut row = self.conversation(scope).await?.unwrap_or_default();
                row.join(other);
                self.tx.set(&scope.conversation(), &row.encode());
            }
            Part::Change(id, hash, row) => {
                let taken = self.take_change(scope, &id, row).await?;
                if taken.is_some_and(|taken| taken != hash) {
                    let wrong = format!("edit {hash} of message {id} has another hash");
                    return Err(ApplyError::Op(wrong));
                }
            }
            Part::Member(user, other) => {
                let join = |row: &mut Member| row.join(&other);
                self.change_member(scope, &user, join).await?;
            }
            Part::Marker(user, origin, at) => {
                self.read(scope, &user, &ShardCursor::from_iter([(origin, at)]));
            }
            Part::Message(id, other) => self.join_message(scope, &id, *other).await?,
            Part::Reaction(id, emoji, user, reaction) => {
                self.take_reaction(scope, &id, (&emoji, &user), reaction)
                    .await?;
            }
        }
        Ok(())
    }

    async fn join_message(
        &mut self,
        scope: &Scope,
        id: &MessageId,
        other: Message,
    ) -> Result<(), StoreError> {
        let message = self.message_slot(scope, id).await?;
        let message = message.now.get_or_insert_default();
        let was_redacted = message.redacted;
        // The text is derived from the edits that are here: they may be fewer, or more, than there.
        let is_edited = message.edited.is_some() || other.edited.is_some();
        message.join(other);
        if message.redacted {
            if !was_redacted {
                self.clear_edits(scope, id);
            }
        } else if is_edited {
            self.merge_edits(scope, id).await?;
        }
        Ok(())
    }
}
