//! G15: what operators are told of how far a region is behind.

use std::time::Duration;

use whimbrel_chaos::link::Change;

use crate::harness::{Cluster, group, say};
use crate::wait::{ensure, until};

const DELAY_MS: u32 = 3_000;

/// A number that eu shows of us.
async fn of_us(cluster: &Cluster, name: &str) -> Result<f64, String> {
    let shown = cluster.replication("eu").await?;
    shown["peers"][0][name]
        .as_f64()
        .ok_or(format!("no {name} in {shown}"))
}

/// Lag is what was injected, give or take a tenth, while messages flow.
#[tokio::test(flavor = "multi_thread")]
async fn g15_lag_is_as_long_as_the_link_is_slow() {
    let cluster = Cluster::of(&["eu", "us"]).await;
    let ana = cluster.client("eu", "ana");
    let id = group(&ana, &["ben"]).await;
    cluster.converged().await;
    let slow = Change::Delay {
        ms: DELAY_MS,
        jitter_ms: 0,
    };
    cluster.change("eu", "us", slow);
    let poster = tokio::spawn(async move {
        for nth in 0.. {
            say(&ana, &id, &format!("{nth}")).await;
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    });
    // What was under way before the delay is gone by then.
    tokio::time::sleep(Duration::from_millis(2 * u64::from(DELAY_MS))).await;
    let mut seen = Vec::new();
    for _ in 0..15 {
        seen.push(of_us(&cluster, "lag_seconds").await.unwrap());
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    poster.abort();
    seen.sort_by(f64::total_cmp);
    let (median, right) = (seen[seen.len() / 2], f64::from(DELAY_MS) / 1_000.0);
    assert!((median - right).abs() <= right / 10.0, "{seen:?}");
    cluster.heal_all();
}

/// Ops and bytes are those that stand in the log, also of a node that was started again, and go once the
/// other region has them.
#[tokio::test(flavor = "multi_thread")]
async fn g15_what_a_region_lacks_is_counted_over_restarts() {
    let mut cluster = Cluster::of(&["eu", "us"]).await;
    let ana = cluster.client("eu", "ana");
    let id = group(&ana, &["ben"]).await;
    cluster.converged().await;
    cluster.cut_all();
    for nth in 0..100 {
        say(&ana, &id, &format!("{nth}")).await;
    }
    let mut restarted = false;
    loop {
        until("the count of what us lacks", async || {
            let shown = cluster.replication("eu").await?;
            let only_here = &shown["unreplicated"];
            assert!(only_here["ops"].as_f64() >= Some(100.0), "{only_here}");
            for name in ["batches", "ops", "bytes"] {
                let lag = of_us(&cluster, &format!("lag_{name}")).await?;
                ensure(Some(lag) == only_here[name].as_f64(), &shown)?;
            }
            let seconds = of_us(&cluster, "lag_seconds").await?;
            ensure(seconds > 0.0, seconds)
        })
        .await;
        if restarted {
            break;
        }
        // Not ready: it cannot reach us. It serves all the same.
        cluster.kill("eu").await;
        cluster.node_mut("eu").start();
        until("eu to answer", async || cluster.replication("eu").await).await;
        restarted = true;
    }
    cluster.heal_all();
    until("nothing to be lacking", async || {
        let ops = cluster.metric("eu", "whimbrel_replication_lag_ops").await?;
        let bytes = cluster
            .metric("eu", "whimbrel_replication_lag_bytes")
            .await?;
        ensure(
            ops == 0.0 && bytes == 0.0,
            format!("{ops} ops, {bytes} bytes"),
        )
    })
    .await;
}

/// A region whose disk was destroyed lacks again what it had, and the others say so.
#[tokio::test(flavor = "multi_thread")]
async fn g15_what_a_rebuilt_region_lacks_is_counted() {
    let mut cluster = Cluster::of(&["eu", "us"]).await;
    let ana = cluster.client("eu", "ana");
    let id = group(&ana, &["ben"]).await;
    for nth in 0..50 {
        say(&ana, &id, &format!("{nth}")).await;
    }
    cluster.converged().await;
    cluster.lose_disk("us", "lacking", "").await;
    // It says what it holds long before anything reaches it.
    let slow = Change::Delay {
        ms: DELAY_MS,
        jitter_ms: 0,
    };
    cluster.change("eu", "us", slow);
    cluster.node_mut("us").start();
    until("the count of what us lacks again", async || {
        let ops = of_us(&cluster, "lag_ops").await?;
        ensure(ops >= 51.0, format!("{ops} ops"))
    })
    .await;
    cluster.heal_all();
    cluster.converged().await;
    until("nothing to be lacking", async || {
        let ops = of_us(&cluster, "lag_ops").await?;
        ensure(ops == 0.0, format!("{ops} ops"))
    })
    .await;
}
