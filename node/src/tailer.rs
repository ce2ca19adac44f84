//! One task per shard reads what arrived, in order of arrival, and is the only one that feeds
//! sessions. Publishing from the committing task instead could show a later batch, with a token that
//! covers it, before an earlier one.

mod sessions;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use prost::Message as _;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use whimbrel_replication::cursor::{Cursor, ShardCursor};
use whimbrel_replication::id::{ConversationId, OpStamp, Origin, Place, ShardId, Stamp};
use whimbrel_replication::op::{Batch, OpKind};

use crate::apply::rows::{ArrivalRow, Happening, SnapshotRow, SnapshotStage};
use crate::apply::{corrupt, held};
use crate::digest::Digests;
use crate::event::{self, Event};
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::snapshot;
use crate::store::keys;
use crate::store::{RangeOptions, RunOptions, Store, StoreError, Transaction, Watch};
use crate::touch::{Touch, Touched};
use sessions::{Sessions, Subscriber};

/// Batches that are read at once.
const PAGE_BATCHES: usize = 64;
/// A wake-up may be lost; nothing waits longer than this.
pub const POLL: Duration = Duration::from_secs(1);
/// Requests of sessions that may wait.
const REQUESTS_MAX: usize = 256;

/// One session in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(u64);

impl SessionId {
    /// One that no other session has.
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A log that has grown by one batch.
#[derive(Clone, Debug)]
pub struct Appended {
    /// The shard.
    pub shard: ShardId,
    /// Whose log.
    pub origin: Origin,
    /// Where it ended before.
    pub after: Stamp,
    /// Where it ends now.
    pub stamp: Stamp,
    /// The batch, unless it was trimmed already.
    pub bytes: Option<Bytes>,
}

/// Where a tailer stands.
#[derive(Clone, Debug, Default)]
pub struct Standpoint {
    /// Everything up to here was handed to sessions.
    pub held: ShardCursor,
    /// The last arrival.
    pub arrival: Option<OpStamp>,
}

enum Request {
    /// Hands the session the events of these conversations from now on, and all member events of
    /// its user: who joins a conversation follows it.
    Join {
        session: SessionId,
        user: String,
        conversations: Vec<ConversationId>,
        events: mpsc::Sender<Arc<Event>>,
        too_slow: CancellationToken,
        reply: oneshot::Sender<Standpoint>,
    },
    /// Hands an event that is not stored to who follows its conversation.
    Pass(Arc<Event>),
    Leave(SessionId),
}

struct Handle {
    wake: Notify,
    /// Tells the region's other nodes; `None` where there are none.
    touch: Option<Touch>,
    held: watch::Receiver<ShardCursor>,
    snapshot: watch::Receiver<SnapshotRow>,
    requests: mpsc::Sender<Request>,
}

/// The tailers of all shards.
#[derive(Clone)]
pub struct Tailers {
    shards: Arc<[Handle]>,
}

impl std::fmt::Debug for Tailers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tailers")
            .field("shards", &self.shards.len())
            .finish_non_exhaustive()
    }
}

/// What a tailer tells, and whom.
#[derive(Clone)]
pub struct TailerContext {
    /// The store.
    pub store: Store,
    /// Who this node is.
    pub identity: Arc<Identity>,
    /// Learns which conversations changed.
    pub digests: Arc<Digests>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Learns which logs have grown.
    pub appended: mpsc::Sender<Appended>,
    /// Ends the tailers.
    pub shutdown: CancellationToken,
}

impl Tailers {
    /// Starts one task per shard, each from what its shard holds now.
    pub async fn start(context: &TailerContext, tasks: &TaskTracker) -> Result<Self, StoreError> {
        let mut handles = Vec::new();
        let mut starts = Vec::new();
        for shard in (0..context.identity.shards).map(ShardId) {
            let own = context.identity.origin;
            let (at, row) = context
                .store
                .read(RunOptions::default(), move |tx| async move {
                    tokio::try_join!(standpoint(&tx, shard, own), snapshot::row(&tx, shard, true))
                })
                .await?;
            let (requests, received) = mpsc::channel(REQUESTS_MAX);
            let (publish, held) = watch::channel(at.held.clone());
            let (publish_snapshot, snapshot) = watch::channel(row);
            handles.push(Handle {
                wake: Notify::new(),
                touch: context.store.is_shared().then(|| Touch::new(shard)),
                held,
                snapshot,
                requests,
            });
            starts.push((shard, at, (publish, publish_snapshot), received));
        }
        let tailers = Self {
            shards: handles.into(),
        };
        for (shard, at, (publish, publish_snapshot), received) in starts {
            let tailer = Tailer {
                shard,
                at,
                publish,
                publish_snapshot,
                context: context.clone(),
                tailers: tailers.clone(),
                sessions: Sessions::default(),
                watch: None,
            };
            tasks.spawn(tailer.run(received));
            if context.store.is_shared() {
                let (tailers, store) = (tailers.clone(), context.store.clone());
                let shutdown = context.shutdown.clone();
                tasks.spawn(async move {
                    if let Some(touch) = &tailers.handle(shard).touch {
                        touch.follow(&store, shutdown).await;
                    }
                });
            }
        }
        Ok(tailers)
    }

