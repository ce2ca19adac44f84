//! Conversations, members and read markers.

use whimbrel_client::api;
use whimbrel_replication::cursor::ShardCursor;
use whimbrel_replication::id::OpStamp;
use whimbrel_replication::op::{ConversationKind, OpKind, Standing};

use super::{Execution, Seen, conversation_answer};
use crate::apply::corrupt;
use crate::command::{Answer, Command, Refusal};
use crate::store::keys::Scope;
use crate::store::{RangeOptions, StoreError};
use crate::view;

/// The answer, and whether it had been done before.
type Answered = Result<(Answer, bool), Refusal>;

impl Execution {
    pub(super) async fn create(
        &mut self,
        scope: &Scope,
        command: &Command,
        kind: ConversationKind,
        (title, topic): (Option<String>, Option<String>),
        others: &[String],
    ) -> Result<Answered, StoreError> {
        let founder = if kind == ConversationKind::Direct {
            Standing::Member
        } else {
            Standing::Owner
        };
        if let Some(row) = self.workspace.conversation(scope).await?
            && row.creation.is_some()
        {
            // Who made it may have been removed since.
            let seen = match self.see(scope, command).await? {
                Ok(seen) => seen,
                Err(refusal) => return Ok(Err(refusal)),
            };
            if row.creation.as_ref().is_some_and(|held| held.kind != kind) {
                return Ok(Err(Refusal::Mismatch));
            }
            let answer = conversation_answer(&command.conversation, &row, seen.standing, true);
            return Ok(answer.map(|answer| (answer, kind != ConversationKind::Direct)));
        }
        self.push(
            command,
            None,
            OpKind::ConversationCreated { kind, title, topic },
        )
        .await?;
        let founder_set = OpKind::MemberSet {
            user: command.actor.clone(),
            standing: founder,
        };
        self.push(command, None, founder_set).await?;
        for user in others {
            let set = OpKind::MemberSet {
                user: user.clone(),
                standing: Standing::Member,
            };
            self.push(command, None, set).await?;
        }
        let row = self
            .workspace
            .conversation(scope)
            .await?
            .unwrap_or_default();
        let answer = conversation_answer(&command.conversation, &row, Some(founder), false);
        Ok(answer.map(|answer| (answer, false)))
    }

