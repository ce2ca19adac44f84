//! Logs are trimmed, and whoever comes too late for them gets the state instead.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::Rng as _;
use whimbrel_chaos::link::Change;
use whimbrel_client::api::{EventKind, Message, ProblemCode, RegionStatus};
use whimbrel_client::{Client, Error};

use crate::foundationdb;
use crate::harness::{
    Cluster, REGIONS, chance, events_until, group, http, next, say, text, texts, unread, walk_back,
};
use crate::node::Listed;
use crate::wait::{ensure, until};

const TRIMMED: &str = "whimbrel_trimmed_batches_total";
const UNMERGED: &str = "whimbrel_store_unmerged_since_timestamp_seconds";
const SHORT: &str = "[retention]\nmin_s = 1\nmax_s = 3600\n\n";

fn short(cluster: &str, region: &str) -> String {
    foundationdb::section(cluster, region) + SHORT
}

/// Waits until a region has trimmed as many batches as all have together at least.
async fn trimmed(cluster: &Cluster, region: &str, batches: f64) {
    until("logs to be trimmed", async || {
        let value = cluster.metric(region, TRIMMED).await?;
        ensure(value >= batches, format!("{value} batches in {region}"))
    })
    .await;
}

/// Waits until what a region has trimmed is gone from its tables.
async fn merged(cluster: &Cluster, region: &str) {
    until("all that is trimmed to be merged", async || {
        let since = cluster.metric(region, UNMERGED).await?;
        ensure(since == 0.0, since)
    })
    .await;
}

/// The newest messages. A region that is not there, or says that it has not caught up, is an error;
/// any other answer would be taken for what is.
async fn page_if_caught_up(reader: &Client, conversation: &str) -> Result<Vec<Message>, Error> {
    match reader.messages(conversation).limit(200).await {
        Ok(page) => Ok(page.value.messages),
        Err(error) => {
            let is_known = error
                .code()
                .is_none_or(|code| code == ProblemCode::NotCaughtUp);
            assert!(is_known, "{error}");
            Err(error)
        }
    }
}

/// What the client's region says of its own way to all that others hold.
async fn progress(client: &Client) -> Result<Option<u8>, String> {
    let told = client.regions().await.map_err(|e| e.to_string())?.value;
    let mut all = told.regions.iter();
    let own = all
        .find(|region| region.name == told.this)
        .ok_or("not told")?;
    Ok(own.progress_percent)
}

