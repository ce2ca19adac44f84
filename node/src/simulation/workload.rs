//! Clients: what they write, and what they are told.

use std::collections::VecDeque;
use std::sync::Arc;

use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use whimbrel_replication::crdt::message::Message;
use whimbrel_replication::crdt::text::{Revision, RevisionRef};
use whimbrel_replication::id::{ConversationId, MessageId, OpStamp, Place};
use whimbrel_replication::op::{ConversationKind, Standing};

use super::Violation;
use super::check;
use super::ledger::{Acked, Effect};
use super::region::{REGIONS, SHARDS};
use super::world::{Step, World};
use crate::apply::shown;
use crate::batcher::commit::{self, Batch};
use crate::command::{Action, Answer, Command};
use crate::store::keys::Scope;
use crate::store::{RangeOptions, RunOptions, Store, StoreError};

const CLIENTS: usize = 6;
/// Made before anything goes wrong.
const CONVERSATIONS: usize = 2;
/// Those too that clients make meanwhile.
const CONVERSATIONS_MAX: usize = 3;
/// Who comes and goes, and writes nothing.
const GUESTS: usize = 3;
/// Messages among which a client chooses.
const LAST_MESSAGES: usize = 20;

/// Somebody who writes, mostly in one region.
#[derive(Debug)]
pub(super) struct Client {
    name: String,
    at: u16,
    /// Keys that were used.
    count: u64,
    /// What is to be sent again: its outcome is not known.
    unknown: VecDeque<(Command, Option<Effect>)>,
}

impl Client {
    pub(super) fn all() -> Vec<Self> {
        let client = |n: usize| Self {
            name: format!("u{n}"),
            at: u16::try_from(n).unwrap_or_default() % REGIONS + 1,
            count: 0,
            unknown: VecDeque::new(),
        };
        (0..CLIENTS).map(client).collect()
    }
}

impl World {
    /// In the first region, before anything goes wrong.
    pub(super) async fn make_conversations(&mut self) -> Step {
        let users: Vec<String> = self.clients.iter().map(|c| c.name.clone()).collect();
        for n in 0..CONVERSATIONS {
            let key = format!("conversation-{n}");
            let conversation = ConversationId::created(&users[0], &key);
            self.conversations.push(conversation);
            let action = Action::Create {
                kind: ConversationKind::Group,
                title: Some(key.clone()),
                topic: None,
                members: users[1..].to_vec(),
            };
            let command = command_of(users[0].clone(), key, conversation, action);
            while !self.send(0, 1, command.clone(), None).await? {}
        }
        Ok(())
    }

    /// A client does something in a region that runs.
    pub(super) async fn act(&mut self, client: usize) -> Step {
        let up = self.regions.iter().filter(|(_, r)| r.running.is_some());
        let up: Vec<u16> = up.map(|(n, _)| *n).collect();
        let Some(&elsewhere) = up.choose(&mut self.rng) else {
            return Ok(());
        };
        let moves = self.rng.random_bool(0.1);
        if moves || !up.contains(&self.clients[client].at) {
            self.clients[client].at = elsewhere;
        }
        let at = self.clients[client].at;
        if let Some(running) = &self.regions[&at].running
            && !running.is_showing().await
        {
            self.note(format_args!("r{at} takes a snapshot and answers nobody"));
            return Ok(());
        }
        if self.rng.random_bool(0.4)
            && let Some((command, effect)) = self.clients[client].unknown.pop_front()
        {
            // Mostly where it is now, which is often another region than the first time.
            return self.send(client, at, command, effect).await.map(drop);
        }
        match self.choose(client, at).await {
            Ok(Some((command, effect))) => self.send(client, at, command, effect).await.map(drop),
            Ok(None) => Ok(()),
            Err(error) => self.failed(at, &error),
        }
    }

