//! Links: who is at the other end, the handshake, and what each side tells that it holds.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::held::Held;
use super::serve::{Credit, Serve};
use super::timer::Timer;
use super::{
    Alert, Effect, Engine, Frame, HANDSHAKE_TIMEOUT, HAVE_INTERVAL, HEARTBEAT, Have, Hello, LinkId,
    LogKey, PROTOCOL_MAX, PROTOCOL_MIN, QUIET_TIMEOUT, Role, SILENCE_TIMEOUT, STALL_TIMEOUT,
};
use crate::cursor::Cursor;
use crate::id::{Origin, RegionId, ShardId, Stamp};
use crate::limits::ORIGINS_MAX;
use crate::op;

/// A connection and what was agreed on it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) peer: RegionId,
    pub(super) role: Role,
    /// The handshake is done.
    pub(super) open: bool,
    heard_at: Duration,
    /// When it opened or last brought a frame of a log.
    brought_at: Duration,
    /// When it was last found to bring nothing although its peer has more; nothing came since.
    stalled_at: Option<Duration>,
    had_at: Option<Duration>,
    /// Logs that have grown since we told it here.
    changed: BTreeSet<LogKey>,
    /// What the peer subscribed to.
    pub(super) serves: BTreeMap<LogKey, Serve>,
    pub(super) live: Credit,
    pub(super) bulk: Credit,
    /// The transport has a lane for bulk.
    pub(super) has_bulk: bool,
    /// Shards whose state is being read for it.
    pub(super) snapshot_reads: BTreeSet<ShardId>,
    /// What we asked on it, and when, and what the peer did; not answered yet.
    pub(super) asked: BTreeMap<u64, Duration>,
    pub(super) questions: BTreeSet<u64>,
    /// What both sides speak.
    pub(super) protocol: u32,
    /// The newest format of batches that the node at the other end reads.
    pub(super) format: Option<u32>,
}

/// What is known of a region, also while no link stands.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) origin: Option<Origin>,
    /// What it is known to have committed.
    pub(super) has: Held,
    /// The newest open link on which we pull from it.
    pub(super) source: Option<LinkId>,
    pub(super) format: Option<u32>,
    rebuilding: bool,
    clock_offset_ms: Option<i64>,
    pub(super) applied: u64,
    pub(super) duplicate: u64,
    pub(super) dropped: u64,
    pub(super) rejected: u64,
}

/// How it stands with one peer region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerStatus {
    /// Links after the handshake on which we pull from it.
    pub pulling: usize,
    /// Links after the handshake on which it pulls from us.
    pub serving: usize,
    /// Its store's current life, once it was told.
    pub origin: Option<Origin>,
    /// The newest format of batches that it reads, once it was told; see [`Engine::level`].
    pub format: Option<u32>,
    /// It serves nobody yet, as it said last.
    pub rebuilding: bool,
    /// What it is known to have committed; starts anew with its origin.
    pub holds: Cursor,
    /// Batches that came from it and were committed.
    pub applied: u64,
    /// Batches that came from it and were there already.
    pub duplicate: u64,
    /// Batches that came from it and were dropped, to be asked for again: a gap before them, or no room.
    pub dropped: u64,
    /// Frames that were refused, and batches that cannot be read.
    pub rejected: u64,
    /// Logs of its origins that stand still here: the batch that they stopped at, and why.
    pub stopped: Vec<(ShardId, Origin, Stamp, String)>,
    /// Its wall clock minus ours in milliseconds, less the time that its frame was under way.
    pub clock_offset_ms: Option<i64>,
}

impl Engine {
    /// How it stands with every region that ever had a link.
    pub fn peers(&self) -> BTreeMap<RegionId, PeerStatus> {
        let status = |region: RegionId, peer: &Peer| PeerStatus {
            pulling: self.open_links(region, Role::Puller).count(),
            serving: self.open_links(region, Role::Server).count(),
            origin: peer.origin,
            format: peer.format,
            rebuilding: peer.rebuilding,
            holds: peer.has.cursor(),
            applied: peer.applied,
            duplicate: peer.duplicate,
            dropped: peer.dropped,
            rejected: peer.rejected,
            stopped: self
                .stopped()
                .filter(|(_, origin, ..)| origin.region == region)
                .map(|(shard, origin, at, reason)| (shard, origin, at, reason.to_owned()))
                .collect(),
            clock_offset_ms: peer.clock_offset_ms,
        };
        self.peers
            .iter()
            .map(|(region, peer)| (*region, status(*region, peer)))
            .collect()
    }

