//! Reading requests: bodies, queries, paths and headers, each bounded, each error with its field.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use rand::Rng as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use whimbrel_client::api::{ProblemCode, header as names, limits};
use whimbrel_replication::cursor::Cursor;
use whimbrel_replication::error::DecodeError;
use whimbrel_replication::limits::CURSOR_TEXT_BYTES_MAX;

use super::{App, Failure};
use crate::batcher::Written;

/// How much of an over-long body is read before it is refused, so that clients can read the answer.
const DRAIN_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long a body may take to arrive: a slow sender must not hold a place for ever.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a read waits for what it must include.
pub(super) const CAUGHT_UP_TIMEOUT: Duration = Duration::from_secs(2);
/// All cursors of a request together.
const AFTER_BYTES_MAX: usize = limits::AFTER_BYTES_MAX;
const _: () = assert!(limits::CURSOR_BYTES_MAX == CURSOR_TEXT_BYTES_MAX);

/// A JSON body. A missing one counts as `{}`.
pub(super) struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        // Bounded already, when it was buffered.
        let bytes = read_body(body, app.limits.body_bytes).await?;
        if bytes.is_empty() {
            return parse(b"{}").map(Json);
        }
        let media_type = parts
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok());
        let media_type = media_type.and_then(|v| v.split(';').next()).map(str::trim);
        if !media_type.is_some_and(|m| m.eq_ignore_ascii_case("application/json")) {
            return Err(Failure::new(
                ProblemCode::UnsupportedMediaType,
                "send the body with `Content-Type: application/json`",
            ));
        }
        parse(&bytes).map(Json)
    }
}

/// For calls that take no body: an empty object is fine, anything in it is refused by name.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// Reads a body before its request takes one of the places that are limited: a slow sender must not
/// hold them.
pub(super) async fn buffer(request: Request, limit: usize) -> Result<Request, Failure> {
    let (parts, body) = request.into_parts();
    let bytes = tokio::time::timeout(BODY_TIMEOUT, read_body(body, limit))
        .await
        .map_err(|_| Failure::malformed("body", "did not arrive in time"))??;
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

async fn read_body(body: Body, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::new();
    let mut total = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Failure::malformed("body", "it ended too early"))?;
        total += chunk.len();
        if total <= limit {
            bytes.extend_from_slice(&chunk);
        } else if total > limit + DRAIN_BYTES_MAX {
            break;
        }
    }
    if total > limit {
        let detail = format!("the body has more than {limit} bytes, the limit");
        return Err(Failure::new(ProblemCode::TooLarge, detail));
    }
    Ok(bytes)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    // Serde would take an array for an object.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(Failure::rule("body", "must be a JSON object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let message = inner.to_string();
        // Serde calls some values of a wrong type a syntax error.
        let is_json = || serde_json::from_slice::<serde_json::Value>(bytes).is_ok();
        if !inner.is_data() && !is_json() {
            return Failure::malformed("body", format!("not valid JSON: {message}"));
        }
        // Serde names a missing or unknown field in its message only.
        let named = message
            .split('`')
            .nth(1)
            .filter(|_| message.contains(" field `"));
        let field = match (path.as_str(), named) {
            ("." | "?", Some(field)) => field.to_owned(),
            (".", None) => "body".to_owned(),
            (path, Some(field)) if !path.ends_with(field) => format!("{path}.{field}"),
            (path, _) => path.to_owned(),
        };
        Failure::rule(&field, message)
    })?;
    reader
        .end()
        .map_err(|error| Failure::malformed("body", format!("not valid JSON: {error}")))?;
    Ok(parsed)
}

/// Path parameters.
pub(super) struct Params<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<App>> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        let path: Result<Path<T>, PathRejection> = Path::from_request_parts(parts, app).await;
        path.map(|Path(params)| Self(params))
            .map_err(|error| Failure::malformed("path", error.body_text()))
    }
}