    fn handle(&self, shard: ShardId) -> &Handle {
        &self.shards[usize::from(shard.0)]
    }

    /// Lets a transaction that commits to the shard wake the region's other nodes, if it is time.
    pub fn go_along(&self, tx: &Transaction, shard: ShardId) -> Option<Touched> {
        let touch = self.handle(shard).touch.as_ref()?;
        touch.go_along(tx)
    }

    /// Something was committed to the shard; what [`Tailers::go_along`] gave for it.
    pub fn wake(&self, shard: ShardId, touched: Option<Touched>) {
        let handle = self.handle(shard);
        handle.wake.notify_one();
        if let Some(touch) = &handle.touch {
            touch.committed(touched);
        }
    }

    /// How far this region holds a shard.
    pub fn held(&self, shard: ShardId) -> ShardCursor {
        self.handle(shard).held.borrow().clone()
    }

    /// How far the snapshot of a shard is.
    pub fn snapshot(&self, shard: ShardId) -> SnapshotRow {
        self.handle(shard).snapshot.borrow().clone()
    }

    /// Whether no snapshot is under way: what they brought so far must not be seen.
    pub fn is_showing(&self) -> bool {
        let mut shards = self.shards.iter();
        shards.all(|handle| handle.snapshot.borrow().stage() == SnapshotStage::Done)
    }

    /// Waits until this node knows of a change to the snapshot of a shard, and all its sessions in it
    /// have ended.
    pub async fn snapshot_seen(&self, shard: ShardId, version: u64) {
        let mut snapshot = self.handle(shard).snapshot.clone();
        // Its sender ends with the node.
        let _ = snapshot.wait_for(|row| row.version >= version).await;
    }

    /// How far this region holds all shards.
    pub fn held_all(&self) -> Cursor {
        let shards = (0u16..).zip(self.shards.iter());
        shards
            .map(|(shard, handle)| (ShardId(shard), handle.held.borrow().clone()))
            .collect()
    }

    /// Waits until this region holds all that `cursor` asks of the shards that it names, or gives
    /// back what is missing. A cursor of another cluster may name shards that are not here.
    pub async fn wait_for(&self, cursor: &Cursor, timeout: Duration) -> Result<(), Vec<Origin>> {
        let deadline = tokio::time::Instant::now() + timeout;
        let mut missing = BTreeSet::new();
        for (shard, wanted) in cursor.iter() {
            let Some(handle) = self.shards.get(usize::from(shard.0)) else {
                missing.extend(wanted.iter().map(|(origin, _)| origin));
                continue;
            };
            let mut held = handle.held.clone();
            let covered = held.wait_for(|held| held.covers_all(wanted));
            let in_time = tokio::time::timeout_at(deadline, covered).await;
            if !matches!(in_time, Ok(Ok(_))) {
                missing.extend(self.held(shard).lacks(wanted));
            }
        }
        if missing.is_empty() {
            Ok(())
        } else {
            Err(missing.into_iter().collect())
        }
    }

    /// See [`Request::Join`]; answers where each tailer stood then.
    pub(crate) async fn join(
        &self,
        session: SessionId,
        user: &str,
        conversations: &[ConversationId],
        events: &mpsc::Sender<Arc<Event>>,
        too_slow: &CancellationToken,
    ) -> Option<Vec<Standpoint>> {
        let shards = u16::try_from(self.shards.len()).expect("at most SHARDS_MAX");
        let mut answers = Vec::with_capacity(self.shards.len());
        for (shard, handle) in (0..).map(ShardId).zip(self.shards.iter()) {
            let (reply, answer) = oneshot::channel();
            let of_shard = conversations.iter().filter(|c| c.shard(shards) == shard);
            let request = Request::Join {
                session,
                user: user.to_owned(),
                conversations: of_shard.copied().collect(),
                events: events.clone(),
                too_slow: too_slow.clone(),
                reply,
            };
            handle.requests.send(request).await.ok()?;
            answers.push(answer);
        }
        let mut standpoints = Vec::with_capacity(answers.len());
        for answer in answers {
            standpoints.push(answer.await.ok()?);
        }
        Some(standpoints)
    }

