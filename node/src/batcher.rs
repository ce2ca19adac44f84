//! One task per shard takes all commands that wait, and commits them as one batch.

pub mod commit;

use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;
use whimbrel_replication::cursor::Cursor;
use whimbrel_replication::id::ShardId;
use whimbrel_replication::limits::BATCH_BYTES_MAX;

use crate::clock::unix_ms;
use crate::command::{Command, Done, Refusal};
use crate::execute::Context;
use crate::gate::WriteGate;
use crate::metrics::Metrics;
use crate::store::{Store, StoreError, Transaction};
use crate::tailer::Tailers;
use crate::trace;

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
    /// This node takes no writes now, for a reason that its readiness tells as well.
    #[error("{0}")]
    Closed(&'static str),
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
            return Err(WriteError::Closed(why));
        }
        let shard = command.conversation.shard(shards);
        let request = command.trace.map(tracing::field::display);
        let (reply, answer) = oneshot::channel();
        self.shards[usize::from(shard.0)]
            .try_send(Job { command, reply })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => WriteError::Overloaded,
                mpsc::error::TrySendError::Closed(_) => WriteError::ShuttingDown,
            })?;
        let span = trace::committing(shard);
        let written = answer.await.map_err(|_| WriteError::ShuttingDown)?;
        drop(span);
        tracing::debug!(request, %shard, wrote = written.is_ok(), "committed");
        written
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
                        let _ = job.reply.send(Err(WriteError::Closed(why)));
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
                Err(
                    StoreError::RolledBack
                    | StoreError::TooLarge(_)
                    | StoreError::TooOld
                    | StoreError::FeatureLevel,
                ) if replies.len() > 1 => {
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
                        let requests = commands.iter().filter_map(|command| command.trace);
                        let requests: Vec<_> = requests.map(|trace| trace.to_string()).collect();
                        tracing::warn!(shard = %self.shard, ?requests, %error, "a batch was not committed");
                        if error == StoreError::NewLife {
                            self.gate.shut_for_good();
                        }
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
        let (shard, started) = (self.shard, std::time::Instant::now());
        let tailers = self.tailers.clone();
        let batch = commit::Batch {
            shard,
            number: self.number,
            commands,
        };
        let wall = || unix_ms();
        let go_along = move |tx: &Transaction| tailers.go_along(tx, shard);
        let landed = commit::commit(&self.store, &self.context, batch, wall, go_along).await?;
        if landed.wrote {
            self.tailers.wake(shard, landed.touched);
        }
        self.metrics
            .batch_committed(landed.written.len(), started.elapsed());
        Ok(landed.written)
    }
}
