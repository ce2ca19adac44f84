//! `/v1/stream`: the stream as a WebSocket.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::HeaderValue;
use axum::http::header::SEC_WEBSOCKET_KEY;
use axum::http::request::Parts;
use axum::response::Response;
use data_encoding::BASE64;
use utoipa::IntoParams;
use whimbrel_client::api::CLOSE_SLOW_READER;
use whimbrel_client::api::openapi::Token;
use whimbrel_replication::cursor::Cursor;

use super::auth::Caller;
use super::limit::{Connection, Connections};
use super::problems::SlowDown;
use super::request::{Query, id};
use super::{App, Failure};
use crate::session::{Session, SessionEnd};

/// Idle connections are pinged this often; two missed answers end them.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// A reader that takes no frame for so long is too slow.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Readers have nothing to say.
const INCOMING_BYTES_MAX: usize = 4096;
/// Clients send next to nothing. It is kept for each stream: most are idle.
const READ_BUFFER_BYTES: usize = 1024;
/// Events are sent together up to this, and one by one where they are rare.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;

const CLOSE_GOING_AWAY: u16 = 1001;
const CLOSE_INTERNAL: u16 = 1011;

/// The headers of a WebSocket handshake over HTTP/1.1.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "they are read by axum")]
struct Handshake {
    /// Asks for another protocol.
    #[param(rename = "Connection", pattern = "^[Uu]pgrade$", example = "Upgrade")]
    connection: String,
    /// Which.
    #[param(
        rename = "Upgrade",
        pattern = "^[Ww]eb[Ss]ocket$",
        example = "websocket"
    )]
    upgrade: String,
    /// Its version.
    #[param(rename = "Sec-WebSocket-Version", pattern = "^13$", example = "13")]
    version: String,
    /// 16 random bytes in base64.
    #[param(
        rename = "Sec-WebSocket-Key",
        pattern = "^[A-Za-z0-9+/]{21}[AQgw]==$",
        example = "dGhlIHNhbXBsZSBub25jZQ=="
    )]
    key: String,
}

/// Events by WebSocket
///
/// Each text frame is one `Event` as JSON. Nothing is read from the client but answers to
/// pings. Without `since` it starts now. The node closes with 4008 when the reader is too slow,
/// with 1001 when it stops, with 1011 when it fails; the last token resumes, in any region.
#[utoipa::path(
    get,
    path = "/v1/stream",
    operation_id = "stream",
    tag = "events",
    params(
        ("since" = Option<Token>, Query, description = "`token` of the last event that was seen"),
        Handshake,
    ),
    responses(
        (status = 101, description = "The connection speaks WebSocket from here on (RFC 6455)"),
        (status = 429, response = SlowDown),
    ),
)]
pub(super) async fn stream(
    State(app): State<Arc<App>>,
    caller: Caller,
    parts: Parts,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Failure> {
    let query = Query::read(&parts, &["since"])?;
    let since: Option<Cursor> = query.text("since").map(|t| id("since", t)).transpose()?;
    let upgrade = upgrade.map_err(|error| {
        let message = format!("this path speaks WebSocket: {}", error.body_text());
        Failure::malformed("Upgrade", message)
    })?;
    // Its form is left to us: axum only looks whether it is there.
    let key = parts
        .headers
        .get(SEC_WEBSOCKET_KEY)
        .map(HeaderValue::as_bytes);
    if !key.is_some_and(|key| BASE64.decode(key).is_ok_and(|key| key.len() == 16)) {
        return Err(Failure::malformed(
            "Sec-WebSocket-Key",
            "must be 16 bytes in base64",
        ));
    }
    let connection = Connections::open(&app, &caller)?;
    let upgrade = upgrade
        .max_message_size(INCOMING_BYTES_MAX)
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES);
    // Opened before the upgrade is answered: what is committed after the handshake is on the stream.
    let session = Session::open(app.session_context(), caller.user, since).await?;
    Ok(upgrade.on_upgrade(move |socket| serve(app, session, socket, connection)))
}

async fn serve(app: Arc<App>, mut session: Session, mut socket: WebSocket, _place: Connection) {
    let close = match pump(&app, &mut session, &mut socket).await {
        Closed::ByPeer => return,
        Closed::TooSlow => {
            app.metrics.streams_too_slow.inc();
            (CLOSE_SLOW_READER, "too slow; resume from the last token")
        }
        Closed::ShuttingDown => (
            CLOSE_GOING_AWAY,
            "this node is shutting down; resume elsewhere",
        ),
        Closed::Failed => (CLOSE_INTERNAL, "something went wrong here; resume"),
    };
    let frame = CloseFrame {
        code: close.0,
        reason: close.1.into(),
    };
    let closing = socket.send(Message::Close(Some(frame)));
    // The peer may be gone, or read nothing any more.
    let _ = tokio::time::timeout(SEND_TIMEOUT, closing).await;
}

enum Closed {
    ByPeer,
    TooSlow,
    ShuttingDown,
    Failed,
}

impl From<SessionEnd> for Closed {
    fn from(end: SessionEnd) -> Self {
        match end {
            SessionEnd::TooSlow => Self::TooSlow,
            SessionEnd::ShuttingDown => Self::ShuttingDown,
            SessionEnd::Store(error) => {
                tracing::warn!(%error, "a stream cannot be served");
                Self::Failed
            }
        }
    }
}

async fn pump(app: &App, session: &mut Session, socket: &mut WebSocket) -> Closed {
    let mut ping = tokio::time::interval(PING_INTERVAL);
    ping.reset();
    let mut unanswered_pings = 0;
    loop {
        loop {
            let event = match session.next_missed().await {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(end) => return end.into(),
            };
            let Ok(text) = serde_json::to_string(&event) else {
                return Closed::Failed;
            };
            let sent = socket.send(Message::Text(text.into()));
            match tokio::time::timeout(SEND_TIMEOUT, sent).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Closed::ByPeer,
                Err(_) => return Closed::TooSlow,
            }
        }
        tokio::select! {
            () = app.shutdown.cancelled() => return Closed::ShuttingDown,
            event = session.recv() => match event {
                Ok(event) => {
                    if let Err(error) = session.take(&event).await {
                        return SessionEnd::Store(error).into();
                    }
                }
                Err(end) => return end.into(),
            },
            incoming = socket.recv() => match incoming {
                None | Some(Err(_) | Ok(Message::Close(_))) => return Closed::ByPeer,
                Some(Ok(_)) => unanswered_pings = 0,
            },
            _ = ping.tick() => {
                if unanswered_pings == 2 {
                    return Closed::ByPeer;
                }
                unanswered_pings += 1;
                if socket.send(Message::Ping(Vec::new().into())).await.is_err() {
                    return Closed::ByPeer;
                }
            }
        }
    }
}
