//! Problems as answers. What the caller reads is not what the operator reads.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use whimbrel_client::api::{self, FieldError, PROBLEM_JSON, Problem, ProblemCode};

use crate::batcher::WriteError;
use crate::command::Refusal;
use crate::store::StoreError;
use crate::trace;

/// An answer that is no success.
#[derive(Debug)]
pub struct Failure(pub Box<Problem>);

/// How soon to try again what overload or a fault refused.
const RETRY_AFTER_MS: u64 = 1_000;

impl Failure {
    /// A problem with what to do about it.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        let mut problem = Problem::new(code, detail);
        if problem.status == 503 || problem.status == 429 {
            problem.retry_after_ms = Some(RETRY_AFTER_MS);
        }
        Self(Box::new(problem))
    }

    /// 400: it does not parse.
    pub fn malformed(field: &str, message: impl Into<String>) -> Self {
        Self::field(400, field, message)
    }

    /// 422: it parses, and is against a rule.
    pub fn rule(field: &str, message: impl Into<String>) -> Self {
        Self::field(422, field, message)
    }

    fn field(status: u16, field: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        let mut problem = Problem::new(ProblemCode::Invalid, format!("{field}: {message}"));
        problem.status = status;
        problem.errors.push(FieldError {
            field: field.to_owned(),
            message,
        });
        Self(Box::new(problem))
    }

    /// When to try again.
    pub fn retry_after_ms(mut self, ms: u64) -> Self {
        self.0.retry_after_ms = Some(ms);
        self
    }

    /// 503: it takes snapshots, and shows nothing of them before they are whole.
    pub fn catching_up() -> Self {
        let detail = "this region is being rebuilt from the others; ask another region meanwhile";
        Self::new(ProblemCode::NotCaughtUp, detail)
    }

    /// 500. The operator reads the cause, the caller does not.
    pub fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(request = trace::current_id(), %cause, "a request failed");
        Self::new(
            ProblemCode::Internal,
            "something went wrong here; the operator was told",
        )
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut problem = self.0;
        problem.request = trace::current_id();
        let retry_after = problem.retry_after_ms;
        let body = serde_json::to_vec(&*problem).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(ms) = retry_after {
            headers.insert(
                api::header::RETRY_AFTER,
                HeaderValue::from(ms.div_ceil(1_000)),
            );
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            Refusal::NotFound(_) => Self::new(ProblemCode::NotFound, detail),
            Refusal::Forbidden(_) => Self::new(ProblemCode::Forbidden, detail),
            Refusal::Rule { field, message } => Self::rule(field, message),
            Refusal::Mismatch => Self::new(ProblemCode::IdempotencyMismatch, detail),
            Refusal::Redacted => Self::new(ProblemCode::Redacted, detail),
            Refusal::UnknownBase => Self::new(ProblemCode::NotCaughtUp, detail),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Conflict
            | StoreError::TooOld
            | StoreError::Unknown
            | StoreError::Abandoned
            | StoreError::Busy(_)
            | StoreError::Unavailable(_)
            | StoreError::NewLife
            | StoreError::Fatal(_) => {
                tracing::warn!(request = trace::current_id(), %error, "the store did not serve a request");
                Self::new(
                    ProblemCode::StoreUnavailable,
                    "the store did not answer in time; retry with the same idempotency key",
                )
            }
            StoreError::FeatureLevel => Self::new(
                ProblemCode::StoreUnavailable,
                "not all regions run a version that knows this kind of write; retry when they do",
            ),
            StoreError::Snapshot => Self::catching_up(),
            StoreError::TooLarge(what) => Self::new(ProblemCode::TooLarge, *what),
            _ => Self::internal(&error),
        }
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Refused(refusal) => refusal.into(),
            WriteError::Store(error) => error.into(),
            WriteError::Closed(why) => Self::new(
                ProblemCode::StoreUnavailable,
                format!("{why}; try another region, or retry with the same idempotency key"),
            ),
            WriteError::Overloaded => Self::new(
                ProblemCode::Overloaded,
                "too many writes are waiting; retry with the same idempotency key",
            ),
            WriteError::ShuttingDown => Self::new(
                ProblemCode::Overloaded,
                "this node is shutting down; retry, or use another region",
            ),
        }
    }
}
