//! `/v1/sync`: the stream as a long poll.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::request::Parts;
use axum::response::Response;
use whimbrel_client::api::openapi::{self as form, Token, WaitMs};
use whimbrel_client::api::{self, limits};
use whimbrel_replication::cursor::Cursor;

use super::auth::Caller;
use super::limit::Connections;
use super::problems::SlowDown;
use super::request::{Query, answer, id};
use super::{App, Failure};
use crate::session::{Session, SessionEnd};
use whimbrel_client::api::ProblemCode;

/// Events of one answer; the rest comes with the next.
const EVENTS_MAX: usize = 500;

impl From<SessionEnd> for Failure {
    fn from(end: SessionEnd) -> Self {
        match end {
            SessionEnd::Store(error) => error.into(),
            end => Self::new(ProblemCode::Overloaded, end.to_string()),
        }
    }
}

/// Events by long poll
///
/// Answers with the next events of all conversations of the user as soon as there are any.
/// Without `since`: no events, and the token of now.
#[utoipa::path(
    get,
    path = "/v1/sync",
    operation_id = "sync",
    tag = "events",
    params(
        ("since" = Option<Token>, Query, description = "`token` of an event or of an answer"),
        ("wait" = Option<WaitMs>, Query, description = "How long to wait for an event"),
    ),
    responses(
        (
            status = 200,
            description = "Events, and from where to go on",
            body = api::Sync,
            headers(("Whimbrel-Cursor" = form::Cursor, description = "Without `since`: the token")),
        ),
        (status = 429, response = SlowDown),
    ),
)]
pub(super) async fn sync(
    State(app): State<Arc<App>>,
    caller: Caller,
    parts: Parts,
) -> Result<Response, Failure> {
    let query = Query::read(&parts, &["since", "wait"])?;
    let since: Option<Cursor> = query.text("since").map(|t| id("since", t)).transpose()?;
    let wait = query
        .number("wait", (0, limits::SYNC_WAIT_MS_MAX))?
        .unwrap_or(0);
    let Some(since) = since else {
        let token = app.tailers.held_all();
        let sync = api::Sync {
            events: Vec::new(),
            token: token.to_string(),
        };
        return Ok(answer(200, &sync, Some(&token)));
    };
    let _connection = Connections::open(&app, &caller)?;
    let deadline = tokio::time::Instant::now() + Duration::from_millis(wait);
    let mut session = Session::open(app.session_context(), caller.user, Some(since)).await?;
    let mut events = Vec::new();
    loop {
        while events.len() < EVENTS_MAX
            && let Some(event) = session.next_missed().await?
        {
            events.push(event);
        }
        if events.len() == EVENTS_MAX {
            break;
        }
        if let Some(event) = session.try_recv() {
            session.take(&event).await.map_err(SessionEnd::Store)?;
            continue;
        }
        // That this region is behind is no reason to come back at once.
        let is_news = |event: &api::Event| !matches!(event.kind, api::EventKind::Behind { .. });
        if events.iter().any(is_news) {
            break;
        }
        tokio::select! {
            () = app.shutdown.cancelled() => break,
            () = tokio::time::sleep_until(deadline) => break,
            event = session.recv() => {
                session.take(&*event?).await.map_err(SessionEnd::Store)?;
            }
        }
    }
    let token = match events.last() {
        Some(last) if events.len() == EVENTS_MAX => last.token.clone(),
        _ => session.token().to_string(),
    };
    Ok(answer(200, &api::Sync { events, token }, None))
}
