//! The nodes of a region: who runs, and who pulls which shards from other regions.
//!
//! Shards are pulled in groups, each under a lease. A lease says who holds it and a number that its
//! holder raises; no clock of another node is trusted. It may be taken once it has stood still for
//! [`LEASE`] on one's *own* monotonic clock, and a transaction that pulls reads who holds it ([`Fence`]): a node
//! that was paused and goes on commits nothing in the name of a lease that it has lost.
//!
//! Where a store has one node only, there is nothing to share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use whimbrel_replication::id::{NodeId, ShardId};

use crate::apply::corrupt;
use crate::apply::rows::{LeaseRow, NodeRow};
use crate::identity::Identity;
use crate::store::{RangeOptions, RunOptions, Store, StoreError, Transaction, keys};

/// How long a lease or a node must stand still before it counts as gone. Shorter: a short pause of
/// a node moves its shards. Longer: they stand still for longer when it dies.
pub const LEASE: Duration = Duration::from_millis(2_500);
/// How often a node tells that it runs.
const BEAT: Duration = Duration::from_millis(500);
/// Groups of shards; fixed for all nodes of a region.
const GROUPS_MAX: u16 = 8;

const _: () = assert!(BEAT.as_millis() * 4 < LEASE.as_millis());

/// What this node knows of its region's nodes.
#[derive(Clone, Debug)]
pub struct Nodes {
    node: NodeId,
    groups: u16,
    is_shared: bool,
    view: watch::Receiver<View>,
}

/// As of the last beat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct View {
    /// Where clients reach the nodes that run, by node.
    urls: BTreeMap<NodeId, String>,
    /// The newest format of batches that all of them read.
    format: u32,
    /// Groups whose lease this node holds.
    held: BTreeSet<u16>,
}

/// What a transaction that pulls must find.
#[derive(Clone, Debug)]
pub struct Fence {
    key: Vec<u8>,
    node: NodeId,
}

impl Fence {
    /// Whether the lease is still held, as the transaction sees it; its commit fails if it is lost
    /// before that. Without a fence, where there is one node only, it always is.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn holds(fence: Option<&Self>, tx: &Transaction) -> Result<bool, StoreError> {
        let Some(Self { key, node }) = fence else {
            return Ok(true);
        };
        let holder = tx.get(key, false).await?;
        Ok(holder.as_deref() == Some(&node.0.to_be_bytes()[..]))
    }
}

impl Nodes {
    /// Tells the region's other nodes about this one, and takes its share of the shards, until
    /// `shutdown`; then it lets them go. `url` is where clients reach this node,
    /// `format` the newest format of batches that it reads.
    pub fn start(
        store: &Store,
        identity: &Identity,
        (url, format): (&str, u32),
        tasks: &tokio_util::task::TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        let groups = identity.shards.min(GROUPS_MAX);
        let alone = View {
            urls: BTreeMap::from([(identity.node, url.to_owned())]),
            format,
            held: (0..groups).collect(),
        };
        let is_shared = store.is_shared();
        let (publish, view) = watch::channel(if is_shared { View::default() } else { alone });
        if is_shared {
            let member = Member {
                store: store.clone(),
                node: identity.node,
                url: url.to_owned(),
                format,
                groups,
                publish,
                seen: Seen::default(),
                beat: 0,
            };
            tasks.spawn(member.run(shutdown));
        }
        Self {
            node: identity.node,
            groups,
            is_shared,
            view,
        }
    }

    /// Where clients reach the nodes that run, sorted; several may share one address.
    pub fn urls(&self) -> Vec<String> {
        let urls: BTreeSet<String> = self.view.borrow().urls.values().cloned().collect();
        urls.into_iter().collect()
    }

    /// The newest format of batches that all nodes that run can read; 0 until they are known.
    pub fn format(&self) -> u32 {
        self.view.borrow().format
    }

    /// How many nodes run.
    pub fn running(&self) -> usize {
        self.view.borrow().urls.len()
    }

