//! `/v1/regions`, and the admin listener: health, metrics, replication, digests. The admin listener
//! has no authentication; it never stands on a public address.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;
use whimbrel_client::api::{self, ProblemCode};
use whimbrel_replication::id::ShardId;
use whimbrel_replication::link::Event;

use super::request::{NoQuery, Query, answer, id};
use super::{App, Failure};
use crate::apply::rows::SnapshotStage;
use crate::clock::unix_ms;
use crate::digest::total;
use crate::replicator::{PeerHealth, StoppedLog, unreplicated};
use crate::skip::{self, Skipped};
use crate::snapshot::share_merged;

const SECONDS_A_DAY: f64 = 24.0 * 60.0 * 60.0;

/// The admin listener.
#[expect(clippy::disallowed_methods, reason = "it is no part of the public API")]
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route(
            "/healthz",
            get(async || axum::Json(json!({"status": "ok"}))),
        )
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/admin/v1/replication", get(replication))
        .route("/admin/v1/replication/skip", post(skip))
        .route("/admin/v1/store", get(store))
        .route("/admin/v1/digests", get(digests))
        .method_not_allowed_fallback(async || {
            let what = "GET, and POST for /admin/v1/replication/skip, are all that is taken";
            Failure::new(ProblemCode::MethodNotAllowed, what)
        })
        .fallback(async || Failure::new(ProblemCode::NotFound, "there is no such path"))
        .with_state(app)
}

/// All regions
///
/// And how they look from here.
#[utoipa::path(
    get,
    path = "/v1/regions",
    operation_id = "listRegions",
    tag = "cluster",
    security(),
    responses(
        (status = 200, description = "All regions", body = api::Regions),
    ),
)]
pub async fn regions(State(app): State<Arc<App>>, _: NoQuery) -> Response {
    let peers = app.peers.borrow().clone();
    let regions = app.regions.iter().map(|region| {
        let is_own = region.id == app.identity.origin.region;
        let status = match peers.health(region.id) {
            _ if is_own && (!app.shows() || unready(&app).is_some()) => api::RegionStatus::Lagging,
            _ if is_own => api::RegionStatus::Up,
            PeerHealth::Up => api::RegionStatus::Up,
            PeerHealth::Lagging => api::RegionStatus::Lagging,
            PeerHealth::Down => api::RegionStatus::Down,
        };
        let running = if is_own { app.nodes.urls() } else { Vec::new() };
        // Before the first beat is answered nobody is known to run.
        let urls = if running.is_empty() {
            region.urls.clone()
        } else {
            running
        };
        api::RegionInfo {
            name: region.name.clone(),
            url: urls.first().cloned().unwrap_or_default(),
            urls,
            status,
            progress_percent: peers
                .progress_percent
                .filter(|_| is_own && status == api::RegionStatus::Lagging),
        }
    });
    let regions = regions.collect();
    answer(
        200,
        &api::Regions {
            this: app.identity.own_name(),
            regions,
        },
        None,
    )
}

/// Why the node does not want to be asked, if it does not.
fn unready(app: &App) -> Option<&'static str> {
    if app.shutdown.is_cancelled() {
        Some("shutting down")
    } else if app.vitals.borrow().trouble.is_some() {
        Some("the store does not answer")
    } else {
        app.peers.borrow().unready
    }
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    match unready(&app) {
        None => axum::Json(json!({"status": "ready"})).into_response(),
        Some(why) => (
            StatusCode::SERVICE_UNAVAILABLE,
            axum::Json(json!({"status": why})),
        )
            .into_response(),
    }
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    app.peers.borrow().report(&app.metrics);
    app.metrics.ready.set(i64::from(unready(&app).is_none()));
    if app.store.is_shared() {
        // What a cluster that does not answer had said before is not how it is.
        app.metrics.store_cluster.reset();
        let health = app.vitals.borrow().health.clone().unwrap_or_default();
        for (measure, value) in health.measures() {
            app.metrics
                .store_cluster
                .with_label_values(&[measure])
                .set(value);
        }
    }
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    app.metrics.nodes.set(count(app.nodes.running()));
    let snapshots = snapshots(&app).len();
    app.metrics.snapshots_under_way.set(count(snapshots));
    let pulled = app.nodes.pulled(app.identity.shards).len();
    app.metrics.pulled_shards.set(count(pulled));
    let bytes = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    if let Some(used) = app.store.disk_bytes() {
        app.metrics.store_disk_bytes.set(bytes(used));
    }
    match rustix::fs::statvfs(&app.data_dir) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let size = disk.f_blocks.saturating_mul(disk.f_frsize);
            app.metrics.disk_free_bytes.set(bytes(free));
            app.metrics.disk_size_bytes.set(bytes(size));
        }
        Err(error) => tracing::warn!(%error, "cannot see how full the disk of data_dir is"),
    }
    let days_until = |expires: i64| (expires - unix_ms() / 1_000) as f64 / SECONDS_A_DAY;
    app.metrics
        .certificate_days_left
        .set(days_until(app.certificate_expires));
    if let Some(expires) = app.store_certificate_expires {
        app.metrics
            .store_certificate_days_left
            .with_label_values::<&str>(&[])
            .set(days_until(expires));
    }
    let text_format = HeaderValue::from_static("text/plain; version=0.0.4");
    ([(header::CONTENT_TYPE, text_format)], app.metrics.render()).into_response()
}

