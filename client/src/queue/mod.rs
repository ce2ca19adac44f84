//! Writes that wait on disk until a region takes them.

mod entry;
mod log;
mod state;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Error;
use crate::api::{Message, PostMessage, Problem, ProblemCode, limits};
use crate::client::Client;
use crate::request::{Call, fresh_key};

use entry::Entry;
pub use entry::{Failed, MessageRef, Outcome, Reason, Sent, Ticket, Write};
use log::{Log, Record};
use state::{Resolved, State};

/// Entries that wait or have failed. More: a longer outage fits in, and takes longer to send.
const ENTRIES_MAX: usize = 10_000;

/// The file, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// An ordered queue of writes on disk.
///
/// What is put in is on the disk before the program goes on, and is sent in that order, each once:
/// its idempotency key is fixed when it is put in, so neither a crash between sending and taking note
/// of the answer nor a change of region doubles it. An edit, a reply or a reaction may name a message
/// that waits in the queue, by its ticket; it is sent after it, with the id and the revision that
/// were answered. What a region refuses for good is kept as failed until the program clears it, and
/// so is what depends on it; the rest goes on.
///
/// The queue is a folder that one process at a time may open. Cheap to clone; clones are one queue.
///
/// ```
/// # mod stub { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/doc_stub.rs")); }
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let url = stub::start().await;
/// # let folder = std::env::temp_dir().join(format!("whimbrel-queue-{}", std::process::id()));
/// # let _ = std::fs::remove_dir_all(&folder);
/// use whimbrel_client::Client;
/// use whimbrel_client::queue::{Outcome, Write};
///
/// let client = Client::builder().url(url).token("eyJ...").build()?;
/// let queue = client.queue(&folder)?;
/// // Whether a region can be reached or not.
/// let post = queue
///     .enqueue(Write::Post {
///         conversation: "c1".to_owned(),
///         text: "helo".to_owned(),
///         reply_to: None,
///     })
///     .await?;
/// queue
///     .enqueue(Write::Edit {
///         conversation: "c1".to_owned(),
///         message: post.into(),
///         text: "hello".to_owned(),
///         base: None,
///     })
///     .await?;
///
/// // Once in a while, and when the network is back.
/// let flushed = queue.flush().await?;
/// assert!(flushed.stopped.is_none());
/// assert_eq!(flushed.finished.len(), 2);
/// assert!(matches!(queue.outcome(post), Some(Outcome::Sent(_))));
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct OfflineQueue {
    client: Client,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    /// Held by whoever sends: one after the other.
    sending: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    log: Log,
}

/// What a flush did.
#[derive(Debug)]
pub struct Flush {
    /// Entries that are done, in order, and what became of each.
    pub finished: Vec<(Ticket, Outcome)>,
    /// Why it ended before all were done; flush again later. All that is left is kept.
    pub stopped: Option<Error>,
}

/// Why a queue cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// Another process, or another part of this one, has it open.
    #[error("the queue {} is in use by another program; close that first", path.display())]
    InUse {
        /// Its folder.
        path: PathBuf,
    },
    /// The file does not say what a queue says.
    #[error("{} is damaged in line {line}: {reason}; move it away, and look what it holds", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The disk failed. After a failed write the queue must be opened anew.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was to be done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it could not.
        source: std::io::Error,
    },
    /// It holds as much as it may.
    #[error("the queue is full: {0}; send it, or clear what has failed")]
    Full(String),
    /// The write cannot be put in.
    #[error("{0}")]
    Invalid(String),
}

impl Client {
    /// Opens the queue of writes in a folder, which is made if need be.
    pub fn queue(&self, folder: impl AsRef<Path>) -> Result<OfflineQueue, QueueError> {
        OfflineQueue::open(folder, self.clone())
    }
}

impl OfflineQueue {
    /// Opens the queue in a folder, which is made if need be.
    pub fn open(folder: impl AsRef<Path>, client: Client) -> Result<Self, QueueError> {
        let (log, records) = Log::open(folder.as_ref())?;
        let state = State::of(records);
        Ok(Self {
            client,
            shared: Arc::new(Shared {
                inner: Mutex::new(Inner { state, log }),
                sending: tokio::sync::Mutex::default(),
            }),
        })
    }

