//! The transactional store below everything: `FoundationDB`'s semantics, whatever the engine.
//!
//! Transactions are serializable and optimistic. They read a view that is fixed when they begin,
//! see their own pending writes, and are checked at commit: when something that they read was
//! written since, they fail with [`StoreError::Conflict`] and are run again. Snapshot reads are
//! left out of that check. Every commit that writes has a [`Stamp`]; stamps are unique and grow in
//! commit order, across restarts too.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use rand::Rng as _;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;
use whimbrel_replication::id::Stamp;

mod check;
pub mod embedded;
mod error;
pub mod faulty;
#[cfg(feature = "foundationdb")]
pub mod foundationdb;
mod health;
pub mod keys;
pub mod limits;
mod metrics;
mod scan;

pub use embedded::Embedded;
pub use error::StoreError;
pub use faulty::Faulty;
#[cfg(feature = "foundationdb")]
pub use foundationdb::FoundationDb;
pub use health::Health;
pub use metrics::Metrics;

/// A key as it was read. A copy: a slice of a block would keep all of the block in memory.
pub type Key = Bytes;
/// A value as it was read.
pub type Value = Bytes;

/// First wait before another attempt; each further one doubles, up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(1);
const BACKOFF_MAX: Duration = Duration::from_millis(200);

/// A handle on the store; clones are the same store.
#[derive(Clone, Debug)]
pub enum Store {
    /// In this process, on local disk.
    Embedded(Embedded),
    /// A `FoundationDB` cluster.
    #[cfg(feature = "foundationdb")]
    FoundationDb(FoundationDb),
    /// Another store whose commits fail on purpose.
    Faulty(Faulty),
}

/// How long [`Store::run`] tries.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions {
    /// How long the caller waits, over all attempts. A commit that is under way then may still
    /// succeed: [`StoreError::Abandoned`].
    pub timeout: Duration,
    /// Attempts after which the last error is given back.
    pub attempts: u32,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            attempts: 100,
        }
    }
}

/// What a transaction gave, once it was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed<T> {
    /// What its closure returned.
    pub value: T,
    /// Its place in the commit order; `None` if it wrote nothing.
    pub stamp: Option<Stamp>,
}

/// How to read a range.
#[derive(Clone, Copy, Debug)]
pub struct RangeOptions {
    /// Rows at which the page ends; above zero. Default: no limit.
    pub limit: usize,
    /// Bytes of keys and values at which the page ends; it holds one row at least. Default:
    /// [`limits::RANGE_BYTES`].
    pub bytes: usize,
    /// From the end to the begin.
    pub reverse: bool,
    /// Without a read conflict.
    pub snapshot: bool,
}

impl Default for RangeOptions {
    fn default() -> Self {
        Self {
            limit: usize::MAX,
            bytes: limits::RANGE_BYTES,
            reverse: false,
            snapshot: false,
        }
    }
}

/// A part of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In key order, or its reverse.
    pub rows: Vec<(Key, Value)>,
    /// Whether a limit ended the page. The rest of the range may be empty all the same; it starts
    /// at [`key_after`] of the last row's key, or in reverse ends at that key.
    pub more: bool,
}

/// The smallest key above `key`.
pub fn key_after(key: &[u8]) -> Vec<u8> {
    let mut after = Vec::with_capacity(key.len() + 1);
    after.extend_from_slice(key);
    after.push(0);
    after
}

/// A change that is computed at commit from the value that stands there then, so that it causes
/// no read conflict. A missing value counts as the operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Atomic {
    /// Little-endian sum, of the operand's length, wrapping.
    Add,
    /// The greater in byte order.
    ByteMax,
    /// The smaller in byte order.
    ByteMin,
}

impl Atomic {
    /// The new value.
    pub fn apply(self, old: Option<&[u8]>, operand: &[u8]) -> Value {
        let Some(old) = old else {
            return Bytes::copy_from_slice(operand);
        };
        match self {
            Self::Add => {
                let mut carry = 0;
                let sum: Vec<u8> = operand
                    .iter()
                    .zip(old.iter().chain(std::iter::repeat(&0)))
                    .map(|(a, b)| {
                        let sum = u16::from(*a) + u16::from(*b) + carry;
                        carry = sum >> 8;
                        sum.to_le_bytes()[0]
                    })
                    .collect();
                sum.into()
            }
            Self::ByteMax => Bytes::copy_from_slice(old.max(operand)),
            Self::ByteMin => Bytes::copy_from_slice(old.min(operand)),
        }
    }
}

/// Answers a watch.
type Notify = oneshot::Sender<Result<(), StoreError>>;

/// Resolves once a key's value is no longer what its transaction saw or wrote. It is armed when
/// the transaction commits. An error says that it will never fire: poll instead, and watch again.
#[derive(Debug)]
#[must_use = "a watch does nothing unless awaited"]
pub struct Watch(oneshot::Receiver<Result<(), StoreError>>);

