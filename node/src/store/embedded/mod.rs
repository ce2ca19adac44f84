//! The embedded engine: `fjall` on local disk, for a region of one process.
//!
//! A single committer thread owns all writes. It groups what waits into one journal batch with one
//! `fdatasync`, and only then shows the group to readers, in one step together with its version. So
//! a reader's view and its read version always match, and nothing is seen that a crash can take
//! back.
//!
//! Any failed write stops the engine for good: after a failed `fsync` nobody knows what is on disk.
//!
//! What is left aside of fjall, each for an open or recent report of corruption: `clear()`,
//! ingestion, FIFO compaction and the separation of keys and values.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use fjall::config::PartitioningPolicy;
use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::task::TaskTracker;

use super::limits::{QUEUE_COUNT_MAX, QUEUE_KIB_MAX, TRANSACTION_AGE_MAX};
use super::{Metrics, StoreError};
use committer::{Committer, Submission};
use disk::{Disk, DiskError, View};

mod committer;
mod conflicts;
mod disk;
mod pending;
mod transaction;
mod watches;

pub use disk::simulated::{Moment, SimulatedDisk};
pub(super) use transaction::Transaction;

/// Version of the last commit, 8 bytes big-endian. Above all keys of callers.
const VERSION_KEY: &[u8] = b"\xff/version";

/// Memory and time of an embedded store.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Cache of data blocks. Smaller: more reads from disk. Default: 16 MiB.
    pub cache_bytes: u64,
    /// Memory of new writes before they go to a table. Smaller: more tables to merge. Taken when
    /// the store is made, later values are ignored. Default: 16 MiB.
    pub memtable_bytes: u64,
    /// Age at which a transaction is too old. Longer: more memory for the index of recent writes.
    /// Default: [`TRANSACTION_AGE_MAX`], as in `FoundationDB`; callers must not rely on more.
    pub window: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 16 << 20,
            memtable_bytes: 16 << 20,
            window: TRANSACTION_AGE_MAX,
        }
    }
}

/// Handle on an embedded store. The last one closes it: its drop waits for the committer to finish
/// what it was given.
#[derive(Clone, Debug)]
pub struct Embedded(Arc<Handle>);

/// What transactions and callers hold; the committer thread does not.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    /// Taken when dropped.
    running: Option<(mpsc::Sender<Submission>, Runs)>,
    tasks: TaskTracker,
}

/// Where the committer runs.
#[derive(Debug)]
enum Runs {
    /// Its writes block.
    Thread(JoinHandle<()>),
    /// Of the runtime of whoever opened it.
    Task,
}

/// What the committer shares with the handles.
struct Shared {
    published: RwLock<Published>,
    disk: Disk,
    window: Duration,
    /// KiB of waiting transactions.
    room: Arc<Semaphore>,
    failure: watch::Sender<Option<Arc<str>>>,
    metrics: Metrics,
    disk_bytes: AtomicU64,
}

/// A view and the version of the last commit in it: changed together.
struct Published {
    view: View,
    version: u64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    /// From what is on the disk.
    fn over(disk: Disk, options: Options) -> Result<(Arc<Self>, Committer), DiskError> {
        let view = disk.view();
        let version = view.version()?;
        let published = Published {
            view: view.clone(),
            version,
        };
        let shared = Arc::new(Self {
            published: RwLock::new(published),
            disk_bytes: AtomicU64::new(disk.bytes()?),
            disk,
            window: options.window,
            room: Arc::new(Semaphore::new(QUEUE_KIB_MAX)),
            failure: watch::Sender::new(None),
            metrics: Metrics::default(),
        });
        let committer = Committer::new(shared.clone(), view, version);
        Ok((shared, committer))
    }

    fn publish(&self, published: Published) {
        // Poisoned or not: it is replaced as a whole.
        *self
            .published
            .write()
            .unwrap_or_else(PoisonError::into_inner) = published;
    }

