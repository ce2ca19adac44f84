//! Puts the parts of a node together, and takes them apart in the right order.

use std::net::UdpSocket;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use whimbrel_replication::clock::Clock;
use whimbrel_replication::quic::{QuicConfig, Transport};

use crate::audit::Audit;
use crate::batcher::Batchers;
use crate::certificate;
use crate::clock::unix_ms;
use crate::config::{self, Config};
use crate::digest::Digests;
use crate::execute::Context;
use crate::gate::WriteGate;
use crate::http::auth::{Auth, RELOAD_INTERVAL};
use crate::http::{self, App, Connections, Quotas};
use crate::level::FeatureLevel;
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::open;
use crate::origin;
use crate::otlp::Exporter;
use crate::replicator::{Known, LINK_EVENTS_MAX, Replicator, ReplicatorContext, Threads};
use crate::retention::Trimmer;
use crate::tailer::{TailerContext, Tailers};
use crate::vitals;

/// Appended logs that the replicator has not taken yet.
const APPENDED_MAX: usize = 256;
/// How long the store may take to end what is under way, once nobody asks it for more.
const STORE_DRAIN: Duration = Duration::from_secs(2);

/// Serves until `shutdown`, or until the store fails.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    // What is away comes back, but an open port must not promise an answer until then.
    let shared = match &config.store {
        config::Store::Embedded => None,
        config::Store::FoundationDb(cluster) => match open::foundationdb(cluster, &shutdown).await?
        {
            Some(store) => Some(store),
            None => return Ok(()),
        },
    };
    // Addresses first: a port that is taken is told before the embedded store is touched.
    let public = listen(config.listen.http, "listen.http").await?;
    let admin = listen(config.listen.admin, "listen.admin").await?;
    let quic = UdpSocket::bind(config.listen.quic)
        .with_context(|| format!("listen.quic: cannot listen on {}", config.listen.quic))?;
    let auth = Auth::new(config.auth.keys.clone())?;

    let store = match shared {
        Some(store) => store,
        None => open::embedded(&config.data_dir).await?,
    };
    let taken_up = open::until_reached(&shutdown, async || {
        origin::take_up(&store, &config, unix_ms()).await
    });
    let Some((identity, high_water)) = taken_up.await? else {
        return Ok(());
    };
    let identity = Arc::new(identity);
    let exporter = Exporter::start(&config.traces, &config.region.name, identity.node.0)?;
    let clock = Clock::new(high_water, config.clock.max_drift)?;
    let metrics = Arc::new(Metrics::new(&config.region.name, &store)?);
    let digests = Arc::new(Digests::default());
    let context = Context {
        identity: identity.clone(),
        clock: Arc::new(Mutex::new(clock)),
        limits: config.limits,
        edited_lately: Arc::default(),
        level: Arc::new(FeatureLevel::reading(config.replication.format)),
    };

    // What feeds clients and peers ends after the last client is answered.
    let (inner, tasks) = (CancellationToken::new(), TaskTracker::new());
    let _ends_with_us = inner.clone().drop_guard();
    let (appended_sender, appended) = mpsc::channel(APPENDED_MAX);
    let tailer_context = TailerContext {
        store: store.clone(),
        identity: identity.clone(),
        digests: digests.clone(),
        metrics: metrics.clone(),
        appended: appended_sender,
        shutdown: inner.clone(),
    };
    let started = open::until_reached(&shutdown, async || {
        Ok(Tailers::start(&tailer_context, &tasks).await?)
    });
    let Some(tailers) = started.await? else {
        return Ok(());
    };
    let gate = Arc::new(WriteGate::default());
    let batchers = Batchers::start(&store, &context, &tailers, &metrics, gate.clone(), &tasks);

    let (link_events, links) = mpsc::channel(LINK_EVENTS_MAX);
    let quic_config = quic_config(&config)?;
    let certificate_expires = certificate::expires(&quic_config.cert_pem).context("tls.cert")?;
    let store_certificate_expires = store_certificate_expires(&config)?;
    let threads = Threads::start(config.replication.nice).context("replication.nice")?;
    let transport = {
        // Its tasks stay where it is started.
        let _inside = threads.handle().enter();
        Transport::start(quic, quic_config, link_events)?
    };
    let url = &config.listen.url;
    let format = config.replication.format;
    let nodes = Nodes::start(&store, &identity, (url, format), &tasks, shutdown.clone());
    let vitals = vitals::start(&store, &metrics, gate.clone(), &tasks, inner.clone());
    let replicator_context = ReplicatorContext {
        store: store.clone(),
        context: context.clone(),
        tailers: tailers.clone(),
        nodes: nodes.clone(),
        metrics: metrics.clone(),
        gate: gate.clone(),
        max_drift: config.clock.max_drift,
        format,
        shutdown: inner.clone(),
    };
    let known = open::until_reached(&shutdown, async || Ok(Known::load(&store).await?));
    let Some(known) = known.await? else {
        return Ok(());
    };
    let (replicator, peers, answered) =
        Replicator::new(replicator_context, known, transport, tasks.clone());
    let engine = replicator.events();
    let (asks, asked) = mpsc::channel(1);
    tasks.spawn_on(
        replicator.run(links, appended, answered, asked),
        threads.handle(),
    );
    let audit = Audit {
        store: store.clone(),
        context: context.clone(),
        nodes: nodes.clone(),
        metrics: metrics.clone(),
        asks,
        interval: config.replication.audit,
    };
    tasks.spawn(audit.run(inner.clone()));
    let trimmer = Trimmer {
        store: store.clone(),
        context,
        tailers: tailers.clone(),
        nodes: nodes.clone(),
        peers: peers.clone(),
        gate,
        metrics: metrics.clone(),
        retention: config.retention,
        max_drift: config.clock.max_drift,
    };
    tasks.spawn(trimmer.run(inner.clone()));

    let app = Arc::new(App {
        store: store.clone(),
        identity: identity.clone(),
        regions: config.cluster.regions.clone(),
        limits: config.limits,
        batchers,
        tailers,
        auth,
        quotas: Quotas::new(&config.limits),
        connections: Connections::new(&config.limits),
        digests,
        metrics,
        peers,
        engine,
        nodes,
        vitals,
        in_flight: Semaphore::new(config.limits.in_flight),
        data_dir: config.data_dir.clone(),
        certificate_expires,
        store_certificate_expires,
        shutdown: shutdown.clone(),
    });
    tasks.spawn(reload_keys(app.clone(), inner.clone()));
    tracing::info!(
        region = config.region.name,
        origin = %identity.origin,
        node = identity.node.0,
        http = %config.listen.http,
        "serving"
    );

    let admin_server = axum::serve(admin, http::admin::router(app.clone()))
        .with_graceful_shutdown(inner.clone().cancelled_owned());
    let admin_task = tokio::spawn(admin_server.into_future());
    let public = public.tap_io(|stream| {
        // Without it small answers wait for the peer's delayed acks.
        let _ = stream.set_nodelay(true);
    });
    // Its own: with `shutdown` it could end before the select below sees that it was told to.
    let accepting = CancellationToken::new();
    let public_server = axum::serve(public, http::router(app))
        .with_graceful_shutdown(accepting.clone().cancelled_owned());
    let mut public_task = tokio::spawn(public_server.into_future());

    let failure = tokio::select! {
        () = shutdown.cancelled() => None,
        error = store.failed() => Some(anyhow!("the store has failed: {error}")),
        end = &mut public_task => Some(anyhow!("the public listener ended: {end:?}")),
    };
    if failure.is_none() {
        tracing::info!("draining");
        accepting.cancel();
        if tokio::time::timeout(config.shutdown.drain, public_task)
            .await
            .is_err()
        {
            tracing::warn!("some requests did not end in time");
        }
    }
    inner.cancel();
    tasks.close();
    if tokio::time::timeout(STORE_DRAIN, tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!("some tasks did not end in time");
    }
    threads.stop().await;
    admin_task.abort();
    if failure.is_none() {
        // Acked or not, what was handed to the store is ended before its files are closed.
        let _ = tokio::time::timeout(STORE_DRAIN, store.drain()).await;
    }
    if let Some(exporter) = exporter {
        exporter.stop().await;
    }
    tracing::info!("stopped");
    failure.map_or(Ok(()), Err)
}

