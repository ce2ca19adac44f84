//! The side that is asked.

use std::time::{Duration, Instant};

use bytes::Bytes;
use whimbrel_replication::id::{ConversationId, Origin, ShardId};

use super::standpoint::Standpoint;
use super::wire::{DigestPage, Question, Shown, StatePage};
use crate::apply::rows::SnapshotStage;
use crate::digest;
use crate::identity::Identity;
use crate::snapshot;
use crate::store::keys::Scope;
use crate::store::{RunOptions, Store, StoreError};

/// Conversations in one answer.
const CONVERSATIONS_MAX: usize = 128;
/// An answer that took so long ends at the next conversation.
pub const ANSWER_TIME: Duration = Duration::from_secs(1);
/// Rows of one answer.
const STATE_BYTES: usize = 256 * 1024;

/// Answers a peer; `None` for what is not to be answered, or not now. A page of digests ends after
/// `time`.
///
/// # Errors
///
/// Those of the store.
pub async fn answer(
    store: &Store,
    identity: &Identity,
    question: &[u8],
    time: Duration,
) -> Result<Option<Bytes>, StoreError> {
    match Question::decode(question) {
        Ok(Some(Question::Digests { shard, after })) if shard.0 < identity.shards => {
            let page = digests(store, identity, shard, after, time).await?;
            Ok(Some(page.encode(shard)))
        }
        Ok(Some(Question::State {
            conversation,
            after,
        })) => {
            let scope = identity.scope(conversation);
            let page = state(store, identity.origin, scope, after).await?;
            Ok(page.map(|page| page.encode(scope.shard)))
        }
        Ok(_) => Ok(None),
        Err(error) => {
            tracing::warn!(%error, "a peer's question cannot be read");
            Ok(None)
        }
    }
}

async fn digests(
    store: &Store,
    identity: &Identity,
    shard: ShardId,
    mut after: Option<ConversationId>,
    time: Duration,
) -> Result<DigestPage, StoreError> {
    let begun = Instant::now();
    let mut page = DigestPage::default();
    loop {
        let Some(next) = digest::next_conversation(store, shard, after).await? else {
            page.next = None;
            return Ok(page);
        };
        after = Some(next);
        page.next = after;
        page.shown
            .extend(show(store, identity.origin, identity.scope(next)).await?);
        if page.shown.len() >= CONVERSATIONS_MAX || begun.elapsed() > time {
            return Ok(page);
        }
    }
}

/// How this region shows a conversation; `None` where that changes, or nobody may see it.
///
/// # Errors
///
/// Those of the store.
pub async fn show(store: &Store, own: Origin, scope: Scope) -> Result<Option<Shown>, StoreError> {
    let look = || {
        let read = move |tx: std::sync::Arc<crate::store::Transaction>| async move {
            let stage = snapshot::row(&tx, scope.shard, true).await?.stage();
            let standpoint = Standpoint::read(&tx, &scope, own).await?;
            // What was merged runs ahead of the cursor.
            Ok(standpoint.filter(|_| stage == SnapshotStage::Done))
        };
        store.read(RunOptions::default(), read)
    };
    let Some(before) = look().await? else {
        return Ok(None);
    };
    let digest = digest::fresh(store, scope).await?;
    let Some(after) = look().await? else {
        return Ok(None);
    };
    if before.last != after.last {
        return Ok(None);
    }
    // All that was held before is in the digest; what was trimmed since does not show in `last`.
    let standpoint = Standpoint {
        held: before.held,
        ..after
    };
    Ok(Some(Shown {
        conversation: scope.conversation,
        standpoint,
        digest: digest.map(Into::into),
    }))
}

async fn state(
    store: &Store,
    own: Origin,
    scope: Scope,
    after: Option<Bytes>,
) -> Result<Option<StatePage>, StoreError> {
    let read = move |tx: std::sync::Arc<crate::store::Transaction>| {
        let after = after.clone();
        async move {
            if snapshot::row(&tx, scope.shard, true).await?.stage() != SnapshotStage::Done {
                return Ok(None);
            }
            let reaches = crate::apply::held(&tx, scope.shard, own).await?;
            let shard = scope.shard;
            let (rows, next) =
                snapshot::page(&tx, shard, scope.all(), after.as_ref(), STATE_BYTES).await?;
            Ok(Some(StatePage {
                reaches,
                rows,
                next,
            }))
        }
    };
    store.read(RunOptions::default(), read).await
}
