//! The embedded engine on a simulated disk: the common suite, and what a crash leaves.

use whimbrel_node::store::embedded::{Embedded, Moment, Options, SimulatedDisk};
use whimbrel_node::store::{RunOptions, Store, StoreError};

use super::conformance::conformance;
use super::random::{Load, seed, serializable};

fn open(disk: &SimulatedDisk) -> Store {
    Store::Embedded(Embedded::simulated(disk, Options::default()).unwrap())
}

fn opened() -> std::future::Ready<Option<(Store, ())>> {
    std::future::ready(Some((open(&SimulatedDisk::default()), ())))
}

conformance!(opened);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_transactions() {
    let load = Load {
        workers: 8,
        transactions: 60,
        pad: 0,
    };
    serializable(&open(&SimulatedDisk::default()), load, seed()).await;
}

async fn put(store: &Store, key: &'static [u8]) -> Result<(), StoreError> {
    let set = store.run(RunOptions::default(), move |tx| async move {
        tx.set(key, b"there");
        Ok(())
    });
    set.await.map(|_| ())
}

async fn has(store: &Store, key: &'static [u8]) -> bool {
    let get = store.read(RunOptions::default(), move |tx| async move {
        tx.get(key, false).await
    });
    get.await.unwrap().is_some()
}

/// What was acked survives; what was not is there only if the moment allows it.
#[tokio::test]
async fn g1_a_crash_leaves_what_was_synced() {
    for (moment, keep, expected) in [
        (Moment::BeforeWrite, true, false),
        (Moment::BeforeSync, false, false),
        (Moment::BeforeSync, true, true),
        (Moment::AfterSync, false, true),
    ] {
        let disk = SimulatedDisk::default();
        let store = open(&disk);
        put(&store, b"acked").await.unwrap();
        disk.fail_at_next_write(Some(moment));
        let error = put(&store, b"in doubt").await.unwrap_err();
        assert!(matches!(error, StoreError::Fatal(_)), "{error}");
        assert!(disk.is_off());
        disk.restart(keep);
        // The old handle sees nothing of the disk any more.
        put(&store, b"ghost").await.unwrap_err();
        let store = open(&disk);
        assert!(has(&store, b"acked").await);
        assert_eq!(
            has(&store, b"in doubt").await,
            expected,
            "{moment:?}, kept: {keep}"
        );
        assert!(!has(&store, b"ghost").await);
        disk.destroy();
        assert!(!has(&open(&disk), b"acked").await);
    }
}