/// G16: a region whose disk is gone is built anew while others write; it serves nothing before it has
/// all.
#[tokio::test(flavor = "multi_thread")]
async fn g16_a_region_is_built_anew_from_the_state_of_others() {
    let mut cluster = Cluster::with_stores(&REGIONS, short).await;
    let (ana, ben) = (cluster.client("us", "ana"), cluster.client("ap", "ben"));
    let id = group(&ana, &["ben", "eve"]).await;
    let mut said = Vec::new();
    for nth in 0..200 {
        // More than nodes keep in memory of a log.
        let text = format!("old {nth} {}", "and so on ".repeat(100));
        said.push(say(&ana, &id, &text).await.message);
    }
    cluster.converged().await;
    ben.redact(&id, &said[1].id).await.unwrap_err();
    ana.edit(&id, &said[0].id, "new 0", &said[0].revision)
        .await
        .unwrap();
    ana.redact(&id, &said[1].id).await.unwrap();
    ben.react(&id, &said[2].id, "👍").await.unwrap();
    let page = ben.messages(&id).limit(50).await.unwrap().value;
    ben.mark_read(&id, &page.cursor).await.unwrap();
    ana.remove_member(&id, "eve").await.unwrap();
    cluster.converged().await;
    for region in ["us", "ap"] {
        trimmed(&cluster, region, 200.0).await;
    }

    cluster.lose_disk("eu", "rebuilt", SHORT).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (ana, id, stop) = (ana.clone(), id.clone(), stop.clone());
        tokio::spawn(async move {
            let mut written = 0;
            while !stop.load(Ordering::Relaxed) {
                say(&ana, &id, &format!("meanwhile {written}")).await;
                written += 1;
            }
            written
        })
    };
    cluster.node_mut("eu").start();
    let reader = cluster.client("eu", "ben");
    until("a snapshot to be told", async || {
        let url = format!("{}/admin/v1/replication", cluster.node("eu").admin_url());
        let answer = http().get(url).send().await.map_err(|e| e.to_string())?;
        let told: serde_json::Value = answer.json().await.map_err(|e| e.to_string())?;
        let all = told["snapshots"].as_array().map_or(0, Vec::len);
        ensure(all > 0 && progress(&reader).await?.is_some(), told)
    })
    .await;
    // Nothing of it, or all that there was.
    let first = until("an answer of the new region", async || {
        page_if_caught_up(&reader, &id).await
    })
    .await;
    assert!(first.len() >= 200, "{} messages", first.len());
    cluster.node_mut("eu").ready().await;
    assert_eq!(progress(&reader).await, Ok(None), "it serves");
    stop.store(true, Ordering::Relaxed);
    let written = writer.await.unwrap();
    assert!(written > 0);
    cluster.converged().await;
    let log = cluster.node("eu").log();
    assert!(log.contains("a snapshot has ended"), "{log}");
    let all = walk_back(&reader, &id, 200).await.unwrap();
    assert_eq!(all.len(), 200 + written);
    assert_eq!(texts(&all)[0], "new 0");
    assert_eq!(all[1].text, None);
    assert_eq!(all[2].reactions.len(), 1);
    let unread_here = unread(&reader, &id).await.unwrap();
    assert_eq!(unread_here, unread(&ben, &id).await.unwrap());

    // It writes under a new life, and all the others take it.
    say(&reader, &id, "from the new region").await;
    cluster.converged().await;
    let seen = walk_back(&ana, &id, 50).await.unwrap();
    assert_eq!(texts(&seen).last(), Some(&"from the new region"));
}

/// Reads and writes are refused for so long, by a region that answers.
async fn refused_for(time: Duration, reader: &Client, conversation: &str) {
    let mut first = None;
    until("enough refusals", async || {
        let page = page_if_caught_up(reader, conversation).await;
        let Err(error) = page.map(|page| page.len()) else {
            panic!("it answers a read");
        };
        if error.code().is_some() {
            let post = reader.post(conversation, &text("too early")).await;
            let error = post.unwrap_err();
            assert_eq!(error.code(), Some(ProblemCode::NotCaughtUp), "{error}");
            first.get_or_insert_with(Instant::now);
        }
        let since = first.as_ref().map_or(Duration::ZERO, Instant::elapsed);
        ensure(since > time, format!("{since:?}"))
    })
    .await;
}

/// G16: a region that stopped while it was built anew, and now hears of nobody, is not taken for the
/// first one there is.
#[tokio::test(flavor = "multi_thread")]
async fn g16_half_a_region_does_not_answer_for_the_whole() {
    let mut cluster = Cluster::start().await;
    let ana = cluster.client("us", "ana");
    let id = group(&ana, &["ben"]).await;
    let mut random = chance("half a region");
    for _ in 0..200 {
        let noise: String = (0..4_000).map(|_| random.random_range('a'..='z')).collect();
        say(&ana, &id, &noise).await;
    }
    cluster.converged().await;
    cluster.lose_disk("eu", "half", "").await;
    for peer in ["us", "ap"] {
        // All of it takes some ten seconds.
        cluster.change(peer, "eu", Change::Bandwidth(Some(400_000)));
    }
    cluster.node_mut("eu").start();
    until("some of what there was", async || {
        let told = cluster.replication("eu").await?;
        assert_eq!(told["ready"], false, "{told}");
        let peers = told["peers"].as_array().into_iter().flatten();
        let applied = peers
            .filter_map(|peer| peer["applied"].as_u64())
            .sum::<u64>();
        ensure(applied > 0, told)
    })
    .await;
    until("others to say that it is not whole", async || {
        let told = ana.regions().await.map_err(|e| e.to_string())?.value;
        let eu = told.regions.iter().find(|region| region.name == "eu");
        let status = eu.map(|eu| eu.status);
        ensure(status == Some(RegionStatus::Lagging), format!("{status:?}"))
    })
    .await;
    cluster.kill("eu").await;
    cluster.cut("eu", "us");
    cluster.cut("eu", "ap");
    cluster.node_mut("eu").start();
    let reader = cluster.client("eu", "ben");
    // For longer than a node without data waits for links.
    refused_for(Duration::from_secs(32), &reader, &id).await;
    cluster.heal_all();
    cluster.node_mut("eu").ready().await;
    cluster.converged().await;
    assert_eq!(walk_back(&reader, &id, 50).await.unwrap().len(), 200);
}

