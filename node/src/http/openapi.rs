//! The OpenAPI document. What is special to a call stands at its handler; here is the frame, and
//! what stands around every call.

use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::json;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::link::Link;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, Header, OpenApi, Ref, RefOr};
use utoipa::{OpenApi as _, ToResponse, ToSchema as _};
use whimbrel_client::api::openapi::{Cursor, RegionName, RequestId, forms};
use whimbrel_client::api::{Event, Problem};

use super::request::NoQuery;
use super::{params, problems};

/// Name of the scheme of the tokens.
const TOKEN: &str = "token";
const CREATE: &str = "createConversation";
const POST: &str = "postMessage";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Whimbrel",
        description = include_str!("openapi.md"),
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    components(schemas(Event, Problem)),
    security(("token" = [])),
    servers((url = "/", description = "The region that answers")),
    tags(
        (name = "conversations", description = "Conversations and their members."),
        (name = "messages", description = "Messages, their edits and reactions."),
        (name = "reading", description = "Who has read what, and who is typing."),
        (name = "events", description = "What happens in the conversations of a user."),
        (name = "cluster", description = "The cluster, and this document. No token is needed."),
    ),
)]
struct Frame;

/// The document before any call is in it.
pub(super) fn frame() -> OpenApi {
    let mut document = Frame::openapi();
    let components = document.components.get_or_insert_default();
    components.schemas.extend(forms());
    let answers = problems::all().into_iter();
    let answers = answers.map(|(name, problem)| (name.to_owned(), problem));
    components.responses.extend(answers);
    let headers = headers().map(|(name, header)| (name.to_owned(), header.into()));
    components.headers.extend(headers);
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some(
            "A JWT with EdDSA: `sub` is the user, `exp` its end, and `scope`, where it is there, \
             holds `admin`, `service` or both, separated by a space.",
        ));
    let bearer = SecurityScheme::Http(bearer.build());
    let tokens = (TOKEN.to_owned(), bearer.into());
    components.security_schemes.extend([tokens]);
    document
}

/// Headers of answers.
fn headers() -> impl Iterator<Item = (&'static str, Header)> {
    let reference = |name| RefOr::<Schema>::from(Ref::from_schema_name(name));
    let whole = || {
        ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(0))
    };
    let only = |value: &str| {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some([value]))
    };
    [
        (
            "Whimbrel-Region",
            reference(RegionName::name()),
            "The region that answered.",
        ),
        (
            "Whimbrel-Request",
            reference(RequestId::name()),
            "The request's id: the trace id of its `traceparent` (W3C Trace Context), or one that was made. \
             Logs and traces of all regions know it by that.",
        ),
        (
            "Whimbrel-Cursor",
            reference(Cursor::name()),
            "Covers what the answer shows or wrote, in every region.",
        ),
        (
            "Whimbrel-Joined",
            reference(Cursor::name()),
            "There where the request had `Whimbrel-After`: covers its cursors and what the answer \
             shows or wrote.",
        ),
        (
            "Idempotency-Replayed",
            only("true").into(),
            "There where this request had been done before, and nothing was written now.",
        ),
        (
            "WWW-Authenticate",
            only("Bearer").into(),
            "How to say who one is.",
        ),
        (
            "Retry-After",
            whole().into(),
            "Seconds after which a retry makes sense.",
        ),
        ("RateLimit-Limit", whole().into(), "Writes a second."),
        (
            "RateLimit-Remaining",
            whole().into(),
            "What is left of them.",
        ),
        (
            "RateLimit-Reset",
            whole().into(),
            "Seconds until there are some again.",
        ),
    ]
    .into_iter()
    .map(|(name, schema, description)| {
        let header = HeaderBuilder::new().schema(Some(schema));
        (name, header.description(Some(description)).build())
    })
}

/// Names a header of the components.
pub(super) fn header_ref(name: &str) -> RefOr<Header> {
    RefOr::Ref(Ref::new(format!("#/components/headers/{name}")))
}

/// Adds what stands around every call, and what follows from how it is called.
pub(super) fn complete(document: &mut OpenApi) {
    let mut components = document.components.take().unwrap_or_default();
    hide_unknown(&mut components);
    for item in document.paths.paths.values_mut() {
        for (is_write, operation) in operations(item) {
            surround(operation, is_write);
            share_parameters(operation, &mut components);
        }
    }
    document.components = Some(components);
    link(document);
}

/// The operations of a path, and whether they write.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (bool, &mut Operation)> {
    let reads = item.get.iter_mut().map(|operation| (false, operation));
    let writes = [
        &mut item.put,
        &mut item.post,
        &mut item.delete,
        &mut item.patch,
    ];
    let writes = writes
        .into_iter()
        .flatten()
        .map(|operation| (true, operation));
    reads.chain(writes)
}

