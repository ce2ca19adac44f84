//! What a store is: of which cluster and region, in which life. Written at the first start, checked
//! at every other one.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use whimbrel_replication::id::{Hlc, NodeId, Origin, RegionId};

use crate::config::{self, Config};
use crate::identity::Identity;
use crate::store::{Atomic, RangeOptions, RunOptions, Store, StoreError, Transaction, keys};

/// The layout of the store's keys and values.
const FORMAT: u32 = 1;

/// Takes up the identity that the store has, or gives it one, and allocates a node number. Also
/// gives back the highest clock value that any node of this region has issued.
pub async fn take_up(
    store: &Store,
    config: &Config,
    now_unix_ms: i64,
) -> anyhow::Result<(Identity, Option<Hlc>)> {
    let facts = [
        ("format", FORMAT.to_be_bytes().to_vec()),
        ("cluster", config.cluster.id.as_bytes().to_vec()),
        ("shards", config.cluster.shards.to_be_bytes().to_vec()),
        ("region", config.region.id.0.to_be_bytes().to_vec()),
    ];
    let facts = Arc::new(facts);
    let incarnation = u32::try_from(now_unix_ms / 1_000).context("the clock is beyond 2106")?;
    let wanted = facts.clone();
    let committed = store
        .run(RunOptions::default(), move |tx| {
            let wanted = wanted.clone();
            async move { check_or_write(&tx, &*wanted, incarnation).await }
        })
        .await?;
    let (incarnation, mismatch) = committed.value;
    if let Some(name) = mismatch {
        let place = match &config.store {
            config::Store::Embedded => {
                format!("data_dir: the store in {}", config.data_dir.display())
            }
            config::Store::FoundationDb(cluster) => format!(
                "store.prefix: the store under `{}` in {}",
                cluster.prefix,
                cluster.cluster_file.display()
            ),
        };
        bail!(
            "{place} is of another {name}; point it at the right store, or correct cluster and \
             region in the config"
        );
    }
    let node = store
        .run(RunOptions::default(), |tx| async move {
            let stored = tx.get(&keys::next_node(), false).await?;
            let last = stored
                .as_deref()
                .and_then(|b| b.try_into().ok())
                .map_or(0, u64::from_le_bytes);
            tx.atomic(Atomic::Add, &keys::next_node(), &1u64.to_le_bytes());
            Ok(last + 1)
        })
        .await?
        .value;
    let high_water = store
        .read(RunOptions::default(), |tx| async move {
            let (begin, end) = keys::clocks();
            let rows = tx.range_all(&begin, &end, RangeOptions::default()).await?;
            let values = rows
                .iter()
                .filter_map(|(_, value)| value[..].try_into().ok());
            Ok::<_, StoreError>(values.map(u64::from_be_bytes).max().map(Hlc))
        })
        .await?;
    let identity = Identity {
        cluster: config.cluster.id,
        shards: config.cluster.shards,
        origin: Origin {
            region: RegionId(config.region.id.0),
            incarnation,
        },
        node: NodeId(u32::try_from(node).context("node numbers are used up")?),
        regions: config
            .cluster
            .regions
            .iter()
            .map(|r| (r.id, r.name.clone()))
            .collect(),
    };
    Ok((identity, high_water))
}

/// The store's incarnation, or which fact does not fit.
async fn check_or_write(
    tx: &Transaction,
    facts: &[(&'static str, Vec<u8>)],
    now: u32,
) -> Result<(u32, Option<&'static str>), StoreError> {
    let key = keys::meta("incarnation");
    if let Some(stored) = tx.get(&key, false).await? {
        let incarnation = <[u8; 4]>::try_from(&stored[..]).map_or(now, u32::from_be_bytes);
        for (name, wanted) in facts {
            if tx.get(&keys::meta(name), false).await?.as_deref() != Some(wanted) {
                return Ok((incarnation, Some(name)));
            }
        }
        return Ok((incarnation, None));
    }
    for (name, value) in facts {
        tx.set(&keys::meta(name), value);
    }
    tx.set(&key, &now.to_be_bytes());
    Ok((now, None))
}