async fn listen(addr: std::net::SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr)
        .await
        .with_context(|| format!("{key}: cannot listen on {addr}"))
}

async fn reload_keys(app: Arc<App>, shutdown: CancellationToken) {
    let mut interval = tokio::time::interval(RELOAD_INTERVAL);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = interval.tick() => app.auth.reload_if_changed(),
        }
    }
}

fn read(path: &Path, key: &str) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{key}: cannot read {}", path.display()))
}

/// When the certificate towards the store ends, in Unix seconds, if there is one.
fn store_certificate_expires(config: &Config) -> anyhow::Result<Option<i64>> {
    let config::Store::FoundationDb(cluster) = &config.store else {
        return Ok(None);
    };
    let Some(tls) = &cluster.tls else {
        return Ok(None);
    };
    let pem = read(&tls.cert, "store.tls.cert")?;
    certificate::expires(&pem)
        .context("store.tls.cert")
        .map(Some)
}

fn quic_config(config: &Config) -> anyhow::Result<QuicConfig> {
    Ok(QuicConfig {
        region_name: config.region.name.clone(),
        ca_pem: read(&config.tls.ca, "tls.ca")?,
        cert_pem: read(&config.tls.cert, "tls.cert")?,
        key_pem: read(&config.tls.key, "tls.key")?,
        reset_key: reset_key(&config.data_dir)?,
        peers: config.peers(),
    })
}

/// Kept beside the store: with it peers notice a restart at once, not after their idle timeout.
fn reset_key(data_dir: &Path) -> anyhow::Result<[u8; 64]> {
    let path = data_dir.join("quic-reset.key");
    if let Ok(stored) = std::fs::read(&path)
        && let Ok(key) = <[u8; 64]>::try_from(stored.as_slice())
    {
        return Ok(key);
    }
    std::fs::create_dir_all(data_dir)
        .with_context(|| format!("data_dir: cannot make {}", data_dir.display()))?;
    let mut key = [0; 64];
    rand::Rng::fill(&mut rand::rng(), &mut key[..]);
    crate::files::replace(&path, &key, crate::files::Access::Owner)?;
    Ok(key)
}
