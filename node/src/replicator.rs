//! Runs the link engine: one task owns it, feeds it with what links, log and store tell, and does
//! what it wants done.

mod clocks;
mod lag;
mod logs;
mod peers;
mod readiness;
mod snapshots;
mod standing;
mod tails;
mod threads;
mod unreplicated;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use whimbrel_replication::cursor::Cursor;
use whimbrel_replication::id::{Origin, RegionId, ShardId, Stamp};
use whimbrel_replication::limits::QUESTION_BYTES_MAX;
use whimbrel_replication::link::{Alert, Effect, Engine, EngineConfig, Event, Frame, LinkId};
use whimbrel_replication::op::FORMAT_MIN;
use whimbrel_replication::quic::{LinkEvent, Transport};

use crate::audit::{self, ANSWER_TIME, Asked};
use crate::clock::unix_ms;
use crate::execute::Context;
use crate::gate::WriteGate;
use crate::level;
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::peers_hold;
use crate::skip::{self, Skipped};
use crate::snapshot::share_merged;
use crate::store::{Store, StoreError};
use crate::tailer::{Appended, Tailers};
use crate::whole;
use clocks::Clocks;
use lag::{Backlog, Lag};
use logs::{LaneLocks, log_read};
use peers::PeerView;
pub use peers::{PeerHealth, Peers, StoppedLog};
use readiness::{Had, Readiness};
use standing::Standings;
use tails::Tails;
pub use threads::Threads;
pub use unreplicated::{Unreplicated, UnreplicatedShard, unreplicated};

/// Events of links that may wait.
pub const LINK_EVENTS_MAX: usize = 1024;
/// Answers of reads and applies that may wait.
const ANSWERS_MAX: usize = 256;
/// What is known of peers is published at most this often.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(5);
/// Lag is measured, and the wall clock told, this often.
const TICK: Duration = Duration::from_secs(1);
/// After its start a node takes no lag of a peer that it has not heard of.
const UNHEARD_GRACE: Duration = Duration::from_secs(10);
/// A region that was not heard of for so long counts as down, before its link breaks.
const SILENT: Duration = Duration::from_secs(3);
/// Both clocks are read within so long, or not compared.
const CLOCK_READ_MAX: Duration = Duration::from_millis(50);
/// A failed read or apply is answered after this; the engine then tries again.
pub const FAULT_PAUSE: Duration = Duration::from_millis(200);

/// What the replicator needs of the node.
#[derive(Clone)]
pub struct ReplicatorContext {
    /// The store.
    pub store: Store,
    /// Identity and clock.
    pub context: Context,
    /// Woken when something was applied.
    pub tailers: Tailers,
    /// Which shards are pulled here.
    pub nodes: Nodes,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Opened once peers were heard; shut when the store has lost commits that a peer has.
    pub gate: Arc<WriteGate>,
    /// How far the wall clock may be off.
    pub max_drift: Duration,
    /// The newest format of batches that this node reads.
    pub format: u32,
    /// Ends the replicator.
    pub shutdown: CancellationToken,
}

/// Owns the engine.
pub struct Replicator {
    context: ReplicatorContext,
    engine: Engine,
    transport: Transport,
    answers: mpsc::Sender<Event>,
    publish: watch::Sender<Arc<Peers>>,
    tasks: TaskTracker,
    /// Held by the one of each lane that reads a log from the store: peers that are behind want many at once, and
    /// local writes would wait for a processor behind all of them.
    log_reads: LaneLocks,
    started: Instant,
    timer: Option<Instant>,
    lags: BTreeMap<RegionId, Lag>,
    /// Of the own log of each shard.
    backlogs: BTreeMap<ShardId, Backlog>,
    /// Some of a log is being read for them.
    reads_backlog: bool,
    /// Whose link it is.
    peers: BTreeMap<LinkId, RegionId>,
    /// Regions that have said what they hold, our own log included.
    told: BTreeSet<RegionId>,
    /// Peers that say they know no such region as this one, and have told nothing since.
    refusing: BTreeSet<RegionId>,
    /// Claims of peers about our own log that are being compared with the store.
    checks: Arc<AtomicUsize>,
    /// When a region was last heard of. Every link carries a heartbeat a second.
    heard: BTreeMap<RegionId, Instant>,
    standings: Standings,
    readiness: Readiness,
    clocks: Clocks,
    tails: Tails,
    /// What regions were heard to read, as the store has it.
    formats: BTreeMap<RegionId, u32>,
    /// Who waits for which answer of a peer.
    asked: BTreeMap<u64, oneshot::Sender<Option<Bytes>>>,
    next_question: u64,
}

