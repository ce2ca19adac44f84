//! From what was typed to what holds.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::http::Uri;
use figment::Figment;
use figment::value::Dict;
use tracing_subscriber::EnvFilter;
use whimbrel_client::token;
use whimbrel_replication::id::{ClusterId, RegionId};
use whimbrel_replication::limits::{REGIONS_MAX, REVISION_HEADS_MAX, SHARDS_MAX, TEXT_BYTES_MAX};

use crate::store::limits::PREFIX_BYTES_MAX;
use whimbrel_replication::op::{FORMAT, FORMAT_MIN};
use whimbrel_replication::quic::QuicConfig;

use super::read::{Issues, Section};
use super::{
    Auth, Clock, Cluster, Config, ConfigError, FoundationDb, FoundationDbTls, Issue, Limits,
    Listen, Log, LogFormat, Region, Replication, Retention, Shutdown, Store, Tls, Traces,
};

const REGION_NAME_CHARS_MAX: usize = 32;
const URL_REMEDY: &str = "give URLs such as \"https://eu.example.org\", without a path";
const QUIC_REMEDY: &str = "give addresses such as \"eu.example.org:7400\"";

/// Whether this can be a region's name; if not, why.
pub fn check_region_name(name: &str) -> Result<(), &'static str> {
    let mut bytes = name.bytes();
    let starts = bytes.next().is_some_and(|b| b.is_ascii_lowercase());
    let goes_on = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if starts && goes_on && name.len() <= REGION_NAME_CHARS_MAX {
        Ok(())
    } else {
        Err("not 1 to 32 of a-z, 0-9 and -, starting with a letter")
    }
}

pub(super) fn check(figment: &Figment) -> Result<Config, ConfigError> {
    let dict: Dict = figment.extract().map_err(|error| ConfigError {
        issues: error
            .into_iter()
            .map(|error| Issue {
                key: error
                    .metadata
                    .as_ref()
                    .and_then(|m| m.source.as_ref())
                    .map_or_else(|| "config".to_owned(), ToString::to_string),
                problem: error.kind.to_string(),
                remedy: "correct the syntax".to_owned(),
            })
            .collect(),
    })?;
    let mut issues = Issues::default();
    let issue = &mut issues;
    let mut root = Section::root(figment, dict);

    let region: Option<String> = root.required("region", "name this node's region", issue);
    let cluster = cluster(root.section("cluster", issue), issue);
    let own = region.as_ref().and_then(|name| {
        let found = cluster.1.iter().find(|region| region.name == *name);
        // Where a region does not hold, it may be this one.
        if found.is_none() && !issue.any_in("cluster.regions") {
            issue.add(
                "region",
                format!("`{name}` is not in cluster.regions"),
                "add it there, or name one that is",
            );
        }
        found.cloned()
    });
    let url = own.as_ref().and_then(|region| region.urls.first());
    let listen = listen(root.section("listen", issue), url, issue);
    let data_dir = root
        .paths("data_dir", "name a folder on a local disk", issue)
        .pop();
    let store = store(root.section("store", issue), issue);
    let tls = tls(root.section("tls", issue), issue);
    let auth = auth(root.section("auth", issue), issue);
    let clock = clock(root.section("clock", issue), issue);
    let replication = replication(root.section("replication", issue), issue);
    let retention = retention(root.section("retention", issue), issue);
    let limits = limits(root.section("limits", issue), issue);
    let shutdown = shutdown(root.section("shutdown", issue), issue);
    let log = log(root.section("log", issue), issue);
    let traces = traces(root.section("traces", issue), issue);
    root.end(issue);

    let config = (|| {
        Some(Config {
            region: own?,
            cluster: Cluster {
                id: cluster.0?,
                shards: cluster.2,
                regions: cluster.1,
            },
            listen: listen?,
            data_dir: data_dir?,
            store: store?,
            tls: tls?,
            auth,
            clock,
            replication,
            retention,
            limits,
            shutdown,
            log,
            traces,
        })
    })();
    // A certificate is held against the names of all regions.
    if let Some(config) = &config
        && !issues.any_in("cluster.regions")
    {
        certificate(config, &mut issues);
    }
    let issues = issues.into_inner();
    match config {
        Some(config) if issues.is_empty() => Ok(config),
        _ => Err(ConfigError { issues }),
    }
}

