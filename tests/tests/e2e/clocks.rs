//! G12: a clock that is wrong harms the region that it belongs to, and no other.

use std::path::{Path, PathBuf};

use whimbrel_client::Client;

use crate::harness::{Cluster, REGIONS, group, http, say, text, texts, walk_back};
use crate::wait::{ensure, until};

/// The library of Debian's package `faketime`; says that the test is skipped where it is missing.
fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten();
    let mut libraries = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    let library = libraries.find(|library| library.exists());
    if library.is_none() {
        println!("skipped: a wrong clock (the package faketime is not installed)");
    }
    library
}

/// The environment of a node whose clock is wrong by so many seconds.
fn wrong_by(library: &Path, seconds: &str) -> Vec<(&'static str, String)> {
    vec![
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME", seconds.to_owned()),
        // The time that passes is right.
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]
}

async fn reads_ready(cluster: &Cluster, region: &str) -> String {
    let url = format!("{}/readyz", cluster.node(region).admin_url());
    match http().get(url).send().await {
        Ok(answer) => answer.text().await.unwrap_or_default(),
        Err(error) => error.to_string(),
    }
}

/// Milliseconds between what a message says of its time and now.
async fn age_ms(client: &Client, id: &str, what: &str) -> i64 {
    let posted = say(client, id, what).await;
    let at: jiff::Timestamp = posted.message.created_at.parse().unwrap();
    (jiff::Timestamp::now().as_millisecond() - at.as_millisecond()).abs()
}

#[tokio::test(flavor = "multi_thread")]
async fn g12_a_node_whose_clock_is_wrong_takes_no_writes_and_moves_no_other_clock() {
    let Some(library) = faketime() else {
        return;
    };
    let mut cluster = Cluster::start().await;
    let ana = cluster.everywhere("ana");
    let id = group(&ana[0], &["ben"]).await;
    cluster.converged().await;
    let mut all = vec!["before".to_owned()];
    say(&ana[0], &id, "before").await;
    cluster.stop("eu").await;
    for ahead in ["+600", "-600"] {
        let eu = cluster.node_mut("eu");
        eu.env = wrong_by(&library, ahead);
        eu.start();
        until("eu to find out", async || {
            let ready = reads_ready(&cluster, "eu").await;
            ensure(ready.contains("its clock is wrong"), ready)
        })
        .await;
        let refused = ana[0].post(&id, &text("no")).await.unwrap_err().to_string();
        assert!(refused.contains("clock is wrong"), "{refused}");
        // It is read from, and follows the others, whose clocks have not moved.
        for client in &ana[1..] {
            let what = format!("while eu is {ahead}");
            let age = age_ms(client, &id, &what).await;
            assert!(age < 60_000, "{age} ms");
            all.push(what);
        }
        cluster.converged().await;
        cluster.stop("eu").await;
    }
    cluster.node_mut("eu").env.clear();
    cluster.restart("eu").await;
    assert!(age_ms(&ana[0], &id, "after").await < 60_000);
    all.push("after".to_owned());
    cluster.converged().await;
    all.sort();
    for region in REGIONS {
        let messages = walk_back(&cluster.client(region, "ben"), &id, 50).await;
        let messages = messages.unwrap();
        let mut there = texts(&messages);
        there.sort_unstable();
        assert_eq!(there, all, "in {region}");
    }
}

/// A region that nobody could tell that its clock is wrong has stamped ops far ahead. The others take the ops in,
/// leave their clocks alone, and count what they saw.
#[tokio::test(flavor = "multi_thread")]
async fn g12_poisoned_stamps_move_no_other_clock() {
    let Some(library) = faketime() else {
        return;
    };
    let mut cluster = Cluster::start().await;
    let ana = cluster.everywhere("ana");
    let id = group(&ana[0], &["ben"]).await;
    cluster.converged().await;
    for region in REGIONS {
        cluster.stop(region).await;
    }
    let eu = cluster.node_mut("eu");
    eu.env = wrong_by(&library, "+600");
    eu.start();
    until("eu to take a write alone", async || {
        ana[0].post(&id, &text("poisoned")).key("once").await
    })
    .await;
    for region in &REGIONS[1..] {
        cluster.node_mut(region).start();
    }
    for (region, client) in REGIONS.iter().zip(&ana).skip(1) {
        until("what eu has written", async || {
            let messages = walk_back(client, &id, 50).await;
            let messages = messages.map_err(|error| error.to_string())?;
            let there = texts(&messages).contains(&"poisoned");
            ensure(there, format!("not in {region}"))
        })
        .await;
        let seen = cluster
            .metric(region, "whimbrel_hlc_beyond_drift_total")
            .await;
        assert!(seen.unwrap() > 0.0, "{region}");
        // It reads before it writes.
        until("the region to take writes", async || {
            client.post(&id, &text("at last")).await
        })
        .await;
        let age = age_ms(client, &id, region).await;
        assert!(age < 60_000, "{age} ms in {region}");
    }
    until("eu to find out", async || {
        let ready = reads_ready(&cluster, "eu").await;
        ensure(ready.contains("its clock is wrong"), ready)
    })
    .await;
}