/// What the store says of peers.
#[derive(Debug, Default)]
pub struct Known {
    /// What the last known life of each holds.
    pub holds: BTreeMap<RegionId, (Origin, Cursor)>,
    /// The newest format of batches that each reads.
    pub formats: BTreeMap<RegionId, u32>,
    /// Batches that are to be passed.
    pub skipped: Vec<Skipped>,
    /// The store has once held all that they held.
    pub whole: bool,
}

impl Known {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn load(store: &Store) -> Result<Self, StoreError> {
        Ok(Self {
            holds: peers_hold::load(store).await?,
            formats: level::load(store).await?,
            skipped: skip::all(store).await?,
            whole: whole::load(store).await?,
        })
    }
}

impl Replicator {
    /// Starts from what the store holds, and says that peers hold.
    pub fn new(
        context: ReplicatorContext,
        known: Known,
        transport: Transport,
        tasks: TaskTracker,
    ) -> (Self, watch::Receiver<Arc<Peers>>, mpsc::Receiver<Event>) {
        let identity = &context.context.identity;
        let config = EngineConfig {
            cluster: identity.cluster,
            region: identity.origin.region,
            origin: identity.origin,
            node: identity.node,
            shards: identity.shards,
            regions: identity.regions.clone(),
            format: context.format,
        };
        let clocks = Clocks::new(context.max_drift, config.regions.len());
        // Until it is judged for the first time nothing speaks against it.
        context.metrics.clock_right.set(1);
        let held = context.tailers.held_all();
        let backlogs = (0..config.shards).map(ShardId).map(|shard| {
            let end = held.shard(shard).map(|held| held.stamp(&config.origin));
            (shard, Backlog::new(end.unwrap_or(Stamp::MIN)))
        });
        let backlogs = backlogs.collect();
        let had = Had::of(known.whole, config.origin, &held);
        let mut engine = Engine::new(config, held);
        for (peer, holds) in known.holds.into_values() {
            engine.remember(peer, holds);
        }
        for (peer, format) in &known.formats {
            engine.remember_format(*peer, *format);
        }
        for skipped in known.skipped {
            let Skipped {
                shard, origin, at, ..
            } = skipped;
            let _ = engine.handle(Event::Skip { shard, origin, at }, Duration::ZERO);
        }
        let (answers, answered) = mpsc::channel(ANSWERS_MAX);
        let starting = Peers {
            unready: Some("starting"),
            whole: known.whole,
            ..Peers::default()
        };
        let (publish, peers) = watch::channel(Arc::new(starting));
        let replicator = Self {
            context,
            engine,
            transport,
            answers,
            publish,
            tasks,
            log_reads: LaneLocks::default(),
            started: Instant::now(),
            timer: None,
            lags: BTreeMap::new(),
            backlogs,
            reads_backlog: false,
            peers: BTreeMap::new(),
            told: BTreeSet::new(),
            refusing: BTreeSet::new(),
            checks: Arc::default(),
            heard: BTreeMap::new(),
            standings: Standings::default(),
            readiness: Readiness::new(had),
            clocks,
            tails: Tails::default(),
            formats: known.formats,
            asked: BTreeMap::new(),
            next_question: 0,
        };
        (replicator, peers, answered)
    }

    /// Takes what others want to tell the engine.
    pub fn events(&self) -> mpsc::Sender<Event> {
        self.answers.clone()
    }

