//! The side that is pulled from: subscriptions, credit, and reads of the log.
//!
//! What a peer lacks much of goes over the link's bulk lane, so that it does not hold up what is fresh; a
//! subscription changes lanes while nothing of it is under way, for frames of two lanes overtake each
//! other.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::session::Link;
use super::timer::Timer;
use super::{Batches, Effect, Engine, Frame, Lane, LinkId, LogKey, RETRY_DELAY};
use crate::id::Stamp;
use crate::limits::{
    BATCH_OVERHEAD_BYTES, BULK_AFTER_READS, FRAME_BATCHES_BYTES_MAX, LINK_SUBSCRIPTIONS_MAX,
    LINK_UNACKED_BYTES_MAX, LOG_READ_BYTES_MAX, SUBSCRIPTION_UNACKED_BYTES_MAX,
};

/// One subscription of a peer.
#[derive(Debug)]
pub(super) struct Serve {
    /// The log was sent up to here.
    sent: Stamp,
    /// Last stamp and bytes of each frame that is not acked.
    unacked: VecDeque<(Stamp, usize)>,
    unacked_bytes: usize,
    lane: Lane,
    /// Reads in a row that did not come to the end of the log.
    reads_short: u32,
}

impl Serve {
    /// The lane that it should be on.
    fn wants(&self, has_bulk: bool) -> Lane {
        match self.lane {
            Lane::Live if has_bulk && self.reads_short >= BULK_AFTER_READS => Lane::Bulk,
            Lane::Bulk if self.reads_short == 0 => Lane::Live,
            lane => lane,
        }
    }
}

/// What a link has under way on one lane.
#[derive(Debug, Default)]
pub(super) struct Credit {
    unacked_bytes: usize,
    /// Reads of the log that are not answered yet; they outlive their subscription.
    reads: BTreeSet<LogKey>,
    /// Subscriptions that had to wait for credit, in order of waiting.
    starved: VecDeque<LogKey>,
}

impl Credit {
    /// Counts reads that are under way as if they filled what they may.
    fn is_left(&self) -> bool {
        self.unacked_bytes + self.reads.len() * LOG_READ_BYTES_MAX < LINK_UNACKED_BYTES_MAX
    }
}

impl Link {
    fn credit(&mut self, lane: Lane) -> &mut Credit {
        match lane {
            Lane::Live => &mut self.live,
            Lane::Bulk => &mut self.bulk,
        }
    }

    fn reads(&self, key: LogKey) -> bool {
        self.live.reads.contains(&key) || self.bulk.reads.contains(&key)
    }

    fn read_ended(&mut self, key: LogKey) {
        self.live.reads.remove(&key);
        self.bulk.reads.remove(&key);
    }
}

impl Engine {
    pub(super) fn on_subscribe(
        &mut self,
        link: LinkId,
        key: LogKey,
        from: Stamp,
    ) -> Result<(), String> {
        self.check_shard(key.shard)?;
        self.on_unsubscribe(link, key);
        let Some(state) = self.links.get_mut(&link) else {
            return Ok(());
        };
        if state.serves.len() >= LINK_SUBSCRIPTIONS_MAX {
            return Err("too many subscriptions".into());
        }
        let serve = Serve {
            sent: from,
            unacked: VecDeque::new(),
            unacked_bytes: 0,
            lane: Lane::Live,
            reads_short: 0,
        };
        state.serves.insert(key, serve);
        let peer = state.peer;
        self.note_peer_holds(peer, key, from)?;
        self.pump(link, key);
        Ok(())
    }

    pub(super) fn on_unsubscribe(&mut self, link: LinkId, key: LogKey) {
        if let Some(state) = self.links.get_mut(&link)
            && let Some(gone) = state.serves.remove(&key)
        {
            let credit = state.credit(gone.lane);
            credit.unacked_bytes -= gone.unacked_bytes;
            credit.starved.retain(|waiting| *waiting != key);
            self.timers.cancel(Timer::Read(link, key));
            self.pump_starved(link);
        }
    }

    pub(super) fn on_ack(&mut self, link: LinkId, key: LogKey, to: Stamp) -> Result<(), String> {
        self.check_shard(key.shard)?;
        if let Some(peer) = self.links.get(&link).map(|state| state.peer) {
            self.note_peer_holds(peer, key, to)?;
            self.free_credit(link, key, to);
        }
        Ok(())
    }