    /// Puts a write in. When this returns it is on the disk. If it is dropped half-way, it may be.
    pub async fn enqueue(&self, write: Write) -> Result<Ticket, QueueError> {
        let key = fresh_key();
        self.on_disk(move |inner| {
            let entry = inner.state.entry(write, key).map_err(QueueError::Invalid)?;
            let ticket = entry.ticket;
            let bytes = serde_json::to_vec(&entry.write).map_or(usize::MAX, |json| json.len());
            if bytes > limits::BODY_BYTES_MAX {
                let max = limits::BODY_BYTES_MAX;
                return Err(QueueError::Invalid(format!(
                    "the write has {bytes} bytes, a request holds {max}; split it"
                )));
            }
            if inner.state.len() >= ENTRIES_MAX {
                return Err(QueueError::Full(format!("it holds {ENTRIES_MAX} entries")));
            }
            if inner.log.bytes >= FILE_BYTES_MAX {
                return Err(QueueError::Full(format!("it holds {FILE_BYTES_MAX} bytes")));
            }
            inner.write(Record::Add(entry))?;
            Ok(ticket)
        })
        .await
    }

    /// Sends what waits, in order, until all is done or a region cannot be had.
    pub async fn flush(&self) -> Result<Flush, QueueError> {
        let _turn = self.shared.sending.lock().await;
        let mut finished = Vec::new();
        let mut stopped = None;
        loop {
            let next = {
                let inner = self.inner();
                let next = inner.state.waiting.values().next().cloned();
                next.map(|entry| (inner.state.resolve(&entry), entry))
            };
            let Some((resolved, entry)) = next else {
                break;
            };
            let outcome = match resolved {
                Ok(resolved) => match self.send(&entry, &resolved).await {
                    Ok(sent) => Outcome::Sent(sent),
                    Err(error) => match self.for_good(&resolved, error) {
                        Ok(reason) => Outcome::Failed(reason),
                        Err(error) => {
                            stopped = Some(error);
                            break;
                        }
                    },
                },
                Err(reason) => Outcome::Failed(reason),
            };
            let ticket = entry.ticket;
            let record = match outcome.clone() {
                Outcome::Sent(sent) => Record::Sent { ticket, sent },
                Outcome::Failed(reason) => Record::Failed { ticket, reason },
            };
            self.on_disk(move |inner| inner.write(record)).await?;
            finished.push((ticket, outcome));
        }
        Ok(Flush { finished, stopped })
    }

    /// What a crash had left of an entry when the queue was opened was cut off and put into this
    /// file. Nobody was told that it was kept.
    pub fn cut_off(&self) -> Option<PathBuf> {
        self.inner().log.cut.clone()
    }

    /// What waits, in order.
    pub fn waiting(&self) -> Vec<(Ticket, Write)> {
        let inner = self.inner();
        let waiting = inner.state.waiting.values();
        waiting.map(|e| (e.ticket, e.write.clone())).collect()
    }

    /// What has failed for good and was not cleared yet.
    pub fn failed(&self) -> Vec<Failed> {
        self.inner().state.failed()
    }

    /// What became of an entry. `None`: it waits; or it failed and was cleared, or was sent a
    /// thousand entries ago.
    pub fn outcome(&self, ticket: Ticket) -> Option<Outcome> {
        self.inner().state.outcome(ticket)
    }

    /// Forgets an entry that has failed.
    pub async fn clear(&self, ticket: Ticket) -> Result<(), QueueError> {
        self.on_disk(move |inner| match inner.state.outcome(ticket) {
            Some(Outcome::Failed(_)) => inner.write(Record::Cleared { ticket }),
            _ => Err(QueueError::Invalid(format!(
                "entry {ticket} has not failed"
            ))),
        })
        .await
    }