async fn replication(State(app): State<Arc<App>>) -> Result<Response, Failure> {
    let peers = app.peers.borrow().clone();
    let held = app.tailers.held_all();
    let skipped = skip::all(&app.store).await?;
    let skipped = skipped.into_iter().map(|skipped| {
        json!({
            "shard": skipped.shard.0,
            "origin": skipped.origin.to_string(),
            "at": skipped.at.to_string(),
            "reason": skipped.reason,
        })
    });
    let unreplicated = unreplicated(&app.store, &app.identity, &app.tailers, &peers).await?;
    let body = json!({
        "region": app.identity.own_name(),
        "origin": app.identity.origin.to_string(),
        "node": app.identity.node.0,
        "held": held.to_string(),
        "ready": peers.unready.is_none(),
        "peers": peers.views(),
        "stopped": peers.stopped,
        "skipped": skipped.collect::<Vec<_>>(),
        "unreplicated": unreplicated,
        "snapshots": snapshots(&app),
    });
    Ok(answer(200, &body, None))
}

/// Passes the batch that a log stopped at: it is not applied here, now or later.
async fn skip(State(app): State<Arc<App>>, parts: Parts) -> Result<Response, Failure> {
    // Browsers add it to each POST, and nothing else does: a page must not act for who looks at it.
    if parts.headers.contains_key(header::ORIGIN) {
        let detail = "a browser asks for this; an operator's own tool, as curl, is what it is for";
        return Err(Failure::new(ProblemCode::Forbidden, detail));
    }
    let query = Query::read(&parts, &["shard", "origin", "at"])?;
    let wanted = |name: &str| {
        let missing = "is needed, as `stopped` in /admin/v1/replication has it";
        query
            .text(name)
            .ok_or_else(|| Failure::malformed(name, missing))
    };
    let (shard, origin, at) = (wanted("shard")?, wanted("origin")?, wanted("at")?);
    let peers = app.peers.borrow().clone();
    let is_wanted = |log: &&StoppedLog| {
        log.shard.to_string() == shard
            && log.origin.to_string() == origin
            && log.at.to_string() == at
    };
    let Some(log) = peers.stopped.iter().find(is_wanted) else {
        return Err(Failure::new(
            ProblemCode::NotFound,
            "no log stands still at this batch on this node; `stopped` in /admin/v1/replication lists \
             those that do",
        ));
    };
    let skipped = Skipped {
        shard: log.shard,
        origin: log.origin,
        at: log.at,
        reason: log.reason.clone(),
    };
    tracing::warn!(
        %shard, %origin, %at, reason = log.reason,
        "an operator chose to pass a batch; what it did comes with a repair, if at all"
    );
    skip::note(&app.store, skipped).await?;
    let (shard, origin, at) = (log.shard, log.origin, log.at);
    // Closed only when the node stops; then it is taken up at the next start.
    let _ = app.engine.send(Event::Skip { shard, origin, at }).await;
    Ok(answer(
        202,
        &json!({"status": "the batch is passed once it comes again"}),
        None,
    ))
}

/// Those that are under way.
fn snapshots(app: &App) -> Vec<serde_json::Value> {
    let shards = (0..app.identity.shards).map(ShardId);
    let under_way = shards.filter_map(|shard| {
        let row = app.tailers.snapshot(shard);
        let stage = match row.stage() {
            SnapshotStage::Done => return None,
            SnapshotStage::CatchingUp => "catching up",
            SnapshotStage::Copying => "copying",
        };
        Some(json!({
            "shard": shard.0,
            "stage": stage,
            "share": share_merged(shard, &row),
            "rows": row.rows,
        }))
    });
    under_way.collect()
}

async fn store(State(app): State<Arc<App>>) -> Response {
    let vitals = app.vitals.borrow().clone();
    let pulled = app.nodes.pulled(app.identity.shards);
    let pulled: Vec<u16> = pulled.into_iter().map(|shard| shard.0).collect();
    let body = json!({
        "engine": app.store.engine(),
        "answers": vitals.trouble.is_none(),
        "trouble": vitals.trouble.map(|error| error.to_string()),
        "cluster": vitals.health,
        "disk_bytes": app.store.disk_bytes(),
        "node": app.identity.node.0,
        "nodes": app.nodes.urls(),
        "pulled_shards": pulled,
    });
    answer(200, &body, None)
}

async fn digests(State(app): State<Arc<App>>, parts: Parts) -> Result<Response, Failure> {
    let query = Query::read(&parts, &["conversation"])?;
    // Before the digests are computed: they show at least what the cursor covers.
    let cursor = app.tailers.held_all();
    let all = match query.text("conversation") {
        Some(text) => {
            let conversation = id("conversation", text)?;
            let scope = app.identity.scope(conversation);
            let digest = app
                .digests
                .conversation(&app.store, scope)
                .await?
                .ok_or_else(|| {
                    Failure::new(
                        ProblemCode::NotFound,
                        "this region does not know the conversation",
                    )
                })?;
            BTreeMap::from([(conversation, digest)])
        }
        None => app.digests.all(&app.store, &app.identity).await?,
    };
    let body = api::Digests {
        digest: total(&all).to_hex().to_string(),
        cursor: cursor.to_string(),
        conversations: all
            .iter()
            .map(|(id, digest)| (id.to_string(), digest.to_hex().to_string()))
            .collect(),
    };
    Ok(answer(200, &body, Some(&cursor)))
}
