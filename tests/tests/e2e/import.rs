//! Imports of chat exports: each message once, in the order of the file, whatever happens meanwhile.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};
use whimbrel_client::api::EventKind;
use whimbrel_client::token::SCOPE_SERVICE;

use crate::harness::{Cluster, REGIONS, next, walk_back};
use crate::programs::command;
use crate::wait::{DEADLINE, ensure, until, within};

/// For the real export.
const LONG: Duration = Duration::from_secs(20 * 60);

/// The rooms of the real export that are taken unless `WHIMBREL_GITTER_WHOLE` is set: a small part of
/// its messages. All of it takes five minutes.
const ROOMS_OF_REAL: &str = "5";

/// What is to be imported.
#[derive(Clone, Copy)]
struct Export<'a> {
    file: &'a Path,
    /// Only its first rooms.
    rooms: Option<&'a str>,
}

impl<'a> Export<'a> {
    fn whole(file: &'a Path) -> Self {
        Self { file, rooms: None }
    }
}

fn import(cluster: &Cluster, region: &str, export: Export<'_>) -> Child {
    let token = cluster.token("import", Some(SCOPE_SERVICE));
    let mut program = command("whimbrel");
    program
        .args(["--json", "--urls", &cluster.node(region).url()])
        .args(["--token", &token, "import", "gitter"])
        .arg(export.file)
        .args(export.rooms.iter().flat_map(|rooms| ["--rooms", rooms]))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut program = Command::from(program);
    program.kill_on_drop(true).spawn().expect("whimbrel runs")
}

/// The summary, and what was said about bad records.
async fn summary(import: Child, within: Duration) -> (Value, String) {
    let output = tokio::time::timeout(within, import.wait_with_output()).await;
    let output = output.expect("the import ends").unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    let summary = serde_json::from_slice(&output.stdout).expect("a summary");
    (summary, told)
}

fn counts(summary: &Value) -> [u64; 4] {
    ["records", "new", "replayed", "bad"].map(|name| summary[name].as_u64().expect("a count"))
}

/// G1, G7: a small export into one region, while somebody listens in another.
#[tokio::test(flavor = "multi_thread")]
async fn g7_an_import_adds_each_message_once() {
    const ROOMS: usize = 3;
    const MESSAGES: usize = 40;
    let cluster = Cluster::start().await;
    let owner = cluster.service("us", "import");
    let mut stream = owner.stream(None).await.unwrap();

    let mut file = "room_id\troom\tsent_at\tuser_id\tusername\tmessage_id\ttext\n".to_owned();
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for i in 0..MESSAGES {
        for room in 0..ROOMS {
            let (second, user) = (i % 60, ["ana", "ben", ""][i % 3]);
            let text = ["plain", "of \"\"several\"\"\nlines", "with\ta tab"][i % 3];
            let _ = writeln!(
                file,
                "r{room}\tbirds/room-{room}\t2014-11-30T23:35:{second:02}.000Z\tu{i}\t{user}\t\
                 m{room}-{i}\t\"{text} {i}\""
            );
            let text = text.replace("\"\"", "\"");
            let of = expected.entry(format!("birds/room-{room}")).or_default();
            of.push(format!("{text} {i}"));
        }
    }
    let bad_line = file.lines().count() + 1;
    file += "r0\tbirds/room-0\tyesterday\tu1\tana\tbad\tNo time\n";
    let path = cluster.folder().join("export.tsv");
    std::fs::write(&path, file).unwrap();
    let all = (ROOMS * MESSAGES) as u64;

    let (done, told) = summary(import(&cluster, "eu", Export::whole(&path)), DEADLINE).await;
    assert_eq!(counts(&done), [all + 1, all, 0, 1], "{done} {told}");
    assert!(told.contains(&format!("export.tsv:{bad_line}:")), "{told}");

    // Whoever listened elsewhere heard each of them once, each room in the order of the file.
    let mut heard: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut count = 0;
    while count < all {
        let event = next(&mut stream).await;
        if let EventKind::MessagePosted { message } = event.kind {
            assert!(message.sent_at.unwrap().starts_with("2014-11-30T23:35:"));
            let of = heard.entry(message.conversation).or_default();
            of.push(message.text.unwrap());
            count += 1;
        }
    }
    let list = owner.conversations().await.unwrap().value.conversations;
    let titles: BTreeMap<_, _> = list
        .into_iter()
        .map(|listed| (listed.conversation.id, listed.conversation.title.unwrap()))
        .collect();
    let heard: BTreeMap<_, _> = heard
        .into_iter()
        .map(|(id, texts)| (titles[&id].clone(), texts))
        .collect();
    assert_eq!(heard, expected);

    // Again, in each region: nothing new.
    let before = cluster.converged().await;
    for region in REGIONS {
        let (again, _) = summary(import(&cluster, region, Export::whole(&path)), DEADLINE).await;
        assert_eq!(counts(&again), [all + 1, 0, all, 1], "in {region}");
    }
    assert_eq!(cluster.converged().await.digest, before.digest);
}

