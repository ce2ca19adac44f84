//! The process of a region, and what can be done to it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::disk::SmallDisk;
use super::tamper::{Strace, Tampering};
use crate::experiment::Offset;

/// Lines of its log that are shown where it ends.
const LOG_LINES: usize = 5;
/// As often the library looks whether its file has changed, so long a clock takes to move.
const CLOCK_CACHE_SECONDS: &str = "1";

/// A region's process: running or not.
#[derive(Debug)]
pub struct Process {
    program: PathBuf,
    folder: PathBuf,
    child: Option<Child>,
    /// The library that moves its clock.
    faketime: Option<PathBuf>,
    strace: Option<Strace>,
    /// Unmounted after the process has ended.
    disk: Option<SmallDisk>,
}

impl Process {
    /// Of `program serve` with the config in `folder`, where its data and its log are, too.
    pub(super) fn new(program: &Path, folder: &Path) -> Self {
        Self {
            program: program.to_owned(),
            folder: folder.to_owned(),
            child: None,
            faketime: None,
            strace: None,
            disk: None,
        }
    }

    /// Gives it a disk of its own. Before it is started.
    pub(super) fn on_small_disk(&mut self) -> anyhow::Result<()> {
        self.disk = Some(SmallDisk::mount(&self.data())?);
        Ok(())
    }

    /// Gives it a clock that can be moved. Before it is started.
    pub(super) fn with_clock(&mut self, library: &Path) -> anyhow::Result<()> {
        self.faketime = Some(library.to_owned());
        self.move_clock(Offset { millis: 0 })
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("node.log")
    }

    fn clock(&self) -> PathBuf {
        self.folder.join("clock")
    }

    /// Starts it; it is not ready yet.
    pub fn start(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.ended().is_some() || self.child.is_none(),
            "it runs already"
        );
        let log = File::options().create(true).append(true).open(self.log());
        let log = log.context("cannot write the node's log")?;
        let mut command = Command::new(&self.program);
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("WHIMBREL_") {
                command.env_remove(variable);
            }
        }
        if let Some(library) = &self.faketime {
            command
                .env("LD_PRELOAD", library)
                .env("FAKETIME_TIMESTAMP_FILE", self.clock())
                .env("FAKETIME_CACHE_DURATION", CLOCK_CACHE_SECONDS)
                // The time that passes is right.
                .env("DONT_FAKE_MONOTONIC", "1");
        }
        let child = command
            .args(["serve", "--parent-pipe", "--config"])
            .arg(self.folder.join("config.toml"))
            .stdin(Stdio::piped())
            .stdout(log.try_clone().context("cannot share the node's log")?)
            .stderr(log)
            // A Ctrl-C in the terminal is for us, who put things right first.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Its number, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok().flatten()
    }

    /// Whether there is none, or none any more.
    pub fn is_away(&mut self) -> bool {
        self.child.is_none() || self.ended().is_some()
    }

    /// SIGKILL. The number that it had.
    pub async fn kill(&mut self) -> anyhow::Result<u32> {
        let pid = self.pid().context("it does not run")?;
        let mut child = self.child.take().context("it does not run")?;
        child.kill().await.context("cannot kill it")?;
        Ok(pid)
    }

    /// Deletes its data. Where these were.
    pub fn delete_data(&mut self) -> anyhow::Result<PathBuf> {
        anyhow::ensure!(self.is_away(), "it runs");
        let data = self.data();
        fs::remove_dir_all(&data).with_context(|| format!("cannot delete {}", data.display()))?;
        Ok(data)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<u32> {
        let number = self.pid().context("it does not run")?;
        let pid = i32::try_from(number).ok().and_then(Pid::from_raw);
        kill_process(pid.context("it has no number")?, signal)
            .with_context(|| format!("cannot signal process {number}"))?;
        Ok(number)
    }

    /// SIGSTOP; its number.
    pub async fn freeze(&mut self) -> anyhow::Result<u32> {
        let pid = self.signal(Signal::STOP)?;
        // The kernel stops threads one by one.
        for _ in 0..50 {
            if self.is_frozen() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(pid)
    }

    /// SIGCONT.
    pub fn thaw(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::CONT).map(drop)
    }

    /// Whether the kernel says that it is stopped.
    pub fn is_frozen(&self) -> bool {
        let status = self
            .pid()
            .and_then(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok());
        status.is_some_and(|status| status.contains("State:\tT"))
    }

    /// Moves its wall clock, within about a second.
    pub fn move_clock(&mut self, offset: Offset) -> anyhow::Result<()> {
        let text = format!("{:+.3}\n", offset.millis as f64 / 1_000.0);
        // Replaced as a whole: it is read at any time.
        let (file, new) = (self.clock(), self.folder.join("clock.new"));
        fs::write(&new, text).context("cannot write the clock's file")?;
        fs::rename(&new, &file).context("cannot write the clock's file")
    }

    /// Leaves no room on its disk; how many bytes that took.
    pub fn fill_disk(&mut self) -> anyhow::Result<u64> {
        self.disk
            .as_ref()
            .context("its disk is not its own")?
            .fill()
    }

    /// Bytes free on its disk.
    pub fn free_bytes(&self) -> anyhow::Result<u64> {
        let disk = self.disk.as_ref();
        disk.context("its disk is not its own")?.free_bytes()
    }

    /// Gives the room back.
    pub fn free_disk(&mut self) -> anyhow::Result<()> {
        self.disk
            .as_ref()
            .context("its disk is not its own")?
            .free()
    }

    /// Tampers with its syncs from now on.
    pub async fn tamper(&mut self, what: Tampering) -> anyhow::Result<()> {
        anyhow::ensure!(self.strace.is_none(), "its syncs are tampered with already");
        let pid = self.pid().context("it does not run")?;
        self.strace = Some(Strace::attach(pid, what, &self.folder.join("strace.log")).await?);
        Ok(())
    }

    /// Leaves its syncs alone. How many were tampered with.
    pub async fn leave_alone(&mut self) -> anyhow::Result<usize> {
        match self.strace.take() {
            Some(strace) => strace.detach().await,
            None => Ok(0),
        }
    }

    /// The last lines of its log.
    pub fn log_end(&self) -> String {
        let text = fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(LOG_LINES);
        let lines: String = lines[from..]
            .iter()
            .map(|line| format!("\n  | {line}"))
            .collect();
        format!("the end of its log:{lines}")
    }

    /// The last line of its log that tells of an error.
    pub fn last_error(&self) -> Option<String> {
        let text = fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let is_error = |line: &&str| line.contains("ERROR") || line.starts_with("whimbrel-node:");
        text.lines().rev().find(is_error).map(str::to_owned)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Before the disk is unmounted; a frozen one, too. It is reaped by the runtime.
        if let Some(child) = &mut self.child {
            let _ = child.start_kill();
        }
    }
}
