//! A cluster that `whimbrel-node dev` runs, for tests of regions of several nodes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncRead, BufReader, Lines};
use tokio::process::Child;
use tokio::sync::SemaphorePermit;
use whimbrel_client::api::{DevCluster, DevRegion, Digests};
use whimbrel_client::token::{Claims, SigningKey};
use whimbrel_client::{Client, ClientBuilder, RetryPolicy};

use crate::dev::{described, interrupt, line_with, spawn};
use crate::foundationdb;
use crate::harness::{http, turn};
use crate::load::Ground;
use crate::wait::until;

/// A `dev` cluster on FoundationDB, two nodes a region.
pub(crate) struct Dev {
    child: Option<Child>,
    pub(crate) data: PathBuf,
    key: SigningKey,
    /// As it was first described.
    pub(crate) cluster: DevCluster,
    /// Kept where the test fails.
    folder: Option<TempDir>,
    _turn: SemaphorePermit<'static>,
}

impl Dev {
    /// `None`, and a line that says so, where FoundationDB is not asked for.
    pub(crate) async fn start(
        test: &str,
        regions: &[&str],
    ) -> Option<(Self, Lines<BufReader<impl AsyncRead + use<>>>)> {
        if !foundationdb::is_asked_for() {
            println!("skipped: {test} (WHIMBREL_E2E_STORE does not ask for FoundationDB)");
            return None;
        }
        let turn = turn().await;
        let folder = TempDir::with_prefix("whimbrel-e2e-").unwrap();
        let data = folder.path().join("cluster");
        let regions = regions.join(",");
        let place = data.to_str().unwrap();
        let args = [
            "dev",
            "--store",
            "foundationdb",
            "--nodes",
            "2",
            "--regions",
            &regions,
            "--data",
            place,
        ];
        let (child, lines) = spawn("whimbrel-node", &args);
        let cluster = until("the cluster", async || described(&data)).await;
        let key = SigningKey::from_pem_file(&data.join("pki/token.key.pem")).unwrap();
        let this = Self {
            child: Some(child),
            data,
            key,
            cluster,
            folder: Some(folder),
            _turn: turn,
        };
        Some((this, lines))
    }

    /// Stops it, as Ctrl-C does.
    pub(crate) async fn stop(&mut self) {
        interrupt(self.child.take().expect("it runs")).await;
    }

    pub(crate) fn region(&self, name: &str) -> DevRegion {
        let cluster = described(&self.data).unwrap();
        let mut regions = cluster.regions.into_iter();
        regions.find(|region| region.name == name).unwrap()
    }

    pub(crate) fn token(&self, user: &str) -> String {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let claims = Claims {
            sub: user.to_owned(),
            exp: now + 3600,
            scope: None,
        };
        self.key.sign(&claims).unwrap()
    }

    pub(crate) fn builder(&self, regions: &[&str], user: &str) -> ClientBuilder {
        let regions = self
            .cluster
            .regions
            .iter()
            .filter(|r| regions.contains(&r.name.as_str()));
        let nodes = regions.flat_map(|region| region.nodes.iter().map(|node| (&region.name, node)));
        let builder = nodes.fold(Client::builder(), |builder, (region, node)| {
            builder.region(region, &node.url)
        });
        builder.token(self.token(user))
    }

    pub(crate) async fn digests(&self, region: &DevRegion, nth: usize) -> Result<Digests, String> {
        let url = format!("{}/admin/v1/digests", region.nodes[nth].admin_url);
        let answer = http().get(url).send().await.map_err(|e| e.to_string())?;
        answer.json().await.map_err(|e| e.to_string())
    }

    /// Starts the nodes of a region that do not run; what runs them ends with the cluster.
    pub(crate) async fn bring_back(&self, region: &str) -> Child {
        let place = self.data.to_str().unwrap();
        let (child, mut lines) =
            spawn("whimbrel-node", &["dev", "--data", place, "--only", region]);
        line_with(&mut lines, &["is ready"]).await;
        child
    }
}

impl Ground for Dev {
    fn client(&self, region: &str, user: &str) -> Client {
        let builder = self.builder(&[region], user).only(region).session(false);
        let builder = builder
            .timeout(Duration::from_secs(20))
            .retry(RetryPolicy::NEVER);
        builder.build().unwrap()
    }

    async fn converged(&self) -> Digests {
        until("equal digests at all nodes", async || {
            let mut first: Option<Digests> = None;
            for region in &described(&self.data)?.regions {
                for nth in 0..region.nodes.len() {
                    let digests = self.digests(region, nth).await?;
                    match &first {
                        Some(first) if first.digest != digests.digest => {
                            return Err(format!("{} node {nth} differs", region.name));
                        }
                        Some(_) => {}
                        None => first = Some(digests),
                    }
                }
            }
            first.ok_or_else(|| "no region".to_owned())
        })
        .await
    }

    fn folder(&self) -> &Path {
        self.data.parent().unwrap()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            let folder = folder.keep();
            eprintln!("the cluster's files are kept in {}", folder.display());
        }
    }
}
