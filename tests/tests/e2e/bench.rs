//! The load generator against real regions: its numbers add up. How fast anything was is not tested.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::dev::{described, interrupt, spawn, whimbrel};
use crate::harness::turn;
use crate::programs::run_ok;
use crate::wait::until;

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

/// Every mode once, with small counts, and the cluster is whole afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn every_mode_counts_what_it_did() {
    let _turn = turn().await;
    let temporary = TempDir::with_prefix("whimbrel-e2e-").unwrap();
    let data = temporary.path().join("cluster");
    let folder = data.to_str().unwrap();
    let (dev, _told) = spawn("whimbrel-node", &["dev", "--data", folder]);
    let cluster = until("the cluster", async || described(&data)).await;
    let bench = async |args: &[&str]| -> Value {
        let told = whimbrel(folder, &[&["--json", "bench"], args].concat()).await;
        serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}"))
    };

    // All that was sent was accepted or refused, and is in the region that was named.
    let args = [
        "accept",
        "--region",
        "us",
        "--messages",
        "120",
        "--warmup",
        "0s",
        "--clients",
        "8",
        "--seed",
        "7",
    ];
    let told = bench(&args).await;
    let refused: u64 = told["refused"]
        .as_object()
        .unwrap()
        .values()
        .map(number)
        .sum();
    assert_eq!(number(&told["sent"]), 120, "{told}");
    assert_eq!(number(&told["accepted"]) + refused, 120, "{told}");
    assert_eq!(told["latency"]["count"], told["accepted"]);
    assert_eq!((&told["region"], &told["seed"]), (&json!("us"), &json!(7)));
    let processes = told["cpu"]["regions"].as_array().unwrap();
    assert_eq!(
        processes.len(),
        3,
        "all regions run on this machine: {told}"
    );

    // What was accepted was seen once in each other region, that of the warm-up as well.
    let args = [
        "visibility",
        "--messages",
        "60",
        "--warmup",
        "500ms",
        "--rate",
        "40",
        "--clients",
        "8",
    ];
    let told = bench(&args).await;
    let accepted = number(&told["accepted"]);
    assert!(accepted > 0, "{told}");
    let regions = told["regions"].as_array().unwrap();
    let names: Vec<_> = regions.iter().map(|region| &region["region"]).collect();
    assert_eq!(names, ["us", "ap"]);
    for region in regions {
        // Twenty were due in the warm-up.
        assert!(number(&region["seen"]) >= accepted, "{told}");
        assert!(number(&region["seen"]) <= 60 + 20, "{told}");
        assert_eq!(region["latency"]["count"], told["accepted"]);
        assert_eq!(
            (&region["missing"], &region["seen_twice"]),
            (&json!(0), &json!(0))
        );
    }

    // Pages of what was posted, and of the same conversation again, in another region.
    let short = ["--warmup", "0s", "--duration", "300ms"];
    let told = bench(&[&["history", "--messages", "120"], &short[..]].concat()).await;
    assert_eq!(told["messages"], 120, "{told}");
    assert!(number(&told["newest"]["pages"]) > 0, "{told}");
    assert!(number(&told["random"]["pages"]) > 0, "{told}");
    assert!(number(&told["unread"]["pages"]) > 0, "{told}");
    let conversation = told["conversation"].as_str().unwrap();
    let again = ["--region", "ap", "history", "--conversation", conversation];
    let again = [&again[..], &short].concat();
    let caught_up = until("the conversation in ap", async || {
        let told = bench(&again).await;
        let all = told["messages"] == 120;
        all.then_some(told).ok_or("not all of it")
    });
    assert_eq!(caught_up.await["region"], "ap");

    let told = bench(&["edits", "--earlier", "1,3", "--messages", "4"]).await;
    for (after, earlier) in told["after"].as_array().unwrap().iter().zip([1, 3]) {
        assert_eq!(number(&after["earlier_edits"]), earlier);
        let counts = ["edit", "merge"].map(|kind| number(&after[kind]["count"]));
        assert_eq!((counts, number(&after["messages"])), ([4, 4], 4), "{told}");
    }

    let told = bench(&[
        "streams",
        "--streams",
        "30",
        "--users",
        "3",
        "--hold",
        "200ms",
    ])
    .await;
    assert_eq!((&told["streams"], &told["held"]), (&json!(30), &json!(30)));
    assert!(number(&told["with_streams_bytes"]) > 0, "{told}");

    // A region dies, misses something, comes back and has it.
    let told = bench(&["catch-up", "--messages", "200", "--down", "ap"]).await;
    assert_eq!(told["away"], "ap");
    assert!(number(&told["accepted"]) > 0, "{told}");
    assert_eq!(told["digests_equal"], true);
    let again = described(&data).unwrap();
    assert_eq!(again.regions[..2], cluster.regions[..2]);
    assert_ne!(
        again.regions[2].pid, cluster.regions[2].pid,
        "it was killed"
    );

    interrupt(dev).await;
    let gone = async || {
        let parent = told["parent_pid"].to_string();
        let ended = std::fs::read_to_string(format!("/proc/{parent}/stat"))
            .map_or(true, |stat| stat.contains(") Z "));
        ended.then_some(()).ok_or("it runs")
    };
    until("the end of what started ap again", gone).await;
}

/// An address and a key are enough, without the description of a dev cluster.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_measured_by_its_urls() {
    let cluster = crate::harness::Cluster::of(&["eu"]).await;
    let key = cluster.folder().join("pki").join("token.key.pem");
    let told = run_ok(
        "whimbrel",
        [
            "--json",
            "bench",
            "accept",
            "--urls",
            &cluster.node("eu").url(),
            "--key",
            key.to_str().unwrap(),
            "--messages",
            "40",
            "--warmup",
            "0s",
            "--clients",
            "4",
        ],
    );
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["sent"], 40, "{told}");
    assert_eq!(told["accepted"], told["latency"]["count"]);
    assert_eq!(
        told["cpu"]["regions"],
        json!([]),
        "its processes are not known"
    );
}
