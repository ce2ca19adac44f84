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

mod merge;
mod read;

use prost::Message as _;
use whimbrel_replication::cursor::{Cursor, ShardCursor};
use whimbrel_replication::error::DecodeError;
use whimbrel_replication::id::{Origin, ShardId};

use crate::apply::rows::{SnapshotRow, SnapshotStage};
use crate::apply::{corrupt, others_held};
use crate::nodes::Fence;
use crate::store::{RunOptions, Store, StoreError, Transaction, keys};
pub use merge::{MergeError, join, merge, read_row};
pub use read::{page, read};

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

/// Reads a cursor of one shard, as rows keep it; an empty text covers nothing.
///
/// # Errors
///
/// A text that does not parse.
pub fn read_cursor(text: &str, shard: ShardId) -> Result<ShardCursor, StoreError> {
    if text.is_empty() {
        return Ok(ShardCursor::new());
    }
    let cursor: Cursor = text
        .parse()
        .map_err(|_| corrupt(DecodeError::Range("cursor of a snapshot")))?;
    Ok(cursor.shard(shard).cloned().unwrap_or_default())
}

/// Up to where the state goes that a snapshot brought, as its row tells.
///
/// # Errors
///
/// A row that does not parse.
pub fn reaches(row: &SnapshotRow, shard: ShardId) -> Result<ShardCursor, StoreError> {
    read_cursor(&row.reaches, shard)
}

/// Ends a snapshot once the logs have caught up with it. Whether the shard may be shown. What it brought of
/// the `lost` origins beyond their logs was lost with a store: it is not waited for.
///
/// # Errors
///
/// Those of the store.
pub async fn end_if_caught_up(
    store: &Store,
    own: Origin,
    shard: ShardId,
    lost: Vec<Origin>,
) -> Result<bool, StoreError> {
    let ended = store.run(RunOptions::default(), move |tx| {
        let lost = lost.clone();
        async move {
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
                .filter(|(origin, _)| *origin != own && !lost.contains(origin))
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
        }
    });
    Ok(ended.await?.value)
}

/// How much of a shard a snapshot has merged, from 0 to 1; `None` where none is under way.
pub fn share_merged(shard: ShardId, row: &SnapshotRow) -> Option<f64> {
    match row.stage() {
        SnapshotStage::Done => None,
        SnapshotStage::CatchingUp => Some(1.0),
        SnapshotStage::Copying => {
            let after = row.after.as_deref();
            Some(after.map_or(0.0, |after| share_before(shard, after)))
        }
    }
}

/// How much of a shard stands before a key, from 0 to 1: ids of conversations are hashes, so they
/// are spread evenly.
fn share_before(shard: ShardId, after: &[u8]) -> f64 {
    let full = [&keys::shard_prefix(shard)[..], after].concat();
    keys::conversation_of(&full).map_or(0.0, |id| {
        let [a, b, ..] = *id.as_bytes();
        f64::from(u16::from_be_bytes([a, b])) / f64::from(u16::MAX)
    })
}
