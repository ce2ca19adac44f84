//! The one writer: groups what waits, checks it, writes it, shows it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use whimbrel_replication::id::Stamp;

use super::conflicts::{Recent, Written, overlap};
use super::disk::{DiskError, View};
use super::pending::{KeyRange, Write, Writes, bounds, fold, stamped};
use super::watches::Watches;
use super::{Published, Shared};
use crate::store::Notify;
use crate::store::limits::{CLEARED_KEYS_MAX, GROUP_BYTES_MAX, GROUP_COUNT_MAX};
use crate::store::{StoreError, Value};

/// How often it cleans up while nothing, or much, is committed.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// A transaction on its way to be committed.
pub(super) struct Submission {
    pub(super) read_version: u64,
    pub(super) began: Instant,
    pub(super) queued: Instant,
    pub(super) reads: Vec<KeyRange>,
    pub(super) writes: Writes,
    pub(super) watches: Vec<Armed>,
    pub(super) bytes: usize,
    pub(super) room: OwnedSemaphorePermit,
    pub(super) answer: oneshot::Sender<Answer>,
}

type Answer = Result<Option<Stamp>, StoreError>;

/// A watch to be armed with its transaction's commit.
pub(super) struct Armed {
    pub(super) key: Bytes,
    /// What the transaction would read there, but for its own writes.
    pub(super) in_view: Option<Value>,
    pub(super) notify: Notify,
}

/// What a group makes of the store. A journal batch has one sequence number, so each key stands in
/// it once.
#[derive(Default)]
struct Group {
    keys: BTreeMap<Bytes, Option<Value>>,
    /// What was cleared by range, and write conflicts without a write.
    ranges: Vec<KeyRange>,
    bytes: usize,
    accepted: Vec<Accepted>,
    watches: Vec<(Bytes, Option<Value>, Notify)>,
}

impl Group {
    fn touches(&self, range: &KeyRange) -> bool {
        let (begin, end) = range;
        begin < end
            && (self
                .keys
                .range::<[u8], _>(bounds(begin, end))
                .next()
                .is_some()
                || self.ranges.iter().any(|other| overlap(other, range)))
    }
}

struct Accepted {
    stamp: Option<Stamp>,
    queued: Instant,
    answer: oneshot::Sender<Answer>,
    _room: OwnedSemaphorePermit,
}

