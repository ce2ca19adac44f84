//! Conversations and their members.

use std::sync::Arc;

use axum::extract::State;
use axum::http::request::Parts;
use axum::response::Response;
use data_encoding::BASE32HEX_NOPAD;
use whimbrel_client::api;
use whimbrel_client::api::openapi::{PageLimit, PageToken};
use whimbrel_replication::crdt::conversation::Conversation;
use whimbrel_replication::crdt::member::Member;
use whimbrel_replication::cursor::Cursor;
use whimbrel_replication::id::{ConversationId, Position};
use whimbrel_replication::op::{ConversationKind, Standing};

use super::auth::{Caller, check_user};
use super::params::{InConversation, OfMember};
use super::problems::Missing;
use super::request::{
    After, IdempotencyKey, Json, NoQuery, Nothing, Params, Query, answer, answer_written, id,
};
use super::{App, Failure};
use crate::apply::{corrupt, held, last_row, shown};
use crate::command::{Action, Answer, Command, Refusal};
use crate::event::unread;
use crate::execute::{acting_owner_of, members as members_of, my_reactions};
use crate::store::keys::{self, Scope};
use crate::store::{RangeOptions, RunOptions, StoreError, Transaction};
use crate::{trace, view};

/// Members that a conversation is created with: what one batch holds.
const FIRST_MEMBERS_MAX: usize = 256;

/// A conversation that a caller may see, and how they stand to it.
pub(super) struct Visible {
    /// Its row.
    pub row: Conversation,
    /// The caller's standing.
    pub standing: Option<Standing>,
}

/// Reads a conversation for a caller; others' groups are not there.
pub(super) async fn see(
    tx: &Transaction,
    scope: &Scope,
    caller: &Caller,
) -> Result<Result<Visible, Refusal>, StoreError> {
    let refusal = Refusal::NotFound("conversation");
    let Some(row) = tx.get(&scope.conversation(), true).await? else {
        return Ok(Err(refusal));
    };
    let row = Conversation::decode(&row).map_err(corrupt)?;
    let member = tx.get(&scope.member(&caller.user), true).await?;
    let member = member
        .map(|bytes| Member::decode(&bytes))
        .transpose()
        .map_err(corrupt)?;
    let standing = member.and_then(|member| member.standing());
    let is_channel = row
        .creation
        .as_ref()
        .is_some_and(|c| c.kind == ConversationKind::Channel);
    let may_see = standing.is_some_and(Standing::is_in)
        || caller.is_admin
        || (is_channel && standing != Some(Standing::Banned));
    Ok(if may_see && row.creation.is_some() {
        Ok(Visible { row, standing })
    } else {
        Err(refusal)
    })
}

fn check_text(field: &str, text: Option<&str>, bytes_max: usize) -> Result<(), Failure> {
    match text {
        Some(text) if text.len() > bytes_max => {
            let message = format!(
                "has {} bytes, the limit is {bytes_max}; shorten it",
                text.len()
            );
            Err(Failure::rule(field, message))
        }
        Some(text) if text.contains('\0') => Err(Failure::rule(field, "has a NUL character")),
        _ => Ok(()),
    }
}

/// Make a conversation
///
/// The creator is its owner. `direct` takes exactly one other member; made again, it is given
/// as it is.
#[utoipa::path(
    post,
    path = "/v1/conversations",
    operation_id = "createConversation",
    tag = "conversations",
    params(
        IdempotencyKey,
    ),
    request_body = api::CreateConversation,
    responses(
        (status = 201, description = "It was made", body = api::Conversation),
        (status = 200, description = "The two had a direct conversation already", body = api::Conversation),
    ),
)]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: NoQuery,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<api::CreateConversation>,
) -> Result<Response, Failure> {
    app.quotas.take(&caller)?;
    check_text("title", body.title.as_deref(), app.limits.title_bytes)?;
    check_text("topic", body.topic.as_deref(), app.limits.title_bytes)?;
    let mut members: Vec<String> = Vec::new();
    for member in body.members {
        check_user("members", &member).map_err(|failure| {
            Failure::rule(
                "members",
                failure.0.errors.first().map_or("", |e| &e.message),
            )
        })?;
        if member != caller.user && !members.contains(&member) {
            members.push(member);
        }
    }
    if members.len() > FIRST_MEMBERS_MAX {
        let message = format!(
            "{} first members, the limit is {FIRST_MEMBERS_MAX}; add the rest one by one",
            members.len()
        );
        return Err(Failure::rule("members", message));
    }
    let kind = match body.kind {
        api::ConversationKind::Direct => ConversationKind::Direct,
        api::ConversationKind::Group => ConversationKind::Group,
        api::ConversationKind::Channel => ConversationKind::Channel,
    };
    let conversation = match (kind, members.as_slice()) {
        (ConversationKind::Direct, [other]) => ConversationId::direct(&caller.user, other),
        (ConversationKind::Direct, _) => {
            return Err(Failure::rule(
                "members",
                "direct takes exactly one other member",
            ));
        }
        _ => ConversationId::created(&caller.user, &key),
    };
    let is_direct = kind == ConversationKind::Direct;
    let action = Action::Create {
        kind,
        title: body.title,
        topic: body.topic,
        members,
    };
    let command = command(&caller, key, conversation, action);
    let written = app.batchers.write(app.identity.shards, command).await?;
    let Answer::Conversation {
        conversation,
        existed,
    } = &written.done.answer
    else {
        return Err(Failure::internal(&"a creation gave no conversation"));
    };
    let mut conversation = conversation.clone();
    conversation.cursor = written.cursor.to_string();
    let status = if is_direct && *existed && !written.done.replayed {
        200
    } else {
        201
    };
    Ok(answer_written(status, Some(&conversation), &written))
}

