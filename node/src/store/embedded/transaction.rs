//! Reads on a fixed view, and writes that wait for the commit.

use std::iter::Peekable;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::oneshot;
use whimbrel_replication::id::Stamp;

use super::Handle;
use super::committer::{Armed, Submission};
use super::disk::{DiskError, View};
use super::pending::{KeyRange, Seen, StampedKey, Write, Writes, bounds, fold, point};
use crate::store::check::{PENDING_STAMP, key_ok, range_ok, stamp_ok, value_ok};
use crate::store::limits::TRANSACTION_BYTES_MAX;
use crate::store::{Atomic, Key, Notify, Page, RangeOptions, StoreError, Value, key_after};

/// A transaction of the embedded engine.
pub(in crate::store) struct Transaction {
    handle: Arc<Handle>,
    view: View,
    /// All commits up to this one, and no later one, are in the view.
    read_version: u64,
    began: Instant,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    writes: Writes,
    reads: Vec<KeyRange>,
    watches: Vec<(Bytes, Notify)>,
    bytes: usize,
    /// Why it cannot go on.
    refused: Option<StoreError>,
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction")
            .field("read_version", &self.read_version)
            .finish_non_exhaustive()
    }
}

impl Pending {
    fn usable(&self) -> Result<(), StoreError> {
        self.refused.clone().map_or(Ok(()), Err)
    }

    fn refuse(&mut self, error: StoreError) {
        self.refused.get_or_insert(error);
    }

    /// The first refusal stands: what follows from it would only hide it.
    fn check(&mut self, result: Result<(), StoreError>) -> bool {
        if let Err(error) = result {
            self.refuse(error);
        }
        self.refused.is_none()
    }

    fn grow(&mut self, bytes: usize) -> Result<(), StoreError> {
        self.bytes += bytes;
        if self.bytes > TRANSACTION_BYTES_MAX {
            return Err(StoreError::TooLarge("transaction"));
        }
        Ok(())
    }

    fn read_conflict(&mut self, range: KeyRange) -> Result<(), StoreError> {
        self.grow(range.0.len() + range.1.len())?;
        self.reads.push(range);
        Ok(())
    }
}

impl Transaction {
    pub(super) fn new(handle: Arc<Handle>, view: View, read_version: u64) -> Self {
        Self {
            handle,
            view,
            read_version,
            began: Instant::now(),
            pending: Mutex::default(),
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    /// For reads: locks, unless the transaction cannot be read any more.
    fn readable(&self) -> Result<MutexGuard<'_, Pending>, StoreError> {
        if self.began.elapsed() > self.handle.shared.window {
            return Err(StoreError::TooOld);
        }
        let pending = self.pending();
        pending.usable()?;
        Ok(pending)
    }

    fn in_view(&self, key: &[u8]) -> Result<Option<Value>, StoreError> {
        let value = self.view.get(key);
        value.map_err(|error| self.handle.shared.read_failed(&error))
    }

    pub(in crate::store) fn get(
        &self,
        key: &[u8],
        snapshot: bool,
    ) -> Result<Option<Value>, StoreError> {
        key_ok(key)?;
        let mut pending = self.readable()?;
        if pending.writes.stamped_key_at(key) {
            pending.refuse(PENDING_STAMP);
            return Err(PENDING_STAMP);
        }
        let value = match pending.writes.seen(key) {
            Seen::Known(value) => return Ok(value),
            Seen::Unreadable => {
                pending.refuse(PENDING_STAMP);
                return Err(PENDING_STAMP);
            }
            Seen::Over(atomics) => fold(atomics, self.in_view(key)?),
        };
        if !snapshot {
            pending.read_conflict(point(key))?;
        }
        Ok(value)
    }

    pub(in crate::store) fn range(
        &self,
        begin: &[u8],
        end: &[u8],
        opts: RangeOptions,
    ) -> Result<Page, StoreError> {
        range_ok(begin, end)?;
        if opts.limit == 0 {
            return Err(StoreError::Misuse("a page needs a limit above zero"));
        }
        let mut pending = self.readable()?;
        if pending.writes.unreadable(begin, end) {
            pending.refuse(PENDING_STAMP);
            return Err(PENDING_STAMP);
        }
        let page = self.merged(&pending.writes, begin, end, opts)?;
        if !opts.snapshot && begin < end {
            // Only what the page covers was read.
            let range = match page.rows.last() {
                Some((last, _)) if page.more && opts.reverse => {
                    (last.clone(), Bytes::copy_from_slice(end))
                }
                Some((last, _)) if page.more => {
                    (Bytes::copy_from_slice(begin), key_after(last).into())
                }
                _ => (Bytes::copy_from_slice(begin), Bytes::copy_from_slice(end)),
            };
            pending.read_conflict(range)?;
        }
        Ok(page)
    }

    /// The rows of the view under those of `writes`.
    fn merged(
        &self,
        writes: &Writes,
        begin: &[u8],
        end: &[u8],
        opts: RangeOptions,
    ) -> Result<Page, StoreError> {
        type Rows<'a> = Box<dyn Iterator<Item = Result<Row, DiskError>> + 'a>;
        type Own<'a> = Box<dyn Iterator<Item = (&'a Bytes, &'a Write)> + 'a>;
        let shared = &self.handle.shared;
        let gaps = writes.cleared.gaps(begin, end);
        let rows = |(b, e): KeyRange| self.view.range(b, e);
        let below: Rows<'_> = if opts.reverse {
            Box::new(gaps.into_iter().rev().flat_map(move |gap| rows(gap).rev()))
        } else {
            Box::new(gaps.into_iter().flat_map(rows))
        };
        let mut below = below
            .map(|row| row.map_err(|error| shared.read_failed(&error)))
            .peekable();
        let own = writes.keys.range::<[u8], _>(bounds(begin, end));
        let own: Own<'_> = if opts.reverse {
            Box::new(own.rev())
        } else {
            Box::new(own)
        };
        let mut own = own.peekable();

