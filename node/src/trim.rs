//! Trimming: logs and feeds do not grow for ever, and redacted text goes with them (G13).
//!
//! A batch goes once all regions of the config hold it and it is older than the least retention;
//! older than the greatest one it goes regardless. Who still lacked it takes a snapshot. With it go
//! the rows that only tell of it: its events, its arrival, and the answers to replays of its ops.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message as _;
use whimbrel_replication::cursor::Cursor;
use whimbrel_replication::error::DecodeError;
use whimbrel_replication::id::{OpStamp, Origin, ShardId, Stamp};
use whimbrel_replication::op::Batch;

use crate::apply::corrupt;
use crate::apply::rows::{FeedRow, SkippedRow};
use crate::config::Retention;
use crate::nodes::Fence;
use crate::store::keys::{self, Scope};
use crate::store::{Atomic, RangeOptions, RunOptions, Store, StoreError, Transaction};

/// Batches that one transaction trims.
const PAGE_BATCHES: usize = 32;

/// What may go of a log.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How long batches are kept.
    pub retention: Retention,
    /// All regions hold the log up to here.
    pub held_by_all: Stamp,
    /// Wall clock.
    pub now_unix_ms: i64,
    /// How far ahead a stamp may be to tell an age.
    pub max_drift_ms: i64,
}

impl Bounds {
    fn lets_go(&self, stamp: Stamp, batch: &Batch) -> bool {
        let is_held = stamp <= self.held_by_all;
        let stamped = batch.ops.iter().map(|op| op.position.hlc().unix_ms()).max();
        let age = self.now_unix_ms - stamped.unwrap_or(0);
        // A stamp out of the future tells no age. All that came before it may go, so may it.
        if age < -self.max_drift_ms {
            return is_held;
        }
        let older_than = |limit: std::time::Duration| {
            age >= i64::try_from(limit.as_millis()).unwrap_or(i64::MAX)
        };
        (is_held && older_than(self.retention.min)) || older_than(self.retention.max)
    }
}

/// The last ops that were trimmed of all logs: who has heard less than that has missed something.
///
/// # Errors
///
/// Those of the store.
pub async fn floors(store: &Store) -> Result<Cursor, StoreError> {
    let read = store.read(RunOptions::default(), |tx| async move {
        let (begin, end) = keys::trimmed_all();
        let options = RangeOptions {
            snapshot: true,
            ..RangeOptions::default()
        };
        let mut floors = Cursor::new();
        for (key, value) in tx.range_all(&begin, &end, options).await? {
            let (shard, origin) = keys::trimmed_log(&key).map_err(corrupt)?;
            let last = OpStamp::try_from(&value[..]).map_err(corrupt)?;
            floors.advance(shard, origin, last);
        }
        Ok(floors)
    });
    read.await
}

/// Up to where all regions hold a log: the least of what the `others` do. One that was never heard of
/// holds nothing.
pub fn held_by_all(others: impl Iterator<Item = Option<Stamp>>) -> Stamp {
    let held = others.map(|held| held.unwrap_or(Stamp::MIN));
    held.min().unwrap_or(Stamp::MAX)
}

/// Trims a log of what may go; how many batches went.
///
/// # Errors
///
/// Those of the store.
pub async fn trim(
    store: &Store,
    fence: Option<Fence>,
    shards: u16,
    (shard, origin): (ShardId, Origin),
    bounds: Bounds,
) -> Result<u64, StoreError> {
    let mut gone = 0;
    loop {
        let fence = fence.clone();
        let trimmed = store.run(RunOptions::default(), move |tx| {
            let fence = fence.clone();
            async move {
                if !Fence::holds(fence.as_ref(), &tx).await? {
                    return Ok(0);
                }
                page(&tx, shards, (shard, origin), bounds).await
            }
        });
        let trimmed = trimmed.await?.value;
        gone += trimmed as u64;
        if trimmed < PAGE_BATCHES {
            return Ok(gone);
        }
    }
}

