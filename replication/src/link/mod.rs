//! The link protocol between regions, without I/O: events and the time go in, effects come out.
//!
//! Who lacks, pulls. A region dials each peer, tells what it holds, and subscribes to the peer's own
//! log and to whatever else the peer holds and cannot be had from where it was written. What counts
//! as seen is the cursor in the store: after any loss of frames, links or memory, cursors alone say
//! where to go on.
//!
//! | promise | how it is kept here |
//! |---|---|
//! | G1 | a batch is acked, and counted as held, after [`Event::Applied`] only; a gap is asked for again |
//! | G2 | every region serves every log that it holds, also those of regions that are dark |
//! | G10 | a batch is handed to the store only when its deps are covered by what was applied |
//!
//! Where a log was trimmed everywhere past what we hold, the shard's state is taken as a snapshot.
//!
//! Iteration is in order of keys, so equal events give equal effects.

mod event;
mod format;
mod frame;
mod hearsay;
mod held;
mod inbound;
mod pull;
mod question;
mod serve;
mod session;
mod snapshot;
mod timer;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

pub use event::{Alert, Effect, Event};
pub use frame::{Batches, Frame, Have, Heard, Hello, PROTOCOL_MAX, PROTOCOL_MIN};
pub use session::PeerStatus;
pub use snapshot::{SnapshotPage, SnapshotProgress};

use crate::cursor::Cursor;
use crate::id::{ClusterId, NodeId, Origin, RegionId, ShardId, Stamp};
use held::Held;
use inbound::Inbound;
use session::{Link, Peer};
use snapshot::Snapshot;
use timer::{Timer, Timers};

/// A link that said nothing useful for so long after it came up is closed.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A link whose peer said nothing for so long is closed. Heartbeats come each [`HEARTBEAT`].
pub const SILENCE_TIMEOUT: Duration = Duration::from_secs(15);
/// Of several links to one region we pull on one that said something within so long, if there is
/// any: nodes of a region die one by one.
pub const QUIET_TIMEOUT: Duration = Duration::from_secs(3);
/// Changes of what we hold are told at most this often.
pub const HAVE_INTERVAL: Duration = Duration::from_millis(50);
/// All that we hold is told this often, whether it changed or not.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// What the direct link did not bring for so long is asked of another region as well. Shorter: more
/// is sent twice. Longer: what depends on it waits longer.
pub const FETCH_DELAY: Duration = Duration::from_millis(100);
/// A subscription that brings nothing for so long although the peer has more is made again; each
/// time in a row it waits twice as long, up to sixteen times.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(2);
/// A new subscription ignores frames that do not join on to what we have for so long: they belong
/// to the one that it replaced. More than a round trip.
pub const GAP_DELAY: Duration = Duration::from_millis(750);
/// A failed read of the log, or an apply that moved nothing, is tried again after so long.
pub const RETRY_DELAY: Duration = Duration::from_millis(100);
/// A page of a snapshot that does not come within so long is asked of another peer.
pub const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(10);
/// A question that is not answered within so long is given up.
pub const QUESTION_TIMEOUT: Duration = Duration::from_secs(30);
/// A page that could not be merged is asked for again after so long.
pub const SNAPSHOT_RETRY: Duration = Duration::from_secs(1);

const _: () = assert!(HEARTBEAT.as_millis() * 5 < SILENCE_TIMEOUT.as_millis());
const _: () = assert!(HEARTBEAT.as_millis() * 2 < QUIET_TIMEOUT.as_millis());

/// A connection to one peer, numbered by whoever owns the connections. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Which way a frame takes. Frames of one lane stay in order; those of two overtake each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// For what is fresh, and for all that steers.
    Live,
    /// For backlogs and state, which must not hold up the rest.
    Bulk,
}

/// Our part on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// We dialled, and pull from the peer.
    Puller,
    /// The peer dialled, and pulls from us.
    Server,
}

/// Who we are.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Our cluster.
    pub cluster: ClusterId,
    /// Our region.
    pub region: RegionId,
    /// Our store's current life.
    pub origin: Origin,
    /// Our node.
    pub node: NodeId,
    /// The cluster's shard count.
    pub shards: u16,
    /// All regions of the cluster, ours too, with their names.
    pub regions: BTreeMap<RegionId, String>,
    /// The newest format of batches that we read, at most [`FORMAT`](crate::op::FORMAT). Older than
    /// that: what this program does not do yet, so that its forerunner can still take its place.
    pub format: u32,
}

/// A log: what one origin committed to one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LogKey {
    shard: ShardId,
    origin: Origin,
}

impl LogKey {
    const fn new(shard: ShardId, origin: Origin) -> Self {
        Self { shard, origin }
    }
}

/// The state of all links of a node. It owns no task, socket or clock.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    /// The newest format of batches that all nodes of our region read.
    format: u32,
    /// Our region serves nobody yet.
    rebuilding: bool,
    /// What our store has committed, of all origins; for our own it is the end of our log.
    held: Held,
    links: BTreeMap<LinkId, Link>,
    peers: BTreeMap<RegionId, Peer>,
    /// Shards that we pull.
    pulled: BTreeSet<ShardId>,
    inbound: BTreeMap<LogKey, Inbound>,
    inbound_bytes: usize,
    /// Batches that an operator chose to pass.
    skips: BTreeSet<(LogKey, Stamp)>,
    /// Shards whose state we take, for their logs are not to be had.
    snapshots: BTreeMap<ShardId, Snapshot>,
    /// How far ahead of our own log a peer was, when we last raised the alarm.
    own_lost: BTreeMap<ShardId, Stamp>,
    timers: Timers,
    timer_set: Option<Duration>,
    /// Unix milliseconds, and when they were told.
    wall: Option<(i64, Duration)>,
    now: Duration,
    effects: Vec<Effect>,
}

