//! The config of a node: a TOML file, then the environment, then flags; checked once.
//!
//! What is checked here holds everywhere else: a [`Config`] cannot be wrong. All errors are found in
//! one go, each with its key, what is wrong, and what to do.

mod check;
mod read;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Env, Format as _, Toml};
use whimbrel_client::api::limits;
use whimbrel_replication::id::{ClusterId, RegionId};
use whimbrel_replication::quic::PeerAddress;

pub use check::check_region_name;

/// A checked config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The region of this node.
    pub region: Region,
    /// The cluster; the same on every node of every region.
    pub cluster: Cluster,
    /// What this node listens on.
    pub listen: Listen,
    /// Where this node keeps its files, those of the embedded store too. One process at a time.
    pub data_dir: PathBuf,
    /// Where the region keeps its data.
    pub store: Store,
    /// By what nodes of other regions know this one.
    pub tls: Tls,
    /// Who may call the API.
    pub auth: Auth,
    /// The hybrid logical clock.
    pub clock: Clock,
    /// What goes to other regions.
    pub replication: Replication,
    /// How long logs are kept.
    pub retention: Retention,
    /// Bounds of what clients send.
    pub limits: Limits,
    /// How the node stops.
    pub shutdown: Shutdown,
    /// The log output.
    pub log: Log,
    /// Spans of requests.
    pub traces: Traces,
}

/// A region of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its name, `^[a-z][a-z0-9-]{0,31}$`.
    pub name: String,
    /// Its number: above 0, never reused, not even after the region was removed.
    pub id: RegionId,
    /// Where clients reach it, without `/v1`.
    pub urls: Vec<String>,
    /// Where its nodes take links from other regions, `host:port`.
    pub quic: Vec<String>,
}

/// What all regions share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Made with the cluster.
    pub id: ClusterId,
    /// Shards, 1..=64, default 16; fixed once there is data. More: more conversations commit side by
    /// side, and tokens and cursors grow.
    pub shards: u16,
    /// All regions, in the order of the config.
    pub regions: Vec<Region>,
}

/// Local addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The public API.
    pub http: SocketAddr,
    /// Health, metrics and administration: no authentication, so never a public address.
    pub admin: SocketAddr,
    /// Links from other regions.
    pub quic: SocketAddr,
    /// Where clients reach this node, without `/v1`; by default the first of the region's URLs.
    pub url: String,
}

/// What goes to other regions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replication {
    /// `replication.format`, default the newest: batches of newer formats are neither read nor written.
    /// Older: what needs the newer format waits in all regions; hold it there during an upgrade, and the
    /// version before can take this one's place again.
    pub format: u32,
    /// `replication.audit_s`, default 600: seconds between the begins of two audits. Shorter: a difference
    /// is found sooner, and up to a tenth of a processor and of a disk is busy with it all the time.
    pub audit: Duration,
    /// `replication.nice`, default 0, at most 19: how much replication gives way to clients where
    /// processors are short, added to the niceness of the process (`nice(2)`). More: another region that catches up delays answers less, and
    /// under full load messages are seen later elsewhere.
    pub nice: u8,
}

/// `store.engine`: where a region keeps its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// In `data_dir`: a region of one node.
    Embedded,
    /// In a cluster of its own: a region of any number of nodes.
    FoundationDb(FoundationDb),
}

/// A region's FoundationDB cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundationDb {
    /// `store.cluster_file`. The client keeps it up to date: its folder must be writable.
    pub cluster_file: PathBuf,
    /// `store.prefix`, default `whimbrel/`: stands before all keys. Stores with different prefixes can
    /// share a cluster.
    pub prefix: String,
    /// `store.tls`: certificates towards the cluster.
    pub tls: Option<FoundationDbTls>,
}

/// Mutual TLS towards a FoundationDB cluster; PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundationDbTls {
    /// This node's certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Whom it trusts.
    pub ca: PathBuf,
    /// What the cluster's certificates must say, such as `Check.Valid=1,S.O=Example`; empty: any
    /// that the authority has signed.
    pub verify_peers: String,
}

/// PEM files for the links between regions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The cluster's authority.
    pub ca: PathBuf,
    /// This node's certificate; its DNS name is the region's name.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Authentication of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Files with Ed25519 public keys, PEM or JWKS.
    pub keys: Vec<PathBuf>,
}

/// The hybrid logical clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// `clock.max_drift_ms`, default 500. How far ahead a stamp of another region may be and still
    /// move this clock. Larger: one bad clock moves the stamps of all. Smaller: replies to a node
    /// with a fast clock may sort before what they answer.
    pub max_drift: Duration,
}

/// How long the logs of a shard, and the events that streams resume from, are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// `retention.min_s`, default a day: at least so long, whoever holds them. Shorter: streams that
    /// were away for less get a `gap`. Longer: more disk, and redacted text is kept longer.
    pub min: Duration,
    /// `retention.max_s`, default 30 days: no longer, also where a region lacks them, which then
    /// takes a snapshot. Bounds how long redacted text is kept.
    pub max: Duration,
}

