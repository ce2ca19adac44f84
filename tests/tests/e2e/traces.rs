//! What operators see of one request: its id from the client's call to the regions that apply it, in
//! logs and as a trace.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use whimbrel_client::api::ProblemCode;

use crate::foundationdb;
use crate::harness::{Cluster, REGIONS, group, http, text};
use crate::wait::{ensure, until};

/// A span, as a collector gets it.
#[derive(Clone, Debug)]
struct Seen {
    region: String,
    name: String,
    trace: String,
    span: String,
    parent: String,
}

/// Takes in spans by OTLP over HTTP.
struct Collector {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    _serving: AbortOnDropHandle<()>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let router = Router::new().fallback(take).with_state(seen.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            url,
            seen,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    fn of(&self, trace: &str) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .filter(|span| span.trace == trace)
            .cloned()
            .collect()
    }
}

async fn take(State(seen): State<Arc<Mutex<Vec<Seen>>>>, body: Bytes) {
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let sent = ExportTraceServiceRequest::decode(body).unwrap();
    for of_resource in sent.resource_spans {
        let attributes = of_resource.resource.unwrap().attributes;
        let region = attributes
            .into_iter()
            .find(|it| it.key == "whimbrel.region");
        let region = match region.unwrap().value.unwrap().value {
            Some(Value::StringValue(region)) => region,
            other => panic!("a region is no text: {other:?}"),
        };
        let spans = of_resource.scope_spans.into_iter().flat_map(|of| of.spans);
        seen.lock().unwrap().extend(spans.map(|span| Seen {
            region: region.clone(),
            name: span.name,
            trace: hex(&span.trace_id),
            span: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
        }));
    }
}

/// The nodes export to it the traces that somebody asks for, and log all that they tell of requests.
async fn traced(collector: &Collector) -> Cluster {
    let section = format!(
        "[traces]\notlp = \"{}\"\none_in = 1000000000\n\n",
        collector.url
    );
    let store = |cluster: &str, region: &str| foundationdb::section(cluster, region) + &section;
    let mut cluster = Cluster::with_stores(&REGIONS, store).await;
    for region in REGIONS {
        let log = [
            ("WHIMBREL_LOG__FORMAT", "json"),
            ("WHIMBREL_LOG__FILTER", "info,whimbrel_node=debug"),
        ];
        let env = &mut cluster.node_mut(region).env;
        env.extend(log.map(|(name, value)| (name, value.to_owned())));
        cluster.stop(region).await;
        cluster.restart(region).await;
    }
    cluster
}

/// An app's trace goes on through the region that takes its post to the regions that apply it.
#[tokio::test(flavor = "multi_thread")]
async fn one_trace_goes_over_all_regions() {
    let collector = Collector::start().await;
    let cluster = traced(&collector).await;
    let ana = cluster.client("eu", "ana");
    let id = group(&ana, &["ben"]).await;
    let (trace, root) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let posted = ana
        .post(&id, &text("traced"))
        .traceparent(format!("00-{trace}-{root}-01"))
        .await
        .unwrap();
    assert_eq!(posted.request.as_deref(), Some(trace));

    let spans = until("spans of all regions", async || {
        let spans = collector.of(trace);
        let regions: BTreeSet<_> = spans.iter().map(|span| span.region.as_str()).collect();
        let all = spans.len() == 4 && regions.len() == 3;
        ensure(all, format!("{spans:?}")).map(|()| spans.clone())
    })
    .await;
    let answered = spans
        .iter()
        .find(|span| span.name == "POST /v1/conversations/{conversation}/messages")
        .unwrap();
    assert_eq!(
        (answered.region.as_str(), answered.parent.as_str()),
        ("eu", root)
    );
    for span in spans.iter().filter(|span| span.span != answered.span) {
        assert_eq!(span.parent, answered.span, "{span:?}");
        let name = if span.region == "eu" {
            "commit"
        } else {
            "apply"
        };
        assert_eq!(span.name, name);
    }
}

/// One id names a request in the answer, in the log of the region that took it, and in those of the
/// others; problems name theirs.
#[tokio::test(flavor = "multi_thread")]
async fn logs_of_all_regions_know_a_request_by_one_id() {
    let collector = Collector::start().await;
    let cluster = traced(&collector).await;
    let ana = cluster.client("eu", "ana");
    let id = group(&ana, &["ben"]).await;
    let posted = ana.post(&id, &text("logged")).await.unwrap();
    let request = posted.request.clone().unwrap();
    for (region, told) in [
        ("eu", vec!["committed", "answered"]),
        ("us", vec!["applied"]),
        ("ap", vec!["applied"]),
    ] {
        let lines = until(&format!("{region} to tell of it"), async || {
            let log = cluster.node(region).log();
            let lines = log.lines().filter(|line| line.contains(&request));
            let lines: Vec<String> = lines.map(str::to_owned).collect();
            ensure(lines.len() == told.len(), format!("{lines:?}")).map(|()| lines)
        })
        .await;
        for (line, message) in lines.iter().zip(told) {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["request"], *request, "{line}");
            assert_eq!(line["message"], message, "{line}");
        }
    }
    assert!(collector.of(&request).is_empty(), "nobody asked for it");

    // Also one that nobody gave an id, and that was refused.
    let url = format!("{}/v1/conversations", cluster.node("eu").url());
    let refused = http().get(url).send().await.unwrap();
    let named = refused.headers()["whimbrel-request"]
        .to_str()
        .unwrap()
        .to_owned();
    let problem: serde_json::Value = refused.json().await.unwrap();
    assert_eq!(problem["code"], ProblemCode::Unauthenticated.as_str());
    assert_eq!(problem["request"], *named);
    assert!(named.len() == 32 && named != "0".repeat(32), "{named}");
}
