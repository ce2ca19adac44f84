//! The embedded engine: the common suite, and its own bounds.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use whimbrel_node::store::embedded::{Embedded, Options};
use whimbrel_node::store::faulty::Faulty;
use whimbrel_node::store::limits::CLEARED_KEYS_MAX;
use whimbrel_node::store::{RangeOptions, Store, StoreError};

use super::conformance::conformance;
use super::random::{FAULTS, Load, exactly_once, scan, seed, serializable};

pub(crate) fn open(dir: &Path) -> Store {
    Store::Embedded(Embedded::open(dir, Options::default()).unwrap())
}

fn fresh() -> (Store, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (open(dir.path()), dir)
}

fn opened() -> std::future::Ready<Option<(Store, TempDir)>> {
    std::future::ready(Some(fresh()))
}

conformance!(opened);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_transactions() {
    let (store, _dir) = fresh();
    let load = Load {
        workers: 8,
        transactions: 60,
        pad: 0,
    };
    serializable(&store, load, seed()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_transactions_with_faults() {
    let (store, _dir) = fresh();
    let seed = seed();
    let store = Store::Faulty(Faulty::new(store, FAULTS, seed));
    let load = Load {
        workers: 8,
        transactions: 60,
        pad: 0,
    };
    serializable(&store, load, seed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_transactions_over_flushes_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        memtable_bytes: 256 << 10,
        cache_bytes: 1 << 20,
        ..Options::default()
    };
    let seed = seed();
    let mut end = None;
    for round in 0..4 {
        let store = Store::Embedded(Embedded::open(dir.path(), options).unwrap());
        if let Some(end) = end {
            assert_eq!(scan(&store).await, end, "reopened");
        }
        let load = Load {
            workers: 8,
            transactions: 30,
            pad: 8_000,
        };
        end = Some(serializable(&store, load, seed.wrapping_add(round)).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn increments_land_exactly_once() {
    let (store, _dir) = fresh();
    exactly_once(&store, seed()).await;
}

#[tokio::test]
async fn old_transactions_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let window = Duration::from_millis(200);
    let options = Options {
        window,
        ..Options::default()
    };
    let store = Store::Embedded(Embedded::open(dir.path(), options).unwrap());
    let (young, reads, writes) = (
        store.begin().unwrap(),
        store.begin().unwrap(),
        store.begin().unwrap(),
    );
    writes.set(b"a", b"1");
    young.get(b"a", false).await.unwrap();
    young.set(b"b", b"1");
    tokio::time::sleep(window / 2).await;
    young.commit().await.unwrap();
    tokio::time::sleep(window).await;
    assert_eq!(reads.get(b"a", false).await, Err(StoreError::TooOld));
    let all = RangeOptions::default();
    assert_eq!(reads.range(b"a", b"b", all).await, Err(StoreError::TooOld));
    assert_eq!(writes.commit().await, Err(StoreError::TooOld));
}

#[tokio::test]
async fn a_range_clear_is_bounded() {
    let (store, _dir) = fresh();
    let key = |n: usize| format!("{n:08}").into_bytes();
    for part in 0..2 {
        let tx = store.begin().unwrap();
        for n in part * CLEARED_KEYS_MAX / 2..(part + 1) * CLEARED_KEYS_MAX / 2 {
            tx.set(&key(n), b"");
        }
        tx.commit().await.unwrap();
    }
    let tx = store.begin().unwrap();
    tx.set(b"x", b"");
    tx.commit().await.unwrap();
    let tx = store.begin().unwrap();
    tx.clear_range(b"0", b"z");
    assert!(matches!(tx.commit().await, Err(StoreError::TooLarge(_))));
    let tx = store.begin().unwrap();
    tx.clear_range(b"0", &key(CLEARED_KEYS_MAX));
    tx.commit().await.unwrap();
    assert_eq!(scan(&store).await.len(), 1);
}

#[tokio::test]
async fn a_directory_has_one_owner() {
    let (store, dir) = fresh();
    let error = Embedded::open(dir.path(), Options::default()).unwrap_err();
    assert!(
        error.to_string().contains(dir.path().to_str().unwrap()),
        "{error}"
    );
    assert!(error.to_string().contains("in use"), "{error}");
    // A transaction keeps the store open, and the last handle closes it.
    let tx = store.begin().unwrap();
    drop(store);
    assert!(Embedded::open(dir.path(), Options::default()).is_err());
    drop(tx);
    open(dir.path());
}

#[tokio::test]
async fn counts_and_sizes() {
    let (store, _dir) = fresh();
    let commits = || async {
        let tx = store.begin().unwrap();
        let _ = tx.get(b"a", false).await;
        tx.set(b"a", b"1");
        tx
    };
    let (one, two) = (commits().await, commits().await);
    one.commit().await.unwrap();
    two.commit().await.unwrap_err();
    let metrics = store.metrics();
    assert_eq!((metrics.commits.get(), metrics.conflicts.get()), (1, 1));
    assert_eq!(metrics.sync_seconds.get_sample_count(), 1);
    assert!(store.disk_bytes().unwrap() > 0);
    let registry = prometheus::Registry::new();
    metrics.register(&registry).unwrap();
    assert_eq!(registry.gather().len(), 10);
}
