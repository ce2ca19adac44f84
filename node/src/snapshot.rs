//! Snapshots: the state of a shard, read here for a peer, or merged here from a peer's pages.
//!
//! How far a snapshot has come stands in the store, in `S/shard`. Its stages:
//!
//! 1. *Copying*: pages are merged, and the shard's state runs ahead of its cursor. Nothing of it may be
//!    shown, or written on top of it.
//! 2. *Catching up*: all pages are merged, and the cursor covers what every page held. What some page
//!    held beyond that comes with the logs.
//! 3. *Done*: the cursor covers all of it.
//!
//! The cursor after a snapshot is the meet of those of its pages, so a snapshot may go on with another
//! peer; what the logs bring above it was merged already in part, and merges do not mind.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use whimbrel_replication::cursor::{Cursor, ShardCursor};
use whimbrel_replication::error::DecodeError;
use whimbrel_replication::id::{OpStamp, Origin, ShardId, Stamp};
use whimbrel_replication::link::{SnapshotPage, SnapshotProgress};

use crate::apply::rows::{SnapshotRow, SnapshotStage};
use crate::apply::{ApplyError, Part, Wanted, Workspace, corrupt, held, others_held};
use crate::execute::Context;
use crate::nodes::Fence;
use crate::store::keys::{self, Scope};
use crate::store::{Atomic, RangeOptions, RunOptions, Store, StoreError, Transaction, key_after};

/// Rows that one read of a range brings.
const READ_ROWS: usize = 256;
/// Reads of ranges for one page: far from the store's time limit.
const READS_MAX: usize = 400;
/// Rows that one transaction merges.
const MERGE_ROWS_MAX: usize = 200;
/// Their bytes: what is derived from them is a few times as much.
const MERGE_BYTES_MAX: usize = 96 * 1024;

/// The row of a shard, as a transaction sees it; all zero where none was ever taken.
///
/// # Errors
///
/// Those of the store.
pub async fn row(
    tx: &Transaction,
    shard: ShardId,
    snapshot: bool,
) -> Result<SnapshotRow, StoreError> {
    let row = tx.get(&keys::snapshot(shard), snapshot).await?;
    let row = row.map(|bytes| SnapshotRow::decode(&bytes[..])).transpose();
    Ok(row.map_err(|e| corrupt(e.into()))?.unwrap_or_default())
}

/// Reads a page of a shard's state after a key. Also amid a snapshot: two regions may need each
/// other's.
///
/// # Errors
///
/// Those of the store.
pub async fn read(
    store: &Store,
    own: Origin,
    shard: ShardId,
    after: Option<Bytes>,
    bytes_max: usize,
) -> Result<SnapshotPage, StoreError> {
    let read = move |tx: Arc<Transaction>| {
        let after = after.clone();
        async move {
            let cursor = held(&tx, shard, own).await?;
            let mut reaches = read_cursor(&row(&tx, shard, true).await?.reaches, shard)?;
            reaches.join(&cursor);
            let (rows, next) = page(&tx, shard, after.as_ref(), bytes_max).await?;
            Ok(SnapshotPage {
                shard,
                after,
                cursor,
                reaches,
                rows,
                next,
            })
        }
    };
    store.read(RunOptions::default(), read).await
}

type Rows = Vec<(Bytes, Bytes)>;

async fn page(
    tx: &Transaction,
    shard: ShardId,
    after: Option<&Bytes>,
    bytes_max: usize,
) -> Result<(Rows, Option<Bytes>), StoreError> {
    let prefix = keys::shard_prefix(shard);
    let relative = |key: &[u8]| Bytes::copy_from_slice(&key[prefix.len()..]);
    let (first, end) = keys::shard(shard);
    let mut begin = match after {
        Some(after) => first.max(key_after(&[&prefix[..], after].concat())),
        None => first,
    };
    let (mut rows, mut bytes, mut last) = (Rows::new(), 0, None);
    for _ in 0..READS_MAX {
        let options = RangeOptions {
            limit: READ_ROWS,
            bytes: bytes_max,
            snapshot: true,
            ..RangeOptions::default()
        };
        let read = tx.range(&begin, &end, options).await?;
        let mut leapt = false;
        for (key, value) in &read.rows {
            last = Some(relative(key));
            let kind = keys::kind_of(key).map_err(corrupt)?;
            if !Part::is_one(&kind) {
                // Over all rows of this kind at once.
                let conversation = keys::conversation_of(key).map_err(corrupt)?;
                begin = Scope {
                    shard,
                    conversation,
                }
                .end_of(&kind);
                leapt = true;
                break;
            }
            begin = key_after(key);
            bytes += key.len() + value.len();
            rows.push((relative(key), value.clone()));
            if bytes >= bytes_max {
                return Ok((rows, last));
            }
        }
        if !leapt && !read.more {
            return Ok((rows, None));
        }
    }
    Ok((rows, last))
}

