use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use whimbrel_client::api::limits;
use whimbrel_node::config::{Config, ConfigError, Flags, LogFormat};
use whimbrel_node::{ca, keys};
use whimbrel_replication::id::RegionId;

/// A config that holds, with its files, in `dir`.
pub(crate) const GOOD: &str = r#"
region = "eu"
data_dir = "data"

[cluster]
id = "0123456789abcdefghijklmno0"

[[cluster.regions]]
name = "eu"
number = 1
urls = ["https://eu.example.org"]
quic = ["eu.example.org:7400"]

[[cluster.regions]]
name = "us-east"
number = 7
urls = ["http://127.0.0.1:7100"]
quic = ["127.0.0.1:7400", "[::1]:7400"]

[listen]
http = "127.0.0.1:7100"
admin = "127.0.0.1:7101"
quic = "0.0.0.0:7400"

[tls]
ca = "ca.pem"
cert = "eu.pem"
key = "eu.key.pem"

[auth]
keys = ["token.pub.pem"]
"#;

pub(crate) fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    keys::make(dir.path()).unwrap();
    ca::make(dir.path(), 10).unwrap();
    ca::issue(dir.path(), "eu", dir.path(), 10).unwrap();
    dir
}

pub(crate) fn load(dir: &Path, text: &str) -> Result<Config, ConfigError> {
    let file = dir.join("node.toml");
    fs::write(&file, text).unwrap();
    Config::load(&file, &Flags::default())
}

/// Replaces one line of the good config.
fn check(from: &str, to: &str, expected: &[(&str, &str)]) {
    assert!(GOOD.contains(from), "{from}");
    let dir = folder();
    let error = load(dir.path(), &GOOD.replacen(from, to, 1)).unwrap_err();
    let found: Vec<&str> = error.issues.iter().map(|i| i.key.as_str()).collect();
    let keys: Vec<&str> = expected.iter().map(|(key, _)| *key).collect();
    assert_eq!(found, keys, "{error}");
    for (issue, (_, problem)) in error.issues.iter().zip(expected) {
        assert!(issue.problem.contains(problem), "{issue}");
        assert!(!issue.remedy.is_empty(), "{issue}");
    }
}

#[test]
fn a_good_file_holds_with_defaults() {
    let dir = folder();
    let config = load(dir.path(), GOOD).unwrap();
    assert_eq!(config.region.name, "eu");
    assert_eq!(config.region.id, RegionId(1));
    assert_eq!(config.cluster.shards, 16);
    assert_eq!(config.cluster.regions[1].quic.len(), 2);
    assert_eq!(config.data_dir, dir.path().join("data"));
    assert_eq!(config.auth.keys, [dir.path().join("token.pub.pem")]);
    assert_eq!(config.clock.max_drift, Duration::from_millis(500));
    assert_eq!(config.shutdown.drain, Duration::from_secs(5));
    // What clients and the OpenAPI document take for the default.
    assert_eq!(config.limits.text_bytes, limits::TEXT_BYTES_MAX);
    assert_eq!(config.limits.title_bytes, limits::TITLE_BYTES_MAX);
    assert_eq!(config.limits.emoji_bytes, limits::EMOJI_BYTES_MAX);
    assert_eq!(config.limits.members, limits::MEMBERS_MAX);
    assert_eq!(config.limits.edits_per_message, limits::EDITS_MAX);
    assert_eq!(config.limits.body_bytes, limits::BODY_BYTES_MAX);
    assert_eq!(config.limits.in_flight, 1024);
    assert_eq!(config.log.format, LogFormat::Human);
}

