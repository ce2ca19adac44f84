//! What stands around every request: shedding, counting, quotas.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use opentelemetry::context::FutureExt as _;
use utoipa::openapi::OpenApi;
use whimbrel_client::api::{ProblemCode, header as names};

use super::auth::Caller;
use super::request::{self, After};
use super::{App, Failure};
use crate::config::Limits;
use crate::trace;

/// Users whose quota is remembered before full ones are let go.
const QUOTA_USERS_MAX: usize = 100_000;

/// Writes per user.
#[derive(Debug)]
pub struct Quotas {
    limiter: DefaultKeyedRateLimiter<String>,
    per_second: u32,
    clock: DefaultClock,
}

impl Quotas {
    /// With the configured rate and burst.
    pub fn new(limits: &Limits) -> Self {
        let rate = NonZeroU32::new(limits.writes_per_second).unwrap_or(NonZeroU32::MIN);
        let burst = NonZeroU32::new(limits.write_burst).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(rate).allow_burst(burst);
        Self {
            limiter: RateLimiter::keyed(quota),
            per_second: rate.get(),
            clock: DefaultClock::default(),
        }
    }

    /// Takes one write off the caller's quota. Services are exempt.
    pub fn take(&self, caller: &Caller) -> Result<(), Failure> {
        if caller.is_service {
            return Ok(());
        }
        let taken = self.limiter.check_key(&caller.user);
        if self.limiter.len() > QUOTA_USERS_MAX {
            self.limiter.retain_recent();
        }
        taken.map_err(|until| {
            let wait = until.wait_time_from(self.clock.now());
            let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
            let detail = format!("more than {} writes a second; slow down", self.per_second);
            Failure::new(ProblemCode::RateLimited, detail).retry_after_ms(ms)
        })
    }
}

/// Open streams per user.
#[derive(Debug)]
pub struct Connections {
    open: Mutex<HashMap<String, usize>>,
    per_user: usize,
}

/// One open stream; dropped, it frees its place.
#[derive(Debug)]
pub struct Connection {
    app: Arc<App>,
    user: String,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl Connections {
    /// With the configured limit.
    pub fn new(limits: &Limits) -> Self {
        Self {
            open: Mutex::default(),
            per_user: limits.connections_per_user,
        }
    }

    /// Takes a place.
    pub fn open(app: &Arc<App>, caller: &Caller) -> Result<Connection, Failure> {
        let connections = &app.connections;
        let mut open = connections
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(caller.user.clone()).or_default();
        if *count >= connections.per_user && !caller.is_service {
            return Err(Failure::new(
                ProblemCode::RateLimited,
                format!(
                    "more than {} open streams; close one first",
                    connections.per_user
                ),
            ));
        }
        *count += 1;
        app.metrics.streams.inc();
        Ok(Connection {
            app: app.clone(),
            user: caller.user.clone(),
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut open = self
            .app
            .connections
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.user);
            }
        }
        self.app.metrics.streams.dec();
    }
}

/// Shows that no call has failed yet: of a counter that begins with its first failure nobody can tell
/// that it rose.
pub(super) fn show_nothing_failed(app: &App, document: &OpenApi) {
    for (path, item) in &document.paths.paths {
        let methods = [
            ("DELETE", &item.delete),
            ("GET", &item.get),
            ("PATCH", &item.patch),
            ("POST", &item.post),
            ("PUT", &item.put),
        ];
        for (method, _) in methods.iter().filter(|(_, call)| call.is_some()) {
            for status in ["500", "503"] {
                let labels = [path.as_str(), method, status];
                app.metrics.requests.with_label_values(&labels);
            }
        }
    }
}

