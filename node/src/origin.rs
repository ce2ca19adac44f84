//! What a store is: of which cluster and region, in which life. Written at the first start, checked
//! at every other one.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use prost::Message as _;
use whimbrel_replication::id::{ClusterId, Hlc, NodeId, Origin, RegionId, ShardId};

use crate::apply::{corrupt, others_held, own_tail};
use crate::config::{self, Config};
use crate::identity::Identity;
use crate::store::{Atomic, RangeOptions, RunOptions, Store, StoreError, Transaction, keys};

/// The layout of the store's keys and values.
const FORMAT: u32 = 1;
/// Node numbers that a new life passes over: a backup does not know of the last starts before its
/// store was lost, and what those nodes stamped lives on in other regions.
const NODES_PASSED_OVER: u64 = 1 << 16;

/// What a store must say of itself to fit a config.
#[derive(Clone, Debug)]
pub struct Facts(Arc<[(&'static str, Vec<u8>)]>);

impl Facts {
    /// Those of a config.
    pub fn of(config: &Config) -> Self {
        Self::new(config.cluster.id, config.cluster.shards, config.region.id)
    }

    /// Those of a region's store.
    pub fn new(cluster: ClusterId, shards: u16, region: RegionId) -> Self {
        Self(Arc::new([
            ("format", FORMAT.to_be_bytes().to_vec()),
            ("cluster", cluster.as_bytes().to_vec()),
            ("shards", shards.to_be_bytes().to_vec()),
            ("region", region.0.to_be_bytes().to_vec()),
        ]))
    }

    /// The first one that a store does not fit.
    async fn mismatch(&self, tx: &Transaction) -> Result<Option<&'static str>, StoreError> {
        for (name, wanted) in self.0.iter() {
            if tx.get(&keys::meta(name), false).await?.as_deref() != Some(wanted) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// All of them, to tell stores apart.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|(_, value)| value.clone()).collect()
    }

    /// Writes them into a store that has none.
    pub fn write(&self, tx: &Transaction) {
        for (name, value) in self.0.iter() {
            tx.set(&keys::meta(name), value);
        }
    }
}

/// What a store says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing: it is new.
    New,
    /// That it belongs to another cluster or region; which fact does not fit.
    Other(&'static str),
    /// The life that it is in.
    Life {
        /// Its incarnation.
        incarnation: u32,
        /// Node numbers that were given out.
        nodes: u64,
        /// Where its data was moved to.
        moved: Option<Moved>,
    },
    /// That data is being moved into it.
    MovingIn(Moving),
}

/// `meta/moved`: where a store's data went on.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Moved {
    /// Where it is, for people.
    #[prost(string, tag = "1")]
    pub place: String,
    /// In which life.
    #[prost(uint32, tag = "2")]
    pub incarnation: u32,
}

/// `meta/moving`: how far a move into this store has come.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Moving {
    /// Incarnation of the store that is copied.
    #[prost(uint32, tag = "1")]
    pub incarnation: u32,
    /// Node numbers that it had given out: another count, and it was written since.
    #[prost(uint64, tag = "2")]
    pub nodes: u64,
    /// The last key that was copied.
    #[prost(bytes = "vec", tag = "3")]
    pub last: Vec<u8>,
    /// Rows that were copied.
    #[prost(uint64, tag = "4")]
    pub rows: u64,
    /// Whose store is copied: its facts.
    #[prost(bytes = "vec", tag = "5")]
    pub facts: Vec<u8>,
    /// The attempt that copies, by chance: another one may have taken over.
    #[prost(uint64, tag = "6")]
    pub attempt: u64,
}

impl Moving {
    /// The same move, with nothing copied.
    #[must_use]
    pub fn anew(&self) -> Self {
        Self {
            last: Vec::new(),
            rows: 0,
            ..self.clone()
        }
    }

    /// Whether it copies the same store in the same state.
    pub fn is_of(&self, other: &Self) -> bool {
        let of = |m: &Self| (m.facts.clone(), m.incarnation, m.nodes);
        of(self) == of(other)
    }
}

/// Reads what a store says of itself.
///
/// # Errors
///
/// Those of the store.
pub async fn look(tx: &Transaction, facts: &Facts) -> Result<Found, StoreError> {
    if let Some(moving) = moving(tx).await? {
        return Ok(Found::MovingIn(moving));
    }
    let Some(stored) = tx.get(&keys::meta("incarnation"), false).await? else {
        return Ok(Found::New);
    };
    if let Some(name) = facts.mismatch(tx).await? {
        return Ok(Found::Other(name));
    }
    let incarnation = <[u8; 4]>::try_from(&stored[..])
        .map_err(|_| StoreError::Fatal("the incarnation does not parse".into()))?;
    let moved = tx.get(&keys::meta("moved"), false).await?;
    let moved = moved.map(|row| Moved::decode(&row[..])).transpose();
    Ok(Found::Life {
        incarnation: u32::from_be_bytes(incarnation),
        nodes: nodes(tx).await?,
        moved: moved.map_err(|error| corrupt(error.into()))?,
    })
}

/// How far a move into a store has come, if one has begun.
///
/// # Errors
///
/// Those of the store.
pub async fn moving(tx: &Transaction) -> Result<Option<Moving>, StoreError> {
    let row = tx.get(&keys::meta("moving"), false).await?;
    row.map(|row| Moving::decode(&row[..]))
        .transpose()
        .map_err(|error| corrupt(error.into()))
}

async fn nodes(tx: &Transaction) -> Result<u64, StoreError> {
    let stored = tx.get(&keys::next_node(), false).await?;
    let last = stored.as_deref().and_then(|bytes| bytes.try_into().ok());
    Ok(last.map_or(0, u64::from_le_bytes))
}

/// Marks a store whose data was moved elsewhere: no node may start on it.
pub fn mark_moved(tx: &Transaction, moved: &Moved) {
    tx.set(&keys::meta("moved"), &moved.encode_to_vec());
}

/// Notes how far a move into a store has come.
pub fn mark_moving(tx: &Transaction, moving: &Moving) {
    tx.set(&keys::meta("moving"), &moving.encode_to_vec());
}

/// The incarnation of a life that begins now: above that of every life of this region of which a
/// store knows.
///
/// # Errors
///
/// Those of the store.
pub async fn next_life(
    tx: &Transaction,
    shards: u16,
    known: Origin,
    now_unix_s: u32,
) -> Result<Origin, StoreError> {
    let mut last = known.incarnation;
    for shard in (0..shards).map(ShardId) {
        let lives = others_held(tx, shard).await?;
        let own = lives.iter().filter(|(o, _)| o.region == known.region);
        last = own.map(|(o, _)| o.incarnation).fold(last, u32::max);
    }
    Ok(Origin {
        incarnation: now_unix_s.max(last.saturating_add(1)),
        ..known
    })
}

/// Gives a store a new life: from now on what was its own log is that of another origin, which goes
/// on from there if a peer has more of it.
///
/// # Errors
///
/// Those of the store.
pub async fn renew(
    tx: &Transaction,
    shards: u16,
    old: Origin,
    new: Origin,
) -> Result<(), StoreError> {
    for shard in (0..shards).map(ShardId) {
        if let Some(last) = own_tail(tx, shard, old).await? {
            tx.set(&keys::applied(shard, old), last.as_bytes());
        }
    }
    tx.set(&keys::meta("incarnation"), &new.incarnation.to_be_bytes());
    tx.clear(&keys::meta("moved"));
    tx.clear(&keys::meta("moving"));
    tx.atomic(
        Atomic::Add,
        &keys::next_node(),
        &NODES_PASSED_OVER.to_le_bytes(),
    );
    Ok(())
}

/// Unix seconds of an incarnation that begins now.
///
/// # Errors
///
/// After 2106.
pub fn unix_s(now_unix_ms: i64) -> anyhow::Result<u32> {
    u32::try_from(now_unix_ms / 1_000).context("the clock is beyond 2106")
}

/// Where the config says that the store is.
pub fn place(config: &Config) -> String {
    match &config.store {
        config::Store::Embedded => format!("data_dir: the store in {}", config.data_dir.display()),
        config::Store::FoundationDb(cluster) => format!(
            "store.prefix: the store under `{}` in {}",
            cluster.prefix,
            cluster.cluster_file.display()
        ),
    }
}

/// The config's key for a fact.
fn key_of(name: &str) -> &str {
    match name {
        "cluster" => "cluster.id",
        "shards" => "cluster.shards",
        other => other,
    }
}

/// Says that the store in a place belongs to somebody else.
pub fn other(place: &str, name: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "{place} was made for another {}; point it at the right store, or correct the config",
        key_of(name)
    )
}