/// A command by this caller.
pub(super) fn command(
    caller: &Caller,
    key: String,
    conversation: ConversationId,
    action: Action,
) -> Command {
    Command {
        actor: caller.user.clone(),
        is_admin: caller.is_admin,
        key,
        conversation,
        action,
        trace: trace::current(),
    }
}

/// Look at a conversation
#[utoipa::path(
    get,
    path = "/v1/conversations/{conversation}",
    operation_id = "getConversation",
    tag = "conversations",
    params(
        InConversation,
        After,
    ),
    responses(
        (status = 200, description = "The conversation", body = api::Conversation),
        (status = 404, response = Missing),
    ),
)]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: NoQuery,
    _: After,
    Params(path): Params<InConversation>,
) -> Result<Response, Failure> {
    let scope = app.identity.scope(id("conversation", &path.conversation)?);
    let (caller, own) = (&caller, app.identity.origin);
    let read = |tx: Arc<Transaction>| async move {
        let visible = see(&tx, &scope, caller).await?;
        let held = held(&tx, scope.shard, own).await?;
        Ok((visible, Cursor::of(scope.shard, held)))
    };
    let (visible, cursor) = app.store.read(RunOptions::default(), read).await?;
    let Visible { row, standing } = visible?;
    let shown = view::conversation(&scope.conversation, &row, standing, cursor.to_string());
    let shown = shown.ok_or(Refusal::NotFound("conversation"))?;
    Ok(answer(200, &shown, Some(&cursor)))
}

/// Change title or topic
///
/// What is absent stays as it is.
#[utoipa::path(
    patch,
    path = "/v1/conversations/{conversation}",
    operation_id = "changeConversation",
    tag = "conversations",
    params(
        InConversation,
        IdempotencyKey,
    ),
    request_body = api::ChangeConversation,
    responses(
        (status = 200, description = "The conversation as it is now", body = api::Conversation),
        (status = 404, response = Missing),
    ),
)]
pub(super) async fn change(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: NoQuery,
    Params(path): Params<InConversation>,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<api::ChangeConversation>,
) -> Result<Response, Failure> {
    app.quotas.take(&caller)?;
    let conversation = id("conversation", &path.conversation)?;
    check_text("title", body.title.as_deref(), app.limits.title_bytes)?;
    check_text("topic", body.topic.as_deref(), app.limits.title_bytes)?;
    let action = Action::Change {
        title: body.title,
        topic: body.topic,
    };
    let command = command(&caller, key, conversation, action);
    let written = app.batchers.write(app.identity.shards, command).await?;
    let Answer::Conversation { conversation, .. } = &written.done.answer else {
        return Err(Failure::internal(&"a change gave no conversation"));
    };
    let mut conversation = conversation.clone();
    conversation.cursor = written.cursor.to_string();
    Ok(answer_written(200, Some(&conversation), &written))
}