    /// Shards that this node pulls, of so many.
    pub fn pulled(&self, shards: u16) -> BTreeSet<ShardId> {
        let held = &self.view.borrow().held;
        let all = (0..shards).filter(|shard| held.contains(&(shard % self.groups)));
        all.map(ShardId).collect()
    }

    /// Waits until anything about the nodes has changed; for ever where nothing can.
    pub async fn changed(&mut self) {
        if self.view.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// What a transaction that applies batches of another region to a shard must find.
    pub fn fence(&self, shard: ShardId) -> Option<Fence> {
        self.is_shared.then(|| Fence {
            key: keys::lease_holder(shard.0 % self.groups),
            node: self.node,
        })
    }
}

/// This node among the others.
struct Member {
    store: Store,
    node: NodeId,
    url: String,
    format: u32,
    groups: u16,
    publish: watch::Sender<View>,
    seen: Seen,
    beat: u64,
}

/// Rows of nodes and leases, and since when each stands still.
#[derive(Clone, Debug, Default)]
struct Seen {
    nodes: BTreeMap<NodeId, (NodeRow, Instant)>,
    leases: BTreeMap<u16, (LeaseRow, Instant)>,
}

/// Keeps the instant of what has not changed.
fn note<K: Ord, R: PartialEq>(
    seen: &mut BTreeMap<K, (R, Instant)>,
    rows: Vec<(K, R)>,
    now: Instant,
) {
    let mut old = std::mem::take(seen);
    for (key, row) in rows {
        let since = match old.remove(&key) {
            Some((before, since)) if before == row => since,
            _ => now,
        };
        seen.insert(key, (row, since));
    }
}

impl Seen {
    /// Nodes that have told that they run within [`LEASE`].
    fn running(&self, now: Instant) -> impl Iterator<Item = (NodeId, &NodeRow)> {
        self.nodes
            .iter()
            .filter(move |(_, (_, since))| now < *since + LEASE)
            .map(|(node, (row, _))| (*node, row))
    }

