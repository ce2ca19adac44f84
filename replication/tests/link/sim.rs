//! Regions with a modelled store each, joined by links that lose, delay, double and reorder frames,
//! in virtual time. Equal seeds give equal runs.

/// Time goes on, and what is due happens.
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use whimbrel_replication::cursor::{Cursor, ShardCursor};
use whimbrel_replication::id::{ClusterId, NodeId, Origin, RegionId, ShardId, Stamp};
use whimbrel_replication::link::{Alert, Effect, Engine, EngineConfig, Event, Frame, LinkId, Role};
use whimbrel_replication::op::FORMAT;

use crate::store::{Store, batch};

pub(crate) const SHARDS: u16 = 2;

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn region(n: u16) -> RegionId {
    RegionId(n)
}

pub(crate) fn origin(n: u16) -> Origin {
    Origin {
        region: RegionId(n),
        incarnation: 100,
    }
}

pub(crate) fn stamp(n: u64) -> Stamp {
    Stamp::new(n, 0)
}

pub(crate) fn config(n: u16, regions: u16) -> EngineConfig {
    EngineConfig {
        cluster: ClusterId::from_bytes([7; 16]),
        region: region(n),
        origin: origin(n),
        node: NodeId(1),
        shards: SHARDS,
        regions: (1..=regions)
            .map(|r| (region(r), format!("r{r}")))
            .collect(),
        format: FORMAT,
    }
}

#[derive(Debug)]
enum What {
    Frame(LinkId, Bytes),
    Read(LinkId, ShardId, Origin, Stamp, usize),
    /// The store commits, then the engine hears of it.
    Commit(ShardId, Origin, Stamp, Vec<(Stamp, Bytes)>),
    /// A commit of a former life, or of another node of the region, of which nobody waits to hear.
    LateCommit(ShardId, Origin, Stamp, Vec<(Stamp, Bytes)>),
    Applied(ShardId, Origin),
    Appended(ShardId, Origin),
    Timer,
    LinkUp(u16, u16),
}

#[derive(Debug)]
struct Due {
    node: u16,
    /// Restarts of the node so far: what was under way in a former life is lost.
    life: u32,
    what: What,
}

pub(crate) struct Node {
    pub(crate) engine: Engine,
    pub(crate) store: Store,
    pub(crate) origin: Origin,
    life: u32,
    next_stamp: u64,
}

/// How frames travel from one region to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    pub(crate) delay: Duration,
    pub(crate) jitter: Duration,
    pub(crate) loss: f64,
    pub(crate) double: f64,
    pub(crate) up: bool,
}

impl Path {
    pub(crate) fn clean(delay_ms: u64) -> Self {
        Self {
            delay: ms(delay_ms),
            jitter: ms(0),
            loss: 0.0,
            double: 0.0,
            up: true,
        }
    }
}

#[derive(Debug)]
struct Ends {
    puller: u16,
    server: u16,
    /// Arrival of the last handshake frame by receiver: nothing overtakes it, as the transport
    /// keeps order; frames after it may come in any order, which is harsher than any transport.
    not_before: BTreeMap<u16, Duration>,
}

pub(crate) struct Sim {
    pub(crate) now: Duration,
    pub(crate) rng: StdRng,
    pub(crate) nodes: BTreeMap<u16, Node>,
    /// From, to.
    pub(crate) paths: BTreeMap<(u16, u16), Path>,
    queue: BTreeMap<(Duration, u64), Due>,
    sequence: u64,
    links: BTreeMap<LinkId, Ends>,
    next_link: u64,
    /// Alerts and closed links, in order.
    pub(crate) alerts: Vec<(u16, Alert)>,
    pub(crate) closed: Vec<(u16, String)>,
    /// Frames by name, sender and receiver.
    pub(crate) sent: BTreeMap<(&'static str, u16, u16), u64>,
    /// Links from puller to server that nobody dials.
    pub(crate) no_dial: BTreeSet<(u16, u16)>,
    /// Batches whose apply fails: origin and stamp.
    pub(crate) poison: BTreeSet<(Origin, Stamp)>,
    /// How often another node of a region commits the same batches just before.
    pub(crate) others: f64,
}

impl Sim {
    pub(crate) fn new(regions: u16, seed: u64) -> Self {
        let mut sim = Self {
            now: ms(0),
            rng: StdRng::seed_from_u64(seed),
            nodes: BTreeMap::new(),
            paths: BTreeMap::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            links: BTreeMap::new(),
            next_link: 0,
            alerts: Vec::new(),
            closed: Vec::new(),
            sent: BTreeMap::new(),
            no_dial: BTreeSet::new(),
            poison: BTreeSet::new(),
            others: 0.0,
        };
        for n in 1..=regions {
            let node = Node {
                engine: Engine::new(config(n, regions), Cursor::new()),
                store: Store::default(),
                origin: origin(n),
                life: 0,
                next_stamp: 1,
            };
            sim.nodes.insert(n, node);
            for m in (1..=regions).filter(|m| *m != n) {
                sim.paths.insert((n, m), Path::clean(20));
            }
        }
        sim
    }

