//! A region: a disk that stays, and a process that comes and goes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use whimbrel_replication::clock::Clock;
use whimbrel_replication::cursor::{Cursor, ShardCursor};
use whimbrel_replication::id::{ClusterId, Origin, Position, RegionId, ShardId, Stamp};
use whimbrel_replication::link::{Engine, EngineConfig};
use whimbrel_replication::op::FORMAT;

use crate::apply;
use crate::apply::rows::{SnapshotRow, SnapshotStage};
use crate::config::Limits;
use crate::execute::Context;
use crate::identity::Identity;
use crate::origin::{self, Facts};
use crate::peers_hold;
use crate::snapshot;
use crate::store::embedded::{Options, SimulatedDisk};
use crate::store::faulty::Faults;
use crate::store::{Embedded, Faulty, RunOptions, Store, StoreError};

pub(super) const SHARDS: u16 = 2;
pub(super) const REGIONS: u16 = 3;
const CLUSTER: [u8; 16] = [7; 16];
/// When virtual time begins.
const EPOCH_UNIX_MS: i64 = 1_790_000_000_000;
const MAX_DRIFT: Duration = Duration::from_millis(500);

/// Commits that fail although the disk is well.
const FAULTS: Faults = Faults {
    conflict: 0.02,
    too_old: 0.01,
    unknown_committed: 0.02,
    unknown_lost: 0.02,
};

#[derive(Debug)]
pub(super) struct Region {
    pub(super) id: RegionId,
    pub(super) disk: SimulatedDisk,
    /// Its wall clock minus the right time.
    pub(super) skew_ms: i64,
    /// The newest format of batches that its program reads.
    pub(super) format: u32,
    /// Starts and ends of its process: what was under way in a former life is lost.
    pub(super) life: u32,
    pub(super) running: Option<Running>,
    /// The last own position that it acked, as long as its disk lives.
    pub(super) last_position: Option<Position>,
    /// The incarnation of its last life.
    incarnation: u32,
    /// Nothing has started on its disk yet.
    is_new: bool,
    /// What it held when last looked at, as long as its disk lives.
    pub(super) held: BTreeMap<ShardId, ShardCursor>,
    /// Markers as they were last seen, as long as its disk lives.
    pub(super) markers: BTreeMap<(usize, String), ShardCursor>,
}

#[derive(Debug)]
pub(super) struct Running {
    pub(super) store: Store,
    pub(super) context: Context,
    pub(super) engine: Engine,
    numbers: BTreeMap<ShardId, u64>,
}

impl Running {
    pub(super) fn origin(&self) -> Origin {
        self.context.identity.origin
    }

    /// Of the next batch.
    pub(super) fn number(&mut self, shard: ShardId) -> u64 {
        let number = self.numbers.entry(shard).or_default();
        *number += 1;
        *number
    }

    pub(super) async fn held(&self, shard: ShardId) -> Result<ShardCursor, StoreError> {
        let own = self.origin();
        let read = self
            .store
            .read(RunOptions::default(), move |tx| async move {
                apply::held(&tx, shard, own).await
            });
        read.await
    }

    /// How far the snapshot of a shard is.
    pub(super) async fn snapshot(&self, shard: ShardId) -> Result<SnapshotRow, StoreError> {
        let read = self
            .store
            .read(RunOptions::default(), move |tx| async move {
                snapshot::row(&tx, shard, true).await
            });
        read.await
    }

    /// Whether no snapshot is under way, which clients must not see.
    pub(super) async fn is_showing(&self) -> bool {
        for shard in (0..SHARDS).map(ShardId) {
            let row = self.snapshot(shard).await;
            if !row.is_ok_and(|row| row.stage() == SnapshotStage::Done) {
                return false;
            }
        }
        true
    }

    /// How far it holds a log.
    pub(super) async fn stamp(&self, shard: ShardId, origin: Origin) -> Result<Stamp, StoreError> {
        Ok(self.held(shard).await?.stamp(&origin))
    }
}

impl Region {
    pub(super) fn new(id: RegionId) -> Self {
        Self {
            id,
            disk: SimulatedDisk::default(),
            skew_ms: 0,
            format: FORMAT,
            life: 0,
            running: None,
            last_position: None,
            incarnation: 0,
            is_new: true,
            held: BTreeMap::new(),
            markers: BTreeMap::new(),
        }
    }

    pub(super) fn wall_unix_ms(&self, now: Duration) -> i64 {
        let since = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        EPOCH_UNIX_MS + since + self.skew_ms
    }

    /// Starts its process.
    pub(super) async fn start(&mut self, now: Duration, faults: u64) -> anyhow::Result<()> {
        let embedded = Embedded::simulated(&self.disk, Options::default())?;
        let store = Store::Faulty(Faulty::new(Store::Embedded(embedded), FAULTS, faults));
        let facts = Facts::new(ClusterId::from_bytes(CLUSTER), SHARDS, self.id);
        let mut unix_s = origin::unix_s(self.wall_unix_ms(now))?;
        if self.is_new {
            // Whoever builds a region anew sees to it that its clock is right.
            unix_s = unix_s.max(self.incarnation + 1);
        }
        let started = origin::start(&store, &facts, unix_s).await?;
        let started = started.map_err(|found| anyhow::anyhow!("cannot start: {found:?}"))?;
        self.is_new = false;
        self.incarnation = started.incarnation;
        let names: BTreeMap<RegionId, String> = (1..=REGIONS)
            .map(|region| (RegionId(region), format!("r{region}")))
            .collect();
        let origin = Origin {
            region: self.id,
            incarnation: started.incarnation,
        };
        let identity = Identity {
            cluster: ClusterId::from_bytes(CLUSTER),
            shards: SHARDS,
            origin,
            node: started.node,
            regions: names.clone(),
        };
        let context = Context {
            identity: Arc::new(identity),
            clock: Arc::new(Mutex::new(Clock::new(started.high_water, MAX_DRIFT)?)),
            limits: Limits::default(),
            edited_lately: Arc::default(),
            level: Arc::default(),
        };
        let config = EngineConfig {
            cluster: ClusterId::from_bytes(CLUSTER),
            region: self.id,
            origin,
            node: started.node,
            shards: SHARDS,
            regions: names,
            format: self.format,
        };
        let mut held = Cursor::new();
        for shard in (0..SHARDS).map(ShardId) {
            let read = store.read(RunOptions::default(), move |tx| async move {
                apply::held(&tx, shard, origin).await
            });
            held.join(&Cursor::of(shard, read.await?));
        }
        let mut engine = Engine::new(config, held);
        for (_, (peer, holds)) in peers_hold::load(&store).await? {
            engine.remember(peer, holds);
        }
        self.running = Some(Running {
            store,
            context,
            engine,
            numbers: BTreeMap::new(),
        });
        Ok(())
    }

    /// Its process ends as in a power cut, and the power comes back.
    pub(super) fn crash(&mut self, keep_unsynced: bool) {
        self.running = None;
        self.life += 1;
        self.disk.restart(keep_unsynced);
    }

    /// All that its disk held is gone.
    pub(super) fn destroy(&mut self) {
        self.crash(false);
        self.disk.destroy();
        self.is_new = true;
        self.last_position = None;
        self.held.clear();
        self.markers.clear();
    }
}
