//! What stands where in the cluster's folder.
//!
//! ```text
//! cluster.json   ids and ports; written last when the cluster is made, and once more when it first
//!                runs with relays, which need ports as well
//! dev.json       the running cluster, for programs
//! pki/           authority, certificates, token keys
//! eu/            config.toml, node.log, data/; of a second node config-2.toml, node-2.log, data-2/;
//!                foundationdb/ with its data, logs and cluster file
//! relay.sock     there while relays run: steers them
//! ```

mod description;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use whimbrel_replication::id::ClusterId;
use whimbrel_replication::limits::REGIONS_MAX;
use whimbrel_replication::relay::Dial;

use super::shape::{Node, PORTS_PER_NODE, Region, Shape, StoreKind, is_free, loopback, of_node};
use crate::ca::{self, Certificate};
use crate::config::check_region_name;
use crate::files::{self, Access};
use crate::keys::{self, TokenKeys};

/// Regions of a new cluster.
pub const DEFAULT_REGIONS: [&str; 3] = ["eu", "us", "ap"];

/// Where free ports are looked for: above the well-known ones, below those that the system gives to
/// outgoing connections and that could be taken when the cluster starts again.
const PORTS: std::ops::Range<u16> = 10_000..30_000;
const PORT_ATTEMPTS: usize = 200;

/// A cluster's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    #[serde(skip)]
    dir: PathBuf,
    /// The cluster's id.
    pub cluster: String,
    /// In the order of `--regions`.
    pub regions: Vec<Region>,
    /// Ports of the relays, once the cluster has run with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    relays: Vec<RelayPort>,
}

/// Where the relay from one region to another listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RelayPort {
    /// Who dials.
    from: String,
    /// Who is dialled.
    to: String,
    /// On loopback.
    port: u16,
}

/// How regions reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// At their own addresses.
    Direct,
    /// Through relays.
    Relayed,
}

/// Held by the process that runs the cluster; a second one is refused.
pub(super) fn lock(dir: &Path) -> anyhow::Result<File> {
    try_lock(dir)?.with_context(|| {
        format!(
            "the cluster in {} is running already; stop that process first, \
             or start a missing region with --only REGION",
            dir.display()
        )
    })
}

