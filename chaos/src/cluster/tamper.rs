//! System calls of a running process that are made slow, or fail: by strace, which attaches to it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// How long strace may take to attach or to let go.
const STRACE_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// What becomes of calls that sync files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tampering {
    /// Each waits for so long before it is done.
    Stall(Duration),
    /// Each fails with EIO.
    Fail,
}

/// A strace that is attached. Dropped, it is killed, and the process goes on as before.
#[derive(Debug)]
pub(super) struct Strace {
    child: Child,
    log: PathBuf,
}

impl Strace {
    /// Attaches to a process; the calls that are tampered with are noted in `log`.
    pub(super) async fn attach(pid: u32, what: Tampering, log: &Path) -> anyhow::Result<Self> {
        let fate = match what {
            Tampering::Stall(time) => format!("delay_enter={}", time.as_micros()),
            Tampering::Fail => "error=EIO".to_owned(),
        };
        // What an earlier one noted does not count.
        let _ = std::fs::remove_file(log);
        let child = Command::new("strace")
            .args(["-f", "-qq", "-e", "trace=fdatasync,fsync", "-e"])
            .arg(format!("inject=fdatasync,fsync:{fate}"))
            .arg("-o")
            .arg(log)
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start strace")?;
        let mut this = Self {
            child,
            log: log.to_owned(),
        };
        let began = Instant::now();
        while !is_traced(pid) {
            if let Some(status) = this.child.try_wait().context("lost sight of strace")? {
                anyhow::bail!("strace cannot attach to process {pid} ({status})");
            }
            anyhow::ensure!(began.elapsed() < STRACE_MAX, "strace does not attach");
            tokio::time::sleep(POLL).await;
        }
        Ok(this)
    }

    /// Lets the process go on as before. How many calls were tampered with.
    pub(super) async fn detach(mut self) -> anyhow::Result<usize> {
        if self
            .child
            .try_wait()
            .context("lost sight of strace")?
            .is_none()
        {
            let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
            let pid = pid.and_then(Pid::from_raw).context("strace has ended")?;
            kill_process(pid, Signal::INT).context("cannot end strace")?;
            let ended = tokio::time::timeout(STRACE_MAX, self.child.wait());
            if ended.await.is_err() {
                self.child.kill().await.context("cannot end strace")?;
            }
        }
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let noted = |line: &&str| line.contains("(INJECTED)") || line.contains("(DELAYED)");
        Ok(log.lines().filter(noted).count())
    }
}

/// Whether somebody traces all threads of a process.
fn is_traced(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    threads.flatten().all(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status"));
        // A thread that has ended since needs no tracer.
        status.map_or(true, |status| !status.contains("TracerPid:\t0\n"))
    })
}
