//! What an engine counts.

use prometheus::{Histogram, HistogramOpts, IntCounter, Registry, exponential_buckets};

/// Counters of one engine; all clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Transactions that were written.
    pub commits: IntCounter,
    /// Transactions refused because what they read had changed.
    pub conflicts: IntCounter,
    /// Transactions refused because their view was gone.
    pub too_old: IntCounter,
    /// Commits whose outcome was not told.
    pub unknown: IntCounter,
    /// Attempts that were run again.
    pub retries: IntCounter,
    /// Watches that fired.
    pub watches_fired: IntCounter,
    /// Seconds of one read; only where it goes over the network.
    pub read_seconds: Histogram,
    /// Transactions in one journal write; its count is the number of groups. Embedded engine only.
    pub group_transactions: Histogram,
    /// Seconds from handing a transaction in to its answer.
    pub commit_seconds: Histogram,
    /// Seconds of one journal write with its `fdatasync`. Embedded engine only.
    pub sync_seconds: Histogram,
}

fn counter(name: &str, help: &str) -> IntCounter {
    IntCounter::new(name, help).expect("the name is a constant and valid")
}

fn histogram(name: &str, help: &str, start: f64, count: usize) -> Histogram {
    let buckets = exponential_buckets(start, 2.0, count).expect("start and count are positive");
    Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))
        .expect("the name is a constant and valid")
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            commits: counter("whimbrel_store_commits_total", "Transactions written"),
            conflicts: counter(
                "whimbrel_store_conflicts_total",
                "Transactions refused because what they read had changed",
            ),
            too_old: counter(
                "whimbrel_store_too_old_total",
                "Transactions refused because their view was gone",
            ),
            unknown: counter(
                "whimbrel_store_unknown_total",
                "Commits whose outcome was not told; they are looked for and run again",
            ),
            retries: counter(
                "whimbrel_store_retries_total",
                "Transactions that were run again",
            ),
            watches_fired: counter(
                "whimbrel_store_watches_fired_total",
                "Watches of keys that fired",
            ),
            read_seconds: histogram(
                "whimbrel_store_read_seconds",
                "One read of FoundationDB",
                0.000_25,
                14,
            ),
            group_transactions: histogram(
                "whimbrel_store_group_transactions",
                "Transactions in one journal write",
                1.0,
                9,
            ),
            commit_seconds: histogram(
                "whimbrel_store_commit_seconds",
                "From handing a transaction in to its answer",
                0.000_25,
                14,
            ),
            sync_seconds: histogram(
                "whimbrel_store_sync_seconds",
                "One journal write with its fdatasync",
                0.000_25,
                14,
            ),
        }
    }
}

impl Metrics {
    /// Adds all of them to `registry`.
    ///
    /// # Errors
    ///
    /// When `registry` holds one of the names already.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.commits.clone()))?;
        registry.register(Box::new(self.conflicts.clone()))?;
        registry.register(Box::new(self.too_old.clone()))?;
        registry.register(Box::new(self.unknown.clone()))?;
        registry.register(Box::new(self.retries.clone()))?;
        registry.register(Box::new(self.watches_fired.clone()))?;
        registry.register(Box::new(self.read_seconds.clone()))?;
        registry.register(Box::new(self.group_transactions.clone()))?;
        registry.register(Box::new(self.commit_seconds.clone()))?;
        registry.register(Box::new(self.sync_seconds.clone()))
    }
}