        let mut page = Page::default();
        let mut bytes = 0;
        while let Some((key, value)) = next_row(&mut below, &mut own, opts.reverse)? {
            let Some(value) = value else { continue };
            bytes += key.len() + value.len();
            page.rows.push((key, value));
            if page.rows.len() >= opts.limit || bytes >= opts.bytes {
                page.more = true;
                break;
            }
        }
        Ok(page)
    }

    pub(in crate::store) fn set(&self, key: &[u8], value: &[u8]) {
        let mut pending = self.pending();
        let ok = key_ok(key)
            .and_then(|()| value_ok(value))
            .and_then(|()| pending.grow(key.len() + value.len()));
        if pending.check(ok) {
            let value = Bytes::copy_from_slice(value);
            pending.writes.put(key, Write::Set(value));
        }
    }

    pub(in crate::store) fn clear(&self, key: &[u8]) {
        let mut pending = self.pending();
        let ok = key_ok(key).and_then(|()| pending.grow(key.len()));
        if pending.check(ok) {
            pending.writes.put(key, Write::Clear);
        }
    }

    pub(in crate::store) fn clear_range(&self, begin: &[u8], end: &[u8]) {
        let mut pending = self.pending();
        let mut ok = range_ok(begin, end).and_then(|()| pending.grow(begin.len() + end.len()));
        // Which of the two came last would be lost in the normal form.
        if ok.is_ok() && pending.writes.stamped_key_in(begin, end) {
            ok = Err(PENDING_STAMP);
        }
        if pending.check(ok) {
            pending.writes.clear_range(begin, end);
        }
    }

    pub(in crate::store) fn atomic(&self, atomic: Atomic, key: &[u8], operand: &[u8]) {
        let mut pending = self.pending();
        let ok = key_ok(key)
            .and_then(|()| value_ok(operand))
            .and_then(|()| pending.grow(key.len() + operand.len()));
        if pending.check(ok) && !pending.writes.atomic(atomic, key, operand) {
            pending.refuse(PENDING_STAMP);
        }
    }

    pub(in crate::store) fn set_versionstamped_key(
        &self,
        key: Vec<u8>,
        offset: usize,
        value: &[u8],
    ) {
        let mut pending = self.pending();
        let ok = key_ok(&key)
            .and_then(|()| stamp_ok(&key, offset))
            .and_then(|()| value_ok(value))
            .and_then(|()| pending.grow(key.len() + value.len()));
        if pending.check(ok) {
            let value = Bytes::copy_from_slice(value);
            pending
                .writes
                .put_stamped_key(StampedKey { key, offset, value });
        }
    }

    pub(in crate::store) fn set_versionstamped_value(
        &self,
        key: &[u8],
        value: Vec<u8>,
        offset: usize,
    ) {
        let mut pending = self.pending();
        let ok = key_ok(key)
            .and_then(|()| stamp_ok(&value, offset))
            .and_then(|()| value_ok(&value))
            .and_then(|()| pending.grow(key.len() + value.len()));
        if pending.check(ok) {
            pending
                .writes
                .put(key, Write::StampedValue { value, offset });
        }
    }

    pub(in crate::store) fn add_read_conflict_range(&self, begin: &[u8], end: &[u8]) {
        let mut pending = self.pending();
        let range = (Bytes::copy_from_slice(begin), Bytes::copy_from_slice(end));
        let ok = range_ok(begin, end).and_then(|()| pending.read_conflict(range));
        pending.check(ok);
    }

    pub(in crate::store) fn add_write_conflict_range(&self, begin: &[u8], end: &[u8]) {
        let mut pending = self.pending();
        let ok = range_ok(begin, end).and_then(|()| pending.grow(begin.len() + end.len()));
        if pending.check(ok) {
            let range = (Bytes::copy_from_slice(begin), Bytes::copy_from_slice(end));
            pending.writes.conflicts.push(range);
        }
    }

    pub(in crate::store) fn watch(&self, key: &[u8], notify: Notify) {
        let mut pending = self.pending();
        let mut ok = key_ok(key).and_then(|()| pending.grow(key.len()));
        // It reads the value that it waits to change, unless that is the transaction's own.
        if ok.is_ok() && !matches!(pending.writes.seen(key), Seen::Known(_)) {
            ok = pending.read_conflict(point(key));
        }
        if pending.check(ok) {
            pending.watches.push((Bytes::copy_from_slice(key), notify));
        }
    }

    pub(in crate::store) fn is_read_only(&self) -> bool {
        self.pending().writes.is_empty()
    }

    pub(in crate::store) async fn commit(&self) -> Result<Option<Stamp>, StoreError> {
        let pending = {
            let mut pending = self.pending();
            let done = Pending {
                refused: Some(StoreError::Misuse("the transaction has ended")),
                ..Pending::default()
            };
            std::mem::replace(&mut *pending, done)
        };
        pending.usable()?;
        let shared = &self.handle.shared;
        if pending.writes.is_empty() && pending.watches.is_empty() {
            // All was read from one view, so it stands as of that view.
            return Ok(None);
        }
        // Also after a failure of another's read, of which the committer does not know.
        shared.alive()?;
        if self.began.elapsed() > shared.window {
            return Err(StoreError::TooOld);
        }
        let mut watches = Vec::with_capacity(pending.watches.len());
        for (key, notify) in pending.watches {
            let in_view = self.in_view(&key)?;
            watches.push(Armed {
                key,
                in_view,
                notify,
            });
        }
        // What a waiting transaction holds in memory, at least one KiB.
        let kib = u32::try_from(pending.bytes / 1024 + 1)
            .expect("the limit of a transaction is far below");
        let room = shared
            .room
            .clone()
            .acquire_many_owned(kib)
            .await
            .expect("the semaphore is never closed");
        let (answer, answered) = oneshot::channel();
        let submission = Submission {
            read_version: self.read_version,
            began: self.began,
            queued: Instant::now(),
            reads: pending.reads,
            writes: pending.writes,
            watches,
            bytes: pending.bytes,
            room,
            answer,
        };
        if self.handle.queue()?.send(submission).await.is_err() {
            return Err(shared.stopped());
        }
        match answered.await {
            Ok(result) => result,
            Err(_) => Err(shared.stopped()),
        }
    }
}

