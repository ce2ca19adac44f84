//! The common suite, with the engines of FoundationDB itself, and what is under the prefix.

use whimbrel_node::dev::foundationdb::Engine;
use whimbrel_node::store::faulty::Faulty;
use whimbrel_node::store::{RangeOptions, Store};

use super::server;
use crate::store::conformance::conformance;
use crate::store::random::{FAULTS, Load, exactly_once, seed, serializable};

mod memory {
    use super::*;

    async fn opened() -> Option<(Store, ())> {
        Some((server::shared(Engine::Memory).await?, ()))
    }

    conformance!(opened);
}

mod ssd {
    use super::*;

    async fn opened() -> Option<(Store, ())> {
        Some((server::shared(Engine::Ssd).await?, ()))
    }

    conformance!(opened);
}

const LOAD: Load = Load {
    workers: 8,
    transactions: 40,
    pad: 0,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_transactions() {
    let Some(store) = server::shared(Engine::Ssd).await else {
        return;
    };
    serializable(&store, LOAD, seed()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_transactions_with_faults() {
    let Some(store) = server::shared(Engine::Ssd).await else {
        return;
    };
    let seed = seed();
    let store = Store::Faulty(Faulty::new(store, FAULTS, seed));
    serializable(&store, LOAD, seed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn increments_land_exactly_once() {
    let Some(store) = server::shared(Engine::Ssd).await else {
        return;
    };
    exactly_once(&store, seed()).await;
}

/// A store sees nothing of another one in the same cluster, not even by a range over everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_under_different_prefixes_are_apart() {
    let Some(one) = server::shared(Engine::Memory).await else {
        return;
    };
    let Some(other) = server::shared(Engine::Memory).await else {
        return;
    };
    let tx = one.begin().unwrap();
    tx.set(b"\0", b"first");
    tx.set(b"\xfe", b"last");
    tx.commit().await.unwrap();
    let tx = other.begin().unwrap();
    tx.set(b"k", b"v");
    tx.clear_range(b"", b"\xff");
    tx.commit().await.unwrap();
    let tx = one.begin().unwrap();
    let all = RangeOptions::default();
    let rows = tx.range(b"", b"\xff", all).await.unwrap().rows;
    let keys: Vec<&[u8]> = rows.iter().map(|(key, _)| &key[..]).collect();
    assert_eq!(keys, [&b"\0"[..], &b"\xfe"[..]]);
}
