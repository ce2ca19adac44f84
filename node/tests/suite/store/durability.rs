//! What was acknowledged survives: a restart, and a process that is killed.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use whimbrel_node::store::{Store, StoreError};
use whimbrel_replication::id::Stamp;

use super::embedded::open;
use super::random::scan;

async fn set(store: &Store, key: &str) -> Stamp {
    let tx = store.begin().unwrap();
    tx.set(key.as_bytes(), key.as_bytes());
    tx.commit().await.unwrap().unwrap()
}

#[tokio::test]
async fn reopening_keeps_data_and_grows_stamps() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = Stamp::MIN;
    for round in 0..4_usize {
        let store = open(dir.path());
        assert_eq!(scan(&store).await.len(), round);
        let stamp = set(&store, &round.to_string()).await;
        assert!(stamp > last, "{stamp:?} after {last:?}");
        last = stamp;
    }
}

const DIR: &str = "WHIMBREL_TEST_DIR";

/// This binary once more, for the test `name` of this file only, under `wrapper` if there is one.
fn child(name: &str, dir: &Path, wrapper: &[&str]) -> Child {
    let this = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        [] => Command::new(this),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(this);
            command
        }
    };
    command
        .args(["--exact", &format!("store::durability::{name}")])
        .args(["--ignored", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The child's store; `None` where all ignored tests are run, not one by its parent.
fn child_store() -> Option<Store> {
    let dir = std::env::var_os(DIR)?;
    Some(open(Path::new(&dir)))
}

fn say(what: &str) {
    // One write: a killed process leaves whole lines, but for the last.
    std::io::stdout()
        .write_all(format!("\n@{what}\n").as_bytes())
        .unwrap();
}

/// What the child said, until it ends.
fn said(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let out = BufReader::new(child.stdout.take().unwrap());
    out.lines()
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix('@').map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by acknowledged_commits_survive_a_kill"]
async fn child_commits() {
    let Some(store) = child_store() else { return };
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0_u64.. {
                    let key = format!("{}/{task}/{n}", std::process::id());
                    let stamp = set(&store, &key).await;
                    say(&format!("{stamp} {key}"));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn acknowledged_commits_survive_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeMap::new();
    for round in 1..=3 {
        let mut child = child("child_commits", dir.path(), &[]);
        let before = acknowledged.last_key_value().map(|(stamp, _)| *stamp);
        let mut lines = 0;
        for line in said(&mut child) {
            lines += 1;
            if lines == 100 * round {
                child.kill().unwrap();
            }
            let Some((stamp, key)) = line.split_once(' ') else {
                continue;
            };
            // The last line may be cut.
            let Ok(stamp) = stamp.parse::<Stamp>() else {
                continue;
            };
            assert!(Some(stamp) > before, "a stamp went back");
            assert!(acknowledged.insert(stamp, key.to_owned()).is_none());
        }
        child.wait().unwrap();
        assert!(lines >= 100 * round, "the child ended by itself");
        let store = open(dir.path());
        let state = scan(&store).await;
        for key in acknowledged.values() {
            assert!(state.contains_key(key.as_bytes()), "{key} is lost");
        }
        let stamp = set(&store, "after").await;
        assert!(Some(&stamp) > acknowledged.keys().last());
        acknowledged.insert(stamp, "after".into());
    }
}

/// strace, to make disk calls slow or fail; without it these tests say so and pass.
fn strace(inject: &str) -> Option<Vec<String>> {
    if Command::new("strace")
        .arg("-V")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        println!("skipped: there is no strace");
        return None;
    }
    let inject = format!("inject=fdatasync:{inject}");
    let args = [
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=fdatasync",
        "-e",
        &inject,
    ];
    Some(args.map(str::to_owned).to_vec())
}

fn run_child(name: &str, inject: &str) -> Option<Vec<String>> {
    let wrapper = strace(inject)?;
    let wrapper: Vec<_> = wrapper.iter().map(String::as_str).collect();
    let dir = tempfile::tempdir().unwrap();
    let mut child = child(name, dir.path(), &wrapper);
    let lines = said(&mut child).collect();
    child.wait().unwrap();
    Some(lines)
}

#[tokio::test]
#[ignore = "started by nothing_is_seen_before_it_is_synced"]
async fn child_reads_during_a_sync() {
    let Some(store) = child_store() else { return };
    let commit = {
        let store = store.clone();
        tokio::spawn(async move { set(&store, "a").await })
    };
    let began = std::time::Instant::now();
    while store
        .begin()
        .unwrap()
        .get(b"a", false)
        .await
        .unwrap()
        .is_none()
    {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let seen = began.elapsed();
    commit.await.unwrap();
    say(&format!(
        "{} {}",
        seen.as_millis(),
        began.elapsed().as_millis()
    ));
}

#[test]
fn nothing_is_seen_before_it_is_synced() {
    let Some(lines) = run_child("child_reads_during_a_sync", "delay_enter=500000") else {
        return;
    };
    let (seen, acknowledged) = lines[0].split_once(' ').unwrap();
    assert!(seen.parse::<u64>().unwrap() >= 500, "{lines:?}");
    assert!(acknowledged.parse::<u64>().unwrap() >= 500, "{lines:?}");
}

#[tokio::test]
#[ignore = "started by a_failed_sync_stops_the_store"]
async fn child_fails_to_sync() {
    let Some(store) = child_store() else { return };
    set(&store, "a").await;
    let watch = {
        let tx = store.begin().unwrap();
        let watch = tx.watch(b"a");
        tx.commit().await.unwrap();
        watch
    };
    let commit = || async {
        let tx = store.begin()?;
        tx.set(b"b", b"");
        tx.commit().await
    };
    let open = store.begin().unwrap();
    open.set(b"c", b"");
    for _ in 0..2 {
        assert!(matches!(commit().await, Err(StoreError::Fatal(_))));
    }
    assert!(matches!(open.commit().await, Err(StoreError::Fatal(_))));
    assert!(matches!(store.failed().await, StoreError::Fatal(_)));
    assert!(watch.await.is_err());
    say("stopped");
}

#[test]
fn a_failed_sync_stops_the_store() {
    let Some(lines) = run_child("child_fails_to_sync", "error=EIO:when=2+") else {
        return;
    };
    assert_eq!(lines, ["stopped"]);
}

/// What is acknowledged must be there after the process, so nothing may be once the files are not.
#[tokio::test]
async fn a_store_whose_folder_is_removed_stops() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("data"));
    set(&store, "a").await;
    std::fs::remove_dir_all(dir.path().join("data")).unwrap();
    let failed = tokio::time::timeout(std::time::Duration::from_secs(60), store.failed()).await;
    let StoreError::Fatal(reason) = failed.expect("it is noticed") else {
        panic!("it stops for good");
    };
    assert!(reason.contains("removed"), "{reason}");
}
