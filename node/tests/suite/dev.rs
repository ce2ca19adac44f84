use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use whimbrel_client::api::DevCluster;

const START_MAX: Duration = Duration::from_secs(60);
const STOP_MAX: Duration = Duration::from_secs(8);

/// `whimbrel-node dev`, killed at the end of the test.
pub(crate) struct Dev {
    pub(crate) child: Child,
    lines: Receiver<String>,
}

impl Dev {
    fn start(dir: &Path, arguments: &[&str]) -> Self {
        let mut command = dev();
        Self::of(command.arg("--data").arg(dir).args(arguments))
    }

    pub(crate) fn of(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, lines }
    }

    /// The next line with this part in it.
    pub(crate) fn expect(&self, part: &str) -> String {
        let until = Instant::now() + START_MAX;
        let mut seen = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("no `{part}` in {seen:#?}"),
            }
        }
    }

    /// All further lines, up to the end of the program.
    pub(crate) fn rest(&self) -> Vec<String> {
        let until = Instant::now() + START_MAX;
        let mut lines = Vec::new();
        loop {
            match self
                .lines
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(line) => lines.push(line),
                Err(RecvTimeoutError::Disconnected) => return lines,
                Err(RecvTimeoutError::Timeout) => panic!("no end after {lines:#?}"),
            }
        }
    }

    fn stop(mut self, signal: &str) {
        kill(signal, self.child.id());
        let started = Instant::now();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
        assert!(started.elapsed() < STOP_MAX);
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `whimbrel-node dev`.
pub(crate) fn dev() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_whimbrel-node"));
    command.arg("dev");
    command
}

pub(crate) fn kill(signal: &str, pid: u32) {
    let status = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

pub(crate) fn description(dir: &Path) -> DevCluster {
    serde_json::from_slice(&fs::read(dir.join("dev.json")).unwrap()).unwrap()
}

fn is_up(url: &str) -> bool {
    TcpStream::connect(url.strip_prefix("http://").unwrap()).is_ok()
}

pub(crate) fn wait_down(url: &str) {
    let started = Instant::now();
    while is_up(url) {
        assert!(started.elapsed() < STOP_MAX, "{url} is still up");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Why a second start fails.
pub(crate) fn refused(dir: &Path, arguments: &[&str]) -> String {
    let mut command = dev();
    let output = command.arg("--data").arg(dir).args(arguments).output();
    let output = output.unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_region_is_lost_and_comes_back_and_all_stop_and_start_again() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let dev = Dev::start(dir, &["--regions", "eu,us"]);
    dev.expect("Ctrl-C stops all");
    let first = description(dir);
    let names: Vec<&str> = first.regions.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["eu", "us"]);
    assert!(first.regions.iter().all(|r| is_up(&r.admin_url)));
    assert!(first.regions.iter().all(|r| r.log.is_file()));

    let error = refused(dir, &[]);
    assert!(error.contains("running already"), "{error}");
    let error = refused(dir, &["--only", "us"]);
    assert!(error.contains("seems to run already"), "{error}");
    let error = refused(dir, &["--only", "ap"]);
    assert!(error.contains("no region `ap`"), "{error}");

    kill("-KILL", first.regions[1].pid);
    let line = dev.expect("us stopped");
    assert!(line.contains("--only us"), "{line}");
    wait_down(&first.regions[1].admin_url);
    assert!(is_up(&first.regions[0].admin_url));

    let only = Dev::start(dir, &["--only", "us"]);
    only.expect("us is ready");
    let second = description(dir);
    assert_ne!(second.regions[1].pid, first.regions[1].pid);
    assert_eq!(second.regions[1].pid, second.regions[1].nodes[0].pid);
    assert_eq!(second.regions[0], first.regions[0]);
    assert!(is_up(&first.regions[1].admin_url));
    only.stop("-TERM");
    wait_down(&first.regions[1].admin_url);
    assert!(is_up(&first.regions[0].admin_url));
    dev.stop("-INT");
    assert!(!is_up(&first.regions[0].admin_url));

    let error = refused(dir, &["--regions", "eu,ap"]);
    assert!(error.contains("has the regions eu,us"), "{error}");
    let dev = Dev::start(dir, &[]);
    dev.expect("Ctrl-C stops all");
    let third = description(dir);
    assert_eq!(third.cluster, first.cluster);
    assert_eq!(third.regions[0].url, first.regions[0].url);
    dev.stop("-TERM");

    // The same cluster with relays, and again without.
    let error = refused(dir, &["--relay-seed", "7"]);
    assert!(error.contains("--relay"), "{error}");
    let quic = |of: &str| {
        let config = fs::read_to_string(dir.join(of).join("config.toml")).unwrap();
        let lines = config.lines().filter(|line| line.starts_with("quic = ["));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let direct = quic("eu");
    let dev = Dev::start(dir, &["--relay", "--relay-seed", "7"]);
    dev.expect("--relay-seed 7 takes the same chances again");
    dev.expect("Ctrl-C stops all");
    assert!(dir.join("relay.sock").exists());
    let relayed = quic("eu");
    assert_eq!(relayed[0], direct[0], "its own address");
    assert_ne!(relayed[1], direct[1]);
    let error = refused(dir, &["--only", "eu", "--relay"]);
    assert!(error.contains("leave --relay away"), "{error}");
    kill("-KILL", description(dir).regions[0].pid);
    dev.expect("eu stopped");
    let only = Dev::start(dir, &["--only", "eu"]);
    only.expect("eu is ready");
    assert_eq!(quic("eu"), relayed, "it comes back behind the relays");
    only.stop("-TERM");
    dev.stop("-INT");
    assert!(!dir.join("relay.sock").exists());
    let only = Dev::start(dir, &["--only", "eu"]);
    only.expect("eu is ready");
    assert_eq!(quic("eu"), direct, "nobody runs relays now");
    only.stop("-TERM");
}

#[test]
fn regions_end_with_a_parent_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(folder.path(), &["--regions", "eu"]);
    dev.expect("Ctrl-C stops all");
    let cluster = description(folder.path());
    dev.child.kill().unwrap();
    wait_down(&cluster.regions[0].admin_url);
}

#[test]
fn a_region_that_cannot_start_is_named_with_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(folder.path(), &["--regions", "eu"]);
    dev.expect("Ctrl-C stops all");
    kill("-TERM", dev.child.id());
    dev.child.wait().unwrap();
    let config: PathBuf = folder.path().join("eu/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("shards = 16", "shards = 0")).unwrap();
    let error = refused(folder.path(), &[]);
    assert!(error.contains("eu ended while it started"), "{error}");
    assert!(error.contains("node.log"), "{error}");
    assert!(error.contains("cluster.shards"), "{error}");
}