/// G16: a region without data does not even say what is not there while it cannot know; also where it
/// needs no snapshot, and hears of nobody for a while.
#[tokio::test(flavor = "multi_thread")]
async fn g16_a_region_without_data_does_not_answer_for_it() {
    let mut cluster = Cluster::start().await;
    let ana = cluster.client("us", "ana");
    let id = group(&ana, &["ben"]).await;
    for nth in 0..50 {
        say(&ana, &id, &format!("old {nth}")).await;
    }
    cluster.converged().await;
    cluster.lose_disk("eu", "unheard", "").await;
    cluster.cut("eu", "us");
    cluster.cut("eu", "ap");
    cluster.node_mut("eu").start();
    let reader = cluster.client("eu", "ben");
    // For longer than a node with data waits for links.
    refused_for(Duration::from_secs(5), &reader, &id).await;
    cluster.heal_all();
    let first = until("an answer of the new region", async || {
        page_if_caught_up(&reader, &id).await
    })
    .await;
    assert_eq!(first.len(), 50);
    cluster.converged().await;
}

/// G1: a region that the others have removed takes no writes, which could never leave it, and says why; it
/// goes on once they list it again.
#[tokio::test(flavor = "multi_thread")]
async fn g1_a_region_that_others_do_not_know_takes_no_writes() {
    let mut cluster = Cluster::start().await;
    let (ana, ben) = (cluster.client("us", "ana"), cluster.client("eu", "ben"));
    let id = group(&ana, &["ben"]).await;
    cluster.converged().await;
    let all = cluster.node("us").config.regions.clone();
    let others: Vec<_> = all.iter().filter(|of| of.name != "eu").cloned().collect();
    let list = async |cluster: &mut Cluster, listed: &[Listed]| {
        for region in ["us", "ap"] {
            cluster.stop(region).await;
            cluster.node_mut(region).set_regions(listed.to_vec());
            cluster.node_mut(region).start();
            cluster.node_mut(region).ready().await;
        }
    };
    cluster.stop("eu").await;
    list(&mut cluster, &others).await;
    cluster.node_mut("eu").start();
    let eu = cluster.node("eu");
    eu.unready("know no region by its certificate").await;
    // For longer than a node with data waits for links.
    let since = Instant::now();
    until("enough refusals", async || {
        let error = ben.post(&id, &text("nobody hears it")).await.unwrap_err();
        let code = error.code();
        assert_eq!(code, Some(ProblemCode::StoreUnavailable), "{error}");
        let passed = since.elapsed();
        ensure(passed > Duration::from_secs(3), format!("{passed:?}"))
    })
    .await;
    let told = ben.regions().await.unwrap().value;
    let own = told.regions.iter().find(|region| region.name == "eu");
    assert_eq!(own.unwrap().status, RegionStatus::Lagging);
    list(&mut cluster, &all).await;
    cluster.node_mut("eu").ready().await;
    say(&ben, &id, "all hear it").await;
    cluster.converged().await;
}