/// Begins a snapshot, or finds how far one has come. One that cannot catch up with the logs begins
/// anew.
///
/// # Errors
///
/// Those of the store.
pub async fn begin(
    store: &Store,
    fence: Option<Fence>,
    shard: ShardId,
) -> Result<SnapshotRow, StoreError> {
    let begun = store.run(RunOptions::default(), move |tx| {
        let fence = fence.clone();
        async move {
            let mut row = row(&tx, shard, false).await?;
            if row.stage() != SnapshotStage::Copying && Fence::holds(fence.as_ref(), &tx).await? {
                row = SnapshotRow {
                    version: row.version + 1,
                    stage: SnapshotStage::Copying.into(),
                    // What is merged stays merged.
                    reaches: row.reaches,
                    ..SnapshotRow::default()
                };
                tx.set(&keys::snapshot(shard), &row.encode_to_vec());
            }
            Ok(row)
        }
    });
    Ok(begun.await?.value)
}

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
    let prefix = keys::shard_prefix(shard);
    let mut parts = Vec::with_capacity(rows.len());
    for (key, value) in rows {
        let full = [&prefix[..], &key].concat();
        let (scope, part) = Part::read((shard, context.identity.shards), &full, &value)?;
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
        let shards = context.identity.shards;
        let mut workspace = Workspace::new(tx.clone(), shards, context.edited_lately.clone());
        let mut wanted = Wanted::default();
        for (scope, part) in &self.parts {
            wanted.add_part(*scope, part);
        }
        workspace.load(wanted).await?;
        for (scope, part) in &self.parts {
            workspace.join(scope, part.clone()).await?;
        }
        workspace.finish();

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

fn read_cursor(text: &str, shard: ShardId) -> Result<ShardCursor, StoreError> {
    if text.is_empty() {
        return Ok(ShardCursor::new());
    }
    let cursor: Cursor = text
        .parse()
        .map_err(|_| corrupt(DecodeError::Range("cursor of a snapshot")))?;
    Ok(cursor.shard(shard).cloned().unwrap_or_default())
}

/// Ends a snapshot once the logs have caught up with it. Whether the shard may be shown.
///
/// # Errors
///
/// Those of the store.
pub async fn end_if_caught_up(
    store: &Store,
    own: Origin,
    shard: ShardId,
) -> Result<bool, StoreError> {
    let ended = store.run(RunOptions::default(), move |tx| async move {
        let mut row = row(&tx, shard, false).await?;
        match row.stage() {
            SnapshotStage::Done => return Ok(true),
            SnapshotStage::Copying => return Ok(false),
            SnapshotStage::CatchingUp => {}
        }
        let mut reaches = read_cursor(&row.reaches, shard)?;
        // What we have written ourselves is here, or lost for good.
        reaches = reaches
            .iter()
            .filter(|(origin, _)| *origin != own)
            .collect();
        if !others_held(&tx, shard).await?.covers_all(&reaches) {
            return Ok(false);
        }
        row = SnapshotRow {
            version: row.version + 1,
            rows: row.rows,
            ..SnapshotRow::default()
        };
        tx.set(&keys::snapshot(shard), &row.encode_to_vec());
        Ok(true)
    });
    Ok(ended.await?.value)
}

/// How much of a shard stands before a key, from 0 to 1: ids of conversations are hashes, so they
/// are spread evenly.
pub fn share_before(shard: ShardId, after: &[u8]) -> f64 {
    let full = [&keys::shard_prefix(shard)[..], after].concat();
    keys::conversation_of(&full).map_or(0.0, |id| {
        let [a, b, ..] = *id.as_bytes();
        f64::from(u16::from_be_bytes([a, b])) / f64::from(u16::MAX)
    })
}
