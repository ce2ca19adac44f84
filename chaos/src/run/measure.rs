//! What is measured over time: lag while it runs, and writes from the history in the end.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Admin, Cluster};
use crate::history::{Clock, History, Outcome};
use crate::journal::{Point, Second};

/// Between two samples.
const PERIOD: Duration = Duration::from_millis(250);

type Lag = BTreeMap<String, Vec<Point>>;

/// Asks all regions how far the others are behind.
pub(super) struct Sampler {
    stop: CancellationToken,
    tasks: JoinSet<Lag>,
}

impl Sampler {
    pub(super) fn start(cluster: &Cluster, clock: Clock) -> Self {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for name in cluster.names() {
            if let Ok(region) = cluster.region(name) {
                let (admin, url) = (cluster.admin().clone(), region.admin_url.clone());
                let (name, stop) = (name.to_owned(), stop.clone());
                tasks.spawn(async move {
                    let mut lag = Lag::new();
                    let all = sample(&admin, &name, &url, clock, &mut lag);
                    stop.run_until_cancelled(all).await;
                    lag
                });
            }
        }
        Self { stop, tasks }
    }

    pub(super) async fn stop(self) -> Lag {
        self.stop.cancel();
        self.tasks.join_all().await.into_iter().flatten().collect()
    }
}

/// Who does not answer leaves a gap.
async fn sample(admin: &Admin, name: &str, url: &str, clock: Clock, lag: &mut Lag) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Ok(says) = admin.replication(url).await else {
            continue;
        };
        let at = clock.now_us() as f64 / 1e6;
        for peer in says.peers {
            let pair = lag.entry(format!("{name} to {}", peer.name)).or_default();
            pair.push(Point {
                at,
                value: peer.lag_seconds,
            });
        }
    }
}

/// Writes, by the region that was asked and the second in which they ended.
pub(super) fn writes(history: &History) -> BTreeMap<String, Vec<Second>> {
    let mut times: BTreeMap<String, Vec<(Vec<f64>, u32)>> = BTreeMap::new();
    let operations = &history.operations;
    let written = operations
        .iter()
        .filter(|operation| operation.call.key().is_some());
    for operation in written {
        let second = usize::try_from(operation.ended_us / 1_000_000).unwrap_or(usize::MAX);
        let region = times.entry(operation.region.clone()).or_default();
        if region.len() <= second {
            region.resize(second + 1, (Vec::new(), 0));
        }
        match operation.outcome {
            Outcome::Done(_) => {
                let took = operation.ended_us - operation.invoked_us;
                region[second].0.push(took as f64 / 1e3);
            }
            Outcome::Refused(_) | Outcome::Unknown(_) => region[second].1 += 1,
        }
    }
    let of = |(mut times, failed): (Vec<f64>, u32)| {
        times.sort_unstable_by(f64::total_cmp);
        Second {
            acked: u32::try_from(times.len()).unwrap_or(u32::MAX),
            failed,
            p50_ms: percentile(&times, 50),
            p99_ms: percentile(&times, 99),
        }
    };
    times
        .into_iter()
        .map(|(region, seconds)| (region, seconds.into_iter().map(of).collect()))
        .collect()
}

/// The nearest rank of sorted values.
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_there() {
        let sorted: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&sorted, 50), Some(100.0));
        assert_eq!(percentile(&sorted, 99), Some(198.0));
        assert_eq!(percentile(&[7.0], 99), Some(7.0));
        assert_eq!(percentile(&[], 50), None);
    }
}