impl Future for Watch {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|result| {
            result.unwrap_or_else(|_| {
                Err(StoreError::Unavailable(
                    "the watch's transaction was not committed, or the store was closed".into(),
                ))
            })
        })
    }
}

impl Store {
    /// Begins a transaction. Its view is what is committed now, or by its first read at the latest.
    ///
    /// # Errors
    ///
    /// [`StoreError::Fatal`] once the engine has stopped.
    pub fn begin(&self) -> Result<Transaction, StoreError> {
        match self {
            Self::Embedded(store) => Ok(Transaction {
                engine: Engine::Embedded(store.begin()?),
                faulty: None,
            }),
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(store) => Ok(Transaction {
                engine: Engine::FoundationDb(store.begin()?),
                faulty: None,
            }),
            Self::Faulty(faulty) => Ok(Transaction {
                faulty: Some(faulty.clone()),
                ..faulty.inner().begin()?
            }),
        }
    }

    /// Runs `f` in transactions until one is committed.
    ///
    /// It runs in a task of its own: when the caller goes away, or has waited for
    /// [`RunOptions::timeout`], what was begun is still ended. `f` may run several times, also
    /// after an attempt that was committed without our knowing ([`StoreError::Unknown`]): it has
    /// to read something that tells.
    ///
    /// # Errors
    ///
    /// That of the last attempt, or [`StoreError::Unknown`] if an earlier one may have been
    /// committed; [`StoreError::Abandoned`] after the timeout.
    ///
    /// # Panics
    ///
    /// When `f` does.
    pub async fn run<T, F, Fut>(&self, opts: RunOptions, f: F) -> Result<Committed<T>, StoreError>
    where
        F: Fn(Arc<Transaction>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, StoreError>> + Send + 'static,
        T: Send + 'static,
    {
        let store = self.clone();
        let deadline = Instant::now() + opts.timeout;
        let attempts = async move { store.attempts(opts.attempts, deadline, &f).await };
        let task = self.tasks().spawn(attempts.in_current_span());
        match tokio::time::timeout_at(deadline, task).await {
            Ok(Ok(result)) => result,
            Ok(Err(end)) if end.is_panic() => std::panic::resume_unwind(end.into_panic()),
            // The runtime shuts down, or the caller has waited enough.
            Ok(Err(_)) | Err(_) => Err(StoreError::Abandoned),
        }
    }

    /// Runs `f`, which only reads, until it has seen one view from begin to end; its watches are
    /// armed then. Unlike [`Store::run`] it ends when the caller goes away.
    ///
    /// # Errors
    ///
    /// That of the last attempt; [`StoreError::Misuse`] if `f` writes.
    pub async fn read<T, F, Fut>(&self, opts: RunOptions, f: F) -> Result<T, StoreError>
    where
        F: Fn(Arc<Transaction>) -> Fut,
        Fut: Future<Output = Result<T, StoreError>>,
    {
        let deadline = Instant::now() + opts.timeout;
        let reads = |transaction: Arc<Transaction>| {
            let result = f(transaction.clone());
            async move {
                let value = result.await?;
                if transaction.is_read_only() {
                    Ok(value)
                } else {
                    Err(StoreError::Misuse("a read transaction has written"))
                }
            }
        };
        match tokio::time::timeout_at(deadline, self.attempts(opts.attempts, deadline, &reads))
            .await
        {
            Ok(result) => result.map(|committed| committed.value),
            Err(_) => Err(StoreError::Unavailable("not read in time".into())),
        }
    }

    /// Waits until no task of [`Store::run`] is left.
    pub async fn drain(&self) {
        self.tasks().wait().await;
    }

    /// Waits until the engine has stopped for good. The process should exit then.
    pub async fn failed(&self) -> StoreError {
        let mut store = self;
        loop {
            match store {
                Self::Embedded(store) => return store.failed().await,
                // It comes back by itself.
                #[cfg(feature = "foundationdb")]
                Self::FoundationDb(_) => std::future::pending().await,
                Self::Faulty(faulty) => store = faulty.inner(),
            }
        }
    }

    /// What the engine has counted.
    pub fn metrics(&self) -> &Metrics {
        match self {
            Self::Embedded(store) => store.metrics(),
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(store) => store.metrics(),
            Self::Faulty(faulty) => faulty.inner().metrics(),
        }
    }

    /// Bytes on disk, as of the last second or so; `None` where the engine keeps them elsewhere.
    pub fn disk_bytes(&self) -> Option<u64> {
        match self {
            Self::Embedded(store) => Some(store.disk_bytes()),
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(_) => None,
            Self::Faulty(faulty) => faulty.inner().disk_bytes(),
        }
    }

    /// What operators call it.
    pub fn engine(&self) -> &'static str {
        match self {
            Self::Embedded(_) => "embedded",
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(_) => "foundationdb",
            Self::Faulty(faulty) => faulty.inner().engine(),
        }
    }

