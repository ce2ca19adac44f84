//! Commits some commands as one batch of the log, exactly once, whatever the store says of the
//! outcome.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prost::Message as _;
use whimbrel_replication::cursor::{Cursor, ShardCursor};
use whimbrel_replication::id::{NodeId, OpStamp, ShardId, Stamp};
use whimbrel_replication::limits::{BATCH_BYTES_MAX, BATCH_OPS_MAX};
use whimbrel_replication::op;

use super::Written;
use crate::apply::corrupt;
use crate::apply::rows::{LastBatch, SnapshotStage};
use crate::command::{Command, Done, Refusal};
use crate::execute::{Context, Execution, Outcome};
use crate::identity::Identity;
use crate::snapshot;
use crate::store::keys;
use crate::store::{Atomic, RunOptions, Store, StoreError, Transaction};
use crate::touch::Touched;

/// Commands that are committed together.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Of all of them.
    pub shard: ShardId,
    /// Of the node's batches of the shard; never used again, whatever becomes of this one.
    pub number: u64,
    /// At least one.
    pub commands: Arc<[Command]>,
}

/// A batch that was committed.
#[derive(Debug)]
pub struct Committed {
    /// The answers, in the order of the commands.
    pub written: Vec<Result<Written, Refusal>>,
    /// Whether any of them wrote.
    pub wrote: bool,
    /// What `go_along` gave for the attempt that landed.
    pub touched: Option<Touched>,
}

/// What one attempt would answer, if it lands.
struct Attempt {
    outcomes: Vec<Outcome>,
    /// What this region held, without the batch itself; of its own origin only where an outcome
    /// that wrote nothing may show it.
    held: ShardCursor,
    /// Whether it wakes the region's other nodes.
    touched: Option<Touched>,
}

/// Which attempt counts.
enum Landed {
    /// This one, and the transaction has the stamp.
    Now(u32),
    /// An earlier one, whose outcome had been unknown.
    Before(u32, Stamp),
}

/// Commits a batch. `wall` gives Unix milliseconds; `go_along` may add to the transaction.
///
/// # Errors
///
/// Those of the store; [`StoreError::RolledBack`] if what the commands write does not fit into one
/// batch of the log.
pub async fn commit(
    store: &Store,
    context: &Context,
    batch: Batch,
    wall: impl Fn() -> i64 + Send + Sync + 'static,
    go_along: impl Fn(&Transaction) -> Option<Touched> + Send + Sync + 'static,
) -> Result<Committed, StoreError> {
    let Batch {
        shard,
        number,
        commands,
    } = batch;
    let attempts: Arc<Mutex<Vec<Option<Attempt>>>> = Arc::default();
    let counter = Arc::new(AtomicU32::new(0));
    let own = context.identity.origin;
    let (context, kept) = (context.clone(), attempts.clone());
    let (wall, go_along) = (Arc::new(wall), Arc::new(go_along));
    let is_shared = store.is_shared();
    let committed = store
        .run(RunOptions::default(), move |tx| {
            let (context, commands) = (context.clone(), commands.clone());
            let (wall, go_along) = (wall.clone(), go_along.clone());
            let (kept, attempt) = (kept.clone(), counter.fetch_add(1, Ordering::Relaxed));
            async move {
                let (identity, level) = (context.identity.clone(), context.level.clone());
                let ((), copying, landed, execution) = tokio::try_join!(
                    check_life(&tx, &identity, is_shared),
                    snapshot::row(&tx, shard, false),
                    landed_before(&tx, shard, identity.node, number),
                    Execution::begin(context, tx.clone(), shard, wall(), &commands)
                )?;
                if let Some(landed) = landed {
                    return Ok(landed);
                }
                // What was merged is ahead of the cursor: nothing written on top of it could say
                // what it depends on.
                if copying.stage() != SnapshotStage::Done {
                    return Err(StoreError::Snapshot);
                }
                let batch = (shard, number, attempt);
                let level = level.get();
                let mut outcome =
                    execute(execution, &identity, level, &tx, batch, &commands).await?;
                if !tx.is_read_only() {
                    outcome.touched = go_along(&tx);
                }
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.resize_with(attempt as usize + 1, || None);
                kept[attempt as usize] = Some(outcome);
                Ok(Landed::Now(attempt))
            }
        })
        .await?;
    let (attempt, stamp) = match committed.value {
        Landed::Now(attempt) => (attempt, committed.stamp),
        Landed::Before(attempt, stamp) => (attempt, Some(stamp)),
    };
    let mut attempts = attempts.lock().unwrap_or_else(PoisonError::into_inner);
    let attempt = attempts
        .get_mut(attempt as usize)
        .and_then(Option::take)
        .ok_or(StoreError::Misuse("an attempt that landed left no outcome"))?;
    let Attempt {
        outcomes,
        held,
        touched,
    } = attempt;
    let written = |outcome: Outcome| {
        outcome.map(|mut done| {
            for place in &mut done.places {
                if let (Stamp::PENDING, Some(stamp)) = (place.at.stamp, stamp) {
                    place.at.stamp = stamp;
                }
            }
            let mut cursor = Cursor::of(shard, held.clone());
            if let (Some(stamp), Some(index)) = (stamp, done.last_index) {
                cursor.advance(shard, own, OpStamp::new(stamp, index));
            }
            Written { done, cursor }
        })
    };
    Ok(Committed {
        written: outcomes.into_iter().map(written).collect(),
        wrote: stamp.is_some(),
        touched,
    })
}

