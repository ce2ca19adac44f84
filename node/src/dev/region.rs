//! The process of one node.

use std::fs::{self, OpenOptions};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::http;
use super::layout::Layout;
use super::shape::Region;

/// How long a region may say nothing until it is given up. One that answers and is not ready is waited for: it may
/// take in what it lacks for hours.
const SILENT_MAX: Duration = Duration::from_secs(60);
/// How often it is told why a region is not ready.
const TOLD_EVERY: Duration = Duration::from_secs(10);
const READY_POLL: Duration = Duration::from_millis(50);
const PROBE_MAX: Duration = Duration::from_secs(2);
/// How long a region may take to stop before it is killed: all are gone within 8 s.
const STOP_MAX: Duration = Duration::from_millis(6500);
/// Lines of the log that are shown where a region does not start.
const LOG_LINES: usize = 5;

/// A started node.
pub(super) struct Running {
    /// Of its region.
    region: String,
    nth: usize,
    /// What people call it.
    name: String,
    pid: u32,
    child: Child,
    /// The process stops when this closes, also where we are killed.
    pipe: ChildStdin,
    admin: SocketAddr,
    log: PathBuf,
}

/// How a region's process ended.
pub(super) enum Exit {
    /// As it was told.
    Asked,
    /// By itself, or by somebody else's hand.
    Died {
        /// The node, as people call it.
        name: String,
        /// Its region.
        region: String,
        /// Exit code or signal.
        how: ExitStatus,
    },
}

impl Running {
    /// Starts the process; it is not ready yet.
    pub(super) fn start(layout: &Layout, region: &Region, nth: usize) -> anyhow::Result<Self> {
        let node = region.nodes().nth(nth).context("no such node")?;
        let name = region.node_name(nth);
        let path = region.log(layout.dir(), nth);
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut child = Command::new(program)
            .arg("serve")
            .arg("--parent-pipe")
            .arg("--config")
            .arg(region.config(layout.dir(), nth))
            .stdin(Stdio::piped())
            .stdout(log.try_clone().context("cannot share the log")?)
            .stderr(log)
            // A Ctrl-C in the terminal is for us; we stop the regions.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let pid = child.id().context("the region ended at once")?;
        let pipe = child.stdin.take().context("the region has no input")?;
        Ok(Self {
            region: region.name.clone(),
            nth,
            name,
            pid,
            child,
            pipe,
            admin: node.admin_address(),
            log: path,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is this node.
    pub(super) fn is(&self, region: &Region, nth: usize) -> bool {
        self.region == region.name && self.nth == nth
    }

    /// Its region, and which of its nodes it is.
    pub(super) fn node(&self) -> (&str, usize) {
        (&self.region, self.nth)
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until the region says that it is ready, and tells why it is not yet.
    pub(super) async fn ready(&mut self) -> anyhow::Result<()> {
        let (admin, name) = (self.admin, &self.name);
        let poll = async {
            let (mut heard, mut told) = (Instant::now(), Instant::now());
            loop {
                match readiness(admin).await {
                    Some(None) => return true,
                    Some(Some(why)) => {
                        heard = Instant::now();
                        if told.elapsed() >= TOLD_EVERY {
                            told = heard;
                            println!("{name} is not ready yet: {why}");
                        }
                    }
                    None if heard.elapsed() >= SILENT_MAX => return false,
                    None => {}
                }
                sleep(READY_POLL).await;
            }
        };
        tokio::select! {
            is_ready = poll => {
                anyhow::ensure!(
                    is_ready,
                    "{} has said nothing for {} s; its log is {}{}",
                    self.name, SILENT_MAX.as_secs(), self.log.display(), self.log_end()
                );
                Ok(())
            }
            how = self.child.wait() => {
                let how = how.with_context(|| format!("lost sight of {}", self.name))?;
                anyhow::bail!(
                    "{} ended while it started ({how}); its log is {}{}",
                    self.name, self.log.display(), self.log_end()
                )
            }
        }
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Ends it as a power cut would.
    pub(super) async fn kill(mut self) -> anyhow::Result<()> {
        let killed = self.child.kill().await;
        killed.with_context(|| format!("cannot kill {}", self.name))
    }

    /// The last lines of the log, each on a line of its own.
    fn log_end(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..]
            .iter()
            .map(|line| format!("\n  | {line}"))
            .collect()
    }

    /// Waits until the process ends; stops it at `shutdown`.
    pub(super) async fn watch(mut self, shutdown: CancellationToken) -> Exit {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            how = self.child.wait() => match how {
                Ok(how) => return Exit::Died { name: self.name, region: self.region, how },
                // It can neither be waited for nor be told: killing it is what is left.
                Err(_) => {
                    let _ = self.child.start_kill();
                    return Exit::Asked;
                }
            },
        }
        drop(self.pipe);
        if timeout(STOP_MAX, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
        Exit::Asked
    }
}

/// Why a region that answers is not ready, if it is not.
async fn readiness(admin: SocketAddr) -> Option<Option<String>> {
    let answer = http::get(admin, "/readyz", PROBE_MAX).await.ok()?;
    let told: serde_json::Value = serde_json::from_slice(answer.body()).ok()?;
    let why = told["status"].as_str()?;
    Some((!answer.status().is_success()).then(|| why.to_owned()))
}
