//! A figure, not a test: `cargo test --release -p whimbrel-node --test suite -- --ignored
//! --nocapture store::measure`. `WHIMBREL_MEASURE_DIR` chooses the disk.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foundationdb_tuple::{Element, unpack};
use whimbrel_node::store::{RangeOptions, RunOptions, Store, StoreError, Transaction, key_after};

use super::embedded::open;

const COMMITTERS: u32 = 64;
const KEYS: u32 = 8;
const VALUE: [u8; 100] = [7; 100];
const DURATION: Duration = Duration::from_secs(10);

/// So many committers write, each one transaction after the other.
struct Measured {
    a_second: f64,
    /// Sorted.
    waits: Vec<Duration>,
}

impl Measured {
    async fn of<Fut>(
        store: &Store,
        committers: u32,
        write: impl Fn(Arc<Transaction>, u32, u32) -> Fut + Clone + Send + Sync + 'static,
    ) -> Self
    where
        Fut: Future<Output = Result<(), StoreError>> + Send + 'static,
    {
        let began = Instant::now();
        let tasks = (0..committers).map(|committer| {
            let (store, write) = (store.clone(), write.clone());
            tokio::spawn(async move {
                let mut waits = Vec::new();
                for n in 0_u32.. {
                    let start = Instant::now();
                    if began.elapsed() > DURATION {
                        break;
                    }
                    let write = write.clone();
                    let attempt = move |tx| write(tx, committer, n);
                    store.run(RunOptions::default(), attempt).await.unwrap();
                    waits.push(start.elapsed());
                }
                waits
            })
        });
        let mut waits = Vec::new();
        for task in tasks.collect::<Vec<_>>() {
            waits.extend(task.await.unwrap());
        }
        let a_second = waits.len() as f64 / began.elapsed().as_secs_f64();
        waits.sort();
        Self { a_second, waits }
    }

    fn at(&self, thousandth: usize) -> Duration {
        self.waits[(self.waits.len() * thousandth / 1000).min(self.waits.len() - 1)]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints a figure"]
async fn commits_a_second() {
    let dir = match std::env::var_os("WHIMBREL_MEASURE_DIR") {
        Some(dir) => tempfile::tempdir_in(dir).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let store = open(dir.path());
    let write = |tx: Arc<Transaction>, committer: u32, n: u32| async move {
        let own = format!("own/{committer:04}");
        tx.get(own.as_bytes(), false).await?;
        tx.set(own.as_bytes(), &n.to_be_bytes());
        for key in 1..KEYS {
            let key = format!("row/{key}/{committer:04}/{n:08}");
            tx.set(key.as_bytes(), &VALUE);
        }
        Ok(())
    };
    let measured = Measured::of(&store, COMMITTERS, write).await;
    let metrics = store.metrics();
    let mean = |h: &prometheus::Histogram| h.get_sample_sum() / h.get_sample_count() as f64;
    println!(
        "{:.0} transactions/s; p50 {:?}, p99 {:?}, p99.9 {:?}, max {:?}; {:.1} a group, {:.2} ms a write",
        measured.a_second,
        measured.at(500),
        measured.at(990),
        measured.at(999),
        measured.at(1000),
        mean(&metrics.group_transactions),
        mean(&metrics.sync_seconds) * 1000.0,
    );
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    for line in status
        .lines()
        .filter(|l| l.starts_with("VmHWM") || l.starts_with("VmRSS"))
    {
        println!("{line}");
    }
}

/// What a FoundationDB cluster does with bare commits of one key each, to compare with the messages
/// that it carries. `WHIMBREL_MEASURE_CLUSTER` names the cluster file.
#[cfg(feature = "foundationdb")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints a figure"]
async fn bare_commits_a_second() {
    let file = std::env::var_os("WHIMBREL_MEASURE_CLUSTER").expect("WHIMBREL_MEASURE_CLUSTER");
    let store = super::foundationdb::server::open(file.into(), "measure/");
    for in_flight in [1, 64, 256] {
        let write = |tx: Arc<Transaction>, committer: u32, n: u32| {
            tx.set(format!("{committer:04}/{n:08}").as_bytes(), &VALUE);
            std::future::ready(Ok(()))
        };
        let measured = Measured::of(&store, in_flight, write).await;
        println!(
            "{in_flight} in flight: {:.0} commits/s, p50 {:.2?}, p99 {:.2?}",
            measured.a_second,
            measured.at(500),
            measured.at(990)
        );
    }
    let clear = |tx: Arc<Transaction>| {
        tx.clear_range(b"0", b"9");
        std::future::ready(Ok(()))
    };
    store.run(RunOptions::default(), clear).await.unwrap();
}

/// Rows and bytes of a store by the kind of their keys. Both engines hold the same rows. For the embedded
/// one `WHIMBREL_MEASURE_STORE` names a copy of the folder `store` of a node that was stopped; for
/// FoundationDB `WHIMBREL_MEASURE_CLUSTER` the cluster file and `WHIMBREL_MEASURE_PREFIX` the prefix.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints a figure"]
async fn rows_and_bytes() {
    let mut kinds: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let store = measured_store();
    let mut begin = vec![0];
    loop {
        let from = begin.clone();
        let read = store.read(RunOptions::default(), move |tx| {
            let from = from.clone();
            async move { tx.range(&from, b"\xff", RangeOptions::default()).await }
        });
        let page = read.await.unwrap();
        for (key, value) in &page.rows {
            let elements: Vec<Element<'_>> = unpack(key).unwrap_or_default();
            let name = |at: usize| elements.get(at).and_then(Element::as_str).unwrap_or("?");
            let kind = match name(0) {
                "d" => format!("d/{}", name(3)),
                other => other.to_owned(),
            };
            let (rows, bytes) = kinds.entry(kind).or_default();
            *rows += 1;
            *bytes += (key.len() + value.len()) as u64;
        }
        match page.rows.last() {
            Some((key, _)) if page.more => begin = key_after(key),
            _ => break,
        }
    }
    for (kind, (rows, bytes)) in kinds {
        println!("{kind}: {rows} rows, {bytes} bytes");
    }
}

fn measured_store() -> Store {
    #[cfg(feature = "foundationdb")]
    if let Some(file) = std::env::var_os("WHIMBREL_MEASURE_CLUSTER") {
        let prefix = std::env::var("WHIMBREL_MEASURE_PREFIX").unwrap_or_default();
        return super::foundationdb::server::open(file.into(), &prefix);
    }
    let folder = std::env::var_os("WHIMBREL_MEASURE_STORE");
    open(folder.expect("WHIMBREL_MEASURE_STORE").as_ref())
}