    /// Ends what [`Tailers::join`] began.
    pub(crate) fn leave(&self, session: SessionId) {
        for handle in self.shards.iter() {
            // A tailer that misses this drops the session at its next event: the queue is closed.
            let _ = handle.requests.try_send(Request::Leave(session));
        }
    }

    /// Passes on what is not stored.
    pub fn pass(&self, shard: ShardId, event: Event) {
        // Shed under load: nobody misses it.
        let request = Request::Pass(Arc::new(event));
        let _ = self.shards[usize::from(shard.0)].requests.try_send(request);
    }
}

struct Tailer {
    shard: ShardId,
    at: Standpoint,
    publish: watch::Sender<ShardCursor>,
    publish_snapshot: watch::Sender<SnapshotRow>,
    context: TailerContext,
    tailers: Tailers,
    sessions: Sessions,
    /// Fires when another node has committed; set in the transaction that found nothing more.
    watch: Option<Watch>,
}

/// What a shard holds, and the last arrival in it.
async fn standpoint(
    tx: &Transaction,
    shard: ShardId,
    own: Origin,
) -> Result<Standpoint, StoreError> {
    let (begin, end) = keys::arrivals_after(shard, None);
    let last = RangeOptions {
        limit: 1,
        reverse: true,
        snapshot: true,
        ..RangeOptions::default()
    };
    let (page, held) = tokio::try_join!(tx.range(&begin, &end, last), held(tx, shard, own))?;
    let arrival = page.rows.first().map(|(key, _)| keys::stamp_of(key));
    Ok(Standpoint {
        held,
        arrival: arrival.transpose().map_err(corrupt)?,
    })
}

/// Waits for a watch; for ever if there is none, or it will never fire.
async fn fired(watch: &mut Option<Watch>) {
    let is_ok = match watch {
        Some(watch) => watch.await.is_ok(),
        None => false,
    };
    *watch = None;
    if !is_ok {
        std::future::pending::<()>().await;
    }
}

