//! Gives a store that came back from a backup a new life.
//!
//! Stamps tell the commits of one life of one store apart. A store that came back without its last
//! commits would give their stamps out again, so it must not go on as what it was: its own log
//! becomes that of another origin, whose lost end the region pulls from its peers like any other log.

use anyhow::{bail, ensure};
use tokio::time::sleep;
use whimbrel_replication::id::{NodeId, Origin};

use crate::clock::unix_ms;
use crate::config::Config;
use crate::nodes::{self, LEASE};
use crate::origin::{self, Facts, Found};
use crate::store::{RunOptions, Store, keys};

/// Gives the store of a config a new life; the origins before and after. No node of the region may
/// run. Harmless, if needless, on a store that has lost nothing.
///
/// # Errors
///
/// When nodes run on it, or it holds nothing; those of the store.
pub async fn run(store: &Store, config: &Config) -> anyhow::Result<(Origin, Origin)> {
    if store.is_shared() {
        ensure_unused(store).await?;
    }
    let (facts, region) = (Facts::of(config), config.region.id);
    let (shards, now) = (config.cluster.shards, origin::unix_s(unix_ms())?);
    let renewed = store.run(RunOptions::default(), move |tx| {
        let facts = facts.clone();
        async move {
            let found = origin::look(&tx, &facts).await?;
            let Found::Life {
                incarnation, moved, ..
            } = found
            else {
                return Ok(Err(found));
            };
            let old = Origin {
                region,
                incarnation,
            };
            // Rows of nodes and leases that came back with the backup are nobody's.
            for (begin, end) in [keys::nodes(), keys::leases(), keys::lease_holders()] {
                tx.clear_range(&begin, &end);
            }
            // The life that it had elsewhere counts as well.
            let known = Origin {
                incarnation: moved.map_or(incarnation, |moved| moved.incarnation),
                ..old
            };
            let new = origin::next_life(&tx, shards, known, now).await?;
            origin::renew(&tx, shards, old, new).await?;
            Ok(Ok((old, new)))
        }
    });
    match renewed.await?.value {
        Ok(lives) => Ok(lives),
        Err(Found::Other(name)) => Err(origin::other(&origin::place(config), name)),
        Err(Found::MovingIn(_)) => bail!(
            "{} is half a copy; run `whimbrel-node migrate` again until it says that it is done",
            origin::place(config)
        ),
        Err(_) => bail!(
            "{} is empty; just start a node: it gets a new life and pulls what other regions hold",
            origin::place(config)
        ),
    }
}

/// Errs where a node tells that it runs.
async fn ensure_unused(store: &Store) -> anyhow::Result<()> {
    let before = running(store).await?;
    if before.is_empty() {
        return Ok(());
    }
    sleep(LEASE).await;
    let after = running(store).await?;
    let alive: Vec<&str> = after
        .iter()
        .filter(|row| !before.contains(row))
        .map(|(_, row)| row.url.as_str())
        .collect();
    ensure!(
        alive.is_empty(),
        "nodes run on this store: {}; stop them first",
        alive.join(", ")
    );
    Ok(())
}

async fn running(store: &Store) -> anyhow::Result<Vec<(NodeId, crate::apply::rows::NodeRow)>> {
    let read = store.read(RunOptions::default(), |tx| async move {
        nodes::read_nodes(&tx).await
    });
    Ok(read.await?)
}
