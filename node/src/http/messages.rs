//! Messages: post, page, get, edit, redact, history, reactions.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::request::Parts;
use axum::response::Response;
use whimbrel_client::api::openapi::{PageLimit, Position as PositionForm};
use whimbrel_client::api::{self, ProblemCode};
use whimbrel_replication::crdt::message::Message;
use whimbrel_replication::crdt::text::RevisionRef;
use whimbrel_replication::cursor::Cursor;
use whimbrel_replication::id::{MessageId, Position, RegionId, ShardId};
use whimbrel_replication::op::Standing;

use super::auth::Caller;
use super::conversations::{command, see};
use super::params::{InConversation, OfMessage, OfReaction};
use super::problems::{Behind, Gone, Missing};
use super::request::{
    After, IdempotencyKey, Json, NoQuery, Nothing, Params, Query, answer, answer_written, id,
};
use super::{App, Failure};
use crate::apply::{Edits, corrupt, held, shown};
use crate::batcher::Written;
use crate::command::{Action, Answer, Refusal};
use crate::event::unread;
use crate::execute::my_reactions;
use crate::store::keys::Scope;
use crate::store::{RangeOptions, RunOptions, StoreError, Transaction};
use crate::view;

/// How long a write waits for other regions that it asked for.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);

fn check_text(app: &App, caller: &Caller, text: &str) -> Result<(), Failure> {
    let limit = app.limits.text_bytes;
    if text.len() > limit {
        let message = format!("has {} bytes, the limit is {limit}; split it", text.len());
        return Err(Failure::rule("text", message));
    }
    if text.is_empty() && !caller.is_service {
        return Err(Failure::rule("text", "is empty; write something"));
    }
    Ok(())
}

/// Post a message
///
/// With `sent_at`, or with an empty text, the token needs scope `service`.
#[utoipa::path(
    post,
    path = "/v1/conversations/{conversation}/messages",
    operation_id = "postMessage",
    tag = "messages",
    params(
        InConversation,
        (
            "ack" = Option<String>,
            Query,
            description = "When to answer: as soon as this region has committed the message \
                (`local`), or when K regions have (`regions:K`, K from 1 to the number of regions)",
            pattern = "^(local|regions:[0-9]+)$",
            example = "local",
        ),
        IdempotencyKey,
    ),
    request_body = api::PostMessage,
    responses(
        (status = 201, description = "It was posted", body = api::PostedMessage),
        (status = 404, response = Missing),
        (status = 503, response = Behind),
    ),
)]
pub(super) async fn post(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(path): Params<InConversation>,
    IdempotencyKey(key): IdempotencyKey,
    parts: Parts,
    Json(body): Json<api::PostMessage>,
) -> Result<Response, Failure> {
    app.quotas.take(&caller)?;
    let conversation = id("conversation", &path.conversation)?;
    let regions = wanted_acks(&app, &Query::read(&parts, &["ack"])?)?;
    check_text(&app, &caller, &body.text)?;
    let reply_to = body
        .reply_to
        .as_deref()
        .map(|text| id("reply_to", text))
        .transpose()?;
    let sent_at_unix_ms = match &body.sent_at {
        None => None,
        Some(_) if !caller.is_service => {
            let detail = "only scope `service` sets `sent_at`";
            return Err(Failure::new(ProblemCode::Forbidden, detail));
        }
        Some(text) => Some(parse_time(text)?),
    };
    let message = MessageId::derive(
        &conversation,
        &caller.user,
        &key,
        &body.text,
        reply_to.as_ref(),
        sent_at_unix_ms,
    );
    let action = Action::Post {
        message,
        text: body.text,
        reply_to,
        sent_at_unix_ms,
    };
    let command = command(&caller, key, conversation, action);
    let written = app.batchers.write(app.identity.shards, command).await?;
    let shard = conversation.shard(app.identity.shards);
    let acked_by = wait_for_acks(&app, shard, &written, regions).await?;
    let message = message_of(&written)?;
    Ok(answer_written(
        201,
        Some(&api::PostedMessage { message, acked_by }),
        &written,
    ))
}

fn parse_time(text: &str) -> Result<i64, Failure> {
    let time: Result<jiff::Timestamp, _> = text.parse();
    time.map(jiff::Timestamp::as_millisecond).map_err(|_| {
        Failure::rule(
            "sent_at",
            "must be a time in RFC 3339, such as 2014-11-30T23:35:14.775Z",
        )
    })
}

