//! Opens the store that a config names.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::store::{Embedded, Store, StoreError, embedded};

/// Pause before a store that could not be reached is tried again.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// The embedded store of a data directory; made if it is not there.
///
/// # Errors
///
/// When it cannot be opened, or another process uses it.
pub async fn embedded(data_dir: &Path) -> anyhow::Result<Store> {
    let dir = data_dir.join("store");
    let opened =
        tokio::task::spawn_blocking(move || Embedded::open(&dir, embedded::Options::default()));
    let store = opened.await?.with_context(|| {
        let data_dir = data_dir.display();
        format!("data_dir: the store in {data_dir} cannot be opened")
    })?;
    Ok(Store::Embedded(store))
}

/// The embedded store of a data directory that must be there.
///
/// # Errors
///
/// When it is not, and as [`embedded()`].
pub async fn existing(data_dir: &Path) -> anyhow::Result<Store> {
    anyhow::ensure!(
        data_dir.join("store").is_dir(),
        "data_dir: there is no store in {}",
        data_dir.display()
    );
    embedded(data_dir).await
}

/// The store in a FoundationDB cluster. Waits until the cluster answers; `None` if `shutdown` comes
/// before that.
///
/// # Errors
///
/// When the cluster file, a certificate or the client library cannot be used.
#[cfg(feature = "foundationdb")]
pub async fn foundationdb(
    cluster: &config::FoundationDb,
    shutdown: &CancellationToken,
) -> anyhow::Result<Option<Store>> {
    use crate::store::{FoundationDb, RunOptions, foundationdb, keys};
    let mut options = foundationdb::Options::new(&cluster.cluster_file);
    options.prefix = cluster.prefix.clone().into_bytes();
    options.tls = cluster.tls.as_ref().map(|tls| foundationdb::Tls {
        cert: tls.cert.clone(),
        key: tls.key.clone(),
        ca: tls.ca.clone(),
        verify_peers: tls.verify_peers.clone(),
    });
    let opened = tokio::task::spawn_blocking(move || FoundationDb::open(&options));
    let store = Store::FoundationDb(opened.await?.context("store")?);
    let reached = until_reached(shutdown, async || {
        let read = store.read(RunOptions::default(), |tx| async move {
            tx.get(&keys::next_node(), true).await
        });
        read.await.with_context(|| {
            let tls = if cluster.tls.is_some() {
                "with"
            } else {
                "without"
            };
            format!("{}, {tls} TLS", cluster.cluster_file.display())
        })
    });
    Ok(reached.await?.map(|_| store))
}

/// As with the feature.
///
/// # Errors
///
/// Always.
#[cfg(not(feature = "foundationdb"))]
#[expect(clippy::unused_async, reason = "as with the feature")]
pub async fn foundationdb(
    _: &config::FoundationDb,
    _: &CancellationToken,
) -> anyhow::Result<Option<Store>> {
    anyhow::bail!("store.engine: this program was built without FoundationDB")
}

/// Tries until the store answers, and tells once that it does not; `None` if `shutdown` comes before
/// that.
///
/// # Errors
///
/// Those of `attempt`, save that the store is away.
pub async fn until_reached<T>(
    shutdown: &CancellationToken,
    attempt: impl AsyncFn() -> anyhow::Result<T>,
) -> anyhow::Result<Option<T>> {
    let mut told = false;
    loop {
        let tried = tokio::select! {
            () = shutdown.cancelled() => return Ok(None),
            tried = attempt() => tried,
        };
        let error = match tried {
            Ok(value) => return Ok(Some(value)),
            Err(error) => error,
        };
        // An attempt that was given up may have been committed: what is tried here can be repeated.
        let is_away = error
            .downcast_ref::<StoreError>()
            .is_some_and(|error| error.is_outage() || matches!(error, StoreError::Abandoned));
        if !is_away {
            return Err(error);
        }
        if !told {
            let error = format!("{error:#}");
            tracing::warn!(error, "the store cannot be reached; trying until it can");
            told = true;
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(None),
            () = tokio::time::sleep(RECONNECT_PAUSE) => {}
        }
    }
}
