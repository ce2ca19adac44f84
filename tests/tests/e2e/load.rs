//! Users who write, read and listen in all regions while a test does harm, and the judge of what
//! they saw.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::time::Duration;

use whimbrel_chaos::check::{Counts, check};
use whimbrel_chaos::workload::{self, Plan, Way};
use whimbrel_client::Client;
use whimbrel_client::api::Digests;

use crate::harness::{Cluster, REGIONS, group};
use crate::wait::{ensure, until};

/// A little load: much more only makes a small machine slow.
pub(crate) fn plan(seed: u64) -> Plan {
    Plan {
        seed,
        writers: 6,
        listeners: 2,
        acts: u32::MAX,
        pause: Duration::from_millis(60),
        regions: 1,
    }
}

/// A plan under way.
pub(crate) struct Load {
    plan: Plan,
    conversations: Vec<String>,
    running: workload::Load,
}

/// A cluster of all [`REGIONS`] that load is put on.
pub(crate) trait Ground {
    /// A user in a region, as [`Cluster::client`] gives one.
    fn client(&self, region: &str, user: &str) -> Client;
    /// Waits until all regions show the same, and gives what.
    async fn converged(&self) -> Digests;
    /// Where files may be kept.
    fn folder(&self) -> &Path;
}

impl Ground for Cluster {
    fn client(&self, region: &str, user: &str) -> Client {
        Self::client(self, region, user)
    }

    async fn converged(&self) -> Digests {
        Self::converged(self).await
    }

    fn folder(&self) -> &Path {
        Self::folder(self)
    }
}

fn ways(ground: &impl Ground) -> impl Fn(&str) -> Vec<Way> {
    |user| {
        let way = |region: &str| {
            let client = ground.client(region, user);
            (region.to_owned(), client)
        };
        REGIONS.map(way).to_vec()
    }
}

impl Load {
    /// Starts it, in three new conversations that all regions know.
    pub(crate) async fn start(ground: &impl Ground, plan: Plan) -> Self {
        let users = plan.users();
        let owner = ground.client(REGIONS[0], &users[0]);
        let members: Vec<&str> = users[1..].iter().map(String::as_str).collect();
        let mut conversations = Vec::new();
        for _ in 0..3 {
            conversations.push(group(&owner, &members).await);
        }
        ground.converged().await;
        let running = workload::Load::start(&plan, &conversations, ways(ground)).await;
        Self {
            running: running.expect("all regions are up"),
            plan,
            conversations,
        }
    }

    /// Waits until so many more writes were acked.
    pub(crate) async fn acks(&self, more: usize) {
        let from = self.running.acked();
        until("more acks", async || {
            let acked = self.running.acked() - from;
            ensure(acked >= more, format!("{acked} acks"))
        })
        .await;
    }

    /// Ends it once all regions have converged, and judges what was seen. Of a history that shows
    /// a broken promise all is kept beside the logs.
    pub(crate) async fn judge(self, ground: &impl Ground) -> Counts {
        let written = self.running.stop().await;
        ground.converged().await;
        let history = written.finish().await.expect("all regions are up");
        let digest = ground.converged().await.digest;
        let digests = REGIONS.map(|region| (region.to_owned(), digest.clone()));
        let digests = BTreeMap::from(digests);
        let settled = workload::settle(
            &self.plan,
            &self.conversations,
            &history,
            ways(ground),
            &digests,
        );
        let settled = settled.await.expect("all regions are up");
        let report = check(&history, &settled);
        if !report.violations.is_empty() {
            let file = |name: &str| {
                let file = File::create(ground.folder().join(name));
                BufWriter::new(file.expect("a temporary folder can be written"))
            };
            history
                .write_json_lines(file("history.jsonl"))
                .expect("a history can be written");
            serde_json::to_writer(file("settled.json"), &settled).expect("it can be written");
            panic!("seed {}: {report}", self.plan.seed);
        }
        println!("{report}");
        report.counts
    }
}