    /// What a life of a peer is known to have committed, from before this engine was made.
    pub fn remember(&mut self, origin: Origin, holds: Cursor) {
        let peer = self.peers.entry(origin.region).or_default();
        peer.origin = Some(origin);
        peer.has = Held::from(holds);
    }

    /// How far a peer is known to have committed a log; cheap, for writes that wait for regions.
    pub fn peer_holds(&self, peer: RegionId, shard: ShardId, origin: Origin) -> Stamp {
        self.peers.get(&peer).map_or(Stamp::MIN, |peer| {
            peer.has.stamp(LogKey::new(shard, origin))
        })
    }

    pub(super) fn links_of(&self, region: RegionId) -> impl Iterator<Item = LinkId> + '_ {
        self.links
            .iter()
            .filter(move |(_, link)| link.open && link.peer == region)
            .map(|(id, _)| *id)
    }

    fn open_links(&self, region: RegionId, role: Role) -> impl Iterator<Item = LinkId> + '_ {
        self.links_of(region)
            .filter(move |id| self.links.get(id).is_some_and(|link| link.role == role))
    }

    /// The newest link to a region that is neither quiet nor stalled; else one that is not quiet,
    /// and whose stall is the longest ago.
    fn best_source(&self, region: RegionId) -> Option<LinkId> {
        self.links
            .iter()
            .filter(|(_, link)| link.open && link.peer == region && link.role == Role::Puller)
            .max_by_key(|(id, link)| {
                let is_quiet = link.heard_at + QUIET_TIMEOUT <= self.now;
                (!is_quiet, Reverse(link.stalled_at), **id)
            })
            .map(|(id, _)| *id)
    }

    /// A frame of a log came.
    pub(super) fn note_brought(&mut self, link: LinkId) {
        if let Some(state) = self.links.get_mut(&link) {
            state.brought_at = self.now;
            state.stalled_at = None;
        }
    }

    /// A subscription on a link has stalled. If the link brought nothing else either, it is left for
    /// another one to the region, if there is any: its node may live and have lost its store. Whether
    /// it was left.
    pub(super) fn leave_stalled(&mut self, link: LinkId) -> bool {
        let Some(state) = self.links.get_mut(&link) else {
            return false;
        };
        if state.brought_at + STALL_TIMEOUT > self.now {
            return false;
        }
        state.stalled_at = Some(self.now);
        let region = state.peer;
        self.choose_source(region)
    }

    /// Pulls from a region on the best link to it. Whether that is another one than before.
    fn choose_source(&mut self, region: RegionId) -> bool {
        let source = self.best_source(region);
        let peer = self.peers.entry(region).or_default();
        let is_new = peer.source != source;
        peer.source = source;
        if is_new {
            self.schedule_all();
        }
        is_new
    }

    pub(super) fn on_up(&mut self, link: LinkId, peer: RegionId, role: Role) {
        if self.links.contains_key(&link) {
            return;
        }
        self.links.insert(
            link,
            Link {
                peer,
                role,
                open: false,
                heard_at: self.now,
                brought_at: self.now,
                stalled_at: None,
                had_at: None,
                changed: BTreeSet::new(),
                serves: BTreeMap::new(),
                live: Credit::default(),
                bulk: Credit::default(),
                has_bulk: false,
                snapshot_reads: BTreeSet::new(),
                asked: BTreeMap::new(),
                questions: BTreeSet::new(),
                protocol: PROTOCOL_MIN,
                format: None,
            },
        );
        if peer == self.config.region || !self.config.regions.contains_key(&peer) {
            return self.close(link, format!("region {peer} is no peer of ours"));
        }
        self.peers.entry(peer).or_default();
        self.timers
            .set(Timer::Handshake(link), self.now + HANDSHAKE_TIMEOUT);
        if role == Role::Puller {
            let hello = self.hello();
            self.send(link, Frame::Hello(hello));
        }
    }

    pub(super) fn on_frame(&mut self, link: LinkId, frame: Frame) {
        let Some(state) = self.links.get_mut(&link) else {
            return; // Closed by us; what was still under way does not matter.
        };
        state.heard_at = self.now;
        let (region, refuses_us) = (state.peer, matches!(frame, Frame::Refused { .. }));
        let taken = match (state.open, state.role, frame) {
            (false, Role::Server, Frame::Hello(hello)) => self.on_hello(link, &hello),
            (false, Role::Puller, Frame::Welcome(hello)) => self.on_welcome(link, &hello),
            (false, Role::Puller, Frame::Refused { reason }) => {
                Err(format!("refused by the peer: {reason}"))
            }
            (true, _, Frame::Have(have)) => self.on_have(link, &have),
            (
                true,
                Role::Server,
                Frame::Subscribe {
                    shard,
                    origin,
                    from,
                },
            ) => self.on_subscribe(link, LogKey::new(shard, origin), from),
            (true, Role::Server, Frame::Unsubscribe { shard, origin }) => {
                self.on_unsubscribe(link, LogKey::new(shard, origin));
                Ok(())
            }
            (true, Role::Server, Frame::Ack { shard, origin, to }) => {
                self.on_ack(link, LogKey::new(shard, origin), to)
            }
            (true, Role::Puller, Frame::Batches(batches)) => self.on_batches(link, batches),
            (
                true,
                Role::Puller,
                Frame::TooOld {
                    shard,
                    origin,
                    floor,
                },
            ) => {
                self.on_too_old(link, LogKey::new(shard, origin), floor);
                Ok(())
            }
            (true, Role::Server, Frame::SnapshotRequest { shard, after }) => {
                self.on_snapshot_request(link, shard, after)
            }
            (true, Role::Puller, Frame::Snapshot(page)) => self.on_snapshot(link, page),
            (true, Role::Server, Frame::Question { id, question }) => {
                self.on_question(link, id, question)
            }
            (true, Role::Puller, Frame::Answer { id, answer }) => {
                self.on_answer(link, id, answer);
                Ok(())
            }
            (open, _, frame) => {
                let when = if open { "after" } else { "before" };
                Err(format!("unexpected {} {when} the handshake", frame.name()))
            }
        };
        if let Err(reason) = taken {
            if let Some(peer) = self.peers.get_mut(&region).filter(|_| !refuses_us) {
                peer.rejected += 1;
            }
            self.close(link, reason);
        }
    }

    /// Closes a link for a reason that stands in our log.
    pub(super) fn close(&mut self, link: LinkId, reason: String) {
        self.forget(link);
        self.effects.push(Effect::Close { link, reason });
    }

    /// Drops all that hangs on a link; what it was to bring is asked of others.
    pub(super) fn forget(&mut self, link: LinkId) {
        let Some(gone) = self.links.remove(&link) else {
            return;
        };
        self.timers.cancel_link(link);
        for id in gone.asked.into_keys() {
            self.unanswered(gone.peer, id);
        }
        for inbound in self.inbound.values_mut() {
            inbound.forget_link(link);
        }
        self.note_formats(gone.peer);
        let source = self.best_source(gone.peer);
        if let Some(peer) = self.peers.get_mut(&gone.peer) {
            peer.source = source;
        }
        if gone.open && gone.role == Role::Puller {
            self.forget_snapshots_of(link, gone.peer);
            self.schedule_all();
            self.advance_snapshots();
        }
    }

    pub(super) fn check_silence(&mut self, link: LinkId) {
        let Some(state) = self.links.get(&link) else {
            return;
        };
        let (heard_at, region, role) = (state.heard_at, state.peer, state.role);
        if heard_at + SILENCE_TIMEOUT <= self.now {
            return self.close(link, "the peer fell silent".into());
        }
        let quiet_at = heard_at + QUIET_TIMEOUT;
        let next = if quiet_at > self.now {
            quiet_at
        } else {
            (self.now + HEARTBEAT).min(heard_at + SILENCE_TIMEOUT)
        };
        self.timers.set(Timer::Silence(link), next);
        if role == Role::Puller {
            self.choose_source(region);
        }
    }

    fn hello(&self) -> Hello {
        let config = &self.config;
        Hello {
            cluster: config.cluster,
            region: config.region,
            region_name: config
                .regions
                .get(&config.region)
                .cloned()
                .unwrap_or_default(),
            origin: config.origin,
            node: config.node,
            shards: config.shards,
            protocols: (PROTOCOL_MIN, PROTOCOL_MAX),
            format: self.format,
        }
    }

    fn on_hello(&mut self, link: LinkId, hello: &Hello) -> Result<(), String> {
        if let Err(reason) = self.check_hello(link, hello) {
            self.send(
                link,
                Frame::Refused {
                    reason: reason.clone(),
                },
            );
            return Err(reason);
        }
        let welcome = self.hello();
        self.send(link, Frame::Welcome(welcome));
        self.open(link, hello);
        Ok(())
    }

    fn on_welcome(&mut self, link: LinkId, hello: &Hello) -> Result<(), String> {
        self.check_hello(link, hello)?;
        self.open(link, hello);
        Ok(())
    }

    fn check_hello(&self, link: LinkId, hello: &Hello) -> Result<(), String> {
        let config = &self.config;
        let proven = self.links.get(&link).map(|state| state.peer);
        if hello.cluster != config.cluster {
            return Err(format!(
                "cluster {} is not {}",
                hello.cluster, config.cluster
            ));
        }
        if proven != Some(hello.region) {
            return Err(format!(
                "region {} is not the one in its certificate",
                hello.region
            ));
        }
        let name = config.regions.get(&hello.region);
        if name != Some(&hello.region_name) {
            return Err(format!(
                "region {} is called {:?} here, not {:?}",
                hello.region,
                name.map_or("", String::as_str),
                hello.region_name
            ));
        }
        if hello.origin.region != hello.region {
            return Err(format!(
                "origin {} is not of region {}",
                hello.origin, hello.region
            ));
        }
        if hello.shards != config.shards {
            return Err(format!(
                "{} shards, but {} here",
                hello.shards, config.shards
            ));
        }
        let (min, max) = hello.protocols;
        if min > max || min > PROTOCOL_MAX || max < PROTOCOL_MIN {
            return Err(format!(
                "speaks protocols {min} to {max}, but {PROTOCOL_MIN} to {PROTOCOL_MAX} here"
            ));
        }
        check_format(hello.format)
    }

    fn open(&mut self, link: LinkId, hello: &Hello) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        state.open = true;
        state.protocol = hello.protocols.1.min(PROTOCOL_MAX);
        state.format = Some(hello.format);
        let (region, role) = (state.peer, state.role);
        let peer = self.peers.entry(region).or_default();
        if peer.origin != Some(hello.origin) {
            // A store with a new life holds nothing of which we know, and what the old one may
            // still say must not count as held by the new one.
            peer.origin = Some(hello.origin);
            peer.has = Held::default();
            let old: Vec<LinkId> = self.links_of(region).filter(|id| *id != link).collect();
            for old in old {
                self.close(old, format!("region {region} has a new store"));
            }
        }
        self.note_formats(region);
        self.timers.cancel(Timer::Handshake(link));
        self.timers
            .set(Timer::Silence(link), self.now + QUIET_TIMEOUT);
        self.send_have(link, true);
        if role == Role::Puller {
            if !self.choose_source(region) {
                self.schedule_all();
            }
            self.advance_snapshots();
        }
    }

    /// A log of ours has grown: tell it on this link, but not too often.
    pub(super) fn note_change(&mut self, link: LinkId, key: LogKey) {
        let Some(state) = self.links.get_mut(&link).filter(|state| state.open) else {
            return;
        };
        state.changed.insert(key);
        let at = state.had_at.map_or(self.now, |had| had + HAVE_INTERVAL);
        if !self.timers.is_set(Timer::Have(link)) {
            self.timers.set(Timer::Have(link), at.max(self.now));
        }
    }

    /// Tells what we hold: everything, or the logs that have grown since.
    pub(super) fn send_have(&mut self, link: LinkId, all: bool) {
        let unix_ms = self.wall_now();
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let changed = std::mem::take(&mut state.changed);
        state.had_at = Some(self.now);
        let cursor = if all {
            self.held.cursor()
        } else {
            self.held.cursor_of(changed)
        };
        self.timers.cancel(Timer::Have(link));
        if all {
            self.timers
                .set(Timer::Heartbeat(link), self.now + HEARTBEAT);
        }
        let format = Some(self.format);
        let have = Have {
            cursor,
            unix_ms,
            format,
            rebuilding: self.rebuilding,
            heard: None,
        };
        self.send(link, Frame::Have(have));
        if all {
            self.send_heard(link);
        }
    }

    fn wall_now(&self) -> Option<i64> {
        let (unix_ms, at) = self.wall?;
        let since = i64::try_from((self.now - at).as_millis()).ok()?;
        unix_ms.checked_add(since)
    }

    fn on_have(&mut self, link: LinkId, have: &Have) -> Result<(), String> {
        let Some(state) = self.links.get_mut(&link) else {
            return Ok(());
        };
        let (region, role) = (state.peer, state.role);
        if let Some(heard) = &have.heard {
            return self.on_heard(region, heard);
        }
        if let Some(format) = have.format.filter(|format| state.format != Some(*format)) {
            check_format(format)?;
            state.format = Some(format);
            self.note_formats(region);
        }
        let wall = self.wall_now();
        if let Some(peer) = self.peers.get_mut(&region) {
            peer.rebuilding = have.rebuilding;
            if let (Some(theirs), Some(ours)) = (have.unix_ms, wall) {
                peer.clock_offset_ms = Some(theirs.saturating_sub(ours));
            }
        }
        for (shard, part) in have.cursor.iter() {
            self.check_shard(shard)?;
            for (origin, at) in part.iter() {
                let key = LogKey::new(shard, origin);
                self.note_peer_holds(region, key, at.stamp)?;
                if role == Role::Server {
                    self.free_credit(link, key, at.stamp);
                }
            }
        }
        Ok(())
    }

    pub(super) fn check_shard(&self, shard: ShardId) -> Result<(), String> {
        if shard.0 < self.config.shards {
            Ok(())
        } else {
            Err(format!("shard {shard} of {} was named", self.config.shards))
        }
    }

    /// A peer has committed this much of a log.
    pub(super) fn note_peer_holds(
        &mut self,
        region: RegionId,
        key: LogKey,
        to: Stamp,
    ) -> Result<(), String> {
        let Some(peer) = self.peers.get_mut(&region) else {
            return Ok(());
        };
        if !peer.has.contains(key) && peer.has.origins(key.shard) >= ORIGINS_MAX {
            return Err(format!("more than {ORIGINS_MAX} origins were named"));
        }
        if !peer.has.advance(key, to) {
            return Ok(());
        }
        let own = self.config.origin;
        if key.origin == own {
            self.check_own_log(region, key, to);
        } else {
            if key.origin.region == own.region && key.origin.incarnation > own.incarnation {
                self.alert(Alert::LaterLife {
                    peer: region,
                    origin: key.origin,
                });
            }
            self.schedule(key);
        }
        Ok(())
    }

    fn check_own_log(&mut self, peer: RegionId, key: LogKey, peer_has: Stamp) {
        let own = self.held.stamp(key);
        let told = self.own_lost.get(&key.shard).copied().unwrap_or(own);
        if peer_has > own.max(told) {
            self.own_lost.insert(key.shard, peer_has);
            self.alert(Alert::OwnLogLost {
                shard: key.shard,
                peer,
                peer_has,
                own,
            });
        }
    }
}

fn check_format(format: u32) -> Result<(), String> {
    if format >= op::FORMAT_MIN {
        return Ok(());
    }
    Err(format!(
        "reads batches up to format {format}, but the oldest that is written here is {}",
        op::FORMAT_MIN
    ))
}