/// G1: what a region that is away lacks is kept for it, also by a node that was started anew meanwhile;
/// it goes on with the logs when it comes back.
#[tokio::test(flavor = "multi_thread")]
async fn g1_logs_are_kept_for_a_region_that_is_away() {
    let mut cluster = Cluster::with_stores(&["eu", "us"], short).await;
    let ana = cluster.client("eu", "ana");
    let id = group(&ana, &[]).await;
    say(&ana, &id, "before").await;
    cluster.converged().await;
    trimmed(&cluster, "eu", 2.0).await;
    cluster.kill("us").await;
    for nth in 0..20 {
        say(
            &ana,
            &id,
            &format!("alone {nth} {}", "and so on ".repeat(500)),
        )
        .await;
    }
    cluster.stop("eu").await;
    cluster.restart("eu").await;
    // Older than the least retention, and looked at several times.
    tokio::time::sleep(Duration::from_secs(4)).await;
    cluster.restart("us").await;
    cluster.converged().await;
    let log = cluster.node("us").log();
    assert!(!log.contains("snapshot"), "{log}");
    trimmed(&cluster, "eu", 20.0).await;
}

/// G14: what a region has trimmed before anybody had it is not counted, and not called safe either.
#[tokio::test(flavor = "multi_thread")]
async fn g14_what_was_trimmed_before_anybody_had_it_is_told() {
    let very_short = |cluster: &str, region: &str| {
        foundationdb::section(cluster, region) + "[retention]\nmin_s = 1\nmax_s = 2\n\n"
    };
    let cluster = Cluster::with_stores(&["eu", "us"], very_short).await;
    let ana = cluster.client("eu", "ana");
    let id = group(&ana, &[]).await;
    cluster.converged().await;
    cluster.cut_all();
    for nth in 0..3 {
        say(&ana, &id, &format!("alone {nth}")).await;
    }
    until("it to be trimmed", async || {
        let told = cluster.replication("eu").await?["unreplicated"].take();
        let shards = told["shards"].as_array().into_iter().flatten();
        let trimmed = shards.filter(|shard| shard["trimmed"] == true).count();
        assert!(told["complete"] == (trimmed == 0), "{told}");
        ensure(trimmed > 0 && told["ops"] == 0, told)
    })
    .await;
    // It is still there, and goes over as state.
    cluster.heal_all();
    cluster.converged().await;
    let there = walk_back(&cluster.client("us", "ana"), &id, 50).await;
    assert_eq!(texts(&there.unwrap()).len(), 3);
}

/// G8: who was away for too long is told so, and goes on from now.
#[tokio::test(flavor = "multi_thread")]
async fn g8_a_token_into_a_trimmed_log_gets_a_gap_and_goes_on() {
    let cluster = Cluster::with_stores(&["eu"], short).await;
    let (ana, ben) = (cluster.client("eu", "ana"), cluster.client("eu", "ben"));
    let id = group(&ana, &["ben"]).await;
    let token = ben.sync(None).await.unwrap().value.token;
    for nth in 0..10 {
        say(&ana, &id, &format!("missed {nth}")).await;
    }
    // Who has heard all of it has missed nothing, also once it is trimmed.
    let mut all = ben.stream(Some(&token)).await.unwrap();
    let heard = events_until(&mut all, |event| {
        matches!(&event.kind, EventKind::MessagePosted { message }
            if message.text.as_deref() == Some("missed 9"))
    });
    let heard = heard.await.pop().expect("at least one").token;
    drop(all);
    trimmed(&cluster, "eu", 11.0).await;
    let mut nothing_missed = ben.stream(Some(&heard)).await.unwrap();
    let mut stream = ben.stream(Some(&token)).await.unwrap();
    let gap = next(&mut stream).await;
    assert!(matches!(gap.kind, EventKind::Gap), "{gap:?}");
    let page = ben.messages(&id).await.unwrap().value.messages;
    assert_eq!(page.len(), 10);
    say(&ana, &id, "and on").await;
    let event = next(&mut stream).await;
    assert!(
        matches!(&event.kind, EventKind::MessagePosted { message }
            if message.text.as_deref() == Some("and on")),
        "{event:?}"
    );
    drop(stream);
    let event = next(&mut nothing_missed).await;
    assert!(
        matches!(&event.kind, EventKind::MessagePosted { .. }),
        "{event:?}"
    );
    // What it gave goes on without a gap.
    let mut again = ben.stream(Some(&gap.token)).await.unwrap();
    let events = events_until(&mut again, |event| {
        matches!(event.kind, EventKind::MessagePosted { .. })
    });
    let events = events.await;
    assert_eq!(events.len(), 1, "{events:?}");
}

