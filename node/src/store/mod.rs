//! The transactional store below everything: `FoundationDB`'s semantics, whatever the engine.
//!
//! Transactions are serializable and optimistic. They read a view that is fixed when they begin,
//! see their own pending writes, and are checked at commit: when something that they read was
//! written since, they fail with [`StoreError::Conflict`] and are run again. Snapshot reads are
//! left out of that check. Every commit that writes has a [`Stamp`](whimbrel_replication::id::Stamp); stamps are unique and grow in
//! commit order, across restarts too.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

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
mod run;
mod scan;
mod transaction;

pub use embedded::Embedded;
pub use error::StoreError;
pub use faulty::Faulty;
#[cfg(feature = "foundationdb")]
pub use foundationdb::FoundationDb;
pub use health::Health;
pub use metrics::Metrics;
pub use run::{Committed, RunOptions};
use transaction::Engine;
pub use transaction::Transaction;

/// A key as it was read. A copy: a slice of a block would keep all of the block in memory.
pub type Key = Bytes;
/// A value as it was read.
pub type Value = Bytes;

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

    /// Lets what was deleted go from the disk, where that is not the engine's own affair. May take
    /// long; the store serves meanwhile. Whether it was done: not without room for all tables twice,
    /// nor while a transaction is held open for much longer than it can be used.
    pub async fn compact(&self) -> bool {
        match self {
            Self::Embedded(store) => store.compact().await,
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(_) => true,
            Self::Faulty(faulty) => Box::pin(faulty.inner().compact()).await,
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
}