    /// Runs until shutdown, then closes all links.
    pub async fn run(
        mut self,
        mut links: mpsc::Receiver<LinkEvent>,
        mut appended: mpsc::Receiver<Appended>,
        mut answered: mpsc::Receiver<Event>,
        mut asks: mpsc::Receiver<Asked>,
    ) {
        let shutdown = self.context.shutdown.clone();
        let (read_sender, mut backlogs_read) = mpsc::channel(1);
        self.read_a_backlog(&read_sender);
        let mut tick = tokio::time::interval(TICK);
        let mut publish = tokio::time::interval(PUBLISH_INTERVAL);
        publish.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut changed = true;
        let mut nodes = self.context.nodes.clone();
        let shards = self.context.context.identity.shards;
        self.handle(Event::Pull {
            shards: nodes.pulled(shards),
        });
        loop {
            let timer = async {
                match self.timer {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(event) = links.recv() => match event {
                    LinkEvent::Up { link, peer, role } => {
                        self.peers.insert(link, peer);
                        // It may be another life of its store, of which nothing is known before it has told.
                        self.told.remove(&peer);
                        self.hear(link);
                        Event::Up { link, peer, role }
                    }
                    LinkEvent::Frame { link, frame } => {
                        self.hear(link);
                        if let (Frame::Have(_), Some(peer)) = (&frame, self.peers.get(&link)) {
                            self.told.insert(*peer);
                            self.refusing.remove(peer);
                        }
                        Event::Frame { link, frame }
                    }
                    LinkEvent::Bulk { link } => Event::Bulk { link },
                    LinkEvent::Refused { peer } => {
                        changed |= self.refusing.insert(peer);
                        continue;
                    }
                    LinkEvent::Down { link, reason } => {
                        if let Some(peer) = self.peers.remove(&link) {
                            let name = self.context.context.identity.region_name(peer);
                            tracing::debug!(link = link.0, peer = name, %reason, "a link is down");
                            self.standings.lost(peer, reason);
                        }
                        Event::Down { link }
                    }
                },
                Some(appended) = appended.recv() => {
                    self.tails.push(&appended);
                    self.count_appended(&appended);
                    let Appended { shard, origin, stamp, .. } = appended;
                    Event::Appended { shard, origin, stamp }
                }
                Some(event) = answered.recv() => event,
                Some(Asked { peer, question, answer }) = asks.recv() => {
                    let id = self.next_question;
                    self.next_question += 1;
                    self.asked.insert(id, answer);
                    Event::Ask { peer, id, question }
                }
                () = timer => {
                    self.timer = None;
                    Event::Timer
                }
                () = nodes.changed() => Event::Pull {
                    shards: nodes.pulled(shards),
                },
                Some((shard, before)) = backlogs_read.recv() => {
                    self.reads_backlog = false;
                    // What failed is tried again later.
                    if let (Some(backlog), Some(before)) = (self.backlogs.get_mut(&shard), before) {
                        backlog.put_before(before);
                        self.read_a_backlog(&read_sender);
                    }
                    continue;
                }
                _ = publish.tick(), if changed => {
                    self.publish();
                    changed = false;
                    continue;
                }
                _ = tick.tick() => {
                    self.measure_lag();
                    self.read_a_backlog(&read_sender);
                    self.judge_clock();
                    self.look_after_snapshots();
                    Event::Wall { unix_ms: unix_ms() }
                }
            };
            changed = true;
            self.handle(event);
        }
        self.transport.shutdown().await;
    }

    fn count_appended(&mut self, appended: &Appended) {
        if appended.origin == self.context.context.identity.origin
            && let Some(backlog) = self.backlogs.get_mut(&appended.shard)
        {
            backlog.push(appended.stamp, appended.bytes.as_deref());
        }
    }

    fn hear(&mut self, link: LinkId) {
        if let Some(peer) = self.peers.get(&link) {
            self.heard.insert(*peer, Instant::now());
        }
    }

    fn handle(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let effects = self.engine.handle(event, self.started.elapsed());
            events.extend(
                effects
                    .into_iter()
                    .filter_map(|effect| self.put_into_effect(effect)),
            );
        }
    }

