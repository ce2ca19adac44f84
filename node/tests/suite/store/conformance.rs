//! What every engine has to do, case by case. Each case gets an empty store.

use std::time::Duration;

use futures_util::FutureExt as _;
use whimbrel_node::store::limits::{KEY_BYTES_MAX, TRANSACTION_BYTES_MAX, VALUE_BYTES_MAX};
use whimbrel_node::store::{
    Atomic, Page, RangeOptions, RunOptions, Store, StoreError, Transaction, Watch, key_after,
};

/// Runs all cases on the stores that `$open` makes: a pair of a store and what keeps it alive, or
/// nothing where the engine is not there.
macro_rules! conformance {
    ($open:path) => {
        $crate::store::conformance::conformance!($open;
            reads_see_own_writes, ranges_see_own_writes, ranges_stop_at_limits, atomics,
            versionstamped_key, versionstamped_value, stamps_grow, pending_stamps_are_not_read,
            misuse_is_refused, limits, point_conflict, range_conflict_with_phantoms,
            pages_conflict_only_where_read, clears_conflict, blind_writes_do_not_conflict,
            snapshot_reads_do_not_conflict, explicit_conflict_ranges, views_are_fixed,
            own_commits_are_seen, read_only_commits, watch_fires, watch_does_not_fire,
            watch_sees_what_came_before, watch_of_an_own_write, run_retries, run_survives_its_caller, run_keeps_unknown,
            read_refuses_writes,
        );
    };
    ($open:path; $($case:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let Some((store, _alive)) = $open().await else {
                    return;
                };
                $crate::store::conformance::$case(&store).await;
            }
        )+
    };
}
pub(crate) use conformance;

async fn put(store: &Store, rows: &[(&str, &str)]) {
    let tx = store.begin().unwrap();
    for (key, value) in rows {
        tx.set(key.as_bytes(), value.as_bytes());
    }
    tx.commit().await.unwrap();
}

async fn get(store: &Store, key: &str) -> Option<String> {
    read(&store.begin().unwrap(), key).await
}

async fn read(tx: &Transaction, key: &str) -> Option<String> {
    let value = tx.get(key.as_bytes(), false).await.unwrap();
    value.map(|v| String::from_utf8_lossy(&v).into_owned())
}

/// A transaction whose view is fixed, by a read that conflicts with nothing.
async fn pinned(store: &Store) -> Transaction {
    let tx = store.begin().unwrap();
    tx.get(b"pin", true).await.unwrap();
    tx
}

async fn page(tx: &Transaction, begin: &str, end: &str, opts: RangeOptions) -> Page {
    tx.range(begin.as_bytes(), end.as_bytes(), opts)
        .await
        .unwrap()
}

fn rows(page: &Page) -> String {
    page.rows
        .iter()
        .map(|(k, v)| format!("{}={}", k.escape_ascii(), v.escape_ascii()))
        .collect::<Vec<_>>()
        .join(" ")
}

fn reverse() -> RangeOptions {
    RangeOptions {
        reverse: true,
        ..RangeOptions::default()
    }
}

pub(crate) async fn reads_see_own_writes(store: &Store) {
    put(store, &[("a", "1"), ("b", "1"), ("c", "1")]).await;
    let tx = store.begin().unwrap();
    tx.set(b"a", b"2");
    tx.clear(b"b");
    tx.clear_range(b"c", b"d");
    assert_eq!(read(&tx, "a").await.as_deref(), Some("2"));
    assert_eq!(read(&tx, "b").await, None);
    assert_eq!(read(&tx, "c").await, None);
    tx.set(b"c", b"3");
    assert_eq!(read(&tx, "c").await.as_deref(), Some("3"));
    tx.atomic(Atomic::ByteMax, b"c", b"4");
    assert_eq!(read(&tx, "c").await.as_deref(), Some("4"));
    tx.commit().await.unwrap();
    let tx = store.begin().unwrap();
    assert_eq!(
        rows(&page(&tx, "", "z", RangeOptions::default()).await),
        "a=2 c=4"
    );
}

