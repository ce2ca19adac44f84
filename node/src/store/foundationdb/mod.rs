//! The `FoundationDB` engine: a region of several nodes over one cluster.
//!
//! As thin as the semantics allow, for they are `FoundationDB`'s own. What is added: all keys stand
//! under a prefix, so that stores can share a cluster; a page ends only at a limit of the caller;
//! and what the C library would answer by ending the process is refused before it is called.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use foundationdb::Database;
use foundationdb::options::DatabaseOption;
use tokio_util::task::TaskTracker;

use super::limits::PREFIX_BYTES_MAX;
use super::{Metrics, StoreError};

mod error;
mod network;
mod status;
mod transaction;

pub use network::{Tls, stop};
pub(super) use transaction::Transaction;

/// Where the cluster is, and which part of it belongs to the store.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cluster file. Its folder must be writable: the client keeps the file up to date.
    pub cluster_file: PathBuf,
    /// Stands before all keys; at most [`PREFIX_BYTES_MAX`] bytes, and no prefix of another's.
    pub prefix: Vec<u8>,
    /// Certificates towards the cluster. The same for all stores of a process.
    pub tls: Option<Tls>,
    /// Age at which a transaction is given up, default 8 s. A view can be read for five; a commit that
    /// was under way when the cluster lost a process is told what became of it after the recovery.
    pub timeout: Duration,
}

impl Options {
    /// With the defaults for what is not given.
    pub fn new(cluster_file: impl Into<PathBuf>) -> Self {
        Self {
            cluster_file: cluster_file.into(),
            prefix: Vec::new(),
            tls: None,
            timeout: Duration::from_secs(8),
        }
    }
}

/// Handle on a store in a cluster; clones are the same store.
#[derive(Clone)]
pub struct FoundationDb(Arc<Handle>);

struct Handle {
    database: Database,
    prefix: Vec<u8>,
    metrics: Metrics,
    tasks: TaskTracker,
}

impl Drop for Handle {
    fn drop(&mut self) {
        network::stop_at_exit();
    }
}

impl fmt::Debug for FoundationDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FoundationDb")
            .field("prefix", &self.0.prefix.escape_ascii().to_string())
            .finish_non_exhaustive()
    }
}

impl FoundationDb {
    /// Gets ready to use a cluster, which need not be reachable: transactions fail until it is.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the cluster file cannot be used, or the client library not be
    /// started; [`StoreError::TooLarge`] for the prefix.
    pub fn open(options: &Options) -> Result<Self, StoreError> {
        if options.prefix.len() > PREFIX_BYTES_MAX {
            return Err(StoreError::TooLarge("prefix"));
        }
        network::start(options.tls.as_ref())?;
        let file = options.cluster_file.display().to_string();
        let unusable = |why: &dyn fmt::Display| {
            StoreError::Unavailable(format!("the cluster file {file} cannot be used: {why}").into())
        };
        // The library waits for a file that is not there.
        std::fs::read(&options.cluster_file).map_err(|error| unusable(&error))?;
        let database = Database::from_path(&file).map_err(|error| unusable(&error))?;
        let timeout = i32::try_from(options.timeout.as_millis()).unwrap_or(i32::MAX);
        for option in [
            DatabaseOption::TransactionTimeout(timeout),
            // `Store::run` tries again, for it knows what an unknown outcome means.
            DatabaseOption::TransactionRetryLimit(0),
        ] {
            database
                .set_option(option)
                .map_err(|error| unusable(&error))?;
        }
        let tasks = TaskTracker::new();
        // So that its `wait` ends as soon as it is empty; it takes tasks all the same.
        tasks.close();
        Ok(Self(Arc::new(Handle {
            database,
            prefix: options.prefix.clone(),
            metrics: Metrics::default(),
            tasks,
        })))
    }

    pub(super) fn begin(&self) -> Result<Transaction, StoreError> {
        let inner = self.0.database.create_trx().map_err(error::of_read)?;
        Ok(Transaction::new(self.0.clone(), inner))
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(super) fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }
}
