//! `whimbrel-chaos` beside relays that it steers.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test just so")]

mod run;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use tempfile::TempDir;
use tokio::task::JoinHandle;
use whimbrel_chaos::link::{Dial, Links, SOCKET};
use whimbrel_replication::relay::control::Server;

/// Relays as `whimbrel-node dev --relay` runs them, without regions.
struct Relays {
    folder: TempDir,
    server: JoinHandle<()>,
}

impl Relays {
    async fn start() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let names = ["eu", "us", "ap"];
        let pairs = names.iter().flat_map(|from| names.map(|to| (*from, to)));
        let dials = pairs
            .filter(|(from, to)| from != to)
            .map(|(from, to)| Dial {
                from: from.to_owned(),
                to: to.to_owned(),
                listen: any,
                target: any,
            });
        let links = Links::start(7, dials).await.unwrap();
        let folder = TempDir::new().unwrap();
        let server = Server::bind(&folder.path().join(SOCKET)).unwrap();
        let server = tokio::spawn(server.run(Arc::new(links)));
        Self { folder, server }
    }

    async fn chaos(&self, arguments: &str) -> Output {
        let dir = self.folder.path().to_owned();
        let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        let run = move || chaos(&dir, &arguments);
        tokio::task::spawn_blocking(run).await.unwrap()
    }

    /// The lines that it prints.
    async fn lines(&self, arguments: &str) -> Vec<String> {
        let output = self.chaos(arguments).await;
        assert!(output.status.success(), "{arguments}: {output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// After this, the links that have faults are these.
    async fn check(&self, arguments: &str, expected: &[&str]) {
        self.lines(arguments).await;
        let faulty: Vec<String> = self.lines("links").await[1..]
            .iter()
            .filter_map(|line| {
                let (link, faults) = line.split_once("  ")?;
                let (faults, _) = faults.trim_start().split_once("  ")?;
                (faults != "-").then(|| format!("{}: {}", link.trim_end(), faults.trim_end()))
            })
            .collect();
        assert_eq!(faulty, expected, "{arguments}");
    }

    async fn fails(&self, arguments: &str, words: &str) {
        let output = self.chaos(arguments).await;
        assert!(!output.status.success(), "{arguments}: {output:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(words), "{arguments}: {error}");
    }
}

impl Drop for Relays {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn chaos(dir: &Path, arguments: &[String]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_whimbrel-chaos"))
        .arg("--dev")
        .arg(dir)
        .args(arguments)
        .output()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn links_are_made_bad_and_good_again() {
    let relays = Relays::start().await;
    relays
        .check("link eu us cut", &["eu -> us: cut", "us -> eu: cut"])
        .await;
    relays
        .check("link eu us heal --one-way", &["us -> eu: cut"])
        .await;
    relays.check("link all all heal", &[]).await;
    relays
        .check(
            "link ap all delay 1.5s --jitter 20ms --one-way",
            &[
                "ap -> eu: delay 1500ms +-20ms",
                "ap -> us: delay 1500ms +-20ms",
            ],
        )
        .await;
    relays.check("link all all heal", &[]).await;
    for step in ["loss 5%", "duplicate 1%", "reorder 10%", "bandwidth 1mbit"] {
        relays.lines(&format!("link us ap {step} --one-way")).await;
    }
    let all = "us -> ap: loss 5%, duplicate 1%, reorder 10%, bandwidth 1mbit";
    relays.check("link us ap show", &[all]).await;
    let without = "us -> ap: duplicate 1%, reorder 10%";
    relays.lines("link us ap loss 0%").await;
    relays
        .check("link us ap bandwidth unlimited", &[without])
        .await;

    let shown = relays.lines("link us ap show").await;
    assert_eq!(shown.len(), 3, "a head and both ways: {shown:?}");
    let json = relays
        .lines("--json link us ap show --one-way")
        .await
        .concat();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["seed"], 7);
    assert_eq!(json["links"].as_array().unwrap().len(), 1);
    assert_eq!(json["links"][0]["faults"]["reorder"], 0.1);
    assert_eq!(json["links"][0]["counters"]["passed"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_explained() {
    let relays = Relays::start().await;
    relays
        .fails("link eu xx cut", "no region `xx`; there are eu, us, ap")
        .await;
    relays.fails("link eu eu cut", "`eu` is named twice").await;
    relays
        .fails("link eu xx show", "there is no such link")
        .await;
    relays.fails("link eu us loss 5", "such as 5%").await;
    relays.fails("link eu us delay 80", "such as 80ms").await;
    relays
        .fails("link eu us delay 90s", "60000 ms is the most")
        .await;
    relays
        .fails("link eu us delay 5ms --jitter 6ms", "more than the delay")
        .await;
    relays
        .fails("link eu us bandwidth 1", "such as 500kbit")
        .await;
    relays.check("links", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_help_teaches() {
    let relays = Relays::start().await;
    let help = relays.lines("--help").await.join("\n");
    assert!(
        help.contains("whimbrel-chaos link eu us cut --one-way"),
        "{help}"
    );
}

#[test]
fn without_relays_it_says_what_to_start() {
    let folder = TempDir::new().unwrap();
    let dir = folder.path();
    let check = |words: &str| {
        let output = chaos(dir, &["links".to_owned()]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(words), "{error}");
        let start = format!("whimbrel-node dev --data {} --relay", dir.display());
        assert!(error.contains(&start), "{error}");
    };
    check("holds no cluster");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let description = serde_json::json!({
        "cluster": "x", "token_key": "x", "regions": [{
            "name": "eu", "pid": 1, "url": url, "admin_url": url, "quic": "", "data_dir": "",
            "log": "", "nodes": [],
        }],
    });
    std::fs::write(dir.join("dev.json"), description.to_string()).unwrap();
    check("runs without relays");
    drop(listener);
    check("does not run");
}