    /// Whether other nodes may use the same store.
    pub fn is_shared(&self) -> bool {
        match self {
            Self::Embedded(_) => false,
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(_) => true,
            Self::Faulty(faulty) => faulty.inner().is_shared(),
        }
    }

    /// How the cluster below is; `None` where the engine is part of this process.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if it does not answer.
    #[cfg_attr(
        not(feature = "foundationdb"),
        expect(clippy::unused_async, reason = "the other engine waits")
    )]
    pub async fn health(&self) -> Result<Option<Health>, StoreError> {
        let mut store = self;
        loop {
            match store {
                Self::Embedded(_) => return Ok(None),
                #[cfg(feature = "foundationdb")]
                Self::FoundationDb(store) => return store.health().await.map(Some),
                Self::Faulty(faulty) => store = faulty.inner(),
            }
        }
    }

    fn tasks(&self) -> &TaskTracker {
        match self {
            Self::Embedded(store) => store.tasks(),
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(store) => store.tasks(),
            Self::Faulty(faulty) => faulty.inner().tasks(),
        }
    }

    async fn attempts<T, F, Fut>(
        &self,
        attempts: u32,
        deadline: Instant,
        f: &F,
    ) -> Result<Committed<T>, StoreError>
    where
        F: Fn(Arc<Transaction>) -> Fut,
        Fut: Future<Output = Result<T, StoreError>>,
    {
        let mut maybe_committed = false;
        let mut backoff = BACKOFF_MIN;
        let mut attempt = 1;
        loop {
            let error = match self.attempt(f).await {
                Ok(committed) => return Ok(committed),
                Err(error) => error,
            };
            if error == StoreError::Unknown {
                maybe_committed = true;
                self.metrics().unknown.inc();
            }
            let wait = backoff.mul_f64(rand::rng().random_range(0.5..1.0));
            let over = attempt >= attempts || Instant::now() + wait >= deadline;
            if over || !error.is_retryable() {
                // What ends a later attempt must not read as "nothing happened".
                return Err(match error {
                    StoreError::Fatal(_) => error,
                    _ if maybe_committed => StoreError::Unknown,
                    _ => error,
                });
            }
            self.metrics().retries.inc();
            tokio::time::sleep(wait).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
            attempt += 1;
        }
    }

    async fn attempt<T, F, Fut>(&self, f: &F) -> Result<Committed<T>, StoreError>
    where
        F: Fn(Arc<Transaction>) -> Fut,
        Fut: Future<Output = Result<T, StoreError>>,
    {
        let transaction = Arc::new(self.begin()?);
        let value = f(transaction.clone()).await?;
        let stamp = transaction.commit().await?;
        Ok(Committed { value, stamp })
    }
}

/// One attempt to read and write. Dropped without a commit it leaves no trace.
///
/// A limit or a misuse in a call that returns nothing fails the commit and all later reads.
#[derive(Debug)]
pub struct Transaction {
    engine: Engine,
    faulty: Option<Faulty>,
}

#[derive(Debug)]
enum Engine {
    Embedded(embedded::Transaction),
    #[cfg(feature = "foundationdb")]
    FoundationDb(foundationdb::Transaction),
}

impl Transaction {
    /// The value of `key`.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooOld`]; [`StoreError::Misuse`] where a versionstamp is pending.
    pub async fn get(&self, key: &[u8], snapshot: bool) -> Result<Option<Value>, StoreError> {
        match &self.engine {
            Engine::Embedded(transaction) => {
                // The read itself never waits; without this a long transaction would hold its
                // worker thread.
                tokio::task::consume_budget().await;
                transaction.get(key, snapshot)
            }
            #[cfg(feature = "foundationdb")]
            Engine::FoundationDb(transaction) => transaction.get(key, snapshot).await,
        }
    }

    /// The first rows of `begin..end`. What the page covers is read, the transaction's own keys too.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooOld`]; [`StoreError::Misuse`] where a versionstamp is pending in the range.
    pub async fn range(
        &self,
        begin: &[u8],
        end: &[u8],
        opts: RangeOptions,
    ) -> Result<Page, StoreError> {
        match &self.engine {
            Engine::Embedded(transaction) => {
                tokio::task::consume_budget().await;
                transaction.range(begin, end, opts)
            }
            #[cfg(feature = "foundationdb")]
            Engine::FoundationDb(transaction) => transaction.range(begin, end, opts).await,
        }
    }

