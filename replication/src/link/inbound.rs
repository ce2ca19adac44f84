//! What came in and is on its way into the store: one queue per log, in the order of the log.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::pull::Pull;
use super::timer::Timer;
use super::{Alert, Batches, Effect, Engine, Frame, GAP_DELAY, LinkId, LogKey, RETRY_DELAY};
use crate::cursor::ShardCursor;
use crate::id::{RegionId, Stamp};
use crate::limits::{
    APPLY_BATCHES_MAX, APPLY_BYTES_MAX, BATCH_BYTES_MAX, BATCH_OVERHEAD_BYTES, INBOUND_BYTES_MAX,
    INBOUND_LOG_BYTES_MAX,
};
use crate::op::Batch;

/// One log that we pull.
#[derive(Debug)]
pub(super) struct Inbound {
    /// Everything up to here is applied or queued.
    pub(super) expected: Stamp,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    pub(super) applying: Option<Applying>,
    /// The batch that cannot be read or applied, and why.
    pub(super) stopped: Option<(Stamp, String)>,
    /// Our subscriptions to it.
    pub(super) pulls: BTreeMap<LinkId, Pull>,
    /// Links whose peer has trimmed what we need.
    pub(super) too_old: BTreeMap<LinkId, Stamp>,
    /// Since when a peer has more while nothing comes.
    pub(super) lacking_since: Option<Duration>,
    /// Subscriptions in a row that brought nothing.
    pub(super) stalls: u32,
    /// The region whose subscription stalled last.
    pub(super) stalled: Option<RegionId>,
}

#[derive(Debug)]
struct Queued {
    stamp: Stamp,
    bytes: Bytes,
    deps: ShardCursor,
    from: RegionId,
}

/// An [`Effect::Apply`] under way; its batches stay queued until it is answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Applying {
    /// The cursor that the store was to have.
    from: Stamp,
}