/// The lock, where no other process runs the cluster.
pub(super) fn try_lock(dir: &Path) -> anyhow::Result<Option<File>> {
    files::make_dir(dir)?;
    let path = dir.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

impl Layout {
    /// The cluster in `dir`, if there is one.
    pub fn open(dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = dir.join("cluster.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let mut layout: Self = serde_json::from_slice(&text)
            .with_context(|| format!("{} is damaged", path.display()))?;
        dir.clone_into(&mut layout.dir);
        Ok(Some(layout))
    }

    /// The cluster in `dir`, or a new one. Asking for other regions than it has is an error.
    pub fn open_or_make(
        dir: &Path,
        regions: Option<&[String]>,
        shape: Shape,
        port_base: Option<u16>,
    ) -> anyhow::Result<Self> {
        let Some(layout) = Self::open(dir)? else {
            let default = DEFAULT_REGIONS.map(str::to_owned);
            return Self::make(dir, regions.unwrap_or(&default), shape, port_base);
        };
        for region in &layout.regions {
            let (store, nodes) = (region.store(), region.node_count());
            anyhow::ensure!(
                shape.store.is_none_or(|wanted| wanted == store),
                "the cluster in {} keeps its data in the {store} store; leave --store away",
                dir.display()
            );
            anyhow::ensure!(
                shape.nodes.is_none_or(|wanted| wanted == nodes),
                "the cluster in {} has {nodes} nodes in each region; leave --nodes away",
                dir.display()
            );
        }
        let have: Vec<&str> = layout.regions.iter().map(|r| r.name.as_str()).collect();
        if let Some(regions) = regions {
            anyhow::ensure!(
                regions.iter().eq(&have),
                "the cluster in {} has the regions {}; leave --regions away to go on with it, \
                 or give another --data to make another cluster",
                dir.display(),
                have.join(",")
            );
        }
        if let Some(base) = port_base {
            anyhow::ensure!(
                layout.regions.first().is_some_and(|r| r.first.http == base),
                "the cluster in {} has its ports already; leave --port-base away",
                dir.display()
            );
        }
        Ok(layout)
    }

    fn make(
        dir: &Path,
        names: &[String],
        shape: Shape,
        port_base: Option<u16>,
    ) -> anyhow::Result<Self> {
        let (store, nodes) = shape.checked()?;
        anyhow::ensure!(
            (1..=REGIONS_MAX).contains(&names.len()),
            "{} regions are outside 1..={REGIONS_MAX}",
            names.len()
        );
        for (i, name) in names.iter().enumerate() {
            check_region_name(name)
                .map_err(|problem| anyhow::anyhow!("--regions: `{name}` is {problem}"))?;
            anyhow::ensure!(!names[..i].contains(name), "--regions names `{name}` twice");
            anyhow::ensure!(
                !["pki", "ca", "token", "all"].contains(&name.as_str()),
                "--regions: `{name}` is a word with a meaning of its own here"
            );
            anyhow::ensure!(
                !dir.join(name).join("data").exists(),
                "{} holds data of a cluster whose cluster.json is gone; \
                 put that back, or give another --data",
                dir.join(name).display()
            );
        }
        files::make_dir(dir)?;
        let mut id = [0; ClusterId::LEN];
        SystemRandom::new()
            .fill(&mut id)
            .map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
        let servers = u16::from(store == StoreKind::Foundationdb);
        let ports = nodes * PORTS_PER_NODE + servers;
        let base = free_ports(names.len() * usize::from(ports), port_base)?;
        let region = |(i, name): (u16, &String)| {
            let base = base + i * ports;
            let node = |nth: u16| Node {
                http: base + nth * PORTS_PER_NODE,
                admin: base + nth * PORTS_PER_NODE + 1,
                quic: base + nth * PORTS_PER_NODE + 2,
            };
            Region {
                name: name.clone(),
                number: i + 1,
                first: node(0),
                others: (1..nodes).map(node).collect(),
                foundationdb: (servers > 0).then(|| base + nodes * PORTS_PER_NODE),
            }
        };
        let regions = (0..).zip(names).map(region).collect();
        let layout = Self {
            dir: dir.to_owned(),
            cluster: ClusterId::from_bytes(id).to_string(),
            regions,
            relays: Vec::new(),
        };
        // Without cluster.json these are left from an attempt that broke off.
        let pki = layout.pki();
        if pki.exists() {
            fs::remove_dir_all(&pki).with_context(|| format!("cannot remove {}", pki.display()))?;
        }
        keys::make(&pki)?;
        ca::make(&pki, ca::CA_DAYS)?;
        for region in &layout.regions {
            ca::issue(&pki, &region.name, &pki, ca::NODE_DAYS)?;
            files::make_dir(&dir.join(&region.name))?;
            for nth in 0..region.node_count() {
                let config = layout.config(region, nth);
                let path = region.config(dir, nth);
                files::replace(&path, config.as_bytes(), Access::Everyone)?;
            }
        }
        layout.write()?;
        Ok(layout)
    }

    fn write(&self) -> anyhow::Result<()> {
        let json = serde_json::to_vec_pretty(self).context("cannot write JSON")?;
        files::replace(&self.dir.join("cluster.json"), &json, Access::Everyone)
    }

    /// Gives relays their ports, if they have none yet: behind those of the regions where the first
    /// one of these was named, any free ones otherwise.
    pub(super) fn allot_relays(&mut self, port_base: Option<u16>) -> anyhow::Result<()> {
        if !self.relays.is_empty() {
            return Ok(());
        }
        let names = || self.regions.iter().map(|region| &region.name);
        let pairs: Vec<(&String, &String)> = names()
            .flat_map(|from| names().map(move |to| (from, to)))
            .filter(|(from, to)| from != to)
            .collect();
        if pairs.is_empty() {
            return Ok(());
        }
        let behind = |base: u16| {
            let ports: usize = self.regions.iter().map(Region::ports).sum();
            base.saturating_add(u16::try_from(ports).unwrap_or(u16::MAX))
        };
        let base = free_ports(pairs.len(), port_base.map(behind))?;
        self.relays = (base..)
            .zip(pairs)
            .map(|(port, (from, to))| RelayPort {
                from: from.clone(),
                to: to.clone(),
                port,
            })
            .collect();
        self.write()
    }

    /// Which relays there are to be.
    pub(super) fn dials(&self) -> anyhow::Result<Vec<Dial>> {
        let dial = |relay: &RelayPort| {
            Ok(Dial {
                from: relay.from.clone(),
                to: relay.to.clone(),
                listen: loopback(relay.port),
                target: loopback(self.region(&relay.to)?.first.quic),
            })
        };
        self.relays.iter().map(dial).collect()
    }

    /// Lets a region reach the others so. Only these addresses of its config change: the rest may
    /// have been edited.
    pub(super) fn route(&self, region: &Region, route: Route) -> anyhow::Result<()> {
        anyhow::ensure!(
            region.others.is_empty() || route == Route::Direct,
            "relays stand between regions of one node; leave --relay or --nodes away"
        );
        let path = region.config(&self.dir, 0);
        let read = || format!("cannot read {}", path.display());
        let before = fs::read_to_string(&path).with_context(read)?;
        let mut config = before.clone();
        for relay in self.relays.iter().filter(|r| r.from == region.name) {
            let direct = address(self.region(&relay.to)?.first.quic);
            let relayed = address(relay.port);
            let (from, to) = match route {
                Route::Direct => (relayed, direct),
                Route::Relayed => (direct, relayed),
            };
            config = config.replace(&from, &to);
            anyhow::ensure!(
                route == Route::Direct || config.contains(&to),
                "{} does not say `quic = [{from}]` for {}; put that back to run with --relay",
                path.display(),
                relay.to
            );
        }
        if config != before {
            files::replace(&path, config.as_bytes(), Access::Everyone)?;
        }
        Ok(())
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The region called `name`.
    pub fn region(&self, name: &str) -> anyhow::Result<&Region> {
        self.regions
            .iter()
            .find(|region| region.name == name)
            .with_context(|| {
                let names: Vec<&str> = self.regions.iter().map(|r| r.name.as_str()).collect();
                format!(
                    "there is no region `{name}`; there are {}",
                    names.join(", ")
                )
            })
    }

    fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    /// The nodes of a region that do not run.
    ///
    /// # Errors
    ///
    /// When all of them seem to.
    pub(super) fn stopped(&self, region: &Region) -> anyhow::Result<Vec<usize>> {
        let state = |(nth, node): (usize, &Node)| {
            let name = region.node_name(nth);
            node.ensure_stopped(&name).map(|()| nth)
        };
        let (stopped, mut running): (Vec<_>, Vec<_>) = region
            .nodes()
            .enumerate()
            .map(state)
            .partition(Result::is_ok);
        if stopped.is_empty()
            && let Some(first) = running.drain(..1).next()
        {
            first?;
        }
        stopped.into_iter().collect()
    }

    /// Errs where something listens on one of a region's ports: the region, most likely.
    pub(super) fn ensure_stopped(&self, region: &Region) -> anyhow::Result<()> {
        for (nth, node) in region.nodes().enumerate() {
            node.ensure_stopped(&region.node_name(nth))?;
        }
        if let Some(port) = region.foundationdb {
            anyhow::ensure!(
                is_free(port),
                "the FoundationDB of {} seems to run already: port {port} is taken",
                region.name
            );
        }
        Ok(())
    }

    /// The config of a region's node.
    fn config(&self, region: &Region, nth: usize) -> String {
        let pki = self.pki();
        let tls = Certificate::node(&pki, &region.name);
        let mut text = format!(
            "region = {name}\ndata_dir = \"{data}\"\n\n\
             [cluster]\nid = \"{cluster}\"\nshards = 16\n",
            name = quoted(&region.name),
            data = of_node(nth, "data", ""),
            cluster = self.cluster,
        );
        for other in &self.regions {
            text += &format!(
                "\n[[cluster.regions]]\nname = {}\nnumber = {}\nurls = [{}]\nquic = [{}]\n",
                quoted(&other.name),
                other.number,
                listed(other.nodes().map(|node| quoted(&node.url()))),
                listed(other.nodes().map(|node| address(node.quic))),
            );
        }
        if region.foundationdb.is_some() {
            text += "\n[store]\nengine = \"foundationdb\"\n\
                     cluster_file = \"foundationdb/fdb.cluster\"\nprefix = \"whimbrel/\"\n";
        }
        let node = region.nodes().nth(nth).unwrap_or(&region.first);
        text += &format!(
            "\n[listen]\nhttp = \"{}\"\nadmin = \"{}\"\nquic = \"{}\"\nurl = {}\n\
             \n[tls]\nca = {}\ncert = {}\nkey = {}\n\
             \n[auth]\nkeys = [{}]\n\
             \n[shutdown]\ndrain_ms = 3000\n\
             \n[log]\nfilter = \"info\"\n",
            loopback(node.http),
            loopback(node.admin),
            loopback(node.quic),
            quoted(&node.url()),
            relative(&Certificate::ca(&pki).cert),
            relative(&tls.cert),
            relative(&tls.key),
            relative(&TokenKeys::in_dir(&pki).public),
        );
        text
    }

    /// The private key that signs tokens.
    pub(super) fn token_key(&self) -> PathBuf {
        TokenKeys::in_dir(&self.pki()).private
    }
}

/// As a TOML string; JSON's escapes are TOML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn listed(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

/// On loopback, as a region's config names it.
fn address(port: u16) -> String {
    quoted(&loopback(port).to_string())
}

/// A file of the `pki` folder, as a region's config names it.
fn relative(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    quoted(&format!("../pki/{name}"))
}

/// The first of enough neighbouring free ports.
fn free_ports(count: usize, wanted: Option<u16>) -> anyhow::Result<u16> {
    let count = u16::try_from(count).context("too many regions")?;
    let all_free = |base: u16| (base..base + count).all(is_free);
    if let Some(base) = wanted {
        anyhow::ensure!(
            base > 0 && base.checked_add(count).is_some(),
            "--port-base leaves no room for {count} ports from {base}"
        );
        anyhow::ensure!(
            all_free(base),
            "--port-base: not all of the {count} ports from {base} are free"
        );
        return Ok(base);
    }
    let random = SystemRandom::new();
    for _ in 0..PORT_ATTEMPTS {
        let mut bytes = [0; 2];
        random
            .fill(&mut bytes)
            .map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
        let base = PORTS.start + u16::from_be_bytes(bytes) % (PORTS.end - count - PORTS.start);
        if all_free(base) {
            return Ok(base);
        }
    }
    anyhow::bail!("found no {count} neighbouring free ports; give --port-base")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::config::{Config, Flags};

    #[test]
    fn a_new_cluster_has_configs_that_hold_and_keeps_its_ports() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["eu", "us-east"].map(str::to_owned);
        let made = Layout::open_or_make(dir.path(), Some(&names), Shape::default(), None).unwrap();
        for region in &made.regions {
            let config = Config::load(&region.config(dir.path(), 0), &Flags::default()).unwrap();
            assert_eq!(config.region.name, region.name);
            assert_eq!(config.cluster.regions.len(), 2);
            assert_eq!(config.listen.http, loopback(region.first.http));
            assert!(config.tls.key.is_file() && config.tls.ca.is_file());
            assert_eq!(config.data_dir, dir.path().join(&region.name).join("data"));
        }
        assert_eq!(
            Layout::open_or_make(dir.path(), None, Shape::default(), None).unwrap(),
            made
        );
        assert_eq!(
            Layout::open_or_make(dir.path(), Some(&names), Shape::default(), None).unwrap(),
            made
        );
        let other = ["eu".to_owned()];
        let error =
            Layout::open_or_make(dir.path(), Some(&other), Shape::default(), None).unwrap_err();
        assert!(error.to_string().contains("eu,us-east"), "{error}");
        let error = made.region("ap").unwrap_err();
        assert!(error.to_string().contains("eu, us-east"), "{error}");
    }

    #[test]
    fn regions_of_several_nodes_know_all_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let shape = Shape {
            store: Some(StoreKind::Foundationdb),
            nodes: Some(2),
        };
        let made = Layout::open_or_make(dir.path(), None, shape, None).unwrap();
        assert_eq!(Layout::open(dir.path()).unwrap().as_ref(), Some(&made));
        let ports: std::collections::BTreeSet<u16> = made
            .regions
            .iter()
            .flat_map(|region| {
                let nodes = region
                    .nodes()
                    .flat_map(|node| [node.http, node.admin, node.quic]);
                nodes.chain(region.foundationdb).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(ports.len(), 3 * (2 * 3 + 1), "each its own");
        let text = fs::read_to_string(made.regions[0].config(dir.path(), 1)).unwrap();
        let second = &made.regions[0].others[0];
        assert!(
            text.contains(&format!("url = \"{}\"", second.url())),
            "{text}"
        );
        assert!(text.contains("data_dir = \"data-2\""), "{text}");
        let urls: Vec<String> = made.regions[1].nodes().map(|n| quoted(&n.url())).collect();
        assert!(
            text.contains(&format!("urls = [{}]", urls.join(", "))),
            "{text}"
        );

        let error = Layout::open_or_make(
            dir.path(),
            None,
            Shape {
                nodes: Some(1),
                ..shape
            },
            None,
        );
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("leave --nodes away")
        );
        let embedded = Shape {
            store: None,
            nodes: Some(2),
        };
        let other = tempfile::tempdir().unwrap();
        let error = Layout::open_or_make(other.path(), None, embedded, None);
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("--store foundationdb")
        );
    }

    #[test]
    fn relays_are_there_when_asked_for_also_in_a_cluster_that_had_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut layout = Layout::open_or_make(dir.path(), None, Shape::default(), None).unwrap();
        let text = fs::read_to_string(dir.path().join("cluster.json")).unwrap();
        assert!(!text.contains("relays"), "as it was before there were any");
        let (eu, us) = (layout.regions[0].clone(), layout.regions[1].clone());
        // What else one has changed in a config stays.
        let path = eu.config(dir.path(), 0);
        let made = fs::read_to_string(&path).unwrap();
        let edited = made.replace("drain_ms = 3000", "drain_ms = 1234");
        fs::write(&path, &edited).unwrap();
        let quic = |of: usize| {
            let config = Config::load(&path, &Flags::default()).unwrap();
            config.cluster.regions[of].quic[0].clone()
        };
        let direct = loopback(us.first.quic).to_string();
        layout.route(&eu, Route::Relayed).unwrap();
        assert_eq!(quic(1), direct, "there is no relay yet");

        layout.allot_relays(None).unwrap();
        let dials = layout.dials().unwrap();
        assert_eq!(dials.len(), 6);
        assert_eq!((&*dials[0].from, &*dials[0].to), ("eu", "us"));
        assert_eq!(dials[0].target, loopback(us.first.quic));
        layout.route(&eu, Route::Relayed).unwrap();
        assert_eq!(quic(1), dials[0].listen.to_string());
        assert_eq!(quic(0), loopback(eu.first.quic).to_string(), "its own");

        let mut again = Layout::open(dir.path()).unwrap().unwrap();
        again.allot_relays(None).unwrap();
        assert_eq!(again, layout, "ports stay");
        again.route(&eu, Route::Direct).unwrap();
        assert_eq!(quic(1), direct);
        assert_eq!(fs::read_to_string(&path).unwrap(), edited);

        fs::write(&path, edited.replace(&direct, "10.0.0.1:7400")).unwrap();
        let error = layout.route(&eu, Route::Relayed).unwrap_err().to_string();
        assert!(
            error.contains("put that back to run with --relay"),
            "{error}"
        );
    }

    #[test]
    fn impossible_regions_are_refused() {
        let check = |names: &[&str]| {
            let dir = tempfile::tempdir().unwrap();
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            assert!(
                Layout::open_or_make(dir.path(), Some(&names), Shape::default(), None).is_err()
            );
            assert!(Layout::open(dir.path()).unwrap().is_none());
        };
        check(&[]);
        check(&["eu", "eu"]);
        check(&["EU"]);
        check(&["../eu"]);
        check(&["pki"]);
        check(&["ca"]);
        check(&["all"]);
    }

    #[test]
    fn a_second_owner_and_taken_ports_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock(dir.path()).unwrap();
        let error = lock(dir.path()).unwrap_err();
        assert!(error.to_string().contains("running already"), "{error}");
        drop(first);
        lock(dir.path()).unwrap();

        let layout = Layout::open_or_make(dir.path(), None, Shape::default(), None).unwrap();
        let _taken = TcpListener::bind(loopback(layout.regions[1].first.http)).unwrap();
        layout.ensure_stopped(&layout.regions[0]).unwrap();
        assert!(layout.ensure_stopped(&layout.regions[1]).is_err());
    }
}