    pub(crate) fn dial_all(&mut self) {
        let pairs: Vec<(u16, u16)> = self.paths.keys().copied().collect();
        for (a, b) in pairs {
            self.dial(a, b);
        }
    }

    /// `puller` dials `server`, if the path is up both ways; else it tries again later.
    fn dial(&mut self, puller: u16, server: u16) {
        if self.no_dial.contains(&(puller, server)) {
            return;
        }
        let reachable = self.paths[&(puller, server)].up && self.paths[&(server, puller)].up;
        if !reachable {
            return self.later(puller, ms(100), What::LinkUp(puller, server));
        }
        let link = LinkId(self.next_link);
        self.next_link += 1;
        let ends = Ends {
            puller,
            server,
            not_before: BTreeMap::new(),
        };
        self.links.insert(link, ends);
        // The side that was dialled learns of the connection first, as with QUIC.
        for (node, peer, role) in [
            (server, puller, Role::Server),
            (puller, server, Role::Puller),
        ] {
            let peer = region(peer);
            self.event(node, Event::Up { link, peer, role });
        }
    }

    /// Breaks a link at both ends; the puller dials again.
    fn break_link(&mut self, link: LinkId) {
        let Some(ends) = self.links.remove(&link) else {
            return;
        };
        for node in [ends.puller, ends.server] {
            self.event(node, Event::Down { link });
        }
        self.later(ends.puller, ms(100), What::LinkUp(ends.puller, ends.server));
    }

    /// Cuts or heals the path in one direction. A cut ends the links that use it.
    pub(crate) fn set_up(&mut self, from: u16, to: u16, up: bool) {
        self.paths.get_mut(&(from, to)).expect("a path").up = up;
        if !up {
            let over: Vec<LinkId> = self
                .links
                .iter()
                .filter(|(_, e)| [(e.puller, e.server), (e.server, e.puller)].contains(&(from, to)))
                .map(|(link, _)| *link)
                .collect();
            for link in over {
                self.break_link(link);
            }
        }
    }

    pub(crate) fn set_both(&mut self, a: u16, b: u16, up: bool) {
        self.set_up(a, b, up);
        self.set_up(b, a, up);
    }

