//! Digests of conversations: equal in two regions exactly when users see the same there (G4).
//!
//! A digest is BLAKE3 over a canonical rendering of what users see, never over Automerge's bytes,
//! which differ between equal replicas. It is kept until the conversation changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use whimbrel_replication::crdt::conversation::Conversation;
use whimbrel_replication::crdt::reaction::Reaction;
use whimbrel_replication::id::{ConversationId, ShardId};

use crate::apply::{corrupt, shown};
use crate::execute::members;
use crate::identity::Identity;
use crate::store::keys::{self, Scope};
use crate::store::{RangeOptions, RunOptions, Store, StoreError, Transaction, key_after};

/// Rows of a timeline that one transaction reads: far from its time limit.
const PAGE_ROWS: usize = 500;

/// Digests that were computed, until their conversation changes.
#[derive(Debug, Default)]
pub struct Digests {
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    digests: HashMap<ConversationId, blake3::Hash>,
    /// Conversations that are being digested: how many readers, and how many changes since the
    /// first of them. What was computed while its conversation changed is not kept.
    under_way: HashMap<ConversationId, (usize, u64)>,
}

impl Digests {
    /// The conversation has changed.
    pub fn touch(&self, conversation: &ConversationId) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.digests.remove(conversation);
        // Only conversations that are being digested are counted: the map stays small.
        if let Some((_, changes)) = cache.under_way.get_mut(conversation) {
            *changes += 1;
        }
    }

    /// Any of them may have changed.
    pub fn forget_all(&self) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.digests.clear();
        for (_, changes) in cache.under_way.values_mut() {
            *changes += 1;
        }
    }

    /// Of one conversation; `None` if this region does not know it.
    pub async fn conversation(
        &self,
        store: &Store,
        scope: Scope,
    ) -> Result<Option<blake3::Hash>, StoreError> {
        let id = scope.conversation;
        let before = {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(digest) = cache.digests.get(&id) {
                return Ok(Some(*digest));
            }
            let (readers, changes) = cache.under_way.entry(id).or_default();
            *readers += 1;
            *changes
        };
        let computed = fresh(store, scope).await;
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unchanged = false;
        if let Some((readers, changes)) = cache.under_way.get_mut(&id) {
            unchanged = *changes == before;
            *readers -= 1;
            if *readers == 0 {
                cache.under_way.remove(&id);
            }
        }
        let digest = computed?;
        if let Some(digest) = digest
            && unchanged
        {
            cache.digests.insert(id, digest);
        }
        Ok(digest)
    }

    /// Of all conversations that this region knows.
    pub async fn all(
        &self,
        store: &Store,
        identity: &Identity,
    ) -> Result<BTreeMap<ConversationId, blake3::Hash>, StoreError> {
        let mut all = BTreeMap::new();
        for shard in (0..identity.shards).map(ShardId) {
            for conversation in conversations(store, shard).await? {
                let scope = identity.scope(conversation);
                if let Some(digest) = self.conversation(store, scope).await? {
                    all.insert(conversation, digest);
                }
            }
        }
        Ok(all)
    }
}

/// The digest of several conversations.
pub fn total(all: &BTreeMap<ConversationId, blake3::Hash>) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for (id, digest) in all {
        hasher.update(id.as_bytes());
        hasher.update(digest.as_bytes());
    }
    hasher.finalize()
}

/// All conversations of a shard, found by leaping over the rows of each.
///
/// # Errors
///
/// Those of the store.
pub async fn conversations(
    store: &Store,
    shard: ShardId,
) -> Result<Vec<ConversationId>, StoreError> {
    let mut found = Vec::new();
    while let Some(next) = next_conversation(store, shard, found.last().copied()).await? {
        found.push(next);
    }
    Ok(found)
}

/// The first conversation of a shard after one, or of all.
///
/// # Errors
///
/// Those of the store.
pub async fn next_conversation(
    store: &Store,
    shard: ShardId,
    after: Option<ConversationId>,
) -> Result<Option<ConversationId>, StoreError> {
    let read = move |tx: Arc<Transaction>| async move {
        let (mut begin, end) = keys::shard(shard);
        if let Some(conversation) = after {
            begin = Scope {
                shard,
                conversation,
            }
            .end();
        }
        let options = RangeOptions {
            limit: 1,
            snapshot: true,
            ..RangeOptions::default()
        };
        let page = tx.range(&begin, &end, options).await?;
        let first = page.rows.first();
        let next = first.map(|(key, _)| keys::conversation_of(key).map_err(corrupt));
        next.transpose()
    };
    store.read(RunOptions::default(), read).await
}

