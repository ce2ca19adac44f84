//! Time goes on, and what is due happens. What goes wrong stands in `faults`.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use whimbrel_replication::id::{ConversationId, Origin, RegionId, ShardId, Stamp};
use whimbrel_replication::link::{Alert, Effect, Event, Frame, LinkId, Role, SnapshotPage};
use whimbrel_replication::op::{FORMAT, FORMAT_MIN};

use super::audit::Asked;
use super::ledger::Ledger;
use super::network::Network;
use super::region::{REGIONS, Region};
use super::trace::Trace;
use super::workload::Client;
use super::{Counts, Report, Violation};
use crate::apply::remote::{self, Applied, LogPage};
use crate::config::Retention;
use crate::replicator::FAULT_PAUSE;
use crate::store::StoreError;

/// How long clients write and faults come.
const FAULTS_FOR: Duration = Duration::from_secs(12);
/// Within so long after that all regions must be equal.
const SETTLE_MAX: Duration = Duration::from_secs(120);
/// Between two looks whether they are.
const SETTLE_LOOK: Duration = Duration::from_millis(250);
const DIAL_PAUSE: Duration = Duration::from_millis(100);
const WALL_TICK: Duration = Duration::from_secs(1);
/// So short that regions which were away miss something.
const RETENTION: Retention = Retention {
    min: Duration::from_secs(1),
    max: Duration::from_secs(4),
};
/// Runs in which a region begins with the version before, and is upgraded at some later start.
const OLDER: f64 = 0.5;
/// Applies that are done once more, later.
const LATE: f64 = 0.05;

pub(super) type Step = Result<(), Violation>;

#[derive(Debug)]
pub(super) enum What {
    Start,
    Dial(u16),
    Frame(LinkId, Bytes),
    Read {
        link: LinkId,
        shard: ShardId,
        origin: Origin,
        from: Stamp,
        bytes_max: usize,
    },
    Apply {
        shard: ShardId,
        origin: Origin,
        from: Stamp,
        batches: Vec<(Stamp, Bytes)>,
        /// The same as an apply before it, by another node of the region, or by a life that is over:
        /// its commit comes late, and no engine waits for it.
        is_late: bool,
    },
    ReadSnapshot {
        link: LinkId,
        shard: ShardId,
        after: Option<Bytes>,
        bytes_max: usize,
    },
    MergeSnapshot(SnapshotPage),
    Tell(Event),
    Trim,
    Audit,
    Question(LinkId, u64, Bytes),
    Answered(RegionId, u64, Option<Bytes>),
    Timer,
    Wall,
    Client(usize),
    Fault,
    /// The path from here is as it was before a fault.
    Mend(u16),
}

#[derive(Debug)]
struct Due {
    region: u16,
    /// Only in this life of the region, where it matters.
    life: Option<u32>,
    what: What,
}