/// How many files below a folder hold these bytes. One that is gone before it is read may have them:
/// they can have moved to a file that was not there when the folder was read.
fn holding(folder: &Path, bytes: &[u8]) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match fs::read(entry.path()) {
            Ok(all) => usize::from(all.windows(bytes.len()).any(|window| window == bytes)),
            Err(error) if error.kind() == ErrorKind::IsADirectory => holding(&entry.path(), bytes),
            Err(_) => 1,
        })
        .sum()
}

async fn secret(client: &Client, id: &str, what: &str) -> Result<String, Error> {
    let call = client.post(id, &text(what));
    Ok(call.await?.value.message.id)
}

/// G13: once logs are trimmed and tables merged, no byte of a redacted text is left on disk.
#[tokio::test(flavor = "multi_thread")]
async fn g13_a_redacted_text_leaves_the_files() {
    const SECRET: &str = "xyzzy-plugh-never-to-be-seen-again";
    // In the files of FoundationDB, when something goes is its own affair.
    let mut cluster = Cluster::with_stores(&["eu", "us"], |_, _| SHORT.to_owned()).await;
    let ana = cluster.client("eu", "ana");
    let id = group(&ana, &[]).await;
    let message = secret(&ana, &id, SECRET).await.unwrap();
    let kept = say(&ana, &id, "plover-stays").await.message;
    cluster.converged().await;
    let folder = cluster.folder().to_owned();
    let in_us = folder.join("us/data");
    assert!(holding(&in_us, SECRET.as_bytes()) > 0, "it is written down");
    // A merge brings it into tables, which the next one replaces.
    for region in ["eu", "us"] {
        let tables = folder.join(region).join("data/store/data/keyspaces");
        until("the text to come into a table", async || {
            let files = holding(&tables, SECRET.as_bytes());
            tokio::time::sleep(Duration::from_millis(300)).await;
            ensure(files > 0, format!("{files} files of {}", tables.display()))
        })
        .await;
    }

    ana.redact(&id, &message).await.unwrap();
    cluster.converged().await;
    for region in ["eu", "us"] {
        let data = folder.join(region).join("data");
        until("the text to leave the files", async || {
            // It goes without any further write.
            let files = holding(&data, SECRET.as_bytes());
            tokio::time::sleep(Duration::from_millis(300)).await;
            ensure(files == 0, format!("{files} files in {region}"))
        })
        .await;
        assert!(holding(&data, b"plover-stays") > 0, "what stays, stays");
    }
    let there = walk_back(&cluster.client("us", "ana"), &id, 200).await;
    let there = there.unwrap();
    assert_eq!(there[0].text, None);
    assert_eq!(there[1].id, kept.id);

    // So it does where a node is started anew between the trimming and the merging of its tables.
    const LATE: &str = "plugh-xyzzy-trimmed-before-a-restart";
    merged(&cluster, "eu").await;
    let before = cluster.metric("eu", TRIMMED).await.unwrap();
    let message = secret(&ana, &id, LATE).await.unwrap();
    ana.redact(&id, &message).await.unwrap();
    cluster.converged().await;
    trimmed(&cluster, "eu", before + 2.0).await;
    cluster.kill("eu").await;
    let data = folder.join("eu/data");
    assert!(holding(&data, LATE.as_bytes()) > 0, "not merged yet");
    cluster.restart("eu").await;
    until("the late text to leave the files", async || {
        let files = holding(&data, LATE.as_bytes());
        tokio::time::sleep(Duration::from_millis(300)).await;
        ensure(files == 0, files)
    })
    .await;
    assert_eq!(
        cluster.metric("eu", TRIMMED).await,
        Ok(0.0),
        "nothing was left to trim"
    );
}
