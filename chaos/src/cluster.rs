//! A cluster for an experiment: one process for each region, which can be harmed one by one, with
//! relays between them; or one that `whimbrel-node dev --relay` runs, whose links alone can be.

mod admin;
mod config;
mod disk;
mod make;
mod ports;
mod process;
mod tamper;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use whimbrel_client::api::{DevCluster, Digests};
use whimbrel_client::token::{Claims, SigningKey};
use whimbrel_client::{Client, RetryPolicy};

use crate::experiment::Needs;
use crate::link::{self, Faults, LinkReport, Links, Order, Request, SOCKET};
use crate::workload::Way;
pub use admin::{Admin, Replication, Unreplicated};
pub use config::{Config, Listed, Ports};
pub use make::{Origin, missing};
pub use ports::free_port;
pub use process::Process;
pub use tamper::Tampering;

/// How long regions may take to converge, or to get ready.
const PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(50);
/// Of a call of the load: who is frozen is left for another region soon.
const CALL_MAX: Duration = Duration::from_secs(3);
/// Of a call that reads the end: all of a conversation, on a machine that is busy.
const END_CALL_MAX: Duration = Duration::from_secs(60);
/// How long tokens are good: longer than any experiment.
const TOKEN_LIFE: Duration = Duration::from_secs(6 * 60 * 60);

/// A cluster that an experiment is made on.
pub struct Cluster {
    regions: BTreeMap<String, Region>,
    steering: Steering,
    key: SigningKey,
    admin: Admin,
    /// Its files, where they are its own.
    folder: Option<make::Folder>,
}

/// One region.
#[derive(Debug)]
pub struct Region {
    /// Of the public API.
    pub url: String,
    /// Of the admin listener.
    pub admin_url: String,
    /// Where it is ours to harm.
    process: Option<Process>,
}

/// Taken in the folder of a cluster that experiments attach to, for as long as one of them runs.
const LOCK: &str = "chaos.lock";

/// Who has the relays.
#[derive(Debug)]
enum Steering {
    Own(Links),
    Other { socket: PathBuf, _lock: File },
}

