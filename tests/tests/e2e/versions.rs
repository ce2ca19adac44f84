//! Regions of neighbouring versions, as in a rolling upgrade: one pretends to be a version older, which
//! reads and writes the format of batches before the newest.

use whimbrel_client::Client;
use whimbrel_replication::id::ConversationId;
use whimbrel_replication::op::{FORMAT, FORMAT_MIN};

use crate::foundationdb;
use crate::harness::{Cluster, REGIONS, SHARDS, group, http, say, texts, walk_back};
use crate::wait::{ensure, until};

const WALKED: &str = "whimbrel_audit_walked_timestamp_seconds";
const MISMATCHES: &str = "whimbrel_audit_mismatches_total";
const OLDER: &str = "[replication]\nformat = 1\n\n";

fn older(cluster: &str, region: &str) -> String {
    let section = foundationdb::section(cluster, region);
    section + if region == "us" { OLDER } else { "" }
}

/// Makes a region the version before, or the newest, at its next start.
fn set_older(cluster: &mut Cluster, region: &str, is_older: bool) {
    let node = cluster.node_mut(region);
    let section = node.config.store.replace(OLDER, "");
    node.set_store(section + if is_older { OLDER } else { "" });
}

async fn level(cluster: &Cluster, region: &str, level: u32) {
    until(&format!("level {level} in {region}"), async || {
        let now = cluster.metric(region, "whimbrel_feature_level").await?;
        ensure(now == f64::from(level), now)
    })
    .await;
}

/// G19: while one region knows the older format only, all write that; once it is upgraded, all write
/// the newest. Nothing stops and nothing is lost on the way, and who is away does not hold back the
/// others over their restarts.
#[tokio::test(flavor = "multi_thread")]
async fn g19_a_rolling_upgrade_never_meets_what_it_does_not_know() {
    let mut cluster = Cluster::with_stores(&REGIONS, older).await;
    let clients = cluster.everywhere("ana");
    let id = group(&clients[0], &["ben"]).await;
    cluster.converged().await;
    let mut said = Vec::new();
    for region in REGIONS {
        level(&cluster, region, FORMAT_MIN).await;
        said.push(format!("older {region}"));
        say(&cluster.client(region, "ana"), &id, &said[said.len() - 1]).await;
    }
    cluster.converged().await;

    cluster.stop("us").await;
    say(&clients[0], &id, "meanwhile").await;
    said.push("meanwhile".to_owned());
    set_older(&mut cluster, "us", false);
    cluster.restart("us").await;
    for region in REGIONS {
        level(&cluster, region, FORMAT).await;
        said.push(format!("newest {region}"));
        say(&cluster.client(region, "ana"), &id, &said[said.len() - 1]).await;
    }
    cluster.converged().await;

    cluster.stop("ap").await;
    cluster.stop("us").await;
    cluster.restart("us").await;
    level(&cluster, "us", FORMAT).await;
    cluster.restart("ap").await;
    cluster.converged().await;
    for region in REGIONS {
        let stopped = "whimbrel_replication_stopped_logs";
        assert_eq!(cluster.metric(region, stopped).await, Ok(0.0), "{region}");
        let messages = walk_back(&cluster.client(region, "ana"), &id, 50)
            .await
            .unwrap();
        let mut shown = texts(&messages);
        shown.sort_unstable();
        said.sort_unstable();
        assert_eq!(shown, said, "{region}");
    }
}

/// A version too old for what is in the logs, which nobody should start: its logs stop and say why,
/// nothing is passed silently, and the newer version goes on where it stopped.
#[tokio::test(flavor = "multi_thread")]
async fn g19_what_is_too_new_stops_its_log_until_somebody_knows_it() {
    let mut cluster = Cluster::with_stores(&REGIONS, foundationdb::section).await;
    let ana = cluster.client("eu", "ana");
    let id = group(&ana, &["ben"]).await;
    level(&cluster, "eu", FORMAT).await;
    cluster.converged().await;
    cluster.stop("us").await;
    for nth in 0..5 {
        say(&ana, &id, &format!("new {nth}")).await;
    }
    set_older(&mut cluster, "us", true);
    cluster.node_mut("us").start();
    let stopped = stopped(&cluster, "us").await;
    let reason = stopped["reason"].as_str().unwrap();
    assert!(reason.contains("it is of format 2"), "{reason}");
    // Now everybody knows that us is older.
    level(&cluster, "eu", FORMAT_MIN).await;
    let metric = cluster.metric("us", "whimbrel_replication_stopped_logs");
    assert!(metric.await.unwrap() > 0.0);

    cluster.stop("us").await;
    set_older(&mut cluster, "us", false);
    cluster.restart("us").await;
    cluster.converged().await;
    let messages = walk_back(&cluster.client("us", "ana"), &id, 50)
        .await
        .unwrap();
    assert_eq!(messages.len(), 5);
}