    /// Sets `key` to `value`.
    pub fn set(&self, key: &[u8], value: &[u8]) {
        match &self.engine {
            Engine::Embedded(transaction) => transaction.set(key, value),
            #[cfg(feature = "foundationdb")]
            Engine::FoundationDb(transaction) => transaction.set(key, value),
        }
    }

    /// Removes `key`.
    pub fn clear(&self, key: &[u8]) {
        match &self.engine {
            Engine::Embedded(transaction) => transaction.clear(key),
            #[cfg(feature = "foundationdb")]
            Engine::FoundationDb(transaction) => transaction.clear(key),
        }
    }

    /// Removes all keys of `begin..end`; at most [`limits::CLEARED_KEYS_MAX`] in a transaction.
    pub fn clear_range(&self, begin: &[u8], end: &[u8]) {
        match &self.engine {
            Engine::Embedded(transaction) => transaction.clear_range(begin, end),
            #[cfg(feature = "foundationdb")]
            Engine::FoundationDb(transaction) => transaction.clear_range(begin, end),
        }
    }

    /// Changes `key` at commit, without a read conflict.
    pub fn atomic(&self, atomic: Atomic, key: &[u8], operand: &[u8]) {
        match &self.engine {
            Engine::Embedded(transaction) => transaction.atomic(atomic, key, operand),
            #[cfg(feature = "foundationdb")]
            Engine::FoundationDb(transaction) => transaction.atomic(atomic, key, operand),
        }
    }

    /// Sets a key whose bytes `offset..offset + 10` become the commit's stamp.
    pub fn set_versionstamped_key(&self, key: Vec<u8>, offset: usize, value: &[u8]) {
        match &self.engine {
            Engine::Embedded(transaction) => transaction.set_versionstamped_key(key, offset, value),
            #[cfg(feature = "foundationdb")]
            Engine::FoundationDb(transaction) => {
                transaction.set_versionstamped_key(&key, offset, value);
            }
        }
    }

    /// Sets `key` to a value whose bytes `offset..offset + 10` become the commit's stamp.
    pub fn set_versionstamped_value(&self, key: &[u8], value: Vec<u8>, offset: usize) {
        match &self.engine {
            Engine::Embedded(transaction) => {
                transaction.set_versionstamped_value(key, value, offset);
            }
            #[cfg(feature = "foundationdb")]
            Engine::FoundationDb(transaction) => {
                transaction.set_versionstamped_value(key, value, offset);
            }
        }
    }

    /// As if `begin..end` had been read.
    pub fn add_read_conflict_range(&self, begin: &[u8], end: &[u8]) {
        match &self.engine {
            Engine::Embedded(transaction) => transaction.add_read_conflict_range(begin, end),
            #[cfg(feature = "foundationdb")]
            Engine::FoundationDb(transaction) => transaction.add_read_conflict_range(begin, end),
        }
    }

    /// As if `begin..end` had been written.
    pub fn add_write_conflict_range(&self, begin: &[u8], end: &[u8]) {
        match &self.engine {
            Engine::Embedded(transaction) => transaction.add_write_conflict_range(begin, end),
            #[cfg(feature = "foundationdb")]
            Engine::FoundationDb(transaction) => transaction.add_write_conflict_range(begin, end),
        }
    }

    /// Watches `key` from this transaction's commit on; a transaction that only reads is to be
    /// committed too for that. For one that writes it counts as a read of the key.
    pub fn watch(&self, key: &[u8]) -> Watch {
        let (notify, watch) = oneshot::channel();
        match &self.engine {
            Engine::Embedded(transaction) => transaction.watch(key, notify),
            #[cfg(feature = "foundationdb")]
            Engine::FoundationDb(transaction) => transaction.watch(key, notify),
        }
        Watch(watch)
    }

    /// Whether nothing was written so far.
    pub fn is_read_only(&self) -> bool {
        match &self.engine {
            Engine::Embedded(transaction) => transaction.is_read_only(),
            #[cfg(feature = "foundationdb")]
            Engine::FoundationDb(transaction) => transaction.is_read_only(),
        }
    }

    /// Makes all writes durable and visible at once, or none; once.
    ///
    /// When this future is dropped the transaction may or may not be committed.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`]; only after [`StoreError::Unknown`], [`StoreError::Abandoned`] and
    /// [`StoreError::Fatal`] may it be committed all the same.
    pub async fn commit(&self) -> Result<Option<Stamp>, StoreError> {
        match &self.faulty {
            None => self.commit_now().await,
            Some(faulty) => faulty.commit(self.commit_now()).await,
        }
    }

    async fn commit_now(&self) -> Result<Option<Stamp>, StoreError> {
        match &self.engine {
            Engine::Embedded(transaction) => transaction.commit().await,
            #[cfg(feature = "foundationdb")]
            Engine::FoundationDb(transaction) => transaction.commit().await,
        }
    }
}
