//! The side that pulls: which log is subscribed to, and where.
//!
//! A peer's own log comes from the peer itself, by a subscription that stands as long as the link.
//! Any other log that somebody holds, and any log that the direct way does not bring in time, comes
//! from whoever has it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::inbound::Inbound;
use super::timer::Timer;
use super::{Alert, Engine, FETCH_DELAY, Frame, LinkId, LogKey, STALL_TIMEOUT};
use crate::id::{RegionId, ShardId, Stamp};
use crate::limits::ORIGINS_MAX;

const STALL_DOUBLINGS_MAX: u32 = 4;

/// A subscription of ours.
#[derive(Debug)]
pub(super) struct Pull {
    since: Duration,
    /// When it was made or last brought a frame.
    pub(super) active_at: Duration,
    /// Up to where it brought the log without a gap.
    pub(super) delivered: Stamp,
    /// It brought a frame that joined on to what we have, and no gap since.
    pub(super) in_order: bool,
    /// It brought more than there was room for.
    pub(super) overrun: bool,
}

/// A peer that may serve a log.
#[derive(Clone, Copy, Debug)]
struct Source {
    region: RegionId,
    link: LinkId,
    /// It is the log's own origin.
    direct: bool,
    has: Stamp,
}

impl Engine {
    /// Goes through all logs that anybody holds, after a link came or went.
    pub(super) fn schedule_all(&mut self) {
        let mut keys: BTreeSet<LogKey> = self.inbound.keys().copied().collect();
        for peer in self.peers.values().filter(|peer| peer.source.is_some()) {
            keys.extend(peer.has.keys());
            if let Some(origin) = peer.origin {
                keys.extend((0..self.config.shards).map(|s| LogKey::new(ShardId(s), origin)));
            }
        }
        for key in keys {
            self.schedule(key);
        }
    }

    /// Lets go of shards that another node pulls now, and takes up those that it does not any more.
    pub(super) fn on_pull(&mut self, shards: BTreeSet<ShardId>) {
        self.pulled = shards;
        let left: Vec<LogKey> = self
            .inbound
            .keys()
            .filter(|key| !self.pulled.contains(&key.shard))
            .copied()
            .collect();
        for key in left {
            self.drop_queue(key);
        }
        self.schedule_all();
        self.advance_snapshots();
    }

    /// Decides where one log is pulled from now, and when to look again. Changes nothing if nothing
    /// has happened.
    pub(super) fn schedule(&mut self, key: LogKey) {
        if key.origin == self.config.origin {
            return; // What we wrote ourselves is in our store, or lost: then it is not ours to guess.
        }
        let sources = self.sources(key);
        let held = self.held.stamp(key);
        if !self.inbound.contains_key(&key) {
            let wanted = sources.iter().any(|s| s.direct || s.has > held);
            let room = self.held.contains(key) || self.held.origins(key.shard) < ORIGINS_MAX;
            if !wanted || !room {
                return;
            }
            self.inbound.insert(key, Inbound::new(held));
        }
        let Some(inbound) = self.inbound.get(&key) else {
            return;
        };

        let stopped = inbound.stopped.is_some();
        let left: Vec<LinkId> = inbound
            .pulls
            .keys()
            .filter(|link| stopped || !sources.iter().any(|s| s.link == **link))
            .copied()
            .collect();
        for link in left {
            self.unsubscribe(link, key);
        }
        if stopped {
            return self.timers.cancel(Timer::Pull(key));
        }
        if let Some(direct) = sources.iter().find(|s| s.direct && self.may_ask(key, s))
            && self.pull(key, direct.link).is_none()
        {
            self.subscribe(direct.link, key);
        }
        let lacking = self.is_lacking(key, &sources);
        self.drop_detours(key, &sources, lacking);
        self.chase(key, &sources, lacking);
        if self.is_out_of_reach(key) {
            self.take_snapshot(key);
        }
    }

