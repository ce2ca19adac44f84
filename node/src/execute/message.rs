//! Posts, edits, redactions and reactions.

use std::sync::PoisonError;

use whimbrel_replication::crdt::message::Message;
use whimbrel_replication::crdt::reaction::Reaction;
use whimbrel_replication::crdt::text::{RevisionRef, TextError};
use whimbrel_replication::id::MessageId;
use whimbrel_replication::op::{OpKind, Standing};

use super::Execution;
use crate::apply::{Edits, corrupt};
use crate::command::{Action, Answer, Command, Refusal};
use crate::store::StoreError;
use crate::store::keys::Scope;
use crate::view;

/// Different emoji on one message. Concurrent reactions in several regions may exceed it.
const EMOJI_PER_MESSAGE_MAX: usize = 20;

/// Concurrent edits of one message that nobody has settled. More in several regions at once do no
/// harm: only so many are made in each.
const HEADS_MAX: usize = 64;

/// Changes of one message together: every edit merges all of them.
const CHANGES_BYTES_MAX: usize = 192 * 1024;

/// The answer, and whether it had been done before.
type Answered = Result<(Answer, bool), Refusal>;

impl Execution {
    pub(super) async fn post(
        &mut self,
        scope: &Scope,
        command: &Command,
    ) -> Result<Answered, StoreError> {
        let Action::Post {
            message,
            text,
            reply_to,
            sent_at_unix_ms,
        } = &command.action
        else {
            return Err(StoreError::Misuse("post() takes a Post"));
        };
        if let Err(refusal) = self.must_be_in(scope, command, "post").await? {
            return Ok(Err(refusal));
        }
        // The id covers conversation, sender, key and body: if it is here, this is a retry.
        if self
            .workspace
            .message(scope, message)
            .await?
            .is_some_and(|row| row.post.is_some())
        {
            return Ok(self
                .shown(scope, command, message)
                .await?
                .map(|answer| (answer, true)));
        }
        if let Some(parent) = reply_to
            && self.workspace.message(scope, parent).await?.is_none()
        {
            return Ok(Err(Refusal::Rule {
                field: "reply_to",
                message: "no such message in this conversation, or not in this region yet".into(),
            }));
        }
        self.observe_last(scope);
        let posted = OpKind::Posted {
            message: *message,
            text: text.clone(),
            reply_to: *reply_to,
            sent_at_unix_ms: *sent_at_unix_ms,
        };
        self.push(command, None, posted).await?;
        Ok(self
            .shown(scope, command, message)
            .await?
            .map(|answer| (answer, false)))
    }

    /// A reply sorts after its parent, also when another node or region wrote the parent: the clock
    /// takes in the conversation's last position, once per batch.
    fn observe_last(&mut self, scope: &Scope) {
        if let Some(Some(last)) = self.unobserved.remove(scope) {
            let mut clock = self
                .context
                .clock
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            // A position beyond the drift bound leaves the clock alone; so does this call.
            let _ = clock.observe(last.hlc(), self.now_unix_ms);
        }
    }