/// What a node starts with.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The life that the store is in.
    pub incarnation: u32,
    /// A number that no node of the region had before.
    pub node: NodeId,
    /// The highest clock value that any node of the region has issued.
    pub high_water: Option<Hlc>,
}

/// Takes up the life that the store is in, or begins its first one, and allocates a node number; or
/// finds why no node may start on it.
///
/// # Errors
///
/// Those of the store.
pub async fn start(
    store: &Store,
    facts: &Facts,
    now_unix_s: u32,
) -> anyhow::Result<Result<Start, Found>> {
    let facts = facts.clone();
    let committed = store
        .run(RunOptions::default(), move |tx| {
            let facts = facts.clone();
            async move {
                let found = look(&tx, &facts).await?;
                if found == Found::New {
                    facts.write(&tx);
                    tx.set(&keys::meta("incarnation"), &now_unix_s.to_be_bytes());
                }
                Ok(found)
            }
        })
        .await?;
    let incarnation = match committed.value {
        Found::New => now_unix_s,
        Found::Life {
            incarnation,
            moved: None,
            ..
        } => incarnation,
        found => return Ok(Err(found)),
    };
    let node = store
        .run(RunOptions::default(), |tx| async move {
            let last = nodes(&tx).await?;
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
    Ok(Ok(Start {
        incarnation,
        node: NodeId(u32::try_from(node).context("node numbers are used up")?),
        high_water,
    }))
}

/// [`start`] by a config: the node's identity, and the highest clock value that any node of the
/// region has issued.
///
/// # Errors
///
/// When no node may start on the store, with the remedy; those of the store.
pub async fn take_up(
    store: &Store,
    config: &Config,
    now_unix_ms: i64,
) -> anyhow::Result<(Identity, Option<Hlc>)> {
    let place = place(config);
    let started = match start(store, &Facts::of(config), unix_s(now_unix_ms)?).await? {
        Ok(started) => started,
        Err(Found::Other(name)) => return Err(other(&place, name)),
        Err(Found::MovingIn(_)) => bail!(
            "{place} is still being filled; run `whimbrel-node migrate` again until it says that it \
             is done"
        ),
        Err(Found::Life {
            moved: Some(moved), ..
        }) => bail!(
            "{place} was moved to {}; correct the section [store] of the config. To go back to this \
             store run `whimbrel-node restored`: it pulls what came since from the other regions",
            moved.place
        ),
        Err(found) => bail!("{place}: a node cannot start on it ({found:?})"),
    };
    let identity = Identity {
        cluster: config.cluster.id,
        shards: config.cluster.shards,
        origin: Origin {
            region: config.region.id,
            incarnation: started.incarnation,
        },
        node: started.node,
        regions: names(config),
    };
    Ok((identity, started.high_water))
}

/// All regions of a config.
pub fn names(config: &Config) -> std::collections::BTreeMap<RegionId, String> {
    let regions = config.cluster.regions.iter();
    regions.map(|r| (r.id, r.name.clone())).collect()
}
