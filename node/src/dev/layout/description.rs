//! `dev.json`: the running cluster, for programs.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::Context as _;
use whimbrel_client::api::{DevCluster, DevFoundationDb, DevNode, DevRegion};

use super::super::foundationdb::cluster_file;
use super::super::shape::{Region, loopback};
use super::Layout;
use crate::files::{self, Access};

impl Layout {
    fn description(&self) -> PathBuf {
        self.dir.join("dev.json")
    }

    /// What `dev.json` says when nodes run as the processes that `pid` gives for them.
    pub fn describe(&self, pid: impl Fn(&Region, usize) -> u32) -> DevCluster {
        let regions = self.regions.iter().map(|region| {
            let nodes = region.nodes().enumerate().map(|(nth, node)| DevNode {
                pid: pid(region, nth),
                url: node.url(),
                admin_url: node.admin_url(),
            });
            DevRegion {
                name: region.name.clone(),
                pid: pid(region, 0),
                url: region.first.url(),
                admin_url: region.first.admin_url(),
                quic: loopback(region.first.quic).to_string(),
                data_dir: region.data_dir(&self.dir),
                log: region.log(&self.dir, 0),
                nodes: nodes.collect(),
                foundationdb: region.foundationdb.map(|_| DevFoundationDb {
                    pid: 0,
                    cluster_file: cluster_file(&region.foundationdb_dir(&self.dir)),
                }),
            }
        });
        DevCluster {
            cluster: self.cluster.clone(),
            regions: regions.collect(),
            token_key: self.token_key(),
        }
    }

    pub(in crate::dev) fn write_description(&self, cluster: &DevCluster) -> anyhow::Result<()> {
        let json = serde_json::to_vec_pretty(cluster).context("cannot write JSON")?;
        files::replace(&self.description(), &json, Access::Everyone)
    }

    /// Takes `dev.json` away, so that nobody reads that of the last run while this one starts.
    pub(in crate::dev) fn remove_description(&self) -> anyhow::Result<()> {
        match fs::remove_file(self.description()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("cannot remove dev.json")
            }
            _ => Ok(()),
        }
    }

    /// Processes of regions that run now, but for `own`. A pid in `dev.json` may have gone to
    /// another program: only one that serves the region's config counts.
    pub(in crate::dev) fn running_besides(&self, own: &[u32]) -> Vec<u32> {
        let read = || -> Option<DevCluster> {
            serde_json::from_slice(&fs::read(self.description()).ok()?).ok()
        };
        let regions = read().map_or(Vec::new(), |cluster| cluster.regions);
        let serves = |pid: &u32| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            command.split(|b| *b == 0).any(|word| {
                self.regions.iter().any(|region| {
                    (0..region.node_count()).any(|nth| {
                        word == region.config(&self.dir, nth).as_os_str().as_encoded_bytes()
                    })
                })
            })
        };
        let nodes = regions.into_iter().flat_map(|region| region.nodes);
        let pids = nodes.map(|node| node.pid);
        pids.filter(|pid| !own.contains(pid) && serves(pid))
            .collect()
    }

    /// Notes that a node runs as another process now.
    pub(in crate::dev) fn update_pid(
        &self,
        name: &str,
        nth: usize,
        pid: u32,
    ) -> anyhow::Result<()> {
        self.update(name, |region| {
            if nth == 0 {
                region.pid = pid;
            }
            if let Some(node) = region.nodes.get_mut(nth) {
                node.pid = pid;
            }
        })
    }

    /// Notes that the FoundationDB of a region runs as another process now.
    pub(in crate::dev) fn update_foundationdb(&self, name: &str, pid: u32) -> anyhow::Result<()> {
        self.update(name, |region| {
            if let Some(server) = &mut region.foundationdb {
                server.pid = pid;
            }
        })
    }

    fn update(&self, name: &str, change: impl Fn(&mut DevRegion)) -> anyhow::Result<()> {
        // Several regions may come back at once, each by a process of its own.
        let lock = File::create(self.dir.join("dev.json.lock")).context("cannot lock dev.json")?;
        lock.lock().context("cannot lock dev.json")?;
        let mut cluster = match fs::read(self.description()) {
            Ok(json) => serde_json::from_slice(&json).context("dev.json is damaged")?,
            Err(_) => self.describe(|_, _| 0),
        };
        let regions = cluster.regions.iter_mut();
        regions.filter(|r| r.name == name).for_each(change);
        self.write_description(&cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::shape::Shape;
    use super::*;

    #[test]
    fn dev_json_has_the_documented_shape() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open_or_make(dir.path(), None, Shape::default(), None).unwrap();
        layout
            .write_description(&layout.describe(|region, _| region.number.into()))
            .unwrap();
        layout.update_pid("us", 0, 20).unwrap();
        let text = fs::read_to_string(layout.description()).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let keys = |value: &serde_json::Value| {
            value
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(keys(&json), "cluster regions token_key");
        let us = &json["regions"][1];
        assert_eq!(keys(us), "admin_url data_dir log name nodes pid quic url");
        assert_eq!(keys(&us["nodes"][0]), "admin_url pid url");
        assert_eq!((&us["name"], &us["pid"]), (&"us".into(), &20.into()));
        assert_eq!(us["nodes"][0]["pid"], 20);
        assert_eq!(us["url"], layout.regions[1].first.url());
        assert!(
            json["token_key"]
                .as_str()
                .unwrap()
                .ends_with("token.key.pem")
        );
    }
}
