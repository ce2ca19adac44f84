//! Requests as operators follow them: one id from the client's call over its commit to the regions
//! that apply what it wrote.
//!
//! The id is the trace id of [W3C Trace Context](https://www.w3.org/TR/trace-context/): it comes with
//! the request (`traceparent`) or is made for it, goes back in the answer, and travels with the ops
//! in the log. Log lines tell it as `request`. Where [`crate::otlp`] is configured, spans tell it to
//! a collector as well.

use std::time::SystemTime;

use axum::http::{HeaderMap, StatusCode};
use opentelemetry::global::{self, BoxedSpan, BoxedTracer};
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
    TraceState, Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use rand::Rng as _;
use whimbrel_client::api::header::TRACEPARENT;
use whimbrel_replication::id::ShardId;
use whimbrel_replication::op::Trace;

/// Makes spans that are kept only where they are exported.
fn tracer() -> BoxedTracer {
    global::tracer("whimbrel-node")
}

/// Begins a request: goes on with the caller's trace, or begins one where it names none, or several.
pub fn begin(headers: &HeaderMap, method: &str, route: &str) -> Context {
    let propagator = TraceContextPropagator::new();
    let caller = match headers.get_all(TRACEPARENT).iter().count() {
        1 => propagator.extract_with_context(&Context::new(), &HeaderExtractor(headers)),
        _ => Context::new(),
    };
    let tracer = tracer();
    let span = tracer
        .span_builder(format!("{method} {route}"))
        .with_kind(SpanKind::Server)
        .with_attributes([
            KeyValue::new("http.request.method", method.to_owned()),
            KeyValue::new("http.route", route.to_owned()),
        ])
        .start_with_context(&tracer, &caller);
    if span.span_context().is_valid() {
        return caller.with_span(span);
    }
    // Nothing is exported, and the caller named no trace.
    let mut rng = rand::rng();
    let made = Trace {
        trace: rng.random_range(1..=u128::MAX),
        span: rng.random_range(1..=u64::MAX),
        is_sampled: false,
    };
    Context::new().with_remote_span_context(span_context(made))
}

/// Ends a request with its answer.
pub fn end(request: &Context, status: StatusCode) {
    let span = request.span();
    span.set_attribute(KeyValue::new(
        "http.response.status_code",
        i64::from(status.as_u16()),
    ));
    if status.is_server_error() {
        span.set_status(Status::error(""));
    }
    span.end();
}

/// The request's id.
pub fn id(request: &Context) -> TraceId {
    request.span().span_context().trace_id()
}

/// The id of the request that is being answered, for people and other programs.
pub fn current_id() -> Option<String> {
    current().map(|trace| trace.to_string())
}

/// The request that is being answered.
pub fn current() -> Option<Trace> {
    let context = Context::current();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| Trace {
        trace: u128::from_be_bytes(span.trace_id().to_bytes()),
        span: u64::from_be_bytes(span.span_id().to_bytes()),
        is_sampled: span.is_sampled(),
    })
}

/// The wait of a request for its commit, until the span is dropped.
pub fn committing(shard: ShardId) -> BoxedSpan {
    let tracer = tracer();
    tracer
        .span_builder("commit")
        .with_attributes([KeyValue::new("whimbrel.shard", i64::from(shard.0))])
        .start_with_context(&tracer, &Context::current())
}

/// Tells of requests in another region that what they wrote stands here now.
pub fn applied(
    traces: impl Iterator<Item = Trace>,
    region: &str,
    shard: ShardId,
    began: SystemTime,
) {
    let tracer = tracer();
    for trace in traces {
        tracing::debug!(request = %trace, region, %shard, "applied");
        if !trace.is_sampled {
            continue;
        }
        let writer = Context::new().with_remote_span_context(span_context(trace));
        tracer
            .span_builder("apply")
            .with_kind(SpanKind::Consumer)
            .with_start_time(began)
            .with_attributes([
                KeyValue::new("whimbrel.from", region.to_owned()),
                KeyValue::new("whimbrel.shard", i64::from(shard.0)),
            ])
            .start_with_context(&tracer, &writer)
            .end();
    }
}

fn span_context(trace: Trace) -> SpanContext {
    let flags = if trace.is_sampled {
        TraceFlags::SAMPLED
    } else {
        TraceFlags::NOT_SAMPLED
    };
    SpanContext::new(
        TraceId::from_bytes(trace.trace.to_be_bytes()),
        SpanId::from_bytes(trace.span.to_be_bytes()),
        flags,
        true,
        TraceState::NONE,
    )
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_request_goes_on_with_the_one_trace_that_it_names() {
        let (first, second) = (
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        );
        let trace_of = |named: &[&'static str]| {
            let named = named.iter().map(|value| HeaderValue::from_static(value));
            let name = axum::http::HeaderName::from_static(TRACEPARENT);
            let headers: HeaderMap = named.map(|value| (name.clone(), value)).collect();
            id(&begin(&headers, "GET", "/")).to_string()
        };
        assert_eq!(trace_of(&[first]), first[3..35]);
        for others in [&[][..], &[first, second], &[first, first], &["00-zz"]] {
            let made = trace_of(others);
            assert!(made != first[3..35] && made != second[3..35], "{others:?}");
            assert_ne!(made, "0".repeat(32), "{others:?}");
        }
    }
}
