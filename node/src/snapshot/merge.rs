//! The side that copies: the pages of a peer, merged into what is here.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use whimbrel_replication::cursor::{Cursor, ShardCursor};
use whimbrel_replication::error::DecodeError;
use whimbrel_replication::id::{OpStamp, ShardId, Stamp};
use whimbrel_replication::link::{SnapshotPage, SnapshotProgress};

use super::{read_cursor, row};
use crate::apply::rows::SnapshotStage;
use crate::apply::{ApplyError, Part, Wanted, Workspace, corrupt, held};
use crate::execute::Context;
use crate::nodes::Fence;
use crate::store::keys::{self, Scope};
use crate::store::{Atomic, RunOptions, Store, StoreError, Transaction};

/// Rows that one transaction merges.
const MERGE_ROWS_MAX: usize = 200;
/// Their bytes: what is derived from them is a few times as much.
const MERGE_BYTES_MAX: usize = 96 * 1024;

/// Why a page was not merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// It is the peer's fault.
    #[error("the page cannot be merged: {0}")]
    Page(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<DecodeError> for MergeError {
    fn from(error: DecodeError) -> Self {
        Self::Page(error.to_string())
    }
}

/// Merges a page into a snapshot that was begun, if it joins on to what is merged; tells how far the
/// snapshot is.
///
/// # Errors
///
/// Rows that cannot be read or merged, and those of the store.
pub async fn merge(
    store: &Store,
    context: &Context,
    fence: Option<Fence>,
    page: SnapshotPage,
) -> Result<SnapshotProgress, MergeError> {
    let SnapshotPage {
        shard,
        after,
        cursor,
        reaches,
        rows,
        next,
    } = page;
    let mut parts = Vec::with_capacity(rows.len());
    for (key, value) in rows {
        let (scope, part) = read_row((shard, context.identity.shards), &key, &value)?;
        parts.push((key.clone(), key.len() + value.len(), scope, part));
    }
    let mut step = Step {
        shard,
        after,
        cursor,
        reaches,
        parts: Vec::new(),
        to: None,
        is_last: false,
    };
    let mut parts = parts.into_iter().peekable();
    loop {
        let mut bytes = 0;
        while let Some((_, size, ..)) = parts.peek()
            && step.parts.len() < MERGE_ROWS_MAX
            && bytes + size <= MERGE_BYTES_MAX.max(*size)
        {
            bytes += size;
            let Some((key, _, scope, part)) = parts.next() else {
                break;
            };
            step.to = Some(key);
            step.parts.push((scope, part));
        }
        let is_end = parts.peek().is_none();
        if is_end {
            step.to.clone_from(&next);
            step.is_last = next.is_none();
        }
        let done = step.clone().run(store, context, fence.clone()).await?;
        match done {
            SnapshotProgress::After(at) if !is_end && at == step.to => {
                step.after = at;
                step.parts.clear();
            }
            // The end of the page, or somebody else has come further.
            done => return Ok(done),
        }
    }
}

/// Reads a row as it travels: without what stands before all keys of its shard.
///
/// # Errors
///
/// What comes from a peer may be anything.
pub fn read_row(
    (shard, shards): (ShardId, u16),
    key: &[u8],
    value: &[u8],
) -> Result<(Scope, Part), DecodeError> {
    let full = [&keys::shard_prefix(shard)[..], key].concat();
    Part::read((shard, shards), &full, value)
}

/// Merges parts into what a transaction sees; `anew` writes what is derived from them also where nothing
/// was new.
///
/// # Errors
///
/// Parts that cannot be merged, and those of the store.
pub async fn join(
    tx: &Arc<Transaction>,
    context: &Context,
    parts: &[(Scope, Part)],
    anew: bool,
) -> Result<(), ApplyError> {
    let shards = context.identity.shards;
    let mut workspace = Workspace::new(tx.clone(), shards, context.edited_lately.clone());
    let mut wanted = Wanted::default();
    for (scope, part) in parts {
        wanted.add_part(*scope, part);
    }
    workspace.load(wanted).await?;
    if anew {
        workspace.write_anew();
    }
    for (scope, part) in parts {
        workspace.join(scope, part.clone()).await?;
    }
    workspace.finish();
    Ok(())
}

/// A part of a page that one transaction merges.
#[derive(Clone)]
struct Step {
    shard: ShardId,
    after: Option<Bytes>,
    cursor: ShardCursor,
    reaches: ShardCursor,
    parts: Vec<(Scope, Part)>,
    to: Option<Bytes>,
    is_last: bool,
}

impl Step {
    async fn run(
        self,
        store: &Store,
        context: &Context,
        fence: Option<Fence>,
    ) -> Result<SnapshotProgress, MergeError> {
        let (step, context) = (Arc::new(self), context.clone());
        let committed = store.run_unless(RunOptions::default(), move |tx| {
            let (step, context, fence) = (step.clone(), context.clone(), fence.clone());
            async move {
                match step.commit(&tx, &context, fence.as_ref()).await {
                    Ok(progress) => Ok(Ok(progress)),
                    Err(ApplyError::Op(reason)) => Ok(Err(reason)),
                    Err(ApplyError::Store(error)) => Err(error),
                }
            }
        });
        committed.await?.map_err(MergeError::Page)
    }

    async fn commit(
        &self,
        tx: &Arc<Transaction>,
        context: &Context,
        fence: Option<&Fence>,
    ) -> Result<SnapshotProgress, ApplyError> {
        let (shard, own) = (self.shard, context.identity.origin);
        let mut row = row(tx, shard, false).await?;
        if !Fence::holds(fence, tx).await? {
            return Ok(SnapshotProgress::Failed);
        }
        match row.stage() {
            SnapshotStage::Copying if row.after == self.after => {}
            SnapshotStage::Copying => return Ok(SnapshotProgress::After(row.after)),
            SnapshotStage::CatchingUp | SnapshotStage::Done => {
                return Ok(SnapshotProgress::Merged(held(tx, shard, own).await?));
            }
        }
        join(tx, context, &self.parts, false).await?;

        let holds = match &row.holds {
            Some(text) => meet(&read_cursor(text, shard)?, &self.cursor),
            None => self.cursor.clone(),
        };
        let mut reaches = read_cursor(&row.reaches, shard)?;
        reaches.join(&self.cursor);
        reaches.join(&self.reaches);
        row.holds = Some(Cursor::of(shard, holds.clone()).to_string());
        row.reaches = Cursor::of(shard, reaches).to_string();
        row.rows += self.parts.len() as u64;
        row.after.clone_from(&self.to);
        if !self.is_last {
            tx.set(&keys::snapshot(shard), &row.encode_to_vec());
            return Ok(SnapshotProgress::After(self.to.clone()));
        }
        // What the logs up to here would tell is merged; nobody can be given it from here.
        let mut cursor = held(tx, shard, own).await?;
        for (origin, at) in holds.iter().filter(|(origin, _)| *origin != own) {
            // Read, not only seen: an apply at the same time must not be undone.
            let applied = keys::applied(shard, origin);
            let before = tx.get(&applied, false).await?;
            let before = before.map(|bytes| Stamp::try_from(&bytes[..])).transpose();
            if before
                .map_err(corrupt)?
                .is_none_or(|before| before < at.stamp)
            {
                tx.set(&applied, at.stamp.as_bytes());
                let floor = keys::trimmed(shard, origin);
                let last = OpStamp::whole(at.stamp);
                tx.atomic(Atomic::ByteMax, &floor, &last.to_bytes());
                cursor.advance(origin, OpStamp::whole(at.stamp));
            }
        }
        row.stage = SnapshotStage::CatchingUp.into();
        row.version += 1;
        row.after = None;
        tx.set(&keys::snapshot(shard), &row.encode_to_vec());
        Ok(SnapshotProgress::Merged(cursor))
    }
}

/// What both cover.
fn meet(one: &ShardCursor, other: &ShardCursor) -> ShardCursor {
    one.iter()
        .filter_map(|(origin, at)| Some((origin, at.min(other.get(&origin)?))))
        .collect()
}
