use std::time::Duration;

use tokio_util::sync::CancellationToken;
use whimbrel_node::store::embedded::{Embedded, Options, SimulatedDisk};
use whimbrel_node::store::{RunOptions, Store, keys};
use whimbrel_node::touch::{Touch, Touched};
use whimbrel_replication::id::ShardId;

const SHARD: ShardId = ShardId(0);

/// Commits something, and tells so; whether the key went along.
async fn commit(store: &Store, touch: &std::sync::Arc<Touch>) -> Option<Touched> {
    let within = touch.clone();
    let committed = store.run(RunOptions::default(), move |tx| {
        let touch = within.clone();
        async move {
            tx.set(b"row", b"");
            Ok(touch.go_along(&tx))
        }
    });
    let touched = committed.await.unwrap().value;
    touch.committed(touched);
    touched
}

async fn changes(store: &Store) -> u64 {
    let read = store.read(RunOptions::default(), |tx| async move {
        tx.get(&keys::wake(SHARD), true).await
    });
    let value = read.await.unwrap();
    value.map_or(0, |value| u64::from_le_bytes(value[..].try_into().unwrap()))
}

async fn until_changed(store: &Store, times: u64) {
    let wait = async {
        while changes(store).await < times {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), wait).await;
    assert!(in_time.is_ok(), "changed {} times", changes(store).await);
}

#[tokio::test]
async fn every_commit_wakes_the_other_nodes_and_a_burst_of_them_seldom() {
    let disk = SimulatedDisk::default();
    let store = Store::Embedded(Embedded::simulated(&disk, Options::default()).unwrap());
    let (touch, stop) = (
        std::sync::Arc::new(Touch::new(SHARD)),
        CancellationToken::new(),
    );
    let follower = {
        let (touch, store, stop) = (touch.clone(), store.clone(), stop.clone());
        tokio::spawn(async move { touch.follow(&store, stop).await })
    };
    // The first goes along; none of a burst is left out in the end.
    assert!(commit(&store, &touch).await.is_some());
    assert_eq!(changes(&store).await, 1);
    let mut without = 0;
    for _ in 0..100 {
        without += usize::from(commit(&store, &touch).await.is_none());
    }
    assert!(without > 50, "{without} of 100 went without");
    let before = changes(&store).await;
    if commit(&store, &touch).await.is_none() {
        until_changed(&store, before + 1).await;
    }
    assert!(changes(&store).await < 50);
    stop.cancel();
    follower.await.unwrap();
}