fn message_of(written: &Written) -> Result<api::Message, Failure> {
    match &written.done.answer {
        Answer::Message(message) => Ok((**message).clone()),
        _ => Err(Failure::internal(&"a write to a message gave no message")),
    }
}

fn wanted_acks(app: &App, query: &Query) -> Result<usize, Failure> {
    match query.text("ack") {
        None | Some("local") => Ok(1),
        Some(text) => {
            let number = text.strip_prefix("regions:").unwrap_or_default();
            let digits = number.strip_prefix('-').unwrap_or(number);
            if digits.is_empty() || digits.bytes().any(|b| !b.is_ascii_digit()) {
                return Err(Failure::malformed("ack", "must be `local` or `regions:K`"));
            }
            let known = app.regions.len();
            let number = number.parse().ok().filter(|n| (1..=known).contains(n));
            let number: usize = number.ok_or_else(|| {
                Failure::rule("ack", format!("regions:K takes K from 1 to {known}"))
            })?;
            Ok(number)
        }
    }
}

/// Waits until so many regions have committed the write; who has, or a 503 that says so.
async fn wait_for_acks(
    app: &App,
    shard: ShardId,
    written: &Written,
    regions: usize,
) -> Result<Vec<String>, Failure> {
    let own = app.identity.origin;
    let holders = |peers: &crate::replicator::Peers| -> Vec<RegionId> {
        let holds = |id: &RegionId| {
            *id == own.region
                || written.done.places.iter().any(|place| {
                    let held = peers.holds(*id, shard, place.origin);
                    held.is_some_and(|held| held >= place.at.stamp)
                })
        };
        app.regions
            .iter()
            .map(|region| region.id)
            .filter(holds)
            .collect()
    };
    let mut peers = app.peers.clone();
    if regions > 1 {
        let enough = peers.wait_for(|peers| holders(peers).len() >= regions);
        let in_time = tokio::time::timeout(ACK_TIMEOUT, enough).await;
        if !matches!(in_time, Ok(Ok(_))) {
            let have = holders(&app.peers.borrow());
            let names = |ids: &[RegionId]| -> Vec<String> {
                ids.iter().map(|id| app.identity.region_name(*id)).collect()
            };
            let lack: Vec<RegionId> = app
                .regions
                .iter()
                .map(|r| r.id)
                .filter(|id| !have.contains(id))
                .collect();
            let detail = format!(
                "committed by {} only, not by {regions} regions in time; nothing is lost, and a \
                 retry with the same idempotency key asks again",
                names(&have).join(", ")
            );
            let mut failure = Failure::new(ProblemCode::NotCaughtUp, detail);
            failure.0.waiting_for = names(&lack);
            failure.0.acked_by = names(&have);
            return Err(failure);
        }
    }
    let have = if regions > 1 {
        holders(&app.peers.borrow())
    } else {
        vec![own.region]
    };
    Ok(have
        .into_iter()
        .map(|id| app.identity.region_name(id))
        .collect())
}

/// Page through the messages
///
/// The newest page without a position. Give `before` or `after`, not both.
#[utoipa::path(
    get,
    path = "/v1/conversations/{conversation}/messages",
    operation_id = "listMessages",
    tag = "messages",
    params(
        InConversation,
        ("before" = Option<PositionForm>, Query, description = "The page before this position"),
        ("after" = Option<PositionForm>, Query, description = "The page after this position"),
        ("limit" = Option<PageLimit>, Query, description = "How many items to give at most"),
        After,
    ),
    responses(
        (status = 200, description = "One page, oldest first", body = api::MessagePage),
        (status = 404, response = Missing),
    ),
)]
pub(super) async fn page(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: After,
    Params(path): Params<InConversation>,
    parts: Parts,
) -> Result<Response, Failure> {
    let query = Query::read(&parts, &["before", "after", "limit"])?;
    let scope = app.identity.scope(id("conversation", &path.conversation)?);
    let limit = query.page_limit()?;
    let position = |name| {
        query
            .text(name)
            .map(|text| id::<Position>(name, text))
            .transpose()
    };
    let (before, after) = (position("before")?, position("after")?);
    if before.is_some() && after.is_some() {
        return Err(Failure::malformed(
            "after",
            "give `before` or `after`, not both",
        ));
    }
    let (app, caller) = (&app, &caller);
    let read = |tx: Arc<Transaction>| async move {
        let visible = see(&tx, &scope, caller).await?;
        let visible = match visible {
            Ok(visible) => visible,
            Err(refusal) => return Ok(Err(refusal)),
        };
        // Who has not joined has no read marker either.
        let counts = visible.standing.is_some_and(Standing::is_in);
        read_page(&tx, app, &scope, caller, (before, after), limit, counts)
            .await
            .map(Ok)
    };
    let (page, cursor) = app.store.read(RunOptions::default(), read).await??;
    Ok(answer(200, &page, Some(&cursor)))
}