/// Bounds of what clients send. Above them a call is refused, never cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Text of a message, default and at most 16 KiB, which is what a batch of the log carries.
    pub text_bytes: usize,
    /// Title or topic of a conversation, default 256.
    pub title_bytes: usize,
    /// One reaction, default 32.
    pub emoji_bytes: usize,
    /// Members of a conversation, default 10,000.
    pub members: usize,
    /// Edits of one message, default 1,000. More: its history takes longer to merge.
    pub edits_per_message: usize,
    /// Body of a request, default 64 KiB.
    pub body_bytes: usize,
    /// Writes of one user a second, default 50.
    pub writes_per_second: u32,
    /// Writes of one user at once, default 100.
    pub write_burst: u32,
    /// Open streams of one user, default 200.
    pub connections_per_user: usize,
    /// Calls that are served at once, default 1,024; more are shed with 503. Larger: longer waits
    /// under overload.
    pub in_flight: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            text_bytes: limits::TEXT_BYTES_MAX,
            title_bytes: limits::TITLE_BYTES_MAX,
            emoji_bytes: limits::EMOJI_BYTES_MAX,
            members: limits::MEMBERS_MAX,
            edits_per_message: limits::EDITS_MAX,
            body_bytes: limits::BODY_BYTES_MAX,
            writes_per_second: 50,
            write_burst: 100,
            connections_per_user: 200,
            in_flight: 1024,
        }
    }
}

/// How the node stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// `shutdown.drain_ms`, default 5,000: how long running calls may take to end.
    pub drain: Duration,
}

/// The log output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `human` (default) or `json`.
    pub format: LogFormat,
    /// `tracing` directives, default `info`.
    pub filter: String,
}

/// Spans of requests, sent to a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    /// URL of a collector's OTLP over HTTP, such as `http://127.0.0.1:4318/v1/traces`; without it no
    /// spans are made.
    pub otlp: Option<String>,
    /// One of so many requests is traced, besides those whose caller asks for it.
    pub one_in: u64,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Values given on the command line; they win over file and environment.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `data_dir`.
    pub data_dir: Option<PathBuf>,
    /// `listen.http`.
    pub http: Option<SocketAddr>,
    /// `listen.admin`.
    pub admin: Option<SocketAddr>,
    /// `listen.quic`.
    pub quic: Option<SocketAddr>,
    /// `log.filter`.
    pub log: Option<String>,
}

/// One thing that is wrong with a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Which key, such as `limits.text_bytes`.
    pub key: String,
    /// What is wrong, with the limit.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.key, self.problem, self.remedy)
    }
}

/// All that is wrong with a config, at least one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// In the order of the config's sections.
    pub issues: Vec<Issue>,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the config does not hold:")?;
        for issue in &self.issues {
            write!(f, "\n  {issue}")?;
        }
        Ok(())
    }
}

/// The sections and plain keys at the top. Of the environment only `WHIMBREL_` with one of these is
/// read: other programs of the project have variables of their own.
const TOP: [&str; 14] = [
    "region",
    "cluster",
    "listen",
    "data_dir",
    "store",
    "tls",
    "auth",
    "clock",
    "replication",
    "retention",
    "limits",
    "shutdown",
    "log",
    "traces",
];

impl Config {
    /// All other regions, as links reach them.
    pub fn peers(&self) -> Vec<PeerAddress> {
        let others = self.cluster.regions.iter();
        others
            .filter(|region| region.id != self.region.id)
            .map(|region| PeerAddress {
                region: region.id,
                name: region.name.clone(),
                addrs: region.quic.clone(),
            })
            .collect()
    }

    /// Reads and checks `file`, the environment (`WHIMBREL_`, with `__` between section and key)
    /// and flags. Relative paths in the file are relative to the file's folder.
    pub fn load(file: &Path, flags: &Flags) -> Result<Self, ConfigError> {
        if let Err(error) = std::fs::metadata(file) {
            return Err(ConfigError {
                issues: vec![Issue {
                    key: file.display().to_string(),
                    problem: error.to_string(),
                    remedy: "give the path of a config file".to_owned(),
                }],
            });
        }
        let known = |key: &figment::value::UncasedStr| {
            let top = key.as_str().split("__").next().unwrap_or_default();
            TOP.iter().any(|name| top.eq_ignore_ascii_case(name))
        };
        let mut figment = Figment::from(Toml::file_exact(file))
            .merge(Env::prefixed("WHIMBREL_").filter(known).split("__"));
        if let Some(dir) = &flags.data_dir {
            figment = figment.merge(("data_dir", dir));
        }
        for (key, address) in [
            ("listen.http", flags.http),
            ("listen.admin", flags.admin),
            ("listen.quic", flags.quic),
        ] {
            if let Some(address) = address {
                figment = figment.merge((key, address));
            }
        }
        if let Some(filter) = &flags.log {
            figment = figment.merge(("log.filter", filter));
        }
        check::check(&figment)
    }
}
