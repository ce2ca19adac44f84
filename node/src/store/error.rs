//! Why a transaction failed.

use std::sync::Arc;

/// Why a transaction failed. The variants are what callers branch on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Something that it read has changed: run it again.
    #[error("the transaction conflicts with another")]
    Conflict,
    /// It began too long ago: run it again.
    #[error("the transaction is too old")]
    TooOld,
    /// It may or may not have been committed: running it again must notice if it was.
    #[error("the outcome of the commit is unknown")]
    Unknown,
    /// Nobody waits for it any more, but it may still be committed later.
    #[error("the transaction was not done in time and may still be committed")]
    Abandoned,
    /// The engine has too much to do at the moment: run it again.
    #[error("the store is busy: {0}")]
    Busy(&'static str),
    /// A limit was exceeded.
    #[error("too large: {0}")]
    TooLarge(&'static str),
    /// The engine cannot serve now.
    #[error("the store is unavailable: {0}")]
    Unavailable(Arc<str>),
    /// The engine has stopped for good and the process should too. What was being committed may
    /// or may not be there after the restart.
    #[error("the store has stopped: {0}")]
    Fatal(Arc<str>),
    /// It was given a new life while this node belonged to the old one. The process should be started
    /// anew; nothing was written.
    #[error("the store was given a new life; start this node anew")]
    NewLife,
    /// A snapshot of the shard is being taken: nothing can be written on top of what it brought so far.
    #[error("a snapshot of the shard is being taken")]
    Snapshot,
    /// Some region may not know yet what was to be written.
    #[error("not all regions run a version that knows this kind of write")]
    FeatureLevel,
    /// The transaction's closure decided that nothing of it is to be written.
    #[error("the transaction was rolled back")]
    RolledBack,
    /// A bug of the caller.
    #[error("misuse of the store: {0}")]
    Misuse(&'static str),
}

impl StoreError {
    /// Whether the engine as a whole is away, which is told elsewhere, once.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// Whether another attempt may succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Conflict | Self::TooOld | Self::Unknown | Self::Busy(_)
        )
    }
}