    /// Peers with a link to pull on, in order of region; none for what another node pulls.
    fn sources(&self, key: LogKey) -> Vec<Source> {
        if !self.pulled.contains(&key.shard) {
            return Vec::new();
        }
        self.peers
            .iter()
            .filter_map(|(region, peer)| {
                Some(Source {
                    region: *region,
                    link: peer.source?,
                    direct: peer.origin == Some(key.origin),
                    has: peer.has.stamp(key),
                })
            })
            .collect()
    }

    fn pull(&self, key: LogKey, link: LinkId) -> Option<&Pull> {
        self.inbound.get(&key)?.pulls.get(&link)
    }

    fn expected(&self, key: LogKey) -> Stamp {
        self.inbound
            .get(&key)
            .map_or(Stamp::MIN, |inbound| inbound.expected)
    }

    /// Has the source not said that it trimmed what we need?
    fn may_ask(&self, key: LogKey, source: &Source) -> bool {
        let floor = self
            .inbound
            .get(&key)
            .and_then(|inbound| inbound.too_old.get(&source.link));
        floor.is_none_or(|floor| *floor <= self.held.stamp(key))
    }

    fn is_lacking(&self, key: LogKey, sources: &[Source]) -> bool {
        let expected = self.expected(key);
        sources
            .iter()
            .any(|s| s.has > expected && self.may_ask(key, s))
    }

    /// Have all who have more of it said that they have trimmed what we need?
    pub(super) fn is_out_of_reach(&self, key: LogKey) -> bool {
        let expected = self.expected(key);
        let mut having = self.sources(key).into_iter().filter(|s| s.has > expected);
        having.next().is_some_and(|first| {
            !self.may_ask(key, &first) && having.all(|other| !self.may_ask(key, &other))
        })
    }

    /// Once the direct way has caught up, the others would only bring everything twice.
    fn drop_detours(&mut self, key: LogKey, sources: &[Source], lacking: bool) {
        let caught_up = sources.iter().filter(|s| s.direct).any(|s| {
            self.pull(key, s.link).is_some_and(|pull| {
                pull.delivered >= self.expected(key)
                    && self.now >= pull.since + FETCH_DELAY
                    && (pull.in_order || !lacking)
            })
        });
        if caught_up {
            for source in sources.iter().filter(|s| !s.direct) {
                self.unsubscribe(source.link, key);
            }
        }
    }

    /// Makes stalled subscriptions anew, and asks others for what does not come.
    fn chase(&mut self, key: LogKey, sources: &[Source], lacking: bool) {
        let now = self.now;
        let Some(inbound) = self.inbound.get_mut(&key) else {
            return;
        };
        // While our own queue is not empty it is not the peers who are slow.
        if !lacking || !inbound.is_drained() {
            inbound.lacking_since = None;
            return self.timers.cancel(Timer::Pull(key));
        }
        let since = *inbound.lacking_since.get_or_insert(now);
        let fetch_at = since + FETCH_DELAY;
        let patience = STALL_TIMEOUT * (1 << inbound.stalls.min(STALL_DOUBLINGS_MAX));
        let expected = inbound.expected;

        for source in sources.iter().filter(|s| s.has > expected) {
            let stalled = self
                .pull(key, source.link)
                .is_some_and(|pull| now >= since.max(pull.active_at) + patience);
            if !stalled {
                continue;
            }
            if self.leave_stalled(source.link) {
                return; // All was scheduled anew.
            }
            if source.direct {
                self.subscribe(source.link, key);
            } else {
                self.unsubscribe(source.link, key);
            }
            if let Some(inbound) = self.inbound.get_mut(&key) {
                inbound.stalls += 1;
                inbound.stalled = Some(source.region);
            }
        }

        let live = |s: &&Source| s.has > expected && self.pull(key, s.link).is_some();
        let detour = sources.iter().filter(|s| !s.direct).find(live);
        if detour.is_none()
            && now >= fetch_at
            && let Some(source) = self.choose(key, sources)
        {
            for other in sources.iter().filter(|s| !s.direct) {
                self.unsubscribe(other.link, key);
            }
            self.subscribe(source.link, key);
        }

        let Some(inbound) = self.inbound.get(&key) else {
            return;
        };
        let patience = STALL_TIMEOUT * (1 << inbound.stalls.min(STALL_DOUBLINGS_MAX));
        let next = sources
            .iter()
            .filter(|s| s.has > expected)
            .filter_map(|s| Some(since.max(inbound.pulls.get(&s.link)?.active_at) + patience))
            .chain((now < fetch_at).then_some(fetch_at))
            .min();
        match next {
            Some(at) => self.timers.set(Timer::Pull(key), at),
            None => self.timers.cancel(Timer::Pull(key)),
        }
    }

