//! The programs as a newcomer uses them: a whole cluster on one machine, and the command line.

use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader, Lines};
use tokio::process::{Child, Command};
use whimbrel_client::api::{DevCluster, DevRegion};

use crate::harness::{http, turn};
use crate::programs::{command, signal};
use crate::wait::{ensure, until, within};

/// How long a cluster may take to stop.
const STOP_SECONDS: u64 = 8;

/// Starts a program whose lines are read while it runs.
pub(crate) fn spawn(
    name: &str,
    args: &[&str],
) -> (Child, Lines<BufReader<impl AsyncRead + use<>>>) {
    let mut command = Command::from({
        let mut command = command(name);
        command.args(args);
        command
    });
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {name}: {error}"));
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

/// The next line with all of `words`.
pub(crate) async fn line_with(
    lines: &mut Lines<BufReader<impl AsyncRead + Unpin>>,
    words: &[&str],
) -> String {
    within(&format!("a line with {words:?}"), async {
        loop {
            let line = lines.next_line().await.unwrap().expect("a further line");
            if words.iter().all(|word| line.contains(word)) {
                return line;
            }
        }
    })
    .await
}

/// Runs `whimbrel` with this folder's cluster; what it prints, without the end of the line.
pub(crate) async fn whimbrel(folder: &str, args: &[&str]) -> String {
    let printed = try_whimbrel(folder, args).await;
    printed.unwrap_or_else(|error| panic!("whimbrel {args:?}: {error}"))
}

async fn try_whimbrel(folder: &str, args: &[&str]) -> Result<String, String> {
    let mut program = command("whimbrel");
    program.args(["--dev", folder]).args(args);
    let mut program = Command::from(program);
    let what = format!("whimbrel {args:?}");
    let output = within(&what, program.kill_on_drop(true).output())
        .await
        .unwrap();
    if !output.status.success() {
        return Err(format!("{output:?}"));
    }
    Ok(String::from_utf8(output.stdout)
        .unwrap()
        .trim_end()
        .to_owned())
}

pub(crate) fn described(folder: &Path) -> Result<DevCluster, String> {
    let bytes = std::fs::read(folder.join("dev.json")).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

async fn ready(region: &DevRegion) -> bool {
    let answer = http()
        .get(format!("{}/readyz", region.admin_url))
        .send()
        .await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

/// Interrupts a program, as Ctrl-C does, and waits for its end.
pub(crate) async fn interrupt(mut child: Child) {
    let started = Instant::now();
    signal(child.id().expect("it runs"), "INT");
    let status = within("the end", child.wait()).await.unwrap();
    assert!(status.success(), "it ended with {status}");
    assert!(
        started.elapsed().as_secs() < STOP_SECONDS,
        "{:?}",
        started.elapsed()
    );
}

/// Runs `whimbrel-chaos` with this folder's cluster; how the links are then.
async fn chaos(folder: &str, args: &[&str]) -> Value {
    let mut program = command("whimbrel-chaos");
    program.args(["--json", "--dev", folder]).args(args);
    let mut program = Command::from(program);
    let what = format!("whimbrel-chaos {args:?}");
    let output = within(&what, program.kill_on_drop(true).output())
        .await
        .unwrap();
    assert!(output.status.success(), "{what}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Links are cut and healed by hand; a region that comes back comes back behind its relays.
#[tokio::test(flavor = "multi_thread")]
async fn links_of_a_dev_cluster_are_steered() {
    let _turn = turn().await;
    let temporary = TempDir::with_prefix("whimbrel-e2e-").unwrap();
    let data = temporary.path().join("cluster");
    let folder = data.to_str().unwrap();
    let args = ["dev", "--relay", "--regions", "eu,us", "--data", folder];
    let (dev, mut told) = spawn("whimbrel-node", &args);
    let cluster = until("the cluster", async || described(&data)).await;
    line_with(&mut told, &["chaos link eu us cut"]).await;
    let as_ana = async |args: &[&str]| whimbrel(folder, &[&["--user", "ana"], args].concat()).await;
    let create = ["create", "--kind", "channel", "--title", "Birds"];
    let id = as_ana(&create).await;
    let in_us = async |what: &str| {
        until(&format!("`{what}` in us"), async || {
            let args = ["--user", "ana", "--region", "us", "history", &id];
            let seen = try_whimbrel(folder, &args).await?;
            seen.contains(what).then_some(()).ok_or(seen)
        })
        .await;
    };
    as_ana(&["--region", "eu", "send", &id, "Linked"]).await;
    in_us("Linked").await;

    // What is sent to us while the line is cut is dropped, also after eu was started again.
    for (said, restart) in [("Cut off", false), ("Still cut off", true)] {
        chaos(folder, &["link", "eu", "us", "cut"]).await;
        let mut only = None;
        if restart {
            signal(cluster.regions[0].pid, "KILL");
            line_with(&mut told, &["eu stopped"]).await;
            let args = ["dev", "--data", folder, "--only", "eu"];
            let (child, mut only_told) = spawn("whimbrel-node", &args);
            line_with(&mut only_told, &["eu is ready"]).await;
            only = Some((child, only_told));
        }
        let dropped = async || {
            let report = chaos(folder, &["link", "eu", "us", "show", "--one-way"]).await;
            report["links"][0]["counters"]["dropped"]["cut"]
                .as_u64()
                .unwrap()
        };
        as_ana(&["--region", "eu", "send", &id, said]).await;
        let before = dropped().await;
        until("something to be dropped", async || {
            ensure(dropped().await > before, "nothing was")
        })
        .await;
        let history = as_ana(&["--region", "us", "history", &id]).await;
        assert!(!history.contains(said), "{history}");
        chaos(folder, &["link", "--one-way", "all", "all", "heal"]).await;
        in_us(said).await;
        if let Some((child, _)) = only {
            interrupt(child).await;
        }
    }
    interrupt(dev).await;
}

/// The walk of the README: start, talk over regions, lose one, bring it back, stop, start again.
#[tokio::test(flavor = "multi_thread")]
async fn a_newcomers_walk() {
    let _turn = turn().await;
    let temporary = TempDir::with_prefix("whimbrel-e2e-").unwrap();
    let data = temporary.path().join("cluster");
    let folder = data.to_str().unwrap();
    let (dev, mut told) = spawn("whimbrel-node", &["dev", "--data", folder]);
    let cluster = until("the cluster", async || described(&data)).await;
    let names: Vec<&str> = cluster.regions.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["eu", "us", "ap"]);
    for region in &cluster.regions {
        line_with(&mut told, &[&region.name, &region.url]).await;
        assert!(ready(region).await, "described, and so ready");
    }
    line_with(&mut told, &["whimbrel", "--user", "tail"]).await;

    // A token, and what is said with it.
    let token = whimbrel(folder, &["--user", "ana", "token"]).await;
    assert_eq!(
        token.split('.').count(),
        3,
        "alone on standard output: {token}"
    );
    let create = [
        "--token", &token, "create", "--kind", "channel", "--title", "Birds",
    ];
    let id = whimbrel(folder, &create).await;
    let as_ben = async |args: &[&str]| whimbrel(folder, &[&["--user", "ben"], args].concat()).await;
    let as_ana = async |args: &[&str]| whimbrel(folder, &[&["--user", "ana"], args].concat()).await;
    let created = as_ana(&["conversations", "--json"]).await;
    assert!(created.contains(&id));
    let sent: Value =
        serde_json::from_str(&as_ana(&["--json", "send", &id, "Hello from Europe"]).await).unwrap();
    let (message, cursor) = (
        sent["id"].as_str().unwrap(),
        sent["cursor"].as_str().unwrap(),
    );
    let history = as_ben(&["--region", "us", "--after", cursor, "history", &id]).await;
    assert!(history.contains("ana: Hello from Europe"), "{history}");

    // Ben joins in one region, listens in another, and is answered from a third.
    let joined = as_ben(&["--json", "--region", "us", "members", &id, "add", "ben"]).await;
    let joined: Value = serde_json::from_str(&joined).unwrap();
    let cursor = joined["cursor"].as_str().unwrap();
    as_ben(&["--region", "ap", "--after", cursor, "members", &id]).await;
    let tail = [
        "--dev",
        folder,
        "--user",
        "ben",
        "--region",
        "ap",
        "tail",
        &id,
        "--from-start",
    ];
    let (tail, mut heard) = spawn("whimbrel", &tail);
    line_with(&mut heard, &["ana: Hello from Europe"]).await;
    as_ana(&["send", &id, "Still there?"]).await;
    line_with(&mut heard, &["ana: Still there?"]).await;
    as_ana(&["edit", &id, message, "Hello from the Wadden Sea"]).await;
    line_with(&mut heard, &["edited", "Hello from the Wadden Sea"]).await;
    as_ben(&["--region", "us", "react", &id, message, "👍"]).await;
    line_with(&mut heard, &["reacted", "👍 1"]).await;
    let slip = as_ana(&["send", &id, "A slip"]).await;
    line_with(&mut heard, &["A slip"]).await;
    as_ana(&["redact", &id, &slip]).await;
    line_with(&mut heard, &["redacted", &slip]).await;
    interrupt(tail).await;
    let versions = as_ana(&["history", &id, message]).await;
    assert_eq!(versions.lines().count(), 2, "{versions}");
    let read = as_ben(&["--region", "ap", "read", &id]).await;
    assert!(read.starts_with("0 unread"), "{read}");
    let exported = as_ana(&["export", &id]).await;
    assert_eq!(exported.lines().count(), 3);
    // One that was not heard for a moment, on a busy machine, is heard again.
    until("all regions to be up", async || {
        let regions = whimbrel(folder, &["regions"]).await;
        let up = regions.lines().filter(|line| line.contains(" up ")).count();
        ensure(up == 3, regions)
    })
    .await;

    // One region dies, the others go on, and it comes back beside them.
    signal(cluster.regions[0].pid, "KILL");
    line_with(&mut told, &["eu stopped"]).await;
    as_ana(&["--region", "us", "send", &id, "Without Europe"]).await;
    let (mut only, mut only_told) =
        spawn("whimbrel-node", &["dev", "--data", folder, "--only", "eu"]);
    line_with(&mut only_told, &["eu is ready"]).await;
    let again = described(&data).unwrap();
    assert_ne!(again.regions[0].pid, cluster.regions[0].pid);
    assert_eq!(again.regions[1..], cluster.regions[1..]);
    let back = until("what was said meanwhile", async || {
        let history = as_ana(&["--region", "eu", "history", &id]).await;
        history
            .contains("Without Europe")
            .then_some(history)
            .ok_or("not there")
    });
    assert!(back.await.contains("Hello from the Wadden Sea"));

    // Ctrl-C ends all of it, also what was started beside.
    interrupt(dev).await;
    within("the one beside to end", only.wait()).await.unwrap();
    for region in &again.regions {
        assert!(!ready(region).await, "{} still runs", region.name);
    }

    // Starting again goes on with the data, on the same ports.
    let (dev, _told) = spawn("whimbrel-node", &["dev", "--data", folder]);
    let restarted = until("the cluster", async || {
        described(&data).and_then(|cluster| {
            let new = cluster.regions[1].pid != again.regions[1].pid;
            new.then_some(cluster)
                .ok_or("still that of before".to_owned())
        })
    });
    let restarted = restarted.await;
    for (before, now) in cluster.regions.iter().zip(&restarted.regions) {
        assert_eq!((&before.url, &before.admin_url), (&now.url, &now.admin_url));
        let history = as_ben(&["--region", &now.name, "history", &id]).await;
        assert!(history.contains("Without Europe"), "{history}");
    }
    interrupt(dev).await;
}
