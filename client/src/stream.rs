//! The stream of events, and how it goes on when a connection is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::header::{CONNECTION, HeaderValue, UPGRADE};
use reqwest::{StatusCode, Upgraded};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Bytes, Message as Frame};

use crate::Error;
use crate::api::{Event, header};
use crate::breaker::Fault;
use crate::client::Client;
use crate::error::origin;
use crate::probe::{ANSWER_MAX, QUIET_MAX};
use crate::regions::Target;
use crate::send::{connection, refusal};
use crate::tour::{Failure, Tour};

/// A connection that lasted so long was a good one, even where nothing was heard.
const SETTLED: Duration = Duration::from_secs(10);

type Socket = WebSocketStream<Upgraded>;

/// Events of all the caller's conversations. Lost connections are made anew, in another region where
/// this one is gone, and resume after the last event: with no gap and no duplicate.
///
/// A region that falls silent is left within five seconds: an idle stream asks it every two seconds
/// whether it is there. Where the new region lacks something that was told already, it says so
/// ([`EventKind::Behind`](crate::api::EventKind::Behind)) and goes on with everything else. A stream
/// stays where it is when the region that it came from is back.
///
/// What events tell enters the client's session: a read after an event includes it.
pub struct EventStream {
    client: Client,
    token: String,
    connection: Option<Connection>,
    /// Since the last connection was lost after nothing was heard, or could not be made.
    tour: Option<Tour>,
    /// Where it was connected last.
    region: Option<String>,
}

struct Connection {
    socket: Socket,
    target: Arc<Target>,
    since: Instant,
    /// Anything was heard on it.
    heard: bool,
    /// A ping of ours is under way.
    asked: bool,
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream")
            .field("token", &self.token)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

impl EventStream {
    pub(crate) async fn open(client: Client, since: Option<String>) -> Result<Self, Error> {
        let token = match since {
            Some(token) => token,
            // A connection that is lost before its first event must still know where it began.
            None => client.sync(None).await?.value.token,
        };
        let mut stream = Self {
            client,
            token,
            connection: None,
            tour: None,
            region: None,
        };
        stream.connect().await?;
        Ok(stream)
    }

    /// Resumes after the last event that [`EventStream::next`] gave, in any region.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The region that it was connected to last, once its name is known.
    pub fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// The next event. After a transient error it may be called again, and goes on trying. Safe to
    /// drop half-way: no event is lost.
    pub async fn next(&mut self) -> Result<Event, Error> {
        if let Some(session) = &self.client.session {
            self.client.keep_small(session).await;
        }
        loop {
            let Some(connection) = &mut self.connection else {
                self.connect().await?;
                continue;
            };
            let patience = if connection.asked {
                ANSWER_MAX
            } else {
                QUIET_MAX
            };
            let next = tokio::time::timeout(patience, connection.socket.next());
            let frame = match next.await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => {
                    self.lose(error.into(), Fault::Faulty).await?;
                    continue;
                }
                Ok(None) => {
                    self.lose("the connection was closed".into(), Fault::Faulty)
                        .await?;
                    continue;
                }
                Err(_) if !connection.asked => {
                    connection.asked = true;
                    let ping = connection.socket.send(Frame::Ping(Bytes::new()));
                    // Where it cannot be sent, nothing will be heard either.
                    let _ = tokio::time::timeout(ANSWER_MAX, ping).await;
                    continue;
                }
                Err(_) => {
                    self.lose("it fell silent".into(), Fault::Gone).await?;
                    continue;
                }
            };
            connection.asked = false;
            connection.heard = true;
            connection.target.hear(None);
            self.tour = None;
            match frame {
                Frame::Text(text) => {
                    let event: Event =
                        serde_json::from_str(&text).map_err(|source| Error::Decode {
                            url: origin(&connection.target.url),
                            status: 0,
                            source: source.into(),
                        })?;
                    self.token.clone_from(&event.token);
                    if let (Some(session), Some(cursor)) = (&self.client.session, &event.cursor) {
                        session.add(cursor);
                    }
                    return Ok(event);
                }
                Frame::Close(frame) => {
                    let reason = frame.map_or_else(String::new, |frame| frame.reason.to_string());
                    self.lose(
                        format!("it closed the stream: {reason}").into(),
                        Fault::Faulty,
                    )
                    .await?;
                }
                // Pings are answered by the socket itself.
                Frame::Ping(_) | Frame::Pong(_) | Frame::Binary(_) | Frame::Frame(_) => {}
            }
        }
    }

