//! One task per shard takes all commands that wait, and commits them as one batch.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;
use whimbrel_replication::cursor::{Cursor, ShardCursor};
use whimbrel_replication::id::{NodeId, OpStamp, ShardId, Stamp};
use whimbrel_replication::limits::{BATCH_BYTES_MAX, BATCH_OPS_MAX};
use whimbrel_replication::op::Batch;

use crate::apply::corrupt;
use crate::apply::rows::LastBatch;
use crate::clock::unix_ms;
use crate::command::{Command, Done, Refusal};
use crate::execute::{Context, Execution, Outcome};
use crate::gate::WriteGate;
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::store::keys;
use crate::store::{Atomic, RunOptions, Store, StoreError, Transaction};
use crate::tailer::Tailers;
use crate::touch::Touched;

/// Commands that may wait in front of one shard; more are shed.
const QUEUE_COMMANDS_MAX: usize = 1024;
/// Commands of one batch.
const BATCH_COMMANDS_MAX: usize = 128;
/// Estimated bytes of one batch, well below [`BATCH_BYTES_MAX`]: an estimate may be off.
const BATCH_BYTES_AIM: usize = BATCH_BYTES_MAX / 2;

const _: () = assert!(BATCH_COMMANDS_MAX * 258 < u16::MAX as usize);

/// What a write gave, and a cursor that covers it.
#[derive(Clone, Debug)]
pub struct Written {
    /// The answer.
    pub done: Done,
    /// Covers all that the answer shows or wrote.
    pub cursor: Cursor,
}

/// Why a write gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It is not allowed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Too many writes wait in front of this shard.
    #[error("too many writes are waiting")]
    Overloaded,
    /// The node stops.
    #[error("this node is shutting down")]
    ShuttingDown,
}

struct Job {
    command: Command,
    reply: oneshot::Sender<Result<Written, WriteError>>,
}

/// Hands commands to the shards' tasks.
#[derive(Clone, Debug)]
pub struct Batchers {
    shards: Arc<[mpsc::Sender<Job>]>,
    gate: Arc<WriteGate>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.command.fmt(f)
    }
}

impl Batchers {
    /// Starts one task per shard. They end, with all that waits committed, once all clones of the
    /// returned handle are dropped.
    pub fn start(
        store: &Store,
        context: &Context,
        tailers: &Tailers,
        metrics: &Arc<Metrics>,
        gate: Arc<WriteGate>,
        tasks: &TaskTracker,
    ) -> Self {
        let shards = (0..context.identity.shards).map(|shard| {
            let (sender, receiver) = mpsc::channel(QUEUE_COMMANDS_MAX);
            let batcher = Batcher {
                shard: ShardId(shard),
                store: store.clone(),
                context: context.clone(),
                tailers: tailers.clone(),
                metrics: metrics.clone(),
                gate: gate.clone(),
                number: 0,
            };
            tasks.spawn(batcher.run(receiver));
            sender
        });
        Self {
            shards: shards.collect(),
            gate,
        }
    }

    /// Commits one command with whatever else waits for its shard.
    pub async fn write(&self, shards: u16, command: Command) -> Result<Written, WriteError> {
        if let Some(why) = self.gate.refusal() {
            return Err(StoreError::Unavailable(why.into()).into());
        }
        let shard = command.conversation.shard(shards);
        let (reply, answer) = oneshot::channel();
        self.shards[usize::from(shard.0)]
            .try_send(Job { command, reply })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => WriteError::Overloaded,
                mpsc::error::TrySendError::Closed(_) => WriteError::ShuttingDown,
            })?;
        answer.await.map_err(|_| WriteError::ShuttingDown)?
    }
}