/// G1, G7: rooms of the real export, whose name stands in `WHIMBREL_GITTER_TSV`, into a region that
/// is killed half-way.
#[tokio::test(flavor = "multi_thread")]
async fn g1_the_real_export_survives_a_kill() {
    let Some(path) = std::env::var_os("WHIMBREL_GITTER_TSV").map(PathBuf::from) else {
        println!("skipped: WHIMBREL_GITTER_TSV does not name the export");
        return;
    };
    let is_whole = std::env::var_os("WHIMBREL_GITTER_WHOLE").is_some();
    let export = Export {
        file: &path,
        rooms: (!is_whole).then_some(ROOMS_OF_REAL),
    };
    let mut cluster = Cluster::start().await;
    let owner = cluster.service("us", "import");
    let under_way = import(&cluster, "eu", export);
    until("the import to be under way in us", async || {
        let list = owner.conversations().limit(200).await;
        let list = list.map_err(|error| error.to_string())?.value;
        let busy = list.conversations.iter().filter(|c| c.unread >= 50).count();
        ensure(busy >= 3, format!("{busy} busy rooms"))
    })
    .await;
    cluster.kill("eu").await;
    cluster.restart("eu").await;
    let (done, told) = summary(under_way, LONG).await;
    let [records, new, replayed, bad] = counts(&done);
    println!("{done}\n{told}");
    assert_eq!(new + replayed + bad, records);

    let settled = async {
        loop {
            let digests = [
                cluster.digests("eu").await.expect("digests of eu"),
                cluster.digests("us").await.expect("digests of us"),
                cluster.digests("ap").await.expect("digests of ap"),
            ];
            if digests.iter().all(|d| d.digest == digests[0].digest) {
                break digests[0].digest.clone();
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let digest = tokio::time::timeout(LONG, settled)
        .await
        .expect("all regions converge");
    let mut messages = 0;
    let mut page: Option<String> = None;
    loop {
        let call = owner.conversations().limit(200);
        let list = match &page {
            Some(page) => call.page(page),
            None => call,
        };
        let list = list.await.unwrap().value;
        for listed in &list.conversations {
            let walk = walk_back(&owner, &listed.conversation.id, 200);
            messages += within("a room", walk).await.unwrap().len() as u64;
        }
        page = list.next;
        if page.is_none() {
            break;
        }
    }
    // A post whose answer the kill took was there when it was sent again.
    println!("{messages} messages");
    assert!((new..=new + replayed).contains(&messages), "{messages}");

    let (again, _) = summary(import(&cluster, "ap", export), LONG).await;
    let [records_again, new_again, replayed_again, bad_again] = counts(&again);
    assert_eq!([records_again, new_again, bad_again], [records, 0, bad]);
    assert_eq!(replayed_again, new + replayed);
    assert_eq!(cluster.digests("ap").await.unwrap().digest, digest);
}
