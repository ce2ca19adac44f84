//! Asking regions whether they are there, how far away they are, and which others there are.
//!
//! All three are one small request, `GET /v1/regions`, on a connection of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::task::JoinHandle;

use crate::api::{self, header};
use crate::breaker::Fault;
use crate::regions::{Regions, Target};

/// A region that was not heard for so long, while we wait for it, is asked whether it is there.
/// Less of it asks more often during slow calls, and on idle streams.
pub(crate) const QUIET_MAX: Duration = Duration::from_secs(2);

/// A region that does not answer within this is not there. Less of it takes far regions for dead:
/// there and back three times must fit in (TCP, TLS, HTTP).
pub(crate) const ANSWER_MAX: Duration = Duration::from_millis(1_500);

/// The promise: so long after a region fell silent, another is asked.
const FAILOVER_MAX: Duration = Duration::from_secs(5);

// Even where the next one cannot be connected to either.
const _: () =
    assert!(QUIET_MAX.as_millis() + 2 * ANSWER_MAX.as_millis() <= FAILOVER_MAX.as_millis());

/// All regions are measured this often.
const SCOUT_INTERVAL: Duration = Duration::from_secs(60);

/// Looks after the regions, beside calls.
#[derive(Debug)]
pub(crate) struct Scout {
    http: reqwest::Client,
    regions: Arc<Regions>,
    /// Look for further regions, and for the nearest.
    discover: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When all regions are measured again.
    next_round: Option<Instant>,
    round: Option<JoinHandle<()>>,
}

impl Scout {
    pub(crate) fn new(http: reqwest::Client, regions: Arc<Regions>, discover: bool) -> Self {
        Self {
            http,
            regions,
            discover,
            state: Mutex::default(),
        }
    }

    /// Ends when the region is found to be silent; never while it answers anybody. Who waits for
    /// a slow answer waits on as long as it is there.
    pub(crate) async fn silence(&self, target: &Target) {
        let mut since = Instant::now();
        loop {
            tokio::time::sleep_until((since + QUIET_MAX).into()).await;
            // Many calls may wait for one region: one of them asks for all.
            let _turn = target.probing.lock().await;
            match target.heard_since(since) {
                Some(true) => {}
                Some(false) => return,
                None if ask(&self.http, target).await.is_some() => {}
                None => {
                    target.fail(Fault::Gone);
                    return;
                }
            }
            since = Instant::now();
        }
    }

    /// Starts a round if one is due and none is under way: of all regions once in a while, else of
    /// those whose breaker wants a probe.
    pub(crate) fn look_around(&self) {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state
            .round
            .as_ref()
            .is_some_and(|round| !round.is_finished())
        {
            return;
        }
        let everywhere = self.discover && state.next_round.is_none_or(|at| at <= now);
        let all = self.regions.all();
        // A single one is found to be back by the calls that are made anyway.
        let probed = all.iter().filter(|target| {
            all.len() > 1 && target.start_probe(now) || everywhere && target.is_closed()
        });
        let probed: Vec<Arc<Target>> = probed.cloned().collect();
        if everywhere {
            let spread: f64 = rand::random();
            state.next_round = Some(now + SCOUT_INTERVAL.mul_f64(0.5 + spread));
        }
        if probed.is_empty() {
            return;
        }
        let (http, regions, discover) =
            (self.http.clone(), Arc::clone(&self.regions), self.discover);
        state.round = Some(tokio::spawn(async move {
            join_all(probed.iter().map(async |target| {
                let started = Instant::now();
                match ask(&http, target).await {
                    Some(told) => {
                        target.succeed();
                        target.measure(started.elapsed());
                        if let (true, Some(told)) = (discover, told) {
                            regions.learn(target, &told);
                        }
                    }
                    None => target.fail(Fault::Gone),
                }
            }))
            .await;
            if discover {
                regions.settle();
            }
        }));
    }
}

impl Drop for Scout {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(round) = &state.round {
            round.abort();
        }
    }
}

/// What a region tells of all; `None` if it does not answer in time, `Some(None)` if it answers
/// something else.
async fn ask(http: &reqwest::Client, target: &Target) -> Option<Option<api::Regions>> {
    let url = target.url_of(["regions"]).ok()?;
    let asked = async {
        let response = http.get(url).send().await.ok()?;
        let region = response.headers().get(header::REGION);
        target.hear(region.and_then(|name| name.to_str().ok()));
        let bytes = response.bytes().await.ok()?;
        Some(serde_json::from_slice(&bytes).ok())
    };
    tokio::time::timeout(ANSWER_MAX, asked).await.ok().flatten()
}
