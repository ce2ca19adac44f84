//! The problems with which calls answer, as the OpenAPI document shows them.

use serde_json::json;
use utoipa::ToResponse;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{AllOfBuilder, ObjectBuilder, Type};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response};
use whimbrel_client::api::{PROBLEM_JSON, Problem, ProblemCode};

use super::Failure;
use super::openapi::header_ref;
use ProblemCode::*;

/// Declares problems: a name in the document, the status, the codes that come with it, what it
/// means, and an example.
macro_rules! problems {
    ($($(#[doc = $doc:literal])+ $name:ident $status:literal [$($code:ident),+] $example:expr;)+) => {
        $(
            $(#[doc = $doc])+
            pub(super) enum $name {}

            impl ToResponse<'_> for $name {
                fn response() -> (&'static str, RefOr<Response>) {
                    let description = concat!($($doc),+).trim();
                    let codes = &[$($code),+];
                    let response = problem($status, description, codes, $example);
                    (stringify!($name), response.into())
                }
            }
        )+

        /// All of them, for the document's components.
        pub(super) fn all() -> Vec<(&'static str, RefOr<Response>)> {
            vec![$($name::response()),+]
        }
    };
}

problems! {
    /// It does not parse: the body, an id, a cursor, a header or a query parameter.
    Malformed 400 [Invalid] Failure::malformed("limit", "must be a whole number from 1 to 200");
    /// No token, or one that does not hold.
    NoToken 401 [Unauthenticated]
        Failure::new(Unauthenticated, "send `Authorization: Bearer <token>`");
    /// The caller may see it, but not do this; or acts for another without scope `service`.
    NotAllowed 403 [Forbidden] Failure::new(Forbidden, "join first: only members post");
    /// It does not exist, or the caller may not see it.
    Missing 404 [NotFound]
        Failure::new(NotFound, "no such conversation, or you may not see it");
    /// The idempotency key was used with another request.
    OtherRequest 409 [IdempotencyMismatch] Failure::new(
        IdempotencyMismatch,
        "this idempotency key was used with another request; use a new key for a new request",
    );
    /// The message was redacted.
    Gone 410 [Redacted] Failure::new(
        Redacted,
        "the message was redacted; it can no longer be read or changed",
    );
    /// The body is over the limit, `limits.body_bytes` of the config, by default 64 KiB.
    TooLong 413 [TooLarge]
        Failure::new(TooLarge, "the body has more than 65536 bytes, the limit");
    /// The body is not JSON.
    NotJson 415 [UnsupportedMediaType] Failure::new(
        UnsupportedMediaType,
        "send the body with `Content-Type: application/json`",
    );
    /// It parses, but is against a rule: a limit, an unknown field, a wrong type, a state in which
    /// this cannot be done.
    AgainstRule 422 [Invalid] Failure::rule("text", "is empty; write something");
    /// Too much from this user: writes a second, `limits.writes_per_second` of the config, by
    /// default 50; or open streams, `limits.connections_per_user`, by default 200.
    SlowDown 429 [RateLimited]
        Failure::new(RateLimited, "more than 50 writes a second; slow down").retry_after_ms(20);
    /// A bug. The operator was told.
    Bug 500 [Internal]
        Failure::new(Internal, "something went wrong here; the operator was told");
    /// Too much from all.
    Busy 503 [Overloaded]
        Failure::new(Overloaded, "too many requests are under way; retry shortly");
    /// Too much from all, or the store does not answer.
    Unavailable 503 [Overloaded, StoreUnavailable] Failure::new(
        StoreUnavailable,
        "the store did not answer in time; retry with the same idempotency key",
    );
    /// This region lacks something that the request builds on: `waiting_for` names the regions whose
    /// writes are missing, `available` is the part of the cursor that is here. To a post that waited for
    /// more regions: `acked_by` names those that have it, `waiting_for` the others. Or, as everywhere, too
    /// much from all, or the store does not answer.
    Behind 503 [NotCaughtUp, Overloaded, StoreUnavailable] behind();
}

fn behind() -> Failure {
    let detail = "this region waits for what us committed; go on with `available`, or retry";
    let mut failure = Failure::new(NotCaughtUp, detail);
    failure.0.waiting_for = vec!["us".to_owned()];
    failure.0.available = Some("AQAA".to_owned());
    failure
}

fn problem(status: u16, description: &str, codes: &[ProblemCode], example: Failure) -> Response {
    let codes = codes.iter().map(|code| code.as_str());
    let narrowed = ObjectBuilder::new()
        .property(
            "status",
            ObjectBuilder::new()
                .schema_type(Type::Integer)
                .enum_values(Some([status])),
        )
        .property(
            "code",
            ObjectBuilder::new()
                .schema_type(Type::String)
                .enum_values(Some(codes)),
        );
    let schema = AllOfBuilder::new()
        .item(Ref::from_schema_name("Problem"))
        .item(narrowed);
    let example: Problem = *example.0;
    let content = ContentBuilder::new()
        .schema(Some(schema))
        .example(Some(json!(example)))
        .build();
    let mut headers = vec!["Whimbrel-Region", "Whimbrel-Request"];
    match status {
        401 => headers.push("WWW-Authenticate"),
        429 => headers.extend([
            "Retry-After",
            "RateLimit-Limit",
            "RateLimit-Remaining",
            "RateLimit-Reset",
        ]),
        503 => headers.push("Retry-After"),
        _ => {}
    }
    let mut response = ResponseBuilder::new()
        .description(description)
        .content(PROBLEM_JSON, content)
        .build();
    for name in headers {
        response.headers.insert(name.to_owned(), header_ref(name));
    }
    response
}
