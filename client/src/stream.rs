//! The stream of events, and how it goes on when a connection is lost.

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::header::{CONNECTION, HeaderValue, UPGRADE};
use reqwest::{StatusCode, Upgraded, Url};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Bytes, Message as Frame};

use crate::api::{Event, header};
use crate::client::Client;
use crate::request::{connection, origin, refusal, retry_after};
use crate::{Error, RetryPolicy};

/// So long with nothing heard, we ask whether the other end is still there; again so long, and it
/// is not.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// A connection that lasted so long was a good one, even where nothing was heard.
const SETTLED: Duration = Duration::from_secs(10);

type Socket = WebSocketStream<Upgraded>;

/// Events of all the caller's conversations. Lost connections are made anew and resume after the
/// last event, with no gap and no duplicate.
pub struct EventStream {
    client: Client,
    token: String,
    socket: Option<Socket>,
    /// A ping of ours is under way.
    asked: bool,
    /// When the connection was made.
    connected: Instant,
    /// Tries to connect in a row after which nothing was heard, and since when.
    tries: u32,
    trying_since: Instant,
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
            socket: None,
            asked: false,
            connected: Instant::now(),
            tries: 0,
            trying_since: Instant::now(),
        };
        stream.reconnect().await?;
        Ok(stream)
    }

    /// Resumes after the last event that [`EventStream::next`] gave, in any region.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The next event. After a transient error it may be called again, and goes on trying. Safe to
    /// drop half-way: no event is lost.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            let Some(socket) = &mut self.socket else {
                self.reconnect().await?;
                continue;
            };
            let frame = match tokio::time::timeout(SILENCE_MAX, socket.next()).await {
                Ok(Some(Ok(frame))) => frame,
                Err(_) if !self.asked => {
                    self.asked = true;
                    if socket.send(Frame::Ping(Bytes::new())).await.is_err() {
                        self.lose();
                    }
                    continue;
                }
                Ok(Some(Err(_)) | None) | Err(_) => {
                    self.lose();
                    continue;
                }
            };
            self.asked = false;
            self.tries = 0;
            match frame {
                Frame::Text(text) => {
                    let event: Event =
                        serde_json::from_str(&text).map_err(|source| Error::Decode {
                            url: origin(self.client.shared.regions.preferred()),
                            status: 0,
                            source: source.into(),
                        })?;
                    self.token.clone_from(&event.token);
                    return Ok(event);
                }
                Frame::Close(_) => self.lose(),
                // Pings are answered by the socket itself.
                Frame::Ping(_) | Frame::Pong(_) | Frame::Binary(_) | Frame::Frame(_) => {}
            }
        }
    }

    fn lose(&mut self) {
        self.socket = None;
        self.asked = false;
        if self.connected.elapsed() > SETTLED {
            self.tries = 0;
        }
    }

    async fn reconnect(&mut self) -> Result<(), Error> {
        let policy: RetryPolicy = self.client.shared.retry;
        let mut asked_to_wait = None;
        loop {
            if self.tries == 0 {
                self.trying_since = Instant::now();
            } else {
                // Also where a connection was made and closed at once.
                let delay = policy.next(
                    self.tries - 1,
                    self.trying_since.elapsed(),
                    asked_to_wait,
                    rand::random(),
                );
                tokio::time::sleep(delay.unwrap_or(policy.delay_max)).await;
            }
            self.tries = self.tries.saturating_add(1);
            let error = match connect(&self.client, &self.token).await {
                Ok(socket) => {
                    self.socket = Some(socket);
                    self.connected = Instant::now();
                    return Ok(());
                }
                Err(error) => error,
            };
            if !error.is_transient() || self.trying_since.elapsed() > policy.give_up_after {
                self.tries = 0;
                return Err(error);
            }
            asked_to_wait = retry_after(&error);
        }
    }
}

async fn connect(client: &Client, token: &str) -> Result<Socket, Error> {
    let mut url: Url = client.shared.regions.preferred().clone();
    url.path_segments_mut()
        .map_err(|()| Error::config("the URL of the region cannot have a path"))?
        .pop_if_empty()
        .extend(["v1", "stream"]);
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
    if status != StatusCode::SWITCHING_PROTOCOLS {
        let value: Option<&HeaderValue> = response.headers().get(header::RETRY_AFTER);
        let seconds = value.and_then(|v| v.to_str().ok()?.parse().ok());
        let body = response
            .bytes()
            .await
            .map_err(|error| connection(&url, error))?;
        return Err(refusal(&url, status.as_u16(), &body, seconds));
    }
    let accept = response.headers().get("sec-websocket-accept");
    if accept.is_none_or(|value| value.as_bytes() != derive_accept_key(key.as_bytes()).as_bytes()) {
        return Err(Error::Decode {
            url: origin(&url),
            status: status.as_u16(),
            source: "the WebSocket handshake does not match".into(),
        });
    }
    let upgraded = response
        .upgrade()
        .await
        .map_err(|error| connection(&url, error))?;
    Ok(WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await)
}
