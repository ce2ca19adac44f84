//! Whole regions in one process, in virtual time: the link engine, the apply path and the embedded
//! engine on a simulated disk, over a network that loses, doubles, delays and cuts, under clocks that
//! are wrong, with crashes and disks that are lost. What clients were told meanwhile is compared with
//! what the regions show in the end.
//!
//! Everything is drawn from one seed, and nothing else decides: the same seed gives the same trace.
//! Events are taken one after the other, so a crash falls between two of them, or into a write of the
//! disk; a transaction that a crash cuts short leaves nothing, wherever it stood.
//!
//! Not simulated: HTTP, sessions and their tailer, QUIC, FoundationDB. Those are tested on real
//! processes.

mod audit;
mod batch;
mod check;
mod faults;
mod ledger;
mod network;
mod region;
mod retention;
mod trace;
mod workload;
mod world;

use std::fmt;

pub use batch::{Outcome, run_all};
pub use trace::Trace;

/// What a run has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes that were acked.
    pub acked: u64,
    /// Writes whose outcome their client was not told.
    pub unknown: u64,
    /// Writes that were refused by a rule.
    pub refused: u64,
    /// Crashes of regions.
    pub crashes: u64,
    /// Disks that were destroyed.
    pub destroyed: u64,
    /// Cuts of paths.
    pub cuts: u64,
    /// Steps of clocks.
    pub steps: u64,
    /// Snapshots of shards that were needed.
    pub snapshots: u64,
    /// Conversations that an audit found equal in two regions.
    pub compared: u64,
    /// Conversations that a snapshot from a destroyed disk had left apart, and audits have repaired.
    pub repaired: u64,
    /// Acked writes that a destroyed disk took along before anybody else had them.
    pub lost_with_disk: u64,
    /// Virtual milliseconds from the end of the faults until all regions were equal.
    pub settled_ms: u64,
}

impl Counts {
    /// Adds those of another run; the longest time to settle stays.
    pub fn add(&mut self, other: &Self) {
        self.acked += other.acked;
        self.unknown += other.unknown;
        self.refused += other.refused;
        self.crashes += other.crashes;
        self.destroyed += other.destroyed;
        self.cuts += other.cuts;
        self.steps += other.steps;
        self.snapshots += other.snapshots;
        self.compared += other.compared;
        self.repaired += other.repaired;
        self.lost_with_disk += other.lost_with_disk;
        self.settled_ms = self.settled_ms.max(other.settled_ms);
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} writes acked, {} unknown, {} refused; {} crashes, {} disks destroyed with {} acked \
             writes that nobody else had, {} cuts, {} clock steps, {} snapshots, \
             {} comparisons by audits, {} repairs; equal after {} virtual ms at most",
            self.acked,
            self.unknown,
            self.refused,
            self.crashes,
            self.destroyed,
            self.lost_with_disk,
            self.cuts,
            self.steps,
            self.snapshots,
            self.compared,
            self.repaired,
            self.settled_ms
        )
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Report {
    /// What it was drawn from.
    pub seed: u64,
    /// What happened.
    pub counts: Counts,
    /// Everything that happened, as a hash and in words.
    pub trace: Trace,
    /// The promise that was broken, and how.
    pub violation: Option<Violation>,
}

/// A promise was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{promise}: {what}")]
pub struct Violation {
    /// Its id.
    pub promise: &'static str,
    /// How.
    pub what: String,
}

impl Violation {
    fn new(promise: &'static str, what: impl Into<String>) -> Self {
        Self {
            promise,
            what: what.into(),
        }
    }
}

/// Runs one seed.
///
/// # Panics
///
/// If the system gives no runtime.
pub fn run(seed: u64) -> Report {
    // Its time stands still unless all wait for it. It has nothing to do with that of the simulation,
    // in which a call of the store takes no time.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime of this thread needs nothing from the system");
    runtime.block_on(world::World::new(seed).run())
}