/// Parses an id, position or cursor.
pub(super) fn id<T: std::str::FromStr<Err = DecodeError>>(
    field: &str,
    text: &str,
) -> Result<T, Failure> {
    text.parse()
        .map_err(|error: DecodeError| Failure::malformed(field, error.to_string()))
}

/// Query parameters, each at most once and all of them known.
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    /// Reads the query.
    pub(super) fn read(parts: &Parts, known: &[&str]) -> Result<Self, Failure> {
        let mut found = BTreeMap::new();
        let query = parts.uri.query().unwrap_or_default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if !known.contains(&&*name) {
                let message = if known.is_empty() {
                    "there is no such query parameter; this call takes none".to_owned()
                } else {
                    format!(
                        "there is no such query parameter; known: {}",
                        known.join(", ")
                    )
                };
                return Err(Failure::malformed(&name, message));
            }
            if found
                .insert(name.clone().into_owned(), value.into_owned())
                .is_some()
            {
                return Err(Failure::malformed(&name, "given twice"));
            }
        }
        Ok(Self(found))
    }

    /// A parameter's text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A whole number within bounds; never clamped.
    pub(super) fn number(&self, name: &str, bounds: (u64, u64)) -> Result<Option<u64>, Failure> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let number = text
            .parse::<u64>()
            .ok()
            .filter(|n| *n >= bounds.0 && *n <= bounds.1);
        number.map(Some).ok_or_else(|| {
            let message = format!("must be a whole number from {} to {}", bounds.0, bounds.1);
            Failure::malformed(name, message)
        })
    }

    /// How many items a page may have.
    pub(super) fn page_limit(&self) -> Result<usize, Failure> {
        let bounds = (1, u64::from(limits::PAGE_ITEMS_MAX));
        let limit = self.number("limit", bounds)?;
        let limit = limit.unwrap_or(limits::PAGE_ITEMS_DEFAULT.into());
        Ok(usize::try_from(limit).unwrap_or(usize::MAX))
    }
}

/// Refuses every query parameter: for calls that take none.
pub struct NoQuery;

impl FromRequestParts<Arc<App>> for NoQuery {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Failure> {
        Query::read(parts, &[]).map(|_| Self)
    }
}

/// The caller's idempotency key, or a new one.
pub(super) struct IdempotencyKey(pub String);

impl FromRequestParts<Arc<App>> for IdempotencyKey {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Failure> {
        let Some(value) = parts.headers.get(names::IDEMPOTENCY_KEY) else {
            let random: u128 = rand::rng().random();
            return Ok(Self(format!("{random:032x}")));
        };
        let text = value.to_str().ok().filter(|text| {
            (1..=limits::IDEMPOTENCY_KEY_BYTES_MAX).contains(&text.len())
                && text.bytes().all(|b| (b' '..=b'~').contains(&b))
        });
        text.map(|text| Self(text.to_owned())).ok_or_else(|| {
            let max = limits::IDEMPOTENCY_KEY_BYTES_MAX;
            let message = format!("must be 1 to {max} printable ASCII characters");
            Failure::malformed("Idempotency-Key", message)
        })
    }
}

/// A read must include what `Whimbrel-After` names: waits for it, or says what is missing.
pub(super) struct After;

impl FromRequestParts<Arc<App>> for After {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        let Some(cursor) = Self::read(&parts.headers)? else {
            return Ok(Self);
        };
        // It was waited for before the request took its place.
        let waited = app.tailers.wait_for(&cursor, Duration::ZERO).await;
        waited
            .map(|()| Self)
            .map_err(|missing| not_caught_up(app, &cursor, &missing))
    }
}

impl After {
    /// What the header names: the join of its cursors, which are comma-separated.
    pub(super) fn read(headers: &HeaderMap) -> Result<Option<Cursor>, Failure> {
        const NAME: &str = "Whimbrel-After";
        let mut given: Option<Cursor> = None;
        let mut bytes = 0;
        for line in headers.get_all(names::AFTER) {
            let line = line.to_str().unwrap_or_default();
            bytes += line.len();
            if bytes > AFTER_BYTES_MAX {
                let message =
                    format!("has more than {AFTER_BYTES_MAX} bytes, the limit; name fewer cursors");
                return Err(Failure::malformed(NAME, message));
            }
            for text in line.split(',') {
                let cursor = id(NAME, text.trim())?;
                given.get_or_insert_default().join(&cursor);
            }
        }
        Ok(given)
    }

