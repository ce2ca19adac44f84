//! The relays of a cluster, which live in the process that runs it.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tokio_util::task::AbortOnDropHandle;
use whimbrel_replication::relay::Links;
use whimbrel_replication::relay::control::{SOCKET, Server};

use super::layout::Layout;

/// Relays between all regions, and who steers them. Dropped, both are gone.
pub(super) struct Relays {
    links: Arc<Links>,
    server: AbortOnDropHandle<()>,
}

impl Relays {
    /// Starts them. `data` is the cluster's folder as it was typed: the path of a socket is short.
    pub(super) async fn start(layout: &Layout, data: &Path, seed: u64) -> anyhow::Result<Self> {
        let links = Links::start(seed, layout.dials()?)
            .await
            .context("cannot start the relays")?;
        let links = Arc::new(links);
        let server = Server::bind(&data.join(SOCKET))
            .with_context(|| format!("--data {}", data.display()))?;
        let server = tokio::spawn(server.run(Arc::clone(&links)));
        Ok(Self {
            links,
            server: AbortOnDropHandle::new(server),
        })
    }

    /// To steer them from here.
    pub(super) fn links(&self) -> &Links {
        &self.links
    }

    /// Stops them, and takes the socket away.
    pub(super) async fn stop(self) {
        self.server.abort();
        // It was cancelled just now.
        let _ = self.server.await;
    }
}