/// Shards times regions: a token that names all logs stays below its limit, and below half of it
/// while no region was ever rebuilt.
const CURSOR_LOGS_MAX: u64 = 256;

/// Id, regions and shards; what is wrong is left out.
fn cluster(mut section: Section<'_>, issues: &mut Issues) -> (Option<ClusterId>, Vec<Region>, u16) {
    let remedy = "give the 26 characters that every node of the cluster has";
    let id = section
        .required::<String>("id", remedy, issues)
        .and_then(|text| {
            text.parse()
                .map_err(|_| {
                    let problem = format!("`{text}` is not 16 bytes in lower-case base32hex");
                    issues.add(section.key("id"), problem, remedy);
                })
                .ok()
        });
    let shards = section.number("shards", 16, 1..=u64::from(SHARDS_MAX), issues);
    let mut regions = Vec::new();
    let (mut names, mut numbers) = (BTreeMap::new(), BTreeMap::new());
    let list = section.sections("regions", issues);
    if list.is_empty() || list.len() > REGIONS_MAX {
        issues.add(
            section.key("regions"),
            format!("{} regions are outside 1..={REGIONS_MAX}", list.len()),
            "write one [[cluster.regions]] for each region",
        );
    }
    for entry in list {
        let (name_key, number_key) = (entry.key("name"), entry.key("number"));
        let Some(region) = self::region(entry, issues) else {
            continue;
        };
        if let Some(first) = names.insert(region.name.clone(), name_key.clone()) {
            issues.add(
                name_key,
                format!("`{}` is also {first}", region.name),
                "give every region its own name",
            );
        }
        if let Some(first) = numbers.insert(region.id, number_key.clone()) {
            issues.add(
                number_key,
                format!("{} is also {first}", region.id),
                "give every region its own number, and never one of a removed region",
            );
        }
        regions.push(region);
    }
    if regions.len() > 1 {
        let mut addresses = BTreeMap::new();
        for (i, region) in regions.iter().enumerate() {
            for address in &region.quic {
                let first = *addresses.entry(address).or_insert(i);
                if first != i {
                    issues.add(
                        format!("cluster.regions[{i}].quic"),
                        format!("`{address}` is also cluster.regions[{first}].quic"),
                        "give each region the addresses of its own nodes",
                    );
                }
            }
            if region.quic.is_empty() {
                issues.add(
                    format!("cluster.regions[{i}].quic"),
                    format!("empty, so that no region reaches `{}`", region.name),
                    QUIC_REMEDY,
                );
            }
        }
    }
    let logs = shards * regions.len() as u64;
    if logs > CURSOR_LOGS_MAX {
        issues.add(
            section.key("shards"),
            format!(
                "{shards} shards in {} regions make {logs} logs, the limit is {CURSOR_LOGS_MAX}: \
                 a token names all of them",
                regions.len()
            ),
            "take fewer shards; 16 carry most clusters",
        );
    }
    section.end(issues);
    (id, regions, u16::try_from(shards).unwrap_or(SHARDS_MAX))
}

fn check_url(key: &str, url: &str, issues: &mut Issues) {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    if !rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', '?', '#', ' '])) {
        let problem = format!("`{url}` is not the start of an http(s) URL");
        issues.add(key, problem, URL_REMEDY);
    }
}

