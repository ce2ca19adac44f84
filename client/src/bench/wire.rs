//! A thin HTTP/1.1 client: one kept-alive connection, requests that are mostly made beforehand.
//!
//! The generator shares its machine with what it measures, so what it spends itself is missing
//! there. The SDK does for each call what a program for people needs and a load generator does not:
//! it builds the URL, picks a region, keeps a pool, retries and decodes. On two cores, with 64
//! posts under way, a post cost 128 us of processor time by the SDK, as the import makes it, and
//! 29 us by this.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use reqwest::Url;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::Error;
use crate::api::header;

/// How long a call may take before it counts as lost.
const CALL_MAX: Duration = Duration::from_secs(30);

/// Where requests go.
#[derive(Clone, Debug)]
pub(super) struct Server {
    url: Url,
    authority: String,
    host: HeaderValue,
}

impl Server {
    pub(super) fn new(url: &str) -> Result<Self, Error> {
        let refused = |why: &str| Error::config(format!("`{url}` is no URL to measure: {why}"));
        let parsed = Url::parse(url).map_err(|error| refused(&error.to_string()))?;
        if parsed.scheme() != "http" {
            return Err(refused(
                "only plain http:// is spoken here; go to the node itself, not to the proxy that \
                 ends TLS before it",
            ));
        }
        let host = parsed
            .host_str()
            .ok_or_else(|| refused("it names no host"))?;
        let port = parsed.port_or_known_default().unwrap_or(80);
        let authority = format!("{host}:{port}");
        let host = HeaderValue::from_str(&authority).map_err(|_| refused("a strange host"))?;
        Ok(Self {
            url: parsed,
            authority,
            host,
        })
    }

    /// The request target of a path.
    pub(super) fn target(&self, path: &[&str]) -> Result<Uri, Error> {
        self.target_with(path, &[])
    }

    /// The request target of a path and a query.
    pub(super) fn target_with(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Uri, Error> {
        let mut url = self.url.clone();
        url.path_segments_mut()
            .map_err(|()| Error::config("the URL of the region cannot have a path"))?
            .pop_if_empty()
            .extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut target = url.path().to_owned();
        if let Some(query) = url.query() {
            target.push('?');
            target.push_str(query);
        }
        target
            .parse()
            .map_err(|_| Error::config(format!("`{target}` cannot be asked for")))
    }

    fn lost(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Connection {
            url: format!("http://{}", self.authority),
            source: source.into(),
        }
    }
}

/// One connection. Lost, it is made anew by the next call.
pub(super) struct Line {
    server: Server,
    open: Option<Open>,
}

struct Open {
    sender: SendRequest<Full<Bytes>>,
    /// Moves the bytes; ends with us.
    _driver: JoinSet<()>,
}

impl Line {
    pub(super) async fn open(server: Server) -> Result<Self, Error> {
        let open = Some(connect(&server).await?);
        Ok(Self { server, open })
    }