    async fn choose(
        &mut self,
        client: usize,
        at: u16,
    ) -> Result<Option<(Command, Option<Effect>)>, StoreError> {
        let conversation = *self.conversations.choose(&mut self.rng).expect("some");
        let scope = Scope::new(conversation, SHARDS);
        let drawn = self.rng.random_range(0..100);
        if drawn >= 98 && self.conversations.len() < CONVERSATIONS_MAX {
            return Ok(Some(self.create(client)));
        }
        let Some(running) = &self.regions[&at].running else {
            return Ok(None);
        };
        let last = last_messages(&running.store, scope).await?;
        let held = running.held(scope.shard).await?;
        let client = &mut self.clients[client];
        client.count += 1;
        let (actor, key) = (client.name.clone(), format!("key-{}", client.count));
        let own: Vec<&(MessageId, Message)> = last
            .iter()
            .filter(|(_, row)| row.text().is_some())
            .filter(|(_, row)| row.post.as_ref().is_some_and(|p| p.sender == actor))
            .collect();
        let rng = &mut self.rng;
        let (action, effect) = match drawn {
            55..67 => {
                let Some((id, row)) = own.choose(rng) else {
                    return Ok(None);
                };
                let heads = row.edited.as_ref().map(|e| e.heads.clone());
                let base = RevisionRef::from(&Revision::new(heads.unwrap_or_default()));
                let text = format!("{} {key}", row.text().unwrap_or_default());
                let action = Action::Edit {
                    message: *id,
                    base,
                    text,
                };
                (action, Effect::Edited(conversation, *id, key.clone()))
            }
            67..72 => {
                let Some((id, _)) = own.choose(rng) else {
                    return Ok(None);
                };
                let action = Action::Redact { message: *id };
                (action, Effect::Redacted(conversation, *id))
            }
            72..82 => {
                let Some((id, _)) = last.choose(rng) else {
                    return Ok(None);
                };
                let emoji = (*["👍", "🎉"].choose(rng).expect("two")).to_owned();
                let action = Action::React {
                    message: *id,
                    emoji: emoji.clone(),
                    present: rng.random_bool(0.7),
                };
                let effect = Effect::Reacted(conversation, *id, emoji, actor.clone(), None);
                (action, effect)
            }
            82..90 => {
                let action = Action::Read {
                    marker: held.clone(),
                };
                (action, Effect::Read(conversation, actor.clone(), held))
            }
            90..98 => {
                let user = match rng.random_range(0..CLIENTS + GUESTS) {
                    n if n < CLIENTS => format!("u{n}"),
                    n => format!("guest{}", n - CLIENTS),
                };
                let effect = Effect::Member(conversation, user.clone(), vec![]);
                let action = if rng.random_bool(0.7) {
                    let roles = [Standing::Admin, Standing::Member];
                    let role = *roles.choose(rng).expect("two");
                    Action::SetMember { user, role }
                } else {
                    let ban = rng.random_bool(0.3);
                    Action::RemoveMember { user, ban }
                };
                (action, effect)
            }
            98.. => {
                let title = Some(format!("{actor} {key}"));
                let action = Action::Change { title, topic: None };
                (action, Effect::Titled(conversation, None))
            }
            _ => {
                let parents = last.iter().filter(|_| drawn < 25).collect::<Vec<_>>();
                let reply_to = parents.choose(rng).map(|(id, _)| *id);
                let text = format!("{actor} {key}");
                let message =
                    MessageId::derive(&conversation, &actor, &key, &text, reply_to.as_ref(), None);
                self.ledger.attempted.insert(message);
                let action = Action::Post {
                    message,
                    text,
                    reply_to,
                    sent_at_unix_ms: None,
                };
                (action, Effect::Posted(conversation, message))
            }
        };
        let command = command_of(actor, key, conversation, action);
        Ok(Some((command, Some(effect))))
    }