fn region(mut section: Section<'_>, issues: &mut Issues) -> Option<Region> {
    let name: Option<String> = section.required("name", "name the region", issues);
    if let Some(name) = &name
        && let Err(problem) = check_region_name(name)
    {
        issues.add(
            section.key("name"),
            format!("`{name}` is {problem}"),
            "choose a short name such as \"eu\" or \"us-east\"",
        );
    }
    let remedy = format!("give a number in 1..={} that no region ever had", u16::MAX);
    let number = section.required::<i64>("number", &remedy, issues);
    let number = number.and_then(|number| match u16::try_from(number) {
        Ok(number) if number > 0 => Some(number),
        _ => {
            let problem = format!("{number} is outside 1..={}", u16::MAX);
            issues.add(section.key("number"), problem, &remedy);
            None
        }
    });
    let urls: Vec<String> = section
        .required("urls", URL_REMEDY, issues)
        .unwrap_or_default();
    for url in &urls {
        check_url(&section.key("urls"), url, issues);
    }
    let quic: Vec<String> = section
        .optional("quic", QUIC_REMEDY, issues)
        .unwrap_or_default();
    for address in &quic {
        let holds = address.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty()
                && !host.contains(char::is_whitespace)
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if !holds {
            issues.add(
                section.key("quic"),
                format!("`{address}` is not host:port"),
                QUIC_REMEDY,
            );
        }
    }
    section.end(issues);
    Some(Region {
        name: name?,
        id: RegionId(number?),
        urls,
        quic,
    })
}

fn listen(
    mut section: Section<'_>,
    region_url: Option<&String>,
    issues: &mut Issues,
) -> Option<Listen> {
    let mut address = |key| {
        let remedy = "give an IP address and port such as \"127.0.0.1:7100\"";
        let text: String = section.required(key, remedy, issues)?;
        let parsed: Option<SocketAddr> = text.parse().ok();
        if parsed.is_none() {
            let problem = format!("`{text}` is not an IP address and port");
            issues.add(section.key(key), problem, remedy);
        }
        parsed
    };
    let (http, admin, quic) = (address("http"), address("admin"), address("quic"));
    if let (Some(http), Some(admin)) = (http, admin)
        && (http.port(), admin.port()) != (0, 0)
        && http.port() == admin.port()
        && (http.ip() == admin.ip() || http.ip().is_unspecified() || admin.ip().is_unspecified())
    {
        issues.add(
            "listen.admin",
            format!("{admin} is the same address as listen.http, {http}"),
            "give it another port: it has no authentication",
        );
    }
    let url: Option<String> = section.optional("url", URL_REMEDY, issues);
    if let Some(url) = &url {
        check_url(&section.key("url"), url, issues);
    }
    section.end(issues);
    Some(Listen {
        http: http?,
        admin: admin?,
        quic: quic?,
        url: url.or(region_url.cloned())?,
    })
}

/// The most of Linux.
const NICE_MAX: u8 = 19;

fn replication(mut section: Section<'_>, issues: &mut Issues) -> Replication {
    let (oldest, newest) = (u64::from(FORMAT_MIN), u64::from(FORMAT));
    let format = section.number("format", newest, oldest..=newest, issues);
    let audit = section.number("audit_s", 600, 1..=7 * 86_400, issues);
    let nice = section.number("nice", 0, 0..=NICE_MAX.into(), issues);
    section.end(issues);
    Replication {
        format: u32::try_from(format).unwrap_or(FORMAT),
        audit: Duration::from_secs(audit),
        nice: u8::try_from(nice).unwrap_or(NICE_MAX),
    }
}

fn store(mut section: Section<'_>, issues: &mut Issues) -> Option<Store> {
    let remedy = "give \"embedded\" for a region of one node, or \"foundationdb\"";
    let engine: Option<String> = section.optional("engine", remedy, issues);
    let store = match engine.as_deref() {
        None | Some("embedded") => Some(Store::Embedded),
        Some("foundationdb") => foundationdb(&mut section, issues).map(Store::FoundationDb),
        Some(other) => {
            let problem = format!("`{other}` is unknown");
            issues.add(section.key("engine"), problem, remedy);
            // What else stands there may be right for the engine that was meant.
            return None;
        }
    };
    section.end(issues);
    store
}

/// Where `store.prefix` is left away: who forgets it must not get another store than who writes it.
const PREFIX: &str = "whimbrel/";

