//! Logs: read for peers, applied from peers, and the own one compared with what peers hold of it.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::FutureExt as _;
use tokio::sync::Mutex;
use whimbrel_replication::id::{Origin, ShardId, Stamp};
use whimbrel_replication::link::{Event, Lane, LinkId};
use whimbrel_replication::op::Trace;

use super::{FAULT_PAUSE, Replicator, ReplicatorContext};
use crate::apply::own_tail;
use crate::apply::remote::{self, Applied, LogPage};
use crate::clock::unix_ms;
use crate::skip;
use crate::store::{RunOptions, StoreError};
use crate::trace;

/// One lock for each lane of links.
#[derive(Default)]
pub(super) struct LaneLocks {
    live: Arc<Mutex<()>>,
    bulk: Arc<Mutex<()>>,
}

impl LaneLocks {
    fn of(&self, lane: Lane) -> Arc<Mutex<()>> {
        match lane {
            Lane::Live => self.live.clone(),
            Lane::Bulk => self.bulk.clone(),
        }
    }
}

impl Replicator {
    pub(super) fn read_log(
        &self,
        (link, shard, origin, from): (LinkId, ShardId, Origin, Stamp),
        lane: Lane,
        bytes_max: usize,
    ) {
        let (store, answers) = (self.context.store.clone(), self.answers.clone());
        let turns = self.log_reads.of(lane);
        self.tasks.spawn(async move {
            let turn = turns.lock().await;
            let read = remote::log_after(&store, shard, origin, from, bytes_max).await;
            drop(turn);
            let batches = match read {
                Ok(LogPage::Batches(batches)) => batches,
                Ok(LogPage::Trimmed(floor)) => {
                    let trimmed = Event::LogTrimmed {
                        link,
                        shard,
                        origin,
                        floor,
                    };
                    // Closed only when the node stops.
                    let _ = answers.send(trimmed).await;
                    return;
                }
                Err(error) => {
                    tracing::warn!(%shard, %origin, %error, "a log cannot be read");
                    tokio::time::sleep(FAULT_PAUSE).await;
                    Vec::new()
                }
            };
            let event = log_read((link, shard, origin, from), batches);
            // Closed only when the node stops.
            let _ = answers.send(event).await;
        });
    }

    pub(super) fn apply(
        &self,
        shard: ShardId,
        origin: Origin,
        from: Stamp,
        batches: Vec<(Stamp, bytes::Bytes)>,
    ) {
        let (context, answers) = (self.context.clone(), self.answers.clone());
        let count = batches.len() as u64;
        self.tasks.spawn(async move {
            let (began, traces) = (SystemTime::now(), context.observe(&batches));
            let identity = &context.context.identity;
            let applied = context.apply_what_fits(shard, origin, from, batches).await;
            let event = match applied {
                Ok(Applied::At(to)) => {
                    if to > from {
                        context.tailers.wake(shard, None);
                        let name = identity.region_name(origin.region);
                        context
                            .metrics
                            .applied_batches
                            .with_label_values(&[&name])
                            .inc_by(count);
                        let traces = traces.into_iter().filter(|(stamp, _)| *stamp <= to);
                        trace::applied(traces.map(|(_, trace)| trace), &name, shard, began);
                    }
                    Event::Applied { shard, origin, to }
                }
                Ok(Applied::Stopped { at, reason }) => Event::ApplyFailed {
                    shard,
                    origin,
                    at,
                    reason,
                },
                Err(error) => {
                    tracing::warn!(%shard, %origin, %error, "batches were not applied");
                    tokio::time::sleep(FAULT_PAUSE).await;
                    Event::Applied {
                        shard,
                        origin,
                        to: from,
                    }
                }
            };
            let _ = answers.send(event).await;
        });
    }
}

/// The answer to a read of the log after `from`.
pub(super) fn log_read(
    (link, shard, origin, from): (LinkId, ShardId, Origin, Stamp),
    batches: Vec<(Stamp, bytes::Bytes)>,
) -> Event {
    Event::LogRead {
        link,
        shard,
        origin,
        from,
        to: batches.last().map_or(from, |(stamp, _)| *stamp),
        batches,
    }
}

