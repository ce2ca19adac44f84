//! The short forms of all experiments that are shipped, by the program as people use it, and one that is interrupted.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::dev::{described, line_with, spawn};
use crate::harness::turn;
use crate::programs::{command, program, signal};
use crate::wait::{until, within};

/// How many experiments run at once: they wait more than they work.
const JOBS: &str = "3";

/// G1 to G18, but for G5, G16 and G17: what each experiment puts to the test holds, all its faults
/// did bite, and nothing is left behind.
#[tokio::test(flavor = "multi_thread")]
async fn g1_to_g18_hold_in_all_experiments() {
    let _turn = turn().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../chaos/experiments");
    let files = std::fs::read_dir(folder).unwrap();
    let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    let temporary = TempDir::with_prefix("whimbrel-chaos-e2e-").unwrap();
    let place = temporary.path().to_owned();
    let path = |name: &str| place.join(name);
    let mut chaos = command("whimbrel-chaos");
    chaos
        .args(["run", "--short", "--jobs", JOBS, "--node"])
        .arg(program("whimbrel-node"))
        .arg("--journal")
        .arg(path("journal.json"))
        .arg("--report")
        .arg(path("report.html"))
        .arg("--junit")
        .arg(path("junit.xml"))
        .args(&files)
        // Clusters' folders, to see that none is left.
        .env("TMPDIR", temporary.path());
    let output = Command::from(chaos).kill_on_drop(true).output();
    let output = output.await.unwrap();
    let summary = String::from_utf8_lossy(&output.stdout);
    println!("{summary}");
    if !output.status.success() {
        let kept = temporary.keep();
        let told = String::from_utf8_lossy(&output.stderr);
        panic!("{summary}\n{told}\nall is kept in {}", kept.display());
    }

    let journals: Vec<Value> =
        serde_json::from_slice(&std::fs::read(path("journal.json")).unwrap()).unwrap();
    assert_eq!(journals.len(), files.len());
    let mut held = BTreeMap::new();
    for journal in &journals {
        let name = &journal["name"];
        if journal["outcome"] == "skipped" {
            println!("skipped: {name} ({})", journal["reason"]);
            continue;
        }
        assert_eq!(journal["outcome"], "held", "{name}");
        let faults = journal["faults"].as_array().unwrap();
        assert!(!faults.is_empty(), "{name}");
        assert!(
            faults.iter().all(|fault| fault["bit"] == true),
            "{name}: {faults:?}"
        );
        assert!(journal["counts"]["posts"].as_u64().unwrap() > 20, "{name}");
        for verdict in journal["verdicts"].as_array().unwrap() {
            assert_eq!(verdict["held"], true, "{name}: {verdict}");
            *held.entry(verdict["guarantee"].to_string()).or_insert(0) += 1;
        }
    }
    println!("verdicts: {held:?}");
    assert!(held.len() >= 12, "{held:?}");
    let left = std::fs::read_dir(temporary.path()).unwrap();
    let left: Vec<_> = left.map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let folder = temporary.path().to_str().unwrap();
    assert!(!mounts.contains(folder), "{mounts}");
}

/// A region dies of something else while an experiment runs: whoever interrupts that does not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn an_experiment_is_interrupted_also_while_regions_get_ready() {
    let _turn = turn().await;
    let temporary = TempDir::with_prefix("whimbrel-chaos-e2e-").unwrap();
    let data = temporary.path().join("cluster");
    let folder = data.to_str().unwrap();
    let (mut dev, mut told) = spawn("whimbrel-node", &["dev", "--relay", "--data", folder]);
    let cluster = until("the cluster", async || described(&data)).await;
    line_with(&mut told, &["chaos link eu us cut"]).await;
    let file = temporary.path().join("cut.json");
    let cut = json!({
        "title": "A cut", "description": "A link is cut, and somebody else kills a region.",
        "guarantees": ["G1"],
        // Whether all is equal is no steady state of a cluster that is written to.
        "steady-state-hypothesis": {"title": "eu serves", "probes": [{
            "type": "probe", "name": "eu is ready", "tolerance": "ready", "within": "60s",
            "provider": {"type": "whimbrel", "func": "readiness", "arguments": {"region": "eu"}},
        }]},
        "method": [{
            "type": "action", "name": "Cut eu from us",
            "provider": {"type": "whimbrel", "func": "link", "arguments": {
                "from": "eu", "to": "us", "faults": {"cut": true},
            }},
            "pauses": {"after": "3s"},
        }],
    });
    std::fs::write(&file, cut.to_string()).unwrap();
    let mut chaos = command("whimbrel-chaos");
    chaos
        .args(["--dev", folder, "run", "--short", "--attach"])
        .arg(&file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut chaos = Command::from(chaos).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(chaos.stderr.take().unwrap()).lines();
    line_with(&mut lines, &["Cut eu from us"]).await;
    let ap = cluster.regions.iter().find(|region| region.name == "ap");
    signal(ap.unwrap().pid, "KILL");
    line_with(&mut lines, &["all faults are ended"]).await;
    signal(chaos.id().unwrap(), "INT");
    let ended = within("the end", chaos.wait_with_output()).await.unwrap();
    let summary = String::from_utf8_lossy(&ended.stdout);
    assert_eq!(ended.status.code(), Some(2), "{summary}");
    assert!(summary.contains("interrupted"), "{summary}");
    signal(dev.id().unwrap(), "INT");
    within("the cluster's end", dev.wait()).await.unwrap();
}