#[test]
fn every_kind_of_error_names_its_key() {
    check("region = \"eu\"", "", &[("region", "missing")]);
    check("region = \"eu\"", "region = 3", &[("region", "")]);
    check(
        "region = \"eu\"",
        "region = \"ap\"",
        &[("region", "not in")],
    );
    check("id = \"01", "id = \"zz", &[("cluster.id", "base32hex")]);
    let shards = |value: &str| format!("shards = {value}\n\n[[cluster.regions]]\n");
    let header = "[[cluster.regions]]\n";
    check(header, &shards("0"), &[("cluster.shards", "1..=64")]);
    check(header, &shards("65"), &[("cluster.shards", "1..=64")]);
    check(header, &shards("-1"), &[("cluster.shards", "1..=64")]);
    check(header, &shards("\"x\""), &[("cluster.shards", "")]);
    let number = |value| format!("number = {value}");
    for (value, problem) in [("0", "1..="), ("65536", "1..="), ("1", "also")] {
        let key = "cluster.regions[1].number";
        check("number = 7", &number(value), &[(key, problem)]);
    }
    let key = "cluster.regions[1].name";
    check("\"us-east\"", "\"eu\"", &[(key, "also")]);
    check("\"us-east\"", "\"Us\"", &[(key, "a-z")]);
    let key = "cluster.regions[0].urls";
    check("https://eu.example.org", "eu.example.org", &[(key, "URL")]);
    check("eu.example.org\"", "eu.example.org/v1\"", &[(key, "URL")]);
    let key = "cluster.regions[0].quic";
    check(
        "eu.example.org:7400",
        "eu.example.org",
        &[(key, "host:port")],
    );
    check("[\"eu.example.org:7400\"]", "[]", &[(key, "empty")]);
    check("\"eu.example", "\"e u.example", &[(key, "host:port")]);
    check(
        "\"eu.example.org:7400\"",
        "\"[::1]:7400\"",
        &[("cluster.regions[1].quic", "also cluster.regions[0]")],
    );
    check(
        "admin = \"127.0.0.1:7101\"",
        "",
        &[("listen.admin", "missing")],
    );
    check(
        "127.0.0.1:7101",
        "127.0.0.1:7100",
        &[("listen.admin", "same")],
    );
    check(
        "127.0.0.1:7101",
        "0.0.0.0:7100",
        &[("listen.admin", "same")],
    );
    check(
        "0.0.0.0:7400",
        "localhost",
        &[("listen.quic", "IP address")],
    );
    check("\"ca.pem\"", "\"no.pem\"", &[("tls.ca", "no.pem")]);
    check(
        "\"token.pub.pem\"",
        "\"no.pem\"",
        &[("auth.keys", "no.pem")],
    );
    check(
        "\"token.pub.pem\"",
        "\"ca.pem\"",
        &[("auth.keys", "ca.pem")],
    );
    check("[auth]", "[auth]\nkey = 1", &[("auth.key", "unknown")]);
    let section = |text: &str| format!("{text}\n[auth]");
    for (text, key, problem) in [
        ("[clock]\nmax_drift_ms = 0", "clock.max_drift_ms", "1..="),
        ("[limits]\ntext_bytes = 16385", "limits.text_bytes", "16384"),
        ("[limits]\nbody_bytes = 2048", "limits.body_bytes", "room"),
        ("[limits]\nin_flight = 0", "limits.in_flight", "1..="),
        ("[log]\nformat = \"xml\"", "log.format", "xml"),
        ("[log]\nfilter = \"a=b=c\"", "log.filter", "a=b=c"),
        ("[shutdown]\ndrain = 1", "shutdown.drain", "unknown"),
        ("[telemetry]", "telemetry", "unknown"),
    ] {
        check("[auth]", &section(text), &[(key, problem)]);
    }
}

#[test]
fn files_of_tls_that_do_not_belong_together_are_refused() {
    let dir = folder();
    let ca = |path: &Path| ca::make(path, 10).unwrap();
    let issue = |name: &str| ca::issue(dir.path(), name, dir.path(), 10).unwrap();
    issue("us-east");
    issue("ap");
    let foreign = tempfile::tempdir().unwrap();
    ca(foreign.path());
    fs::copy(
        foreign.path().join("ca.pem"),
        dir.path().join("foreign.pem"),
    )
    .unwrap();
    for (ca, cert, key, problem) in [
        ("ca", "us-east", "eu", "KeyMismatch"),
        ("ca", "us-east", "us-east", "that of region us-east"),
        ("ca", "ap", "ap", "names no region of ours"),
        ("foreign", "eu", "eu", "not one of this CA's"),
        ("eu", "eu", "eu", "not one of this CA's"),
    ] {
        let text = GOOD
            .replace("\"ca.pem\"", &format!("\"{ca}.pem\""))
            .replace("\"eu.pem\"", &format!("\"{cert}.pem\""))
            .replace("\"eu.key.pem\"", &format!("\"{key}.key.pem\""));
        let error = load(dir.path(), &text).unwrap_err().to_string();
        assert!(
            error.contains("\n  tls:") && error.contains(problem),
            "{error}"
        );
    }
}

