//! Read markers, receipts, typing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::Response;
use whimbrel_client::api::{self, ProblemCode};
use whimbrel_replication::cursor::{Cursor, ShardCursor};
use whimbrel_replication::id::OpStamp;
use whimbrel_replication::op::Standing;

use super::auth::Caller;
use super::conversations::{command, see};
use super::params::InConversation;
use super::problems::Missing;
use super::request::{
    After, CAUGHT_UP_TIMEOUT, IdempotencyKey, Json, NoQuery, Nothing, Params, answer,
    answer_written, id,
};
use super::{App, Failure};
use crate::apply::{corrupt, held};
use crate::command::{Action, Answer, Refusal};
use crate::event::{Event, EventKind, last_covered, unread};
use crate::store::{RangeOptions, RunOptions, StoreError, Transaction};

/// Mark as read
///
/// Waits up to two seconds until this region holds what the cursor covers, then marks what it
/// holds. The cursor of the answer says what was marked.
#[utoipa::path(
    put,
    path = "/v1/conversations/{conversation}/read",
    operation_id = "markRead",
    tag = "reading",
    params(
        InConversation,
        IdempotencyKey,
    ),
    request_body = api::MarkRead,
    responses(
        (status = 200, description = "What was marked, and what is left", body = api::ReadMarked),
        (status = 404, response = Missing),
    ),
)]
pub(super) async fn mark_read(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: NoQuery,
    Params(path): Params<InConversation>,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<api::MarkRead>,
) -> Result<Response, Failure> {
    app.quotas.take(&caller)?;
    let scope = app.identity.scope(id("conversation", &path.conversation)?);
    let cursor: Cursor = id("cursor", &body.cursor)?;
    let Some(marker) = cursor.shard(scope.shard).cloned() else {
        let message = "is not of this conversation; take it from one of its pages or events";
        return Err(Failure::rule("cursor", message));
    };
    // What this region does not hold in time is left out; the answer says what was marked.
    let wanted = Cursor::of(scope.shard, marker.clone());
    let _ = app.tailers.wait_for(&wanted, CAUGHT_UP_TIMEOUT).await;
    let command = command(&caller, key, scope.conversation, Action::Read { marker });
    let written = app.batchers.write(app.identity.shards, command).await?;
    let Answer::Marker(marker) = &written.done.answer else {
        return Err(Failure::internal(&"marking as read gave no marker"));
    };
    let (user, own) = (&caller.user, app.identity.origin);
    let read = |tx: Arc<Transaction>| async move {
        let held = held(&tx, scope.shard, own).await?;
        unread(&tx, &scope, &held, user, None).await
    };
    let unread = app.store.read(RunOptions::default(), read).await?;
    let marked = api::ReadMarked {
        cursor: Cursor::of(scope.shard, marker.clone()).to_string(),
        unread: unread.messages,
        mentions: unread.mentions,
    };
    Ok(answer_written(200, Some(&marked), &written))
}

/// Who has read what
#[utoipa::path(
    get,
    path = "/v1/conversations/{conversation}/receipts",
    operation_id = "listReceipts",
    tag = "reading",
    params(
        InConversation,
        After,
    ),
    responses(
        (status = 200, description = "The read markers", body = api::Receipts),
        (status = 404, response = Missing),
    ),
)]
pub(super) async fn receipts(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: NoQuery,
    _: After,
    Params(path): Params<InConversation>,
) -> Result<Response, Failure> {
    let scope = app.identity.scope(id("conversation", &path.conversation)?);
    let (caller, own) = (&caller, app.identity.origin);
    let read = |tx: Arc<Transaction>| async move {
        if let Err(refusal) = see(&tx, &scope, caller).await? {
            return Ok(Err(refusal));
        }
        let (begin, end) = scope.markers();
        let options = RangeOptions {
            snapshot: true,
            ..RangeOptions::default()
        };
        let mut markers: BTreeMap<String, ShardCursor> = BTreeMap::new();
        for (key, value) in tx.range_all(&begin, &end, options).await? {
            let (user, origin) = scope.marker_parts(&key).map_err(corrupt)?;
            let at = OpStamp::try_from(&value[..]).map_err(corrupt)?;
            markers.entry(user).or_default().advance(origin, at);
        }
        let mut receipts = Vec::with_capacity(markers.len());
        for (user, marker) in markers {
            let message = last_covered(&tx, &scope, &marker).await?;
            receipts.push(api::Receipt {
                user,
                cursor: Cursor::of(scope.shard, marker).to_string(),
                message: message.map(|(_, id)| id.to_string()),
            });
        }
        let held = held(&tx, scope.shard, own).await?;
        Ok::<_, StoreError>(Ok((
            api::Receipts { receipts },
            Cursor::of(scope.shard, held),
        )))
    };
    let (receipts, cursor) = app.store.read(RunOptions::default(), read).await??;
    Ok(answer(200, &receipts, Some(&cursor)))
}

/// I am typing
///
/// Never stored; it may be lost.
#[utoipa::path(
    post,
    path = "/v1/conversations/{conversation}/typing",
    operation_id = "sendTyping",
    tag = "reading",
    params(
        InConversation,
    ),
    responses(
        (status = 204, description = "Passed on to the streams of this region"),
        (status = 404, response = Missing),
    ),
)]
pub(super) async fn typing(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: NoQuery,
    Params(path): Params<InConversation>,
    Json(Nothing {}): Json<Nothing>,
) -> Result<axum::http::StatusCode, Failure> {
    app.quotas.take(&caller)?;
    let scope = app.identity.scope(id("conversation", &path.conversation)?);
    let caller_ref = &caller;
    let read = |tx: Arc<Transaction>| async move { see(&tx, &scope, caller_ref).await };
    let visible = app.store.read(RunOptions::default(), read).await?;
    let visible = visible.map_err(|refusal: Refusal| Failure::from(refusal))?;
    if !visible.standing.is_some_and(Standing::is_in) {
        return Err(Failure::new(
            ProblemCode::Forbidden,
            "join first: only members type",
        ));
    }
    let kind = EventKind::Typing { user: caller.user };
    app.tailers.pass(
        scope.shard,
        Event {
            scope,
            place: None,
            read_at: Instant::now(),
            kind,
        },
    );
    Ok(axum::http::StatusCode::NO_CONTENT)
}
