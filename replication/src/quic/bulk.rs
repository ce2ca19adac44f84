//! The connection for bulk that belongs to a link: dialled by the side that pulls, written by the side that
//! serves.
//!
//! Which link it belongs to is shown by a secret that only the two ends of that link's connection can
//! compute (RFC 8446, section 7.5).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;
use tracing::debug;

use super::stream::{End, read_bytes, write_bytes};
use super::{ADMIT_TIMEOUT, LINGER, LinkEvent, Queued, Shared};
use crate::id::RegionId;
use crate::limits::{BULK_COMPRESSION_LEVEL, FRAME_BYTES_MAX, FRAME_PACKING_BYTES_MAX};
use crate::link::{Frame, LinkId};

/// Names a link among all of an endpoint.
type Secret = [u8; 32];

fn secret(connection: &Connection) -> Result<Secret, String> {
    let mut secret = [0; 32];
    connection
        .export_keying_material(&mut secret, b"EXPORTER whimbrel bulk lane", b"")
        .map_err(|_| "no secret can be exported".to_owned())?;
    Ok(secret)
}

/// How long a bulk connection waits for its link: the two overtake each other on their way.
const LINK_WAIT: Duration = Duration::from_secs(2);

/// Links that wait for their bulk connection.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    links: Mutex<BTreeMap<Secret, (RegionId, oneshot::Sender<Lane>)>>,
    added: Notify,
}

/// The served end of a bulk connection.
#[derive(Debug)]
pub(super) struct Lane {
    connection: Connection,
    send: SendStream,
}

impl Waiting {
    fn all(&self) -> MutexGuard<'_, BTreeMap<Secret, (RegionId, oneshot::Sender<Lane>)>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, secret: Secret, peer: RegionId) -> oneshot::Receiver<Lane> {
        let (sender, waits) = oneshot::channel();
        self.all().insert(secret, (peer, sender));
        self.added.notify_waiters();
        waits
    }

    /// The link that has the secret, once it is there.
    async fn take(&self, secret: &Secret) -> (RegionId, oneshot::Sender<Lane>) {
        loop {
            let mut added = pin!(self.added.notified());
            added.as_mut().enable();
            if let Some(found) = self.all().remove(secret) {
                return found;
            }
            added.await;
        }
    }

    /// A peer has dialled for bulk: it says which link it belongs to.
    pub(super) async fn admit(&self, peer: RegionId, connection: Connection) -> Result<(), String> {
        let (send, mut recv) = connection.accept_bi().await.map_err(|e| e.to_string())?;
        let mut secret = [0; 32];
        recv.read_exact(&mut secret)
            .await
            .map_err(|e| e.to_string())?;
        let found = timeout(LINK_WAIT, self.take(&secret)).await.ok();
        let Some((_, waits)) = found.filter(|(of, _)| *of == peer) else {
            return Err("it belongs to no link of this node".to_owned());
        };
        // Dropped where the link has gone meanwhile.
        let _ = waits.send(Lane { connection, send });
        Ok(())
    }
}

/// Serves a link's bulk lane once the peer has dialled it; ends where the lane fails, and says why.
pub(super) async fn serve(
    shared: &Shared,
    link: LinkId,
    peer: RegionId,
    main: &Connection,
    mut queue: Queued,
) -> String {
    let waits = secret(main).map(|secret| {
        let waits = shared.bulk.add(secret, peer);
        (Forget(shared, secret), waits)
    });
    let lane = match waits {
        Ok((_forget, waits)) => waits.await.ok(),
        Err(reason) => {
            debug!(%link, %reason, "no lane for bulk");
            None
        }
    };
    let Some(Lane {
        connection,
        mut send,
    }) = lane
    else {
        return std::future::pending().await;
    };
    shared.tell(LinkEvent::Bulk { link }).await;
    while let Some(frame) = queue.frames.recv().await {
        queue.bytes.fetch_sub(frame.len(), Ordering::Relaxed);
        let written = match zstd::bulk::compress(&frame, BULK_COMPRESSION_LEVEL) {
            Ok(packed) => write_bytes(&mut send, packed.into()).await,
            Err(error) => return format!("a frame cannot be compressed: {error}"),
        };
        if let Err(error) = written {
            return format!("the lane for bulk: {error}");
        }
    }
    // The link's handle is gone: what is queued is delivered, as on the other lane.
    if send.finish().is_ok() {
        let _ = timeout(LINGER, send.stopped()).await;
    }
    connection.close(0u32.into(), b"the link is closed");
    std::future::pending().await
}

/// Nobody waits any longer.
struct Forget<'a>(&'a Shared, Secret);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.bulk.all().remove(&self.1);
    }
}

/// What dialling takes.
#[derive(Clone, Debug)]
pub(super) struct Dialler {
    pub(super) endpoint: Endpoint,
    pub(super) config: ClientConfig,
    pub(super) name: String,
}

/// Dials the bulk connection of a link and passes on what comes on it; ends with the lane, or not at
/// all where the peer has none.
pub(super) async fn pull(
    shared: &Shared,
    link: LinkId,
    main: &Connection,
    dialler: &Dialler,
) -> End {
    let dialled = timeout(ADMIT_TIMEOUT, dial(main, dialler)).await;
    let (connection, mut recv) = match dialled.map_err(|_| "no answer".to_owned()) {
        Ok(Ok(lane)) => lane,
        Ok(Err(reason)) | Err(reason) => {
            // A version that has none, or a balancer that leads to another node.
            debug!(%link, %reason, "no lane for bulk; all comes on the other one");
            return std::future::pending().await;
        }
    };
    loop {
        let packed = read_bytes(&mut recv, FRAME_BYTES_MAX + FRAME_PACKING_BYTES_MAX).await;
        match packed.and_then(|packed| unpack(&packed)) {
            Ok(frame) => shared.tell(LinkEvent::Frame { link, frame }).await,
            Err(end) => {
                connection.close(0u32.into(), b"the lane has ended");
                return end;
            }
        }
    }
}

async fn dial(main: &Connection, dialler: &Dialler) -> Result<(Connection, RecvStream), String> {
    let Dialler {
        endpoint,
        config,
        name,
    } = dialler;
    let to: SocketAddr = main.remote_address();
    let connecting = endpoint.connect_with(config.clone(), to, name);
    let connecting = connecting.map_err(|e| e.to_string())?;
    let connection = connecting.await.map_err(|e| e.to_string())?;
    let (mut send, recv) = connection.open_bi().await.map_err(|e| e.to_string())?;
    let secret = secret(main)?;
    send.write_all(&secret).await.map_err(|e| e.to_string())?;
    Ok((connection, recv))
}

fn unpack(packed: &[u8]) -> Result<Frame, End> {
    let garbage = |error: &dyn std::fmt::Display| End::Garbage(error.to_string());
    let frame = zstd::bulk::decompress(packed, FRAME_BYTES_MAX).map_err(|e| garbage(&e))?;
    Frame::decode(frame.into()).map_err(|e| garbage(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: RegionId = RegionId(2);

    /// What a bulk connection does that overtakes its link.
    #[tokio::test]
    async fn a_link_is_found_that_is_added_later() {
        let waiting = Waiting::default();
        let (one, other): (Secret, Secret) = ([1; 32], [2; 32]);
        let added = async {
            tokio::task::yield_now().await;
            (waiting.add(other, US), waiting.add(one, US))
        };
        let found = timeout(LINK_WAIT, waiting.take(&one));
        let (found, _waits) = tokio::join!(found, added);
        assert_eq!(found.expect("it was added").0, US);
        assert!(waiting.all().contains_key(&other), "it is not its link");
    }
}
