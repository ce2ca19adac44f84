//! Batches from other regions: exactly once and in order, by comparing the cursor and setting it in
//! the transaction that applies them.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use whimbrel_replication::clock::Observed;
use whimbrel_replication::id::{Hlc, OpStamp, Origin, Place, ShardId, Stamp};
use whimbrel_replication::op::{Batch, Op, Trace};

use super::{ApplyError, Wanted, Workspace, corrupt, trim_floor};
use crate::execute::Context;
use crate::nodes::Fence;
use crate::store::keys;
use crate::store::{RangeOptions, RunOptions, Store, StoreError};

/// What became of some batches of another region.
#[derive(Debug)]
pub enum Applied {
    /// The cursor stands at this stamp: after the batches, or elsewhere if it was not at `from`.
    At(Stamp),
    /// This batch cannot be applied, now or later.
    Stopped {
        /// Its stamp.
        at: Stamp,
        /// Why.
        reason: String,
    },
}

/// What there is of a log after a stamp.
#[derive(Debug, PartialEq, Eq)]
pub enum LogPage {
    /// All batches up to the last of these.
    Batches(Vec<(Stamp, Bytes)>),
    /// The log was trimmed past the stamp, up to this one.
    Trimmed(Stamp),
}

/// The batches of a log after `from`: as many as fit into `bytes_max`, but at least one.
///
/// # Errors
///
/// Those of the store.
pub async fn log_after(
    store: &Store,
    shard: ShardId,
    origin: Origin,
    from: Stamp,
    bytes_max: usize,
) -> Result<LogPage, StoreError> {
    store
        .read(RunOptions::default(), move |tx| async move {
            let (begin, end) = keys::log_after(shard, origin, from);
            let options = RangeOptions {
                bytes: bytes_max,
                snapshot: true,
                ..RangeOptions::default()
            };
            let (page, floor) = tokio::try_join!(
                tx.range(&begin, &end, options),
                trim_floor(&tx, shard, origin)
            )?;
            if let Some(floor) = floor.filter(|floor| *floor > from) {
                return Ok(LogPage::Trimmed(floor));
            }
            let mut batches = Vec::with_capacity(page.rows.len());
            for (key, value) in page.rows {
                batches.push((keys::stamp_of(&key).map_err(corrupt)?.stamp, value));
            }
            Ok(LogPage::Batches(batches))
        })
        .await
}

/// What batches that came say besides what they do.
#[derive(Debug, Default)]
pub struct Heard {
    /// Stamps that were too far ahead, or otherwise not to be followed.
    pub beyond_drift: u64,
    /// The requests behind the ops, each with the stamp of its batch.
    pub traces: Vec<(Stamp, Trace)>,
}

/// Lets the clock take in the stamps of batches that came, so that what is written here from now on
/// sorts after them.
pub fn observe(context: &Context, batches: &[(Stamp, Bytes)], now_unix_ms: i64) -> Heard {
    let (mut stamps, mut traces) = (Vec::new(), Vec::new());
    for (at, bytes) in batches {
        // One that cannot be read is told where it is applied.
        for op in Batch::decode(bytes).map_or_else(|_| Vec::new(), |batch| batch.ops) {
            stamps.push(op.position.hlc());
            traces.extend(op.trace.map(|trace| (*at, trace)));
        }
    }
    // The ops of one request stand side by side.
    traces.dedup();
    let mut clock = context.clock.lock().unwrap_or_else(PoisonError::into_inner);
    let is_beyond = |stamp: &Hlc| clock.observe(*stamp, now_unix_ms) != Observed::Merged;
    Heard {
        beyond_drift: stamps.into_iter().filter(is_beyond).count() as u64,
        traces,
    }
}

/// Applies the batches of `origin` that follow `from`, all or none; none without the lease that
/// `fence` asks for.
///
/// # Errors
///
/// Those of the store; [`StoreError::TooLarge`] for several batches only, of which fewer may fit.
pub async fn apply(
    store: &Store,
    context: &Context,
    fence: Option<Fence>,
    shard: ShardId,
    origin: Origin,
    from: Stamp,
    batches: Vec<(Stamp, Bytes)>,
) -> Result<Applied, StoreError> {
    let mut decoded = Vec::with_capacity(batches.len());
    for (stamp, bytes) in batches {
        let format = Batch::format_of(&bytes).unwrap_or_default();
        if format > context.level.reads() {
            let reason = format!("it is of format {format}, which this node does not read");
            return Ok(Applied::Stopped { at: stamp, reason });
        }
        match Batch::decode(&bytes) {
            Ok(batch) => {
                let shards = context.identity.shards;
                let is_astray = |op: &&Op| op.conversation.shard(shards) != shard;
                if let Some(op) = batch.ops.iter().find(is_astray) {
                    let reason = format!("{} belongs to another shard", op.conversation);
                    return Ok(Applied::Stopped { at: stamp, reason });
                }
                decoded.push((stamp, bytes, batch));
            }
            Err(error) => {
                return Ok(Applied::Stopped {
                    at: stamp,
                    reason: error.to_string(),
                });
            }
        }
    }
    let alone = match decoded.as_slice() {
        [(stamp, ..)] => Some(*stamp),
        _ => None,
    };
    let decoded = Arc::new(decoded);
    let context = context.clone();
    // What an op did before one of its batch turned out bad must not be committed.
    let committed = store
        .run_unless(RunOptions::default(), move |tx| {
            let (decoded, context) = (decoded.clone(), context.clone());
            let fence = fence.clone();
            async move {
                let cursor = keys::applied(shard, origin);
                let mut workspace =
                    Workspace::new(tx.clone(), context.identity.shards, context.edited_lately);
                let mut wanted = Wanted::default();
                for op in decoded.iter().flat_map(|(.., batch)| &batch.ops) {
                    wanted.add_op(workspace.scope(op.conversation), op);
                }
                let (at, holds, ()) = tokio::try_join!(
                    tx.get(&cursor, false),
                    Fence::holds(fence.as_ref(), &tx),
                    workspace.load(wanted)
                )?;
                let at = match at {
                    Some(bytes) => Stamp::try_from(&bytes[..]).map_err(corrupt)?,
                    None => Stamp::MIN,
                };
                if !holds || at != from {
                    return Ok(Ok(Applied::At(at)));
                }
                let mut to = from;
                for (arrival, (stamp, bytes, batch)) in (0..).zip(decoded.iter()) {
                    let arrival = OpStamp::new(Stamp::PENDING, arrival);
                    for (index, op) in (0..).zip(&batch.ops) {
                        let place = Place {
                            origin,
                            at: OpStamp::new(*stamp, index),
                        };
                        match workspace.apply(place, op, &batch.deps, Some(arrival)).await {
                            Ok(()) => {}
                            Err(ApplyError::Store(error)) => return Err(error),
                            Err(ApplyError::Op(reason)) => {
                                return Ok(Err(Applied::Stopped { at: *stamp, reason }));
                            }
                        }
                    }
                    workspace.log(shard, (origin, *stamp), bytes, arrival);
                    to = *stamp;
                }
                workspace.finish();
                workspace.tx().set(&cursor, to.as_bytes());
                Ok(Ok(Applied::At(to)))
            }
        })
        .await;
    match (committed, alone) {
        (Ok(Ok(applied) | Err(applied)), _) => Ok(applied),
        // A batch alone is no smaller at the next attempt.
        (Err(error @ StoreError::TooLarge(_)), Some(at)) => {
            let reason = error.to_string();
            Ok(Applied::Stopped { at, reason })
        }
        (Err(error), _) => Err(error),
    }
}
