//! Whether the store answers, looked at all the time: for readiness, for writes that need not wait,
//! and for who is on call.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::gate::WriteGate;
use crate::metrics::Metrics;
use crate::store::{Health, RunOptions, Store, StoreError, keys};

/// How often the store is asked for a value.
const PULSE: Duration = Duration::from_secs(1);
/// What takes longer counts as no answer.
const PULSE_MAX: Duration = Duration::from_secs(2);
/// How often the cluster below is asked how it is: it gathers that from all its processes.
const HEALTH: Duration = Duration::from_secs(5);

/// As last seen.
#[derive(Clone, Debug, Default)]
pub struct Vitals {
    /// Why the store gives no answer, if it gives none.
    pub trouble: Option<StoreError>,
    /// What the cluster below says of itself.
    pub health: Option<Health>,
}

/// Looks until `shutdown`. A store in this process answers or has stopped for good: it is not asked.
pub fn start(
    store: &Store,
    metrics: &Metrics,
    gate: Arc<WriteGate>,
    tasks: &TaskTracker,
    shutdown: CancellationToken,
) -> watch::Receiver<Vitals> {
    let (publish, vitals) = watch::channel(Vitals::default());
    metrics.store_up.set(1);
    if store.is_shared() {
        let watch = Watch {
            store: store.clone(),
            up: metrics.store_up.clone(),
            gate,
            publish,
        };
        tasks.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = watch.run() => {}
            }
        });
    }
    vitals
}

struct Watch {
    store: Store,
    up: prometheus::IntGauge,
    gate: Arc<WriteGate>,
    publish: watch::Sender<Vitals>,
}

impl Watch {
    async fn run(self) {
        let mut pulse = tokio::time::interval(PULSE);
        pulse.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut asked = None;
        loop {
            pulse.tick().await;
            let options = RunOptions {
                timeout: PULSE_MAX,
                ..RunOptions::default()
            };
            let read = self.store.read(options, |tx| async move {
                tx.get(&keys::next_node(), true).await.map(drop)
            });
            let trouble = read.await.err();
            self.note(trouble);
            if asked.is_none_or(|at: tokio::time::Instant| at.elapsed() >= HEALTH) {
                asked = Some(tokio::time::Instant::now());
                let health = tokio::time::timeout(PULSE_MAX, self.store.health()).await;
                let health = health.ok().and_then(Result::ok).flatten();
                self.publish.send_modify(|vitals| vitals.health = health);
            }
        }
    }

    /// A change is worth a line, what goes on is not.
    fn note(&self, trouble: Option<StoreError>) {
        self.up.set(i64::from(trouble.is_none()));
        self.gate.store_away(trouble.is_some());
        self.publish.send_modify(|vitals| {
            match (&vitals.trouble, &trouble) {
                (None, Some(error)) => {
                    tracing::error!(%error, "the store does not answer; this node is not ready");
                }
                (Some(_), None) => tracing::info!("the store answers again"),
                _ => {}
            }
            vitals.trouble = trouble;
        });
    }
}
