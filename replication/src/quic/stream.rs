//! One link: frames with their length in front, on one stream of its connection; what comes on the
//! other one, for bulk, is in `bulk`.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use quinn::{Connection, ReadError, ReadExactError, RecvStream, SendStream};
use tracing::warn;

use super::bulk::{self, Dialler};
use super::endpoint::is_refusal;
use super::{LINGER, LinkEvent, Outbox, Queued, Shared};
use crate::id::RegionId;
use crate::limits::FRAME_BYTES_MAX;
use crate::link::{Frame, LinkId};

/// Why a stream of frames ended.
#[derive(Debug)]
pub(super) enum End {
    /// The connection is gone or was closed.
    Gone(String),
    /// The peer sent what is no frame.
    Garbage(String),
}

/// Reads one frame. Not cancel-safe: a stream that was dropped half-way cannot be read on.
pub(super) async fn read_frame(stream: &mut RecvStream) -> Result<Frame, End> {
    let bytes = read_bytes(stream, FRAME_BYTES_MAX).await?;
    Frame::decode(bytes).map_err(|error| End::Garbage(error.to_string()))
}

/// Reads bytes with their length in front, at most `bytes_max`.
pub(super) async fn read_bytes(stream: &mut RecvStream, bytes_max: usize) -> Result<Bytes, End> {
    let gone = |error: ReadExactError| {
        End::Gone(match error {
            ReadExactError::ReadError(ReadError::ConnectionLost(error)) => error.to_string(),
            ReadExactError::ReadError(error) => error.to_string(),
            ReadExactError::FinishedEarly(_) => "the peer ended the stream".to_owned(),
        })
    };
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.map_err(gone)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > bytes_max {
        return Err(End::Garbage(format!(
            "a frame of {length} bytes, more than {bytes_max}"
        )));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.map_err(gone)?;
    Ok(bytes.into())
}

/// An admitted link.
pub(super) struct Open {
    pub(super) link: LinkId,
    pub(super) peer: RegionId,
    pub(super) connection: Connection,
    pub(super) send: SendStream,
    pub(super) recv: RecvStream,
    pub(super) outbox: Outbox,
    pub(super) side: Side,
}

/// Which end of it we are.
pub(super) enum Side {
    Server,
    /// We dialled, and dial for bulk too.
    Puller(Dialler),
}

/// Runs a link until it ends, and says that it is down. Returns whether the peer ever said anything.
pub(super) async fn run(shared: &Shared, open: Open) -> bool {
    let Open {
        link,
        peer,
        connection,
        mut send,
        mut recv,
        outbox,
        side,
    } = open;
    let mut heard = false;
    let mut asked = None;
    let closing = async {
        if let Ok(reason) = outbox.close.await {
            asked = Some(reason);
            tokio::time::sleep(LINGER).await;
        } else {
            // All links are let go at once: the transport shuts down.
            std::future::pending::<()>().await;
        }
    };
    let bulk = async {
        match side {
            Side::Server => {
                let end = bulk::serve(shared, link, peer, &connection, outbox.bulk);
                End::Gone(end.await)
            }
            Side::Puller(dialler) => bulk::pull(shared, link, &connection, &dialler).await,
        }
    };
    let told = |end| match end {
        End::Gone(reason) => (0, reason),
        End::Garbage(reason) => {
            warn!(%link, region = %peer, %reason, "a peer sent what is no frame");
            (1, reason)
        }
    };
    // None of these goes on after another has won: the streams are given up then.
    let (code, reason) = tokio::select! {
        biased;
        () = shared.cancel.cancelled() => (0u32, "shutting down".to_owned()),
        () = closing => (0, "the peer takes no more frames".to_owned()),
        end = read_all(shared, link, &mut recv, &mut heard) => told(end),
        // What was under way on it is lost: the link begins anew.
        end = bulk => told(end),
        () = write_all(&mut send, outbox.live) => {
            (0, "the peer takes no more frames".to_owned())
        }
    };
    // Once we have asked for it, the peer's reaction is not the cause.
    let reason = asked.unwrap_or(reason);
    if connection.close_reason().as_ref().is_some_and(is_refusal) {
        shared.tell(LinkEvent::Refused { peer }).await;
    }
    connection.close(code.into(), reason.as_bytes());
    // Dropping a stream would finish it, as if all had been said.
    let _ = send.reset(0u32.into());
    shared.links().remove(&link);
    shared.tell(LinkEvent::Down { link, reason }).await;
    heard
}

async fn read_all(shared: &Shared, link: LinkId, recv: &mut RecvStream, heard: &mut bool) -> End {
    loop {
        match read_frame(recv).await {
            Ok(frame) => {
                *heard = true;
                shared.tell(LinkEvent::Frame { link, frame }).await;
            }
            Err(end) => return end,
        }
    }
}

/// Writes what is queued until the link's handle is gone, then lets the peer take it.
async fn write_all(send: &mut SendStream, mut queue: Queued) {
    while let Some(frame) = queue.frames.recv().await {
        queue.bytes.fetch_sub(frame.len(), Ordering::Relaxed);
        if write_bytes(send, frame).await.is_err() {
            return;
        }
    }
    if send.finish().is_ok() {
        let _ = tokio::time::timeout(LINGER, send.stopped()).await;
    }
}

/// Writes bytes with their length in front.
pub(super) async fn write_bytes(
    send: &mut SendStream,
    bytes: Bytes,
) -> Result<(), quinn::WriteError> {
    let length = u32::try_from(bytes.len()).expect("a queued frame is at most FRAME_BYTES_MAX");
    let length = Bytes::copy_from_slice(&length.to_be_bytes());
    send.write_all_chunks(&mut [length, bytes]).await
}
