//! Spans for a collector, by OTLP over HTTP, in batches.

use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use opentelemetry::trace::{Link, SpanKind, TraceContextExt as _, TraceId};
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SamplingResult, SdkTracerProvider, ShouldSample};
use tokio::runtime::Handle;

use crate::config::Traces;

/// How long the collector may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last spans may take when the node stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Sends the spans of this process.
#[derive(Debug)]
pub struct Exporter(SdkTracerProvider);

impl Exporter {
    /// Starts it where it is configured. Once in a process.
    ///
    /// # Errors
    ///
    /// A URL that the exporter does not take.
    pub fn start(traces: &Traces, region: &str, node: u32) -> anyhow::Result<Option<Self>> {
        let Some(url) = &traces.otlp else {
            return Ok(None);
        };
        let client = OnRuntime {
            client: HyperClient::with_default_connector(TIMEOUT, None),
            runtime: Handle::current(),
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(url)
            .with_timeout(TIMEOUT)
            .build()
            .context("traces.otlp")?;
        let resource = Resource::builder()
            .with_service_name("whimbrel-node")
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", format!("{region}-{node}")),
                KeyValue::new("whimbrel.region", region.to_owned()),
            ])
            .build();
        #[allow(clippy::cast_precision_loss, reason = "a share need not be exact")]
        let share = 1.0 / traces.one_in as f64;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(AskedOrShare(Sampler::TraceIdRatioBased(share)))
            .with_resource(resource)
            .build();
        global::set_tracer_provider(provider.clone());
        Ok(Some(Self(provider)))
    }

    /// Sends what it still has.
    pub async fn stop(self) {
        let stop = move || self.0.shutdown_with_timeout(STOP_TIMEOUT);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(stop).await {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// Keeps the traces that a caller asks for, and a share of the others, the same in all regions.
#[derive(Clone, Debug)]
struct AskedOrShare(Sampler);

impl ShouldSample for AskedOrShare {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let is_asked = parent.is_some_and(|parent| parent.span().span_context().is_sampled());
        let sampler = if is_asked {
            &Sampler::AlwaysOn
        } else {
            &self.0
        };
        sampler.should_sample(parent, trace, name, kind, attributes, links)
    }
}

/// The exporter has a thread of its own, the client needs a runtime.
#[derive(Debug)]
struct OnRuntime {
    client: HyperClient,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for OnRuntime {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self
            .runtime
            .spawn(async move { client.send_bytes(request).await });
        sent.await?
    }
}