    /// Does what the engine wants done. What is known at once is given back as an event.
    fn put_into_effect(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Send { link, frame, lane } => {
                // A link that is gone, or was closed as too slow, comes back as `Down`.
                let _ = self.transport.send(link, lane, &frame);
            }
            Effect::ReadLog {
                link,
                lane,
                shard,
                origin,
                from,
                bytes_max,
            } => {
                if let Some(batches) = self.tails.after(shard, origin, from, bytes_max) {
                    return Some(log_read((link, shard, origin, from), batches));
                }
                self.read_log((link, shard, origin, from), lane, bytes_max);
            }
            Effect::Apply {
                shard,
                origin,
                from,
                batches,
            } => {
                self.apply(shard, origin, from, batches);
            }
            Effect::ReadSnapshot {
                link,
                shard,
                after,
                bytes_max,
            } => self.read_snapshot(link, shard, after, bytes_max),
            Effect::MergeSnapshot { peer, page } => self.merge_snapshot(peer, page),
            Effect::Question { link, id, question } => self.answer(link, id, question),
            Effect::Answered { id, answer, .. } => {
                if let Some(asked) = self.asked.remove(&id) {
                    // Who asked may wait no longer.
                    let _ = asked.send(answer);
                }
            }
            Effect::Close { link, reason } => {
                self.transport.close(link, &reason);
                let peer = self.peers.get(&link).copied();
                let name = peer.map(|peer| self.context.context.identity.region_name(peer));
                tracing::warn!(link = link.0, peer = name, %reason, "a link was closed");
                if let Some(peer) = peer {
                    self.standings.lost(peer, reason);
                }
            }
            Effect::SetTimer { at } => self.timer = Some(self.started + at),
            Effect::Alert(alert) => self.alert(alert),
        }
        None
    }

    fn answer(&self, link: LinkId, id: u64, question: Bytes) {
        let (context, answers) = (self.context.clone(), self.answers.clone());
        self.tasks.spawn(async move {
            let identity = &context.context.identity;
            let answer = audit::answer(&context.store, identity, &question, ANSWER_TIME).await;
            let answer = answer.unwrap_or_else(|error| {
                tracing::debug!(%error, "a peer's question was not answered");
                None
            });
            let answer = answer.filter(|answer| answer.len() <= QUESTION_BYTES_MAX);
            // Closed only when the node stops.
            let _ = answers.send(Event::Answer { link, id, answer }).await;
        });
    }

    fn alert(&self, alert: Alert) {
        match alert {
            Alert::OwnLogLost {
                shard,
                peer,
                peer_has,
                own,
            } => {
                let checks = self.checks.clone();
                checks.fetch_add(1, Ordering::AcqRel);
                let context = self.context.clone();
                let peer = context.context.identity.region_name(peer);
                self.tasks.spawn(async move {
                    context.check_own_log(shard, &peer, peer_has, own).await;
                    checks.fetch_sub(1, Ordering::AcqRel);
                });
            }
            Alert::LaterLife { peer, origin } => {
                let peer = self.context.context.identity.region_name(peer);
                if !self.context.gate.is_lost() {
                    tracing::error!(
                        peer, %origin, own = %self.context.context.identity.origin,
                        "a peer knows a later life of this region's store; writes stop until all \
                         its nodes are stopped and `whimbrel-node restored` was run"
                    );
                }
                self.context.gate.shut_for_good();
            }
            Alert::Stopped {
                shard,
                origin,
                at,
                reason,
            } => {
                tracing::error!(%shard, %origin, %at, %reason, "a log stands still here: this batch cannot be applied");
            }
            Alert::TooOld {
                shard,
                origin,
                peer,
                floor,
            } => {
                tracing::warn!(%shard, %origin, %peer, %floor, "a peer has trimmed what is still needed here");
            }
            Alert::SnapshotNeeded { shard, origin } => {
                tracing::warn!(
                    %shard, %origin,
                    "no region has what is still needed here of this log; a snapshot of the shard is \
                     taken, and until it is whole this region serves nobody"
                );
            }
        }
    }

    /// Reads, in the background and a shard at a time, what stands in the own log that some peer is not
    /// known to hold, and that is not counted.
    fn read_a_backlog(&mut self, done: &mpsc::Sender<(ShardId, Option<Backlog>)>) {
        if self.reads_backlog {
            return;
        }
        let to_read = self.backlogs.iter().find_map(|(shard, backlog)| {
            let (from, to) = backlog.is_to_be_read(self.held_by_all(*shard))?;
            Some((*shard, from, to))
        });
        let Some((shard, from, to)) = to_read else {
            return;
        };
        self.reads_backlog = true;
        let (store, done) = (self.context.store.clone(), done.clone());
        let own = self.context.context.identity.origin;
        self.tasks.spawn(async move {
            let read = Backlog::read(&store, shard, own, from, to).await;
            if let Err(error) = &read {
                tracing::warn!(%shard, %error, "some of the lag of peers is not counted yet");
            }
            // Closed only when the node stops.
            let _ = done.send((shard, read.ok())).await;
        });
    }

    fn held_by_all(&self, shard: ShardId) -> Stamp {
        let own = self.context.context.identity.origin;
        let peers = self.context.context.identity.regions.keys();
        let peers = peers.filter(|region| **region != own.region);
        let held = peers.map(|peer| self.engine.peer_holds(*peer, shard, own));
        held.min().unwrap_or(Stamp::MAX)
    }

    fn measure_lag(&mut self) {
        let identity = self.context.context.identity.clone();
        let own = identity.origin;
        let shards: Vec<ShardId> = self.backlogs.keys().copied().collect();
        for shard in &shards {
            let held = self.held_by_all(*shard);
            if let Some(backlog) = self.backlogs.get_mut(shard) {
                backlog.let_go(held);
            }
        }
        // A peer that has not said yet what it holds does not lag: it is not known.
        let known = self.engine.peers();
        let is_known = |id: &RegionId| {
            let holds = known.get(id).map(|peer| &peer.holds);
            holds.is_some_and(|holds| *holds != Cursor::new())
                || self.told.contains(id)
                || self.started.elapsed() > UNHEARD_GRACE
        };
        let now = unix_ms();
        let peers = identity.regions.keys();
        let peers = peers.filter(|id| **id != own.region && is_known(id));
        let lags = peers.map(|peer| {
            let mut lag = Lag::default();
            for (shard, backlog) in &self.backlogs {
                let held = self.engine.peer_holds(*peer, *shard, own);
                lag.add(backlog.lag(held, now));
            }
            (*peer, lag)
        });
        self.lags = lags.collect();
    }

    /// Sets the feature level, and notes in the store what regions say of theirs.
    fn set_level(&mut self) {
        let regions = self.context.context.identity.regions.keys();
        let heard: BTreeMap<RegionId, u32> = regions
            .filter_map(|region| Some((*region, self.engine.format_of(*region)?)))
            .collect();
        if heard != self.formats {
            self.formats.clone_from(&heard);
            let store = self.context.store.clone();
            self.tasks.spawn(async move {
                if let Err(error) = level::save(&store, heard).await {
                    tracing::warn!(%error, "what formats the regions read was not noted");
                }
            });
        }
        let ours = self.context.nodes.format();
        // Not known yet: written is the oldest, but peers are not told to do so too.
        if ours > 0 {
            self.engine.set_region_format(ours);
        }
        let level = self.engine.level().min(ours).max(FORMAT_MIN);
        let before = self.context.context.level.set(level);
        if before != level {
            tracing::info!(level, before, "the format of batches that all regions read");
        }
        self.context.metrics.feature_level.set(level.into());
    }

    fn publish(&mut self) {
        self.set_level();
        let identity = self.context.context.identity.clone();
        let status = self.engine.peers();
        let now = unix_ms();
        let mut by_region = BTreeMap::new();
        for (region, name) in &identity.regions {
            if *region == identity.origin.region {
                continue;
            }
            let peer = status.get(region).cloned().unwrap_or_default();
            let lag = self.lags.get(region).copied().unwrap_or_default();
            let silent = self
                .heard
                .get(region)
                .is_none_or(|at| at.elapsed() > SILENT);
            let mut view = PeerView::new(name, peer, lag, silent);
            let linked = (view.pulling, view.serving, silent);
            let standing = self.standings.note(*region, name, linked, now);
            view.since_unix_ms = standing.since_unix_ms;
            view.last_down.clone_from(&standing.last_down);
            by_region.insert(*region, view);
        }
        let stopped = self
            .engine
            .stopped()
            .map(|(shard, origin, at, reason)| StoppedLog {
                shard,
                origin,
                at,
                reason: reason.to_owned(),
            });
        let stopped = stopped.collect();
        let unready = self.why_not_ready(&by_region);
        let serves = self.readiness.is_whole() && self.context.tailers.is_showing();
        self.engine.set_rebuilding(!serves);
        let tailers = &self.context.tailers;
        let progress = || {
            let snapshot = |shard| share_merged(shard, &tailers.snapshot(shard));
            let held = tailers.held_all();
            self.readiness.progress_percent(&held, snapshot)
        };
        let progress_percent = if serves { None } else { progress() };
        let before = self.publish.borrow().unready;
        match unready {
            Some(reason) if before != unready => tracing::info!(reason, "not ready"),
            None if before.is_some() => tracing::info!("ready"),
            _ => {}
        }
        self.publish.send_replace(Arc::new(Peers {
            by_region,
            stopped,
            unready,
            whole: self.readiness.is_whole(),
            progress_percent,
        }));
    }

    /// Shuts the gate while the wall clock cannot be trusted.
    fn judge_clock(&mut self) {
        let (now, unix_ms) = (Instant::now(), unix_ms());
        if now.elapsed() > CLOCK_READ_MAX {
            return; // They were not read at one moment.
        }
        let is_fresh = |region: &RegionId| {
            let heard = self.heard.get(region);
            heard.is_some_and(|heard| now.saturating_duration_since(*heard) < SILENT)
        };
        let peers = self.engine.peers();
        let offsets: Vec<i64> = peers
            .iter()
            .filter(|(region, _)| is_fresh(region))
            .filter_map(|(_, peer)| peer.clock_offset_ms)
            .collect();
        let fault = self.clocks.judge(now, unix_ms, &offsets);
        let gate = &self.context.gate;
        match fault {
            Some(fault) if !gate.is_clock_off() => {
                tracing::error!(
                    ?fault,
                    "this node's clock is wrong; it takes no writes until the clock is right. One \
                     that has leapt and was set right is believed when other regions are heard, or \
                     after a restart"
                );
            }
            None if gate.is_clock_off() => tracing::info!("this node's clock is right again"),
            _ => {}
        }
        gate.clock_off(fault.is_some());
        self.context.metrics.clock_right.set(fault.is_none().into());
    }

    /// Whether the cluster has no other region.
    fn is_alone(&self) -> bool {
        self.context.context.identity.regions.len() < 2
    }

    fn why_not_ready(&mut self, peers: &BTreeMap<RegionId, PeerView>) -> Option<&'static str> {
        if self.context.gate.is_lost() {
            return self.context.gate.refusal();
        }
        if self.context.gate.is_clock_off() {
            return Some("its clock is wrong");
        }
        let is_reached = self.readiness.is_reached();
        // Also amid a snapshot, which a restart may find: what it is on its way to must not move.
        let told = peers
            .iter()
            .filter(|(region, _)| self.told.contains(region));
        for (region, peer) in told.filter(|_| !is_reached) {
            self.readiness.hear(*region, peer.origin, &peer.holds);
        }
        if !self.context.tailers.is_showing() {
            return Some("being rebuilt from other regions");
        }
        if is_reached {
            return None;
        }
        if self.readiness.is_refused(self.refusing.len(), peers.len()) {
            return Some(
                "other regions know no region by its certificate: add it to their configs, or stop it",
            );
        }
        if self
            .readiness
            .waits_for_links(peers.len(), self.started.elapsed())
        {
            return Some("waiting for links to other regions");
        }
        if self.checks.load(Ordering::Acquire) > 0 {
            return Some("comparing the own log with what peers hold of it");
        }
        let nobody_can_tell = !self.readiness.has_heard_any() && !self.is_alone();
        if self.context.gate.open() && nobody_can_tell {
            tracing::warn!(
                "no other region was heard, so nobody can tell whether this store is whole; writes \
                 are taken all the same. If it came back from a backup, stop this node at once and \
                 run `whimbrel-node restored`"
            );
        }
        let was_whole = self.readiness.is_whole();
        if !self.readiness.reach(&self.context.tailers.held_all()) {
            return Some("catching up with other regions");
        }
        if !was_whole && !nobody_can_tell {
            self.note_whole();
        }
        None
    }

    fn note_whole(&self) {
        let store = self.context.store.clone();
        self.tasks.spawn(async move {
            if let Err(error) = whole::save(&store).await {
                tracing::warn!(%error, "that this store is whole was not noted; it waits for its peers at its next start too");
            }
        });
    }
}
