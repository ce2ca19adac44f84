//! Paths between regions, and the links over them.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;
use whimbrel_replication::link::{Frame, LinkId};

use super::region::REGIONS;

/// How frames travel from one region to another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub(super) delay: Duration,
    pub(super) jitter: Duration,
    pub(super) loss: f64,
    pub(super) double: f64,
    pub(super) is_up: bool,
}

impl Path {
    const CLEAN: Self = Self {
        delay: Duration::from_millis(20),
        jitter: Duration::ZERO,
        loss: 0.0,
        double: 0.0,
        is_up: true,
    };
}

/// A connection. Like one of QUIC it gives up when it is not answered; unlike one it loses and
/// reorders frames, which is harsher.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) puller: u16,
    pub(super) server: u16,
    /// Arrival of the last handshake frame by receiver: nothing overtakes it.
    not_before: BTreeMap<u16, Duration>,
}

impl Link {
    pub(super) fn other(&self, end: u16) -> u16 {
        if self.puller == end {
            self.server
        } else {
            self.puller
        }
    }
}

#[derive(Debug)]
pub(super) struct Network {
    /// From, to.
    pub(super) paths: BTreeMap<(u16, u16), Path>,
    links: BTreeMap<LinkId, Link>,
    next: u64,
}

impl Network {
    pub(super) fn new() -> Self {
        let all = || 1..=REGIONS;
        let pairs = all().flat_map(|from| all().map(move |to| (from, to)));
        Self {
            paths: pairs
                .filter(|(from, to)| from != to)
                .map(|pair| (pair, Path::CLEAN))
                .collect(),
            links: BTreeMap::new(),
            next: 0,
        }
    }

    pub(super) fn heal(&mut self) {
        for path in self.paths.values_mut() {
            *path = Path::CLEAN;
        }
    }

    pub(super) fn is_up(&self, from: u16, to: u16) -> bool {
        self.paths[&(from, to)].is_up
    }

    /// A new link, if frames get through in both directions.
    pub(super) fn connect(&mut self, puller: u16, server: u16) -> Option<LinkId> {
        if !self.is_up(puller, server) || !self.is_up(server, puller) {
            return None;
        }
        let id = LinkId(self.next);
        self.next += 1;
        let link = Link {
            puller,
            server,
            not_before: BTreeMap::new(),
        };
        self.links.insert(id, link);
        Some(id)
    }

    pub(super) fn link(&self, id: LinkId) -> Option<&Link> {
        self.links.get(&id)
    }

    pub(super) fn disconnect(&mut self, id: LinkId) -> Option<Link> {
        self.links.remove(&id)
    }

    /// Links with an end in a region.
    pub(super) fn links_of(&self, region: u16) -> Vec<LinkId> {
        let mine = |link: &Link| link.puller == region || link.server == region;
        let links = self.links.iter().filter(|(_, link)| mine(link));
        links.map(|(id, _)| *id).collect()
    }

    /// When a frame arrives: not at all, once, or several times.
    pub(super) fn arrivals(
        &mut self,
        rng: &mut impl Rng,
        now: Duration,
        id: LinkId,
        from: u16,
        frame: &Frame,
    ) -> Vec<Duration> {
        let Some(link) = self.links.get_mut(&id) else {
            return Vec::new();
        };
        let to = link.other(from);
        let path = self.paths[&(from, to)];
        if !path.is_up {
            return Vec::new();
        }
        // A handshake frame is lost with its link only: the stream below repeats it.
        let is_handshake = matches!(
            frame,
            Frame::Hello(_) | Frame::Welcome(_) | Frame::Refused { .. }
        );
        let copies = if is_handshake {
            1
        } else if rng.random_bool(path.loss) {
            0
        } else {
            1 + usize::from(rng.random_bool(path.double))
        };
        let mut arrivals = Vec::with_capacity(copies);
        for _ in 0..copies {
            let jitter = path.jitter.mul_f64(rng.random_range(0.0..=1.0));
            let not_before = link.not_before.entry(to).or_default();
            let at = (now + path.delay + jitter).max(*not_before);
            if is_handshake {
                *not_before = at;
            }
            arrivals.push(at);
        }
        arrivals
    }
}