async fn read_page(
    tx: &Transaction,
    app: &App,
    scope: &Scope,
    caller: &Caller,
    (before, after): (Option<Position>, Option<Position>),
    limit: usize,
    counts_unread: bool,
) -> Result<(api::MessagePage, Cursor), StoreError> {
    let newest_first = after.is_none();
    let (begin, end) = scope.timeline_between(after.as_ref(), before.as_ref());
    // One more than asked for tells whether there is more in this direction.
    let options = RangeOptions {
        limit: limit + 1,
        reverse: newest_first,
        snapshot: true,
        ..RangeOptions::default()
    };
    let mut rows = tx.range_all(&begin, &end, options).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    if newest_first {
        rows.reverse();
    }
    let mut messages = Vec::with_capacity(rows.len());
    let mut ends: Option<(Position, Position)> = None;
    for (key, value) in &rows {
        let position = scope.timeline_position(key).map_err(corrupt)?;
        ends = Some((ends.map_or(position, |(first, _)| first), position));
        let (id, message) = shown(value)?;
        let mine = my_reactions(tx, scope, &id, &message, &caller.user).await?;
        let identity = &app.identity;
        messages.extend(view::message(
            identity,
            &scope.conversation,
            &id,
            position,
            &message,
            &mine,
        ));
    }
    let first = ends.map(|(first, _)| first);
    let last = ends.map(|(_, last)| last);
    // In the other direction there is more if anything stands beyond the page's end.
    let (prev, next) = if newest_first {
        let newer = beyond(tx, scope, last.or(before)).await?;
        (first.filter(|_| more), last.filter(|_| newer))
    } else {
        let (begin, end) = scope.timeline_between(None, first.or(after).as_ref());
        let older = exists(tx, &begin, &end).await?;
        (first.filter(|_| older), last.filter(|_| more))
    };
    let held = held(tx, scope.shard, app.identity.origin).await?;
    let unread_older = match &first {
        Some(first) if counts_unread => {
            unread(tx, scope, &held, &caller.user, Some(first))
                .await?
                .messages
        }
        _ => 0,
    };
    let cursor = Cursor::of(scope.shard, held);
    let page = api::MessagePage {
        messages,
        prev: prev.map(|p| p.to_string()),
        next: next.map(|p| p.to_string()),
        cursor: cursor.to_string(),
        unread_older,
    };
    Ok((page, cursor))
}

async fn beyond(
    tx: &Transaction,
    scope: &Scope,
    position: Option<Position>,
) -> Result<bool, StoreError> {
    let Some(position) = position else {
        return Ok(false);
    };
    let (begin, end) = scope.timeline_between(Some(&position), None);
    exists(tx, &begin, &end).await
}

async fn exists(tx: &Transaction, begin: &[u8], end: &[u8]) -> Result<bool, StoreError> {
    let options = RangeOptions {
        limit: 1,
        snapshot: true,
        ..RangeOptions::default()
    };
    Ok(!tx.range(begin, end, options).await?.rows.is_empty())
}

/// A message's row, for a caller who may see its conversation.
async fn message_row(
    tx: &Transaction,
    scope: &Scope,
    caller: &Caller,
    id: &MessageId,
) -> Result<Result<Message, Refusal>, StoreError> {
    if let Err(refusal) = see(tx, scope, caller).await? {
        return Ok(Err(refusal));
    }
    let row = tx.get(&scope.message(id), true).await?;
    let row = row
        .map(|bytes| Message::decode(&bytes))
        .transpose()
        .map_err(corrupt)?;
    Ok(row
        .filter(|row| row.post.is_some())
        .ok_or(Refusal::NotFound("message")))
}

