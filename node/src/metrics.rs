//! What an operator asks at 3 a.m., for Prometheus.

use std::time::Duration;

use crate::store::Store;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

/// All metrics of a node.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Requests by route, method and status.
    pub requests: IntCounterVec,
    /// Seconds that requests took, by route and method.
    pub request_seconds: HistogramVec,
    /// Requests that were shed because too many were under way.
    pub shed: IntCounter,
    /// Requests under way.
    pub in_flight: IntGauge,
    /// Commands per committed batch.
    pub batch_commands: Histogram,
    /// Seconds from taking a batch up to its commit.
    pub batch_seconds: Histogram,
    /// Events rendered for sessions.
    pub events_handed_out: IntCounter,
    /// Looks at a log's tail because nothing had woken its reader for a second.
    pub tail_polls: IntCounter,
    /// Open streams.
    pub streams: IntGauge,
    /// Streams closed because their reader was too slow.
    pub streams_too_slow: IntCounter,
    /// Stamps of other regions that were beyond the drift bound and left the clock alone.
    pub stamps_beyond_drift: IntCounter,
    /// Batches of other regions that were applied, by origin region.
    pub applied_batches: IntCounterVec,
    /// Batches that came again and were left out, by peer.
    pub duplicate_batches: IntGaugeVec,
    /// Batches that were dropped and asked for again, by peer.
    pub dropped_batches: IntGaugeVec,
    /// Frames and batches that were refused, by peer.
    pub rejected: IntGaugeVec,
    /// Logs that stopped because a batch cannot be applied.
    pub stopped_logs: IntGauge,
    /// Is the link that pulls from, or serves, a peer up?
    pub link_up: IntGaugeVec,
    /// Seconds since the oldest op that a peer lacks was committed here.
    pub lag_seconds: prometheus::GaugeVec,
    /// Batches that a peer lacks.
    pub lag_batches: IntGaugeVec,
    /// Ops that a peer is not known to hold.
    pub lag_ops: IntGaugeVec,
    /// Bytes of our log that a peer is not known to hold.
    pub lag_bytes: IntGaugeVec,
    /// A peer's wall clock against ours, in milliseconds.
    pub clock_offset_ms: IntGaugeVec,
    /// Can our own wall clock be trusted?
    pub clock_right: IntGauge,
    /// Does the store answer?
    pub store_up: IntGauge,
    /// What the cluster below the store says of itself, by measure.
    pub store_cluster: prometheus::GaugeVec,
    /// Rows of snapshots that were merged here.
    pub snapshot_rows: IntCounter,
    /// Shards whose snapshot is under way here.
    pub snapshots_under_way: IntGauge,
    /// Batches that were trimmed from the logs.
    pub trimmed_batches: IntCounter,
    /// Logs that could not be trimmed.
    pub untrimmed_logs: IntGauge,
    /// Since when, in seconds since 1970, something is trimmed and not merged out of the tables; 0: nothing.
    pub gone_since: IntGauge,
    /// Nodes of this region that run.
    pub nodes: IntGauge,
    /// Shards that this node pulls from other regions.
    pub pulled_shards: IntGauge,
    /// Bytes of the store on disk.
    pub store_disk_bytes: IntGauge,
    /// Bytes that the store may still write to its disk.
    pub disk_free_bytes: IntGauge,
    /// Bytes of the disk that holds the store.
    pub disk_size_bytes: IntGauge,
    /// Days until the certificate towards other regions is no longer valid.
    pub certificate_days_left: prometheus::Gauge,
    /// Days until the certificate towards the store is no longer valid; nothing where there is none.
    pub store_certificate_days_left: prometheus::GaugeVec,
    /// Conversations that an audit compared with a peer.
    pub audit_compared: IntCounterVec,
    /// Those that the peer shows otherwise.
    pub audit_mismatches: IntCounterVec,
    /// Those of them for which all that the peer knows was merged.
    pub audit_repaired: IntCounterVec,
    /// When an audit last came to the end with a peer, in Unix seconds.
    pub audit_walked: IntGaugeVec,
    /// The format of batches that is written: what all nodes of all regions are known to read.
    pub feature_level: IntGauge,
    /// Is the node ready to serve?
    pub ready: IntGauge,
}