fn foundationdb(section: &mut Section<'_>, issues: &mut Issues) -> Option<FoundationDb> {
    if !cfg!(feature = "foundationdb") {
        issues.add(
            section.key("engine"),
            "this program was built without FoundationDB",
            "build it with `cargo build --release -p whimbrel-node --features foundationdb`, where \
             FoundationDB's client library 7.3 is installed",
        );
    }
    let remedy = "name the cluster file of the region's FoundationDB, often \
                  /etc/foundationdb/fdb.cluster";
    let cluster_file = file(section, "cluster_file", remedy, issues);
    let remedy = format!("give at most {PREFIX_BYTES_MAX} bytes, such as \"whimbrel/\"");
    let prefix: String = section
        .optional("prefix", &remedy, issues)
        .unwrap_or_else(|| PREFIX.to_owned());
    if prefix.len() > PREFIX_BYTES_MAX {
        let problem = format!("has {} bytes", prefix.len());
        issues.add(section.key("prefix"), problem, &remedy);
    }
    let tls = section.has("tls").then(|| {
        let mut section = section.section("tls", issues);
        let remedy = "name the PEM file";
        let mut pem = |key| file(&mut section, key, remedy, issues);
        let (cert, key, ca) = (pem("cert"), pem("key"), pem("ca"));
        let remedy = "give rules such as \"Check.Valid=1,S.O=Example\"";
        let verify_peers = section.optional("verify_peers", remedy, issues);
        section.end(issues);
        Some(FoundationDbTls {
            cert: cert?,
            key: key?,
            ca: ca?,
            verify_peers: verify_peers.unwrap_or_default(),
        })
    });
    Some(FoundationDb {
        cluster_file: cluster_file?,
        prefix,
        tls: match tls {
            None => None,
            Some(tls) => Some(tls?),
        },
    })
}

/// A file that must be there and readable.
fn file(
    section: &mut Section<'_>,
    key: &'static str,
    remedy: &str,
    issues: &mut Issues,
) -> Option<PathBuf> {
    let path = section.paths(key, remedy, issues).pop()?;
    if let Err(error) = fs::File::open(&path) {
        let problem = format!("cannot read {}: {error}", path.display());
        issues.add(section.key(key), problem, remedy);
    }
    Some(path)
}

fn tls(mut section: Section<'_>, issues: &mut Issues) -> Option<Tls> {
    let remedy = "`whimbrel-node ca` makes authority and certificates";
    let mut pem = |key| file(&mut section, key, remedy, issues);
    let (ca, cert, key) = (pem("ca"), pem("cert"), pem("key"));
    section.end(issues);
    Some(Tls {
        ca: ca?,
        cert: cert?,
        key: key?,
    })
}

/// The files of `tls` by what they say, where all of them can be read.
fn certificate(config: &Config, issues: &mut Issues) {
    let Tls { ca, cert, key } = &config.tls;
    let (Ok(ca_pem), Ok(cert_pem), Ok(key_pem)) = (fs::read(ca), fs::read(cert), fs::read(key))
    else {
        return;
    };
    let checked = QuicConfig {
        region_name: config.region.name.clone(),
        ca_pem,
        cert_pem,
        key_pem,
        reset_key: [0; 64],
        peers: config.peers(),
    }
    .check();
    if let Err(error) = checked {
        issues.add(
            "tls",
            error.to_string(),
            "give the authority of all regions, and the certificate and key that `whimbrel-node ca issue` made for this one",
        );
    }
}

