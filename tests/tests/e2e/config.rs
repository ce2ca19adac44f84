//! A wrong config is refused at the start, with all that is wrong with it.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

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

/// The config that the package brings knows all keys that the README does, and holds once it is filled in.
#[tokio::test]
async fn the_packaged_config_holds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let packaged = fs::read_to_string(root.join("node/packaging/node.toml")).unwrap();
    let folder = TempDir::with_prefix("whimbrel-e2e-").unwrap();
    let pki = folder.path().join("pki");
    make_pki(&pki, &["eu"]);
    for (from, to) in [("eu.pem", "node.pem"), ("eu.key.pem", "node.key.pem")] {
        fs::rename(pki.join(from), pki.join(to)).unwrap();
    }
    let filled = packaged
        .replace("id = \"\"", &format!("id = \"{}\"", cluster_id()))
        .replace("/var/lib/whimbrel", folder.path().to_str().unwrap());
    // What is commented out is the default.
    let defaults = filled.replace("\n#", "\n");
    let defaults: String = defaults
        .lines()
        .filter(|line| !line.starts_with("# ") && !line.starts_with(' '))
        .map(|line| format!("{line}\n"))
        .collect();
    let file = folder.path().join("node.toml");
    for (what, config) in [("as it comes", &filled), ("with all keys", &defaults)] {
        fs::write(&file, config).unwrap();
        let output = command("whimbrel-node")
            .arg("check")
            .arg("--config")
            .arg(&file)
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{what}: {told}\n{config}");
    }
    let keys = |text: &str| -> BTreeSet<String> {
        let lines = text.lines().map(|line| line.trim_start_matches(['#', ' ']));
        let keys = lines.filter_map(|line| line.split_once(" = "));
        let is_key = |key: &str| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let keys = keys.map(|(key, _)| key.to_owned());
        keys.filter(|key| is_key(key)).collect()
    };
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let (_, shown) = readme
        .split_once("This is all of it")
        .expect("a whole config");
    let shown = shown.split("```").nth(1).unwrap();
    let lacking: Vec<_> = keys(shown).difference(&keys(&packaged)).cloned().collect();
    assert!(lacking.is_empty(), "the packaged config lacks {lacking:?}");
}
