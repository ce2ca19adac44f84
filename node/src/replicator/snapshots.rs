//! Snapshots: read for peers, merged here, and ended once the logs have caught up with them.

use std::time::Duration;

use bytes::Bytes;
use whimbrel_replication::id::{Origin, RegionId, ShardId};
use whimbrel_replication::link::{Event, LinkId, SnapshotPage, SnapshotProgress};

use super::{FAULT_PAUSE, Replicator, ReplicatorContext};
use crate::apply::rows::SnapshotStage;
use crate::snapshot::{self, MergeError};
use crate::tailer::POLL;

/// Answers that were begun before clients were shut out are read to their end within so long.
const ANSWERS_END: Duration = Duration::from_millis(500);

impl Replicator {
    pub(super) fn read_snapshot(
        &self,
        link: LinkId,
        shard: ShardId,
        after: Option<Bytes>,
        bytes_max: usize,
    ) {
        let (store, answers) = (self.context.store.clone(), self.answers.clone());
        let own = self.context.context.identity.origin;
        self.tasks.spawn(async move {
            let page = match snapshot::read(&store, own, shard, after, bytes_max).await {
                Ok(page) => Some(page),
                Err(error) => {
                    tracing::warn!(%shard, %error, "a page of a snapshot cannot be read");
                    None
                }
            };
            // Closed only when the node stops.
            let _ = answers
                .send(Event::SnapshotRead { link, shard, page })
                .await;
        });
    }

    pub(super) fn merge_snapshot(&self, peer: RegionId, page: SnapshotPage) {
        let (context, answers) = (self.context.clone(), self.answers.clone());
        self.tasks.spawn(async move {
            let shard = page.shard;
            let progress = match context.merge_page(page).await {
                Ok(progress) => progress,
                Err(error) => {
                    let peer = context.context.identity.region_name(peer);
                    match error {
                        MergeError::Page(reason) => {
                            tracing::error!(%shard, peer, reason, "a peer's snapshot cannot be merged");
                        }
                        MergeError::Store(error) => {
                            tracing::warn!(%shard, peer, %error, "a page was not merged");
                        }
                    }
                    tokio::time::sleep(FAULT_PAUSE).await;
                    SnapshotProgress::Failed
                }
            };
            // Closed only when the node stops.
            let _ = answers.send(Event::SnapshotMerged { shard, progress }).await;
        });
    }

    /// Takes up snapshots that were begun before this node started, or by another one, and ends those
    /// with which the logs have caught up.
    pub(super) fn look_after_snapshots(&mut self) {
        let shards = self.context.context.identity.shards;
        for shard in (0..shards).map(ShardId) {
            let row = self.context.tailers.snapshot(shard);
            match row.stage() {
                SnapshotStage::Done => {}
                SnapshotStage::Copying => {
                    let after = row.after;
                    self.handle(Event::SnapshotPending { shard, after });
                }
                SnapshotStage::CatchingUp => {
                    let reaches = snapshot::reaches(&row, shard).unwrap_or_default();
                    let origins = reaches.iter().map(|(origin, _)| origin);
                    let lost = origins.filter(|o| self.engine.is_all_there_is(shard, *o));
                    let (context, lost) = (self.context.clone(), lost.collect());
                    self.tasks
                        .spawn(async move { context.end_snapshot(shard, lost).await });
                }
            }
        }
    }
}

impl ReplicatorContext {
    async fn merge_page(&self, page: SnapshotPage) -> Result<SnapshotProgress, MergeError> {
        let shard = page.shard;
        let fence = self.nodes.fence(shard);
        if page.after.is_none() {
            let row = snapshot::begin(&self.store, fence.clone(), shard).await?;
            self.tailers.wake(shard, None);
            self.tailers.snapshot_seen(shard, row.version).await;
            let others_see = if self.store.is_shared() {
                2 * POLL
            } else {
                Duration::ZERO
            };
            tokio::time::sleep(others_see + ANSWERS_END).await;
        }
        let rows = page.rows.len() as u64;
        let progress = snapshot::merge(&self.store, &self.context, fence, page).await?;
        self.metrics.snapshot_rows.inc_by(rows);
        if matches!(progress, SnapshotProgress::Merged(_)) {
            tracing::info!(%shard, "a snapshot is merged; the logs catch up with it");
        }
        self.tailers.wake(shard, None);
        Ok(progress)
    }

    async fn end_snapshot(&self, shard: ShardId, lost: Vec<Origin>) {
        let own = self.context.identity.origin;
        match snapshot::end_if_caught_up(&self.store, own, shard, lost).await {
            Ok(true) => {
                tracing::info!(%shard, "a snapshot has ended");
                self.tailers.wake(shard, None);
            }
            Ok(false) => {}
            Err(error) if error.is_outage() => {}
            Err(error) => tracing::warn!(%shard, %error, "a snapshot was not ended"),
        }
    }
}
