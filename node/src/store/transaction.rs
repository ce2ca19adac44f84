//! A transaction of whatever engine.

use tokio::sync::oneshot;
use whimbrel_replication::id::Stamp;

#[cfg(feature = "foundationdb")]
use super::foundationdb;
use super::{Atomic, Faulty, Page, RangeOptions, StoreError, Value, Watch, embedded};

/// One attempt to read and write. Dropped without a commit it leaves no trace.
///
/// A limit or a misuse in a call that returns nothing fails the commit and all later reads.
#[derive(Debug)]
pub struct Transaction {
    pub(super) engine: Engine,
    pub(super) faulty: Option<Faulty>,
}

#[derive(Debug)]
pub(super) enum Engine {
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

    /// Removes all keys of `begin..end`; at most [`CLEARED_KEYS_MAX`](super::limits::CLEARED_KEYS_MAX) in a transaction.
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
