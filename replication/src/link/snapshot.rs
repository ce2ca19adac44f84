//! The state of a shard, where its logs no longer tell it: nobody has what we lack of one.
//!
//! It is asked for page by page, in order of keys; a page is asked for once the one before it is
//! merged and on disk. The side that serves keeps nothing between two pages, so a snapshot goes on
//! after a broken link, and with another peer, from where it stood. Which cursor the pages add up to
//! is kept with them, in the store.

use std::time::Duration;

use bytes::Bytes;

use super::timer::Timer;
use super::{Alert, Effect, Engine, Frame, LinkId, LogKey, SNAPSHOT_RETRY, SNAPSHOT_TIMEOUT, held};
use crate::cursor::ShardCursor;
use crate::id::{Origin, RegionId, ShardId};
use crate::limits::{SNAPSHOT_PAGE_BYTES, SNAPSHOT_SHARDS_MAX};

/// The first protocol that has snapshots.
pub(super) const PROTOCOL: u32 = 2;

/// A piece of a shard's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPage {
    /// Shard of the state.
    pub shard: ShardId,
    /// It begins after this key; `None`: at the first.
    pub after: Option<Bytes>,
    /// What the sender had applied when it read this page: the state of these keys holds at least
    /// that much.
    pub cursor: ShardCursor,
    /// The state holds no more than this: the cursor, and what a snapshot brought that the sender
    /// itself has not ended yet.
    pub reaches: ShardCursor,
    /// Keys, in order and without what stands before all keys of the shard, and values. What they
    /// mean is for the stores at both ends.
    pub rows: Vec<(Bytes, Bytes)>,
    /// The next page begins after this key; `None`: there is no more.
    pub next: Option<Bytes>,
}

/// How far the store has come with a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotProgress {
    /// Everything up to this key is merged.
    After(Option<Bytes>),
    /// All is merged; the store now holds the shard up to here.
    Merged(ShardCursor),
    /// The page was not merged; it is asked for again, if possible of somebody else.
    Failed,
}

/// A shard whose snapshot we take.
#[derive(Debug)]
pub(super) struct Snapshot {
    after: Option<Bytes>,
    /// The store has begun: it must be brought to its end.
    begun: bool,
    stage: Stage,
    /// Whose page did not come, or could not be merged.
    failed: Option<RegionId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Until somebody can be asked.
    Waiting,
    Asked {
        link: LinkId,
        at: Duration,
    },
    Merging(RegionId),
}