type Row = (Key, Value);

/// The next key of both, with its value if it has one.
fn next_row<'a>(
    below: &mut Peekable<impl Iterator<Item = Result<Row, StoreError>>>,
    own: &mut Peekable<impl Iterator<Item = (&'a Bytes, &'a Write)>>,
    reverse: bool,
) -> Result<Option<(Key, Option<Value>)>, StoreError> {
    let own_key = own.peek().map(|(key, _)| *key);
    let base = below.next_if(|row| match (row, own_key) {
        (Ok((key, _)), Some(own_key)) if reverse => key >= own_key,
        (Ok((key, _)), Some(own_key)) => key <= own_key,
        (Err(_), _) | (Ok(_), None) => true,
    });
    let base = base.transpose()?;
    if let Some((key, value)) = &base
        && own_key != Some(key)
    {
        return Ok(Some((key.clone(), Some(value.clone()))));
    }
    let Some((key, write)) = own.next() else {
        return Ok(None);
    };
    let value = match write {
        Write::Set(value) => Some(value.clone()),
        Write::Clear => None,
        Write::Atomics(atomics) => fold(atomics, base.map(|(_, value)| value)),
        // Refused before the merge.
        Write::StampedValue { .. } => return Err(PENDING_STAMP),
    };
    Ok(Some((key.clone(), value)))
}