pub(super) struct World {
    seed: u64,
    pub(super) rng: StdRng,
    pub(super) now: Duration,
    queue: BTreeMap<(Duration, u64), Due>,
    sequence: u64,
    pub(super) regions: BTreeMap<u16, Region>,
    pub(super) network: Network,
    pub(super) clients: Vec<Client>,
    pub(super) conversations: Vec<ConversationId>,
    pub(super) ledger: Ledger,
    pub(super) counts: Counts,
    trace: Trace,
    /// Clients write and faults come.
    pub(super) is_rough: bool,
    /// What audits have asked for.
    pub(super) asked: BTreeMap<u64, Asked>,
    pub(super) next_question: u64,
    /// A disk was destroyed from which a snapshot was under way.
    pub(super) is_torn: bool,
    /// Loses its disk once all logs are trimmed.
    rebuilt: u16,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let regions = (1..=REGIONS).map(|n| (n, Region::new(RegionId(n))));
        let mut rng = StdRng::seed_from_u64(seed);
        let rebuilt = rng.random_range(1..=REGIONS);
        let mut regions: BTreeMap<u16, Region> = regions.collect();
        if rng.random_bool(OLDER)
            && let Some(region) = regions.get_mut(&rng.random_range(1..=REGIONS))
        {
            region.format = FORMAT_MIN;
        }
        Self {
            seed,
            rebuilt,
            rng,
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            sequence: 0,
            regions,
            network: Network::new(),
            clients: Client::all(),
            conversations: Vec::new(),
            ledger: Ledger::default(),
            counts: Counts::default(),
            trace: Trace::default(),
            is_rough: true,
            asked: BTreeMap::new(),
            next_question: 0,
            is_torn: false,
        }
    }

    pub(super) async fn run(mut self) -> Report {
        let violation = self.play().await.err();
        if let Some(violation) = &violation {
            self.note(format_args!("VIOLATION {violation}"));
        }
        Report {
            seed: self.seed,
            counts: self.counts,
            trace: self.trace,
            violation,
        }
    }

    async fn play(&mut self) -> Step {
        for region in 1..=REGIONS {
            self.start(region).await?;
            for server in (1..=REGIONS).filter(|server| *server != region) {
                self.later(region, Duration::ZERO, None, What::Dial(server));
            }
            self.later(region, Duration::ZERO, None, What::Wall);
            self.later(region, Duration::from_secs(1), None, What::Trim);
            self.later(region, Duration::from_secs(1), None, What::Audit);
        }
        self.make_conversations().await?;
        for client in 0..self.clients.len() {
            self.later(1, Duration::from_millis(500), None, What::Client(client));
        }
        self.later(1, Duration::from_secs(1), None, What::Fault);
        self.run_until(FAULTS_FOR).await?;

        self.is_rough = false;
        self.network.heal();
        for region in self.regions.values() {
            region.disk.fail_at_next_write(None);
        }
        self.note(format_args!("all faults end"));
        self.counts.settled_ms = self.settle().await?;
        self.check_all().await?;

        // All that is left is the state: a region that begins with nothing must get it from there.
        self.trim_all().await?;
        self.lose_disk(self.rebuilt)?;
        self.settle().await?;
        self.check_all().await
    }

    /// Runs on until all regions show the same; how many milliseconds it took.
    async fn settle(&mut self) -> Result<u64, Violation> {
        let begun = self.now;
        loop {
            self.run_until(self.now + SETTLE_LOOK).await?;
            if self.is_settled().await? {
                break;
            }
            if self.now > begun + SETTLE_MAX {
                let standings = self.standings().await;
                return Err(Violation::new(
                    "G1",
                    format!("the regions are not equal {SETTLE_MAX:?} after all faults{standings}"),
                ));
            }
        }
        self.note(format_args!("all regions are equal"));
        Ok(u64::try_from((self.now - begun).as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn note(&mut self, what: std::fmt::Arguments<'_>) {
        self.trace.note(self.now, what);
    }

    pub(super) fn later(&mut self, region: u16, after: Duration, life: Option<u32>, what: What) {
        self.sequence += 1;
        let at = (self.now + after, self.sequence);
        self.queue.insert(at, Due { region, life, what });
    }

    /// What was on its way to a disk that is gone does not come to the new one.
    pub(super) fn forget_late(&mut self, of: u16) {
        let is_late = |what: &What| matches!(what, What::Apply { is_late: true, .. });
        self.queue
            .retain(|_, due| due.region != of || !is_late(&due.what));
    }

    /// In the region's present life only.
    pub(super) fn soon(&mut self, region: u16, after: Duration, what: What) {
        let life = Some(self.regions[&region].life);
        self.later(region, after, life, what);
    }

    pub(super) fn ms(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.random_range(range))
    }

    pub(super) fn region(&mut self, region: u16) -> &mut Region {
        self.regions.get_mut(&region).expect("there are as many")
    }

    async fn run_until(&mut self, until: Duration) -> Step {
        while let Some((&at, _)) = self.queue.first_key_value()
            && at.0 <= until
        {
            let due = self.queue.remove(&at).expect("it is the first key");
            self.now = at.0;
            let region = &self.regions[&due.region];
            if due.life.is_none_or(|life| life == region.life) {
                self.step(due.region, due.what).await?;
            }
        }
        self.now = until;
        Ok(())
    }

    async fn step(&mut self, region: u16, what: What) -> Step {
        match what {
            What::Start => self.start(region).await,
            What::Dial(server) => self.dial(region, server),
            What::Frame(link, bytes) => self.receive(region, link, bytes),
            What::Read {
                link,
                shard,
                origin,
                from,
                bytes_max,
            } => {
                self.read(region, link, (shard, origin, from), bytes_max)
                    .await
            }
            What::Apply {
                shard,
                origin,
                from,
                batches,
                is_late,
            } => {
                let log = (shard, origin, from);
                self.apply(region, log, batches, is_late).await
            }
            What::ReadSnapshot {
                link,
                shard,
                after,
                bytes_max,
            } => {
                self.read_snapshot(region, link, shard, after, bytes_max)
                    .await
            }
            What::MergeSnapshot(page) => self.merge_snapshot(region, page).await,
            What::Trim => {
                let next = self.ms(500..4_000);
                self.later(region, next, None, What::Trim);
                self.trim(region, RETENTION).await
            }
            What::Audit => {
                let next = self.ms(1_000..6_000);
                self.later(region, next, None, What::Audit);
                self.ask(region)
            }
            What::Question(link, id, question) => self.answer(region, (link, id), question).await,
            What::Answered(peer, id, answer) => self.answered(region, peer, id, answer).await,
            What::Tell(event) => self.tell(region, event),
            What::Timer => self.tell(region, Event::Timer),
            What::Wall => {
                let unix_ms = self.regions[&region].wall_unix_ms(self.now);
                self.later(region, WALL_TICK, None, What::Wall);
                self.check_now(region).await?;
                self.tell(region, Event::Wall { unix_ms })
            }
            What::Client(client) => {
                if self.is_rough {
                    self.act(client).await?;
                    let pause = self.ms(1..300);
                    self.later(1, pause, None, What::Client(client));
                }
                Ok(())
            }
            What::Fault => self.fault().await,
            What::Mend(to) => {
                if let Some(path) = self.network.paths.get_mut(&(region, to)) {
                    path.is_up = true;
                }
                self.note(format_args!("r{region} -> r{to} is up again"));
                Ok(())
            }
        }
    }

    async fn start(&mut self, region: u16) -> Step {
        let (now, faults) = (self.now, self.rng.random());
        let of = self.region(region);
        if of.life > 0 && of.format < FORMAT && self.rng.random_bool(0.5) {
            self.region(region).format = FORMAT;
            self.note(format_args!("r{region} is upgraded"));
        }
        let started = self.region(region).start(now, faults).await;
        if let Err(error) = started {
            if self.regions[&region].disk.is_off() {
                return self.crash(region);
            }
            return Err(Violation::new(
                "G1",
                format!("r{region} does not start: {error:#}"),
            ));
        }
        let running = self.regions[&region].running.as_ref();
        let started = running.map(|running| (running.origin(), running.context.identity.node));
        self.note(format_args!("r{region} starts: {started:?}"));
        let unix_ms = self.regions[&region].wall_unix_ms(self.now);
        self.tell(region, Event::Wall { unix_ms })?;
        self.take_up_snapshots(region).await
    }

    fn dial(&mut self, puller: u16, server: u16) -> Step {
        let is_running = |region: u16| self.regions[&region].running.is_some();
        let link = (is_running(puller) && is_running(server))
            .then(|| self.network.connect(puller, server))
            .flatten();
        let Some(link) = link else {
            self.later(puller, DIAL_PAUSE, None, What::Dial(server));
            return Ok(());
        };
        self.note(format_args!("r{puller} dials r{server}: link {link}"));
        // The side that was dialled learns of the connection first, as with QUIC.
        for (at, peer, role) in [
            (server, puller, Role::Server),
            (puller, server, Role::Puller),
        ] {
            let peer = RegionId(peer);
            self.tell(at, Event::Up { link, peer, role })?;
        }
        Ok(())
    }

    pub(super) fn break_link(&mut self, link: LinkId) -> Step {
        let Some(gone) = self.network.disconnect(link) else {
            return Ok(());
        };
        for end in [gone.puller, gone.server] {
            self.tell(end, Event::Down { link })?;
        }
        self.later(gone.puller, DIAL_PAUSE, None, What::Dial(gone.server));
        Ok(())
    }

    fn receive(&mut self, region: u16, link: LinkId, bytes: Bytes) -> Step {
        if self.network.link(link).is_none() {
            return Ok(());
        }
        match Frame::decode(bytes) {
            Ok(frame) => {
                self.note(format_args!("r{region} gets {} on {link}", frame.name()));
                self.tell(region, Event::Frame { link, frame })
            }
            Err(error) => Err(Violation::new("G17", format!("our own frame: {error}"))),
        }
    }

    /// Tells the engine of a region something, and does what it wants.
    pub(super) fn tell(&mut self, region: u16, event: Event) -> Step {
        let now = self.now;
        let Some(running) = &mut self.region(region).running else {
            return Ok(());
        };
        let effects = running.engine.handle(event, now);
        running.context.level.set(running.engine.level());
        for effect in effects {
            self.effect(region, effect)?;
        }
        Ok(())
    }

    fn effect(&mut self, region: u16, effect: Effect) -> Step {
        match effect {
            Effect::Send { link, frame, .. } => {
                let (network, rng) = (&mut self.network, &mut self.rng);
                let arrivals = network.arrivals(rng, self.now, link, region, &frame);
                let to = self.network.link(link).map(|link| link.other(region));
                if let Some(to) = to {
                    let bytes = frame.encode();
                    for at in arrivals {
                        self.soon(to, at - self.now, What::Frame(link, bytes.clone()));
                    }
                }
            }
            Effect::ReadLog {
                link,
                shard,
                origin,
                from,
                bytes_max,
                ..
            } => {
                let after = self.ms(0..3);
                let read = What::Read {
                    link,
                    shard,
                    origin,
                    from,
                    bytes_max,
                };
                self.soon(region, after, read);
            }
            Effect::Apply {
                shard,
                origin,
                from,
                batches,
            } => {
                let apply = |batches, is_late| What::Apply {
                    shard,
                    origin,
                    from,
                    batches,
                    is_late,
                };
                if self.rng.random_bool(LATE) {
                    let after = self.ms(0..2_000);
                    self.later(region, after, None, apply(batches.clone(), true));
                }
                let after = self.ms(1..10);
                self.soon(region, after, apply(batches, false));
            }
            Effect::ReadSnapshot {
                link,
                shard,
                after,
                bytes_max,
            } => {
                let delay = self.ms(0..10);
                let read = What::ReadSnapshot {
                    link,
                    shard,
                    after,
                    // Small pages, so that much falls between them.
                    bytes_max: bytes_max.min(8_000),
                };
                self.soon(region, delay, read);
            }
            Effect::MergeSnapshot { page, .. } => {
                let delay = self.ms(1..30);
                self.soon(region, delay, What::MergeSnapshot(page));
            }
            Effect::Question { link, id, question } => {
                let delay = self.ms(0..50);
                self.soon(region, delay, What::Question(link, id, question));
            }
            Effect::Answered { peer, id, answer } => {
                let delay = self.ms(0..50);
                self.soon(region, delay, What::Answered(peer, id, answer));
            }
            Effect::Close { link, reason } => {
                self.note(format_args!("r{region} closes link {link}: {reason}"));
                self.break_link(link)?;
            }
            Effect::SetTimer { at } => {
                let after = at.saturating_sub(self.now);
                self.soon(region, after, What::Timer);
            }
            Effect::Alert(alert) => {
                let promise = match &alert {
                    Alert::OwnLogLost { .. } | Alert::LaterLife { .. } => "G18",
                    Alert::Stopped { .. } => "G1",
                    Alert::TooOld { .. } => return Ok(()),
                    Alert::SnapshotNeeded { shard, .. } => {
                        self.counts.snapshots += 1;
                        self.note(format_args!("r{region} needs a snapshot of shard {shard}"));
                        return Ok(());
                    }
                };
                return Err(Violation::new(promise, format!("r{region}: {alert:?}")));
            }
        }
        Ok(())
    }

    async fn read(
        &mut self,
        region: u16,
        link: LinkId,
        (shard, origin, from): (ShardId, Origin, Stamp),
        bytes_max: usize,
    ) -> Step {
        let Some(running) = &self.regions[&region].running else {
            return Ok(());
        };
        let read = remote::log_after(&running.store, shard, origin, from, bytes_max).await;
        let batches = match read {
            Ok(LogPage::Batches(batches)) => batches,
            Ok(LogPage::Trimmed(floor)) => {
                self.note(format_args!(
                    "r{region} has trimmed {shard} {origin} to {floor}"
                ));
                let trimmed = Event::LogTrimmed {
                    link,
                    shard,
                    origin,
                    floor,
                };
                return self.tell(region, trimmed);
            }
            Err(error) => return self.failed(region, &error),
        };
        let to = batches.last().map_or(from, |(stamp, _)| *stamp);
        self.note(format_args!(
            "r{region} reads {shard} {origin} {from}..{to}"
        ));
        let event = Event::LogRead {
            link,
            shard,
            origin,
            from,
            to,
            batches,
        };
        self.tell(region, event)
    }

    async fn apply(
        &mut self,
        region: u16,
        (shard, origin, from): (ShardId, Origin, Stamp),
        batches: Vec<(Stamp, Bytes)>,
        is_late: bool,
    ) -> Step {
        let unix_ms = self.regions[&region].wall_unix_ms(self.now);
        let Some(running) = &self.regions[&region].running else {
            return Ok(());
        };
        let (store, context) = (&running.store, &running.context);
        if !is_late {
            remote::observe(context, &batches, unix_ms);
        }
        let given = batches.clone();
        let applied = remote::apply(store, context, None, shard, origin, from, given).await;
        let to = match applied {
            Ok(Applied::At(to)) => to,
            Ok(Applied::Stopped { at, reason }) => {
                let what = format!("r{region} cannot apply {shard} {origin} {at}: {reason}");
                return Err(Violation::new("G1", what));
            }
            Err(error) => {
                if !is_late {
                    let to = from;
                    let applied = Event::Applied { shard, origin, to };
                    self.soon(region, FAULT_PAUSE, What::Tell(applied));
                }
                return self.failed(region, &error);
            }
        };
        // A crash may fall between the commit and the news of it.
        if is_late {
            self.committed(region, shard, origin, to);
        } else {
            let after = self.ms(0..3);
            let applied = Event::Applied { shard, origin, to };
            self.soon(region, after, What::Tell(applied));
        }
        let late = if is_late { " late" } else { "" };
        self.note(format_args!(
            "r{region} applies {shard} {origin} {from}..{to}{late}"
        ));
        self.check_causality(region, &batches, to).await
    }

    /// The store has failed: its region dies if that is for good.
    pub(super) fn failed(&mut self, region: u16, error: &StoreError) -> Step {
        self.note(format_args!("r{region}: {error}"));
        if self.regions[&region].disk.is_off() {
            return self.crash(region);
        }
        Ok(())
    }

    /// News of a commit, a little later.
    pub(super) fn committed(&mut self, region: u16, shard: ShardId, origin: Origin, stamp: Stamp) {
        let after = self.ms(0..3);
        let appended = Event::Appended {
            shard,
            origin,
            stamp,
        };
        self.soon(region, after, What::Tell(appended));
    }
}