pub(crate) async fn ranges_see_own_writes(store: &Store) {
    put(
        store,
        &[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1"), ("e", "1")],
    )
    .await;
    let tx = store.begin().unwrap();
    tx.set(b"b", b"2");
    tx.set(b"bb", b"2");
    tx.clear(b"c");
    tx.atomic(Atomic::ByteMax, b"d", b"3");
    tx.atomic(Atomic::ByteMax, b"dd", b"3");
    tx.clear_range(b"e", b"f");
    tx.set(b"ee", b"2");
    let all = page(&tx, "a", "z", RangeOptions::default()).await;
    assert_eq!(rows(&all), "a=1 b=2 bb=2 d=3 dd=3 ee=2");
    assert!(!all.more);
    let back = page(&tx, "a", "z", reverse()).await;
    assert_eq!(rows(&back), "ee=2 dd=3 d=3 bb=2 b=2 a=1");
    let part = page(&tx, "b\0", "dd", RangeOptions::default()).await;
    assert_eq!(rows(&part), "bb=2 d=3");
    assert_eq!(
        rows(&page(&tx, "c", "c", RangeOptions::default()).await),
        ""
    );
}

pub(crate) async fn ranges_stop_at_limits(store: &Store) {
    put(store, &[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]).await;
    let tx = store.begin().unwrap();
    tx.clear(b"b");
    tx.set(b"bb", b"2");
    let two = RangeOptions {
        limit: 2,
        ..RangeOptions::default()
    };
    let first = page(&tx, "a", "z", two).await;
    assert_eq!((rows(&first).as_str(), first.more), ("a=1 bb=2", true));
    let after = key_after(&first.rows[1].0);
    let second = tx.range(&after, b"z", two).await.unwrap();
    assert_eq!(rows(&second), "c=1 d=1");
    let last = page(
        &tx,
        "a",
        "z",
        RangeOptions {
            reverse: true,
            ..two
        },
    )
    .await;
    assert_eq!((rows(&last).as_str(), last.more), ("d=1 c=1", true));
    // One row at least, whatever its size.
    let small = RangeOptions {
        bytes: 1,
        ..RangeOptions::default()
    };
    assert_eq!(rows(&page(&tx, "a", "z", small).await), "a=1");
}

pub(crate) async fn atomics(store: &Store) {
    let number = |n: i64| n.to_le_bytes();
    let tx = store.begin().unwrap();
    tx.atomic(Atomic::Add, b"n", &number(5));
    tx.atomic(Atomic::Add, b"n", &number(-7));
    tx.atomic(Atomic::ByteMin, b"min", b"m");
    tx.atomic(Atomic::ByteMax, b"max", b"m");
    tx.set(b"short", &[255]);
    tx.commit().await.unwrap();
    let tx = store.begin().unwrap();
    tx.atomic(Atomic::Add, b"n", &number(1));
    tx.atomic(Atomic::ByteMin, b"min", b"l");
    tx.atomic(Atomic::ByteMax, b"max", b"l");
    // The result has the operand's length.
    tx.atomic(Atomic::Add, b"short", &[1, 0]);
    tx.commit().await.unwrap();
    let tx = store.begin().unwrap();
    assert_eq!(tx.get(b"n", false).await.unwrap().unwrap()[..], number(-1));
    assert_eq!(tx.get(b"short", false).await.unwrap().unwrap()[..], [0, 1]);
    assert_eq!(read(&tx, "min").await.as_deref(), Some("l"));
    assert_eq!(read(&tx, "max").await.as_deref(), Some("m"));
    // None of these read, so none conflicts.
    let (one, two) = (store.begin().unwrap(), store.begin().unwrap());
    one.atomic(Atomic::Add, b"n", &number(10));
    two.atomic(Atomic::Add, b"n", &number(100));
    one.commit().await.unwrap();
    two.commit().await.unwrap();
    let tx = store.begin().unwrap();
    assert_eq!(tx.get(b"n", false).await.unwrap().unwrap()[..], number(109));
}

pub(crate) async fn versionstamped_key(store: &Store) {
    let tx = store.begin().unwrap();
    tx.set_versionstamped_key(b"log/..........!".to_vec(), 4, b"x");
    let stamp = tx.commit().await.unwrap().unwrap();
    let expected = [b"log/", &stamp.as_bytes()[..], b"!"].concat();
    let tx = store.begin().unwrap();
    let log = page(&tx, "log/", "log0", RangeOptions::default()).await;
    assert_eq!(log.rows, [(expected.into(), "x".into())]);
}

pub(crate) async fn versionstamped_value(store: &Store) {
    let tx = store.begin().unwrap();
    tx.set_versionstamped_value(b"k", b"<..........>".to_vec(), 1);
    let stamp = tx.commit().await.unwrap().unwrap();
    let expected = [b"<", &stamp.as_bytes()[..], b">"].concat();
    let tx = store.begin().unwrap();
    assert_eq!(tx.get(b"k", false).await.unwrap().unwrap()[..], expected);
}

pub(crate) async fn stamps_grow(store: &Store) {
    let commit = |n: u32| {
        let store = store.clone();
        async move {
            let tx = store.begin().unwrap();
            tx.set(&n.to_be_bytes(), b"");
            tx.commit().await.unwrap().unwrap()
        }
    };
    let mut stamps = Vec::new();
    for round in 0..4 {
        let together = (0..50).map(|n| tokio::spawn(commit(round * 50 + n)));
        let mut together: Vec<_> = futures_util::future::join_all(together.collect::<Vec<_>>())
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        together.sort();
        assert!(stamps.last() < together.first());
        stamps.extend(together);
    }
    stamps.dedup();
    assert_eq!(stamps.len(), 200);
}

pub(crate) async fn pending_stamps_are_not_read(store: &Store) {
    let misuse = |result: Result<(), StoreError>| {
        assert!(matches!(result, Err(StoreError::Misuse(_))), "{result:?}");
    };
    let key = || {
        let tx = store.begin().unwrap();
        tx.set_versionstamped_key(b"l..........".to_vec(), 1, b"");
        tx
    };
    let value = || {
        let tx = store.begin().unwrap();
        tx.set_versionstamped_value(b"v", vec![0; 10], 0);
        tx
    };
    misuse(value().get(b"v", false).await.map(drop));
    misuse(value().get(b"v", true).await.map(drop));
    let opts = RangeOptions::default();
    misuse(value().range(b"a", b"z", opts).await.map(drop));
    misuse(key().range(b"l", b"m", opts).await.map(drop));
    misuse(key().get(b"l0123456789", false).await.map(drop));
    // It fails the whole transaction.
    let tx = value();
    misuse(tx.get(b"v", false).await.map(drop));
    misuse(tx.commit().await.map(drop));
    let tx = value();
    tx.atomic(Atomic::Add, b"v", b"1");
    misuse(tx.commit().await.map(drop));
    // Elsewhere it can be read.
    value().get(b"w", false).await.unwrap();
    value().range(b"w", b"z", opts).await.unwrap();
    key().range(b"m", b"z", opts).await.unwrap();
    assert_eq!(get(store, "v").await, None);
}

pub(crate) async fn misuse_is_refused(store: &Store) {
    async fn check(store: &Store, what: &str, write: impl Fn(&Transaction)) {
        let tx = store.begin().unwrap();
        tx.set(b"before", b"");
        write(&tx);
        tx.set(b"after", b"");
        let result = tx.commit().await;
        assert!(
            matches!(result, Err(StoreError::Misuse(_))),
            "{what}: {result:?}"
        );
    }
    check(store, "engine's key", |tx| tx.set(b"\xff", b"")).await;
    check(store, "engine's range", |tx| {
        tx.clear_range(b"a", b"\xff\xff");
    })
    .await;
    check(store, "inverted range", |tx| tx.clear_range(b"b", b"a")).await;
    check(store, "no room in the key", |tx| {
        tx.set_versionstamped_key(b"0123456789".to_vec(), 1, b"");
    })
    .await;
    check(store, "no room in the value", |tx| {
        tx.set_versionstamped_value(b"k", vec![0; 9], 0);
    })
    .await;
    let tx = store.begin().unwrap();
    let zero = RangeOptions {
        limit: 0,
        ..RangeOptions::default()
    };
    assert!(matches!(
        tx.range(b"a", b"b", zero).await,
        Err(StoreError::Misuse(_))
    ));
    let all = RangeOptions::default();
    assert!(matches!(
        tx.range(b"b", b"a", all).await,
        Err(StoreError::Misuse(_))
    ));
    tx.set(b"once", b"");
    tx.commit().await.unwrap();
    assert!(matches!(tx.commit().await, Err(StoreError::Misuse(_))));
    let tx = store.begin().unwrap();
    assert_eq!(rows(&page(&tx, "", "z", all).await), "once=");
}

pub(crate) async fn limits(store: &Store) {
    async fn commit(store: &Store, write: impl Fn(&Transaction)) -> Result<(), StoreError> {
        let tx = store.begin().unwrap();
        write(&tx);
        tx.commit().await.map(drop)
    }
    let too_large = |result: Result<(), StoreError>| {
        assert!(matches!(result, Err(StoreError::TooLarge(_))), "{result:?}");
    };
    let key = vec![b'k'; KEY_BYTES_MAX + 1];
    let value = vec![b'v'; VALUE_BYTES_MAX + 1];
    commit(store, |tx| tx.set(&key[1..], &value[1..]))
        .await
        .unwrap();
    too_large(commit(store, |tx| tx.set(&key, b"")).await);
    too_large(commit(store, |tx| tx.clear(&key)).await);
    too_large(commit(store, |tx| tx.set(b"k", &value)).await);
    too_large(commit(store, |tx| tx.atomic(Atomic::Add, b"k", &value)).await);
    too_large(commit(store, |tx| tx.set_versionstamped_key(key.clone(), 1, b"")).await);
    too_large(
        commit(store, |tx| {
            tx.set_versionstamped_value(b"k", value.clone(), 0);
        })
        .await,
    );
    let many = TRANSACTION_BYTES_MAX / VALUE_BYTES_MAX;
    let fill = |count: usize| {
        let value = &value[1..];
        move |tx: &Transaction| {
            for n in 0..count {
                tx.set(&n.to_be_bytes(), value);
            }
        }
    };
    commit(store, fill(many - 1)).await.unwrap();
    too_large(commit(store, fill(many)).await);
}

pub(crate) async fn point_conflict(store: &Store) {
    put(store, &[("a", "1"), ("b", "1")]).await;
    let loser = store.begin().unwrap();
    read(&loser, "a").await;
    loser.set(b"x", b"");
    let other = store.begin().unwrap();
    read(&other, "b").await;
    other.set(b"y", b"");
    put(store, &[("a", "2")]).await;
    assert_eq!(loser.commit().await, Err(StoreError::Conflict));
    other.commit().await.unwrap();
    // What is missing can conflict too.
    let loser = store.begin().unwrap();
    assert_eq!(read(&loser, "x").await, None);
    loser.set(b"z", b"");
    put(store, &[("x", "1")]).await;
    assert_eq!(loser.commit().await, Err(StoreError::Conflict));
    assert_eq!(get(store, "z").await, None);
}

pub(crate) async fn range_conflict_with_phantoms(store: &Store) {
    put(store, &[("a", "1"), ("c", "1")]).await;
    for opts in [RangeOptions::default(), reverse()] {
        for (written, conflict) in [("b", true), ("a", true), ("d", false), ("0", false)] {
            let tx = store.begin().unwrap();
            page(&tx, "a", "d", opts).await;
            tx.set(b"x", b"");
            put(store, &[(written, "2")]).await;
            assert_eq!(tx.commit().await.is_err(), conflict, "{written}");
            let tx = store.begin().unwrap();
            tx.clear(b"b");
            tx.commit().await.unwrap();
        }
    }
}

pub(crate) async fn pages_conflict_only_where_read(store: &Store) {
    put(store, &[("a", "1"), ("c", "1"), ("e", "1")]).await;
    let two = RangeOptions {
        limit: 2,
        ..RangeOptions::default()
    };
    let back = RangeOptions {
        reverse: true,
        ..two
    };
    for (opts, written, conflict) in [
        (two, "b", true),
        (two, "c", true),
        (two, "d", false),
        (back, "d", true),
        (back, "c", true),
        (back, "b", false),
    ] {
        let tx = store.begin().unwrap();
        assert!(page(&tx, "a", "z", opts).await.more);
        tx.set(b"0", b"");
        let writer = store.begin().unwrap();
        writer.set(written.as_bytes(), b"2");
        writer.commit().await.unwrap();
        assert_eq!(tx.commit().await.is_err(), conflict, "{written} {opts:?}");
        let tx = store.begin().unwrap();
        tx.clear(b"b");
        tx.clear(b"d");
        tx.commit().await.unwrap();
    }
}

pub(crate) async fn clears_conflict(store: &Store) {
    for present in [true, false] {
        if present {
            put(store, &[("b", "1")]).await;
        }
        let (point, range, beside) = (
            store.begin().unwrap(),
            store.begin().unwrap(),
            store.begin().unwrap(),
        );
        read(&point, "b").await;
        page(&range, "bb", "c", RangeOptions::default()).await;
        page(&beside, "d", "e", RangeOptions::default()).await;
        read(&beside, "d").await;
        for tx in [&point, &range, &beside] {
            tx.set(b"x", b"");
        }
        let tx = store.begin().unwrap();
        tx.clear_range(b"a", b"d");
        tx.commit().await.unwrap();
        assert_eq!(point.commit().await, Err(StoreError::Conflict));
        assert_eq!(range.commit().await, Err(StoreError::Conflict));
        beside.commit().await.unwrap();
    }
}

pub(crate) async fn blind_writes_do_not_conflict(store: &Store) {
    let (one, two) = (store.begin().unwrap(), store.begin().unwrap());
    one.set(b"a", b"1");
    two.set(b"a", b"2");
    // A value of one's own is not read from the store.
    assert_eq!(read(&two, "a").await.as_deref(), Some("2"));
    one.commit().await.unwrap();
    two.commit().await.unwrap();
    assert_eq!(get(store, "a").await.as_deref(), Some("2"));
}

pub(crate) async fn snapshot_reads_do_not_conflict(store: &Store) {
    let tx = store.begin().unwrap();
    tx.get(b"a", true).await.unwrap();
    let snapshot = RangeOptions {
        snapshot: true,
        ..RangeOptions::default()
    };
    page(&tx, "a", "z", snapshot).await;
    tx.set(b"x", b"");
    put(store, &[("a", "1"), ("b", "1")]).await;
    tx.commit().await.unwrap();
}

pub(crate) async fn explicit_conflict_ranges(store: &Store) {
    let reader = pinned(store).await;
    reader.add_read_conflict_range(b"a", b"c");
    reader.set(b"x", b"");
    let writer = store.begin().unwrap();
    writer.add_write_conflict_range(b"b", b"d");
    assert!(writer.commit().await.unwrap().is_some());
    assert_eq!(reader.commit().await, Err(StoreError::Conflict));
    let reader = pinned(store).await;
    reader.add_read_conflict_range(b"a", b"b");
    reader.set(b"x", b"");
    let writer = store.begin().unwrap();
    writer.add_write_conflict_range(b"b", b"d");
    writer.commit().await.unwrap();
    reader.commit().await.unwrap();
}

pub(crate) async fn views_are_fixed(store: &Store) {
    put(store, &[("a", "1"), ("b", "1")]).await;
    let tx = store.begin().unwrap();
    assert_eq!(read(&tx, "a").await.as_deref(), Some("1"));
    put(store, &[("a", "2"), ("b", "2"), ("c", "2")]).await;
    assert_eq!(read(&tx, "b").await.as_deref(), Some("1"));
    assert_eq!(
        rows(&page(&tx, "a", "z", RangeOptions::default()).await),
        "a=1 b=1"
    );
    assert_eq!(get(store, "b").await.as_deref(), Some("2"));
}

pub(crate) async fn own_commits_are_seen(store: &Store) {
    for n in 0..50 {
        let value = n.to_string();
        put(store, &[("a", &value)]).await;
        assert_eq!(get(store, "a").await, Some(value));
    }
}

pub(crate) async fn read_only_commits(store: &Store) {
    put(store, &[("a", "1")]).await;
    let tx = store.begin().unwrap();
    read(&tx, "a").await;
    put(store, &[("a", "2")]).await;
    assert_eq!(tx.commit().await, Ok(None));
    let read = RunOptions::default();
    let value = store.read(read, |tx| async move { tx.get(b"a", false).await });
    assert_eq!(value.await.unwrap().unwrap()[..], *b"2");
}

async fn watched(store: &Store, key: &str) -> Watch {
    let tx = store.begin().unwrap();
    let watch = tx.watch(key.as_bytes());
    tx.commit().await.unwrap();
    watch
}

/// Fires soon; engines may be slow to tell.
async fn fires(watch: Watch, what: &str) {
    let fired = tokio::time::timeout(Duration::from_secs(5), watch).await;
    assert_eq!(fired, Ok(Ok(())), "{what}");
}

async fn stays(watch: &mut Watch, what: &str) {
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(watch.now_or_never().is_none(), "{what}");
}

pub(crate) async fn watch_fires(store: &Store) {
    put(store, &[("a", "1"), ("b", "1"), ("c", "1")]).await;
    let (set, clear, range, made, atomic) = (
        watched(store, "a").await,
        watched(store, "b").await,
        watched(store, "c").await,
        watched(store, "d").await,
        watched(store, "e").await,
    );
    let tx = store.begin().unwrap();
    tx.set(b"a", b"2");
    tx.clear(b"b");
    tx.clear_range(b"c", b"c\0");
    tx.set_versionstamped_value(b"d", vec![0; 10], 0);
    tx.atomic(Atomic::Add, b"e", b"1");
    tx.commit().await.unwrap();
    fires(set, "set").await;
    fires(clear, "clear").await;
    fires(range, "clear_range").await;
    fires(made, "made").await;
    fires(atomic, "atomic").await;
}

pub(crate) async fn watch_does_not_fire(store: &Store) {
    put(store, &[("a", "1")]).await;
    let mut watch = watched(store, "a").await;
    put(store, &[("b", "1")]).await;
    stays(&mut watch, "another key").await;
    put(store, &[("a", "1")]).await;
    stays(&mut watch, "the same value").await;
    put(store, &[("a", "2")]).await;
    fires(watch, "at last").await;
    // Never armed, so it says so.
    let tx = store.begin().unwrap();
    let watch = tx.watch(b"a");
    drop(tx);
    assert!(watch.await.is_err());
}

pub(crate) async fn watch_sees_what_came_before(store: &Store) {
    let tx = pinned(store).await;
    let watch = tx.watch(b"a");
    put(store, &[("a", "1")]).await;
    tx.commit().await.unwrap();
    fires(watch, "between the view and the commit").await;
    let tx = pinned(store).await;
    let watch = tx.watch(b"a");
    tx.set(b"x", b"");
    put(store, &[("a", "2")]).await;
    assert_eq!(tx.commit().await, Err(StoreError::Conflict));
    assert!(watch.await.is_err(), "in a transaction that writes");
}

pub(crate) async fn watch_of_an_own_write(store: &Store) {
    let tx = store.begin().unwrap();
    tx.set(b"a", b"1");
    let mut watch = tx.watch(b"a");
    tx.commit().await.unwrap();
    stays(&mut watch, "one's own write").await;
    put(store, &[("a", "2")]).await;
    fires(watch, "another's").await;
}

pub(crate) async fn run_retries(store: &Store) {
    put(store, &[("n", "")]).await;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..10 {
                    let add = |tx: std::sync::Arc<Transaction>| async move {
                        let mut value = tx.get(b"n", false).await?.unwrap().to_vec();
                        tokio::task::yield_now().await;
                        value.push(b'1');
                        tx.set(b"n", &value);
                        Ok(value.len())
                    };
                    let done = store.run(RunOptions::default(), add).await.unwrap();
                    assert!(done.stamp.is_some());
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(get(store, "n").await.unwrap().len(), 80);
}

pub(crate) async fn run_survives_its_caller(store: &Store) {
    let slow = |tx: std::sync::Arc<Transaction>| async move {
        tx.set(b"a", b"1");
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(())
    };
    let short = RunOptions {
        timeout: Duration::from_millis(5),
        ..RunOptions::default()
    };
    assert_eq!(store.run(short, slow).await, Err(StoreError::Abandoned));
    store.drain().await;
    assert_eq!(get(store, "a").await.as_deref(), Some("1"));
    let once = RunOptions {
        attempts: 1,
        ..RunOptions::default()
    };
    let conflict = |_| async { Err::<(), _>(StoreError::Conflict) };
    assert_eq!(store.run(once, conflict).await, Err(StoreError::Conflict));
}

/// What comes after an unknown commit does not hide it.
pub(crate) async fn run_keeps_unknown(store: &Store) {
    for last in [
        StoreError::Conflict,
        StoreError::TooOld,
        StoreError::Unavailable("".into()),
    ] {
        let attempt = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        let fail = move |_| {
            let first = attempt.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
            let error = if first {
                StoreError::Unknown
            } else {
                last.clone()
            };
            async { Err::<(), _>(error) }
        };
        let three = RunOptions {
            attempts: 3,
            ..RunOptions::default()
        };
        assert_eq!(store.run(three, fail).await, Err(StoreError::Unknown));
    }
}

pub(crate) async fn read_refuses_writes(store: &Store) {
    let writes = |tx: std::sync::Arc<Transaction>| async move {
        tx.set(b"a", b"1");
        Ok(())
    };
    let result = store.read(RunOptions::default(), writes).await;
    assert!(matches!(result, Err(StoreError::Misuse(_))), "{result:?}");
    assert_eq!(get(store, "a").await, None);
}