    /// Stops the engine.
    fn fail(&self, error: &dyn std::fmt::Display) {
        let reason: Arc<str> = error.to_string().into();
        let first = self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            failure.get_or_insert_with(|| reason.clone());
            first
        });
        if first {
            tracing::error!(%reason, "the store has stopped");
        }
    }

    /// A read that fails means damaged files or a broken disk: no reason to go on writing.
    fn read_failed(&self, error: &DiskError) -> StoreError {
        self.fail(error);
        self.stopped()
    }

    fn alive(&self) -> Result<(), StoreError> {
        if self.failure.borrow().is_some() {
            return Err(self.stopped());
        }
        Ok(())
    }

    fn stopped(&self) -> StoreError {
        let reason = self.failure.borrow().clone();
        StoreError::Fatal(reason.unwrap_or_else(|| "the committer has ended".into()))
    }
}

fn unavailable(dir: &Path, what: &str, error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(format!("{what} {}: {error}", dir.display()).into())
}

impl Embedded {
    /// Opens the store in `dir`, which is made if it is missing. Blocks while the journal is
    /// recovered.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if another process has it open, or it cannot be read.
    pub fn open(dir: &Path, options: Options) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir).map_err(|e| unavailable(dir, "cannot make", e))?;
        let lock = lock(dir)?;
        let fail = |error| unavailable(dir, "cannot open the store in", error);
        let data = dir.join("data");
        let database = Database::builder(&data)
            .cache_size(options.cache_bytes)
            // One for flushes, one for compactions.
            .worker_threads(2)
            .max_cached_files(Some(256))
            .max_journaling_size(128 << 20)
            .open()
            .map_err(fail)?;
        let keyspace = database
            .keyspace("store", || {
                // The filter and the index of a large table are larger than what the cache takes
                // as one block: whole, they would be read from disk for every key.
                KeyspaceCreateOptions::default()
                    .max_memtable_size(options.memtable_bytes)
                    .filter_block_partitioning_policy(PartitioningPolicy::new([false, true]))
                    .index_block_partitioning_policy(PartitioningPolicy::new([false, false, true]))
            })
            .map_err(fail)?;
        // What was recovered may have been in the page cache only. Once served it must stay.
        database.persist(PersistMode::SyncAll).map_err(fail)?;
        for made in [data.as_path(), dir] {
            let synced = File::open(made).and_then(|dir| dir.sync_all());
            synced.map_err(|e| unavailable(made, "cannot sync", e))?;
        }
        let disk = Disk::files(database, keyspace, lock);
        let fail = |error: DiskError| unavailable(dir, "cannot open the store in", error);
        let (shared, committer) = Shared::over(disk, options).map_err(fail)?;
        let (queue, submissions) = mpsc::channel(QUEUE_COUNT_MAX);
        let thread = spawn_committer(committer, submissions)
            .map_err(|e| unavailable(dir, "cannot start the committer of", e))?;
        Ok(Self::of(shared, queue, Runs::Thread(thread)))
    }

    /// Opens the store on a simulated disk, in a Tokio runtime, which runs all of it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] while the disk has no power.
    pub fn simulated(disk: &SimulatedDisk, options: Options) -> Result<Self, StoreError> {
        let (shared, committer) = Shared::over(Disk::Simulated(disk.open()), options)
            .map_err(|error| StoreError::Unavailable(error.to_string().into()))?;
        let (queue, submissions) = mpsc::channel(QUEUE_COUNT_MAX);
        tokio::spawn(committer.run(submissions));
        Ok(Self::of(shared, queue, Runs::Task))
    }

    fn of(shared: Arc<Shared>, queue: mpsc::Sender<Submission>, runs: Runs) -> Self {
        let tasks = TaskTracker::new();
        // So that its `wait` ends as soon as it is empty; it takes tasks all the same.
        tasks.close();
        Self(Arc::new(Handle {
            shared,
            running: Some((queue, runs)),
            tasks,
        }))
    }

    pub(super) fn begin(&self) -> Result<Transaction, StoreError> {
        let shared = &self.0.shared;
        shared.alive()?;
        let (view, version) = {
            let published = shared
                .published
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            (published.view.clone(), published.version)
        };
        Ok(Transaction::new(self.0.clone(), view, version))
    }

    pub(super) async fn failed(&self) -> StoreError {
        let mut failure = self.0.shared.failure.subscribe();
        // The sender lives as long as this handle.
        let _ = failure.wait_for(Option::is_some).await;
        self.0.shared.stopped()
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.0.shared.metrics
    }

    pub(super) fn disk_bytes(&self) -> u64 {
        self.0.shared.disk_bytes.load(Ordering::Relaxed)
    }

    /// Writes all tables anew without what was deleted, and removes the tables and the journals of
    /// before; whether that was done.
    pub(super) async fn compact(&self) -> bool {
        self.has_room_to_merge().await
            && self.on_disk(Disk::fill_journal).await
            // What an open view can see is merged with the rest, the filler too.
            && self.renew_views().await
            && self.on_disk(Disk::flush).await
            && self.on_disk(Disk::merge).await
            // And the tables that it looks into stay.
            && self.renew_views().await
            && self.on_disk(Disk::flush).await
    }

    /// Amid a merge a full disk would stop the store.
    async fn has_room_to_merge(&self) -> bool {
        let shared = self.0.shared.clone();
        let lacking = tokio::task::spawn_blocking(move || shared.disk.lacks_for_compaction());
        match lacking.await {
            Ok(Ok(0)) => true,
            Ok(Ok(lacking)) => {
                tracing::warn!(
                    lacking,
                    "no room to write all tables anew: what was deleted stays in the files until \
                     this disk has so many bytes more"
                );
                false
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "it is not known whether there is room for new tables");
                false
            }
            Err(_) => false,
        }
    }

    /// Whether `work` was done; where it fails the store stops.
    async fn on_disk(&self, work: fn(&Disk) -> Result<(), DiskError>) -> bool {
        let shared = self.0.shared.clone();
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&shared.disk);
            if let Err(error) = &done {
                shared.fail(error);
            }
            done.is_ok()
        });
        // A panic of it is told by its thread; nothing that was committed hangs on it.
        done.await.unwrap_or(false)
    }

    /// Lets all that comes read from a view of now, and waits until the earlier ones are closed;
    /// whether they are.
    async fn renew_views(&self) -> bool {
        let earlier = self.0.shared.disk.retire_views();
        // Idle or not: each commit shows a new view.
        let renewed = async {
            let tx = self.begin()?;
            tx.add_write_conflict_range(b"", b"");
            tx.commit().await
        };
        if renewed.await.is_err() {
            return false;
        }
        // In a transaction that is older than the window nothing can be read.
        let patience = 2 * self.0.shared.window;
        let closed = tokio::time::timeout(patience, earlier.wait()).await;
        if closed.is_err() {
            tracing::warn!("an old transaction is held open: what was deleted stays in the files");
        }
        closed.is_ok()
    }

    pub(super) fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }
}

