//! What must hold while a run goes on, and in its end.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use whimbrel_replication::crdt::conversation::Conversation;
use whimbrel_replication::crdt::member::Member;
use whimbrel_replication::crdt::message::Message;
use whimbrel_replication::crdt::reaction::Reaction;
use whimbrel_replication::cursor::{Cursor, ShardCursor};
use whimbrel_replication::id::{ConversationId, MessageId, OpStamp, Place, ShardId, Stamp};
use whimbrel_replication::op::{Batch, OpKind};

use super::Violation;
use super::ledger::Effect;
use super::region::{Running, SHARDS};
use super::world::{Step, World};
use crate::apply::rows::ArrivalRow;
use crate::apply::{corrupt, shown};
use crate::digest::{self, Digests};
use crate::store::keys::{self, Scope};
use crate::store::{RangeOptions, RunOptions, Store, StoreError, Transaction};

type Read<T> = Result<T, StoreError>;

impl World {
    /// All regions run and show the same.
    pub(super) async fn is_settled(&mut self) -> Result<bool, Violation> {
        let mut first = None;
        for region in self.regions.values() {
            let Some(running) = &region.running else {
                return Ok(false);
            };
            let identity = &running.context.identity;
            if !running.is_showing().await {
                return Ok(false);
            }
            let all = Digests::default().all(&running.store, identity).await;
            let Ok(all) = all else {
                return Ok(false);
            };
            let total = digest::total(&all);
            if *first.get_or_insert(total) != total {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// How each region stands, for the message that they did not become equal.
    pub(super) async fn standings(&self) -> String {
        let mut all = String::new();
        for (region, state) in &self.regions {
            let Some(running) = &state.running else {
                all += &format!("\nr{region} does not run");
                continue;
            };
            for shard in (0..SHARDS).map(ShardId) {
                let (held, row) = (running.held(shard).await, running.snapshot(shard).await);
                let held = held.map(|held| Cursor::of(shard, held));
                all += &format!("\nr{region} shard {shard}: holds {held:?}; snapshot {row:?}");
            }
            let digests = Digests::default();
            let digests = digests.all(&running.store, &running.context.identity).await;
            all += &format!("\nr{region} shows {digests:?}");
        }
        all
    }

    /// In the end, when all regions are equal: what was acked is there, and nothing else.
    pub(super) async fn check_all(&mut self) -> Step {
        for region in self.regions.keys().copied().collect::<Vec<_>>() {
            self.check_region(region).await?;
        }
        let lost = self.ledger.acked.iter().filter(|acked| acked.is_lost);
        self.counts.lost_with_disk = lost.count() as u64;
        Ok(())
    }

    async fn check_region(&self, region: u16) -> Step {
        let Some(running) = &self.regions[&region].running else {
            return Ok(());
        };
        let failed = |error: StoreError| Violation::new("G1", format!("r{region}: {error}"));
        let mut in_order = BTreeSet::new();
        for conversation in &self.conversations {
            let scope = Scope::new(*conversation, SHARDS);
            for id in timeline(&running.store, scope).await.map_err(failed)? {
                if !self.ledger.attempted.contains(&id) {
                    let what = format!("r{region} shows {id}, which nobody has posted");
                    return Err(Violation::new("G7", what));
                }
                if !in_order.insert(id) {
                    return Err(Violation::new("G7", format!("r{region} shows {id} twice")));
                }
            }
        }
        for shard in (0..SHARDS).map(ShardId) {
            if let Some(twice) = twice(&running.store, shard).await.map_err(failed)? {
                let what = format!("r{region} has taken {twice:?} of shard {shard} twice");
                return Err(Violation::new("G7", what));
            }
        }
        for acked in &self.ledger.acked {
            if let Some(broken) = missing(running, &acked.effect).await.map_err(failed)?
                && !acked.is_lost
            {
                let what = format!("r{region} has acked {:?}: {}", acked.effect, broken.what);
                return Err(Violation::new(broken.promise, what));
            }
        }
        Ok(())
    }

    /// The disk of a region goes: what nobody else has may be missing from now on.
    pub(super) async fn note_losses(&mut self, region: u16) -> Step {
        let others = self.regions.iter().filter(|(n, _)| **n != region);
        let others: Vec<&Running> = others.filter_map(|(_, r)| r.running.as_ref()).collect();
        for acked in &mut self.ledger.acked {
            let mut is_elsewhere = false;
            for other in &others {
                let missing = missing(other, &acked.effect).await;
                let missing = missing.map_err(|e| Violation::new("G1", e.to_string()))?;
                is_elsewhere |= missing.is_none();
            }
            acked.is_lost |= !is_elsewhere;
        }
        Ok(())
    }

    /// Once a second: what peers are taken to hold is on their disks, and neither cursors nor markers
    /// have gone back.
    pub(super) async fn check_now(&mut self, region: u16) -> Step {
        let Some(running) = &self.regions[&region].running else {
            return Ok(());
        };
        for (peer, status) in running.engine.peers() {
            let Some(other) = &self.regions[&peer.0].running else {
                continue;
            };
            // It may not know yet that the other has a new life.
            if status.origin != Some(other.origin()) {
                continue;
            }
            for (shard, cursor) in status.holds.iter() {
                for (origin, at) in cursor.iter() {
                    let Ok(has) = other.stamp(shard, origin).await else {
                        continue;
                    };
                    if at.stamp > has {
                        let what = format!(
                            "r{region} takes it that r{peer} holds {origin} up to {}; it has {has}",
                            at.stamp
                        );
                        return Err(Violation::new("G14", what));
                    }
                }
            }
        }
        let mut all_held = Vec::new();
        for shard in (0..SHARDS).map(ShardId) {
            let Ok(held) = running.held(shard).await else {
                return Ok(());
            };
            all_held.push((shard, held));
        }
        let mut seen = Vec::new();
        for (nth, conversation) in self.conversations.iter().enumerate() {
            for client in self.users() {
                let marker = marker(&running.store, *conversation, client.clone()).await;
                let Ok(marker) = marker else {
                    return Ok(());
                };
                seen.push(((nth, client), marker));
            }
        }
        for (shard, held) in all_held {
            let old = self.region(region).held.insert(shard, held.clone());
            if old.is_some_and(|old| !held.covers_all(&old)) {
                let what = format!("r{region}: its cursor of shard {shard} has gone back");
                return Err(Violation::new("G1", what));
            }
        }
        let before = &mut self.region(region).markers;
        for (whose, marker) in seen {
            let old = before.insert(whose.clone(), marker.clone());
            if old.is_some_and(|old| !marker.covers_all(&old)) {
                let what = format!("r{region}: the marker of {} has gone back", whose.1);
                return Err(Violation::new("G6", what));
            }
        }
        Ok(())
    }

    /// What was applied is there only with what it was done to: an answer with its question, an edit or a
    /// reaction with its message, and all of it with its conversation.
    pub(super) async fn check_causality(
        &mut self,
        region: u16,
        batches: &[(Stamp, Bytes)],
        to: Stamp,
    ) -> Step {
        let Some(running) = &self.regions[&region].running else {
            return Ok(());
        };
        if !running.is_showing().await {
            return Ok(());
        }
        let applied = batches.iter().filter(|(stamp, _)| *stamp <= to);
        let decoded = applied.filter_map(|(_, b)| Batch::decode(b).ok());
        for op in decoded.flat_map(|batch| batch.ops) {
            let scope = Scope::new(op.conversation, SHARDS);
            let Ok(conversation) = conversation_row(&running.store, scope).await else {
                return Ok(());
            };
            if conversation.is_none_or(|row| row.creation.is_none()) {
                let what = format!("r{region} shows {op:?} without its conversation");
                return Err(Violation::new("G10", what));
            }
            let needed = match op.kind {
                OpKind::Posted { reply_to, .. } => reply_to,
                OpKind::Edited { message, .. }
                | OpKind::Redacted { message }
                | OpKind::Reacted { message, .. } => Some(message),
                _ => None,
            };
            let Some(needed) = needed else {
                continue;
            };
            let Ok(row) = message_row(&running.store, scope, needed).await else {
                return Ok(());
            };
            if row.is_none_or(|row| row.post.is_none()) {
                let what = format!("r{region} shows op {} without the message {needed}", op.id);
                return Err(Violation::new("G10", what));
            }
        }
        Ok(())
    }

    /// Own positions only grow as long as the disk lives, whatever the wall clock does.
    pub(super) async fn check_clock(
        &mut self,
        region: u16,
        store: &Store,
        scope: Scope,
        message: MessageId,
        place: Place,
    ) -> Step {
        let Ok(row) = message_row(store, scope, message).await else {
            return Ok(()); // It has died since.
        };
        let position = row.and_then(|row| row.places.get(&place).copied());
        let Some(position) = position else {
            let what = format!("r{region} has acked {message} at {place:?}: it is not there");
            return Err(Violation::new("G1", what));
        };
        let last = self.region(region).last_position.replace(position);
        if last.is_some_and(|last| last >= position) {
            let what = format!("r{region} stamped {position:?} after {last:?}");
            return Err(Violation::new("G12", what));
        }
        Ok(())
    }

    fn users(&self) -> Vec<String> {
        (0..self.clients.len()).map(|n| format!("u{n}")).collect()
    }
}

/// What a region lacks of an effect.
async fn missing(running: &Running, effect: &Effect) -> Read<Option<Violation>> {
    let store = &running.store;
    Ok(match effect {
        Effect::Posted(conversation, id) => {
            let row = message_row(store, Scope::new(*conversation, SHARDS), *id).await?;
            let is_there = row.is_some_and(|row| row.post.is_some() && row.position().is_some());
            (!is_there).then(|| Violation::new("G1", "the message is not there"))
        }
        Effect::Redacted(conversation, id) => {
            let scope = Scope::new(*conversation, SHARDS);
            let row = message_row(store, scope, *id).await?;
            let is_hidden = row.is_some_and(|row| {
                let text = row.post.as_ref().map_or("", |post| post.text.as_str());
                row.redacted && row.edited.is_none() && text.is_empty()
            });
            let no_changes = changes(store, scope, *id).await? == 0;
            (!is_hidden || !no_changes).then(|| Violation::new("G13", "its text is still there"))
        }
        Effect::Edited(conversation, id, key) => {
            let scope = Scope::new(*conversation, SHARDS);
            let Some(row) = message_row(store, scope, *id).await? else {
                return Ok(Some(Violation::new("G1", "the message is not there")));
            };
            let is_there = row.redacted || has_word(&row, key);
            (!is_there).then(|| Violation::new("G5", "the edit is not in the text"))
        }
        Effect::Reacted(conversation, id, emoji, user, acked) => {
            let scope = Scope::new(*conversation, SHARDS);
            let row = reaction_row(store, scope, id, emoji, user).await?;
            let is_there = acked.as_ref().is_none_or(|acked| {
                row.is_some_and(|row| row.position > acked.position || row == *acked)
            });
            (!is_there).then(|| Violation::new("G1", "the reaction is as it was before"))
        }
        Effect::Created(conversation) => {
            let row = conversation_row(store, Scope::new(*conversation, SHARDS)).await?;
            let is_there = row.is_some_and(|row| row.creation.is_some());
            (!is_there).then(|| Violation::new("G1", "the conversation is not there"))
        }
        Effect::Titled(conversation, acked) => {
            let row = conversation_row(store, Scope::new(*conversation, SHARDS)).await?;
            let has = row.and_then(|row| Some(row.title?.position));
            (has < *acked).then(|| Violation::new("G1", "the title is as it was before"))
        }
        Effect::Member(conversation, user, acked) => {
            let row = member_row(store, Scope::new(*conversation, SHARDS), user).await?;
            let row = row.unwrap_or_default();
            let is_there = acked.iter().all(|dot| row.has_seen(dot));
            (!is_there).then(|| Violation::new("G1", "the standing is as it was before"))
        }
        Effect::Read(conversation, user, wanted) => {
            let has = marker(store, *conversation, user.clone()).await?;
            (!has.covers_all(wanted)).then(|| Violation::new("G6", "the marker is behind"))
        }
    })
}

/// What is to be seen of an effect in the end, as the region shows it that acks it.
pub(super) async fn as_acked(store: &Store, effect: &Effect) -> Read<Effect> {
    Ok(match effect.clone() {
        Effect::Reacted(conversation, id, emoji, user, _) => {
            let scope = Scope::new(conversation, SHARDS);
            let row = reaction_row(store, scope, &id, &emoji, &user).await?;
            Effect::Reacted(conversation, id, emoji, user, row)
        }
        Effect::Titled(conversation, _) => {
            let row = conversation_row(store, Scope::new(conversation, SHARDS)).await?;
            let position = row.and_then(|row| Some(row.title?.position));
            Effect::Titled(conversation, position)
        }
        Effect::Member(conversation, user, _) => {
            let row = member_row(store, Scope::new(conversation, SHARDS), &user).await?;
            let dots = row.iter().flat_map(Member::values).map(|value| value.dot);
            Effect::Member(conversation, user, dots.collect())
        }
        effect => effect,
    })
}

/// An edit adds a word that no other text of its author has; merged, the words of all of them are
/// there.
fn has_word(row: &Message, key: &str) -> bool {
    let text = row.text().unwrap_or_default();
    text.split_whitespace().any(|word| word == key)
}

async fn get(store: &Store, key: Vec<u8>) -> Read<Option<Bytes>> {
    let read = store.read(RunOptions::default(), move |tx| {
        let key = key.clone();
        async move { tx.get(&key, true).await }
    });
    read.await
}

async fn reaction_row(
    store: &Store,
    scope: Scope,
    id: &MessageId,
    emoji: &str,
    user: &str,
) -> Read<Option<Reaction>> {
    let row = get(store, scope.reaction(id, emoji, user)).await?;
    let row = row.map(|bytes| Reaction::decode(&bytes)).transpose();
    row.map_err(corrupt)
}

async fn conversation_row(store: &Store, scope: Scope) -> Read<Option<Conversation>> {
    let row = get(store, scope.conversation()).await?;
    let row = row.map(|bytes| Conversation::decode(&bytes)).transpose();
    row.map_err(corrupt)
}

async fn member_row(store: &Store, scope: Scope, user: &str) -> Read<Option<Member>> {
    let row = get(store, scope.member(user)).await?;
    let row = row.map(|bytes| Member::decode(&bytes)).transpose();
    row.map_err(corrupt)
}

async fn message_row(store: &Store, scope: Scope, id: MessageId) -> Read<Option<Message>> {
    let row = get(store, scope.message(&id)).await?;
    row.map(|bytes| Message::decode(&bytes))
        .transpose()
        .map_err(corrupt)
}

async fn rows(store: &Store, range: (Vec<u8>, Vec<u8>)) -> Read<Vec<(Bytes, Bytes)>> {
    let read = store.read(RunOptions::default(), move |tx: Arc<Transaction>| {
        let (begin, end) = range.clone();
        async move {
            let options = RangeOptions {
                snapshot: true,
                ..RangeOptions::default()
            };
            tx.range_all(&begin, &end, options).await
        }
    });
    read.await
}

async fn changes(store: &Store, scope: Scope, id: MessageId) -> Read<usize> {
    Ok(rows(store, scope.changes(&id)).await?.len())
}

/// A batch that has arrived twice: whoever listens would be told of it twice.
async fn twice(store: &Store, shard: ShardId) -> Read<Option<ArrivalRow>> {
    let mut seen = BTreeSet::new();
    for (key, value) in rows(store, keys::arrivals_after(shard, None)).await? {
        let row = ArrivalRow::decode(&value[..]).map_err(|error| corrupt(error.into()))?;
        let own = keys::stamp_of(&key).map_err(corrupt)?.stamp;
        let stamp = row.stamp.clone().unwrap_or(own.as_bytes().to_vec());
        if !seen.insert((row.origin.clone(), stamp)) {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

async fn timeline(store: &Store, scope: Scope) -> Read<Vec<MessageId>> {
    let rows = rows(store, scope.timeline_between(None, None)).await?;
    rows.iter()
        .map(|(_, v)| shown(v).map(|(id, _)| id))
        .collect()
}

async fn marker(store: &Store, conversation: ConversationId, user: String) -> Read<ShardCursor> {
    let scope = Scope::new(conversation, SHARDS);
    let mut marker = ShardCursor::new();
    for (key, value) in rows(store, scope.marker_of(&user)).await? {
        let (_, origin) = scope.marker_parts(&key).map_err(corrupt)?;
        marker.advance(origin, OpStamp::try_from(&value[..]).map_err(corrupt)?);
    }
    Ok(marker)
}
