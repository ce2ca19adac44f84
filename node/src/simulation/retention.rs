//! Trimmed logs, and the snapshots that make up for them.

use std::time::Duration;

use bytes::Bytes;
use whimbrel_replication::id::{RegionId, ShardId};
use whimbrel_replication::link::{Event, LinkId, SnapshotPage, SnapshotProgress};

use super::Violation;
use super::region::{REGIONS, SHARDS};
use super::world::{Step, World};
use crate::apply::rows::SnapshotStage;
use crate::config::Retention;
use crate::peers_hold;
use crate::replicator::FAULT_PAUSE;
use crate::snapshot;
use crate::store::{RangeOptions, RunOptions, Store, StoreError, keys};
use crate::trim::{self, Bounds};

impl World {
    /// Notes what peers hold, trims what may go, and ends snapshots with which the logs have caught up.
    pub(super) async fn trim(&mut self, region: u16, retention: Retention) -> Step {
        let Some(running) = &self.regions[&region].running else {
            return Ok(());
        };
        let (store, own) = (&running.store, running.origin());
        let peers = running.engine.peers();
        let now_unix_ms = self.regions[&region].wall_unix_ms(self.now);
        let done = async {
            for status in peers.values() {
                if let Some(peer) = status.origin {
                    peers_hold::save(store, peer, status.holds.clone()).await?;
                    peers_hold::forget_before(store, peer).await?;
                }
            }
            let mut gone = 0;
            for shard in (0..SHARDS).map(ShardId) {
                let reaches = snapshot::reaches(&running.snapshot(shard).await?, shard)?;
                let origins = reaches.iter().map(|(origin, _)| origin);
                let lost = origins.filter(|o| running.engine.is_all_there_is(shard, *o));
                snapshot::end_if_caught_up(store, own, shard, lost.collect()).await?;
                let held = running.held(shard).await?;
                for (origin, _) in held.iter() {
                    let others = (1..=REGIONS).map(RegionId).filter(|id| *id != own.region);
                    let holds = |id| Some(peers.get(&id)?.holds.shard(shard)?.get(&origin)?.stamp);
                    let bounds = Bounds {
                        retention,
                        held_by_all: trim::held_by_all(others.map(holds)),
                        now_unix_ms,
                        max_drift_ms: 500,
                    };
                    gone += trim::trim(store, None, SHARDS, (shard, origin), bounds).await?;
                }
                if held != running.held(shard).await? {
                    return Ok(Err(Violation::new(
                        "G1",
                        format!("r{region} holds less of shard {shard} after trimming"),
                    )));
                }
            }
            Ok(Ok(gone))
        };
        match done.await {
            Ok(Ok(0)) => Ok(()),
            Ok(Ok(gone)) => {
                // Events are taken one after the other: nobody reads meanwhile.
                self.regions[&region].disk.vacuum();
                self.note(format_args!("r{region} trims {gone} batches"));
                Ok(())
            }
            Ok(Err(violation)) => Err(violation),
            Err(error) => self.failed(region, &error),
        }
    }

    /// In the end no log is left, whatever its stamps say of its age.
    pub(super) async fn trim_all(&mut self) -> Step {
        let none = Retention {
            min: Duration::ZERO,
            max: Duration::ZERO,
        };
        for region in 1..=REGIONS {
            self.region(region).skew_ms = 2_000_000_000;
            let left = loop {
                self.trim(region, none).await?;
                let Some(running) = &self.regions[&region].running else {
                    return Ok(());
                };
                // The store fails now and then.
                if let Ok(left) = log_rows(&running.store).await {
                    break left;
                }
            };
            self.region(region).skew_ms = 0;
            if left > 0 {
                let what = format!("r{region} keeps {left} batches that all could do without");
                return Err(Violation::new("G13", what));
            }
        }
        Ok(())
    }

    /// A snapshot that was under way when the region died goes on.
    pub(super) async fn take_up_snapshots(&mut self, region: u16) -> Step {
        for shard in (0..SHARDS).map(ShardId) {
            let Some(running) = &self.regions[&region].running else {
                return Ok(());
            };
            match running.snapshot(shard).await {
                Ok(row) if row.stage() == SnapshotStage::Copying => {
                    let after = row.after;
                    self.tell(region, Event::SnapshotPending { shard, after })?;
                }
                Ok(_) => {}
                Err(error) => self.failed(region, &error)?,
            }
        }
        Ok(())
    }

    pub(super) async fn read_snapshot(
        &mut self,
        region: u16,
        link: LinkId,
        shard: ShardId,
        after: Option<Bytes>,
        bytes_max: usize,
    ) -> Step {
        let Some(running) = &self.regions[&region].running else {
            return Ok(());
        };
        let own = running.origin();
        let page = snapshot::read(&running.store, own, shard, after, bytes_max).await;
        let page = match page {
            Ok(page) => Some(page),
            Err(error) => {
                self.failed(region, &error)?;
                None
            }
        };
        let rows = page.as_ref().map(|page| page.rows.len());
        self.note(format_args!(
            "r{region} reads {rows:?} rows of shard {shard}"
        ));
        self.tell(region, Event::SnapshotRead { link, shard, page })
    }

    pub(super) async fn merge_snapshot(&mut self, region: u16, page: SnapshotPage) -> Step {
        let Some(running) = &self.regions[&region].running else {
            return Ok(());
        };
        let shard = page.shard;
        let (store, context) = (running.store.clone(), running.context.clone());
        let merged = async {
            if page.after.is_none() {
                snapshot::begin(&store, None, shard).await?;
            }
            snapshot::merge(&store, &context, None, page).await
        };
        let progress = match merged.await {
            Ok(progress) => progress,
            Err(snapshot::MergeError::Page(reason)) => {
                return Err(Violation::new("G16", format!("r{region}: {reason}")));
            }
            Err(snapshot::MergeError::Store(error)) => {
                let failed = Event::SnapshotMerged {
                    shard,
                    progress: SnapshotProgress::Failed,
                };
                self.soon(region, FAULT_PAUSE, super::world::What::Tell(failed));
                return self.failed(region, &error);
            }
        };
        self.note(format_args!("r{region} merges shard {shard}: {progress:?}"));
        self.tell(region, Event::SnapshotMerged { shard, progress })
    }
}

/// Rows of all logs and arrivals.
async fn log_rows(store: &Store) -> Result<usize, StoreError> {
    let read = store.read(RunOptions::default(), |tx| async move {
        let options = RangeOptions {
            snapshot: true,
            ..RangeOptions::default()
        };
        let mut rows = 0;
        for shard in (0..SHARDS).map(ShardId) {
            let (begin, end) = keys::logs(shard);
            rows += tx.range_all(&begin, &end, options).await?.len();
            let (begin, end) = keys::arrivals_after(shard, None);
            rows += tx.range_all(&begin, &end, options).await?.len();
        }
        Ok(rows)
    });
    read.await
}
