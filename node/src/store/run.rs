//! Runs a closure in transactions until one is committed, or has seen one view.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::Rng as _;
use tokio::time::Instant;
use tracing::Instrument as _;
use whimbrel_replication::id::Stamp;

use super::{Store, StoreError, Transaction};

/// First wait before another attempt; each further one doubles, up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(1);
const BACKOFF_MAX: Duration = Duration::from_millis(200);

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

impl Store {
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

    /// [`Store::run`] of what may find, also after it has written, that nothing of it may be committed:
    /// what it gives as an error is the answer then, and all is rolled back.
    ///
    /// # Errors
    ///
    /// Those of [`Store::run`].
    ///
    /// # Panics
    ///
    /// When `f` does.
    pub async fn run_unless<T, E, F, Fut>(
        &self,
        opts: RunOptions,
        f: F,
    ) -> Result<Result<T, E>, StoreError>
    where
        F: Fn(Arc<Transaction>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Result<T, E>, StoreError>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let against = Arc::new(Mutex::new(None));
        let found = against.clone();
        let committed = self.run(opts, move |tx| {
            let (done, found) = (f(tx), found.clone());
            async move {
                done.await?.map_err(|error| {
                    *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    StoreError::RolledBack
                })
            }
        });
        let error = match committed.await {
            Ok(committed) => return Ok(Ok(committed.value)),
            Err(error) => error,
        };
        let mut against = against.lock().unwrap_or_else(PoisonError::into_inner);
        match against.take() {
            Some(found) if error == StoreError::RolledBack => Ok(Err(found)),
            _ => Err(error),
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
