//! How far a peer is behind, measured here, where its lack is known: a dead link shows growing lag.

use whimbrel_replication::id::{Origin, ShardId, Stamp};
use whimbrel_replication::op::Batch;

use crate::apply::corrupt;
use crate::clock::unix_ms;
use crate::store::{RangeOptions, RunOptions, Store, StoreError, keys};
use crate::tailer::Tailers;

/// Batches per shard that are counted; the figure is a lower bound from there on.
const BATCHES_COUNTED_MAX: usize = 64;

/// What a peer lacks of our log.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Lag {
    /// Age of the oldest op that it lacks.
    pub seconds: f64,
    /// How many batches it lacks, at least.
    pub batches: u64,
}

/// Of a peer that holds our log of each shard up to `held`.
pub(super) async fn measure(
    store: &Store,
    tailers: &Tailers,
    own: Origin,
    held: &[Stamp],
) -> Result<Lag, StoreError> {
    let mut lag = Lag::default();
    let now = unix_ms();
    for (shard, held) in (0..).map(ShardId).zip(held) {
        let (shard, held) = (shard, *held);
        if tailers.held(shard).stamp(&own) <= held {
            continue;
        }
        let (begin, end) = keys::log_after(shard, own, held);
        let read = |tx: std::sync::Arc<crate::store::Transaction>| {
            let (begin, end) = (begin.clone(), end.clone());
            async move {
                let options = RangeOptions {
                    limit: BATCHES_COUNTED_MAX,
                    snapshot: true,
                    ..RangeOptions::default()
                };
                let page = tx.range(&begin, &end, options).await?;
                let oldest = page
                    .rows
                    .first()
                    .map(|(_, bytes)| Batch::decode(bytes))
                    .transpose();
                Ok((oldest.map_err(corrupt)?, page.rows.len() as u64))
            }
        };
        let (oldest, batches) = store.read(RunOptions::default(), read).await?;
        lag.batches += batches;
        let stamped = oldest.and_then(|batch| batch.ops.first().map(|op| op.position.hlc()));
        if let Some(stamped) = stamped {
            let ms = u32::try_from((now - stamped.unix_ms()).max(0)).unwrap_or(u32::MAX);
            lag.seconds = lag.seconds.max(f64::from(ms) / 1_000.0);
        }
    }
    Ok(lag)
}