/// List the members
#[utoipa::path(
    get,
    path = "/v1/conversations/{conversation}/members",
    operation_id = "listMembers",
    tag = "conversations",
    params(
        InConversation,
        After,
    ),
    responses(
        (status = 200, description = "All members", body = api::Members),
        (status = 404, response = Missing),
    ),
)]
pub(super) async fn members(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: NoQuery,
    _: After,
    Params(path): Params<InConversation>,
) -> Result<Response, Failure> {
    let scope = app.identity.scope(id("conversation", &path.conversation)?);
    let (caller, own) = (&caller, app.identity.origin);
    let read = |tx: Arc<Transaction>| async move {
        let visible = see(&tx, &scope, caller).await?;
        let held = held(&tx, scope.shard, own).await?;
        Ok((
            visible,
            members_of(&tx, &scope).await?,
            Cursor::of(scope.shard, held),
        ))
    };
    let (visible, members, cursor) = app.store.read(RunOptions::default(), read).await?;
    let is_direct = visible?
        .row
        .creation
        .is_some_and(|c| c.kind == ConversationKind::Direct);
    let acting = acting_owner_of(&members).filter(|_| !is_direct);
    let shown = members.iter().filter_map(|(user, standing, since)| {
        let role = if acting == Some(user) {
            api::Role::Owner
        } else {
            view::role(*standing)?
        };
        let since = view::time(since.hlc().unix_ms());
        Some(api::Member {
            user: user.clone(),
            role,
            since,
        })
    });
    Ok(answer(
        200,
        &api::Members {
            members: shown.collect(),
        },
        Some(&cursor),
    ))
}

/// Add a member, change a role, or join
///
/// Anyone may join a channel as member. Admins add and remove; owners also name admins and owners.
#[utoipa::path(
    put,
    path = "/v1/conversations/{conversation}/members/{user}",
    operation_id = "setMember",
    tag = "conversations",
    params(
        OfMember,
        IdempotencyKey,
    ),
    request_body = api::SetMember,
    responses(
        (status = 200, description = "The member as it is now", body = api::Member),
        (status = 404, response = Missing),
    ),
)]
pub(super) async fn set_member(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: NoQuery,
    Params(OfMember { conversation, user }): Params<OfMember>,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<api::SetMember>,
) -> Result<Response, Failure> {
    app.quotas.take(&caller)?;
    let conversation = id("conversation", &conversation)?;
    check_user("user", &user)?;
    let role = match body.role {
        api::Role::Owner => Standing::Owner,
        api::Role::Admin => Standing::Admin,
        api::Role::Member => Standing::Member,
    };
    let command = command(&caller, key, conversation, Action::SetMember { user, role });
    let written = app.batchers.write(app.identity.shards, command).await?;
    let Answer::Member(member) = &written.done.answer else {
        return Err(Failure::internal(&"a change of a member gave no member"));
    };
    Ok(answer_written(200, Some(member), &written))
}

/// Leave, or remove a member
///
/// The last owner leaves only after naming another.
#[utoipa::path(
    delete,
    path = "/v1/conversations/{conversation}/members/{user}",
    operation_id = "removeMember",
    tag = "conversations",
    params(
        OfMember,
        ("ban" = Option<bool>, Query, description = "Keep them out as well", example = false),
        IdempotencyKey,
    ),
    responses(
        (status = 204, description = "They are out"),
        (status = 404, response = Missing),
    ),
)]
pub(super) async fn remove_member(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(OfMember { conversation, user }): Params<OfMember>,
    IdempotencyKey(key): IdempotencyKey,
    parts: Parts,
    Json(Nothing {}): Json<Nothing>,
) -> Result<Response, Failure> {
    app.quotas.take(&caller)?;
    let conversation = id("conversation", &conversation)?;
    check_user("user", &user)?;
    let ban = match Query::read(&parts, &["ban"])?.text("ban") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Failure::malformed("ban", "must be true or false")),
    };
    let command = command(
        &caller,
        key,
        conversation,
        Action::RemoveMember { user, ban },
    );
    let written = app.batchers.write(app.identity.shards, command).await?;
    Ok(answer_written::<()>(204, None, &written))
}

/// Where a conversation stands in its user's list: newest activity first.
type Rank = (std::cmp::Reverse<Position>, ConversationId);

fn page_token((std::cmp::Reverse(position), conversation): &Rank) -> String {
    let bytes = [&position.as_bytes()[..], conversation.as_bytes()].concat();
    BASE32HEX_NOPAD.encode(&bytes).to_ascii_lowercase()
}

fn parse_page_token(text: &str) -> Option<Rank> {
    let bytes = BASE32HEX_NOPAD
        .decode(text.to_ascii_uppercase().as_bytes())
        .ok()?;
    let (position, conversation) = bytes.split_first_chunk::<{ Position::LEN }>()?;
    let conversation = ConversationId::try_from(conversation).ok()?;
    Some((
        std::cmp::Reverse(Position::from_bytes(*position)),
        conversation,
    ))
}