fn auth(mut section: Section<'_>, issues: &mut Issues) -> Auth {
    let remedy = "list files with Ed25519 public keys, PEM or JWKS; `whimbrel-node keys` makes one";
    let key = section.key("keys");
    let keys: Vec<PathBuf> = section.paths("keys", remedy, issues);
    for path in &keys {
        let problem = match fs::read(path) {
            Ok(content) => token::public_keys(&content).err().map(|e| e.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(problem) = problem {
            issues.add(&key, format!("{}: {problem}", path.display()), remedy);
        }
    }
    section.end(issues);
    Auth { keys }
}

fn clock(mut section: Section<'_>, issues: &mut Issues) -> Clock {
    let max_drift_ms = section.number("max_drift_ms", 500, 1..=60_000, issues);
    section.end(issues);
    Clock {
        max_drift: Duration::from_millis(max_drift_ms),
    }
}

fn retention(mut section: Section<'_>, issues: &mut Issues) -> Retention {
    const DAY_S: u64 = 24 * 60 * 60;
    let min_s = section.number("min_s", DAY_S, 1..=3_650 * DAY_S, issues);
    let max_s = section.number("max_s", 30 * DAY_S, 1..=3_650 * DAY_S, issues);
    if min_s > max_s {
        issues.add(
            "retention.max_s",
            format!("{max_s} is less than retention.min_s, which is {min_s}"),
            "give it at least as much, or lower retention.min_s",
        );
    }
    section.end(issues);
    Retention {
        min: Duration::from_secs(min_s),
        max: Duration::from_secs(max_s),
    }
}

fn limits(mut section: Section<'_>, issues: &mut Issues) -> Limits {
    let default = Limits::default();
    let rate = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let mut number = |key, default: u64, range| section.number(key, default, range, issues);
    let mut size = |key, default: usize, range| {
        usize::try_from(number(key, default as u64, range)).unwrap_or(usize::MAX)
    };
    let limits = Limits {
        text_bytes: size("text_bytes", default.text_bytes, 1..=TEXT_BYTES_MAX as u64),
        title_bytes: size("title_bytes", default.title_bytes, 1..=4096),
        emoji_bytes: size("emoji_bytes", default.emoji_bytes, 4..=256),
        members: size("members", default.members, 2..=100_000),
        edits_per_message: size(
            "edits_per_message",
            default.edits_per_message,
            1..=REVISION_HEADS_MAX as u64,
        ),
        body_bytes: size("body_bytes", default.body_bytes, 1024..=1024 * 1024),
        connections_per_user: size(
            "connections_per_user",
            default.connections_per_user,
            1..=100_000,
        ),
        in_flight: size("in_flight", default.in_flight, 1..=100_000),
        writes_per_second: rate(number(
            "writes_per_second",
            default.writes_per_second.into(),
            1..=1_000_000,
        )),
        write_burst: rate(number(
            "write_burst",
            default.write_burst.into(),
            1..=1_000_000,
        )),
    };
    if limits.body_bytes < limits.text_bytes + 1024 {
        issues.add(
            "limits.body_bytes",
            format!(
                "{} leaves no room for a text of limits.text_bytes = {}",
                limits.body_bytes, limits.text_bytes
            ),
            "raise it to four times the text, or lower limits.text_bytes",
        );
    }
    section.end(issues);
    limits
}

fn shutdown(mut section: Section<'_>, issues: &mut Issues) -> Shutdown {
    let drain_ms = section.number("drain_ms", 5000, 0..=300_000, issues);
    section.end(issues);
    Shutdown {
        drain: Duration::from_millis(drain_ms),
    }
}

fn traces(mut section: Section<'_>, issues: &mut Issues) -> Traces {
    let remedy = "give the URL of a collector near by, such as \"http://127.0.0.1:4318/v1/traces\"";
    let otlp: Option<String> = section.optional("otlp", remedy, issues);
    if let Some(url) = &otlp {
        // A collector on the same host or pod takes it on from here, with TLS.
        let is_http = url
            .parse::<Uri>()
            .is_ok_and(|url| url.scheme_str() == Some("http") && url.host().is_some());
        if !is_http {
            issues.add(
                section.key("otlp"),
                format!("`{url}` is no http:// URL"),
                remedy,
            );
        }
    }
    let one_in = section.number("one_in", 100, 1..=1_000_000_000, issues);
    section.end(issues);
    Traces { otlp, one_in }
}

fn log(mut section: Section<'_>, issues: &mut Issues) -> Log {
    let remedy = "give \"human\" or \"json\"";
    let format: Option<String> = section.optional("format", remedy, issues);
    let format = match format.as_deref() {
        None | Some("human") => LogFormat::Human,
        Some("json") => LogFormat::Json,
        Some(other) => {
            issues.add(
                section.key("format"),
                format!("`{other}` is unknown"),
                remedy,
            );
            LogFormat::Human
        }
    };
    let remedy = "give directives such as \"info\" or \"info,whimbrel_node=debug\"";
    let filter = section
        .optional::<String>("filter", remedy, issues)
        .unwrap_or_else(|| "info".to_owned());
    if let Err(error) = EnvFilter::try_new(&filter) {
        issues.add(
            section.key("filter"),
            format!("`{filter}`: {error}"),
            remedy,
        );
    }
    section.end(issues);
    Log { format, filter }
}
