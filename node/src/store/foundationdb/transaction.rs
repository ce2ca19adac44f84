//! A transaction of `FoundationDB`, under the store's prefix.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use bytes::Bytes;
use foundationdb::options::{ConflictRangeType, MutationType, StreamingMode};
use foundationdb::{FdbError, KeySelector, RangeOption};
use whimbrel_replication::id::Stamp;

use super::{Handle, error};
use crate::store::check::{PENDING_STAMP, key_ok, range_ok, stamp_ok, value_ok};
use crate::store::{Atomic, Notify, Page, RangeOptions, StoreError, Value};

pub(in crate::store) struct Transaction {
    handle: Arc<Handle>,
    state: Mutex<State>,
}

struct State {
    /// Taken by the commit.
    inner: Option<foundationdb::Transaction>,
    writes: bool,
    /// Keys whose value holds a stamp that is not known yet. The library lets atomics change them.
    stamped: BTreeSet<Vec<u8>>,
    /// Why it cannot go on.
    refused: Option<StoreError>,
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").finish_non_exhaustive()
    }
}

impl State {
    fn usable(&self) -> Result<&foundationdb::Transaction, StoreError> {
        match (&self.refused, &self.inner) {
            (Some(error), _) => Err(error.clone()),
            (None, Some(inner)) => Ok(inner),
            (None, None) => Err(StoreError::Misuse("the transaction has ended")),
        }
    }
}