    pub(super) async fn edit(
        &mut self,
        scope: &Scope,
        command: &Command,
        id: &MessageId,
        base: &RevisionRef,
        text: &str,
    ) -> Result<Answered, StoreError> {
        if let Err(refusal) = self.must_be_in(scope, command, "edit").await? {
            return Ok(Err(refusal));
        }
        let post = match self.live_post(scope, id).await? {
            Ok(post) => post,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if post.sender != command.actor {
            return Ok(Err(Refusal::Forbidden("only its sender edits a message")));
        }
        let edits_max = self.context.limits.edits_per_message;
        let edits = self.workspace.edits(scope, id).await?;
        let (hash, change) = match edits.document.edit(base, &command.key, text) {
            Ok(edit) => edit,
            Err(TextError::UnknownBase) => return Ok(Err(Refusal::UnknownBase)),
            Err(error) => {
                let message = format!("this edit cannot be made: {error}");
                return Ok(Err(Refusal::Rule {
                    field: "text",
                    message,
                }));
            }
        };
        let known = edits.rows.contains_key(&hash);
        if !known {
            if let Err(refusal) = check_size(edits, edits_max, &change) {
                // The document holds the change that is refused.
                self.workspace.forget_edits(scope, id);
                return Ok(Err(refusal));
            }
            self.push(
                command,
                None,
                OpKind::Edited {
                    message: *id,
                    change,
                },
            )
            .await?;
        }
        Ok(self
            .shown(scope, command, id)
            .await?
            .map(|answer| (answer, known)))
    }

    pub(super) async fn redact(
        &mut self,
        scope: &Scope,
        command: &Command,
        id: &MessageId,
    ) -> Result<Answered, StoreError> {
        let seen = match self.see(scope, command).await? {
            Ok(seen) => seen,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let row = self.workspace.message(scope, id).await?;
        let Some(Message {
            redacted,
            post: Some(post),
            ..
        }) = row
        else {
            return Ok(Err(Refusal::NotFound("message")));
        };
        let (redacted, own) = (*redacted, post.sender == command.actor && seen.is_in());
        if !own {
            let authority = self.authority(scope, command, seen.standing).await?;
            if !matches!(authority, Some(Standing::Owner | Standing::Admin)) {
                return Ok(Err(Refusal::Forbidden(
                    "only its sender, admins and owners redact a message",
                )));
            }
        }
        if !redacted {
            self.push(command, None, OpKind::Redacted { message: *id })
                .await?;
        }
        Ok(Ok((Answer::Nothing, false)))
    }

    pub(super) async fn react(
        &mut self,
        scope: &Scope,
        command: &Command,
        replayed: bool,
        id: &MessageId,
        emoji: &str,
        present: bool,
    ) -> Result<Answered, StoreError> {
        if let Err(refusal) = self.must_be_in(scope, command, "react").await? {
            return Ok(Err(refusal));
        }
        if let Err(refusal) = self.live_post(scope, id).await? {
            return Ok(Err(refusal));
        }
        let row = self.workspace.message(scope, id).await?;
        let shown = row.map_or(0, |row| row.reactions.len());
        let is_new = row.is_none_or(|row| !row.reactions.contains_key(emoji));
        if present && is_new && shown >= EMOJI_PER_MESSAGE_MAX {
            let message =
                format!("the message has {shown} different emoji, the limit; use one of them");
            return Ok(Err(Refusal::Rule {
                field: "emoji",
                message,
            }));
        }
        let key = scope.reaction(id, emoji, &command.actor);
        let held = self.workspace.tx().get(&key, false).await?;
        let held = held
            .map(|bytes| Reaction::decode(&bytes))
            .transpose()
            .map_err(corrupt)?;
        if !replayed && held.as_ref().is_some_and(|r| r.present) != present {
            let reacted = OpKind::Reacted {
                message: *id,
                emoji: emoji.to_owned(),
                present,
            };
            self.push(command, held.map(|r| r.position), reacted)
                .await?;
        }
        Ok(Ok((Answer::Nothing, false)))
    }

    async fn must_be_in(
        &mut self,
        scope: &Scope,
        command: &Command,
        what: &str,
    ) -> Result<Result<(), Refusal>, StoreError> {
        Ok(match self.see(scope, command).await? {
            Ok(seen) if seen.is_in() => Ok(()),
            Ok(_) => Err(Refusal::Forbidden(match what {
                "post" => "join first: only members post",
                "edit" => "join first: only members edit",
                _ => "join first: only members react",
            })),
            Err(refusal) => Err(refusal),
        })
    }

    /// The post of a message that is there and not redacted.
    async fn live_post(
        &mut self,
        scope: &Scope,
        id: &MessageId,
    ) -> Result<Result<whimbrel_replication::crdt::message::Post, Refusal>, StoreError> {
        let row = self.workspace.message(scope, id).await?;
        Ok(match row {
            Some(row) if row.redacted => Err(Refusal::Redacted),
            Some(Message {
                post: Some(post), ..
            }) => Ok(post.clone()),
            _ => Err(Refusal::NotFound("message")),
        })
    }

    /// The message as the caller sees it now.
    async fn shown(
        &mut self,
        scope: &Scope,
        command: &Command,
        id: &MessageId,
    ) -> Result<Result<Answer, Refusal>, StoreError> {
        let Some(row) = self.workspace.message(scope, id).await?.cloned() else {
            return Ok(Err(Refusal::NotFound("message")));
        };
        let mine = my_reactions(self.workspace.tx(), scope, id, &row, &command.actor).await?;
        let view = row.position().and_then(|position| {
            let identity = &self.context.identity;
            view::message(identity, &scope.conversation, id, position, &row, &mine)
        });
        let answer = view.map(|view| Answer::Message(Box::new(view)));
        Ok(answer.ok_or(Refusal::NotFound("message")))
    }
}

/// Refuses an edit that would make the message too costly to merge. The document holds it already,
/// the rows do not.
fn check_size(edits: &Edits, edits_max: usize, change: &[u8]) -> Result<(), Refusal> {
    let count = edits.rows.len();
    if count >= edits_max {
        let message = format!("the message was edited {count} times, the limit; post a new one");
        return Err(Refusal::Rule {
            field: "message",
            message,
        });
    }
    // An edit on the current revision leaves a single head.
    if edits.document.revision().heads().len() > HEADS_MAX {
        let message = format!(
            "{HEADS_MAX} edits were made side by side; make this one on the current `revision`"
        );
        return Err(Refusal::Rule {
            field: "base",
            message,
        });
    }
    if edits.bytes() + change.len() > CHANGES_BYTES_MAX {
        let message = "the message was rewritten too often; post a new one".to_owned();
        return Err(Refusal::Rule {
            field: "message",
            message,
        });
    }
    Ok(())
}

/// Of the emoji that a message shows, those that `user` gave.
pub async fn my_reactions(
    tx: &crate::store::Transaction,
    scope: &Scope,
    id: &MessageId,
    row: &Message,
    user: &str,
) -> Result<Vec<String>, StoreError> {
    let mut mine = Vec::new();
    for (emoji, _) in view::emoji_shown(row) {
        let stored = tx.get(&scope.reaction(id, emoji, user), true).await?;
        let stored = stored
            .map(|bytes| Reaction::decode(&bytes))
            .transpose()
            .map_err(corrupt)?;
        if stored.is_some_and(|reaction| reaction.present) {
            mine.push(emoji.to_owned());
        }
    }
    Ok(mine)
}
