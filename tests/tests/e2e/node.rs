//! One process of `whimbrel-node serve`.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::process::{Child, Command};

use crate::harness::http;
use crate::programs::{command, free_port, signal};
use crate::wait::{until, within};

/// A region as it is listed in a config.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) number: u16,
    pub(crate) http: u16,
    /// Where whoever reads this config reaches it.
    pub(crate) quic: SocketAddr,
}

/// The ports of a node, all on loopback.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) http: u16,
    pub(crate) admin: u16,
    pub(crate) quic: u16,
}

impl Ports {
    pub(crate) fn free() -> Self {
        Self {
            http: free_port(),
            admin: free_port(),
            quic: free_port(),
        }
    }
}

/// The config of a node.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) region: String,
    /// Id of the cluster.
    pub(crate) cluster: String,
    pub(crate) shards: u16,
    pub(crate) regions: Vec<Listed>,
    pub(crate) ports: Ports,
    /// Holds `ca.pem`, certificate and key of the region, and `token.pub.pem`.
    pub(crate) pki: PathBuf,
    /// The section `[store]`, where it has one.
    pub(crate) store: String,
}

impl Config {
    fn toml(&self) -> String {
        let Self {
            region,
            cluster,
            shards,
            regions,
            ports,
            pki,
            store,
        } = self;
        let mut text = format!(
            "region = \"{region}\"\ndata_dir = \"data\"\n\n\
             [cluster]\nid = \"{cluster}\"\nshards = {shards}\n\n"
        );
        for listed in regions {
            text += &format!(
                "[[cluster.regions]]\nname = \"{}\"\nnumber = {}\n\
                 urls = [\"http://127.0.0.1:{}\"]\nquic = [\"{}\"]\n\n",
                listed.name, listed.number, listed.http, listed.quic
            );
        }
        let Ports { http, admin, quic } = ports;
        let pki = pki.display();
        text += store;
        text + &format!(
            "[listen]\nhttp = \"127.0.0.1:{http}\"\nadmin = \"127.0.0.1:{admin}\"\n\
             quic = \"127.0.0.1:{quic}\"\n\n\
             [tls]\nca = \"{pki}/ca.pem\"\ncert = \"{pki}/{region}.pem\"\n\
             key = \"{pki}/{region}.key.pem\"\n\n\
             [auth]\nkeys = [\"{pki}/token.pub.pem\"]\n\n\
             [limits]\nwrites_per_second = 100000\nwrite_burst = 100000\n\n\
             [shutdown]\ndrain_ms = 1000\n\n\
             [log]\nfilter = \"info\"\n"
        )
    }
}

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

    /// SIGKILL.
    pub(crate) async fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().await.expect("a child can be killed");
    }

    /// Sends it a signal, by name.
    pub(crate) fn signal(&self, name: &str) {
        let child = self.child.as_ref().expect("it runs");
        signal(child.id().expect("it has not ended by itself"), name);
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
