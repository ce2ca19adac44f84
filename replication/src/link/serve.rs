//! The side that is pulled from: subscriptions, credit, and reads of the log.

use std::collections::VecDeque;

use bytes::Bytes;

use super::session::Link;
use super::timer::Timer;
use super::{Batches, Effect, Engine, Frame, LinkId, LogKey, RETRY_DELAY};
use crate::id::Stamp;
use crate::limits::{
    BATCH_OVERHEAD_BYTES, FRAME_BATCHES_BYTES_MAX, LINK_SUBSCRIPTIONS_MAX, LINK_UNACKED_BYTES_MAX,
    LOG_READ_BYTES_MAX, SUBSCRIPTION_UNACKED_BYTES_MAX,
};

/// One subscription of a peer.
#[derive(Debug)]
pub(super) struct Serve {
    /// The log was sent up to here.
    sent: Stamp,
    /// Last stamp and bytes of each frame that is not acked.
    unacked: VecDeque<(Stamp, usize)>,
    unacked_bytes: usize,
}

impl Link {
    /// Counts reads that are under way as if they filled what they may.
    fn has_credit(&self) -> bool {
        self.unacked_bytes + self.reads.len() * LOG_READ_BYTES_MAX < LINK_UNACKED_BYTES_MAX
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
            state.unacked_bytes -= gone.unacked_bytes;
            state.starved.retain(|waiting| *waiting != key);
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
        state.unacked_bytes -= freed;
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
        let Some(serve) = state.serves.get(&key) else {
            return;
        };
        if end <= serve.sent
            || state.reads.contains(&key)
            || serve.unacked_bytes >= SUBSCRIPTION_UNACKED_BYTES_MAX
            || self.timers.is_set(Timer::Read(link, key))
        {
            return;
        }
        let bytes_max = if state.has_credit() {
            LOG_READ_BYTES_MAX
        } else if serve.unacked.is_empty() {
            1 // A single batch: others on this link may be waiting for it.
        } else {
            if !state.starved.contains(&key) {
                state.starved.push_back(key);
            }
            return;
        };
        state.reads.insert(key);
        self.effects.push(Effect::ReadLog {
            link,
            shard: key.shard,
            origin: key.origin,
            from: serve.sent,
            bytes_max,
        });
    }

    fn pump_starved(&mut self, link: LinkId) {
        while let Some(state) = self.links.get_mut(&link)
            && state.has_credit()
            && let Some(key) = state.starved.pop_front()
        {
            self.pump(link, key);
        }
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
        state.reads.remove(&key);
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
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let Some(serve) = state.serves.get_mut(&key) else {
            return;
        };
        let frames = split(key, from, to, batches);
        serve.sent = to;
        for frame in &frames {
            if let Some((last, _)) = frame.batches.last() {
                let bytes = frame.batches.iter().map(size).sum();
                serve.unacked.push_back((*last, bytes));
                serve.unacked_bytes += bytes;
                state.unacked_bytes += bytes;
            }
        }
        for frame in frames {
            self.send(link, Frame::Batches(frame));
        }
    }

    pub(super) fn on_log_trimmed(&mut self, link: LinkId, key: LogKey, floor: Stamp) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        state.reads.remove(&key);
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
