//! Repair: all that a peer knows of a conversation, merged into what is here. Merges never lose, so what
//! only this region knows stays, and comes to the peer by its own audit.
//!
//! It is open from its first transaction until [`end`]: a region that stops amid it begins it anew.

use std::sync::Arc;

use prost::Message as _;
use whimbrel_replication::cursor::{Cursor, ShardCursor};

use super::wire::StatePage;
use crate::apply::rows::{RepairRow, SnapshotStage};
use crate::apply::{ApplyError, Part, corrupt, held};
use crate::execute::Context;
use crate::nodes::Fence;
use crate::snapshot::{self, MergeError};
use crate::store::keys::{self, Scope};
use crate::store::{RunOptions, Store, StoreError, Transaction};

/// Rows that one transaction merges: each can be a message of 64 KiB, and what is derived from it.
const ROWS_MAX: usize = 16;

/// Merges a page of a conversation's state. Whether it could be: only once this region has taken in all
/// that the peer had, or the state would run ahead of the cursor.
///
/// # Errors
///
/// Rows that cannot be read or merged, and those of the store.
pub async fn merge(
    store: &Store,
    context: &Context,
    fence: Option<Fence>,
    scope: Scope,
    page: StatePage,
) -> Result<bool, MergeError> {
    let shards = context.identity.shards;
    let mut parts = Vec::with_capacity(page.rows.len());
    for (key, value) in &page.rows {
        let (of, part) = snapshot::read_row((scope.shard, shards), key, value)?;
        if of != scope {
            return Err(MergeError::Page("a row of another conversation".to_owned()));
        }
        parts.push((of, part));
    }
    let reaches = Arc::new(page.reaches);
    for some in parts.chunks(ROWS_MAX) {
        let some: Arc<[(Scope, Part)]> = some.into();
        if !merge_some(store, context, fence.clone(), scope, &reaches, some).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn merge_some(
    store: &Store,
    context: &Context,
    fence: Option<Fence>,
    scope: Scope,
    reaches: &Arc<ShardCursor>,
    parts: Arc<[(Scope, Part)]>,
) -> Result<bool, MergeError> {
    let (context, reaches) = (context.clone(), reaches.clone());
    let committed = store.run_unless(RunOptions::default(), move |tx| {
        let (context, reaches) = (context.clone(), reaches.clone());
        let (fence, parts) = (fence.clone(), parts.clone());
        async move {
            if !may(&tx, &context, fence.as_ref(), scope, &reaches).await? {
                return Ok(Ok(false));
            }
            let row = row(&tx, &scope, false).await?;
            if !row.is_open {
                let open = RepairRow {
                    is_open: true,
                    ..row
                };
                tx.set(&keys::repaired(&scope), &open.encode_to_vec());
            }
            match snapshot::join(&tx, &context, &parts, true).await {
                Ok(()) => {}
                Err(ApplyError::Op(reason)) => return Ok(Err(reason)),
                Err(ApplyError::Store(error)) => return Err(error),
            }
            Ok(Ok(true))
        }
    });
    committed.await?.map_err(MergeError::Page)
}

/// Ends a repair: all pages are merged of a state in which the ops up to `last` were. Whether it could be:
/// not if this region cannot have taken in so much.
///
/// # Errors
///
/// Those of the store.
pub async fn end(
    store: &Store,
    context: &Context,
    fence: Option<Fence>,
    scope: Scope,
    last: ShardCursor,
) -> Result<bool, StoreError> {
    let (context, last) = (context.clone(), Arc::new(last));
    let ended = store.run(RunOptions::default(), move |tx| {
        let (context, fence, last) = (context.clone(), fence.clone(), last.clone());
        async move {
            if !may(&tx, &context, fence.as_ref(), scope, &last).await? {
                return Ok(false);
            }
            let row = row(&tx, &scope, false).await?;
            let mut brought = snapshot::read_cursor(&row.last, scope.shard)?;
            brought.join(&last);
            let row = RepairRow {
                last: Cursor::of(scope.shard, brought).to_string(),
                is_open: false,
            };
            tx.set(&keys::repaired(&scope), &row.encode_to_vec());
            // No event tells of what was merged: sessions and kept digests of all nodes begin anew.
            let mut snapshot = snapshot::row(&tx, scope.shard, false).await?;
            snapshot.version += 1;
            tx.set(&keys::snapshot(scope.shard), &snapshot.encode_to_vec());
            Ok(true)
        }
    });
    Ok(ended.await?.value)
}

/// May what reaches so far be merged here, now?
async fn may(
    tx: &Transaction,
    context: &Context,
    fence: Option<&Fence>,
    scope: Scope,
    reaches: &ShardCursor,
) -> Result<bool, StoreError> {
    let stage = snapshot::row(tx, scope.shard, false).await?.stage();
    let held = held(tx, scope.shard, context.identity.origin).await?;
    Ok(stage == SnapshotStage::Done && held.covers_all(reaches) && Fence::holds(fence, tx).await?)
}

async fn row(tx: &Transaction, scope: &Scope, snapshot: bool) -> Result<RepairRow, StoreError> {
    let row = tx.get(&keys::repaired(scope), snapshot).await?;
    let row = row.map(|bytes| RepairRow::decode(&bytes[..])).transpose();
    Ok(row.map_err(|e| corrupt(e.into()))?.unwrap_or_default())
}

/// Up to which ops repairs have brought a conversation; `None` while one is open.
///
/// # Errors
///
/// Those of the store.
pub(super) async fn brought(
    tx: &Transaction,
    scope: &Scope,
) -> Result<Option<ShardCursor>, StoreError> {
    let row = row(tx, scope, true).await?;
    let last = || snapshot::read_cursor(&row.last, scope.shard);
    (!row.is_open).then(last).transpose()
}

/// Was a repair of it begun, and not ended?
///
/// # Errors
///
/// Those of the store.
pub(super) async fn is_open(store: &Store, scope: Scope) -> Result<bool, StoreError> {
    let read = store.read(RunOptions::default(), move |tx| async move {
        Ok(row(&tx, &scope, true).await?.is_open)
    });
    read.await
}