    /// Leaves a connection. One that was good is simply made anew; else it counts as a failed try.
    async fn lose(
        &mut self,
        source: Box<dyn std::error::Error + Send + Sync>,
        fault: Fault,
    ) -> Result<(), Error> {
        let Some(connection) = self.connection.take() else {
            return Ok(());
        };
        let Connection {
            target,
            since,
            heard,
            ..
        } = connection;
        if fault == Fault::Gone {
            target.fail(fault);
        }
        if heard || since.elapsed() > SETTLED {
            self.tour = None;
            return Ok(());
        }
        let error = Error::Connection {
            url: origin(&target.url),
            source,
        };
        let failure = Failure {
            error,
            fault: Some(fault),
        };
        self.failed(&target, failure).await
    }

    async fn connect(&mut self) -> Result<(), Error> {
        loop {
            let shared = &self.client.shared;
            let tour = self.tour.get_or_insert_with(|| Tour::new(shared));
            let target = tour.next();
            let socket = tour.attempt(&target, connect(&self.client, &target, &self.token));
            match socket.await {
                Ok(socket) => {
                    self.region = target.name();
                    self.connection = Some(Connection {
                        socket,
                        target,
                        since: Instant::now(),
                        heard: false,
                        asked: false,
                    });
                    return Ok(());
                }
                Err(failure) => self.failed(&target, failure).await?,
            }
        }
    }

    /// Waits until another try may be made.
    async fn failed(&mut self, target: &Arc<Target>, failure: Failure) -> Result<(), Error> {
        let shared = &self.client.shared;
        let tour = self.tour.get_or_insert_with(|| Tour::new(shared));
        let waited = tour.failed(target, failure).await;
        if waited.is_err() {
            // Who asks again begins anew.
            self.tour = None;
        }
        waited
    }
}

async fn connect(client: &Client, target: &Target, token: &str) -> Result<Socket, Failure> {
    let mut url = target.url_of(["stream"])?;
    url.query_pairs_mut().append_pair("since", token);

    // Made with the HTTP client, which also has the certificates, and reads what a refusal says.
    let key = generate_key();
    let request = client
        .shared
        .http1
        .get(url.clone())
        .headers(client.headers())
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", &key);
    let timeout = client.shared.timeout;
    let response = tokio::time::timeout(timeout, request.send())
        .await
        .map_err(|elapsed| Error::Connection {
            url: origin(&url),
            source: elapsed.into(),
        })?
        .map_err(|error| connection(&url, error))?;
    let status = response.status();
    let region: Option<&HeaderValue> = response.headers().get(header::REGION);
    target.hear(region.and_then(|name| name.to_str().ok()));
    if status != StatusCode::SWITCHING_PROTOCOLS {
        let value: Option<&HeaderValue> = response.headers().get(header::RETRY_AFTER);
        let seconds = value.and_then(|v| v.to_str().ok()?.parse().ok());
        let body = response
            .bytes()
            .await
            .map_err(|error| connection(&url, error))?;
        return Err(refusal(&url, status.as_u16(), &body, seconds).into());
    }
    let accept = response.headers().get("sec-websocket-accept");
    if accept.is_none_or(|value| value.as_bytes() != derive_accept_key(key.as_bytes()).as_bytes()) {
        return Err(Error::Decode {
            url: origin(&url),
            status: status.as_u16(),
            source: "the WebSocket handshake does not match".into(),
        }
        .into());
    }
    let upgraded = response
        .upgrade()
        .await
        .map_err(|error| connection(&url, error))?;
    Ok(WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await)
}
