//! The config of a node.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::free_port;

/// A region as it is listed in a config.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its number in the cluster.
    pub number: u16,
    /// The port of its public API.
    pub http: u16,
    /// Where whoever reads this config reaches it.
    pub quic: SocketAddr,
}

/// The ports of a node, all on loopback.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// Of the public API.
    pub http: u16,
    /// Of the admin listener.
    pub admin: u16,
    /// Of links, UDP.
    pub quic: u16,
}

impl Ports {
    /// Three that nobody has.
    pub fn free() -> Self {
        Self {
            http: free_port(),
            admin: free_port(),
            quic: free_port(),
        }
    }
}

/// The config of a node.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its region.
    pub region: String,
    /// Id of the cluster.
    pub cluster: String,
    /// Of the cluster.
    pub shards: u16,
    /// All regions, this one too.
    pub regions: Vec<Listed>,
    /// Its own.
    pub ports: Ports,
    /// Holds `ca.pem`, certificate and key of the region, and `token.pub.pem`.
    pub pki: PathBuf,
    /// The section `[store]`, where it has one.
    pub store: String,
}

impl Config {
    /// The file.
    pub fn toml(&self) -> String {
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