impl Handle {
    fn queue(&self) -> Result<&mpsc::Sender<Submission>, StoreError> {
        match &self.running {
            Some((queue, _)) => Ok(queue),
            None => Err(self.shared.stopped()),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some((queue, runs)) = self.running.take() {
            drop(queue);
            if let Runs::Thread(thread) = runs {
                // So that the directory can be opened again as soon as the store is gone. A panic
                // was reported as a failure already.
                let _ = thread.join();
            }
        }
    }
}

/// One process per store. The file stays when it is unlocked: removing it would race.
fn lock(dir: &Path) -> Result<File, StoreError> {
    let open = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join("lock"));
    let file = open.map_err(|e| unavailable(dir, "cannot lock", e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::Unavailable(
            format!("{} is in use by another process", dir.display()).into(),
        )),
        Err(std::fs::TryLockError::Error(e)) => Err(unavailable(dir, "cannot lock", e)),
    }
}

fn spawn_committer(
    committer: Committer,
    submissions: mpsc::Receiver<Submission>,
) -> std::io::Result<JoinHandle<()>> {
    /// Tells of a panic, which must not leave callers with a store that looks alive.
    struct Alarm(Arc<Shared>);
    impl Drop for Alarm {
        fn drop(&mut self) {
            if std::thread::panicking() {
                self.0.fail(&"the committer panicked");
            }
        }
    }

    // A runtime of its own: here `fdatasync` may block.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let alarm = Alarm(committer.shared());
    std::thread::Builder::new()
        .name("store-committer".into())
        .spawn(move || {
            let _alarm = alarm;
            runtime.block_on(committer.run(submissions));
        })
}