    /// Waits for what was named, if this region can ever hold it.
    pub(super) async fn wait(app: &App, cursor: &Cursor) {
        let is_known = |region| app.identity.regions.contains_key(&region);
        let origins = cursor.iter().flat_map(|(_, part)| part.iter());
        if origins.map(|(origin, _)| origin.region).all(is_known) {
            // Whether it came is asked again when the request is read.
            let _ = app.tailers.wait_for(cursor, CAUGHT_UP_TIMEOUT).await;
        }
    }

    /// Names what was given and what the answer covers in one cursor: so a client that carries
    /// several need not carry them for ever.
    pub(super) fn put_joined(mut given: Cursor, headers: &mut HeaderMap) {
        let shown = headers.get(names::CURSOR).and_then(|v| v.to_str().ok());
        if let Some(shown) = shown.and_then(|text| text.parse().ok()) {
            given.join(&shown);
        }
        let joined = given.to_string();
        // One that we would not take back is of no use.
        if joined.len() <= CURSOR_TEXT_BYTES_MAX
            && let Ok(value) = HeaderValue::from_str(&joined)
        {
            headers.insert(names::JOINED, value);
        }
    }
}

fn not_caught_up(
    app: &App,
    cursor: &Cursor,
    missing: &[whimbrel_replication::id::Origin],
) -> Failure {
    let mut regions: Vec<String> = missing
        .iter()
        .map(|origin| app.identity.region_name(origin.region))
        .collect();
    regions.dedup();
    let detail = format!(
        "this region waits for what {} committed; go on with `available`, or retry",
        regions.join(", ")
    );
    let mut failure = Failure::new(ProblemCode::NotCaughtUp, detail);
    failure.0.waiting_for = regions;
    failure.0.available = Some(available(app, cursor).to_string());
    failure
}

/// The part of a cursor that this region holds.
pub(super) fn available(app: &App, cursor: &Cursor) -> Cursor {
    let held = app.tailers.held_all();
    cursor
        .iter()
        .map(|(shard, wanted)| {
            (
                shard,
                wanted.capped_at(&held.shard(shard).cloned().unwrap_or_default()),
            )
        })
        .collect()
}

/// A JSON answer with a cursor that covers it.
pub(super) fn answer<T: Serialize>(status: u16, body: &T, cursor: Option<&Cursor>) -> Response {
    let body = match serde_json::to_vec(body) {
        Ok(body) => body,
        Err(error) => return Failure::internal(&error).into_response(),
    };
    let status = axum::http::StatusCode::from_u16(status).unwrap_or_default();
    let mut response = (status, body).into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    put_cursor(response.headers_mut(), cursor);
    response
}

/// An answer to a write: replays say so.
pub(super) fn answer_written<T: Serialize>(
    status: u16,
    body: Option<&T>,
    written: &Written,
) -> Response {
    let mut response = match body {
        Some(body) => answer(status, body, Some(&written.cursor)),
        None => {
            let mut response = axum::http::StatusCode::NO_CONTENT.into_response();
            put_cursor(response.headers_mut(), Some(&written.cursor));
            response
        }
    };
    if written.done.replayed {
        let yes = HeaderValue::from_static("true");
        response
            .headers_mut()
            .insert(names::IDEMPOTENCY_REPLAYED, yes);
    }
    response
}

fn put_cursor(headers: &mut HeaderMap, cursor: Option<&Cursor>) {
    if let Some(value) = cursor.and_then(|c| HeaderValue::from_str(&c.to_string()).ok()) {
        headers.insert(names::CURSOR, value);
    }
}
