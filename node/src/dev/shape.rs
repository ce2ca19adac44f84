//! What the regions of a cluster on this machine are made of: nodes, ports, files.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// API, admin listener, links.
pub(super) const PORTS_PER_NODE: u16 = 3;
/// Nodes of a region on one machine.
const NODES_MAX: usize = 9;

/// Where the regions of a cluster keep their data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum StoreKind {
    /// In their own files.
    Embedded,
    /// In a FoundationDB of their own.
    Foundationdb,
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedded => "embedded",
            Self::Foundationdb => "foundationdb",
        })
    }
}

/// What the regions of a new cluster are made of; what is not given is as usual.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shape {
    /// Where they keep their data, by default embedded.
    pub store: Option<StoreKind>,
    /// Nodes in each region, by default one.
    pub nodes: Option<usize>,
}

impl Shape {
    pub(super) fn checked(self) -> anyhow::Result<(StoreKind, u16)> {
        let store = self.store.unwrap_or(StoreKind::Embedded);
        let nodes = self.nodes.unwrap_or(1);
        anyhow::ensure!(
            (1..=NODES_MAX).contains(&nodes),
            "--nodes: {nodes} is outside 1..={NODES_MAX}"
        );
        anyhow::ensure!(
            nodes == 1 || store == StoreKind::Foundationdb,
            "--nodes: an embedded store belongs to one node; give --store foundationdb as well"
        );
        Ok((store, u16::try_from(nodes).unwrap_or(1)))
    }
}

/// The fixed part of a region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Its name.
    pub name: String,
    /// Its number.
    pub number: u16,
    /// Its only node, or the first one.
    #[serde(flatten)]
    pub first: Node,
    /// Its other nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Node>,
    /// Loopback port of its FoundationDB; without one it has an embedded store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foundationdb: Option<u16>,
}

/// The fixed part of a node: loopback ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Of the API.
    pub http: u16,
    /// Of the admin listener.
    pub admin: u16,
    /// Of the links.
    pub quic: u16,
}

impl Node {
    /// Of the API.
    pub fn url(&self) -> String {
        format!("http://{}", loopback(self.http))
    }

    /// Of the admin listener.
    pub fn admin_url(&self) -> String {
        format!("http://{}", loopback(self.admin))
    }

    pub(super) fn http_address(&self) -> SocketAddr {
        loopback(self.http)
    }

    pub(super) fn admin_address(&self) -> SocketAddr {
        loopback(self.admin)
    }

    /// Errs where something listens on its ports: the node, most likely.
    pub(super) fn ensure_stopped(&self, name: &str) -> anyhow::Result<()> {
        for port in [self.http, self.admin, self.quic] {
            anyhow::ensure!(
                is_free(port),
                "{name} seems to run already: port {port} is taken"
            );
        }
        Ok(())
    }
}

/// `config.toml` of the first node, `config-2.toml` of the second.
pub(super) fn of_node(nth: usize, stem: &str, extension: &str) -> String {
    match nth {
        0 => format!("{stem}{extension}"),
        _ => format!("{stem}-{}{extension}", nth + 1),
    }
}

impl Region {
    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// How many nodes it has.
    pub fn node_count(&self) -> usize {
        1 + self.others.len()
    }

    /// What people call a node: the region, where it is the only one.
    pub(super) fn node_name(&self, nth: usize) -> String {
        if self.others.is_empty() {
            self.name.clone()
        } else {
            format!("{} node {}", self.name, nth + 1)
        }
    }

    pub(super) fn config(&self, dir: &Path, nth: usize) -> PathBuf {
        dir.join(&self.name).join(of_node(nth, "config", ".toml"))
    }

    pub(super) fn log(&self, dir: &Path, nth: usize) -> PathBuf {
        dir.join(&self.name).join(of_node(nth, "node", ".log"))
    }

    pub(super) fn data_dir(&self, dir: &Path) -> PathBuf {
        dir.join(&self.name).join("data")
    }

    pub(super) fn store(&self) -> StoreKind {
        match self.foundationdb {
            Some(_) => StoreKind::Foundationdb,
            None => StoreKind::Embedded,
        }
    }

    pub(super) fn ports(&self) -> usize {
        self.node_count() * usize::from(PORTS_PER_NODE) + usize::from(self.foundationdb.is_some())
    }

    /// Where its FoundationDB keeps data and cluster file.
    pub(super) fn foundationdb_dir(&self, dir: &Path) -> PathBuf {
        dir.join(&self.name).join("foundationdb")
    }
}

pub(super) fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind(loopback(port)).is_ok() && UdpSocket::bind(loopback(port)).is_ok()
}