struct Canon(blake3::Hasher);

impl Canon {
    /// Length-prefixed, so that no two renderings run into each other.
    fn put(&mut self, part: &[u8]) {
        self.0.update(&(part.len() as u64).to_be_bytes());
        self.0.update(part);
    }

    fn put_text(&mut self, text: Option<&str>) {
        self.put(&[u8::from(text.is_some())]);
        self.put(text.unwrap_or_default().as_bytes());
    }
}

/// Of one conversation, from what is stored now; `None` if this region does not know it.
///
/// # Errors
///
/// Those of the store.
pub async fn fresh(store: &Store, scope: Scope) -> Result<Option<blake3::Hash>, StoreError> {
    let head = store
        .read(RunOptions::default(), move |tx| async move {
            head(&tx, &scope).await
        })
        .await?;
    let Some(hasher) = head else {
        return Ok(None);
    };
    let mut canon = Canon(hasher);
    let (mut begin, end) = scope.timeline_between(None, None);
    loop {
        let (from, to) = (begin.clone(), end.clone());
        let (parts, last) = store
            .read(RunOptions::default(), move |tx| {
                let (from, to) = (from.clone(), to.clone());
                async move { timeline_page(&tx, &scope, &from, &to).await }
            })
            .await?;
        for part in &parts {
            canon.put(part);
        }
        match last {
            Some(last) => begin = key_after(&last),
            None => return Ok(Some(canon.0.finalize())),
        }
    }
}

/// Title, topic, members and read markers.
async fn head(tx: &Transaction, scope: &Scope) -> Result<Option<blake3::Hasher>, StoreError> {
    let Some(row) = tx.get(&scope.conversation(), true).await? else {
        return Ok(None);
    };
    let row = Conversation::decode(&row).map_err(corrupt)?;
    let mut canon = Canon(blake3::Hasher::new());
    canon.put_text(
        row.creation
            .as_ref()
            .map(|creation| creation.creator.as_str()),
    );
    canon.put_text(row.title());
    canon.put_text(row.topic());
    for (user, standing, _) in members(tx, scope).await? {
        canon.put(user.as_bytes());
        canon.put(format!("{standing:?}").as_bytes());
    }
    let (begin, end) = scope.markers();
    let options = RangeOptions {
        snapshot: true,
        ..RangeOptions::default()
    };
    for (key, value) in tx.range_all(&begin, &end, options).await? {
        let (user, origin) = scope.marker_parts(&key).map_err(corrupt)?;
        canon.put(user.as_bytes());
        canon.put(&origin.to_bytes());
        canon.put(&value);
    }
    Ok(Some(canon.0))
}

/// Messages in order: what each shows, its edit heads and its reactions; and the last key, if there
/// may be more.
async fn timeline_page(
    tx: &Transaction,
    scope: &Scope,
    begin: &[u8],
    end: &[u8],
) -> Result<(Vec<Vec<u8>>, Option<Vec<u8>>), StoreError> {
    let options = RangeOptions {
        limit: PAGE_ROWS,
        snapshot: true,
        ..RangeOptions::default()
    };
    let page = tx.range(begin, end, options).await?;
    let mut parts = Vec::new();
    for (key, value) in &page.rows {
        let (id, row) = shown(value)?;
        let mut canon = Canon(blake3::Hasher::new());
        canon.put(id.as_bytes());
        canon.put(scope.timeline_position(key).map_err(corrupt)?.as_bytes());
        canon.put_text(row.post.as_ref().map(|post| post.sender.as_str()));
        canon.put_text(row.text());
        for head in row.edited.iter().flat_map(|edited| &edited.heads) {
            canon.put(head.as_bytes());
        }
        if !row.reactions.is_empty() {
            let (begin, end) = scope.reactions(&id);
            for (key, value) in tx.range_all(&begin, &end, options_all()).await? {
                if Reaction::decode(&value).map_err(corrupt)?.present {
                    let (_, emoji, user) = scope.reaction_parts(&key).map_err(corrupt)?;
                    canon.put(emoji.as_bytes());
                    canon.put(user.as_bytes());
                }
            }
        }
        parts.push(canon.0.finalize().as_bytes().to_vec());
    }
    let last = page
        .rows
        .last()
        .filter(|_| page.more)
        .map(|(key, _)| key.to_vec());
    Ok((parts, last))
}

fn options_all() -> RangeOptions {
    RangeOptions {
        snapshot: true,
        ..RangeOptions::default()
    }
}