/// The first log that stands still in a region.
async fn stopped(cluster: &Cluster, region: &str) -> serde_json::Value {
    until("a log to stop", async || {
        let shown = cluster.replication(region).await?;
        let stopped = shown["stopped"].as_array().and_then(|all| all.first());
        stopped.cloned().ok_or(shown.to_string())
    })
    .await
}

/// Another conversation of the same shard.
async fn group_beside(owner: &Client, other: &str) -> String {
    let shard = |id: &str| id.parse::<ConversationId>().unwrap().shard(SHARDS);
    loop {
        let id = group(owner, &["ben"]).await;
        if shard(&id) == shard(other) {
            return id;
        }
    }
}

/// An operator lets a region pass what it cannot apply: it goes on with what comes after, says for good
/// what it passed, and the audit fetches what that did (G4).
#[tokio::test(flavor = "multi_thread")]
async fn g4_an_operator_can_pass_a_batch_that_cannot_be_applied() {
    let mut cluster = Cluster::with_stores(&REGIONS, foundationdb::section).await;
    let ana = cluster.client("eu", "ana");
    let id = group(&ana, &["ben"]).await;
    // Of the same shard, so of the same log.
    let after = group_beside(&ana, &id).await;
    level(&cluster, "eu", FORMAT).await;
    cluster.converged().await;
    cluster.stop("us").await;
    say(&ana, &id, "too new").await;
    let node = cluster.node_mut("us");
    let held_back = "[replication]\nformat = 1\naudit_s = 1\n\n";
    node.set_store(node.config.store.clone() + held_back);
    node.start();
    let log = stopped(&cluster, "us").await;
    level(&cluster, "eu", FORMAT_MIN).await;
    say(&ana, &after, "known").await;

    let url = format!(
        "{}/admin/v1/replication/skip",
        cluster.node("us").admin_url()
    );
    let ask = |at: &str| {
        let text = |name: &str| log[name].as_str().unwrap_or_default().to_owned();
        let query = [
            ("shard", log["shard"].to_string()),
            ("origin", text("origin")),
            ("at", at.to_owned()),
        ];
        http().post(reqwest::Url::parse_with_params(&url, &query).unwrap())
    };
    let skip = async |at: &str| ask(at).send().await.unwrap();
    // A page that an operator's browser shows may not do it.
    let right = log["at"].as_str().unwrap();
    let page = ask(right).header("origin", "https://example.com");
    assert_eq!(page.send().await.unwrap().status(), 403);
    let wrong = skip("00000000000000000000").await;
    assert_eq!(wrong.status(), 404, "{}", wrong.text().await.unwrap());
    let right = skip(right).await;
    assert_eq!(right.status(), 202, "{}", right.text().await.unwrap());
    // It goes on, and the audit finds what was passed and fetches what it did.
    let ben = cluster.client("us", "ben");
    until("what comes after it, and the repair", async || {
        for (id, text) in [(&id, "too new"), (&after, "known")] {
            let messages = ben.messages(id).limit(50).await;
            let messages = messages.map_err(|e| e.to_string())?.value.messages;
            ensure(texts(&messages) == [text], format!("{messages:?}"))?;
        }
        Ok::<_, String>(())
    })
    .await;
    for name in [MISMATCHES, "whimbrel_audit_repaired_total"] {
        until(name, async || {
            let count = cluster.metric("us", name).await?;
            ensure(count > 0.0, count)
        })
        .await;
    }
    cluster.converged().await;
    // Once: what was repaired is not found again by later walks, in either region.
    let walked = async |region: &str| {
        let begun = cluster.metric(region, WALKED).await.unwrap();
        until("another walk", async || {
            let last = cluster.metric(region, WALKED).await?;
            ensure(last > begun, last)
        })
        .await;
    };
    for _ in 0..3 {
        walked("us").await;
    }
    let mismatches = cluster.metric("us", MISMATCHES).await;
    assert_eq!(mismatches, Ok(1.0), "conversations called wrong");
    // What was passed is known for good, over restarts.
    cluster.stop("us").await;
    cluster.restart("us").await;
    let shown = cluster.replication("us").await.unwrap();
    assert_eq!(shown["skipped"][0]["at"], log["at"], "{shown}");
    assert_eq!(shown["stopped"], serde_json::json!([]), "{shown}");
}
