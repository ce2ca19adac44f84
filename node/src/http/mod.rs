//! The public API and the admin listener.

pub mod admin;
pub mod auth;
mod conversations;
mod error;
mod limit;
mod messages;
mod receipts;
mod request;
mod sync;
mod ws;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post, put};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use whimbrel_client::api::ProblemCode;

use crate::batcher::Batchers;
use crate::config::{Limits, Region};
use crate::digest::Digests;
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::replicator::Peers;
use crate::session::SessionContext;
use crate::store::Store;
use crate::tailer::Tailers;
use auth::Auth;
pub use error::Failure;
pub use limit::{Connections, Quotas};

/// What handlers share.
pub struct App {
    /// The store.
    pub store: Store,
    /// Who this node is.
    pub identity: Arc<Identity>,
    /// All regions, in the order of the config.
    pub regions: Vec<Region>,
    /// Configured limits.
    pub limits: Limits,
    /// Takes writes.
    pub batchers: Batchers,
    /// Know how far this region is, and feed sessions.
    pub tailers: Tailers,
    /// Verifies tokens.
    pub auth: Auth,
    /// Writes per user.
    pub quotas: Quotas,
    /// Streams per user.
    pub connections: Connections,
    /// Digests of conversations.
    pub digests: Arc<Digests>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What is known of other regions.
    pub peers: watch::Receiver<Arc<Peers>>,
    /// Requests that may be under way.
    pub in_flight: tokio::sync::Semaphore,
    /// The node stops.
    pub shutdown: CancellationToken,
}

impl App {
    fn session_context(&self) -> SessionContext {
        SessionContext {
            store: self.store.clone(),
            identity: self.identity.clone(),
            tailers: self.tailers.clone(),
        }
    }
}

/// The public API.
pub fn router(app: Arc<App>) -> Router {
    let conversation = "/v1/conversations/{conversation}";
    let message = "/v1/conversations/{conversation}/messages/{message}";
    Router::new()
        .route("/v1/regions", get(admin::regions))
        .route(
            "/v1/conversations",
            get(conversations::list).post(conversations::create),
        )
        .route(
            conversation,
            get(conversations::get).patch(conversations::change),
        )
        .route(
            &format!("{conversation}/members"),
            get(conversations::members),
        )
        .route(
            &format!("{conversation}/members/{{user}}"),
            put(conversations::set_member).delete(conversations::remove_member),
        )
        .route(
            &format!("{conversation}/messages"),
            get(messages::page).post(messages::post),
        )
        .route(
            message,
            get(messages::get)
                .patch(messages::edit)
                .delete(messages::redact),
        )
        .route(&format!("{message}/history"), get(messages::history))
        .route(
            &format!("{message}/reactions/{{emoji}}"),
            put(messages::react).delete(messages::unreact),
        )
        .route(&format!("{conversation}/read"), put(receipts::mark_read))
        .route(&format!("{conversation}/receipts"), get(receipts::receipts))
        .route(&format!("{conversation}/typing"), post(receipts::typing))
        .route("/v1/sync", get(sync::sync))
        .route("/v1/stream", get(ws::stream))
        .method_not_allowed_fallback(async || {
            Failure::new(
                ProblemCode::MethodNotAllowed,
                "this path does not take this method; see the `Allow` header",
            )
        })
        .fallback(async || Failure::new(ProblemCode::NotFound, "there is no such path"))
        .layer(axum::middleware::from_fn_with_state(
            app.clone(),
            limit::around,
        ))
        .with_state(app)
}