    /// The node loses its memory; of what the store was doing, some lands and some does not.
    pub(crate) fn restart(&mut self, n: u16) {
        let links: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, e)| e.puller == n || e.server == n)
            .map(|(link, _)| *link)
            .collect();
        let under_way: Vec<(Duration, u64)> = self
            .queue
            .iter()
            .filter(|(_, due)| due.node == n && matches!(due.what, What::Commit(..)))
            .map(|(at, _)| *at)
            .collect();
        for at in under_way {
            let due = self.queue.remove(&at).expect("it was found just now");
            if let What::Commit(shard, origin, from, batches) = due.what {
                if self.rng.random_bool(0.4) {
                    let node = self.nodes.get_mut(&n).expect("a node");
                    node.store.apply(shard, origin, from, &batches);
                } else if self.rng.random_bool(0.5) {
                    let after = ms(self.rng.random_range(0..300));
                    self.later(n, after, What::LateCommit(shard, origin, from, batches));
                }
            }
        }
        let regions = self.nodes.len() as u16;
        let node = self.nodes.get_mut(&n).expect("a node");
        node.life += 1;
        let mut config = config(n, regions);
        config.origin = node.origin;
        node.engine = Engine::new(config, node.store.full_cursor());
        for link in links {
            self.break_link(link);
        }
    }

    /// The node's store is gone; it starts a new life with an empty one.
    pub(crate) fn rebuild(&mut self, n: u16) {
        let node = self.nodes.get_mut(&n).expect("a node");
        node.store = Store::default();
        node.origin.incarnation += 1;
        // What was being committed went into the old store.
        self.queue.retain(|_, due| {
            !(due.node == n && matches!(due.what, What::Commit(..) | What::LateCommit(..)))
        });
        self.restart(n);
    }

    /// A local write: its deps are what the store holds of the others.
    pub(crate) fn commit(&mut self, n: u16, shard: u16, text: usize) -> Stamp {
        let node = self.nodes.get_mut(&n).expect("a node");
        let shard = ShardId(shard);
        let deps: ShardCursor = node
            .store
            .shard_cursor(shard)
            .iter()
            .filter(|(origin, _)| *origin != node.origin)
            .collect();
        let at = stamp(node.next_stamp);
        node.next_stamp += self.rng.random_range(1..4);
        let bytes = batch(node.origin, node.next_stamp, deps, text);
        node.store.append(shard, node.origin, at, bytes);
        let origin = node.origin;
        self.event(
            n,
            Event::Appended {
                shard,
                origin,
                stamp: at,
            },
        );
        at
    }

    fn later(&mut self, node: u16, after: Duration, what: What) {
        self.at(node, self.now + after, what);
    }

    fn at(&mut self, node: u16, at: Duration, what: What) {
        self.sequence += 1;
        let life = self.nodes[&node].life;
        self.queue
            .insert((at, self.sequence), Due { node, life, what });
    }

    pub(crate) fn event(&mut self, n: u16, event: Event) {
        let node = self.nodes.get_mut(&n).expect("a node");
        let effects = node.engine.handle(event, self.now);
        for effect in effects {
            self.effect(n, effect);
        }
    }

    fn effect(&mut self, n: u16, effect: Effect) {
        match effect {
            Effect::Send { link, frame, .. } => self.transmit(n, link, &frame),
            Effect::ReadLog {
                link,
                shard,
                origin,
                from,
                bytes_max,
                ..
            } => {
                let after = ms(self.rng.random_range(0..3));
                self.later(n, after, What::Read(link, shard, origin, from, bytes_max));
            }
            Effect::Apply {
                shard,
                origin,
                from,
                batches,
            } => {
                let after = ms(self.rng.random_range(1..10));
                self.later(n, after, What::Commit(shard, origin, from, batches));
            }
            // These stores have logs only.
            Effect::ReadSnapshot { link, shard, .. } => {
                let page = None;
                self.event(n, Event::SnapshotRead { link, shard, page });
            }
            Effect::MergeSnapshot { .. } => unreachable!("nobody sends a page"),
            Effect::Question { .. } | Effect::Answered { .. } => unreachable!("nobody asks"),
            Effect::Close { link, reason } => {
                self.closed.push((n, reason));
                self.break_link(link);
            }
            Effect::SetTimer { at } => self.at(n, at.max(self.now), What::Timer),
            Effect::Alert(alert) => self.alerts.push((n, alert)),
        }
    }

    fn transmit(&mut self, n: u16, link: LinkId, frame: &Frame) {
        let Some(ends) = self.links.get_mut(&link) else {
            return;
        };
        let to = if ends.puller == n {
            ends.server
        } else {
            ends.puller
        };
        *self.sent.entry((frame.name(), n, to)).or_default() += 1;
        let path = self.paths[&(n, to)];
        let handshake = matches!(
            frame,
            Frame::Hello(_) | Frame::Welcome(_) | Frame::Refused { .. }
        );
        let copies = if handshake {
            1
        } else if self.rng.random_bool(path.loss) {
            0
        } else {
            1 + usize::from(self.rng.random_bool(path.double))
        };
        for _ in 0..copies {
            let jitter = path.jitter.mul_f64(self.rng.random_range(0.0..=1.0));
            let mut at = self.now + path.delay + jitter;
            let ends = self.links.get_mut(&link).expect("it was there just now");
            let not_before = ends.not_before.entry(to).or_default();
            at = at.max(*not_before);
            if handshake {
                *not_before = at;
            }
            self.at(to, at, What::Frame(link, frame.encode()));
        }
    }
}
