//! The embedded engine: the common suite, and its own bounds.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
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

/// G1: what a full disk or a crash cut short at any byte is no commit, and costs no other.
#[tokio::test]
async fn g1_a_journal_that_is_torn_anywhere_in_its_last_write_opens() {
    let (store, dir) = fresh();
    let set = async |key: &[u8]| {
        let tx = store.begin().unwrap();
        tx.set(key, &[b'v'; 308]);
        tx.commit().await.unwrap();
    };
    set(b"whole").await;
    let (file, from) = journal_end(dir.path());
    set(b"torn").await;
    let (_, to) = journal_end(dir.path());
    assert!(to > from + 308, "{from} to {to}");
    drop(store);

    let written = fs::read(dir.path().join(&file)).unwrap();
    let full = written.len() as u64;
    // Each byte of what stands before the value and behind it; of the value some.
    let cuts = (from..to).filter(|cut| *cut < from + 80 || to - cut < 40 || cut % 50 == 0);
    for cut in cuts {
        let copy = tempfile::tempdir().unwrap();
        copy_all(dir.path(), copy.path());
        let journal = File::create(copy.path().join(&file)).unwrap();
        (&journal).write_all(&written[..cut]).unwrap();
        journal.set_len(full).unwrap();
        let rows = scan(&open(copy.path())).await;
        assert!(rows.contains_key(&b"whole"[..]), "cut at {cut}");
        assert!(!rows.contains_key(&b"torn"[..]), "cut at {cut}");
    }
}

/// The journal of a store, and where what was written into it ends: zeros follow.
fn journal_end(dir: &Path) -> (PathBuf, usize) {
    let files = fs::read_dir(dir.join("data"))
        .unwrap()
        .map(|file| file.unwrap().path());
    let mut journals = files.filter(|file| file.extension().is_some_and(|end| end == "jnl"));
    let journal = journals.next().expect("a store has a journal");
    let bytes = fs::read(&journal).unwrap();
    let end = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at + 1);
    (journal.strip_prefix(dir).unwrap().to_owned(), end)
}

/// But the journal.
fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_all(&entry.path(), &target);
        } else if entry.path().extension().is_none_or(|end| end != "jnl") {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