impl Engine {
    /// Starts with what the store holds: the cursor of every shard and origin, our own too.
    pub fn new(config: EngineConfig, held: Cursor) -> Self {
        Self {
            pulled: (0..config.shards).map(ShardId).collect(),
            format: config.format,
            config,
            rebuilding: false,
            held: Held::from(held),
            links: BTreeMap::new(),
            peers: BTreeMap::new(),
            inbound: BTreeMap::new(),
            inbound_bytes: 0,
            skips: BTreeSet::new(),
            snapshots: BTreeMap::new(),
            own_lost: BTreeMap::new(),
            timers: Timers::default(),
            timer_set: None,
            wall: None,
            now: Duration::ZERO,
            effects: Vec::new(),
        }
    }

    /// Takes one event at a monotonic time and tells what to do, in order.
    #[must_use]
    pub fn handle(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        self.now = self.now.max(now);
        match event {
            Event::Up { link, peer, role } => self.on_up(link, peer, role),
            Event::Bulk { link } => self.on_bulk(link),
            Event::Down { link } => self.forget(link),
            Event::Frame { link, frame } => self.on_frame(link, frame),
            Event::Appended {
                shard,
                origin,
                stamp,
            } => self.on_appended(LogKey::new(shard, origin), stamp),
            Event::LogRead {
                link,
                shard,
                origin,
                from,
                to,
                batches,
            } => self.on_log_read(link, LogKey::new(shard, origin), from, to, batches),
            Event::LogTrimmed {
                link,
                shard,
                origin,
                floor,
            } => self.on_log_trimmed(link, LogKey::new(shard, origin), floor),
            Event::Applied { shard, origin, to } => self.on_applied(LogKey::new(shard, origin), to),
            Event::ApplyFailed {
                shard,
                origin,
                at,
                reason,
            } => self.on_apply_failed(LogKey::new(shard, origin), at, reason),
            Event::Skip { shard, origin, at } => self.on_skip(LogKey::new(shard, origin), at),
            Event::Ask { peer, id, question } => self.on_ask(peer, id, question),
            Event::Answer { link, id, answer } => self.on_answer_known(link, id, answer),
            Event::SnapshotPending { shard, after } => self.on_snapshot_pending(shard, after),
            Event::SnapshotRead { link, shard, page } => self.on_snapshot_read(link, shard, page),
            Event::SnapshotMerged { shard, progress } => self.on_snapshot_merged(shard, progress),
            Event::Timer => self.timer_set = None,
            Event::Pull { shards } => self.on_pull(shards),
            Event::Wall { unix_ms } => self.wall = Some((unix_ms, self.now)),
        }
        for timer in self.timers.take_due(self.now) {
            self.on_timer(timer);
        }
        if let Some(at) = self.timers.next()
            && self.timer_set != Some(at)
        {
            self.timer_set = Some(at);
            self.effects.push(Effect::SetTimer { at });
        }
        std::mem::take(&mut self.effects)
    }

    /// Tells whether our region serves nobody yet. Peers hear of it with the next heartbeat.
    pub fn set_rebuilding(&mut self, rebuilding: bool) {
        self.rebuilding = rebuilding;
    }

    /// Logs that stand still here, with the batch that they stopped at and why.
    pub fn stopped(&self) -> impl Iterator<Item = (ShardId, Origin, Stamp, &str)> + '_ {
        self.inbound.iter().filter_map(|(key, inbound)| {
            let (at, reason) = inbound.stopped.as_ref()?;
            Some((key.shard, key.origin, *at, reason.as_str()))
        })
    }

    /// Batches that were received and wait for others that they depend on, or for the store.
    pub fn waiting(&self) -> usize {
        self.inbound.values().map(Inbound::waiting).sum()
    }

    fn on_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Handshake(link) => self.close(link, "no handshake in time".into()),
            Timer::Silence(link) => self.check_silence(link),
            Timer::Have(link) => self.send_have(link, false),
            Timer::Heartbeat(link) => self.send_have(link, true),
            Timer::Read(link, key) => self.pump(link, key),
            Timer::Pull(key) => self.schedule(key),
            Timer::Apply(key) => self.apply_ready(key),
            Timer::Snapshot(shard) => self.on_snapshot_timer(shard),
        }
    }

    /// Our store holds more of a log. Tells peers, feeds subscribers, and lets go what waited for it.
    fn on_appended(&mut self, key: LogKey, stamp: Stamp) {
        if !self.held.advance(key, stamp) {
            return;
        }
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for link in links {
            self.note_change(link, key);
            self.pump(link, key);
        }
        self.trim_queue(key);
        let shard: Vec<LogKey> = self
            .inbound
            .range(held::shard_range(key.shard))
            .map(|(key, _)| *key)
            .collect();
        for key in shard {
            self.apply_ready(key);
        }
        self.schedule(key);
        self.drop_needless_snapshots();
    }

    fn send(&mut self, link: LinkId, frame: Frame) {
        let lane = Lane::Live;
        self.effects.push(Effect::Send { link, lane, frame });
    }

    fn alert(&mut self, alert: Alert) {
        self.effects.push(Effect::Alert(alert));
    }
}