    /// Somebody other than the origin who has more; after a stall the next one in turn.
    fn choose(&self, key: LogKey, sources: &[Source]) -> Option<Source> {
        let inbound = self.inbound.get(&key)?;
        let able = || {
            sources
                .iter()
                .filter(|s| !s.direct && s.has > inbound.expected && self.may_ask(key, s))
        };
        able()
            .find(|s| Some(s.region) > inbound.stalled)
            .or_else(|| able().next())
            .copied()
    }

    /// Asks for a log after what our store holds; what is queued already comes twice.
    pub(super) fn subscribe(&mut self, link: LinkId, key: LogKey) {
        let from = self.held.stamp(key);
        let Some(inbound) = self.inbound.get_mut(&key) else {
            return;
        };
        let since = inbound.pulls.get(&link).map_or(self.now, |old| old.since);
        inbound.pulls.insert(
            link,
            Pull {
                since,
                active_at: self.now,
                delivered: from,
                in_order: false,
                overrun: false,
            },
        );
        self.send(
            link,
            Frame::Subscribe {
                shard: key.shard,
                origin: key.origin,
                from,
            },
        );
    }

    /// The queue is gone: every subscription starts again from the store's cursor.
    pub(super) fn subscribe_all(&mut self, key: LogKey) {
        self.subscribe_where(key, |_| true);
    }

    /// There is room again for what was dropped.
    pub(super) fn subscribe_overrun(&mut self, key: LogKey) {
        self.subscribe_where(key, |pull| pull.overrun);
    }

    fn subscribe_where(&mut self, key: LogKey, which: impl Fn(&Pull) -> bool) {
        let links: Vec<LinkId> = self
            .inbound
            .get(&key)
            .into_iter()
            .flat_map(|inbound| &inbound.pulls)
            .filter(|(_, pull)| which(pull))
            .map(|(link, _)| *link)
            .collect();
        for link in links {
            self.subscribe(link, key);
        }
    }

    fn unsubscribe(&mut self, link: LinkId, key: LogKey) {
        let had = self
            .inbound
            .get_mut(&key)
            .is_some_and(|inbound| inbound.pulls.remove(&link).is_some());
        if had && self.links.contains_key(&link) {
            self.send(
                link,
                Frame::Unsubscribe {
                    shard: key.shard,
                    origin: key.origin,
                },
            );
        }
    }

    pub(super) fn on_too_old(&mut self, link: LinkId, key: LogKey, floor: Stamp) {
        let held = self.held.stamp(key);
        let Some(peer) = self.links.get(&link).map(|state| state.peer) else {
            return;
        };
        let Some(inbound) = self.inbound.get_mut(&key) else {
            return;
        };
        if inbound.pulls.remove(&link).is_none() {
            return; // An answer to a subscription that we gave up.
        }
        if floor > held {
            inbound.too_old.insert(link, floor);
            self.alert(Alert::TooOld {
                shard: key.shard,
                origin: key.origin,
                peer,
                floor,
            });
        }
        self.schedule(key);
    }
}
