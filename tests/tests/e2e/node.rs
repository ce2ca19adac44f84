//! One process of `whimbrel-node serve`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::process::{Child, Command};
pub(crate) use whimbrel_chaos::cluster::{Config, Listed, Ports};

use crate::harness::http;
use crate::programs::{command, signal};
use crate::wait::{ensure, until, within};

/// A node, running or not.
pub(crate) struct Node {
    pub(crate) config: Config,
    file: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    /// Variables of its environment, once it is started again.
    pub(crate) env: Vec<(&'static str, String)>,
}

impl Node {
    /// Writes its config into `folder`, where it also keeps its data and log.
    pub(crate) fn new(folder: &Path, config: Config) -> Self {
        fs::create_dir_all(folder).expect("a temporary folder can be written");
        let (file, log) = (folder.join("config.toml"), folder.join("node.log"));
        fs::write(&file, config.toml()).expect("a temporary folder can be written");
        Self {
            config,
            file,
            log,
            child: None,
            env: Vec::new(),
        }
    }

    /// Gives it another store, once it is started again.
    pub(crate) fn set_store(&mut self, section: String) {
        self.config.store = section;
        self.write_config();
    }

    /// What it lists as its cluster's regions from its next start on.
    pub(crate) fn set_regions(&mut self, listed: Vec<Listed>) {
        self.config.regions = listed;
        self.write_config();
    }

    fn write_config(&self) {
        fs::write(&self.file, self.config.toml()).expect("a temporary folder can be written");
    }

    /// Its config file.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.config.ports.http)
    }

    pub(crate) fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.config.ports.admin)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Starts the process; [`Node::ready`] waits for it.
    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs", self.config.region);
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.expect("the log can be written");
        let mut command = command("whimbrel-node");
        command
            .args(["serve", "--parent-pipe", "--config"])
            .arg(&self.file)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log);
        let mut command = Command::from(command);
        let child = command.kill_on_drop(true).spawn();
        self.child = Some(child.expect("the node can be started"));
    }

    /// Waits until the node says that it is ready.
    pub(crate) async fn ready(&mut self) {
        let (name, url) = (self.config.region.clone(), self.admin_url());
        let child = self.child.as_mut().expect("it was started");
        until(&format!("{name} to be ready"), async || {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(format!("it has ended: {status}"));
            }
            let answer = http().get(format!("{url}/readyz")).send().await;
            let answer = answer.map_err(|error| error.to_string())?;
            match answer.status().as_u16() {
                200 => Ok(()),
                _ => Err(answer.text().await.unwrap_or_default()),
            }
        })
        .await;
    }

    /// Waits until the node says that it is not ready, with this in its reason.
    pub(crate) async fn unready(&self, reason: &str) {
        let url = format!("{}/readyz", self.admin_url());
        until(
            &format!("{} to say {reason:?}", self.config.region),
            async || {
                let answer = http().get(&url).send().await.map_err(|e| e.to_string())?;
                let status = answer.status().as_u16();
                let said = answer.text().await.map_err(|e| e.to_string())?;
                ensure(status == 503 && said.contains(reason), said)
            },
        )
        .await;
    }

    /// SIGKILL.
    pub(crate) async fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().await.expect("a child can be killed");
    }

    pub(crate) fn pid(&self) -> u32 {
        let child = self.child.as_ref().expect("it runs");
        child.id().expect("it has not ended by itself")
    }

    /// Sends it a signal, by name.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// SIGTERM, and waits for the end.
    pub(crate) async fn stop(&mut self) {
        self.signal("TERM");
        let status = self.ended().await;
        assert!(
            status.success(),
            "{} ended with {status}",
            self.config.region
        );
    }

    /// Waits until the process has ended.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it was started");
        let name = &self.config.region;
        let status = within(&format!("{name} to end"), child.wait()).await;
        status.expect("a child can be waited for")
    }

    /// All that it has logged, over all its starts.
    pub(crate) fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Node {
    /// Of a test that fails, the end of the log is shown.
    fn drop(&mut self) {
        const LINES: usize = 40;
        if !std::thread::panicking() {
            return;
        }
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        eprintln!("--- the end of {}", self.log.display());
        for line in &lines[lines.len().saturating_sub(LINES)..] {
            eprintln!("{line}");
        }
    }
}