impl ReplicatorContext {
    /// Applies the batches; where together they are too much for one transaction, or one of them
    /// cannot be applied, those that come first.
    async fn apply_what_fits(
        &self,
        shard: ShardId,
        origin: Origin,
        from: Stamp,
        mut batches: Vec<(Stamp, bytes::Bytes)>,
    ) -> Result<Applied, StoreError> {
        loop {
            let some = batches.clone();
            let fence = self.nodes.fence(shard);
            let attempt =
                remote::apply(&self.store, &self.context, fence, shard, origin, from, some);
            let applied = std::panic::AssertUnwindSafe(attempt).catch_unwind().await;
            let keep = match applied {
                Ok(Ok(Applied::Stopped { at, .. })) if batches[0].0 != at => {
                    batches.iter().take_while(|(stamp, _)| *stamp < at).count()
                }
                Ok(Err(
                    StoreError::TooLarge(_)
                    | StoreError::TooOld
                    | StoreError::Conflict
                    | StoreError::Abandoned,
                ))
                | Err(_)
                    if batches.len() > 1 =>
                {
                    batches.len() / 2
                }
                Ok(Ok(Applied::Stopped { at, reason })) => {
                    let log = (shard, origin);
                    return self
                        .pass_or_stop(log, from, batches.swap_remove(0), (at, reason))
                        .await;
                }
                Ok(applied) => return applied,
                Err(_) => {
                    let stop = (
                        batches[0].0,
                        "applying it panicked; the log says where".to_owned(),
                    );
                    let log = (shard, origin);
                    return self
                        .pass_or_stop(log, from, batches.swap_remove(0), stop)
                        .await;
                }
            };
            batches.truncate(keep);
        }
    }

    /// A log stops at a batch that cannot be applied, unless an operator chose to pass it.
    async fn pass_or_stop(
        &self,
        (shard, origin): (ShardId, Origin),
        from: Stamp,
        batch: (Stamp, bytes::Bytes),
        (at, reason): (Stamp, String),
    ) -> Result<Applied, StoreError> {
        let fence = self.nodes.fence(shard);
        let passed = skip::pass(&self.store, fence, (shard, origin), from, batch).await?;
        if passed.is_some() {
            tracing::warn!(%shard, %origin, %at, reason, "a batch was passed, as an operator had chosen");
        }
        Ok(passed.unwrap_or(Applied::Stopped { at, reason }))
    }

    /// Takes the stamps of other regions into the clock, within the drift bound.
    /// The requests behind them.
    fn observe(&self, batches: &[(Stamp, bytes::Bytes)]) -> Vec<(Stamp, Trace)> {
        let heard = remote::observe(&self.context, batches, unix_ms());
        self.metrics.stamps_beyond_drift.inc_by(heard.beyond_drift);
        heard.traces
    }

    /// A peer claims more of our log than the engine knew of. If the store does not have it either,
    /// it has lost commits: nothing may be stamped on top of that.
    pub(super) async fn check_own_log(
        &self,
        shard: ShardId,
        peer: &str,
        peer_has: Stamp,
        known: Stamp,
    ) {
        let own = self.context.identity.origin;
        // Until it is answered: the claim is not made again, and writes may wait for the answer.
        let tail = loop {
            let read = self
                .store
                .read(RunOptions::default(), move |tx| async move {
                    own_tail(&tx, shard, own).await
                });
            match read.await {
                Ok(tail) => break tail.unwrap_or(Stamp::MIN),
                Err(error) => tracing::warn!(%error, "the own log cannot be read; trying again"),
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = tokio::time::sleep(FAULT_PAUSE) => {}
            }
        };
        if tail < peer_has {
            tracing::error!(
                %shard, peer, %peer_has, %tail, %known,
                "this region's store has lost commits that a peer holds; writes stop until all its \
                 nodes are stopped and `whimbrel-node restored` was run"
            );
            self.gate.shut_for_good();
        }
    }
}
