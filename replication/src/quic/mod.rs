//! Links over QUIC: mutual TLS 1.3, one link per direction of pulling. A link has a connection for what is
//! live, with one stream of frames, and one for bulk, on which the served side sends compressed frames:
//! what waits in a connection's send window waits for all that stands before it.
//!
//! The transport knows connections and certificates, nothing of logs or cursors: it dials every
//! configured peer for ever, admits who proves to be one, and passes frames on. Whoever is not a
//! peer gets no link and one warning in the log.

mod bulk;
mod endpoint;
mod stream;
mod tls;

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::id::RegionId;
use crate::limits::{FRAME_BYTES_MAX, LINK_QUEUE_BYTES_MAX, LINK_QUEUE_FRAMES_MAX};
use crate::link::{Frame, Lane, LinkId, Role};

/// What both sides must speak.
pub const ALPN: &[u8] = b"whimbrel/1";
/// Spoken on the connection for bulk. A peer that does not know it gets everything on the other one.
pub const BULK_ALPN: &[u8] = b"whimbrel-bulk/1";
/// A connection that has not handed us a first frame by then is closed.
pub const ADMIT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection over which nothing came for so long is dead.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a quiet connection says that it is alive.
pub const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Pause before a peer is dialled again: first, and after many failures.
pub const REDIAL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How long a closing link may take to deliver what was sent before.
pub const LINGER: Duration = Duration::from_secs(1);

/// Code of a connection that is closed because the certificate of the other side names no region of ours.
const NOT_A_PEER: u32 = 2;

const _: () = assert!(KEEP_ALIVE.as_millis() * 3 < IDLE_TIMEOUT.as_millis());

/// A region to dial.
#[derive(Clone, Debug)]
pub struct PeerAddress {
    /// Its number.
    pub region: RegionId,
    /// Its name, which its certificate must carry as a DNS name.
    pub name: String,
    /// `host:port` of its nodes; a link to each of them is kept. Without any it may dial us, but we
    /// do not dial it.
    pub addrs: Vec<String>,
}

/// Who we are and who the others are.
#[derive(Clone)]
pub struct QuicConfig {
    /// Our region's name. A peer's certificate must not carry it.
    pub region_name: String,
    /// The cluster's CA certificates, PEM; several while one replaces another.
    pub ca_pem: Vec<u8>,
    /// Our certificate and its intermediates, PEM.
    pub cert_pem: Vec<u8>,
    /// Our private key, PEM.
    pub key_pem: Vec<u8>,
    /// Secret that stays the same over restarts, so that peers learn at once that their connections
    /// are gone; with a fresh one they wait for the idle timeout.
    pub reset_key: [u8; 64],
    /// All other regions.
    pub peers: Vec<PeerAddress>,
}

impl QuicConfig {
    /// Whether links can be made with it: CA, certificate and key belong together, and the certificate is that of the
    /// region. One that has run out passes.
    ///
    /// # Errors
    ///
    /// All but [`QuicError::Socket`].
    pub fn check(&self) -> Result<(), QuicError> {
        tls::check(self)
    }
}

/// What happens on links.
#[derive(Clone, Debug)]
pub enum LinkEvent {
    /// A link to a proven peer stands.
    Up {
        /// Never used again.
        link: LinkId,
        /// Proven by its certificate.
        peer: RegionId,
        /// Whether we dialled.
        role: Role,
    },
    /// The peer sent a frame.
    Frame {
        /// On which link.
        link: LinkId,
        /// What it says.
        frame: Frame,
    },
    /// The link has a lane for bulk from now on.
    Bulk {
        /// Which.
        link: LinkId,
    },
    /// A node that we dialled says that our certificate names no region of its cluster. It may come
    /// again and again: it is dialled for ever.
    Refused {
        /// Whose node it is.
        peer: RegionId,
    },
    /// A link is gone; comes once for each `Up`, except while the transport shuts down.
    Down {
        /// Which.
        link: LinkId,
        /// In words. A peer's misbehaviour has been logged already.
        reason: String,
    },
}

/// Why the transport does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuicError {
    /// The PEM of CA, certificate or key cannot be read.
    #[error("the {what} cannot be read: {reason}")]
    Pem {
        /// CA, certificate or key.
        what: &'static str,
        /// In words.
        reason: String,
    },
    /// TLS does not accept certificate, key or CA.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// A peer's name cannot stand in a certificate.
    #[error("the region name {0:?} is not a DNS name")]
    Name(String),
    /// The socket cannot be used.
    #[error("the UDP socket cannot be used")]
    Socket(#[from] std::io::Error),
}

/// Why a frame was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The link is gone; its `Down` comes or has come.
    #[error("the link is gone")]
    Gone,
    /// The peer takes less than we send; the link was closed.
    #[error("the link's queue is full")]
    Full,
    /// The frame is longer than peers accept; the link was closed.
    #[error("the frame is too long")]
    TooLong,
}

/// All links of a node. Dropping it ends them without a goodbye; see [`Transport::shutdown`].
#[derive(Debug)]
pub struct Transport {
    shared: Arc<Shared>,
    endpoint: quinn::Endpoint,
    _cancel: DropGuard,
}

