use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

pub(crate) struct Request {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Value,
}

pub(crate) enum Reply {
    Json(u16, Value),
    Replayed(u16, Value),
    /// With these headers, and none of its own.
    With(u16, Vec<(&'static str, String)>, Value),
    /// The same, later.
    Later(Duration, Box<Self>),
    /// Takes the WebSocket, sends these events and closes.
    Events(Vec<Value>),
    /// The same, and stays.
    Stay(Vec<Value>),
    /// The same, and says nothing more, not even to a ping.
    Mute(Vec<Value>),
    /// Never answers.
    Silence,
    /// Closes the connection without an answer.
    Hangup,
}

/// Method, path and idempotency key.
type Asked = (String, String, Option<String>);

pub(crate) struct Stub {
    pub(crate) url: String,
    pub(crate) asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Stub {
    /// As a SIGKILL: nobody listens any more, and all connections are lost.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// How often a path was asked for.
    pub(crate) fn count(&self, path: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|call| call.1 == path).count()
    }
}

/// Answers on a port of its own until the runtime ends.
pub(crate) async fn start(answer: impl FnMut(&Request) -> Reply + Send + 'static) -> Stub {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    start_on(listener, answer)
}

/// Answers on this one.
pub(crate) fn start_on(
    listener: TcpListener,
    answer: impl FnMut(&Request) -> Reply + Send + 'static,
) -> Stub {
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let answer = Arc::new(Mutex::new(answer));
    let seen = Arc::clone(&asked);
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
            connections.spawn(serve(socket, move |request: &Request| {
                seen.lock().unwrap().push((
                    request.method.clone(),
                    request.path.clone(),
                    request.headers.get("idempotency-key").cloned(),
                ));
                (answer.lock().unwrap())(request)
            }));
        }
    });
    Stub { url, asked, task }
}

async fn serve(socket: TcpStream, mut answer: impl FnMut(&Request) -> Reply) {
    let mut socket = BufStream::new(socket);
    while let Some(request) = read(&mut socket).await {
        let mut reply = answer(&request);
        while let Reply::Later(wait, then) = reply {
            tokio::time::sleep(wait).await;
            reply = *then;
        }
        let own = vec![
            ("whimbrel-cursor", "here".to_owned()),
            ("whimbrel-region", "stub".to_owned()),
        ];
        let (status, headers, body) = match reply {
            Reply::Json(status, body) => (status, own, body),
            Reply::Replayed(status, body) => {
                let replayed = ("idempotency-replayed", "true".to_owned());
                (status, [own, vec![replayed]].concat(), body)
            }
            Reply::With(status, headers, body) => (status, headers, body),
            Reply::Silence => std::future::pending().await,
            Reply::Hangup => return,
            Reply::Events(events) => {
                let mut socket = send_events(socket, &request, events).await;
                let _ = socket.close(None).await;
                return;
            }
            Reply::Stay(events) => {
                let mut socket = send_events(socket, &request, events).await;
                // Pings are answered by reading.
                while socket.next().await.is_some_and(|frame| frame.is_ok()) {}
                return;
            }
            Reply::Mute(events) => {
                let _socket = send_events(socket, &request, events).await;
                return std::future::pending().await;
            }
            Reply::Later(..) => unreachable!("it was waited for"),
        };
        let body = if status == 204 {
            String::new()
        } else {
            body.to_string()
        };
        let mut head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        // Who asked may have gone away.
        let sent = socket.write_all((head + "\r\n" + &body).as_bytes()).await;
        if sent.is_err() || socket.flush().await.is_err() {
            return;
        }
    }
}

async fn read(socket: &mut BufStream<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    socket
        .read_line(&mut line)
        .await
        .ok()
        .filter(|&read| read > 0)?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        socket.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers
        .get("content-length")
        .map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.ok()?;
    Some(Request {
        method,
        path,
        headers,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    })
}

async fn send_events(
    mut socket: BufStream<TcpStream>,
    request: &Request,
    events: Vec<Value>,
) -> WebSocketStream<BufStream<TcpStream>> {
    let accept = derive_accept_key(request.headers["sec-websocket-key"].as_bytes());
    let head = format!(
        "HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {accept}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.flush().await.unwrap();
    let mut socket = WebSocketStream::from_raw_socket(socket, Role::Server, None).await;
    for event in events {
        socket.send(Frame::text(event.to_string())).await.unwrap();
    }
    socket
}

pub(crate) fn message(id: &str, text: &str) -> Value {
    serde_json::json!({
        "id": id, "conversation": "c1", "position": format!("p-{id}"), "sender": "ana",
        "text": text, "revision": "r0", "edited": false, "merged": false, "redacted": false,
        "reply_to": null, "mentions": [], "reactions": {},
        "created_at": "2026-01-02T03:04:05.678Z", "region": "stub", "acked_by": ["stub"],
    })
}

pub(crate) fn conversation(id: &str) -> Value {
    serde_json::json!({
        "id": id, "kind": "channel", "title": null, "topic": null,
        "created_at": "2026-01-02T03:04:05.678Z", "creator": "import", "role": "owner",
        "cursor": "x",
    })
}

pub(crate) fn problem(status: u16, code: &str) -> Reply {
    Reply::Json(
        status,
        serde_json::json!({
            "type": "t", "title": "t", "status": status, "detail": "because", "code": code,
        }),
    )
}

/// What the region `this` tells of all.
pub(crate) fn regions(this: &str, all: &[(&str, &str)]) -> Reply {
    let all: Vec<_> = all
        .iter()
        .map(|(name, url)| serde_json::json!({"name": name, "url": url, "urls": [url], "status": "up"}))
        .collect();
    let region = vec![("whimbrel-region", this.to_owned())];
    Reply::With(
        200,
        region,
        serde_json::json!({"self": this, "regions": all}),
    )
}

/// Where nobody listens.
pub(crate) const NOBODY: &str = "http://127.0.0.1:1";