impl Engine {
    /// Shards whose snapshot is being taken, and up to which key it is merged.
    pub fn snapshots(&self) -> impl Iterator<Item = (ShardId, Option<&Bytes>)> + '_ {
        let all = self.snapshots.iter();
        all.map(|(shard, snapshot)| (*shard, snapshot.after.as_ref()))
    }

    /// Whether all that anybody will ever have of a log is here: its origin's life is over, and all regions
    /// are linked and hold no more. What a snapshot brought beyond that was lost with a store, and no log
    /// will tell it.
    pub fn is_all_there_is(&self, shard: ShardId, origin: Origin) -> bool {
        let (own, key) = (self.config.origin, LogKey::new(shard, origin));
        let life = if origin.region == own.region {
            Some(own)
        } else {
            self.peers.get(&origin.region).and_then(|peer| peer.origin)
        };
        let is_over = life.is_some_and(|life| life.incarnation > origin.incarnation);
        let held = self.held.stamp(key);
        let mut others = self.config.regions.keys().filter(|id| **id != own.region);
        is_over
            && others.all(|id| {
                let peer = self.peers.get(id);
                peer.is_some_and(|peer| peer.source.is_some() && peer.has.stamp(key) <= held)
            })
    }

    /// The store says that a snapshot is under way: begun before a restart, or by another node.
    pub(super) fn on_snapshot_pending(&mut self, shard: ShardId, after: Option<Bytes>) {
        if !self.snapshots.contains_key(&shard) {
            self.begin_snapshot(shard, after, true);
        }
    }

    /// Some log of the shard cannot be had from anybody.
    pub(super) fn take_snapshot(&mut self, key: LogKey) {
        if self.snapshots.contains_key(&key.shard)
            || self.snapshot_source(key.shard, None).is_none()
        {
            return;
        }
        self.alert(Alert::SnapshotNeeded {
            shard: key.shard,
            origin: key.origin,
        });
        self.begin_snapshot(key.shard, None, false);
    }

    fn begin_snapshot(&mut self, shard: ShardId, after: Option<Bytes>, begun: bool) {
        let snapshot = Snapshot {
            after,
            begun,
            stage: Stage::Waiting,
            failed: None,
        };
        self.snapshots.insert(shard, snapshot);
        self.advance_snapshots();
    }

    /// Asks for what is next, of as many shards as may be under way.
    pub(super) fn advance_snapshots(&mut self) {
        self.drop_needless_snapshots();
        let is_busy = |snapshot: &&Snapshot| snapshot.stage != Stage::Waiting;
        let mut busy = self.snapshots.values().filter(is_busy).count();
        let waiting: Vec<(ShardId, Option<RegionId>)> = self
            .snapshots
            .iter()
            .filter(|(shard, snapshot)| {
                snapshot.stage == Stage::Waiting && self.pulled.contains(shard)
            })
            .map(|(shard, snapshot)| (*shard, snapshot.failed))
            .collect();
        for (shard, failed) in waiting {
            if busy >= SNAPSHOT_SHARDS_MAX || self.timers.is_set(Timer::Snapshot(shard)) {
                continue;
            }
            let Some((_, link)) = self.snapshot_source(shard, failed) else {
                return;
            };
            let Some(snapshot) = self.snapshots.get_mut(&shard) else {
                continue;
            };
            let after = snapshot.after.clone();
            snapshot.stage = Stage::Asked { link, at: self.now };
            busy += 1;
            self.timers
                .set(Timer::Snapshot(shard), self.now + SNAPSHOT_TIMEOUT);
            self.send(link, Frame::SnapshotRequest { shard, after });
        }
    }

    /// Somebody has come who has the log after all.
    pub(super) fn drop_needless_snapshots(&mut self) {
        let not_begun = self.snapshots.iter().filter(|(_, s)| !s.begun);
        let needless: Vec<ShardId> = not_begun
            .map(|(shard, _)| *shard)
            .filter(|shard| {
                let mut logs = self.inbound.range(held::shard_range(*shard));
                !logs.any(|(key, _)| self.is_out_of_reach(*key))
            })
            .collect();
        for shard in needless {
            self.snapshots.remove(&shard);
            self.timers.cancel(Timer::Snapshot(shard));
        }
    }

    /// Who can be asked: if possible somebody who has more of a log that is out of reach, or two regions
    /// could give each other for ever what both have. After a failure the next one in turn.
    fn snapshot_source(
        &self,
        shard: ShardId,
        failed: Option<RegionId>,
    ) -> Option<(RegionId, LinkId)> {
        let logs = self.inbound.range(held::shard_range(shard));
        let lacking: Vec<LogKey> = logs
            .map(|(key, _)| *key)
            .filter(|key| self.is_out_of_reach(*key))
            .collect();
        let able = self.peers.iter().filter_map(|(region, peer)| {
            let link = peer.source?;
            let speaks = self.links.get(&link)?.protocol >= PROTOCOL;
            let has_more = |key: &LogKey| peer.has.stamp(*key) > self.held.stamp(*key);
            let is_next = failed.is_none_or(|failed| *region > failed);
            let rank = (lacking.iter().any(has_more), is_next);
            speaks.then_some((rank, *region, link))
        });
        // Of equals the first.
        let best = able.min_by_key(|(rank, region, _)| (std::cmp::Reverse(*rank), *region));
        best.map(|(_, region, link)| (region, link))
    }

    pub(super) fn on_snapshot(&mut self, link: LinkId, page: SnapshotPage) -> Result<(), String> {
        self.check_shard(page.shard)?;
        let Some(peer) = self.links.get(&link).map(|state| state.peer) else {
            return Ok(());
        };
        let Some(snapshot) = self.snapshots.get_mut(&page.shard) else {
            return Ok(());
        };
        let is_asked = matches!(snapshot.stage, Stage::Asked { link: asked, .. } if asked == link);
        if !is_asked || snapshot.after != page.after {
            return Ok(()); // It was asked for once more meanwhile.
        }
        snapshot.stage = Stage::Merging(peer);
        snapshot.begun = true;
        self.timers.cancel(Timer::Snapshot(page.shard));
        // It has what it told the state of.
        for (origin, at) in page.cursor.iter() {
            self.note_peer_holds(peer, LogKey::new(page.shard, origin), at.stamp)?;
        }
        self.note_brought(link);
        self.effects.push(Effect::MergeSnapshot { peer, page });
        Ok(())
    }

    pub(super) fn on_snapshot_merged(&mut self, shard: ShardId, progress: SnapshotProgress) {
        let Some(snapshot) = self.snapshots.get_mut(&shard) else {
            return;
        };
        match progress {
            SnapshotProgress::After(after) => {
                snapshot.after = after;
                snapshot.stage = Stage::Waiting;
                snapshot.failed = None;
            }
            SnapshotProgress::Failed => {
                if let Stage::Merging(peer) = snapshot.stage {
                    snapshot.failed = Some(peer);
                }
                snapshot.stage = Stage::Waiting;
                self.timers
                    .set(Timer::Snapshot(shard), self.now + SNAPSHOT_RETRY);
            }
            SnapshotProgress::Merged(held) => {
                self.snapshots.remove(&shard);
                self.timers.cancel(Timer::Snapshot(shard));
                for (origin, at) in held.iter() {
                    self.on_appended(LogKey::new(shard, origin), at.stamp);
                }
                let keys: Vec<LogKey> = self
                    .inbound
                    .range(held::shard_range(shard))
                    .map(|(key, _)| *key)
                    .collect();
                for key in keys {
                    self.schedule(key);
                }
            }
        }
        self.advance_snapshots();
    }

    /// The page did not come in time, or it is time to try again.
    pub(super) fn on_snapshot_timer(&mut self, shard: ShardId) {
        if let Some(snapshot) = self.snapshots.get_mut(&shard)
            && let Stage::Asked { link, at } = snapshot.stage
            && at + SNAPSHOT_TIMEOUT <= self.now
        {
            snapshot.failed = self.links.get(&link).map(|state| state.peer);
            snapshot.stage = Stage::Waiting;
        }
        self.advance_snapshots();
    }

    /// What was asked on a link that is gone does not come.
    pub(super) fn forget_snapshots_of(&mut self, link: LinkId, peer: RegionId) {
        for (shard, snapshot) in &mut self.snapshots {
            if matches!(snapshot.stage, Stage::Asked { link: asked, .. } if asked == link) {
                snapshot.stage = Stage::Waiting;
                snapshot.failed = Some(peer);
                self.timers.cancel(Timer::Snapshot(*shard));
            }
        }
    }

    pub(super) fn on_snapshot_request(
        &mut self,
        link: LinkId,
        shard: ShardId,
        after: Option<Bytes>,
    ) -> Result<(), String> {
        self.check_shard(shard)?;
        let Some(state) = self.links.get_mut(&link) else {
            return Ok(());
        };
        // One read at a time for each: whoever asks again waits for the first.
        if state.snapshot_reads.insert(shard) {
            self.effects.push(Effect::ReadSnapshot {
                link,
                shard,
                after,
                bytes_max: SNAPSHOT_PAGE_BYTES,
            });
        }
        Ok(())
    }

    pub(super) fn on_snapshot_read(
        &mut self,
        link: LinkId,
        shard: ShardId,
        page: Option<SnapshotPage>,
    ) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        state.snapshot_reads.remove(&shard);
        // Without an answer the peer asks somebody else, or again.
        if let Some(page) = page {
            self.send_bulk(link, Frame::Snapshot(page));
        }
    }
}
