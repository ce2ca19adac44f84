//! The public API and the admin listener.

pub mod admin;
pub mod auth;
mod conversations;
mod error;
mod limit;
mod messages;
mod openapi;
mod params;
mod problems;
mod receipts;
mod request;
mod sync;
mod ws;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use whimbrel_client::api::ProblemCode;
use whimbrel_replication::link::Event;

use crate::batcher::Batchers;
use crate::config::{Limits, Region};
use crate::digest::Digests;
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::replicator::Peers;
use crate::session::SessionContext;
use crate::store::Store;
use crate::tailer::Tailers;
use crate::vitals::Vitals;
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
    /// Tells the link engine something.
    pub engine: mpsc::Sender<Event>,
    /// The nodes of this region.
    pub nodes: Nodes,
    /// Whether the store answers.
    pub vitals: watch::Receiver<Vitals>,
    /// Requests that may be under way.
    pub in_flight: tokio::sync::Semaphore,
    /// Where this node keeps its files.
    pub data_dir: PathBuf,
    /// When its certificate towards other regions ends, in Unix seconds.
    pub certificate_expires: i64,
    /// When its certificate towards the store ends, if it has one.
    pub store_certificate_expires: Option<i64>,
    /// The node stops.
    pub shutdown: CancellationToken,
}

impl App {
    /// Whether all that the store lacks is not there.
    fn shows(&self) -> bool {
        self.tailers.is_showing() && self.peers.borrow().whole
    }

    fn session_context(&self) -> SessionContext {
        SessionContext {
            store: self.store.clone(),
            identity: self.identity.clone(),
            tailers: self.tailers.clone(),
        }
    }
}

/// The calls of the public API. There is no other way to add one: what is routed is documented.
fn calls() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(openapi::frame())
        .routes(routes!(conversations::list, conversations::create))
        .routes(routes!(conversations::get, conversations::change))
        .routes(routes!(conversations::members))
        .routes(routes!(
            conversations::set_member,
            conversations::remove_member
        ))
        .routes(routes!(messages::page, messages::post))
        .routes(routes!(messages::get, messages::edit, messages::redact))
        .routes(routes!(messages::history))
        .routes(routes!(messages::react, messages::unreact))
        .routes(routes!(receipts::mark_read))
        .routes(routes!(receipts::receipts))
        .routes(routes!(receipts::typing))
        .routes(routes!(sync::sync))
        .routes(routes!(ws::stream))
        .routes(routes!(admin::regions))
        .routes(routes!(openapi::serve))
}

/// The OpenAPI document of the public API.
pub fn document() -> OpenApi {
    let mut document = calls().into_openapi();
    openapi::complete(&mut document);
    document
}

/// The public API.
pub fn router(app: Arc<App>) -> Router {
    let (calls, document) = calls().split_for_parts();
    limit::show_nothing_failed(&app, &document);
    calls
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