/// What the tasks of a transport share.
#[derive(Debug)]
struct Shared {
    links: Mutex<BTreeMap<LinkId, Handle>>,
    bulk: bulk::Waiting,
    next_link: AtomicU64,
    events: mpsc::Sender<LinkEvent>,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

/// The sending end of a link; once it is gone the link delivers what is queued and closes.
#[derive(Debug)]
struct Handle {
    peer: RegionId,
    role: Role,
    live: Queue,
    bulk: Queue,
    /// Tells the link's task why we close it.
    close: oneshot::Sender<String>,
}

/// What waits to be written to a lane.
#[derive(Clone, Debug)]
struct Queue {
    frames: mpsc::Sender<Bytes>,
    bytes: Arc<AtomicUsize>,
}

/// The other end of a [`Queue`].
#[derive(Debug)]
struct Queued {
    frames: mpsc::Receiver<Bytes>,
    bytes: Arc<AtomicUsize>,
}

impl Queue {
    fn new() -> (Self, Queued) {
        let (sender, frames) = mpsc::channel(LINK_QUEUE_FRAMES_MAX);
        let bytes = Arc::new(AtomicUsize::new(0));
        let queue = Self {
            frames: sender,
            bytes: Arc::clone(&bytes),
        };
        (queue, Queued { frames, bytes })
    }

    fn push(&self, frame: Bytes) -> Result<(), SendError> {
        let size = frame.len();
        if size > FRAME_BYTES_MAX {
            return Err(SendError::TooLong);
        }
        if self.bytes.load(Ordering::Relaxed) + size > LINK_QUEUE_BYTES_MAX {
            return Err(SendError::Full);
        }
        self.bytes.fetch_add(size, Ordering::Relaxed);
        self.frames.try_send(frame).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SendError::Full,
            mpsc::error::TrySendError::Closed(_) => SendError::Gone,
        })
    }
}

/// The link task's end of a [`Handle`].
#[derive(Debug)]
struct Outbox {
    live: Queued,
    bulk: Queued,
    close: oneshot::Receiver<String>,
}

impl Transport {
    /// Listens on the socket and dials all peers from it. Must be called inside a tokio runtime.
    pub fn start(
        socket: UdpSocket,
        config: QuicConfig,
        events: mpsc::Sender<LinkEvent>,
    ) -> Result<Self, QuicError> {
        let cancel = CancellationToken::new();
        let shared = Arc::new(Shared {
            links: Mutex::new(BTreeMap::new()),
            bulk: bulk::Waiting::default(),
            next_link: AtomicU64::new(1),
            events,
            tasks: TaskTracker::new(),
            cancel: cancel.clone(),
        });
        let endpoint = endpoint::start(socket, config, &shared)?;
        Ok(Self {
            shared,
            endpoint,
            _cancel: cancel.drop_guard(),
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> Result<SocketAddr, QuicError> {
        Ok(self.endpoint.local_addr()?)
    }

    /// Queues a frame; never waits. A link whose queue is full is closed.
    pub fn send(&self, link: LinkId, lane: Lane, frame: &Frame) -> Result<(), SendError> {
        let bytes = frame.encode();
        let pushed = {
            let links = self.shared.links();
            let handle = links.get(&link).ok_or(SendError::Gone)?;
            match lane {
                Lane::Live => handle.live.push(bytes),
                Lane::Bulk => handle.bulk.push(bytes),
            }
        };
        if let Err(refused @ (SendError::Full | SendError::TooLong)) = pushed {
            self.close(link, &refused.to_string());
        }
        pushed
    }

    /// Delivers what was sent before, for at most [`LINGER`], then closes. Unknown links are ignored.
    pub fn close(&self, link: LinkId, reason: &str) {
        if let Some(handle) = self.shared.links().remove(&link) {
            // The task may have ended by itself.
            let _ = handle.close.send(reason.to_owned());
        }
    }

    /// Closes all links and ends all tasks.
    pub async fn shutdown(self) {
        self.shared.cancel.cancel();
        self.shared.links().clear();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        self.endpoint.close(0u32.into(), b"shutting down");
        // The goodbye is a courtesy: a peer that does not take it notices by itself.
        let _ = tokio::time::timeout(LINGER, self.endpoint.wait_idle()).await;
    }
}

impl Shared {
    /// No code that holds the lock can panic half-way through a change.
    fn links(&self) -> std::sync::MutexGuard<'_, BTreeMap<LinkId, Handle>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self, peer: RegionId, role: Role) -> (LinkId, Outbox) {
        let link = LinkId(self.next_link.fetch_add(1, Ordering::Relaxed));
        let (live, live_queued) = Queue::new();
        let (bulk, bulk_queued) = Queue::new();
        let (close, closed) = oneshot::channel();
        let handle = Handle {
            peer,
            role,
            live,
            bulk,
            close,
        };
        self.links().insert(link, handle);
        let outbox = Outbox {
            live: live_queued,
            bulk: bulk_queued,
            close: closed,
        };
        (link, outbox)
    }

    fn count(&self, peer: RegionId, role: Role) -> usize {
        let of_peer = |handle: &&Handle| handle.peer == peer && handle.role == role;
        self.links().values().filter(of_peer).count()
    }

    /// Waits for room; gives up when the transport shuts down, since then nobody may be listening.
    async fn tell(&self, event: LinkEvent) {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => {}
            _ = self.events.send(event) => {}
        }
    }
}
