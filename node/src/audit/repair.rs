//! Repair: all that a peer knows of a conversation, merged into what is here. Merges never lose, so what
//! only this region knows stays, and comes to the peer by its own audit.

use std::sync::Arc;

use whimbrel_replication::cursor::ShardCursor;

use super::wire::StatePage;
use crate::apply::rows::SnapshotStage;
use crate::apply::{ApplyError, Part, held};
use crate::execute::Context;
use crate::nodes::Fence;
use crate::snapshot::{self, MergeError};
use crate::store::keys::{self, Scope};
use crate::store::{RunOptions, Store};

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
            let shard = scope.shard;
            let mut row = snapshot::row(&tx, shard, false).await?;
            let has_all = held(&tx, shard, context.identity.origin)
                .await?
                .covers_all(&reaches);
            if row.stage() != SnapshotStage::Done
                || !has_all
                || !Fence::holds(fence.as_ref(), &tx).await?
            {
                return Ok(Ok(false));
            }
            match snapshot::join(&tx, &context, &parts, true).await {
                Ok(()) => {}
                Err(ApplyError::Op(reason)) => return Ok(Err(reason)),
                Err(ApplyError::Store(error)) => return Err(error),
            }
            // No event tells of it: sessions and kept digests of all nodes begin anew.
            row.version += 1;
            tx.set(&keys::snapshot(shard), &prost::Message::encode_to_vec(&row));
            Ok(Ok(true))
        }
    });
    committed.await?.map_err(MergeError::Page)
}
