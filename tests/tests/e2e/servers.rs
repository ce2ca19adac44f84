//! Regions of two nodes over FoundationDB, under load, while servers and nodes die, stand still and
//! are restarted.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::dev_cluster::Dev;
use crate::foundationdb;
use crate::harness::{
    REGIONS, chance, cluster_id, group, http, make_pki, text, texts, turn, walk_back,
};
use crate::load::{Load, plan};
use crate::node::{Config, Listed, Node, Ports};
use crate::programs::signal;
use crate::wait::until;

/// G1, G4, G6 to G11, G13: the FoundationDB of a region is killed in mid-commit, ten times.
#[tokio::test(flavor = "multi_thread")]
async fn g1_what_clients_saw_holds_over_ten_kills_of_foundationdb() {
    const KILLS: usize = 10;
    let test = "g1_what_clients_saw_holds_over_ten_kills_of_foundationdb";
    let Some((mut dev, _lines)) = Dev::start(test, &REGIONS).await else {
        return;
    };
    let mut chance = chance(test);
    let load = Load::start(&dev, plan(chance.random())).await;
    load.acks(30).await;
    for _ in 0..KILLS {
        let region = *REGIONS.choose(&mut chance).unwrap();
        let killed = dev.region(region).foundationdb.unwrap().pid;
        signal(killed, "KILL");
        until("the server to be back", async || {
            let pid = dev
                .region(region)
                .foundationdb
                .map_or(0, |server| server.pid);
            (pid != killed)
                .then_some(())
                .ok_or_else(|| "not yet".to_owned())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(chance.random_range(0..3_000))).await;
    }
    load.acks(30).await;
    let counts = load.judge(&dev).await;
    println!("{KILLS} kills of FoundationDB: {counts:?}");
    assert!(counts.posts > 80 && counts.edits > 10, "{counts:?}");
    dev.stop().await;
}

/// G1, G4, G6 to G11, G13: nodes stand still for longer than their leases last, and go on.
#[tokio::test(flavor = "multi_thread")]
async fn g1_what_clients_saw_holds_over_nodes_that_stand_still() {
    let test = "g1_what_clients_saw_holds_over_nodes_that_stand_still";
    let Some((mut dev, _lines)) = Dev::start(test, &REGIONS).await else {
        return;
    };
    let mut chance = chance(test);
    let load = Load::start(&dev, plan(chance.random())).await;
    load.acks(30).await;
    for n in 0..4 {
        let region = *REGIONS.choose(&mut chance).unwrap();
        let pid = dev.region(region).nodes[n % 2].pid;
        signal(pid, "STOP");
        tokio::time::sleep(Duration::from_millis(chance.random_range(3_000..6_000))).await;
        signal(pid, "CONT");
        tokio::time::sleep(Duration::from_millis(chance.random_range(0..2_000))).await;
    }
    load.acks(30).await;
    let counts = load.judge(&dev).await;
    println!("four nodes stood still: {counts:?}");
    dev.stop().await;
}

/// G1, G7: both nodes of a region are stopped and started again, one after the other. Apps notice
/// nothing.
#[tokio::test(flavor = "multi_thread")]
async fn g1_apps_notice_nothing_of_a_rolling_restart() {
    let Some((mut dev, _lines)) =
        Dev::start("g1_apps_notice_nothing_of_a_rolling_restart", &REGIONS).await
    else {
        return;
    };
    let owner = dev.builder(&["eu"], "ana").build().unwrap();
    let id = group(&owner, &["ben", "cem", "dee"]).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut writers = JoinSet::new();
    for user in ["ana", "ben", "cem", "dee"] {
        // Only eu: that another region would do is not what is shown here.
        let app = dev.builder(&["eu"], user).only("eu").build().unwrap();
        let (id, stopped) = (id.clone(), stopped.clone());
        writers.spawn(async move {
            let mut said = Vec::new();
            for n in 0.. {
                if *stopped.borrow() {
                    break;
                }
                let what = format!("{user} {n}");
                let posted = app.post(&id, &text(&what)).await;
                posted.unwrap_or_else(|error| panic!("{what}: {error}"));
                said.push(what);
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            said
        });
    }
    let mut beside = Vec::new();
    for nth in 0..2 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let pid = dev.region("eu").nodes[nth].pid;
        signal(pid, "TERM");
        until("the node to end", async || {
            let runs = Path::new(&format!("/proc/{pid}")).exists();
            (!runs).then_some(()).ok_or_else(|| "it runs".to_owned())
        })
        .await;
        beside.push(dev.bring_back("eu").await);
        assert_ne!(dev.region("eu").nodes[nth].pid, pid);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    stop.send(true).unwrap();
    let mut said: Vec<String> = writers.join_all().await.into_iter().flatten().collect();
    let messages = walk_back(&owner, &id, 200).await.unwrap();
    let mut there = texts(&messages);
    println!("{} posts over two restarts, none failed", said.len());
    there.sort_unstable();
    said.sort_unstable();
    assert_eq!(there, said);
    dev.stop().await;
    for mut child in beside {
        child.wait().await.unwrap();
    }
}

/// G14: a region reaches its FoundationDB over TLS, and talks to no other server.
#[tokio::test(flavor = "multi_thread")]
async fn g14_the_store_is_reached_over_tls_only() {
    if !foundationdb::is_asked_for() {
        println!("skipped: TLS to FoundationDB (WHIMBREL_E2E_STORE does not ask for FoundationDB)");
        return;
    }
    let _turn = turn().await;
    let folder = TempDir::with_prefix("whimbrel-e2e-").unwrap();
    let pki = folder.path().join("pki");
    make_pki(&pki, &["eu", "fdb"]);
    let (mut server, file) = foundationdb::start_in(&folder.path().join("fdb"), Some(&pki));
    let section = |name: &str| {
        let (file, pki) = (file.display(), pki.display());
        format!(
            "[store]\nengine = \"foundationdb\"\ncluster_file = \"{file}\"\nprefix = \"tls/\"\n\n\
             [store.tls]\ncert = \"{pki}/eu.pem\"\nkey = \"{pki}/eu.key.pem\"\n\
             ca = \"{pki}/ca.pem\"\nverify_peers = \"Check.Valid=1,S.CN={name}\"\n\n"
        )
    };
    let ports = Ports::free();
    let config = Config {
        region: "eu".to_owned(),
        cluster: cluster_id(),
        shards: 4,
        regions: vec![Listed {
            name: "eu".to_owned(),
            number: 1,
            http: ports.http,
            quic: SocketAddr::from(([127, 0, 0, 1], ports.quic)),
        }],
        ports,
        pki: pki.clone(),
        store: section("fdb"),
    };
    let mut node = Node::new(&folder.path().join("eu"), config);
    node.start();
    node.ready().await;
    node.stop().await;

    node.set_store(section("somebody"));
    node.start();
    until("the line that says so", async || {
        let log = node.log();
        log.contains("cannot be reached").then_some(()).ok_or(log)
    })
    .await;
    assert!(
        http()
            .get(format!("{}/readyz", node.admin_url()))
            .send()
            .await
            .is_err()
    );
    node.kill().await;
    server.kill().unwrap();
    server.wait().unwrap();
}
