//! Regions of several nodes: they show each other's writes, and go on when one is killed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use whimbrel_client::Client;
use whimbrel_client::api::EventKind;

use crate::dev::{interrupt, line_with, spawn};
use crate::dev_cluster::Dev;
use crate::harness::{events_until, say};
use crate::programs::signal;
use crate::wait::until;

/// The texts that a stream tells of, up to the last of `wanted`; none of them twice.
async fn told(stream: &mut whimbrel_client::EventStream, wanted: &[String]) -> Vec<String> {
    let mut left: BTreeSet<&str> = wanted.iter().map(String::as_str).collect();
    let mut texts = Vec::new();
    events_until(stream, |event| {
        if let EventKind::MessagePosted { message } = &event.kind
            && let Some(text) = &message.text
        {
            left.remove(text.as_str());
            texts.push(text.clone());
        }
        left.is_empty()
    })
    .await;
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_a_node_is_killed_and_its_stream_and_its_shards_go_on_at_the_other() {
    let test = "g8_a_node_is_killed_and_its_stream_and_its_shards_go_on_at_the_other";
    let Some((mut dev, mut lines)) = Dev::start(test, &["eu", "us"]).await else {
        return;
    };
    let (eu, us) = (dev.region("eu"), dev.region("us"));
    let ana = dev.token("ana");
    let pinned = |region: &str, url: &str, token: &str| {
        let builder = Client::builder().region(region, url).discover(false);
        builder.token(token).build().unwrap()
    };
    let ana_at = [&eu.nodes[0].url, &eu.nodes[1].url].map(|url| pinned("eu", url, &ana));
    let ana_in_us = pinned("us", &us.nodes[1].url, &ana);

    // Both nodes of eu are known, and each shows what the other has written.
    let both = until("both nodes", async || {
        let regions = ana_at[1].regions().await.map_err(|e| e.to_string())?;
        let urls = regions.regions[0].urls.clone();
        (urls.len() == 2)
            .then_some(urls.clone())
            .ok_or(format!("{urls:?}"))
    });
    assert_eq!(
        both.await,
        [eu.nodes[0].url.clone(), eu.nodes[1].url.clone()]
    );
    let id = crate::harness::group(&ana_at[0], &["ben"]).await;
    let app = dev.builder(&["eu"], "ben").prefer("eu").build().unwrap();
    let mut stream = app.stream(None).await.unwrap();
    let mut all = Vec::new();
    for n in 0..20 {
        let text = format!("before {n}");
        say(&ana_at[n % 2], &id, &text).await;
        all.push(text);
    }
    assert_eq!(told(&mut stream, &all).await, all, "in order, each once");

    // The node that the stream reads from is killed, and so is what it pulled from us.
    signal(eu.nodes[0].pid, "KILL");
    line_with(&mut lines, &["eu node 1 stopped"]).await;
    let killed = Instant::now();
    let mut meanwhile = Vec::new();
    for n in 0..20 {
        let text = format!("after {n}");
        let by = if n % 2 == 0 { &ana_in_us } else { &ana_at[1] };
        let said = async || {
            let body = whimbrel_client::api::PostMessage {
                text: text.clone(),
                ..Default::default()
            };
            by.post(&id, &body).await.map_err(|error| error.to_string())
        };
        until("a post", said).await;
        meanwhile.push(text);
    }
    let heard = told(&mut stream, &meanwhile).await;
    let once: BTreeSet<&String> = heard.iter().collect();
    assert_eq!(once.len(), heard.len(), "nothing twice: {heard:?}");
    println!("all was heard {:?} after the kill", killed.elapsed());

    // Every shard that the dead node had pulled is pulled by the other one.
    for shard in 0..16 {
        say(
            &ana_in_us,
            &crate::harness::channel(&ana_in_us).await,
            &shard.to_string(),
        )
        .await;
    }
    until("equal digests", async || {
        let here = dev.digests(&eu, 1).await?;
        let there = dev.digests(&us, 0).await?;
        (here.conversations == there.conversations && here.conversations.len() > 10)
            .then_some(())
            .ok_or("not equal")
            .map_err(str::to_owned)
    })
    .await;

    let mut only = dev.bring_back("eu").await;
    assert_eq!(dev.region("eu").nodes[1].pid, eu.nodes[1].pid);
    say(&ana_at[0], &id, "back").await;
    let place = dev.data.to_str().unwrap().to_owned();
    dev.stop().await;
    let ended = tokio::time::timeout(Duration::from_secs(20), only.wait()).await;
    ended.expect("the one beside ends too").unwrap();

    // Where no process runs the cluster, one region brings its FoundationDB along.
    let (alone, mut told_by_alone) =
        spawn("whimbrel-node", &["dev", "--data", &place, "--only", "us"]);
    line_with(&mut told_by_alone, &["us is ready"]).await;
    interrupt(alone).await;
}