/// List my conversations
///
/// Newest activity first.
#[utoipa::path(
    get,
    path = "/v1/conversations",
    operation_id = "listConversations",
    tag = "conversations",
    params(
        ("limit" = Option<PageLimit>, Query, description = "How many items to give at most"),
        ("page" = Option<PageToken>, Query, description = "`next` of the page before"),
        After,
    ),
    responses(
        (status = 200, description = "One page", body = api::ConversationList),
    ),
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: After,
    parts: Parts,
) -> Result<Response, Failure> {
    let query = Query::read(&parts, &["limit", "page"])?;
    let limit = query.page_limit()?;
    let page = query.text("page").map(|text| {
        parse_page_token(text)
            .ok_or_else(|| Failure::malformed("page", "take it from `next` of the page before"))
    });
    let page = page.transpose()?;
    let (caller, app) = (&caller, &app);
    // Held before the rows are read: what the cursor covers is in the answer.
    let cursor = app.tailers.held_all();
    let ranked = app
        .store
        .read(RunOptions::default(), |tx| async move {
            ranked(&tx, app, caller).await
        })
        .await?;
    let mut rest = ranked
        .into_iter()
        .filter(|rank| page.as_ref().is_none_or(|page| rank > page));
    let ranks: Vec<Rank> = rest.by_ref().take(limit).collect();
    let next = ranks
        .last()
        .filter(|_| rest.next().is_some())
        .map(page_token);
    let mut conversations = Vec::with_capacity(ranks.len());
    for (_, conversation) in &ranks {
        let scope = app.identity.scope(*conversation);
        let read = |tx: Arc<Transaction>| async move { listed(&tx, app, scope, caller).await };
        conversations.extend(app.store.read(RunOptions::default(), read).await?);
    }
    Ok(answer(
        200,
        &api::ConversationList {
            conversations,
            next,
        },
        Some(&cursor),
    ))
}

/// The caller's conversations, newest activity first.
async fn ranked(tx: &Transaction, app: &App, caller: &Caller) -> Result<Vec<Rank>, StoreError> {
    let (begin, end) = keys::memberships(&caller.user);
    let options = RangeOptions {
        snapshot: true,
        ..RangeOptions::default()
    };
    let mut ranked = Vec::new();
    for (key, value) in tx.range_all(&begin, &end, options).await? {
        let member = Member::decode(&value).map_err(corrupt)?;
        if !member.standing().is_some_and(Standing::is_in) {
            continue;
        }
        let scope = app
            .identity
            .scope(keys::membership_conversation(&key).map_err(corrupt)?);
        let position = match last_row(tx, &scope).await? {
            Some((position, _)) => position,
            None => {
                let row = tx.get(&scope.conversation(), true).await?;
                let row = row
                    .map(|bytes| Conversation::decode(&bytes))
                    .transpose()
                    .map_err(corrupt)?;
                let created = row.and_then(|row| row.creation).map(|c| c.position);
                created.unwrap_or(Position::MIN)
            }
        };
        ranked.push((std::cmp::Reverse(position), scope.conversation));
    }
    ranked.sort_unstable();
    Ok(ranked)
}

async fn listed(
    tx: &Transaction,
    app: &App,
    scope: Scope,
    caller: &Caller,
) -> Result<Option<api::ListedConversation>, StoreError> {
    let Ok(Visible { row, standing }) = see(tx, &scope, caller).await? else {
        return Ok(None);
    };
    let held = held(tx, scope.shard, app.identity.origin).await?;
    let cursor = Cursor::of(scope.shard, held.clone()).to_string();
    let Some(conversation) = view::conversation(&scope.conversation, &row, standing, cursor) else {
        return Ok(None);
    };
    let last_message = match last_row(tx, &scope).await? {
        None => None,
        Some((position, value)) => {
            let (id, message) = shown(&value)?;
            let mine = my_reactions(tx, &scope, &id, &message, &caller.user).await?;
            let identity = &app.identity;
            view::message(
                identity,
                &scope.conversation,
                &id,
                position,
                &message,
                &mine,
            )
        }
    };
    let unread = unread(tx, &scope, &held, &caller.user, None).await?;
    Ok(Some(api::ListedConversation {
        conversation,
        last_message,
        unread: unread.messages,
        mentions: unread.mentions,
    }))
}