    /// Sends a request and reads the whole answer.
    pub(super) async fn call(&mut self, request: Request<Full<Bytes>>) -> Result<Reply, Error> {
        // Taken out, so that a call that is given up takes its connection with it: the answer
        // may still come, and would be taken for that of the next call.
        let mut open = match self.open.take() {
            Some(open) if !open.sender.is_closed() => open,
            _ => connect(&self.server).await?,
        };
        let call = async {
            open.sender.ready().await?;
            let response = open.sender.send_request(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            Ok::<_, hyper::Error>(Reply { status, body })
        };
        let reply = timeout(CALL_MAX, call)
            .await
            .map_err(|elapsed| self.server.lost(elapsed))?
            .map_err(|error| self.server.lost(error))?;
        self.open = Some(open);
        Ok(reply)
    }

    /// A request with what all have, on behalf of whoever bears a token.
    pub(super) fn request(
        &self,
        method: Method,
        target: Uri,
        bearer: Option<HeaderValue>,
        body: Bytes,
    ) -> Request<Full<Bytes>> {
        let has_body = !body.is_empty();
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = target;
        let headers = request.headers_mut();
        headers.reserve(4);
        headers.insert(HOST, self.server.host.clone());
        if let Some(bearer) = bearer {
            headers.insert(AUTHORIZATION, bearer);
        }
        if has_body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        request
    }
}

/// Puts an idempotency key on a request.
pub(super) fn with_key(mut request: Request<Full<Bytes>>, key: String) -> Request<Full<Bytes>> {
    let key = HeaderValue::try_from(key).expect("keys of a run are plain ASCII");
    request.headers_mut().insert(header::IDEMPOTENCY_KEY, key);
    request
}

async fn connect(server: &Server) -> Result<Open, Error> {
    let dial = async {
        let stream = TcpStream::connect(&server.authority).await?;
        stream.set_nodelay(true)?;
        Ok::<_, std::io::Error>(stream)
    };
    let stream = timeout(CALL_MAX, dial)
        .await
        .map_err(|elapsed| server.lost(elapsed))?
        .map_err(|error| server.lost(error))?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| server.lost(error))?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // What went wrong is what the call under way says.
        let _ = connection.await;
    });
    Ok(Open {
        sender,
        _driver: driver,
    })
}

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Reply {
    /// Why it is no success.
    pub(super) fn refusal(&self) -> Refusal {
        #[derive(Deserialize)]
        struct Problem {
            code: String,
            #[serde(default)]
            detail: String,
            retry_after_ms: Option<u64>,
        }
        let status = self.status.as_u16();
        match serde_json::from_slice::<Problem>(&self.body) {
            Ok(problem) => Refusal {
                code: format!("{status} {}", problem.code),
                detail: problem.detail,
                retry_after: problem.retry_after_ms.map(Duration::from_millis),
            },
            Err(_) => Refusal {
                code: status.to_string(),
                detail: "an answer that is not of this API".to_owned(),
                retry_after: None,
            },
        }
    }

    /// The body, of a success.
    pub(super) fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Error> {
        if !self.status.is_success() {
            let Refusal { code, detail, .. } = self.refusal();
            return Err(Error::config(format!(
                "a call was refused: {detail} ({code})"
            )));
        }
        serde_json::from_slice(&self.body).map_err(|source| Error::Decode {
            url: "the region".to_owned(),
            status: self.status.as_u16(),
            source: source.into(),
        })
    }
}

/// Why a region did not do what was asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// HTTP status and code, e.g. `429 rate_limited`.
    pub(super) code: String,
    /// In the region's words.
    pub(super) detail: String,
    /// When to ask again.
    pub(super) retry_after: Option<Duration>,
}

impl Refusal {
    /// No answer came.
    pub(super) fn of(error: &Error) -> Self {
        let source = std::error::Error::source(error).map_or(String::new(), |s| format!(": {s}"));
        Self {
            code: "connection".to_owned(),
            detail: format!("{error}{source}"),
            retry_after: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_escaped() {
        let server = Server::new("http://127.0.0.1:7001/base/").unwrap();
        let target = server
            .target_with(&["v1", "a/b"], &[("before", "p q")])
            .unwrap();
        assert_eq!(target.to_string(), "/base/v1/a%2Fb?before=p+q");
        let plain = Server::new("http://[::1]:1").unwrap().target(&["healthz"]);
        assert_eq!(plain.unwrap().to_string(), "/healthz");
        for bad in ["https://a", "127.0.0.1:7001", "http://"] {
            assert!(Server::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn refusals_have_a_code() {
        let check = |status, body: &'static str, code: &str, wait| {
            let reply = Reply {
                status: StatusCode::from_u16(status).unwrap(),
                body: Bytes::from_static(body.as_bytes()),
            };
            let refusal = reply.refusal();
            assert_eq!(refusal.code, code);
            assert_eq!(refusal.retry_after, wait);
        };
        let limited = r#"{"code":"rate_limited","detail":"slow down","retry_after_ms":7}"#;
        let wait = Some(Duration::from_millis(7));
        check(429, limited, "429 rate_limited", wait);
        check(502, "<html>", "502", None);
    }
}