    /// Makes the call of an entry.
    async fn send(&self, entry: &Entry, resolved: &Resolved) -> Result<Sent, Error> {
        let client = &self.client;
        let id = resolved.message.as_deref().unwrap_or_default();
        let key = &entry.key;
        let nothing = async |call: Call<()>| call.key(key).await.map(|_| Sent::default());
        match &entry.write {
            Write::Post {
                conversation, text, ..
            } => {
                let body = PostMessage {
                    text: text.clone(),
                    reply_to: resolved.message.clone(),
                    sent_at: None,
                };
                let posted = client.post(conversation, &body).key(key).await?;
                let cursor = posted.cursor.as_deref();
                self.own_part(text, &posted.message, cursor).await
            }
            Write::Edit {
                conversation, text, ..
            } => {
                let base = resolved.base.as_deref().unwrap_or_default();
                let edited = client.edit(conversation, id, text, base).key(key).await?;
                let cursor = edited.cursor.as_deref();
                self.own_part(text, &edited, cursor).await
            }
            Write::Redact { conversation, .. } => nothing(client.redact(conversation, id)).await,
            Write::React {
                conversation,
                emoji,
                ..
            } => nothing(client.react(conversation, id, emoji)).await,
            Write::Unreact {
                conversation,
                emoji,
                ..
            } => nothing(client.unreact(conversation, id, emoji)).await,
            Write::MarkRead {
                conversation,
                cursor,
            } => {
                client.mark_read(conversation, cursor).key(key).await?;
                Ok(Sent::default())
            }
        }
    }

    /// What was answered, with the revision of this write alone. That of the answer covers what was
    /// written meanwhile, too, which whoever made the next edit in the queue did not see: made on
    /// that it would take it away.
    async fn own_part(
        &self,
        text: &str,
        message: &Message,
        cursor: Option<&str>,
    ) -> Result<Sent, Error> {
        let mut revision = message.revision.clone();
        if message.text.as_ref().is_some_and(|now| now != text) {
            let mut call = self.client.history(&message.conversation, &message.id);
            if let Some(cursor) = cursor {
                call = call.after(cursor);
            }
            match call.await {
                Ok(history) => {
                    let versions = history.value.versions;
                    let own = versions.into_iter().rfind(|version| version.text == text);
                    revision = own.map_or(revision, |own| own.revision);
                }
                Err(error) if error.is_transient() => return Err(error),
                // Redacted meanwhile: then the next edit is refused, and says so.
                Err(_) => {}
            }
        }
        Ok(Sent {
            message: Some(message.id.clone()),
            revision: Some(revision),
        })
    }

    /// The reason, where asking again makes no sense; the error, where it does.
    fn for_good(&self, resolved: &Resolved, error: Error) -> Result<Reason, Error> {
        let is_own = |id: &String| self.inner().state.is_own(id);
        let names_own = resolved.message.as_ref().is_some_and(is_own);
        match error {
            Error::Config(reason) => Ok(Reason::Unsendable(reason)),
            Error::Api(problem) if is_final(&problem) && !(names_own && is_unknown(&problem)) => {
                Ok(Reason::Refused(problem))
            }
            error => Err(error),
        }
    }

    /// Does something with the disk, away from where others run.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Inner) -> Result<T, QueueError> + Send + 'static,
    ) -> Result<T, QueueError> {
        let shared = Arc::clone(&self.shared);
        let done = tokio::task::spawn_blocking(move || work(&mut shared.inner())).await;
        done.unwrap_or_else(|panic| match panic.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(stopping) => Err(QueueError::Invalid(format!("the program ends: {stopping}"))),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner()
    }
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write(&mut self, record: Record) -> Result<(), QueueError> {
        self.log.append(&record)?;
        self.state.apply(record);
        if self.state.is_worth_rewriting(self.log.lines) {
            self.log.rewrite(&self.state.records())?;
        }
        Ok(())
    }
}

/// A refusal that stands. Without a valid token nothing is refused for good.
fn is_final(problem: &Problem) -> bool {
    let may_change = [ProblemCode::Unauthenticated, ProblemCode::RateLimited];
    (400..500).contains(&problem.status) && !may_change.contains(&problem.code)
}

/// The region does not know the message. Where this queue has posted it in another one, it will.
fn is_unknown(problem: &Problem) -> bool {
    problem.code == ProblemCode::NotFound || problem.errors.iter().any(|e| e.field == "reply_to")
}