impl Inbound {
    pub(super) fn new(held: Stamp) -> Self {
        Self {
            expected: held,
            queue: VecDeque::new(),
            queued_bytes: 0,
            applying: None,
            stopped: None,
            pulls: BTreeMap::new(),
            too_old: BTreeMap::new(),
            lacking_since: None,
            stalls: 0,
            stalled: None,
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Nothing received is left to be applied.
    pub(super) fn is_drained(&self) -> bool {
        self.queue.is_empty() && self.applying.is_none()
    }

    pub(super) fn forget_link(&mut self, link: LinkId) {
        self.pulls.remove(&link);
        self.too_old.remove(&link);
    }

    fn has_room(&self, more: usize, total: usize) -> bool {
        self.queue.is_empty()
            || (self.queued_bytes + more <= INBOUND_LOG_BYTES_MAX
                && total + more <= INBOUND_BYTES_MAX)
    }
}

impl Engine {
    pub(super) fn on_batches(&mut self, link: LinkId, frame: Batches) -> Result<(), String> {
        self.check_shard(frame.shard)?;
        let key = LogKey::new(frame.shard, frame.origin);
        let Some(region) = self.links.get(&link).map(|state| state.peer) else {
            return Ok(());
        };
        let held = self.held.stamp(key);
        let now = self.now;
        let Some(inbound) = self.inbound.get_mut(&key) else {
            return Ok(()); // We never asked for it.
        };
        let Some(pull) = inbound.pulls.get_mut(&link) else {
            return Ok(()); // Still under way when we unsubscribed.
        };
        let Some(peer) = self.peers.get_mut(&region) else {
            return Ok(());
        };
        let count = frame.batches.len() as u64;
        if frame.from > inbound.expected {
            peer.dropped += count;
            // Later frames of the same broken stream must not each start it anew.
            let settled = pull.in_order || now >= pull.active_at + GAP_DELAY;
            if settled && inbound.stopped.is_none() {
                self.subscribe(link, key);
            }
            self.schedule(key);
            return Ok(());
        }
        pull.active_at = now;
        pull.in_order = true;
        pull.delivered = pull.delivered.max(frame.to);
        let known = frame.to <= inbound.expected;
        if known {
            peer.duplicate += count;
        }
        self.note_brought(link);
        if known {
            if frame.to <= held {
                // An ack may have been lost, or somebody else brought it.
                self.send_ack(link, key);
            }
            self.schedule(key);
            return Ok(());
        }
        self.enqueue(link, region, key, frame)?;
        self.apply_ready(key);
        self.schedule(key);
        Ok(())
    }

    /// Queues what is new in a frame that joins on to what we have.
    fn enqueue(
        &mut self,
        link: LinkId,
        region: RegionId,
        key: LogKey,
        frame: Batches,
    ) -> Result<(), String> {
        // What comes after a batch that we do not take is not to be had from this stream.
        let mut cut = false;
        let mut deps = ShardCursor::new();
        let newest = self.config.format;
        for (stamp, bytes) in frame.batches {
            let total = self.inbound_bytes;
            let (Some(inbound), Some(peer)) =
                (self.inbound.get_mut(&key), self.peers.get_mut(&region))
            else {
                return Ok(());
            };
            if stamp <= inbound.expected {
                peer.duplicate += 1;
                continue;
            }
            let size = bytes.len() + BATCH_OVERHEAD_BYTES;
            if cut || inbound.stopped.is_some() || !inbound.has_room(size, total) {
                peer.dropped += 1;
                cut = true;
                continue;
            }
            let read = match read(key, &bytes, newest) {
                Err(_) if self.skips.contains(&(key, stamp)) => Ok(ShardCursor::new()),
                read => read.map(|batch| batch.deps),
            };
            match read {
                Ok(needs) => {
                    deps.join(&needs);
                    inbound.queue.push_back(Queued {
                        stamp,
                        bytes,
                        deps: needs,
                        from: region,
                    });
                    inbound.queued_bytes += size;
                    inbound.expected = stamp;
                    self.inbound_bytes += size;
                }
                Err(reason) => {
                    peer.rejected += 1;
                    inbound.stopped = Some((stamp, reason));
                    cut = true;
                    self.alert_stopped(key);
                }
            }
        }
        if let Some(inbound) = self.inbound.get_mut(&key) {
            inbound.lacking_since = None;
            inbound.stalls = 0;
            if !cut {
                inbound.expected = inbound.expected.max(frame.to);
            } else if let Some(pull) = inbound.pulls.get_mut(&link) {
                pull.in_order = false;
                pull.overrun = true;
                pull.delivered = inbound.expected;
            }
        }
        // Who sent a batch has committed all that it depends on.
        for (origin, at) in deps.iter() {
            self.note_peer_holds(region, LogKey::new(key.shard, origin), at.stamp)?;
        }
        Ok(())
    }

    /// Hands the store what is next in a log, as far as everything it depends on is applied.
    pub(super) fn apply_ready(&mut self, key: LogKey) {
        let from = self.held.stamp(key);
        let Some(inbound) = self.inbound.get_mut(&key) else {
            return;
        };
        if inbound.applying.is_some() || self.timers.is_set(Timer::Apply(key)) {
            return;
        }
        let mut bytes = 0;
        let batches: Vec<(Stamp, Bytes)> = inbound
            .queue
            .iter()
            .take(APPLY_BATCHES_MAX)
            .take_while(|queued| {
                let first = bytes == 0;
                bytes += queued.bytes.len().max(1);
                (first || bytes <= APPLY_BYTES_MAX) && self.held.covers(key, &queued.deps)
            })
            .map(|queued| (queued.stamp, queued.bytes.clone()))
            .collect();
        if batches.is_empty() {
            return;
        }
        inbound.applying = Some(Applying { from });
        self.effects.push(Effect::Apply {
            shard: key.shard,
            origin: key.origin,
            from,
            batches,
        });
    }

    pub(super) fn on_applied(&mut self, key: LogKey, to: Stamp) {
        let Some(applying) = self
            .inbound
            .get_mut(&key)
            .and_then(|inbound| inbound.applying.take())
        else {
            return self.on_appended(key, to);
        };
        if to < applying.from {
            // The store holds less than we thought; the queue does not join on to it.
            self.held.set(key, to);
            self.drop_queue(key);
            self.subscribe_all(key);
            return self.schedule(key);
        }
        if to == applying.from {
            self.timers.set(Timer::Apply(key), self.now + RETRY_DELAY);
        }
        if self.held.stamp(key) < to {
            self.on_appended(key, to);
        } else {
            self.trim_queue(key);
            self.apply_ready(key);
            self.schedule(key);
        }
        let links: Vec<LinkId> = self
            .inbound
            .get(&key)
            .map(|inbound| inbound.pulls.keys().copied().collect())
            .unwrap_or_default();
        for link in links {
            self.send_ack(link, key);
        }
    }

    pub(super) fn on_apply_failed(&mut self, key: LogKey, at: Stamp, reason: String) {
        let Some(inbound) = self.inbound.get_mut(&key) else {
            return;
        };
        inbound.applying = None;
        inbound.stopped = Some((at, reason));
        self.drop_queue(key);
        self.alert_stopped(key);
        self.schedule(key);
    }

    pub(super) fn on_skip(&mut self, key: LogKey, at: Stamp) {
        self.skips.insert((key, at));
        let Some(inbound) = self.inbound.get_mut(&key) else {
            return;
        };
        if inbound
            .stopped
            .as_ref()
            .is_some_and(|(stop, _)| *stop == at)
        {
            inbound.stopped = None;
            self.subscribe_all(key);
            self.schedule(key);
        }
    }

    fn alert_stopped(&mut self, key: LogKey) {
        let stopped = self
            .inbound
            .get(&key)
            .and_then(|inbound| inbound.stopped.clone());
        if let Some((at, reason)) = stopped {
            self.alert(Alert::Stopped {
                shard: key.shard,
                origin: key.origin,
                at,
                reason,
            });
        }
    }

    /// Lets go of what the store holds by now, and of a stop that was passed.
    pub(super) fn trim_queue(&mut self, key: LogKey) {
        let held = self.held.stamp(key);
        let Some(inbound) = self.inbound.get_mut(&key) else {
            return;
        };
        while let Some(queued) = inbound.queue.front().filter(|q| q.stamp <= held) {
            let size = queued.bytes.len() + BATCH_OVERHEAD_BYTES;
            inbound.queued_bytes -= size;
            self.inbound_bytes -= size;
            if let Some(peer) = self.peers.get_mut(&queued.from) {
                peer.applied += 1;
            }
            inbound.queue.pop_front();
        }
        if held >= inbound.expected {
            inbound.expected = held;
            inbound.lacking_since = None;
        }
        if inbound.stopped.as_ref().is_some_and(|(at, _)| *at <= held) {
            inbound.stopped = None;
        }
        if inbound.is_drained() && inbound.pulls.values().any(|pull| pull.overrun) {
            self.subscribe_overrun(key);
        }
    }

    pub(super) fn drop_queue(&mut self, key: LogKey) {
        if let Some(inbound) = self.inbound.get_mut(&key) {
            self.inbound_bytes -= inbound.queued_bytes;
            inbound.queued_bytes = 0;
            inbound.queue.clear();
            inbound.expected = self.held.stamp(key);
        }
    }

    fn send_ack(&mut self, link: LinkId, key: LogKey) {
        let to = self.held.stamp(key);
        self.send(
            link,
            Frame::Ack {
                shard: key.shard,
                origin: key.origin,
                to,
            },
        );
    }
}

/// Why a batch cannot be taken is told in words.
fn read(key: LogKey, bytes: &[u8], newest: u32) -> Result<Batch, String> {
    if bytes.len() > BATCH_BYTES_MAX {
        return Err(format!("it has {} bytes", bytes.len()));
    }
    let format = Batch::format_of(bytes).map_err(|error| error.to_string())?;
    if format > newest {
        return Err(format!(
            "it is of format {format}, and this node reads formats up to {newest}"
        ));
    }
    let batch = Batch::decode(bytes).map_err(|error| error.to_string())?;
    if batch.origin == key.origin {
        Ok(batch)
    } else {
        Err(format!("it says that its origin is {}", batch.origin))
    }
}