/// Look at a message
///
/// A tombstone, if it was redacted.
#[utoipa::path(
    get,
    path = "/v1/conversations/{conversation}/messages/{message}",
    operation_id = "getMessage",
    tag = "messages",
    params(
        OfMessage,
        After,
    ),
    responses(
        (status = 200, description = "The message", body = api::Message),
        (status = 404, response = Missing),
    ),
)]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: NoQuery,
    _: After,
    Params(path): Params<OfMessage>,
) -> Result<Response, Failure> {
    let scope = app.identity.scope(id("conversation", &path.conversation)?);
    let message: MessageId = id("message", &path.message)?;
    let (app, caller) = (&app, &caller);
    let read = |tx: Arc<Transaction>| async move {
        let row = match message_row(&tx, &scope, caller, &message).await? {
            Ok(row) => row,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let mine = my_reactions(&tx, &scope, &message, &row, &caller.user).await?;
        let held = held(&tx, scope.shard, app.identity.origin).await?;
        let shown = row.position().and_then(|position| {
            let identity = &app.identity;
            view::message(
                identity,
                &scope.conversation,
                &message,
                position,
                &row,
                &mine,
            )
        });
        let cursor = Cursor::of(scope.shard, held);
        Ok(shown
            .map(|shown| (shown, cursor))
            .ok_or(Refusal::NotFound("message")))
    };
    let (shown, cursor) = app.store.read(RunOptions::default(), read).await??;
    Ok(answer(200, &shown, Some(&cursor)))
}

/// Edit a message
///
/// The edit is made on the revision that the writer saw, and merges with what others made of it
/// since.
#[utoipa::path(
    patch,
    path = "/v1/conversations/{conversation}/messages/{message}",
    operation_id = "editMessage",
    tag = "messages",
    params(
        OfMessage,
        IdempotencyKey,
    ),
    request_body = api::EditMessage,
    responses(
        (status = 200, description = "The message as it is now", body = api::Message),
        (status = 404, response = Missing),
        (status = 410, response = Gone),
        (status = 503, response = Behind),
    ),
)]
pub(super) async fn edit(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: NoQuery,
    Params(path): Params<OfMessage>,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<api::EditMessage>,
) -> Result<Response, Failure> {
    app.quotas.take(&caller)?;
    let conversation = id("conversation", &path.conversation)?;
    let message = id("message", &path.message)?;
    check_text(&app, &caller, &body.text)?;
    let base: RevisionRef = body
        .base
        .parse()
        .map_err(|_| Failure::malformed("base", "take it from `revision` of the message"))?;
    let action = Action::Edit {
        message,
        base,
        text: body.text,
    };
    let command = command(&caller, key, conversation, action);
    let written = app.batchers.write(app.identity.shards, command).await?;
    Ok(answer_written(200, Some(&message_of(&written)?), &written))
}

/// Redact a message
///
/// Its text is gone for good; a tombstone stays.
#[utoipa::path(
    delete,
    path = "/v1/conversations/{conversation}/messages/{message}",
    operation_id = "redactMessage",
    tag = "messages",
    params(
        OfMessage,
        IdempotencyKey,
    ),
    responses(
        (status = 204, description = "It is redacted"),
        (status = 404, response = Missing),
    ),
)]
pub(super) async fn redact(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: NoQuery,
    Params(path): Params<OfMessage>,
    IdempotencyKey(key): IdempotencyKey,
    Json(Nothing {}): Json<Nothing>,
) -> Result<Response, Failure> {
    app.quotas.take(&caller)?;
    let conversation = id("conversation", &path.conversation)?;
    let message = id("message", &path.message)?;
    let command = command(&caller, key, conversation, Action::Redact { message });
    let written = app.batchers.write(app.identity.shards, command).await?;
    Ok(answer_written::<()>(204, None, &written))
}

