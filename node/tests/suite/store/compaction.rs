//! Compaction: what was deleted goes from the files, where there is room for it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use whimbrel_node::store::Store;
use whimbrel_node::store::embedded::{Embedded, Options};

use super::embedded::open;
use super::random::scan;

/// All files below `dir`.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// The files below `dir` that hold `what`.
fn files_with(dir: &Path, what: &[u8]) -> Vec<PathBuf> {
    let holds = |file: &PathBuf| {
        let bytes = std::fs::read(file).unwrap();
        bytes.windows(what.len()).any(|window| window == what)
    };
    files(dir).into_iter().filter(holds).collect()
}

async fn set(store: &Store, key: &[u8], value: Option<&[u8]>) {
    let tx = store.begin().unwrap();
    match value {
        Some(value) => tx.set(key, value),
        None => tx.clear(key),
    }
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn g13_what_was_cleared_is_in_no_file_after_the_next_merge() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // Tables are packed: it must not repeat its key, nor itself.
    let secret = b"xyzzy-plugh";
    set(&store, b"text", Some(secret)).await;
    assert!(store.compact().await);
    assert!(!files_with(dir.path(), secret).is_empty());
    // Nothing is written after it: that it goes must not wait for a write.
    set(&store, b"text", None).await;
    assert!(store.compact().await);
    assert_eq!(files_with(dir.path(), secret), [] as [PathBuf; 0]);
    // What it filled the journal with is gone from the tables too.
    let tables = dir.path().join("data/keyspaces");
    let bytes: u64 = files(&tables)
        .iter()
        .map(|file| file.metadata().unwrap().len())
        .sum();
    assert!(bytes < 1 << 20, "{bytes} bytes of tables");
}

#[tokio::test]
async fn a_merge_is_not_done_while_a_transaction_sees_what_was_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        window: Duration::from_millis(200),
        ..Options::default()
    };
    let store = Store::Embedded(Embedded::open(dir.path(), options).unwrap());
    set(&store, b"a", Some(b"1")).await;
    let held = store.begin().unwrap();
    assert!(!store.compact().await);
    drop(held);
    assert!(store.compact().await);
    assert_eq!(scan(&store).await.len(), 1);
}

/// A tmpfs; where none can be mounted a test says so and passes.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(mib: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={mib}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "whimbrel-test"])
            .arg(dir.path())
            .output();
        if !mounted.is_ok_and(|mounted| mounted.status.success()) {
            println!("skipped: no tmpfs can be mounted");
            return None;
        }
        Some(Self(dir))
    }

    fn grow(&self, mib: u64) {
        let size = format!("remount,size={mib}m");
        let mut mount = Command::new("mount");
        let grown = mount.args(["-o", &size]).arg(self.0.path()).status();
        assert!(grown.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn without_room_for_a_merge_the_store_goes_on_and_merges_later() {
    let Some(disk) = SmallDisk::mount(100) else {
        return;
    };
    let store = open(disk.0.path());
    set(&store, b"a", Some(b"1")).await;
    assert!(!store.compact().await);
    set(&store, b"b", Some(b"2")).await;
    disk.grow(400);
    assert!(store.compact().await);
    assert_eq!(scan(&store).await.len(), 2);
}
