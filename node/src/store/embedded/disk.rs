//! Where the rows are: in files of `fjall`, or on a simulated disk.

pub(super) mod simulated;

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use fjall::{Database, Keyspace, PersistMode, Readable as _, Snapshot};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::VERSION_KEY;
use crate::store::{Key, Value};

/// What went wrong below the engine: it stops for good.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiskError {
    #[error(transparent)]
    Files(#[from] fjall::Error),
    #[error(transparent)]
    Simulated(#[from] simulated::Crashed),
    #[error("the disk cannot be asked: {0}")]
    Disk(#[from] std::io::Error),
    #[error("its folder was removed: what is written now would be gone with the process")]
    Removed,
    #[error("the version of the last commit is damaged")]
    BadVersion,
}

/// Above all keys of callers.
const FILLER_KEY: &[u8] = b"\xff/filler";
const FILLER_BYTES: usize = 1 << 20;
/// A journal that is longer is ended at the next flush: fjall's 64 MB, and a little.
const JOURNAL_BYTES: usize = 66 << 20;

type Result<T> = std::result::Result<T, DiskError>;

/// All rows, the committed and the synced.
pub(super) enum Disk {
    Files {
        keyspace: Keyspace,
        database: Database,
        /// The views that are open, but for those of before the last [`Disk::retire_views`].
        views: Mutex<TaskTracker>,
        /// Last, so that it is released after the database is closed.
        lock: File,
    },
    Simulated(simulated::Power),
}

/// The rows as they were at one moment.
#[derive(Clone)]
pub(super) enum View {
    Files {
        snapshot: Snapshot,
        keyspace: Keyspace,
        /// What [`Disk::retire_views`] waits for.
        _open: TaskTrackerToken,
    },
    Simulated(simulated::View),
}

/// Rows in order of keys, from both ends.
type Rows<'a> = Box<dyn DoubleEndedIterator<Item = Result<(Key, Value)>> + 'a>;

impl Disk {
    pub(super) fn files(database: Database, keyspace: Keyspace, lock: File) -> Self {
        Self::Files {
            keyspace,
            database,
            views: Mutex::default(),
            lock,
        }
    }

    pub(super) fn view(&self) -> View {
        match self {
            Self::Files {
                keyspace,
                database,
                views,
                ..
            } => {
                // Before the snapshot: one that counts as later must not be earlier.
                let open = views.lock().unwrap_or_else(PoisonError::into_inner).token();
                View::Files {
                    snapshot: database.snapshot(),
                    keyspace: keyspace.clone(),
                    _open: open,
                }
            }
            Self::Simulated(power) => View::Simulated(power.view()),
        }
    }

    /// Of the views of before: its `wait` ends once they are all closed.
    pub(super) fn retire_views(&self) -> TaskTracker {
        let earlier = match self {
            Self::Files { views, .. } => {
                std::mem::take(&mut *views.lock().unwrap_or_else(PoisonError::into_inner))
            }
            Self::Simulated(_) => TaskTracker::new(),
        };
        earlier.close();
        earlier
    }

    /// Writes a group of commits as one, and returns when it will survive a crash.
    pub(super) fn write(&self, version: u64, keys: &BTreeMap<Bytes, Option<Value>>) -> Result<()> {
        match self {
            Self::Files {
                keyspace, database, ..
            } => {
                let mut batch = database.batch().durability(Some(PersistMode::SyncData));
                // The version goes with the writes: whatever a crash leaves, no stamp is given
                // twice.
                batch.insert(keyspace, VERSION_KEY, version.to_be_bytes());
                for (key, value) in keys {
                    match value {
                        Some(value) => batch.insert(keyspace, &key[..], &value[..]),
                        None => batch.remove(keyspace, &key[..]),
                    }
                }
                Ok(batch.commit()?)
            }
            Self::Simulated(power) => {
                let version = (
                    Bytes::from_static(VERSION_KEY),
                    Some(Bytes::copy_from_slice(&version.to_be_bytes())),
                );
                let keys = keys.iter().map(|(key, value)| (key.clone(), value.clone()));
                Ok(power.write(keys.chain([version]))?)
            }
        }
    }

    pub(super) fn bytes(&self) -> Result<u64> {
        match self {
            Self::Files { database, .. } => Ok(database.disk_space()?),
            Self::Simulated(_) => Ok(0),
        }
    }

    /// How many bytes more must be free to write all tables anew.
    pub(super) fn lacks_for_compaction(&self) -> Result<u64> {
        match self {
            Self::Files { database, lock, .. } => {
                let disk = rustix::fs::fstatvfs(lock).map_err(std::io::Error::from)?;
                let free = disk.f_bavail.saturating_mul(disk.f_frsize);
                let needed = database
                    .disk_space()?
                    .saturating_add(2 * JOURNAL_BYTES as u64);
                Ok(needed.saturating_sub(free))
            }
            Self::Simulated(_) => Ok(0),
        }
    }

    /// Makes the journal so long that the next [`Self::flush`] ends it: only then it goes from the
    /// disk, once all that is in it is in tables.
    pub(super) fn fill_journal(&self) -> Result<()> {
        let Self::Files { keyspace, .. } = self else {
            return Ok(());
        };
        let mut noise = blake3::Hasher::new().finalize_xof();
        let mut filler = vec![0; FILLER_BYTES];
        for _ in 0..JOURNAL_BYTES / FILLER_BYTES {
            noise.fill(&mut filler);
            keyspace.insert(FILLER_KEY, &filler[..])?;
        }
        Ok(keyspace.remove(FILLER_KEY)?)
    }

    /// Writes what is in memory to a table. fjall lets go here, and nearly nowhere else, of what only
    /// views that are closed by now could see: of tables that were replaced, and, in the next merge,
    /// of rows.
    pub(super) fn flush(&self) -> Result<()> {
        let Self::Files { keyspace, .. } = self else {
            return Ok(());
        };
        // With nothing in memory it would do nothing.
        keyspace.remove(FILLER_KEY)?;
        Ok(keyspace.rotate_memtable_and_wait()?)
    }

    /// Writes all tables anew, without the rows that were deleted before all open views of the last
    /// [`Self::flush`].
    pub(super) fn merge(&self) -> Result<()> {
        match self {
            Self::Files { keyspace, .. } => Ok(keyspace.major_compact()?),
            Self::Simulated(_) => Ok(()),
        }
    }

    /// Fails if something has failed in the background, or its files are gone: a store that is idle
    /// would not notice, and one whose files were removed goes on writing to them.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::Files { database, lock, .. } => {
                let lock = rustix::fs::fstat(lock).map_err(std::io::Error::from)?;
                if lock.st_nlink == 0 {
                    return Err(DiskError::Removed);
                }
                Ok(database.persist(PersistMode::Buffer)?)
            }
            Self::Simulated(_) => Ok(()),
        }
    }
}

impl View {
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        match self {
            Self::Files {
                snapshot, keyspace, ..
            } => {
                let value = snapshot.get(keyspace, key)?;
                Ok(value.map(|v| Bytes::copy_from_slice(&v)))
            }
            Self::Simulated(view) => Ok(view.get(key)?),
        }
    }

    pub(super) fn range(&self, begin: Bytes, end: Bytes) -> Rows<'_> {
        match self {
            Self::Files {
                snapshot, keyspace, ..
            } => {
                let rows = snapshot.range(keyspace, begin..end);
                Box::new(rows.map(|row| {
                    let (key, value) = row.into_inner()?;
                    Ok((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)))
                }))
            }
            Self::Simulated(view) => {
                let rows = view.range(begin, end);
                Box::new(rows.map(|row| Ok(row?)))
            }
        }
    }

    /// The version of the last commit in it.
    pub(super) fn version(&self) -> Result<u64> {
        match self.get(VERSION_KEY)? {
            None => Ok(0),
            Some(bytes) => {
                let bytes = bytes[..].try_into().map_err(|_| DiskError::BadVersion)?;
                Ok(u64::from_be_bytes(bytes))
            }
        }
    }
}
