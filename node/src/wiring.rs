//! Puts the parts of a node together.

use axum::Router;
use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// Serves until `shutdown`.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(config.listen.admin).await?;
    axum::serve(listener, Router::new().fallback(|| async { "{}" }))
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await?;
    Ok(())
}
