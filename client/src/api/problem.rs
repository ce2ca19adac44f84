//! Problem details (RFC 9457): the body of every answer that is not a success.

use serde::{Deserialize, Serialize};

#[cfg(feature = "openapi")]
use super::openapi as form;

/// Content type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Why a call was refused or failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// A URI that names the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same for all problems of this kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong here, and what to do.
    pub detail: String,
    /// What programs branch on.
    pub code: ProblemCode,
    /// Present where one should retry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = u64, required = false))]
    pub retry_after_ms: Option<u64>,
    /// With `invalid`: what is wrong with which field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// With `not_caught_up`: regions whose writes are missing here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<form::RegionName>))]
    pub waiting_for: Vec<String>,
    /// With `not_caught_up`, to a post that waited for several regions: those that have committed it so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<form::RegionName>))]
    pub acked_by: Vec<String>,
    /// With `not_caught_up`: the given cursor capped at what this region holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = form::Cursor, required = false))]
    pub available: Option<String>,
    /// The request's id, as in `Whimbrel-Request`: the region's log knows it by that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = form::RequestId, required = false))]
    pub request: Option<String>,
}

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FieldError {
    /// Name of the field, query parameter or header.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// What a caller branches on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProblemCode {
    /// 401: no token, or one that does not hold.
    Unauthenticated,
    /// 403: the caller may see it, not do it.
    Forbidden,
    /// 404: it does not exist, or the caller may not see it.
    NotFound,
    /// 405.
    MethodNotAllowed,
    /// 415: the body is not JSON.
    UnsupportedMediaType,
    /// 400: malformed. 422: well-formed, but against a rule.
    Invalid,
    /// 413: text or body over the limit.
    TooLarge,
    /// 409: the key was used with another body.
    IdempotencyMismatch,
    /// 410: the message was redacted.
    Redacted,
    /// 429: too much from this user.
    RateLimited,
    /// 503: too much from all.
    Overloaded,
    /// 503: this region lacks something that the given cursor covers.
    NotCaughtUp,
    /// 503: the region's store does not answer.
    StoreUnavailable,
    /// 500: a bug.
    Internal,
    /// A code that this version does not know.
    #[serde(other)]
    Unknown,
}

impl ProblemCode {
    /// The HTTP status that goes with it; [`ProblemCode::Invalid`] is also sent with 422.
    pub const fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::IdempotencyMismatch => 409,
            Self::Redacted => 410,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::RateLimited => 429,
            Self::Internal | Self::Unknown => 500,
            Self::Overloaded | Self::NotCaughtUp | Self::StoreUnavailable => 503,
        }
    }

    /// As it stands in `code`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::Invalid => "invalid",
            Self::TooLarge => "too_large",
            Self::IdempotencyMismatch => "idempotency_mismatch",
            Self::Redacted => "redacted",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::NotCaughtUp => "not_caught_up",
            Self::StoreUnavailable => "store_unavailable",
            Self::Internal => "internal",
            Self::Unknown => "unknown",
        }
    }

    /// A few words for `title`.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Unauthenticated => "A valid token is needed",
            Self::Forbidden => "Not allowed",
            Self::NotFound => "Not found",
            Self::MethodNotAllowed => "Method not allowed",
            Self::UnsupportedMediaType => "The body must be JSON",
            Self::Invalid => "Invalid request",
            Self::TooLarge => "Too large",
            Self::IdempotencyMismatch => "The idempotency key was used with another body",
            Self::Redacted => "The message was redacted",
            Self::RateLimited => "Too many requests",
            Self::Overloaded => "Overloaded",
            Self::NotCaughtUp => "Not caught up",
            Self::StoreUnavailable => "The store is unavailable",
            Self::Internal => "Internal error",
            Self::Unknown => "Unknown problem",
        }
    }
}

impl Problem {
    /// With the code's own status and title, and nothing optional.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:whimbrel:problem:{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            code,
            retry_after_ms: None,
            errors: Vec::new(),
            waiting_for: Vec::new(),
            acked_by: Vec::new(),
            available: None,
            request: None,
        }
    }
}