/// A node that was away for long may wake up in a store that was given a new life meanwhile: what it
/// stamps must not be taken for that of the old one.
async fn check_life(
    tx: &Transaction,
    identity: &Identity,
    is_shared: bool,
) -> Result<(), StoreError> {
    // An embedded store is held by its node from the start to the end.
    if is_shared {
        let life = tx.get(&keys::meta("incarnation"), false).await?;
        let own = identity.origin.incarnation.to_be_bytes();
        if life.as_deref() != Some(&own[..]) {
            return Err(StoreError::NewLife);
        }
    }
    Ok(())
}

/// Did an earlier attempt at this batch land, although its outcome was unknown?
async fn landed_before(
    tx: &Transaction,
    shard: ShardId,
    node: NodeId,
    number: u64,
) -> Result<Option<Landed>, StoreError> {
    let Some(row) = tx.get(&keys::last_batch(shard, node), false).await? else {
        return Ok(None);
    };
    let row = LastBatch::decode(&row[..]).map_err(|error| corrupt(error.into()))?;
    if row.number != number {
        return Ok(None);
    }
    let stamp = Stamp::try_from(row.stamp.as_slice()).map_err(corrupt)?;
    Ok(Some(Landed::Before(row.attempt, stamp)))
}

/// One attempt: executes the commands and writes their batch.
async fn execute(
    mut execution: Execution,
    identity: &Identity,
    level: u32,
    tx: &Transaction,
    (shard, number, attempt): (ShardId, u64, u32),
    commands: &[Command],
) -> Result<Attempt, StoreError> {
    let mut outcomes = Vec::with_capacity(commands.len());
    for command in commands {
        outcomes.push(execution.execute(command).await?);
    }
    // What wrote is covered by its own stamp, which is above all that this region stamped before.
    let wrote = |done: &Done| done.last_index.is_some();
    let held = if outcomes.iter().flatten().all(wrote) {
        execution.deps().clone()
    } else {
        execution.held().await?
    };
    let issued = execution.issued();
    let (ops, deps, workspace) = execution.finish();
    if ops.is_empty() {
        return Ok(Attempt {
            outcomes,
            held,
            touched: None,
        });
    }
    let batch = op::Batch {
        origin: identity.origin,
        node: identity.node,
        number,
        deps,
        ops,
    };
    if batch.format_min() > level {
        return Err(StoreError::FeatureLevel);
    }
    let bytes = batch.encode(level);
    if bytes.len() > BATCH_BYTES_MAX || batch.ops.len() > BATCH_OPS_MAX {
        return Err(StoreError::RolledBack);
    }
    workspace.log(
        shard,
        (identity.origin, Stamp::PENDING),
        &bytes,
        OpStamp::new(Stamp::PENDING, 0),
    );
    let row = LastBatch {
        number,
        attempt,
        stamp: Stamp::PENDING.as_bytes().to_vec(),
    };
    let row = row.encode_to_vec();
    let offset = row.len() - Stamp::LEN;
    tx.set_versionstamped_value(&keys::last_batch(shard, identity.node), row, offset);
    // What was stamped is above all that this region stamped before, across restarts too.
    tx.atomic(
        Atomic::ByteMax,
        &keys::clock(identity.node),
        &issued.0.to_be_bytes(),
    );
    Ok(Attempt {
        outcomes,
        held,
        touched: None,
    })
}