fn surround(operation: &mut Operation, is_write: bool) {
    let takes = |operation: &Operation, name: &str| {
        let mut all = operation.parameters.iter().flatten();
        all.any(|parameter| matches!(parameter, RefOr::T(p) if p.name == name))
    };
    let (has_key, reads_after) = (
        takes(operation, "Idempotency-Key"),
        takes(operation, "Whimbrel-After"),
    );
    let takes_token = operation.security.is_none();
    // They wait instead of being waited for, so their bodies and their number are not bounded.
    let waits = operation.tags.iter().flatten().any(|tag| tag == "events");

    for (status, answer) in &mut operation.responses.responses {
        let RefOr::T(answer) = answer else { continue };
        let mut put = |name: &str| answer.headers.insert(name.to_owned(), header_ref(name));
        put("Whimbrel-Region");
        put("Whimbrel-Request");
        if status.starts_with('2') && (has_key || reads_after) {
            put("Whimbrel-Cursor");
        }
        if status.starts_with('2') && reads_after {
            put("Whimbrel-Joined");
        }
        if status.starts_with('2') && has_key {
            put("Idempotency-Replayed");
        }
    }

    if takes_token {
        operation
            .parameters
            .get_or_insert_default()
            .push(params::act_as().into());
    }
    let mut problems = vec![
        ("400", name_of::<problems::Malformed>()),
        ("500", name_of::<problems::Bug>()),
    ];
    if takes_token {
        problems.push(("401", name_of::<problems::NoToken>()));
        problems.push(("403", name_of::<problems::NotAllowed>()));
    }
    if !waits {
        problems.push(("413", name_of::<problems::TooLong>()));
    }
    if is_write {
        problems.push(("415", name_of::<problems::NotJson>()));
        problems.push(("422", name_of::<problems::AgainstRule>()));
        problems.push(("429", name_of::<problems::SlowDown>()));
    }
    if has_key {
        problems.push(("409", name_of::<problems::OtherRequest>()));
    }
    problems.push((
        "503",
        match (reads_after, takes_token) {
            (true, _) => name_of::<problems::Behind>(),
            (false, true) => name_of::<problems::Unavailable>(),
            (false, false) => name_of::<problems::Busy>(),
        },
    ));
    for (status, problem) in problems {
        let all = &mut operation.responses.responses;
        all.entry(status.to_owned())
            .or_insert_with(|| Ref::from_response_name(problem).into());
    }
}

fn name_of<T: ToResponse<'static>>() -> &'static str {
    T::response().0
}

/// Parameters in paths and headers mean the same everywhere: each once, by name.
fn share_parameters(operation: &mut Operation, components: &mut Components) {
    for parameter in operation.parameters.iter_mut().flatten() {
        let RefOr::T(Parameter {
            name, parameter_in, ..
        }) = parameter
        else {
            continue;
        };
        if *parameter_in == ParameterIn::Query {
            continue;
        }
        let reference = Ref::new(format!("#/components/parameters/{name}"));
        let name = name.clone();
        let shared = std::mem::replace(parameter, RefOr::Ref(reference));
        components.parameters.insert(name, shared);
    }
}

/// `unknown` is what an older client makes of a newer node's words; no node says it.
fn hide_unknown(components: &mut Components) {
    components.schemas.remove("EventKind");
    for schema in components.schemas.values_mut() {
        if let RefOr::T(Schema::Object(object)) = schema
            && let Some(values) = &mut object.enum_values
        {
            values.retain(|value| value != "unknown");
        }
    }
}

/// What was made by a creation or a post can be named in all calls on it.
fn link(document: &mut OpenApi) {
    let mut on_conversations = Vec::new();
    let mut on_messages = Vec::new();
    for (path, item) in &mut document.paths.paths {
        let on_message = path.contains("{message}");
        for (_, operation) in operations(item) {
            let Some(id) = operation.operation_id.clone() else {
                continue;
            };
            let mut link = Link::default();
            link.operation_id.clone_from(&id);
            if on_message {
                link.parameters.insert(
                    "conversation".to_owned(),
                    json!("$response.body#/conversation"),
                );
                link.parameters
                    .insert("message".to_owned(), json!("$response.body#/id"));
            } else if path.contains("{conversation}") {
                link.parameters
                    .insert("conversation".to_owned(), json!("$response.body#/id"));
            } else {
                continue;
            }
            if on_message {
                &mut on_messages
            } else {
                &mut on_conversations
            }
            .push((id, link));
        }
    }
    for item in document.paths.paths.values_mut() {
        for (_, operation) in operations(item) {
            let links = match operation.operation_id.as_deref() {
                Some(CREATE) => &on_conversations,
                Some(POST) => &on_messages,
                _ => continue,
            };
            for (status, answer) in &mut operation.responses.responses {
                if let RefOr::T(answer) = answer
                    && status.starts_with('2')
                {
                    let links = links.iter().cloned();
                    answer
                        .links
                        .extend(links.map(|(name, link)| (name, link.into())));
                }
            }
        }
    }
}

/// This document
///
/// OpenAPI 3.1, the same in all regions that run the same version.
#[utoipa::path(
    get,
    path = "/v1/openapi.json",
    operation_id = "getDocument",
    tag = "cluster",
    security(),
    responses((
        status = 200,
        description = "The document",
        body = Object,
        example = json!({
            "openapi": "3.1.0",
            "info": {"title": "Whimbrel", "version": "0.1.0"},
            "paths": {},
        }),
    )),
)]
pub(super) async fn serve(_: NoQuery) -> Response {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
        let json = super::document().to_json();
        json.expect("all keys of the document are strings").into()
    });
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.clone()).into_response()
}