    /// The peer has committed up to `to`, from us or from others: that much is no longer under way.
    pub(super) fn free_credit(&mut self, link: LinkId, key: LogKey, to: Stamp) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let Some(serve) = state.serves.get_mut(&key) else {
            return;
        };
        let mut freed = 0;
        while let Some((_, bytes)) = serve.unacked.front().filter(|(last, _)| *last <= to) {
            freed += bytes;
            serve.unacked.pop_front();
        }
        serve.unacked_bytes -= freed;
        let lane = serve.lane;
        state.credit(lane).unacked_bytes -= freed;
        if freed > 0 {
            self.pump(link, key);
            self.pump_starved(link);
        }
    }

    /// Reads on for a subscription if the log has more and credit allows.
    pub(super) fn pump(&mut self, link: LinkId, key: LogKey) {
        let end = self.held.stamp(key);
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let (is_read, has_bulk) = (state.reads(key), state.has_bulk);
        let Some(serve) = state.serves.get_mut(&key) else {
            return;
        };
        let wanted = serve.wants(has_bulk);
        if wanted != serve.lane {
            if is_read || !serve.unacked.is_empty() {
                return;
            }
            serve.lane = wanted;
        }
        if end <= serve.sent
            || is_read
            || serve.unacked_bytes >= SUBSCRIPTION_UNACKED_BYTES_MAX
            || self.timers.is_set(Timer::Read(link, key))
        {
            return;
        }
        let (from, lane, idle) = (serve.sent, serve.lane, serve.unacked.is_empty());
        let credit = state.credit(lane);
        let bytes_max = if credit.is_left() {
            LOG_READ_BYTES_MAX
        } else if idle {
            1 // A single batch: others on this link may be waiting for it.
        } else {
            if !credit.starved.contains(&key) {
                credit.starved.push_back(key);
            }
            return;
        };
        credit.reads.insert(key);
        self.effects.push(Effect::ReadLog {
            link,
            lane,
            shard: key.shard,
            origin: key.origin,
            from,
            bytes_max,
        });
    }

    fn pump_starved(&mut self, link: LinkId) {
        for lane in [Lane::Live, Lane::Bulk] {
            while let Some(state) = self.links.get_mut(&link)
                && let credit = state.credit(lane)
                && credit.is_left()
                && let Some(key) = credit.starved.pop_front()
            {
                self.pump(link, key);
            }
        }
    }

    /// The transport has a bulk lane for a link now.
    pub(super) fn on_bulk(&mut self, link: LinkId) {
        if let Some(state) = self.links.get_mut(&link) {
            state.has_bulk = true;
        }
    }

    /// Over the bulk lane, if the link has one: for what may wait behind other such things.
    pub(super) fn send_bulk(&mut self, link: LinkId, frame: Frame) {
        let has_bulk = self.links.get(&link).is_some_and(|state| state.has_bulk);
        let lane = if has_bulk { Lane::Bulk } else { Lane::Live };
        self.effects.push(Effect::Send { link, lane, frame });
    }

    pub(super) fn on_log_read(
        &mut self,
        link: LinkId,
        key: LogKey,
        from: Stamp,
        to: Stamp,
        batches: Vec<(Stamp, Bytes)>,
    ) {
        // The store may have told the reader of more than it has told us yet.
        if let Some((last, _)) = batches.last() {
            self.on_appended(key, *last);
        }
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        state.read_ended(key);
        match state.serves.get_mut(&key) {
            Some(serve) if serve.sent == from && to > from => {
                self.send_batches(link, key, from, to, batches);
            }
            Some(serve) if serve.sent == from => {
                self.timers
                    .set(Timer::Read(link, key), self.now + RETRY_DELAY);
            }
            // It was asked for by a subscription that is gone or was replaced.
            _ => {}
        }
        self.pump(link, key);
        self.pump_starved(link);
    }

    fn send_batches(
        &mut self,
        link: LinkId,
        key: LogKey,
        from: Stamp,
        to: Stamp,
        batches: Vec<(Stamp, Bytes)>,
    ) {
        let end = self.held.stamp(key);
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let Some(serve) = state.serves.get_mut(&key) else {
            return;
        };
        let frames = split(key, from, to, batches);
        serve.sent = to;
        if to < end {
            serve.reads_short += 1;
        } else {
            serve.reads_short = 0;
        }
        let (lane, mut sent) = (serve.lane, 0);
        for frame in &frames {
            if let Some((last, _)) = frame.batches.last() {
                let bytes = frame.batches.iter().map(size).sum();
                serve.unacked.push_back((*last, bytes));
                serve.unacked_bytes += bytes;
                sent += bytes;
            }
        }
        state.credit(lane).unacked_bytes += sent;
        for frame in frames {
            let frame = Frame::Batches(frame);
            self.effects.push(Effect::Send { link, lane, frame });
        }
    }

    pub(super) fn on_log_trimmed(&mut self, link: LinkId, key: LogKey, floor: Stamp) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        state.read_ended(key);
        if state
            .serves
            .get(&key)
            .is_some_and(|serve| serve.sent < floor)
        {
            self.on_unsubscribe(link, key);
            self.send(
                link,
                Frame::TooOld {
                    shard: key.shard,
                    origin: key.origin,
                    floor,
                },
            );
        }
        self.pump(link, key);
        self.pump_starved(link);
    }
}

fn size((_, bytes): &(Stamp, Bytes)) -> usize {
    bytes.len() + BATCH_OVERHEAD_BYTES
}

/// Cuts what was read into frames of bounded size that together cover `(from, to]`.
fn split(key: LogKey, from: Stamp, to: Stamp, batches: Vec<(Stamp, Bytes)>) -> Vec<Batches> {
    let empty = |from| Batches {
        shard: key.shard,
        origin: key.origin,
        from,
        to,
        batches: Vec::new(),
    };
    let mut frames = Vec::new();
    let mut current = empty(from);
    let mut bytes = 0;
    for batch in batches {
        bytes += size(&batch);
        if let Some((last, _)) = current.batches.last()
            && bytes > FRAME_BATCHES_BYTES_MAX
        {
            current.to = *last;
            bytes = size(&batch);
            let next = empty(*last);
            frames.push(std::mem::replace(&mut current, next));
        }
        current.batches.push(batch);
    }
    frames.push(current);
    frames
}