pub(super) struct Committer {
    shared: Arc<Shared>,
    /// The last published state; only this thread changes it.
    view: View,
    version: u64,
    recent: Recent,
    watches: Watches,
    last_housekeeping: Instant,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, view: View, version: u64) -> Self {
        Self {
            recent: Recent::new(shared.window, version),
            shared,
            view,
            version,
            watches: Watches::default(),
            last_housekeeping: Instant::now(),
        }
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Until the queue is closed and empty, or a write has failed.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Submission>) {
        let mut waiting = VecDeque::new();
        loop {
            if waiting.is_empty() {
                match tokio::time::timeout(HOUSEKEEPING, queue.recv()).await {
                    Ok(Some(submission)) => waiting.push_back(submission),
                    Ok(None) => return,
                    Err(_) => {}
                }
            }
            while waiting.len() < GROUP_COUNT_MAX
                && let Ok(submission) = queue.try_recv()
            {
                waiting.push_back(submission);
            }
            let result = self
                .group(&mut waiting)
                .and_then(|group| self.write(group))
                .and_then(|()| self.housekeeping());
            if let Err(error) = result {
                self.shared.fail(&error);
                // The rest is answered by the drop of its senders.
                return;
            }
        }
    }

    /// Takes what is waiting, up to the limits of a group; answers what it refuses.
    fn group(&mut self, waiting: &mut VecDeque<Submission>) -> Result<Group, DiskError> {
        let now = Instant::now();
        self.recent.prune(now);
        let mut group = Group::default();
        while group.bytes < GROUP_BYTES_MAX
            && let Some(submission) = waiting.pop_front()
        {
            if let Err(error) = self.check(&group, &submission, now) {
                submission.refuse(error);
                continue;
            }
            self.accept(&mut group, submission)?;
        }
        Ok(group)
    }

    fn check(
        &self,
        group: &Group,
        submission: &Submission,
        now: Instant,
    ) -> Result<(), StoreError> {
        let metrics = &self.shared.metrics;
        let age = now.saturating_duration_since(submission.began);
        if age > self.shared.window || !self.recent.covers(submission.read_version) {
            metrics.too_old.inc();
            return Err(StoreError::TooOld);
        }
        // What only arms watches stands as of its view.
        let since = submission.read_version;
        let written = |range| group.touches(range) || self.recent.written_since(range, since);
        if !submission.writes.is_empty() && submission.reads.iter().any(written) {
            metrics.conflicts.inc();
            return Err(StoreError::Conflict);
        }
        Ok(())
    }

    fn accept(&self, group: &mut Group, submission: Submission) -> Result<(), DiskError> {
        let version = self.version + 1;
        let mut stamp = None;
        let mut own = BTreeMap::new();
        if !submission.writes.is_empty() {
            let Some(cleared) = self.cleared_keys(group, &submission.writes)? else {
                submission.refuse(StoreError::TooLarge("keys removed by clear_range"));
                return Ok(());
            };
            let order = u16::try_from(group.accepted.len())
                .expect("a group has fewer transactions than an order can count");
            let new_stamp = Stamp::new(version, order);
            stamp = Some(new_stamp);
            let cleared_ranges = submission.writes.cleared.iter();
            group
                .ranges
                .extend(cleared_ranges.map(|(begin, end)| (begin.clone(), end.clone())));
            group
                .ranges
                .extend(submission.writes.conflicts.iter().cloned());
            let resolved = self.resolve(group, submission.writes, new_stamp)?;
            own.extend(cleared.into_iter().map(|key| (key, None)));
            own.extend(resolved);
        }
        for armed in submission.watches {
            let expected = own.get(&armed.key).cloned().unwrap_or(armed.in_view);
            group.watches.push((armed.key, expected, armed.notify));
        }
        group.bytes += submission.bytes;
        for (key, value) in own {
            // Keys that a range clear found are in no transaction's own size.
            group.bytes += key.len();
            group.keys.insert(key, value);
        }
        group.accepted.push(Accepted {
            stamp,
            queued: submission.queued,
            answer: submission.answer,
            _room: submission.room,
        });
        Ok(())
    }

    /// The keys that `writes` clears by range; `None` if there are too many.
    fn cleared_keys(
        &self,
        group: &Group,
        writes: &Writes,
    ) -> Result<Option<Vec<Bytes>>, DiskError> {
        let mut keys = Vec::new();
        for (begin, end) in writes.cleared.iter() {
            let earlier = group.keys.range::<[u8], _>(bounds(begin, end));
            keys.extend(earlier.map(|(key, _)| key.clone()));
            for row in self.view.range(begin.clone(), end.clone()) {
                if keys.len() >= CLEARED_KEYS_MAX {
                    return Ok(None);
                }
                keys.push(row?.0);
            }
        }
        Ok(Some(keys))
    }

    /// One final value per key that was written by itself.
    fn resolve(
        &self,
        group: &Group,
        writes: Writes,
        stamp: Stamp,
    ) -> Result<Vec<(Bytes, Option<Value>)>, DiskError> {
        let mut resolved = Vec::with_capacity(writes.keys.len() + writes.stamped_keys.len());
        for (key, write) in writes.keys {
            let value = match write {
                Write::Set(value) => Some(value),
                Write::Clear => None,
                Write::Atomics(atomics) => fold(&atomics, self.current(group, &key)?),
                Write::StampedValue { value, offset } => Some(stamped(value, offset, stamp)),
            };
            resolved.push((key, value));
        }
        for key in writes.stamped_keys {
            resolved.push((stamped(key.key, key.offset, stamp), Some(key.value)));
        }
        Ok(resolved)
    }

    /// The value after what the group holds so far.
    fn current(&self, group: &Group, key: &[u8]) -> Result<Option<Value>, DiskError> {
        match group.keys.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.view.get(key),
        }
    }

    /// Makes the group durable, then visible, then known.
    fn write(&mut self, group: Group) -> Result<(), DiskError> {
        let shared = self.shared.clone();
        let writing = group.accepted.iter().any(|a| a.stamp.is_some());
        if writing {
            let version = self.version + 1;
            let began = Instant::now();
            shared.disk.write(version, &group.keys)?;
            let metrics = &shared.metrics;
            metrics.sync_seconds.observe(began.elapsed().as_secs_f64());
            self.version = version;
            self.view = shared.disk.view();
            shared.publish(Published {
                view: self.view.clone(),
                version,
            });
        }
        let mut commits = 0;
        for accepted in group.accepted {
            if accepted.stamp.is_some() {
                commits += 1;
                let waited = accepted.queued.elapsed();
                shared.metrics.commit_seconds.observe(waited.as_secs_f64());
            }
            // A caller that went away does not want to know.
            let _ = accepted.answer.send(Ok(accepted.stamp));
        }
        if writing {
            shared.metrics.commits.inc_by(commits);
            // Below 2^53 by far.
            #[expect(clippy::cast_precision_loss, reason = "at most a group's count")]
            shared.metrics.group_transactions.observe(commits as f64);
        }
        for (key, value) in &group.keys {
            if self.watches.has(key) {
                self.watches.changed(key, value.as_deref());
            }
        }
        // Compared with what stands there now: their transactions' view may be older.
        for (key, expected, notify) in group.watches {
            let value = self.view.get(&key)?;
            self.watches.arm(key.clone(), expected, notify);
            self.watches.changed(&key, value.as_deref());
        }
        if writing {
            self.recent.record(Written {
                version: self.version,
                at: Instant::now(),
                keys: group.keys.into_keys().collect(),
                ranges: group.ranges,
            });
        }
        Ok(())
    }

    fn housekeeping(&mut self) -> Result<(), DiskError> {
        let now = Instant::now();
        if now.duration_since(self.last_housekeeping) < HOUSEKEEPING {
            return Ok(());
        }
        self.last_housekeeping = now;
        self.recent.prune(now);
        self.watches.sweep();
        let bytes = self.shared.disk.bytes()?;
        self.shared.disk_bytes.store(bytes, Ordering::Relaxed);
        self.shared.disk.check()
    }
}

impl Submission {
    fn refuse(self, error: StoreError) {
        let _ = self.answer.send(Err(error));
    }
}