impl Transaction {
    pub(super) fn new(handle: Arc<Handle>, inner: foundationdb::Transaction) -> Self {
        Self {
            handle,
            state: Mutex::new(State {
                inner: Some(inner),
                writes: false,
                stamped: BTreeSet::new(),
                refused: None,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    fn prefixed(&self, key: &[u8]) -> Vec<u8> {
        [&self.handle.prefix, key].concat()
    }

    /// A write, unless `check` refuses it: then the whole transaction fails. The first refusal
    /// stands, for what follows from it would only hide it.
    fn write(
        &self,
        check: Result<(), StoreError>,
        write: impl FnOnce(&foundationdb::Transaction) -> Result<(), FdbError>,
    ) {
        let mut state = self.state();
        let done = check.and_then(|()| write(state.usable()?).map_err(error::of_read));
        match done {
            Ok(()) => state.writes = true,
            Err(error) => {
                state.refused.get_or_insert(error);
            }
        }
    }

    /// A read that failed because a stamp is pending fails the transaction too.
    fn read_failed(&self, error: FdbError) -> StoreError {
        let error = error::of_read(error);
        if matches!(error, StoreError::Misuse(_)) {
            self.state().refused.get_or_insert(error.clone());
        }
        match error {
            StoreError::TooOld => self.handle.metrics.too_old.inc(),
            StoreError::Conflict => self.handle.metrics.conflicts.inc(),
            _ => {}
        }
        error
    }

    pub(in crate::store) async fn get(
        &self,
        key: &[u8],
        snapshot: bool,
    ) -> Result<Option<Value>, StoreError> {
        key_ok(key)?;
        let key = self.prefixed(key);
        let _timer = self.handle.metrics.read_seconds.start_timer();
        let read = self.state().usable()?.get(&key, snapshot);
        match read.await {
            Ok(value) => Ok(value.map(|value| Bytes::copy_from_slice(&value))),
            Err(error) => Err(self.read_failed(error)),
        }
    }

    pub(in crate::store) async fn range(
        &self,
        begin: &[u8],
        end: &[u8],
        opts: RangeOptions,
    ) -> Result<Page, StoreError> {
        range_ok(begin, end)?;
        if opts.limit == 0 {
            return Err(StoreError::Misuse("a page needs a limit above zero"));
        }
        let (mut begin, mut end) = (self.prefixed(begin), self.prefixed(end));
        let _timer = self.handle.metrics.read_seconds.start_timer();
        let mut page = Page::default();
        let mut bytes = 0;
        // The server ends its own pages where it likes.
        for iteration in 1.. {
            let range = RangeOption {
                begin: KeySelector::first_greater_or_equal(&begin),
                end: KeySelector::first_greater_or_equal(&end),
                // The library takes an int.
                limit: Some((opts.limit - page.rows.len()).min(i32::MAX as usize)),
                target_bytes: opts.bytes.saturating_sub(bytes).min(i32::MAX as usize),
                mode: StreamingMode::WantAll,
                reverse: opts.reverse,
                ..RangeOption::default()
            };
            let read = self
                .state()
                .usable()?
                .get_range(&range, iteration, opts.snapshot);
            drop(range);
            let rows = read.await.map_err(|error| self.read_failed(error))?;
            for row in &rows {
                let key = &row.key()[self.handle.prefix.len()..];
                bytes += key.len() + row.value().len();
                page.rows.push((
                    Bytes::copy_from_slice(key),
                    Bytes::copy_from_slice(row.value()),
                ));
            }
            page.more = page.rows.len() >= opts.limit || bytes >= opts.bytes;
            match rows.iter().last() {
                Some(last) if rows.more() && !page.more => {
                    if opts.reverse {
                        end = last.key().to_vec();
                    } else {
                        begin = crate::store::key_after(last.key());
                    }
                }
                _ => break,
            }
        }
        Ok(page)
    }

    pub(in crate::store) fn set(&self, key: &[u8], value: &[u8]) {
        let ok = key_ok(key).and_then(|()| value_ok(value));
        self.write(ok, |inner| {
            inner.set(&self.prefixed(key), value);
            Ok(())
        });
    }

    pub(in crate::store) fn clear(&self, key: &[u8]) {
        self.write(key_ok(key), |inner| {
            inner.clear(&self.prefixed(key));
            Ok(())
        });
    }

    pub(in crate::store) fn clear_range(&self, begin: &[u8], end: &[u8]) {
        self.write(range_ok(begin, end), |inner| {
            inner.clear_range(&self.prefixed(begin), &self.prefixed(end));
            Ok(())
        });
    }

    pub(in crate::store) fn atomic(&self, atomic: Atomic, key: &[u8], operand: &[u8]) {
        let mutation = match atomic {
            Atomic::Add => MutationType::Add,
            Atomic::ByteMax => MutationType::ByteMax,
            Atomic::ByteMin => MutationType::ByteMin,
        };
        let mut ok = key_ok(key).and_then(|()| value_ok(operand));
        if self.state().stamped.contains(key) {
            ok = Err(PENDING_STAMP);
        }
        self.write(ok, |inner| {
            inner.atomic_op(&self.prefixed(key), operand, mutation);
            Ok(())
        });
    }

    pub(in crate::store) fn set_versionstamped_key(&self, key: &[u8], offset: usize, value: &[u8]) {
        let ok = key_ok(key)
            .and_then(|()| stamp_ok(key, offset))
            .and_then(|()| value_ok(value));
        self.write(ok, |inner| {
            let key = with_offset(self.prefixed(key), self.handle.prefix.len() + offset);
            inner.atomic_op(&key, value, MutationType::SetVersionstampedKey);
            Ok(())
        });
    }

    pub(in crate::store) fn set_versionstamped_value(
        &self,
        key: &[u8],
        value: Vec<u8>,
        offset: usize,
    ) {
        let ok = key_ok(key)
            .and_then(|()| stamp_ok(&value, offset))
            .and_then(|()| value_ok(&value));
        self.state().stamped.insert(key.to_vec());
        self.write(ok, |inner| {
            let value = with_offset(value, offset);
            let key = self.prefixed(key);
            inner.atomic_op(&key, &value, MutationType::SetVersionstampedValue);
            Ok(())
        });
    }

    pub(in crate::store) fn add_read_conflict_range(&self, begin: &[u8], end: &[u8]) {
        let mut state = self.state();
        let (from, to) = (self.prefixed(begin), self.prefixed(end));
        let added = range_ok(begin, end).and_then(|()| {
            state
                .usable()?
                .add_conflict_range(&from, &to, ConflictRangeType::Read)
                .map_err(error::of_read)
        });
        if let Err(error) = added {
            state.refused.get_or_insert(error);
        }
    }

    pub(in crate::store) fn add_write_conflict_range(&self, begin: &[u8], end: &[u8]) {
        self.write(range_ok(begin, end), |inner| {
            let (begin, end) = (self.prefixed(begin), self.prefixed(end));
            inner.add_conflict_range(&begin, &end, ConflictRangeType::Write)
        });
    }

    pub(in crate::store) fn watch(&self, key: &[u8], notify: Notify) {
        let mut state = self.state();
        let key = key_ok(key).map(|()| self.prefixed(key));
        let watch = key.and_then(|key| Ok(state.usable()?.watch(&key)));
        match watch {
            Ok(watch) => {
                let fired = self.handle.metrics.watches_fired.clone();
                tokio::spawn(async move {
                    let mut notify = notify;
                    tokio::select! {
                        // Whoever waited has gone: the watch need not stay armed.
                        () = notify.closed() => {}
                        result = watch => {
                            if result.is_ok() {
                                fired.inc();
                            }
                            let _ = notify.send(result.map_err(error::of_read));
                        }
                    }
                });
            }
            Err(error) => {
                state.refused.get_or_insert(error);
            }
        }
    }

    pub(in crate::store) fn is_read_only(&self) -> bool {
        !self.state().writes
    }

    pub(in crate::store) async fn commit(&self) -> Result<Option<Stamp>, StoreError> {
        let (inner, writes) = {
            let mut state = self.state();
            state.usable()?;
            (state.inner.take(), state.writes)
        };
        let inner = inner.ok_or(StoreError::Misuse("the transaction has ended"))?;
        let started = Instant::now();
        // Asked for before the commit, as the library wants it.
        let stamp = writes.then(|| inner.get_versionstamp());
        let committed = inner.commit().await;
        let metrics = &self.handle.metrics;
        if let Err(error) = committed {
            let error = error::of_commit(*error);
            match error {
                StoreError::TooOld => metrics.too_old.inc(),
                StoreError::Conflict => metrics.conflicts.inc(),
                _ => {}
            }
            return Err(error);
        }
        let Some(stamp) = stamp else {
            return Ok(None);
        };
        // Known as soon as the commit is.
        let stamp = stamp.await.map_err(error::of_commit)?;
        metrics.commits.inc();
        metrics
            .commit_seconds
            .observe(started.elapsed().as_secs_f64());
        Stamp::try_from(&stamp[..])
            .map(Some)
            .map_err(|_| StoreError::Unavailable("a versionstamp is not 10 bytes long".into()))
    }
}

/// As `FoundationDB` wants it since API 520: the offset follows in four bytes, little-endian.
fn with_offset(mut bytes: Vec<u8>, offset: usize) -> Vec<u8> {
    let offset = u32::try_from(offset).expect("keys and values are far shorter");
    bytes.extend_from_slice(&offset.to_le_bytes());
    bytes
}
