//! A region of several nodes on one FoundationDB: they see each other's writes, share the pulling,
//! and lose nothing when the server is killed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use whimbrel_node::apply::remote::{self, Applied};
use whimbrel_node::batcher::WriteError;
use whimbrel_node::command::Action;
use whimbrel_node::dev::foundationdb::Engine;
use whimbrel_node::nodes::{LEASE, Nodes};
use whimbrel_node::store::{RunOptions, keys};
use whimbrel_replication::id::{ConversationId, NodeId, ShardId, Stamp};
use whimbrel_replication::op::ConversationKind;
use whimbrel_replication::op::FORMAT;

use super::server;
use crate::batching::{Region, SHARDS, post};

fn room(members: &[&str]) -> (ConversationId, Action) {
    let create = Action::Create {
        kind: ConversationKind::Group,
        title: None,
        topic: None,
        members: members.iter().map(ToString::to_string).collect(),
    };
    (ConversationId::created("ada", "room"), create)
}

/// Asks again until it is answered, whatever the store says in between.
async fn write_at_last(region: &Region, user: &str, key: &str, action: Action, at: ConversationId) {
    loop {
        match region.try_write(user, key, action.clone(), at).await {
            Ok(_) => return,
            Err(WriteError::Store(_) | WriteError::Overloaded) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// A node hears of what another one has committed by a watch, not by looking once a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g8_a_node_is_woken_by_the_writes_of_another() {
    let Some(store) = server::shared(Engine::Ssd).await else {
        return;
    };
    let one = Region::over(store.clone(), 1, NodeId(1)).await;
    let two = Region::over(store.clone(), 1, NodeId(2)).await;
    let (conversation, create) = room(&["ben"]);
    two.write("ada", "room", create, conversation).await;
    let shard = conversation.shard(SHARDS);
    for n in 0..20 {
        let key = format!("key{n}");
        let writer = if n % 2 == 0 { &two } else { &one };
        let action = post(&conversation, "ada", &key, &key).1;
        let written = writer.write("ada", &key, action, conversation).await;
        for node in [&one, &two] {
            let waited = node
                .tailers
                .wait_for(&written.cursor, Duration::from_secs(5));
            waited.await.unwrap();
        }
    }
    assert_eq!(one.tailers.held(shard), two.tailers.held(shard));
    assert_eq!(one.timeline(conversation).await.len(), 20);
    assert!(store.metrics().watches_fired.get() >= 10);
}

struct Member {
    nodes: Nodes,
    stop: CancellationToken,
    tasks: TaskTracker,
}

fn member(region: &Region, url: &str) -> Member {
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    tasks.close();
    let nodes = Nodes::start(
        &region.store,
        &region.identity,
        (url, FORMAT),
        &tasks,
        stop.clone(),
    );
    Member { nodes, stop, tasks }
}

/// Waits until two nodes pull all shards between them, none of them twice.
async fn shared_out(members: &[&Member]) -> Vec<BTreeSet<ShardId>> {
    let all: BTreeSet<ShardId> = (0..SHARDS).map(ShardId).collect();
    let share = async {
        loop {
            let pulled: Vec<_> = members.iter().map(|m| m.nodes.pulled(SHARDS)).collect();
            let sum: usize = pulled.iter().map(BTreeSet::len).sum();
            let union: BTreeSet<ShardId> = pulled.iter().flatten().copied().collect();
            if union == all && sum == all.len() && pulled.iter().all(|p| !p.is_empty()) {
                return pulled;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LEASE * 4, share)
        .await
        .expect("shards are shared out")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_are_shared_by_the_nodes_that_run() {
    let Some(store) = server::shared(Engine::Ssd).await else {
        return;
    };
    let one = Region::over(store.clone(), 1, NodeId(1)).await;
    let two = Region::over(store.clone(), 1, NodeId(2)).await;
    let first = member(&one, "http://one");
    shared_out(&[&first]).await;
    let second = member(&two, "http://two");
    shared_out(&[&first, &second]).await;
    assert_eq!(first.nodes.urls(), ["http://one", "http://two"]);

    // Who stops gives back at once; nobody waits for a lease to run out.
    second.stop.cancel();
    second.tasks.wait().await;
    let alone = [&first];
    let back = tokio::time::timeout(LEASE, shared_out(&alone));
    back.await.expect("given back");
}

/// A node that was paused for longer than its lease and goes on as if nothing had happened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_who_has_lost_a_lease_applies_nothing_under_it() {
    let Some(store) = server::shared(Engine::Ssd).await else {
        return;
    };
    let Some(elsewhere) = server::shared(Engine::Ssd).await else {
        return;
    };
    let eu = Region::over(elsewhere, 1, NodeId(1)).await;
    let (conversation, create) = room(&[]);
    eu.write("ada", "room", create, conversation).await;
    let shard = conversation.shard(SHARDS);
    let log = eu.log(shard).await;
    let last = log.last().unwrap().0;

    let paused = Region::over(store.clone(), 2, NodeId(1)).await;
    let other = Region::over(store.clone(), 2, NodeId(2)).await;
    // Its beat runs elsewhere, so that it can be cut short: nothing is given back, as after SIGSTOP.
    let beats = tokio::runtime::Runtime::new().unwrap();
    let first = {
        let _there = beats.enter();
        member(&paused, "http://one")
    };
    shared_out(&[&first]).await;
    let apply = async |by: &Region, of: &Member| {
        let (fence, origin) = (of.nodes.fence(shard), eu.identity.origin);
        assert!(fence.is_some());
        let (from, batches) = (Stamp::MIN, log.clone());
        let applied = remote::apply(&store, &by.context, fence, shard, origin, from, batches);
        match applied.await.unwrap() {
            Applied::At(at) => at,
            Applied::Stopped { reason, .. } => panic!("{reason}"),
        }
    };
    beats.shutdown_background();
    let second = member(&other, "http://two");
    let taken = async {
        while second.nodes.pulled(SHARDS).len() < usize::from(SHARDS) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), taken)
        .await
        .expect("taken over");
    assert_eq!(apply(&paused, &first).await, Stamp::MIN, "refused");
    assert_eq!(apply(&other, &second).await, last);
}

/// The server is killed in the middle of commits, again and again. Commands are asked again with
/// their keys until they are answered, and each took effect exactly once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_g7_kills_of_the_server_lose_and_double_nothing() {
    const KILLS: usize = 10;
    let Some(programs) = server::programs() else {
        return;
    };
    let (mut running, _dir) = server::own(&programs, Engine::Ssd).await;
    let store = server::open(running.cluster_file(), "kills/");
    let region = Arc::new(Region::over(store.clone(), 1, NodeId(1)).await);
    let users: Vec<String> = (0..8).map(|n| format!("user{n}")).collect();
    let members: Vec<&str> = users.iter().map(String::as_str).collect();
    let (conversation, create) = room(&members);
    region.write("ada", "room", create, conversation).await;

    let stop = CancellationToken::new();
    let mut writers = tokio::task::JoinSet::new();
    for user in users {
        let (region, stop) = (region.clone(), stop.clone());
        writers.spawn(async move {
            let mut acked = Vec::new();
            while !stop.is_cancelled() {
                let key = format!("key{}", acked.len());
                let text = format!("{user} says {key}");
                let (message, action) = post(&conversation, &user, &key, &text);
                write_at_last(&region, &user, &key, action, conversation).await;
                acked.push(message);
            }
            acked
        });
    }
    let mut chance = StdRng::seed_from_u64(crate::store::random::seed());
    for _ in 0..KILLS {
        let pause = rand::Rng::random_range(&mut chance, 300..1_500);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        running.kill().await.unwrap();
        let pause = rand::Rng::random_range(&mut chance, 0..1_000);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        running.restart().unwrap();
    }
    // Back without a restart of ours: every writer is answered once more.
    tokio::time::sleep(Duration::from_secs(2)).await;
    stop.cancel();
    let joined = tokio::time::timeout(Duration::from_secs(60), writers.join_all());
    let acked = joined.await.expect("the store is back");
    let acked: Vec<_> = acked.into_iter().flatten().collect();

    let timeline = region.timeline(conversation).await;
    let once: BTreeSet<_> = timeline.iter().collect();
    assert_eq!(once.len(), timeline.len(), "a message stands twice");
    assert_eq!(
        once,
        acked.iter().collect(),
        "the timeline is what was acked"
    );
    region.posts_stand_in_the_log_once(conversation).await;
    let metrics = store.metrics();
    println!(
        "{KILLS} kills, {} posts acked, {} unknown outcomes, {} conflicts, {} retries",
        acked.len(),
        metrics.unknown.get(),
        metrics.conflicts.get(),
        metrics.retries.get()
    );
}

/// While the server is away writes are refused in bounded time, and it needs no restart of ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g18_writes_are_refused_while_the_server_is_away() {
    let Some(programs) = server::programs() else {
        return;
    };
    let (mut running, _dir) = server::own(&programs, Engine::Memory).await;
    let store = server::open(running.cluster_file(), "away/");
    let region = Region::over(store, 1, NodeId(1)).await;
    let (conversation, create) = room(&[]);
    region.write("ada", "room", create, conversation).await;
    running.kill().await.unwrap();
    let action = || post(&conversation, "ada", "key", "text").1;
    // Far longer than the transaction's own timeout: it must not hang, however slow the machine.
    let refused = tokio::time::timeout(
        Duration::from_secs(60),
        region.try_write("ada", "key", action(), conversation),
    );
    refused.await.expect("it does not hang").unwrap_err();
    running.restart().unwrap();
    write_at_last(&region, "ada", "key", action(), conversation).await;
    assert_eq!(region.timeline(conversation).await.len(), 1);
}

/// The store came back from a backup and was given a new life while a node of the old one was paused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g18_a_node_that_was_away_writes_nothing_into_a_new_life() {
    let Some(store) = server::shared(Engine::Ssd).await else {
        return;
    };
    let region = Region::over(store.clone(), 1, NodeId(1)).await;
    let (conversation, create) = room(&["ben"]);
    region.write("ada", "room", create, conversation).await;
    let renew = store.run(RunOptions::default(), |tx| async move {
        tx.set(&keys::meta("incarnation"), &2_u32.to_be_bytes());
        Ok(())
    });
    renew.await.unwrap();
    let post_once = async |key: &str| {
        let action = post(&conversation, "ada", key, key).1;
        let end = region.try_write("ada", key, action, conversation).await;
        end.unwrap_err().to_string()
    };
    let error = post_once("first").await;
    assert!(error.contains("given a new life"), "{error}");
    // From then on it does not even try.
    let error = post_once("second").await;
    assert!(error.contains("lost commits"), "{error}");
    assert_eq!(region.timeline(conversation).await, []);
}