    /// Which groups `node` is to hold: what it holds, up to an equal share, and of what nobody holds
    /// so many that the share is full.
    fn share(&self, node: NodeId, groups: u16, now: Instant) -> BTreeSet<u16> {
        let running = self.running(now).filter(|(other, _)| *other != node);
        let share = usize::from(groups).div_ceil(running.count() + 1);
        let holder = |group: &u16| self.leases.get(group).map(|(row, _)| NodeId(row.holder));
        let own = (0..groups).filter(|group| holder(group) == Some(node));
        let free = (0..groups).filter(|group| match self.leases.get(group) {
            None => true,
            Some((row, _)) if NodeId(row.holder) == node => false,
            Some((row, since)) => row.holder == 0 || now >= *since + LEASE,
        });
        own.chain(free).take(share).collect()
    }
}

impl Member {
    async fn run(mut self, shutdown: CancellationToken) {
        let mut told = None;
        let mut beaten = Instant::now();
        loop {
            let began = Instant::now();
            match self.beat().await {
                Ok(()) => {
                    beaten = began;
                    told = None;
                }
                Err(error) => {
                    if told.replace(error.to_string()).as_ref() != Some(&error.to_string()) {
                        tracing::warn!(%error, "the other nodes of the region cannot be told");
                    }
                    // The others may have taken what was held; the fence would find out as well.
                    if beaten.elapsed() > LEASE {
                        self.publish.send_modify(|view| view.held.clear());
                    }
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(BEAT) => {}
            }
        }
        self.publish.send_modify(|view| view.held.clear());
        if let Err(error) = self.leave().await {
            tracing::info!(%error, "the leases were not given back; they run out");
        }
    }

    /// Tells that this node runs, sees who else does, and takes, renews and gives back leases.
    async fn beat(&mut self) -> Result<(), StoreError> {
        let (nodes, leases) = self.store.read(short(), read_all).await?;
        // What has changed is as fresh as the read that shows it.
        let now = Instant::now();
        note(&mut self.seen.nodes, nodes, now);
        note(&mut self.seen.leases, leases, now);
        let wanted = self.seen.share(self.node, self.groups, now);
        self.beat += 1;
        let own = NodeRow {
            beat: self.beat,
            url: self.url.clone(),
            format: self.format,
        };
        // Who is long gone need not be remembered.
        let gone: Vec<NodeId> = self
            .seen
            .nodes
            .iter()
            .filter(|(node, (_, since))| **node != self.node && now > *since + LEASE * 20)
            .map(|(node, _)| *node)
            .collect();
        let seen: Arc<BTreeMap<u16, LeaseRow>> = Arc::new(
            self.seen
                .leases
                .iter()
                .map(|(group, (row, _))| (*group, row.clone()))
                .collect(),
        );
        let (node, groups) = (self.node, self.groups);
        let committed = self
            .store
            .run(short(), move |tx| {
                let (own, seen, wanted, gone) =
                    (own.clone(), seen.clone(), wanted.clone(), gone.clone());
                async move {
                    tx.set(&keys::node(node), &own.encode_to_vec());
                    for gone in gone {
                        tx.clear(&keys::node(gone));
                    }
                    let mut held = BTreeSet::new();
                    for group in 0..groups {
                        let before = seen.get(&group);
                        let is_own = before.is_some_and(|row| row.holder == node.0);
                        if !is_own && !wanted.contains(&group) {
                            continue;
                        }
                        let key = keys::lease(group);
                        let stored = tx.get(&key, false).await?;
                        let stored = stored.map(|bytes| LeaseRow::decode(&bytes[..]));
                        let stored = stored.transpose().map_err(|e| corrupt(e.into()))?;
                        let holder = if wanted.contains(&group) { node.0 } else { 0 };
                        let row = LeaseRow {
                            holder,
                            revision: before.map_or(0, |row| row.revision) + 1,
                        };
                        // Somebody was faster, or is not gone; unless it was an attempt of ours that
                        // landed without our knowing.
                        let is_done = holder == node.0 && stored.as_ref() == Some(&row);
                        if stored.as_ref() != before && !is_done {
                            continue;
                        }
                        if !is_done {
                            write_lease(&tx, group, before, &row);
                        }
                        if holder == node.0 {
                            held.insert(group);
                        }
                    }
                    Ok(held)
                }
            })
            .await?;
        let held = committed.value;
        let mut urls: BTreeMap<NodeId, String> = self
            .seen
            .running(now)
            .map(|(node, row)| (node, row.url.clone()))
            .collect();
        urls.insert(self.node, self.url.clone());
        let formats = self.seen.running(now).map(|(_, row)| row.format);
        let format = formats.min().unwrap_or(self.format).min(self.format);
        self.publish.send_if_modified(|view| {
            let new = View { urls, format, held };
            let changed = *view != new;
            if view.held != new.held {
                tracing::info!(
                    groups = ?new.held, nodes = new.urls.len(),
                    "this node pulls these groups of shards"
                );
            }
            *view = new;
            changed
        });
        Ok(())
    }

    /// Gives back all leases, so that others need not wait until they run out.
    async fn leave(&self) -> Result<(), StoreError> {
        let (node, groups) = (self.node, self.groups);
        self.store
            .run(short(), move |tx| async move {
                tx.clear(&keys::node(node));
                for group in 0..groups {
                    let key = keys::lease(group);
                    let Some(bytes) = tx.get(&key, false).await? else {
                        continue;
                    };
                    let row = LeaseRow::decode(&bytes[..]).map_err(|e| corrupt(e.into()))?;
                    if row.holder == node.0 {
                        let free = LeaseRow {
                            holder: 0,
                            revision: row.revision + 1,
                        };
                        write_lease(&tx, group, Some(&row), &free);
                    }
                }
                Ok(())
            })
            .await?;
        Ok(())
    }
}

fn write_lease(tx: &Transaction, group: u16, before: Option<&LeaseRow>, row: &LeaseRow) {
    tx.set(&keys::lease(group), &row.encode_to_vec());
    if before.map(|before| before.holder) != Some(row.holder) {
        tx.set(&keys::lease_holder(group), &row.holder.to_be_bytes());
    }
}

/// A beat that takes long is worth less than the next one.
fn short() -> RunOptions {
    RunOptions {
        timeout: LEASE,
        attempts: 5,
    }
}

type Rows = (Vec<(NodeId, NodeRow)>, Vec<(u16, LeaseRow)>);

/// Nodes that tell that they run, and some that have ended.
///
/// # Errors
///
/// Those of the store.
pub async fn read_nodes(tx: &Transaction) -> Result<Vec<(NodeId, NodeRow)>, StoreError> {
    let (begin, end) = keys::nodes();
    let mut nodes = Vec::new();
    for (key, value) in tx.range_all(&begin, &end, unlocked()).await? {
        let row = NodeRow::decode(&value[..]).map_err(|error| corrupt(error.into()))?;
        nodes.push((keys::node_of(&key).map_err(corrupt)?, row));
    }
    Ok(nodes)
}

fn unlocked() -> RangeOptions {
    RangeOptions {
        snapshot: true,
        ..RangeOptions::default()
    }
}

async fn read_all(tx: Arc<Transaction>) -> Result<Rows, StoreError> {
    let nodes = read_nodes(&tx).await?;
    let (begin, end) = keys::leases();
    let mut leases = Vec::new();
    for (key, value) in tx.range_all(&begin, &end, unlocked()).await? {
        let row = LeaseRow::decode(&value[..]).map_err(|error| corrupt(error.into()))?;
        leases.push((keys::lease_of(&key).map_err(corrupt)?, row));
    }
    Ok((nodes, leases))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(nodes: &[(u32, Duration)], leases: &[(u16, u32, Duration)]) -> (Seen, Instant) {
        let start = Instant::now();
        let now = start + LEASE * 10;
        let row = |beat| NodeRow {
            format: 0,
            beat,
            url: String::new(),
        };
        let lease = |holder| LeaseRow {
            holder,
            revision: 1,
        };
        let seen = Seen {
            nodes: nodes
                .iter()
                .map(|(node, still)| (NodeId(*node), (row(1), now - *still)))
                .collect(),
            leases: leases
                .iter()
                .map(|(group, holder, still)| (*group, (lease(*holder), now - *still)))
                .collect(),
        };
        (seen, now)
    }

    const FRESH: Duration = Duration::ZERO;

    #[test]
    fn a_node_alone_takes_all() {
        let (seen, now) = seen(&[], &[]);
        assert_eq!(seen.share(NodeId(1), 8, now).len(), 8);
    }

    #[test]
    fn two_nodes_share_and_the_first_gives_back() {
        let leases: Vec<_> = (0..8).map(|group| (group, 1, FRESH)).collect();
        let (seen, now) = seen(&[(1, FRESH), (2, FRESH)], &leases);
        assert_eq!(seen.share(NodeId(1), 8, now), BTreeSet::from([0, 1, 2, 3]));
        assert!(seen.share(NodeId(2), 8, now).is_empty());
    }

    #[test]
    fn what_a_dead_node_held_is_taken_when_it_has_stood_still_long_enough() {
        let lease = |still: Duration| {
            let leases: Vec<_> = (0..8u16)
                .map(|group| {
                    if group < 4 {
                        (group, 1, still)
                    } else {
                        (group, 2, FRESH)
                    }
                })
                .collect();
            let (seen, now) = seen(&[(1, still), (2, FRESH)], &leases);
            seen.share(NodeId(2), 8, now).len()
        };
        assert_eq!(lease(LEASE - Duration::from_millis(1)), 4);
        assert_eq!(lease(LEASE), 8);
    }

    #[test]
    fn rows_that_change_are_fresh() {
        let (start, mut rows) = (Instant::now(), BTreeMap::new());
        note(&mut rows, vec![(1, "a"), (2, "b")], start);
        let later = start + LEASE;
        note(&mut rows, vec![(1, "a"), (2, "c")], later);
        assert_eq!(rows, BTreeMap::from([(1, ("a", start)), (2, ("c", later))]));
    }
}