impl Tailer {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let tailers = self.tailers.clone();
        let wake = &tailers.shards[usize::from(self.shard.0)].wake;
        let shutdown = self.context.shutdown.clone();
        // Arms the watch, where there is one.
        self.catch_up().await;
        // Of its own: requests of sessions must not put it off.
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        poll.reset();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                request = requests.recv() => match request {
                    Some(request) => self.answer(request),
                    None => return,
                },
                () = wake.notified() => {
                    self.catch_up().await;
                    poll.reset();
                }
                () = fired(&mut self.watch) => {
                    self.catch_up().await;
                    poll.reset();
                }
                _ = poll.tick() => {
                    self.context.metrics.tail_polls.inc();
                    self.catch_up().await;
                }
            }
        }
    }

    fn answer(&mut self, request: Request) {
        // A session that went away meanwhile does not read its answer.
        match request {
            Request::Join {
                session,
                user,
                conversations,
                events,
                too_slow,
                reply,
            } => {
                self.sessions.join(
                    session,
                    Subscriber {
                        user,
                        events,
                        too_slow,
                    },
                );
                for conversation in conversations {
                    self.sessions.follow(session, conversation);
                }
                let _ = reply.send(self.at.clone());
            }
            Request::Pass(event) => self.sessions.hand_out(&event),
            Request::Leave(session) => self.sessions.leave(session),
        }
    }

    /// Reads all that has arrived.
    async fn catch_up(&mut self) {
        loop {
            match self.page().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) if error.is_outage() => return,
                Err(error) => {
                    tracing::warn!(shard = %self.shard, %error, "the log's tail cannot be read");
                    return;
                }
            }
        }
    }

    /// Reads one page of arrivals; is there more?
    async fn page(&mut self) -> Result<bool, StoreError> {
        let (shard, after) = (self.shard, self.at.arrival);
        let own = self.context.identity.origin;
        let watches = self.context.store.is_shared();
        let (row, arrived, more, watch) = self
            .context
            .store
            .read(RunOptions::default(), move |tx| async move {
                let (begin, end) = keys::arrivals_after(shard, after);
                let options = RangeOptions {
                    limit: PAGE_BATCHES,
                    snapshot: true,
                    ..RangeOptions::default()
                };
                let (page, row) = tokio::try_join!(
                    tx.range(&begin, &end, options),
                    snapshot::row(&tx, shard, true)
                )?;
                let arrived = page.rows.into_iter().map(async |(key, value)| {
                    let arrival = keys::stamp_of(&key).map_err(corrupt)?;
                    let row = ArrivalRow::decode(&value[..]).map_err(|e| corrupt(e.into()))?;
                    let origin = Origin::try_from(row.origin.as_slice()).map_err(corrupt)?;
                    let stamp = match &row.stamp {
                        Some(stamp) => Stamp::try_from(stamp.as_slice()).map_err(corrupt)?,
                        None => arrival.stamp,
                    };
                    debug_assert!(row.stamp.is_some() || origin == own);
                    let batch = tx.get(&keys::log(shard, origin, stamp).bytes, true).await?;
                    Ok::<_, StoreError>((arrival, origin, stamp, batch, row.skipped))
                });
                let arrived = try_join_all(arrived).await?;
                // Set at the tail that was read: what comes after it fires.
                let watch = (watches && !page.more).then(|| tx.watch(&keys::wake(shard)));
                Ok((row, arrived, page.more, watch))
            })
            .await?;
        self.watch = watch;
        if row.version != self.publish_snapshot.borrow().version {
            self.snapshot_changed(row).await?;
            return Ok(true);
        }
        self.publish_snapshot.send_replace(row);
        for (arrival, origin, stamp, bytes, skipped) in arrived {
            // A batch that was trimmed meanwhile has nothing to tell, nor has one that was passed.
            if let Some(bytes) = bytes.as_ref().filter(|_| !skipped) {
                let batch = Batch::decode(bytes).map_err(corrupt)?;
                self.tell(origin, stamp, &batch).await?;
            }
            let after = self.at.held.stamp(&origin);
            self.at.arrival = Some(arrival);
            self.at.held.advance(origin, OpStamp::whole(stamp));
            self.publish.send_replace(self.at.held.clone());
            // Closed only when the node stops.
            let _ = self
                .context
                .appended
                .send(Appended {
                    shard,
                    origin,
                    after,
                    stamp,
                    bytes,
                })
                .await;
        }
        Ok(more)
    }

    /// What is held may have leapt, with no arrival that tells of it; and no session knows what it has
    /// missed.
    async fn snapshot_changed(&mut self, row: SnapshotRow) -> Result<(), StoreError> {
        let (shard, own) = (self.shard, self.context.identity.origin);
        let read = move |tx: Arc<Transaction>| async move { standpoint(&tx, shard, own).await };
        let at = self.context.store.read(RunOptions::default(), read).await?;
        self.sessions.close_all();
        self.context.digests.forget_all();
        let before = std::mem::replace(&mut self.at, at);
        self.publish.send_replace(self.at.held.clone());
        self.publish_snapshot.send_replace(row);
        for (origin, at) in self.at.held.iter() {
            let after = before.held.stamp(&origin);
            if at.stamp > after {
                let leapt = Appended {
                    shard,
                    origin,
                    after,
                    stamp: at.stamp,
                    bytes: None,
                };
                // Closed only when the node stops.
                let _ = self.context.appended.send(leapt).await;
            }
        }
        Ok(())
    }

    async fn tell(
        &mut self,
        origin: Origin,
        stamp: Stamp,
        batch: &Batch,
    ) -> Result<(), StoreError> {
        for (index, op) in (0..).zip(&batch.ops) {
            self.context.digests.touch(&op.conversation);
            let happening = happening(&op.kind);
            if !self.sessions.care(&op.conversation, &happening) {
                continue;
            }
            let place = Place {
                origin,
                at: OpStamp::new(stamp, index),
            };
            let scope = self.context.identity.scope(op.conversation);
            let event = event::read(&self.context.store, scope, place, happening).await?;
            self.sessions.hand_out(&Arc::new(event));
            self.context.metrics.events_handed_out.inc();
        }
        Ok(())
    }
}

fn happening(kind: &OpKind) -> Happening {
    match kind {
        OpKind::ConversationCreated { .. } | OpKind::ConversationChanged { .. } => {
            Happening::Conversation
        }
        // Whether they got in or out matters to a resume only.
        OpKind::MemberSet { user, .. } => Happening::Member {
            user: user.clone(),
            crossed: None,
        },
        OpKind::Posted { message, .. } => Happening::Posted(*message),
        OpKind::Edited { message, .. } => Happening::Edited(*message),
        OpKind::Redacted { message } => Happening::Redacted(*message),
        OpKind::Reacted { message, .. } => Happening::Reacted(*message),
        OpKind::Read { user, .. } => Happening::Receipt { user: user.clone() },
    }
}
