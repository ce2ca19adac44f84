//! Makes a cluster's folder: keys, certificates, configs.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use rand::Rng as _;
use tempfile::TempDir;
use whimbrel_client::token::SigningKey;

use super::{Admin, Cluster, Config, Listed, Ports, Process, Region, Steering};
use crate::experiment::{Needs, REGIONS};
use crate::link::{Dial, Links};

/// What clusters are made of.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The program `whimbrel-node`.
    pub program: PathBuf,
    /// Where their files are put and kept; without it in temporary folders.
    pub data: Option<PathBuf>,
    /// Names the cluster's own folder there.
    pub name: String,
}

/// A cluster's files.
#[derive(Debug)]
pub(super) enum Folder {
    Temporary(Option<TempDir>, PathBuf),
    Kept(PathBuf),
}

impl Folder {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Temporary(_, path) | Self::Kept(path) => path,
        }
    }

    pub(super) fn keep(&mut self) -> PathBuf {
        if let Self::Temporary(folder, _) = self
            && let Some(folder) = folder.take()
        {
            let _ = folder.keep();
        }
        self.path().to_owned()
    }
}

/// What of an experiment's needs this machine lacks, in words.
pub fn missing(needs: &Needs) -> Option<String> {
    if !needs.small_disks.is_empty() && !rustix::process::geteuid().is_root() {
        return Some("a small disk is a tmpfs, and only root can mount one".to_owned());
    }
    if !needs.clocks.is_empty() && faketime().is_none() {
        return Some("the library libfaketime is not installed (package faketime)".to_owned());
    }
    if needs.strace {
        let found = Command::new("strace")
            .arg("-V")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !found.is_ok_and(|status| status.success()) {
            return Some("the program strace is not installed".to_owned());
        }
    }
    None
}

/// The library of Debian's package `faketime`, which programs of many threads need.
fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten();
    let mut libraries = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    libraries.find(|library| library.exists())
}

pub(super) async fn make(origin: &Origin, needs: &Needs, seed: u64) -> anyhow::Result<Cluster> {
    let folder = match &origin.data {
        Some(data) => Folder::Kept(fresh(&data.join(&origin.name))?),
        None => {
            let folder = TempDir::with_prefix("whimbrel-chaos-").context("no temporary folder")?;
            let path = folder.path().to_owned();
            Folder::Temporary(Some(folder), path)
        }
    };
    let dir = folder.path();
    let pki = dir.join("pki");
    make_pki(&origin.program, &pki)?;
    let ports: BTreeMap<&str, Ports> = REGIONS.map(|region| (region, Ports::free())).into();
    let links = relays(&ports, seed).await?;
    let cluster = cluster_id();
    let mut regions = BTreeMap::new();
    for region in REGIONS {
        let own = dir.join(region);
        std::fs::create_dir_all(&own).with_context(|| format!("cannot make {}", own.display()))?;
        let listed = (1..).zip(REGIONS).map(|(number, other)| Listed {
            name: other.to_owned(),
            number,
            http: ports[other].http,
            quic: links
                .address(region, other)
                .unwrap_or_else(|| loopback(ports[other].quic)),
        });
        let config = Config {
            region: region.to_owned(),
            cluster: cluster.clone(),
            shards: 4,
            regions: listed.collect(),
            ports: ports[region],
            pki: pki.clone(),
            store: String::new(),
        };
        let file = own.join("config.toml");
        std::fs::write(&file, config.toml())
            .with_context(|| format!("cannot write {}", file.display()))?;
        let mut process = Process::new(&origin.program, &own);
        if needs.small_disks.contains(region) {
            process.on_small_disk()?;
        }
        if needs.clocks.contains(region) {
            let library = faketime().context("libfaketime is not installed")?;
            process.with_clock(&library)?;
        }
        let Ports { http, admin, .. } = ports[region];
        let region_of = Region {
            url: format!("http://127.0.0.1:{http}"),
            admin_url: format!("http://127.0.0.1:{admin}"),
            process: Some(process),
        };
        regions.insert(region.to_owned(), region_of);
    }
    let key = SigningKey::from_pem_file(&pki.join("token.key.pem"))
        .context("cannot use the key that signs tokens")?;
    Ok(Cluster {
        regions,
        steering: Steering::Own(links),
        key,
        admin: Admin::new()?,
        folder: Some(folder),
    })
}

/// An experiment begins with empty disks.
fn fresh(dir: &Path) -> anyhow::Result<PathBuf> {
    anyhow::ensure!(
        !dir.exists(),
        "{} is there already; remove it, or name another folder with --data",
        dir.display()
    );
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    // Paths in a config are relative to it.
    let dir = std::path::absolute(dir).with_context(|| format!("no folder {}", dir.display()))?;
    Ok(dir)
}

/// A relay from each region to each other.
async fn relays(ports: &BTreeMap<&str, Ports>, seed: u64) -> anyhow::Result<Links> {
    let pairs = REGIONS
        .iter()
        .flat_map(|from| REGIONS.map(|to| (*from, to)))
        .filter(|(from, to)| from != to);
    let dials = pairs.map(|(from, to)| Dial {
        from: from.to_owned(),
        to: to.to_owned(),
        listen: loopback(0),
        target: loopback(ports[to].quic),
    });
    Links::start(seed, dials)
        .await
        .context("cannot start the relays")
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A cluster's authority, a certificate for each region, and the key that signs tokens.
fn make_pki(program: &Path, pki: &Path) -> anyhow::Result<()> {
    let pki = pki.as_os_str();
    let word = OsStr::new;
    run(program, &[word("ca"), word("init"), word("--out"), pki])?;
    run(program, &[word("keys"), word("--out"), pki])?;
    for region in REGIONS {
        let issue = ["ca", "issue", "--region", region, "--ca"].map(word);
        run(program, &[&issue[..], &[pki, word("--out"), pki]].concat())?;
    }
    Ok(())
}

fn run(program: &Path, arguments: &[&OsStr]) -> anyhow::Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    anyhow::ensure!(
        output.status.success(),
        "{} {arguments:?}: {}",
        program.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// 16 bytes in base32hex: the last of 26 characters carries three bits.
fn cluster_id() -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    let mut random = rand::rng();
    let mut id: String = (0..25)
        .map(|_| char::from(DIGITS[random.random_range(0..DIGITS.len())]))
        .collect();
    id.push('0');
    id
}
