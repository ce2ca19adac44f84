//! A wrong config is refused at the start, with all that is wrong with it.

use std::fs;
use std::net::SocketAddr;

use tempfile::TempDir;

use crate::harness::{cluster_id, make_pki};
use crate::node::{Config, Listed, Node, Ports};
use crate::programs::command;
use crate::wait::within;

/// G18.
#[tokio::test]
async fn g18_a_wrong_config_is_refused_with_all_its_errors() {
    let folder = TempDir::with_prefix("whimbrel-e2e-").unwrap();
    let pki = folder.path().join("pki");
    make_pki(&pki, &["eu"]);
    let ports = Ports::free();
    let cluster = cluster_id();
    let config = Config {
        region: "eu".to_owned(),
        cluster: cluster.clone(),
        shards: 16,
        regions: vec![Listed {
            name: "eu".to_owned(),
            number: 1,
            http: ports.http,
            quic: SocketAddr::from(([127, 0, 0, 1], ports.quic)),
        }],
        ports,
        pki,
        store: crate::foundationdb::section(&cluster, "eu"),
    };
    let node = Node::new(&folder.path().join("eu"), config);
    let file = node.file();
    let check = async |what: &str| {
        let mut node = command("whimbrel-node");
        node.arg(what).arg("--config").arg(file);
        let mut node = tokio::process::Command::from(node);
        // One that takes the config serves until it is dropped.
        let output = within("the refusal", node.kill_on_drop(true).output()).await;
        let output = output.unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        (output.status.success(), told)
    };
    assert_eq!(check("check").await, (true, String::new()));

    let good = fs::read_to_string(file).unwrap();
    let bad = good
        .replace("region = \"eu\"", "region = \"mars\"")
        .replace("shards = 16", "shards = 1000")
        .replace("writes_per_second = 100000", "writes_per_second = \"many\"")
        .replace("drain_ms", "drain_minutes")
        .replace("token.pub.pem", "nowhere.pem")
        .replace("filter = \"info\"", "format = \"prose\"\ncolour = true")
        + "\n[clock]\nmax_drift_ms = 0\n";
    fs::write(file, bad).unwrap();
    for command in ["check", "serve"] {
        let (success, told) = check(command).await;
        assert!(!success, "{command} takes it");
        for key in [
            "region",
            "cluster.shards",
            "limits.writes_per_second",
            "shutdown.drain_minutes",
            "auth.keys",
            "log.format",
            "log.colour",
            "clock.max_drift_ms",
        ] {
            let named = told.lines().any(|line| line.trim_start().starts_with(key));
            assert!(named, "{command} does not name {key}:\n{told}");
        }
    }

    for (what, broken) in [
        ("no TOML", good.replace("[listen]", "[listen")),
        ("no cluster", good.replace("[cluster]", "[clutter]")),
        ("an empty file", String::new()),
        (
            "another region's key",
            good.replace("eu.key.pem", "ca.key.pem"),
        ),
        (
            "a public key for a private one",
            good.replace("eu.key.pem", "eu.pem"),
        ),
    ] {
        fs::write(file, broken).unwrap();
        let (success, told) = check("serve").await;
        assert!(!success, "{what} is taken");
        assert!(
            !told.contains("panicked") && !told.is_empty(),
            "{what}: {told}"
        );
    }
    fs::remove_file(file).unwrap();
    let (success, told) = check("serve").await;
    assert!(!success && told.contains("config.toml"), "{told}");
}