const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    ///
    /// Two metrics of one name: a bug that every start shows.
    pub fn new(region: &str, store: &Store) -> Result<Self, prometheus::Error> {
        let labels = [("region".to_owned(), region.to_owned())].into();
        let registry = Registry::new_custom(None, Some(labels))?;
        store.metrics().register(&registry)?;
        let r = &registry;
        let version = Opts::new("whimbrel_build_info", "1; the version of the program.");
        register(r, IntGaugeVec::new(version, &["version"]))?
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        Ok(Self {
            requests: register(
                r,
                IntCounterVec::new(
                    Opts::new(
                        "whimbrel_http_requests_total",
                        "Requests by route, method and status.",
                    ),
                    &["route", "method", "status"],
                ),
            )?,
            request_seconds: register(
                r,
                HistogramVec::new(
                    HistogramOpts::new(
                        "whimbrel_http_request_seconds",
                        "Seconds that requests took.",
                    )
                    .buckets(SECONDS.to_vec()),
                    &["route", "method"],
                ),
            )?,
            shed: counter(
                r,
                "whimbrel_http_shed_total",
                "Requests shed: too many were under way.",
            )?,
            in_flight: gauge(r, "whimbrel_http_in_flight", "Requests under way.")?,
            batch_commands: register(
                r,
                Histogram::with_opts(
                    HistogramOpts::new("whimbrel_batch_commands", "Commands per committed batch.")
                        .buckets(vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0]),
                ),
            )?,
            batch_seconds: register(
                r,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "whimbrel_batch_commit_seconds",
                        "Seconds to commit a batch.",
                    )
                    .buckets(SECONDS.to_vec()),
                ),
            )?,
            events_handed_out: counter(
                r,
                "whimbrel_events_total",
                "Events rendered for sessions.",
            )?,
            tail_polls: counter(
                r,
                "whimbrel_tail_polls_total",
                "Looks at a log's tail because nothing had woken its reader.",
            )?,
            streams: gauge(r, "whimbrel_streams", "Open streams.")?,
            streams_too_slow: counter(
                r,
                "whimbrel_streams_too_slow_total",
                "Streams closed because their reader was too slow.",
            )?,
            stamps_beyond_drift: counter(
                r,
                "whimbrel_hlc_beyond_drift_total",
                "Stamps of other regions beyond the drift bound; they left the clock alone.",
            )?,
            applied_batches: register(
                r,
                IntCounterVec::new(
                    Opts::new(
                        "whimbrel_replication_applied_batches_total",
                        "Batches applied, by origin.",
                    ),
                    &["origin"],
                ),
            )?,
            duplicate_batches: peers(
                r,
                "whimbrel_replication_duplicate_batches",
                "Batches that came again and were left out.",
            )?,
            dropped_batches: peers(
                r,
                "whimbrel_replication_dropped_batches",
                "Batches that were dropped and asked for again: a gap before them, or no room.",
            )?,
            rejected: peers(
                r,
                "whimbrel_replication_rejected",
                "Frames that were refused, and batches that cannot be read.",
            )?,
            stopped_logs: gauge(
                r,
                "whimbrel_replication_stopped_logs",
                "Logs (shard, origin) stopped at a batch that cannot be applied.",
            )?,
            link_up: register(
                r,
                IntGaugeVec::new(
                    Opts::new("whimbrel_replication_link_up", "Is the link up?"),
                    &["peer", "role"],
                ),
            )?,
            lag_seconds: register(
                r,
                prometheus::GaugeVec::new(
                    Opts::new(
                        "whimbrel_replication_lag_seconds",
                        "Age of the oldest op that the peer is not known to hold.",
                    ),
                    &["peer"],
                ),
            )?,
            lag_batches: peers(
                r,
                "whimbrel_replication_lag_batches",
                "Batches that the peer is not known to hold.",
            )?,
            lag_ops: peers(
                r,
                "whimbrel_replication_lag_ops",
                "Ops that the peer is not known to hold.",
            )?,
            lag_bytes: peers(
                r,
                "whimbrel_replication_lag_bytes",
                "Bytes of the own log that the peer is not known to hold.",
            )?,
            clock_offset_ms: peers(
                r,
                "whimbrel_peer_clock_offset_milliseconds",
                "The peer's wall clock minus ours.",
            )?,
            clock_right: gauge(
                r,
                "whimbrel_clock_right",
                "Whether this node's wall clock agrees with most regions; 0: it takes no writes.",
            )?,
            store_up: gauge(r, "whimbrel_store_up", "Whether the store answers.")?,
            store_cluster: register(
                r,
                prometheus::GaugeVec::new(
                    Opts::new(
                        "whimbrel_store_cluster",
                        "What FoundationDB says of itself: available and healthy (1 or 0), \
                         zones_to_lose_availability, zones_to_lose_data, worst_queue_bytes, \
                         limited (1 if anything but the workload limits it), \
                         least_free_disk_ratio, backups_running and backup_behind_seconds.",
                    ),
                    &["measure"],
                ),
            )?,
            snapshot_rows: counter(
                r,
                "whimbrel_snapshot_rows_total",
                "Rows of snapshots that were merged here.",
            )?,
            snapshots_under_way: gauge(
                r,
                "whimbrel_snapshots_under_way",
                "Shards whose snapshot is being taken; the region serves nobody meanwhile.",
            )?,
            trimmed_batches: counter(
                r,
                "whimbrel_trimmed_batches_total",
                "Batches trimmed from the logs.",
            )?,
            untrimmed_logs: gauge(
                r,
                "whimbrel_untrimmed_logs",
                "Logs that could not be trimmed when last tried, because a row of them cannot be read.",
            )?,
            gone_since: gauge(
                r,
                "whimbrel_store_unmerged_since_timestamp_seconds",
                "Since when something is trimmed that is not merged out of the tables; 0: nothing is.",
            )?,
            nodes: gauge(r, "whimbrel_nodes", "Nodes of this region that run.")?,
            pulled_shards: gauge(
                r,
                "whimbrel_pulled_shards",
                "Shards that this node pulls from other regions.",
            )?,
            store_disk_bytes: gauge(
                r,
                "whimbrel_store_disk_bytes",
                "Bytes of the store on disk.",
            )?,
            disk_free_bytes: gauge(
                r,
                "whimbrel_disk_free_bytes",
                "Bytes free for this node on the disk of its data_dir.",
            )?,
            disk_size_bytes: gauge(
                r,
                "whimbrel_disk_size_bytes",
                "Bytes of the disk of this node's data_dir.",
            )?,
            certificate_days_left: register(
                r,
                prometheus::Gauge::new(
                    "whimbrel_certificate_days_left",
                    "Days until this node's certificate, as read at its start, is no longer valid.",
                ),
            )?,
            store_certificate_days_left: register(
                r,
                prometheus::GaugeVec::new(
                    Opts::new(
                        "whimbrel_store_certificate_days_left",
                        "Days until this node's certificate towards FoundationDB, as read at its \
                         start, is no longer valid.",
                    ),
                    &[],
                ),
            )?,
            audit_compared: by_peer(
                r,
                "whimbrel_audit_compared_total",
                "Conversations that an audit compared with a peer.",
            )?,
            audit_mismatches: by_peer(
                r,
                "whimbrel_audit_mismatches_total",
                "Conversations that a peer shows otherwise, though it took in the same.",
            )?,
            audit_repaired: by_peer(
                r,
                "whimbrel_audit_repaired_total",
                "Conversations that differed, and for which all that the peer knows was merged.",
            )?,
            audit_walked: peers(
                r,
                "whimbrel_audit_walked_timestamp_seconds",
                "When an audit last came to the end with a peer, or this node started.",
            )?,
            feature_level: gauge(
                r,
                "whimbrel_feature_level",
                "The format of batches that is written: what all nodes of all regions read.",
            )?,
            ready: gauge(r, "whimbrel_ready", "Is the node ready to serve?")?,
            registry,
        })
    }

    /// Counts a committed batch.
    pub fn batch_committed(&self, commands: usize, took: Duration) {
        self.batch_commands.observe(commands as f64);
        self.batch_seconds.observe(took.as_secs_f64());
    }

    /// In Prometheus' text format.
    pub fn render(&self) -> String {
        let mut out = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut out) {
            tracing::error!(%error, "metrics cannot be rendered");
        }
        String::from_utf8_lossy(&out).into_owned()
    }
}

fn register<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    collector: Result<C, prometheus::Error>,
) -> Result<C, prometheus::Error> {
    let collector = collector?;
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn counter(r: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    register(r, IntCounter::new(name, help))
}

fn gauge(r: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    register(r, IntGauge::new(name, help))
}

fn by_peer(r: &Registry, name: &str, help: &str) -> Result<IntCounterVec, prometheus::Error> {
    register(r, IntCounterVec::new(Opts::new(name, help), &["peer"]))
}

fn peers(r: &Registry, name: &str, help: &str) -> Result<IntGaugeVec, prometheus::Error> {
    register(r, IntGaugeVec::new(Opts::new(name, help), &["peer"]))
}