/// All versions of a message
///
/// The original first.
#[utoipa::path(
    get,
    path = "/v1/conversations/{conversation}/messages/{message}/history",
    operation_id = "getHistory",
    tag = "messages",
    params(
        OfMessage,
        After,
    ),
    responses(
        (status = 200, description = "All versions", body = api::History),
        (status = 404, response = Missing),
        (status = 410, response = Gone),
    ),
)]
pub(super) async fn history(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: NoQuery,
    _: After,
    Params(path): Params<OfMessage>,
) -> Result<Response, Failure> {
    let scope = app.identity.scope(id("conversation", &path.conversation)?);
    let message: MessageId = id("message", &path.message)?;
    let (app, caller) = (&app, &caller);
    let read = |tx: Arc<Transaction>| async move {
        let row = match message_row(&tx, &scope, caller, &message).await? {
            Ok(row) if row.redacted => return Ok(Err(Refusal::Redacted)),
            Ok(row) => row,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let history = read_history(&tx, &scope, &message, &row).await?;
        let held = held(&tx, scope.shard, app.identity.origin).await?;
        Ok(Ok((history, Cursor::of(scope.shard, held))))
    };
    let (history, cursor) = app.store.read(RunOptions::default(), read).await??;
    Ok(answer(200, &history, Some(&cursor)))
}

async fn read_history(
    tx: &Transaction,
    scope: &Scope,
    id: &MessageId,
    row: &Message,
) -> Result<api::History, StoreError> {
    let post = row.post.as_ref();
    let original = post.map_or("", |post| post.text.as_str());
    let sender = post.map_or("", |post| post.sender.as_str());
    let posted = row.position().unwrap_or(Position::MIN);
    let Edits { document, rows, .. } = Edits::read(tx, scope, id, original, None).await?;
    let mut versions = Vec::new();
    for version in document.versions() {
        let edit = version.change.and_then(|change| rows.get(&change));
        let at = match edit {
            Some(edit) => Position::try_from(edit.position.as_slice()).map_err(corrupt)?,
            None => posted,
        };
        // The original has no parents; every other version was made on one or more.
        let parents =
            version.parents.heads().iter().map(|head| {
                whimbrel_replication::crdt::text::Revision::new(vec![*head]).to_string()
            });
        let mut parents: Vec<String> = parents.collect();
        if parents.is_empty() && version.change.is_some() {
            parents.push(version.parents.to_string());
        }
        versions.push(api::Version {
            revision: version.revision.to_string(),
            text: version.text,
            author: edit.map_or(sender, |edit| edit.author.as_str()).to_owned(),
            at: view::time(at.hlc().unix_ms()),
            parents,
        });
    }
    Ok(api::History {
        versions,
        merged: document.revision().is_merged(),
    })
}

/// React to a message
#[utoipa::path(
    put,
    path = "/v1/conversations/{conversation}/messages/{message}/reactions/{emoji}",
    operation_id = "react",
    tag = "messages",
    params(
        OfReaction,
        IdempotencyKey,
    ),
    responses(
        (status = 204, description = "The reaction is there"),
        (status = 404, response = Missing),
        (status = 410, response = Gone),
    ),
)]
pub(super) async fn react(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: NoQuery,
    Params(path): Params<OfReaction>,
    IdempotencyKey(key): IdempotencyKey,
    Json(Nothing {}): Json<Nothing>,
) -> Result<Response, Failure> {
    set_reaction(&app, &caller, path, key, true).await
}

/// Take a reaction back
#[utoipa::path(
    delete,
    path = "/v1/conversations/{conversation}/messages/{message}/reactions/{emoji}",
    operation_id = "unreact",
    tag = "messages",
    params(
        OfReaction,
        IdempotencyKey,
    ),
    responses(
        (status = 204, description = "The reaction is not there"),
        (status = 404, response = Missing),
        (status = 410, response = Gone),
    ),
)]
pub(super) async fn unreact(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: NoQuery,
    Params(path): Params<OfReaction>,
    IdempotencyKey(key): IdempotencyKey,
    Json(Nothing {}): Json<Nothing>,
) -> Result<Response, Failure> {
    set_reaction(&app, &caller, path, key, false).await
}

async fn set_reaction(
    app: &App,
    caller: &Caller,
    OfReaction {
        conversation,
        message,
        emoji,
    }: OfReaction,
    key: String,
    present: bool,
) -> Result<Response, Failure> {
    app.quotas.take(caller)?;
    let conversation = id("conversation", &conversation)?;
    let message = id("message", &message)?;
    let limit = app.limits.emoji_bytes;
    let is_bad = |c: char| c.is_control() || c.is_whitespace();
    if emoji.is_empty() || emoji.len() > limit || emoji.chars().any(is_bad) {
        let message = format!("must be 1 to {limit} bytes without spaces or control characters");
        return Err(Failure::rule("emoji", message));
    }
    let action = Action::React {
        message,
        emoji,
        present,
    };
    let command = command(caller, key, conversation, action);
    let written = app.batchers.write(app.identity.shards, command).await?;
    Ok(answer_written::<()>(204, None, &written))
}