#[test]
fn a_store_is_checked_before_it_is_used() {
    let section = |text: &str| format!("[store]\n{text}\n\n[auth]");
    let unknown = section("engine = \"oracle\"");
    check("[auth]", &unknown, &[("store.engine", "oracle")]);
    // A program without the engine says so, beside whatever else is wrong.
    let mut expected = vec![
        ("store.cluster_file", "cannot read"),
        ("store.prefix", "101 bytes"),
        ("store.tls.key", "missing"),
        ("store.tls.ca", "missing"),
    ];
    if !cfg!(feature = "foundationdb") {
        expected.insert(0, ("store.engine", "without FoundationDB"));
    }
    let text = format!(
        "engine = \"foundationdb\"\ncluster_file = \"none\"\nprefix = \"{}\"\n\
         [store.tls]\ncert = \"eu.pem\"",
        "p".repeat(101)
    );
    check("[auth]", &section(&text), &expected);
}

#[test]
fn all_errors_come_at_once() {
    let dir = folder();
    let error = load(
        dir.path(),
        "shard = 1\ncluster = 3\n[listen]\nhttp = 1\n[clock]\nmax_drift_ms = 0\n[log]\nformat = 2",
    )
    .unwrap_err();
    let text = error.to_string();
    for key in [
        "shard:",
        "region:",
        "cluster:",
        "cluster.id:",
        "cluster.regions:",
        "listen.http:",
        "listen.admin:",
        "listen.quic:",
        "data_dir:",
        "tls.ca:",
        "tls.cert:",
        "tls.key:",
        "auth.keys:",
        "clock.max_drift_ms:",
        "log.format:",
    ] {
        assert!(text.contains(&format!("\n  {key}")), "{key} in {text}");
    }
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_one_error() {
    let dir = folder();
    let missing = Config::load(&dir.path().join("no.toml"), &Flags::default()).unwrap_err();
    assert_eq!(missing.issues.len(), 1);
    assert!(missing.to_string().contains("no.toml"), "{missing}");
    let broken = load(dir.path(), "region = ").unwrap_err();
    assert_eq!(broken.issues.len(), 1);
    assert!(broken.to_string().contains("node.toml"), "{broken}");
}

/// The environment belongs to the whole process: each case runs the program.
fn program(dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> (bool, String) {
    fs::write(dir.join("node.toml"), GOOD).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_whimbrel-node"))
        .args(["check", "--config", "node.toml"])
        .args(arguments)
        .envs(variables.iter().copied())
        .current_dir(dir)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn the_environment_wins_over_the_file_and_flags_win_over_both() {
    let dir = folder();
    let check = |arguments: &[&str], variables: &[(&str, &str)], expected: &str| {
        let (_, text) = program(dir.path(), arguments, variables);
        assert!(text.contains(expected), "{expected} in {text}");
    };
    check(&[], &[], "the config holds: region eu of 2");
    ca::issue(dir.path(), "us-east", dir.path(), 10).unwrap();
    let us = [
        ("WHIMBREL_REGION", "us-east"),
        ("WHIMBREL_TLS__CERT", "us-east.pem"),
        ("WHIMBREL_TLS__KEY", "us-east.key.pem"),
    ];
    check(&[], &us, "the config holds: region us-east");
    let shards = ("WHIMBREL_CLUSTER__SHARDS", "70");
    check(&[], &[shards], "cluster.shards: 70");
    let admin = ("WHIMBREL_LISTEN__ADMIN", "127.0.0.1:7100");
    check(&[], &[admin], "listen.admin: 127.0.0.1:7100 is the same");
    check(&["--admin", "127.0.0.1:7109"], &[admin], "the config holds");
    check(
        &[],
        &[("WHIMBREL_LOG__FORMATS", "x")],
        "log.formats: unknown",
    );
    // Variables of other programs.
    check(
        &[],
        &[("WHIMBREL_URLS", "x"), ("WHIMBREL_TOKEN", "y")],
        "holds",
    );
    assert!(!program(dir.path(), &[], &[shards]).0);
    assert!(program(dir.path(), &[], &[]).0);
}
