//! What this node knows of other regions: for clients, operators and metrics.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};
use whimbrel_replication::cursor::Cursor;
use whimbrel_replication::id::{Origin, RegionId, ShardId, Stamp};
use whimbrel_replication::link::PeerStatus;

use super::lag::Lag;
use crate::metrics::Metrics;

/// A region whose lag is above this is shown as lagging.
const LAGGING: Duration = Duration::from_secs(5);

/// How a region looks from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerHealth {
    /// Linked, and it holds about all.
    Up,
    /// Linked, and it lacks something for more than five seconds, or does not serve yet.
    Lagging,
    /// No link.
    Down,
}

/// What is known of one peer.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PeerView {
    /// Its name.
    pub name: String,
    /// Do we pull from it?
    pub pulling: bool,
    /// Its store's present life, as far as it was told.
    #[serde(serialize_with = "origin_as_text")]
    pub origin: Option<Origin>,
    /// It serves nobody yet: it is new, or built anew from what others have.
    pub rebuilding: bool,
    /// Does it pull from us?
    pub serving: bool,
    /// What it is known to hold.
    #[serde(serialize_with = "as_text")]
    pub holds: Cursor,
    /// Seconds since the oldest op of ours that it lacks was stamped.
    pub lag_seconds: f64,
    /// Batches of ours that it lacks.
    pub lag_batches: u64,
    /// Ops in them.
    pub lag_ops: u64,
    /// Their bytes, as they stand in the log.
    pub lag_bytes: u64,
    /// Batches that came from it and were committed.
    pub applied: u64,
    /// Batches that came again.
    pub duplicate: u64,
    /// Batches that were dropped and asked for again.
    pub dropped: u64,
    /// Frames and batches that were refused.
    pub rejected: u64,
    /// Its wall clock minus ours.
    pub clock_offset_ms: Option<i64>,
    /// Since when it is linked as it is, in Unix milliseconds; since this node's start at the earliest.
    pub since_unix_ms: i64,
    /// Why a link of it went down last.
    pub last_down: Option<String>,
}

/// A cursor in its text form, which is long: made only where somebody asks for it.
pub(super) fn as_text<S: Serializer>(
    value: &impl fmt::Display,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn number<S: Serializer>(shard: &ShardId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(shard.0)
}

fn origin_as_text<S: Serializer>(
    origin: &Option<Origin>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match origin {
        Some(origin) => serializer.collect_str(origin),
        None => serializer.serialize_none(),
    }
}

impl PeerView {
    /// Puts together what link and lag tell.
    pub(super) fn new(name: &str, peer: PeerStatus, lag: Lag, silent: bool) -> Self {
        Self {
            name: name.to_owned(),
            origin: peer.origin,
            rebuilding: peer.rebuilding,
            pulling: peer.pulling > 0 && !silent,
            serving: peer.serving > 0 && !silent,
            holds: peer.holds,
            lag_seconds: lag.seconds,
            lag_batches: lag.batches,
            lag_ops: lag.ops,
            lag_bytes: lag.bytes,
            applied: peer.applied,
            duplicate: peer.duplicate,
            dropped: peer.dropped,
            rejected: peer.rejected,
            clock_offset_ms: peer.clock_offset_ms,
            since_unix_ms: 0,
            last_down: None,
        }
    }
}

/// A log that stands still because a batch cannot be applied.
#[derive(Clone, Debug, Serialize)]
pub struct StoppedLog {
    /// The shard.
    #[serde(serialize_with = "number")]
    pub shard: ShardId,
    /// Whose log.
    #[serde(serialize_with = "as_text")]
    pub origin: Origin,
    /// The batch.
    #[serde(serialize_with = "as_text")]
    pub at: Stamp,
    /// Why.
    pub reason: String,
}

/// What is known of all peers.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    /// By region.
    pub by_region: BTreeMap<RegionId, PeerView>,
    /// Logs that stand still.
    pub stopped: Vec<StoppedLog>,
    /// Why the node is not ready, if it isn't.
    pub unready: Option<&'static str>,
    /// The store has once held all that they held: what it does not have is not there.
    pub whole: bool,
    /// How much of what others held when they were first heard is here, while the region serves nobody.
    pub progress_percent: Option<u8>,
}

impl Peers {
    /// As shown to operators.
    pub fn views(&self) -> Vec<&PeerView> {
        self.by_region.values().collect()
    }

    /// How far a region is known to hold a log.
    pub fn holds(&self, region: RegionId, shard: ShardId, origin: Origin) -> Option<Stamp> {
        Some(
            self.by_region
                .get(&region)?
                .holds
                .shard(shard)?
                .get(&origin)?
                .stamp,
        )
    }

    /// How a region looks from here.
    pub fn health(&self, region: RegionId) -> PeerHealth {
        match self.by_region.get(&region) {
            Some(peer) if peer.pulling => {
                if peer.rebuilding || peer.lag_seconds > LAGGING.as_secs_f64() {
                    PeerHealth::Lagging
                } else {
                    PeerHealth::Up
                }
            }
            _ => PeerHealth::Down,
        }
    }

    /// Writes the gauges.
    pub fn report(&self, metrics: &Metrics) {
        let gauge = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        for peer in self.by_region.values() {
            let name = peer.name.as_str();
            for (role, up) in [("pull", peer.pulling), ("serve", peer.serving)] {
                metrics
                    .link_up
                    .with_label_values(&[name, role])
                    .set(i64::from(up));
            }
            metrics
                .lag_seconds
                .with_label_values(&[name])
                .set(peer.lag_seconds);
            metrics
                .lag_batches
                .with_label_values(&[name])
                .set(gauge(peer.lag_batches));
            metrics
                .lag_ops
                .with_label_values(&[name])
                .set(gauge(peer.lag_ops));
            metrics
                .lag_bytes
                .with_label_values(&[name])
                .set(gauge(peer.lag_bytes));
            metrics
                .duplicate_batches
                .with_label_values(&[name])
                .set(gauge(peer.duplicate));
            metrics
                .dropped_batches
                .with_label_values(&[name])
                .set(gauge(peer.dropped));
            metrics
                .rejected
                .with_label_values(&[name])
                .set(gauge(peer.rejected));
            if let Some(offset) = peer.clock_offset_ms {
                metrics
                    .clock_offset_ms
                    .with_label_values(&[name])
                    .set(offset);
            }
        }
        metrics.stopped_logs.set(gauge(self.stopped.len() as u64));
    }
}
