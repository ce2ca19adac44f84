//! A FoundationDB cluster of one process, on this machine: for `dev` and for tests.

use std::fs::OpenOptions;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::files;

/// How long the process may take until it answers.
const READY_MAX: Duration = Duration::from_secs(60);
const READY_PAUSE: Duration = Duration::from_millis(200);
/// Seconds for one command of `fdbcli`.
const COMMAND_SECONDS: &str = "5";
/// Pause before a process that died is started again, as `fdbmonitor` does it.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
const STOP_MAX: Duration = Duration::from_secs(3);

/// How the data is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// In memory, with a log on disk.
    Memory,
    /// On disk.
    Ssd,
}

impl Engine {
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Ssd => "ssd",
        }
    }
}

/// FoundationDB's programs.
#[derive(Clone, Debug)]
pub struct Programs {
    server: PathBuf,
    cli: PathBuf,
}

impl Programs {
    /// Those on the path, or where the official packages put them.
    ///
    /// # Errors
    ///
    /// What is missing, and where to get it.
    pub fn find() -> anyhow::Result<Self> {
        let find = |name: &str| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let folders = std::env::split_paths(&path).collect::<Vec<_>>();
            let usual = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
            folders
                .into_iter()
                .chain(usual.map(PathBuf::from))
                .map(|folder| folder.join(name))
                .find(|program| program.is_file())
                .with_context(|| {
                    format!(
                        "`{name}` is not installed; install the packages foundationdb-server and \
                         foundationdb-clients 7.3"
                    )
                })
        };
        Ok(Self {
            server: find("fdbserver")?,
            cli: find("fdbcli")?,
        })
    }
}

/// A process, started again when it dies, stopped when dropped.
#[derive(Debug)]
pub struct Server {
    programs: Programs,
    dir: PathBuf,
    port: u16,
    child: Child,
}

impl Server {
    /// Starts the process and waits until it answers. `dir` keeps the data, the cluster file and the
    /// logs; a new cluster is made in an empty one.
    ///
    /// # Errors
    ///
    /// When it does not answer; its logs are in `dir`.
    pub async fn start(
        programs: &Programs,
        dir: &Path,
        port: u16,
        engine: Engine,
    ) -> anyhow::Result<Self> {
        let dir = std::path::absolute(dir).context("no such folder")?;
        for folder in [dir.as_path(), &dir.join("data"), &dir.join("logs")] {
            files::make_dir(folder)?;
        }
        let file = cluster_file(&dir);
        if !file.exists() {
            let mut id = [0; 8];
            rand::Rng::fill(&mut rand::rng(), &mut id);
            let id = data_encoding::HEXLOWER.encode(&id);
            let line = format!("whimbrel:{id}@{}:{port}\n", Ipv4Addr::LOCALHOST);
            // The client rewrites it when coordinators move.
            files::replace(&file, line.as_bytes(), files::Access::Everyone)?;
        }
        let child = spawn(&programs.server, &dir, port)?;
        let mut server = Self {
            programs: programs.clone(),
            dir,
            port,
            child,
        };
        let ready = async {
            loop {
                if server.has_data().await {
                    return;
                }
                // Of an existing cluster it is refused, and changes nothing.
                let new = format!("configure new single {}", engine.name());
                let _ = server.command(&new).await;
                sleep(READY_PAUSE).await;
            }
        };
        let in_time = timeout(READY_MAX, ready).await;
        if in_time.is_err() {
            let _ = server.child.kill().await;
            anyhow::bail!(
                "FoundationDB did not answer within {} s; its logs are in {}",
                READY_MAX.as_secs(),
                server.dir.join("logs").display()
            );
        }
        Ok(server)
    }

    /// The cluster file.
    pub fn cluster_file(&self) -> PathBuf {
        cluster_file(&self.dir)
    }

    /// The process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    async fn has_data(&self) -> bool {
        let status = self.command("status minimal").await.unwrap_or_default();
        status.contains("The database is available")
    }

    async fn command(&self, command: &str) -> anyhow::Result<String> {
        let output = Command::new(&self.programs.cli)
            .arg("-C")
            .arg(self.cluster_file())
            .args(["--timeout", COMMAND_SECONDS, "--exec", command])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("fdbcli does not run")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Ends the process as a power cut would.
    ///
    /// # Errors
    ///
    /// When it cannot be killed.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("cannot kill fdbserver")
    }

    /// Starts a process that was killed.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.child = spawn(&self.programs.server, &self.dir, self.port)?;
        Ok(())
    }

    /// Starts the process again whenever it dies, until `shutdown`; then stops it. `told` hears the
    /// new process number.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub(super) async fn supervise(
        mut self,
        shutdown: CancellationToken,
        told: impl Fn(u32),
    ) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                _ = self.child.wait() => {}
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = sleep(RESTART_PAUSE) => {}
            }
            self.restart()?;
            told(self.pid().unwrap_or_default());
        }
        if let Some(pid) = self.pid()
            && let Some(pid) = i32::try_from(pid)
                .ok()
                .and_then(rustix::process::Pid::from_raw)
        {
            // It may be gone already.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if timeout(STOP_MAX, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
        Ok(())
    }
}

/// Where the cluster file of a folder is.
pub(super) fn cluster_file(dir: &Path) -> PathBuf {
    dir.join("fdb.cluster")
}

fn spawn(program: &Path, dir: &Path, port: u16) -> anyhow::Result<Child> {
    let path = dir.join("fdbserver.log");
    let log = OpenOptions::new().create(true).append(true).open(&path);
    let log = log.with_context(|| format!("cannot write {}", path.display()))?;
    let address = format!("{}:{port}", Ipv4Addr::LOCALHOST);
    Command::new(program)
        .args(["--public-address", &address, "--listen-address", "public"])
        .arg("--datadir")
        .arg(dir.join("data"))
        .arg("--logdir")
        .arg(dir.join("logs"))
        .arg("--cluster-file")
        .arg(cluster_file(dir))
        // Enough for a cluster to play with; the defaults are those of a server of its own.
        .args([
            "--memory",
            "2GiB",
            "--storage-memory",
            "1GiB",
            "--cache-memory",
            "256MiB",
        ])
        // So that it does not outlive who started it.
        .args(["--parentpid", &std::process::id().to_string()])
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("cannot share the log")?)
        .stderr(log)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))
}