    /// A conversation with everybody in it.
    fn create(&mut self, client: usize) -> (Command, Option<Effect>) {
        let users: Vec<String> = self.clients.iter().map(|c| c.name.clone()).collect();
        let client = &mut self.clients[client];
        client.count += 1;
        let (actor, key) = (client.name.clone(), format!("key-{}", client.count));
        let conversation = ConversationId::created(&actor, &key);
        self.conversations.push(conversation);
        let action = Action::Create {
            kind: ConversationKind::Group,
            title: Some(key.clone()),
            topic: None,
            members: users.into_iter().filter(|user| *user != actor).collect(),
        };
        let command = command_of(actor, key, conversation, action);
        (command, Some(Effect::Created(conversation)))
    }

    /// Sends a command to a region. Whether it was answered.
    async fn send(
        &mut self,
        client: usize,
        at: u16,
        command: Command,
        effect: Option<Effect>,
    ) -> Result<bool, Violation> {
        let wall = self.regions[&at].wall_unix_ms(self.now);
        let Some(running) = &mut self.region(at).running else {
            return Ok(false);
        };
        let shard = command.conversation.shard(SHARDS);
        let batch = Batch {
            shard,
            number: running.number(shard),
            commands: Arc::new([command.clone()]),
        };
        let (store, context) = (running.store.clone(), running.context.clone());
        let committed = commit::commit(&store, &context, batch, move || wall, |_| None).await;
        let what = format!("{} {:?}", command.actor, command.key);
        let mut committed = match committed {
            Ok(committed) => committed,
            Err(error) => {
                self.counts.unknown += 1;
                self.note(format_args!("r{at} does not answer {what}"));
                self.clients[client].unknown.push_back((command, effect));
                self.failed(at, &error)?;
                return Ok(false);
            }
        };
        let written = match committed.written.remove(0) {
            Ok(written) => written,
            Err(refusal) => {
                self.counts.refused += 1;
                self.note(format_args!("r{at} refuses {what}: {refusal}"));
                return Ok(true);
            }
        };
        self.counts.acked += 1;
        let own = context.identity.origin;
        let stamp = written.cursor.shard(shard).map(|held| held.stamp(&own));
        self.note(format_args!(
            "r{at} acks {what}: {effect:?} at {stamp:?}, {}",
            if committed.wrote { "new" } else { "known" }
        ));
        if let (true, Some(stamp)) = (committed.wrote, stamp) {
            self.committed(at, shard, own, stamp);
            let place = Place {
                origin: own,
                at: OpStamp::new(stamp, written.done.last_index.unwrap_or_default()),
            };
            if let Some(Effect::Posted(conversation, message)) = &effect {
                let scope = Scope::new(*conversation, SHARDS);
                self.check_clock(at, &store, scope, *message, place).await?;
            }
        }
        // What a region does not hold yet is left out of a marker; its answer says so.
        let effect = match (effect, written.done.answer) {
            (Some(Effect::Read(conversation, user, _)), Answer::Marker(marker)) => {
                Some(Effect::Read(conversation, user, marker))
            }
            (effect, _) => effect,
        };
        if let Some(effect) = effect {
            let effect = match check::as_acked(&store, &effect).await {
                Ok(acked) => acked,
                // It has died since.
                Err(_) => effect,
            };
            self.ledger.acked.push(Acked {
                effect,
                is_lost: false,
            });
        }
        Ok(true)
    }
}

fn command_of(actor: String, key: String, conversation: ConversationId, action: Action) -> Command {
    Command {
        actor,
        is_admin: false,
        key,
        conversation,
        action,
        trace: None,
    }
}

/// The end of a conversation, as a client sees it.
async fn last_messages(
    store: &Store,
    scope: Scope,
) -> Result<Vec<(MessageId, Message)>, StoreError> {
    let read = store.read(RunOptions::default(), move |tx| async move {
        let (begin, end) = scope.timeline_between(None, None);
        let options = RangeOptions {
            limit: LAST_MESSAGES,
            reverse: true,
            snapshot: true,
            ..RangeOptions::default()
        };
        tx.range(&begin, &end, options).await
    });
    let rows = read.await?.rows;
    rows.iter().map(|(_, value)| shown(value)).collect()
}