/// Follows a request from its first to its last word.
pub(super) async fn around(
    State(app): State<Arc<App>>,
    path: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let mut route = path.map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    // What it waits for are other regions: that says nothing about this one.
    if asks_other_regions(request.uri()) {
        route += "?ack=regions";
    }
    let (method, started) = (request.method().clone(), Instant::now());
    let traced = trace::begin(request.headers(), method.as_str(), &route);
    let mut response = answer(&app, &route, request, next)
        .with_context(traced.clone())
        .await;
    let (id, status) = (trace::id(&traced), response.status());
    trace::end(&traced, status);
    let took = started.elapsed();
    tracing::debug!(request = %id, %method, route, status = status.as_u16(), ?took, "answered");
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(names::REQUEST, id);
    }
    app.metrics
        .requests
        .with_label_values(&[&route, method.as_str(), status.as_str()])
        .inc();
    if !waits(&route) {
        app.metrics
            .request_seconds
            .with_label_values(&[&route, method.as_str()])
            .observe(took.as_secs_f64());
    }
    response
}

/// Long polls and streams are bounded per user instead of all together: they wait, they don't work.
fn waits(route: &str) -> bool {
    matches!(route, "/v1/sync" | "/v1/stream")
}

/// Sheds what is too much, answers panics with 500, and names the region.
async fn answer(app: &Arc<App>, route: &str, request: Request, next: Next) -> Response {
    // Whether it can be read is said by the calls that wait for it.
    let after = After::read(request.headers()).ok().flatten();
    let is_of_state = !matches!(route, "/v1/regions" | "/v1/openapi.json" | "none");
    let mut response = if is_of_state && !app.shows() {
        Failure::catching_up().into_response()
    } else if waits(route) {
        guarded(request, next).await
    } else {
        match request::buffer(request, app.limits.body_bytes).await {
            Ok(request) => {
                if let Some(cursor) = &after
                    && request.method() == Method::GET
                    && app.auth.caller(request.headers()).is_ok()
                {
                    After::wait(app, cursor).await;
                }
                in_turn(app, request, next).await
            }
            Err(failure) => failure.into_response(),
        }
    };
    if let Ok(region) = HeaderValue::from_str(&app.identity.own_name()) {
        response.headers_mut().insert(names::REGION, region);
    }
    if let Some(given) = after
        && response.status().is_success()
    {
        After::put_joined(given, response.headers_mut());
    }
    if response.status() == 429 {
        let headers = response.headers_mut();
        headers.insert(
            names::RATE_LIMIT_LIMIT,
            HeaderValue::from(app.limits.writes_per_second),
        );
        headers.insert(names::RATE_LIMIT_REMAINING, HeaderValue::from(0));
        let reset = headers.get(names::RETRY_AFTER).cloned();
        headers.insert(
            names::RATE_LIMIT_RESET,
            reset.unwrap_or(HeaderValue::from(1)),
        );
    }
    response
}

fn asks_other_regions(uri: &Uri) -> bool {
    let query = uri.query().unwrap_or_default().as_bytes();
    form_urlencoded::parse(query)
        .any(|(name, value)| name == "ack" && value.starts_with("regions:"))
}

/// Answers the request if it finds a place among those that are under way.
async fn in_turn(app: &App, request: Request, next: Next) -> Response {
    let Ok(_permit) = app.in_flight.try_acquire() else {
        app.metrics.shed.inc();
        let detail = "too many requests are under way; retry shortly";
        return Failure::new(ProblemCode::Overloaded, detail).into_response();
    };
    let _counted = UnderWay::count(&app.metrics.in_flight);
    guarded(request, next).await
}

/// Counts down also where the client goes away.
struct UnderWay<'a>(&'a prometheus::IntGauge);

impl<'a> UnderWay<'a> {
    fn count(gauge: &'a prometheus::IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

async fn guarded(request: Request, next: Next) -> Response {
    let run = std::panic::AssertUnwindSafe(next.run(request));
    match run.catch_unwind().await {
        Ok(response) => response,
        // The panic hook has logged where.
        Err(_) => Failure::internal(&"a handler panicked").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_post_that_waits_for_other_regions_is_told_apart() {
        for (uri, expected) in [
            ("/v1/conversations/c/messages?ack=regions:2", true),
            ("/v1/conversations/c/messages?ack=regions%3A2", true),
            ("/v1/conversations/c/messages?ack=local", false),
            ("/v1/conversations/c/messages?back=regions:2", false),
            ("/v1/conversations/c/messages", false),
        ] {
            assert_eq!(
                asks_other_regions(&Uri::from_static(uri)),
                expected,
                "{uri}"
            );
        }
    }
}