/// Two experiments at once would judge each other's faults and messages.
fn lock(dev: &Path) -> anyhow::Result<File> {
    let path = dev.join(LOCK);
    let file = File::create(&path).with_context(|| format!("cannot use {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => anyhow::bail!(
            "another experiment runs on the cluster in {}; wait for its end, or leave --attach away",
            dev.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

impl Cluster {
    /// Starts one for an experiment; all regions are ready.
    pub async fn start(origin: &Origin, needs: &Needs, seed: u64) -> anyhow::Result<Self> {
        let mut this = make::make(origin, needs, seed).await?;
        for region in this.regions.values_mut() {
            if let Some(process) = &mut region.process {
                process.start()?;
            }
        }
        this.all_ready().await?;
        Ok(this)
    }

    /// Takes the one that runs in `dev`.
    pub async fn attach(dev: &Path) -> anyhow::Result<Self> {
        let file = dev.join("dev.json");
        let json = std::fs::read(&file).with_context(|| {
            let dir = dev.display();
            format!(
                "no cluster runs in {dir}; start one with `whimbrel-node dev --data {dir} --relay`, \
                 or leave --attach away"
            )
        })?;
        let lock = lock(dev)?;
        let described: DevCluster = serde_json::from_slice(&json)
            .with_context(|| format!("{} is not understood", file.display()))?;
        let key = SigningKey::from_pem_file(&described.token_key)
            .with_context(|| format!("cannot use {}", described.token_key.display()))?;
        let regions = described.regions.into_iter().map(|region| {
            let (url, admin_url) = (region.url, region.admin_url);
            let region_of = Region {
                url,
                admin_url,
                process: None,
            };
            (region.name, region_of)
        });
        let this = Self {
            regions: regions.collect(),
            steering: Steering::Other {
                socket: dev.join(SOCKET),
                _lock: lock,
            },
            key,
            admin: Admin::new()?,
            folder: None,
        };
        for name in crate::experiment::REGIONS {
            anyhow::ensure!(
                this.regions.contains_key(name),
                "the cluster in {} has no region `{name}`; experiments need {}",
                dev.display(),
                crate::experiment::REGIONS.join(", ")
            );
        }
        let links = this.links().await?;
        if let Some(bad) = links.iter().find(|link| link.faults != Faults::default()) {
            anyhow::bail!(
                "the link from {} to {} is bad already, and an experiment puts all links right in \
                 the end; begin with `whimbrel-chaos --dev {} link all all heal`",
                bad.from,
                bad.to,
                dev.display()
            );
        }
        Ok(this)
    }

    /// Names of all regions.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.regions.keys().map(String::as_str)
    }

    /// One region, which the experiment's reader has found to be there.
    pub fn region(&self, name: &str) -> anyhow::Result<&Region> {
        let region = self.regions.get(name);
        region.with_context(|| format!("there is no region `{name}`"))
    }

    /// The process of a region that is ours to harm.
    pub fn process(&mut self, name: &str) -> anyhow::Result<&mut Process> {
        let region = self.regions.get_mut(name);
        region
            .and_then(|region| region.process.as_mut())
            .with_context(|| format!("the process of {name} is not ours to harm"))
    }

    /// The admin listeners.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// How all links are.
    pub async fn links(&self) -> anyhow::Result<Vec<LinkReport>> {
        match &self.steering {
            Steering::Own(links) => Ok(links.report()),
            Steering::Other { socket, .. } => ask(socket, &Request::Show).await,
        }
    }

    /// Changes links.
    pub async fn steer(&self, order: Order) -> anyhow::Result<()> {
        match &self.steering {
            Steering::Own(links) => Ok(links.apply(&order)?),
            Steering::Other { socket, .. } => ask(socket, &Request::Change(order)).await.map(drop),
        }
    }

    /// A user's ways to all regions, who soon gives up on one that does not answer.
    pub fn ways(&self, user: &str) -> anyhow::Result<Vec<Way>> {
        self.ways_within(user, CALL_MAX)
    }

    /// The ways of a user who has time.
    pub fn patient_ways(&self, user: &str) -> anyhow::Result<Vec<Way>> {
        self.ways_within(user, END_CALL_MAX)
    }

    fn ways_within(&self, user: &str, time: Duration) -> anyhow::Result<Vec<Way>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let claims = Claims {
            sub: user.to_owned(),
            exp: (now + TOKEN_LIFE).as_secs(),
            scope: None,
        };
        let token = self.key.sign(&claims).context("cannot sign a token")?;
        let way = |(name, region): (&String, &Region)| {
            let client = Client::builder()
                .region(name, &region.url)
                .only(name)
                .session(false)
                .token(&token)
                .timeout(time)
                .retry(RetryPolicy::NEVER)
                .build()?;
            Ok((name.clone(), client))
        };
        self.regions.iter().map(way).collect()
    }

    /// Waits until a region says that it is ready.
    pub async fn ready(&mut self, name: &str) -> anyhow::Result<()> {
        let admin_url = self.region(name)?.admin_url.clone();
        let began = Instant::now();
        loop {
            let said = self.admin.readiness(&admin_url).await;
            if said == "ready" {
                return Ok(());
            }
            if let Some(process) = self.regions.get_mut(name).and_then(|r| r.process.as_mut())
                && let Some(status) = process.ended()
            {
                anyhow::bail!("{name} has ended ({status}); {}", process.log_end());
            }
            anyhow::ensure!(
                began.elapsed() < PATIENCE,
                "{name} was not ready within {} s: {said}",
                PATIENCE.as_secs()
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until all regions are.
    pub async fn all_ready(&mut self) -> anyhow::Result<()> {
        let names: Vec<String> = self.names().map(str::to_owned).collect();
        for name in names {
            self.ready(&name).await?;
        }
        Ok(())
    }

    /// The digests of all regions.
    pub async fn digests(&self) -> anyhow::Result<BTreeMap<String, Digests>> {
        let mut digests = BTreeMap::new();
        for (name, region) in &self.regions {
            let of = self.admin.digests(&region.admin_url).await;
            digests.insert(
                name.clone(),
                of.with_context(|| format!("digests of {name}"))?,
            );
        }
        Ok(digests)
    }

    /// Waits until all regions have the same digest. Where they do not within reason, what they have
    /// then, which is for the check to judge.
    pub async fn converged(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let began = Instant::now();
        loop {
            let digests = self.digests().await;
            let late = began.elapsed() >= PATIENCE;
            match digests {
                Ok(digests) => {
                    let of = digests.into_iter().map(|(name, of)| (name, of.digest));
                    let of: BTreeMap<String, String> = of.collect();
                    if late || all_equal(of.values()) {
                        return Ok(of);
                    }
                }
                Err(error) if late => return Err(error),
                Err(_) => {}
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Ends its processes, where they are its own.
    pub async fn stop(mut self) {
        for region in self.regions.values_mut() {
            if let Some(process) = &mut region.process
                && !process.is_away()
            {
                // It is killed once more when it is dropped.
                let _ = process.kill().await;
            }
        }
    }

    /// Where its files are, if they are its own.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_ref().map(make::Folder::path)
    }

    /// Keeps its files after the end, and says where.
    pub fn keep(&mut self) -> Option<PathBuf> {
        self.folder.as_mut().map(make::Folder::keep)
    }
}

/// Whether there is nothing that differs from the first.
pub fn all_equal<T: PartialEq>(mut values: impl Iterator<Item = T>) -> bool {
    match values.next() {
        Some(first) => values.all(|other| other == first),
        None => true,
    }
}

async fn ask(socket: &Path, request: &Request) -> anyhow::Result<Vec<LinkReport>> {
    let asked = async {
        let mut client = link::Client::connect(socket).await?;
        client.ask(request).await
    };
    let report = asked.await.with_context(
        || "cannot steer the links; the cluster must run with `whimbrel-node dev --relay`",
    )?;
    Ok(report.links)
}

impl fmt::Debug for Cluster {
    /// Without its key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("regions", &self.regions)
            .finish_non_exhaustive()
    }
}