    pub(super) async fn change(
        &mut self,
        scope: &Scope,
        command: &Command,
        replayed: bool,
        title: &Option<String>,
        topic: &Option<String>,
    ) -> Result<Answered, StoreError> {
        let seen = match self.see(scope, command).await? {
            Ok(seen) => seen,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if !replayed {
            let authority = self.authority(scope, command, seen.standing).await?;
            if !matches!(authority, Some(Standing::Owner | Standing::Admin)) {
                return Ok(Err(Refusal::Forbidden(
                    "only owners and admins set title and topic",
                )));
            }
            let row = self
                .workspace
                .conversation(scope)
                .await?
                .unwrap_or_default();
            if title.is_some() || topic.is_some() {
                let (title, topic) = (title.clone(), topic.clone());
                let kind = OpKind::ConversationChanged { title, topic };
                self.push(command, row.last_change(), kind).await?;
            }
        }
        let row = self
            .workspace
            .conversation(scope)
            .await?
            .unwrap_or_default();
        let answer = conversation_answer(&command.conversation, &row, seen.standing, true);
        Ok(answer.map(|answer| (answer, false)))
    }

    pub(super) async fn set_role(
        &mut self,
        scope: &Scope,
        command: &Command,
        replayed: bool,
        user: &str,
        role: Standing,
    ) -> Result<Answered, StoreError> {
        let seen = match self.see(scope, command).await? {
            Ok(seen) => seen,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let row = self
            .workspace
            .conversation(scope)
            .await?
            .unwrap_or_default();
        let kind = row.creation.as_ref().map(|creation| creation.kind);
        if kind == Some(ConversationKind::Direct) {
            return Ok(Err(direct_members_are_fixed()));
        }
        let target = self
            .workspace
            .member(scope, user)
            .await?
            .and_then(whimbrel_replication::crdt::member::Member::standing);
        if !replayed && target != Some(role) {
            let joins = user == command.actor
                && kind == Some(ConversationKind::Channel)
                && !seen.is_in()
                && role == Standing::Member;
            if !joins
                && let Err(refusal) = self
                    .may_set_role(scope, command, &seen, user, target, role)
                    .await?
            {
                return Ok(Err(refusal));
            }
            let was_in = target.is_some_and(Standing::is_in);
            if !was_in && row.members as usize >= self.context.limits.members {
                return Ok(Err(Refusal::Rule {
                    field: "user",
                    message: format!(
                        "the conversation has {} members, the limit; remove somebody first",
                        row.members
                    ),
                }));
            }
            let set = OpKind::MemberSet {
                user: user.to_owned(),
                standing: role,
            };
            self.push(command, None, set).await?;
            if !was_in {
                // History is not unread for who joins late.
                let read = OpKind::Read {
                    user: user.to_owned(),
                    marker: self.held().await?,
                };
                self.push(command, None, read).await?;
            }
        }
        let row = self.workspace.member(scope, user).await?;
        let member = row.and_then(|row| row.value()).and_then(|value| {
            Some(api::Member {
                user: user.to_owned(),
                role: view::role(value.standing)?,
                since: view::time(value.position.hlc().unix_ms()),
            })
        });
        Ok(member
            .map(|m| (Answer::Member(m), false))
            .ok_or(Refusal::NotFound("member")))
    }

    async fn may_set_role(
        &self,
        scope: &Scope,
        command: &Command,
        seen: &Seen,
        user: &str,
        target: Option<Standing>,
        role: Standing,
    ) -> Result<Result<(), Refusal>, StoreError> {
        let outranks = |target| matches!(target, Some(Standing::Owner | Standing::Admin));
        Ok(match self.authority(scope, command, seen.standing).await? {
            Some(Standing::Owner) => {
                let steps_down = target == Some(Standing::Owner) && role != Standing::Owner;
                if steps_down && self.is_last_owner(scope, user).await? {
                    return Ok(Err(last_owner("role")));
                }
                Ok(())
            }
            Some(Standing::Admin) if user == command.actor && role == Standing::Member => Ok(()),
            Some(Standing::Admin) if role == Standing::Member && !outranks(target) => Ok(()),
            Some(Standing::Admin) => Err(Refusal::Forbidden(
                "only owners name and change admins and owners",
            )),
            Some(Standing::Member) => Err(Refusal::Forbidden(
                "only owners and admins add members and set roles",
            )),
            _ => Err(Refusal::Forbidden("join first: only members may do this")),
        })
    }

    pub(super) async fn remove_member(
        &mut self,
        scope: &Scope,
        command: &Command,
        replayed: bool,
        user: &str,
        ban: bool,
    ) -> Result<Answered, StoreError> {
        let itself = user == command.actor;
        let seen = match self.see(scope, command).await? {
            Ok(seen) => seen,
            // A leave that is retried after it took effect.
            Err(_) if replayed && itself => return Ok(Ok((Answer::Nothing, false))),
            Err(refusal) => return Ok(Err(refusal)),
        };
        let row = self
            .workspace
            .conversation(scope)
            .await?
            .unwrap_or_default();
        if row
            .creation
            .is_some_and(|creation| creation.kind == ConversationKind::Direct)
        {
            return Ok(Err(direct_members_are_fixed()));
        }
        if itself && ban {
            let message = "nobody bans themselves; leave without `ban`".to_owned();
            return Ok(Err(Refusal::Rule {
                field: "ban",
                message,
            }));
        }
        let target = self
            .workspace
            .member(scope, user)
            .await?
            .and_then(whimbrel_replication::crdt::member::Member::standing);
        let to = if ban {
            Standing::Banned
        } else {
            Standing::Left
        };
        if replayed || (itself && target == Some(to)) {
            return Ok(Ok((Answer::Nothing, false)));
        }
        if target.is_none() && !ban {
            return Ok(Err(Refusal::NotFound("member")));
        }
        if !itself {
            let authority = self.authority(scope, command, seen.standing).await?;
            let outranks = matches!(target, Some(Standing::Owner | Standing::Admin));
            match authority {
                Some(Standing::Owner) => {}
                Some(Standing::Admin) if !outranks => {}
                Some(Standing::Admin) => {
                    return Ok(Err(Refusal::Forbidden(
                        "only owners remove admins and owners",
                    )));
                }
                _ => {
                    return Ok(Err(Refusal::Forbidden(
                        "only owners and admins remove members",
                    )));
                }
            }
        }
        if target == Some(to) {
            return Ok(Ok((Answer::Nothing, false)));
        }
        if target == Some(Standing::Owner) && self.is_last_owner(scope, user).await? {
            return Ok(Err(last_owner("user")));
        }
        let set = OpKind::MemberSet {
            user: user.to_owned(),
            standing: to,
        };
        self.push(command, None, set).await?;
        Ok(Ok((Answer::Nothing, false)))
    }

    async fn is_last_owner(&self, scope: &Scope, user: &str) -> Result<bool, StoreError> {
        let members = self.members(scope).await?;
        let other = |(name, standing, _): &(String, Standing, _)| {
            *standing == Standing::Owner && name != user
        };
        Ok(!members.iter().any(other))
    }

    pub(super) async fn mark_read(
        &mut self,
        scope: &Scope,
        command: &Command,
        marker: &ShardCursor,
    ) -> Result<Answered, StoreError> {
        let seen = match self.see(scope, command).await? {
            Ok(seen) => seen,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if !seen.is_in() {
            return Ok(Err(Refusal::Forbidden(
                "join first: only members mark as read",
            )));
        }
        let mut held = ShardCursor::new();
        let (begin, end) = scope.marker_of(&command.actor);
        let rows = self
            .workspace
            .tx()
            .range_all(&begin, &end, RangeOptions::default())
            .await?;
        for (key, value) in rows {
            let (_, origin) = scope.marker_parts(&key).map_err(corrupt)?;
            held.advance(origin, OpStamp::try_from(&value[..]).map_err(corrupt)?);
        }
        let seen_here = marker.capped_at(&self.held().await?);
        if !held.covers_all(&seen_here) {
            let user = command.actor.clone();
            self.push(
                command,
                None,
                OpKind::Read {
                    user,
                    marker: seen_here.clone(),
                },
            )
            .await?;
            held.join(&seen_here);
        }
        Ok(Ok((Answer::Marker(held), false)))
    }
}

fn direct_members_are_fixed() -> Refusal {
    Refusal::Rule {
        field: "conversation",
        message: "a direct conversation keeps its two members; create a group instead".to_owned(),
    }
}

fn last_owner(field: &'static str) -> Refusal {
    Refusal::Rule {
        field,
        message: "the last owner stays until another owner is named".to_owned(),
    }
}