async fn page(
    tx: &Arc<Transaction>,
    shards: u16,
    (shard, origin): (ShardId, Origin),
    bounds: Bounds,
) -> Result<usize, StoreError> {
    // Not from the floor on: a snapshot may have set it above batches that are here.
    let (begin, end) = keys::log_all(shard, origin);
    let options = RangeOptions {
        limit: PAGE_BATCHES,
        snapshot: true,
        ..RangeOptions::default()
    };
    let read = tx.range(&begin, &end, options).await?;
    let skipped = skipped(tx, shard, origin).await?;
    let mut passed = Vec::new();
    let mut trimmed = 0;
    for (key, bytes) in read.rows {
        let stamp = keys::stamp_of(&key).map_err(corrupt)?.stamp;
        if let Some(arrival) = skipped.get(&stamp) {
            // It tells no age that could be trusted: it goes with the batch after it.
            passed.push((key, *arrival));
            continue;
        }
        let batch = Batch::decode(&bytes).map_err(corrupt)?;
        if !bounds.lets_go(stamp, &batch) {
            break;
        }
        for (key, arrival) in passed.drain(..) {
            tx.clear(&key);
            tx.clear(&keys::arrival(shard, OpStamp::new(arrival, 0)).bytes);
            trimmed += 1;
        }
        for (index, op) in (0..).zip(&batch.ops) {
            let scope = Scope::new(op.conversation, shards);
            let at = OpStamp::new(stamp, index);
            let event = scope.feed(origin, at).bytes;
            if index == 0
                && let Some(row) = tx.get(&event, true).await?
            {
                let (_, arrival) = FeedRow::decode_happening(&row, at).map_err(corrupt)?;
                tx.clear(&keys::arrival(shard, arrival).bytes);
            }
            tx.clear(&event);
            tx.clear(&scope.op(&op.id));
        }
        tx.clear(&key);
        // Two nodes may do this at once; the floor never goes back.
        let floor = keys::trimmed(shard, origin);
        let last = u16::try_from(batch.ops.len().saturating_sub(1)).unwrap_or(u16::MAX);
        let last = OpStamp::new(stamp, last);
        tx.atomic(Atomic::ByteMax, &floor, &last.to_bytes());
        trimmed += 1;
    }
    if trimmed > 0 && tx.get(&keys::gone(), true).await?.is_none() {
        tx.set(&keys::gone(), &bounds.now_unix_ms.to_be_bytes());
    }
    Ok(trimmed)
}

/// Since when something is trimmed that is not merged out of the tables, milliseconds since 1970.
///
/// # Errors
///
/// Those of the store.
pub async fn gone_since(store: &Store) -> Result<Option<i64>, StoreError> {
    let read = store.read(RunOptions::default(), |tx| async move {
        let since = tx.get(&keys::gone(), true).await?;
        let since = since.map(|bytes| bytes[..].try_into().map(i64::from_be_bytes));
        since
            .transpose()
            .map_err(|_| corrupt(DecodeError::Range("time of a deletion")))
    });
    read.await
}

/// Notes that all tables are merged since the last trimming.
///
/// # Errors
///
/// Those of the store.
pub async fn all_gone(store: &Store) -> Result<(), StoreError> {
    let noted = store.run(RunOptions::default(), |tx| async move {
        tx.clear(&keys::gone());
        Ok(())
    });
    noted.await.map(drop)
}

/// Batches that were passed, and when they arrived. They are few: each was chosen by hand.
async fn skipped(
    tx: &Transaction,
    shard: ShardId,
    origin: Origin,
) -> Result<BTreeMap<Stamp, Stamp>, StoreError> {
    let (begin, end) = keys::skipped_of(shard, origin);
    let options = RangeOptions {
        snapshot: true,
        ..RangeOptions::default()
    };
    let mut all = BTreeMap::new();
    for (key, value) in tx.range_all(&begin, &end, options).await? {
        let row = SkippedRow::decode(&value[..]).map_err(|e| corrupt(e.into()))?;
        if let Some(arrival) = row.arrival {
            let arrival = Stamp::try_from(arrival.as_slice()).map_err(corrupt)?;
            all.insert(keys::stamp_of(&key).map_err(corrupt)?.stamp, arrival);
        }
    }
    Ok(all)
}
