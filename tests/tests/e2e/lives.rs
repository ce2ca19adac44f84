//! A region's store takes a new life: when it came back from a backup, and when it moves to
//! FoundationDB. What was acked stays, streams and read markers go on.

use std::fs;
use std::path::Path;
use std::process::Output;

use whimbrel_client::api::EventKind;
use whimbrel_client::{Client, EventStream};

use crate::foundationdb;
use crate::harness::{Cluster, REGIONS, events_until, group, say, texts, unread, walk_back};
use crate::programs::command;
use crate::wait::until;

const EMBEDDED: fn(&str, &str) -> String = |_, _| String::new();

fn node(args: &[&str], config: &Path) -> Output {
    let mut command = command("whimbrel-node");
    let output = command.args(args).arg("--config").arg(config).output();
    output.expect("whimbrel-node runs")
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

async fn say_all(client: &Client, id: &str, what: &str) -> Vec<String> {
    let mut said = Vec::new();
    for n in 0..15 {
        let text = format!("{what} {n}");
        say(client, id, &text).await;
        said.push(text);
    }
    said
}

/// The texts that a stream tells of, up to `last`, and the token after it.
async fn told(stream: &mut EventStream, last: &str) -> (Vec<String>, String) {
    let mut token = String::new();
    let events = events_until(stream, |event| {
        token.clone_from(&event.token);
        matches!(&event.kind, EventKind::MessagePosted { message }
            if message.text.as_deref() == Some(last))
    });
    let texts = events.await.into_iter().filter_map(|event| {
        assert!(!matches!(event.kind, EventKind::Gap), "nothing was trimmed");
        match event.kind {
            EventKind::MessagePosted { message } => message.text,
            _ => None,
        }
    });
    (texts.collect(), token)
}

#[tokio::test(flavor = "multi_thread")]
async fn g1_g18_a_store_from_a_backup_takes_a_new_life_and_gets_its_lost_end_back() {
    let mut cluster = Cluster::with_stores(&REGIONS, EMBEDDED).await;
    let ana = cluster.client("eu", "ana");
    let ben = cluster.client("eu", "ben");
    let id = group(&ana, &["ben"]).await;
    let mut stream = ben.stream(None).await.unwrap();
    let mut all = say_all(&ana, &id, "kept").await;
    let (_, token) = told(&mut stream, "kept 14").await;
    drop(stream);

    cluster.stop("eu").await;
    let data = cluster.folder().join("eu/data");
    let backup = cluster.folder().join("backup");
    copy(&data, &backup);
    cluster.restart("eu").await;
    all.extend(say_all(&ana, &id, "lost").await);
    cluster.converged().await;
    cluster.stop("eu").await;
    fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);

    // As it is it takes no write: it would give stamps out again that others hold.
    let eu = cluster.node_mut("eu");
    eu.start();
    until("the loss to be seen", async || {
        let log = eu.log();
        log.contains("has lost commits that a peer holds")
            .then_some(())
            .ok_or(log)
    })
    .await;
    let refused = ana.post(&id, &crate::harness::text("no")).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("store_unavailable"), "{refused}");
    let file = cluster.node("eu").file().to_owned();
    let in_use = node(&["restored"], &file);
    assert!(!in_use.status.success());
    assert!(
        text_of(&in_use.stderr).contains("cannot be opened"),
        "{in_use:?}"
    );
    cluster.stop("eu").await;

    let renewed = node(&["restored"], &file);
    assert!(renewed.status.success(), "{renewed:?}");
    assert!(
        text_of(&renewed.stdout).contains("goes on as 1."),
        "{renewed:?}"
    );
    cluster.restart("eu").await;
    all.extend(say_all(&ana, &id, "new").await);
    cluster.converged().await;
    for region in REGIONS {
        let messages = walk_back(&cluster.client(region, "ben"), &id, 20).await;
        assert_eq!(texts(&messages.unwrap()), all, "in {region}");
    }
    // A token of the old life goes on in the new one: no gap, nothing twice.
    let mut stream = ben.stream(Some(&token)).await.unwrap();
    assert_eq!(told(&mut stream, "new 14").await.0, all[15..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn g1_g8_a_region_moves_to_foundationdb_with_all_it_has() {
    if !foundationdb::is_asked_for() {
        println!("skipped: a move (WHIMBREL_E2E_STORE does not ask for FoundationDB)");
        return;
    }
    let mut cluster = Cluster::with_stores(&REGIONS, EMBEDDED).await;
    let ana = cluster.client("eu", "ana");
    let ben = cluster.client("eu", "ben");
    let id = group(&ana, &["ben"]).await;
    let mut stream = ben.stream(None).await.unwrap();
    let mut all = say_all(&ana, &id, "before").await;
    let (_, token) = told(&mut stream, "before 14").await;
    drop(stream);
    let page = ben.messages(&id).await.unwrap().value;
    ben.mark_read(&id, &page.cursor).await.unwrap();
    assert_eq!(unread(&ben, &id).await, Ok(0));
    // What the region has said and nobody else has heard moves with it.
    cluster.cut("eu", "us");
    cluster.cut("eu", "ap");
    all.extend(say_all(&ana, &id, "unheard").await);
    cluster.stop("eu").await;
    cluster.heal_all();

    let section = foundationdb::own_section("moved", "eu");
    let file = cluster.node("eu").file().to_owned();
    let args = ["migrate", "--from", "embedded", "--to", "foundationdb"];
    let refused = node(&args, &file);
    assert!(
        text_of(&refused.stderr).contains("store.engine"),
        "{refused:?}"
    );
    let embedded = cluster.node("eu").config.store.clone();
    cluster.node_mut("eu").set_store(section.clone());
    let moved = node(&args, &file);
    assert!(moved.status.success(), "{moved:?}");
    assert!(
        text_of(&moved.stdout).contains("1 conversations are equal"),
        "{moved:?}"
    );
    let again = node(&args, &file);
    assert!(text_of(&again.stderr).contains("already"), "{again:?}");

    // The old store takes no node any more.
    cluster.node_mut("eu").set_store(embedded);
    let eu = cluster.node_mut("eu");
    eu.start();
    until("the refusal", async || {
        let log = eu.log();
        log.contains("was moved to").then_some(()).ok_or(log)
    })
    .await;
    assert!(!eu.ended().await.success());

    cluster.node_mut("eu").set_store(section);
    cluster.restart("eu").await;
    assert_eq!(unread(&ben, &id).await, Ok(15));
    all.extend(say_all(&ana, &id, "after").await);
    cluster.converged().await;
    for region in REGIONS {
        let messages = walk_back(&cluster.client(region, "ben"), &id, 20).await;
        assert_eq!(texts(&messages.unwrap()), all, "in {region}");
    }
    let mut stream = ben.stream(Some(&token)).await.unwrap();
    assert_eq!(told(&mut stream, "after 14").await.0, all[15..]);

    // And back: the old store takes a new life, and pulls what came since.
    cluster.stop("eu").await;
    cluster.node_mut("eu").set_store(String::new());
    let back = node(&["restored"], &file);
    assert!(back.status.success(), "{back:?}");
    cluster.restart("eu").await;
    cluster.converged().await;
    let messages = walk_back(&ben, &id, 20).await.unwrap();
    assert_eq!(texts(&messages), all);
}
