//! What only this region has: lost if its store is lost now.

use serde::Serialize;
use whimbrel_replication::cursor::{Cursor, ShardCursor};
use whimbrel_replication::id::{OpStamp, ShardId, Stamp};
use whimbrel_replication::limits::LOG_READ_BYTES_MAX;
use whimbrel_replication::op::Batch;

use super::Peers;
use crate::apply::corrupt;
use crate::apply::remote::{self, LogPage};
use crate::clock::unix_ms;
use crate::identity::Identity;
use crate::store::{Store, StoreError};
use crate::tailer::Tailers;

/// Batches of a shard that are read; the counts are lower bounds from there on. More: a question that
/// is asked again and again while a region is cut off costs more.
const BATCHES_COUNTED_MAX: u64 = 2 * 1024;

/// The end of the own log that no other region is known to hold.
#[derive(Debug, Default, Serialize)]
pub struct Unreplicated {
    /// Batches.
    pub batches: u64,
    /// Ops in them.
    pub ops: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Seconds since the oldest of these ops was stamped; 0 where there is none.
    pub oldest_seconds: f64,
    /// Whether all of them were counted: they are not where they are too many, or older than the log is
    /// kept (`retention.max_s`). Only where it is true nothing more than what is counted is lost.
    pub complete: bool,
    /// Covers what at least one other region holds of the own log.
    #[serde(serialize_with = "super::peers::as_text")]
    pub replicated: Cursor,
    /// Where there are any.
    pub shards: Vec<UnreplicatedShard>,
}

/// The same of one shard.
#[derive(Debug, Serialize)]
pub struct UnreplicatedShard {
    /// Which.
    pub shard: u16,
    /// Exclusive: some region holds the log up to here.
    pub after: String,
    /// Inclusive: the end of the log.
    pub to: String,
    /// Batches between.
    pub batches: u64,
    /// Ops in them.
    pub ops: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Some are older than the log is kept, and not counted; this region's state has what they did.
    pub trimmed: bool,
}

/// Reads it.
///
/// # Errors
///
/// Those of the store.
pub async fn unreplicated(
    store: &Store,
    identity: &Identity,
    tailers: &Tailers,
    peers: &Peers,
) -> Result<Unreplicated, StoreError> {
    let own = identity.origin;
    let mut all = Unreplicated {
        complete: true,
        ..Unreplicated::default()
    };
    for shard in (0..identity.shards).map(ShardId) {
        let held = peers.by_region.keys();
        let held = held.filter_map(|region| peers.holds(*region, shard, own));
        let after = held.max().unwrap_or(Stamp::MIN);
        if after > Stamp::MIN {
            let replicated: ShardCursor = [(own, OpStamp::whole(after))].into_iter().collect();
            all.replicated.join(&Cursor::of(shard, replicated));
        }
        let to = tailers.held(shard).stamp(&own);
        if to <= after {
            continue;
        }
        let mut counted = UnreplicatedShard {
            shard: shard.0,
            after: after.to_string(),
            to: to.to_string(),
            batches: 0,
            ops: 0,
            bytes: 0,
            trimmed: false,
        };
        let mut from = after;
        while from < to {
            if counted.batches >= BATCHES_COUNTED_MAX {
                all.complete = false;
                break;
            }
            let read = remote::log_after(store, shard, own, from, LOG_READ_BYTES_MAX).await?;
            let batches = match read {
                LogPage::Batches(batches) => batches,
                // Older than is ever kept, and nobody has come for it.
                LogPage::Trimmed(floor) => {
                    counted.trimmed = true;
                    all.complete = false;
                    from = floor;
                    continue;
                }
            };
            let Some((last, _)) = batches.last() else {
                break;
            };
            from = *last;
            for (_, bytes) in &batches {
                let batch = Batch::decode(bytes).map_err(corrupt)?;
                counted.batches += 1;
                counted.ops += batch.ops.len() as u64;
                counted.bytes += bytes.len() as u64;
                if let Some(op) = batch.ops.first() {
                    let ms = (unix_ms() - op.position.hlc().unix_ms()).max(0);
                    let ms = u32::try_from(ms).unwrap_or(u32::MAX);
                    all.oldest_seconds = all.oldest_seconds.max(f64::from(ms) / 1_000.0);
                }
            }
        }
        all.batches += counted.batches;
        all.ops += counted.ops;
        all.bytes += counted.bytes;
        all.shards.push(counted);
    }
    Ok(all)
}
