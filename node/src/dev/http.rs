//! A small HTTP client, for the regions of this machine: a connection for each call.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, Request, Response, header};
use bytes::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// The largest answer that is read: more than a page of the longest messages.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Gets what stands at a path.
pub(super) async fn get(
    from: SocketAddr,
    path: &str,
    within: Duration,
) -> anyhow::Result<Response<Bytes>> {
    let request = Request::get(path).body(Body::empty());
    call(from, request.context("no such path")?, within).await
}

/// Sends a request, whose URI is the path alone, and reads the whole answer within a time.
pub(super) async fn call(
    to: SocketAddr,
    request: Request<Body>,
    within: Duration,
) -> anyhow::Result<Response<Bytes>> {
    timeout(within, exchange(to, request))
        .await
        .with_context(|| format!("{to} did not answer within {} s", within.as_secs()))?
}

async fn exchange(to: SocketAddr, mut request: Request<Body>) -> anyhow::Result<Response<Bytes>> {
    let host = HeaderValue::try_from(to.to_string()).context("an address is a header")?;
    request.headers_mut().insert(header::HOST, host);
    let stream = TcpStream::connect(to)
        .await
        .with_context(|| format!("{to} cannot be reached"))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let answer = sender
        .send_request(request)
        .await
        .with_context(|| format!("{to} gave no answer"))?;
    let (head, body) = answer.into_parts();
    let body = to_bytes(Body::new(body), ANSWER_BYTES_MAX)
        .await
        .with_context(|| format!("the answer of {to} broke off"))?;
    Ok(Response::from_parts(head, body))
}
