//! Keeps the logs as long as the config says, and not longer.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use whimbrel_replication::cursor::Cursor;
use whimbrel_replication::id::{Origin, ShardId, Stamp};

use crate::clock::unix_ms;
use crate::config::Retention;
use crate::execute::Context;
use crate::gate::WriteGate;
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::peers_hold;
use crate::replicator::Peers;
use crate::store::{Store, StoreError};
use crate::tailer::Tailers;
use crate::trim::{self, Bounds};

/// Between two looks, at most; with a short retention more often.
const INTERVAL_MAX: Duration = Duration::from_secs(60);
const INTERVAL_MIN: Duration = Duration::from_millis(500);
/// Between two compactions, at least: each writes all tables anew, and a journal full.
const COMPACTION_INTERVAL_MIN: Duration = Duration::from_secs(10);

/// What trimming needs of the node.
pub struct Trimmer {
    /// The store.
    pub store: Store,
    /// Identity.
    pub context: Context,
    /// Know how far this region is.
    pub tailers: Tailers,
    /// Which shards are looked after here.
    pub nodes: Nodes,
    /// What other regions hold.
    pub peers: watch::Receiver<std::sync::Arc<Peers>>,
    /// Tells whether the wall clock can be trusted.
    pub gate: std::sync::Arc<WriteGate>,
    /// Counts.
    pub metrics: std::sync::Arc<Metrics>,
    /// How long logs are kept.
    pub retention: Retention,
    /// How far ahead a stamp may be.
    pub max_drift: Duration,
}

impl Trimmer {
    /// Runs until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let every = (self.retention.min / 4).clamp(INTERVAL_MIN, INTERVAL_MAX);
        let mut interval = tokio::time::interval(every);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut saved = BTreeMap::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = interval.tick() => {}
            }
            let (passed, merged) = (self.pass(&mut saved).await, self.compact_if_due().await);
            for (what, result) in [("logs trimmed", passed), ("tables merged", merged)] {
                match result {
                    Ok(()) => {}
                    Err(error) if error.is_outage() => {}
                    Err(error) => tracing::warn!(%error, "not all {what}"),
                }
            }
        }
    }

    /// Deleted rows stay on disk until their tables are merged, over restarts too.
    async fn compact_if_due(&self) -> Result<(), StoreError> {
        let since = trim::gone_since(&self.store).await?;
        self.metrics.gone_since.set(since.unwrap_or(0) / 1_000);
        let Some(since) = since else {
            return Ok(());
        };
        // A clock that went back tells no age.
        let age = u64::try_from(unix_ms() - since).map_or(Duration::MAX, Duration::from_millis);
        if age < self.retention.min.max(COMPACTION_INTERVAL_MIN) || !self.store.compact().await {
            return Ok(());
        }
        trim::all_gone(&self.store).await?;
        self.metrics.gone_since.set(0);
        Ok(())
    }

    async fn pass(&self, saved: &mut BTreeMap<Origin, Cursor>) -> Result<(), StoreError> {
        let peers = self.peers.borrow().clone();
        for view in peers.by_region.values() {
            let Some(peer) = view.origin else {
                continue;
            };
            if saved.get(&peer) == Some(&view.holds) {
                continue;
            }
            peers_hold::save(&self.store, peer, view.holds.clone()).await?;
            if saved.insert(peer, view.holds.clone()).is_none() {
                peers_hold::forget_before(&self.store, peer).await?;
            }
        }
        // By a wrong clock all could look old.
        if self.gate.is_clock_off() {
            return Ok(());
        }
        let mut unreadable = 0;
        let identity = &self.context.identity;
        for shard in self.nodes.pulled(identity.shards) {
            for (origin, _) in self.tailers.held(shard).iter() {
                let bounds = Bounds {
                    retention: self.retention,
                    held_by_all: self.held_by_all(&peers, shard, origin),
                    now_unix_ms: unix_ms(),
                    max_drift_ms: i64::try_from(self.max_drift.as_millis()).unwrap_or(i64::MAX),
                };
                let (log, fence) = ((shard, origin), self.nodes.fence(shard));
                let trimmed = trim::trim(&self.store, fence, identity.shards, log, bounds).await;
                match trimmed {
                    Ok(gone) => self.metrics.trimmed_batches.inc_by(gone),
                    Err(error) if error.is_outage() => return Err(error),
                    // The other logs are not to grow for it.
                    Err(error) => {
                        tracing::error!(%shard, %origin, %error, "a log cannot be trimmed");
                        unreadable += 1;
                    }
                }
            }
        }
        self.metrics.untrimmed_logs.set(unreadable);
        Ok(())
    }

    /// All regions of the config hold the log up to here.
    fn held_by_all(&self, peers: &Peers, shard: ShardId, origin: Origin) -> Stamp {
        let identity = &self.context.identity;
        let others = identity.regions.keys();
        let others = others.filter(|region| **region != identity.origin.region);
        trim::held_by_all(others.map(|region| peers.holds(*region, shard, origin)))
    }
}