struct Batcher {
    shard: ShardId,
    store: Store,
    context: Context,
    tailers: Tailers,
    metrics: Arc<Metrics>,
    gate: Arc<WriteGate>,
    /// Of the last batch that was tried.
    number: u64,
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

impl Batcher {
    async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut carried = None;
        loop {
            let Some(first) = (match carried.take() {
                Some(job) => Some(job),
                None => jobs.recv().await,
            }) else {
                return;
            };
            let mut bytes = first.command.estimated_bytes();
            let mut batch = vec![first];
            while batch.len() < BATCH_COMMANDS_MAX
                && let Ok(job) = jobs.try_recv()
            {
                bytes += job.command.estimated_bytes();
                if bytes > BATCH_BYTES_AIM {
                    carried = Some(job);
                    break;
                }
                batch.push(job);
            }
            // What waited behind a batch that found the store away need not find the same.
            match self.gate.refusal() {
                Some(why) => {
                    for job in batch {
                        let _ = job
                            .reply
                            .send(Err(StoreError::Unavailable(why.into()).into()));
                    }
                }
                None => self.commit(batch).await,
            }
        }
    }

    /// Commits the jobs as one batch, or as several if they turn out too large for one.
    async fn commit(&mut self, jobs: Vec<Job>) {
        let mut waiting = vec![jobs];
        while let Some(jobs) = waiting.pop() {
            let (commands, replies): (Vec<Command>, Vec<_>) =
                jobs.into_iter().map(|job| (job.command, job.reply)).unzip();
            let commands: Arc<[Command]> = commands.into();
            let attempt = std::panic::AssertUnwindSafe(self.try_commit(commands.clone()));
            // A command that panics must not take its shard along.
            let attempt = attempt
                .catch_unwind()
                .await
                .unwrap_or(Err(StoreError::RolledBack));
            match attempt {
                Ok(written) => {
                    for (reply, written) in replies.into_iter().zip(written) {
                        // A caller that went away does not undo what was committed.
                        let _ = reply.send(written.map_err(WriteError::Refused));
                    }
                }
                // None of these was committed. One command that is too much is found by halving.
                Err(StoreError::RolledBack | StoreError::TooLarge(_) | StoreError::TooOld)
                    if replies.len() > 1 =>
                {
                    let mut jobs: Vec<Job> = commands
                        .iter()
                        .cloned()
                        .zip(replies)
                        .map(|(command, reply)| Job { command, reply })
                        .collect();
                    let second = jobs.split_off(jobs.len() / 2);
                    waiting.push(second);
                    waiting.push(jobs);
                }
                Err(error) => {
                    let error = if error == StoreError::RolledBack {
                        StoreError::TooLarge("the write does not fit into one batch")
                    } else {
                        tracing::warn!(shard = %self.shard, %error, "a batch was not committed");
                        error
                    };
                    for reply in replies {
                        let _ = reply.send(Err(WriteError::Store(error.clone())));
                    }
                }
            }
        }
    }

    async fn try_commit(
        &mut self,
        commands: Arc<[Command]>,
    ) -> Result<Vec<Result<Written, Refusal>>, StoreError> {
        self.number += 1;
        let (shard, number) = (self.shard, self.number);
        let attempts: Arc<Mutex<Vec<Option<Attempt>>>> = Arc::default();
        let counter = Arc::new(AtomicU32::new(0));
        let (context, kept) = (self.context.clone(), attempts.clone());
        let tailers = self.tailers.clone();
        let started = std::time::Instant::now();
        let committed = self
            .store
            .run(RunOptions::default(), move |tx| {
                let (context, commands) = (context.clone(), commands.clone());
                let tailers = tailers.clone();
                let (kept, attempt) = (kept.clone(), counter.fetch_add(1, Ordering::Relaxed));
                async move {
                    let identity = context.identity.clone();
                    let (landed, execution) = tokio::try_join!(
                        landed_before(&tx, shard, identity.node, number),
                        Execution::begin(context, tx.clone(), shard, unix_ms(), &commands)
                    )?;
                    if let Some(landed) = landed {
                        return Ok(landed);
                    }
                    let batch = (shard, number, attempt);
                    let mut outcome = execute(execution, &identity, &tx, batch, &commands).await?;
                    if !tx.is_read_only() {
                        outcome.touched = tailers.go_along(&tx, shard);
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
        if stamp.is_some() {
            self.tailers.wake(shard, touched);
        }
        self.metrics
            .batch_committed(outcomes.len(), started.elapsed());
        let own = self.context.identity.origin;
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
        Ok(outcomes.into_iter().map(written).collect())
    }
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
    let batch = Batch {
        origin: identity.origin,
        node: identity.node,
        number,
        deps,
        ops,
    };
    let bytes = batch.encode();
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
