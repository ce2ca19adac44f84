//! `Q/`: batches of other regions that an operator chose to pass, for they cannot be applied here.
//!
//! What is counted as seen was applied; this is the only exception, made by command, and noted for
//! good. The batch stays in the log as it came, for regions that pull it from here. What it did comes
//! with the repair of its conversations, once an audit has found that they differ.

use bytes::Bytes;
use prost::Message as _;
use whimbrel_replication::id::{OpStamp, Origin, ShardId, Stamp};

use crate::apply::corrupt;
use crate::apply::remote::Applied;
use crate::apply::rows::{ArrivalRow, SkippedRow};
use crate::nodes::Fence;
use crate::store::keys;
use crate::store::{RangeOptions, RunOptions, Store, StoreError};

/// A batch that is passed, or is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Shard of its log.
    pub shard: ShardId,
    /// Origin of its log.
    pub origin: Origin,
    /// Its stamp.
    pub at: Stamp,
    /// Why it could not be applied.
    pub reason: String,
}

/// Notes that a batch is to be passed.
///
/// # Errors
///
/// Those of the store.
pub async fn note(store: &Store, skipped: Skipped) -> Result<(), StoreError> {
    let noted = store.run(RunOptions::default(), move |tx| {
        let Skipped {
            shard,
            origin,
            at,
            reason,
        } = skipped.clone();
        async move {
            let key = keys::skipped(shard, origin, at);
            if tx.get(&key, false).await?.is_none() {
                let row = SkippedRow {
                    reason,
                    arrival: None,
                };
                tx.set(&key, &row.encode_to_vec());
            }
            Ok(())
        }
    });
    noted.await.map(drop)
}

/// All that were noted.
///
/// # Errors
///
/// Those of the store.
pub async fn all(store: &Store) -> Result<Vec<Skipped>, StoreError> {
    let read = store.read(RunOptions::default(), |tx| async move {
        let (begin, end) = keys::skipped_all();
        let options = RangeOptions {
            snapshot: true,
            ..RangeOptions::default()
        };
        let rows = tx.range_all(&begin, &end, options).await?;
        let skipped = rows.iter().map(|(key, value)| {
            let (shard, origin) = keys::skipped_log(key)?;
            Ok(Skipped {
                shard,
                origin,
                at: keys::stamp_of(key)?.stamp,
                reason: SkippedRow::decode(&value[..])?.reason,
            })
        });
        skipped.collect::<Result<_, _>>().map_err(corrupt)
    });
    read.await
}

/// Passes a batch that was noted and follows `from`; `None` if it was not noted.
///
/// # Errors
///
/// Those of the store.
pub async fn pass(
    store: &Store,
    fence: Option<Fence>,
    (shard, origin): (ShardId, Origin),
    from: Stamp,
    (at, bytes): (Stamp, Bytes),
) -> Result<Option<Applied>, StoreError> {
    let committed = store.run(RunOptions::default(), move |tx| {
        let (fence, bytes) = (fence.clone(), bytes.clone());
        async move {
            let noted = keys::skipped(shard, origin, at);
            let Some(row) = tx.get(&noted, false).await? else {
                return Ok(None);
            };
            let cursor = keys::applied(shard, origin);
            let held = match tx.get(&cursor, false).await? {
                Some(bytes) => Stamp::try_from(&bytes[..]).map_err(corrupt)?,
                None => Stamp::MIN,
            };
            if held != from || !Fence::holds(fence.as_ref(), &tx).await? {
                return Ok(Some(Applied::At(held)));
            }
            tx.set(&keys::log(shard, origin, at).bytes, &bytes);
            tx.set(&cursor, at.as_bytes());
            let arrival = ArrivalRow {
                origin: origin.to_bytes().to_vec(),
                stamp: Some(at.as_bytes().to_vec()),
                skipped: true,
            };
            let key = keys::arrival(shard, OpStamp::new(Stamp::PENDING, 0));
            if let Some(offset) = key.stamp_offset {
                tx.set_versionstamped_key(key.bytes, offset, &arrival.encode_to_vec());
            }
            let row = SkippedRow::decode(&row[..]).map_err(|e| corrupt(e.into()))?;
            let row = SkippedRow {
                arrival: Some(Stamp::PENDING.as_bytes().to_vec()),
                ..row
            };
            let row = row.encode_to_vec();
            let offset = row.len() - Stamp::LEN;
            tx.set_versionstamped_value(&noted, row, offset);
            Ok(Some(Applied::At(at)))
        }
    });
    Ok(committed.await?.value)
}
