//! In which order regions are asked. Pure.

use std::time::{Duration, Instant};

/// How a region looks from here.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing {
    /// Calls may go there.
    pub(crate) is_closed: bool,
    /// It lately lacked something that we had seen elsewhere.
    pub(crate) is_behind: bool,
    /// How long it takes to answer.
    pub(crate) latency: Option<Duration>,
    /// When it failed last.
    pub(crate) failed: Option<Instant>,
}

/// A region counts as nearer only if it answers faster by a third, and by this much: moving on
/// costs a read the wait for what one has seen where one was.
const NEARER_BY_MIN: Duration = Duration::from_millis(5);

/// Weight of a new measurement: a single slow answer moves nobody.
const EWMA_WEIGHT: f64 = 0.3;

/// All regions, the one to ask first in front: `home` before others, and these by latency. Those
/// that fail come last, the one that was left alone for longest in front.
pub(crate) fn order(standings: &[Standing], home: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..standings.len()).collect();
    order.sort_by_key(|&at| {
        let this = &standings[at];
        let failed = this.failed.filter(|_| !this.is_closed);
        let latency = this.latency.unwrap_or(Duration::MAX);
        (!this.is_closed, failed, this.is_behind, at != home, latency)
    });
    order
}

/// The region to make one's home: the present one, unless another is clearly nearer.
pub(crate) fn nearest(standings: &[Standing], home: usize) -> usize {
    let latency = |at: usize| standings[at].latency.filter(|_| standings[at].is_closed);
    let best = (0..standings.len())
        .filter_map(|at| Some((latency(at)?, at)))
        .min();
    match (best, latency(home)) {
        (Some((best, at)), Some(present))
            if best + NEARER_BY_MIN < present && best * 3 < present * 2 =>
        {
            at
        }
        (Some((_, at)), None) => at,
        _ => home,
    }
}

/// The exponentially weighted moving average of measurements.
pub(crate) fn average(before: Option<Duration>, measured: Duration) -> Duration {
    before.map_or(measured, |before| {
        before.mul_f64(1.0 - EWMA_WEIGHT) + measured.mul_f64(EWMA_WEIGHT)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up(latency_ms: u64) -> Standing {
        Standing {
            is_closed: true,
            latency: (latency_ms > 0).then_some(Duration::from_millis(latency_ms)),
            ..Standing::default()
        }
    }

    fn down(failed: Instant) -> Standing {
        Standing {
            failed: Some(failed),
            ..Standing::default()
        }
    }

    #[test]
    fn home_then_the_nearest_then_the_unmeasured_then_those_that_fail() {
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        let all = [down(later), up(0), up(80), up(20), down(now), up(50)];
        assert_eq!(order(&all, 5), [5, 3, 2, 1, 4, 0]);
        assert_eq!(order(&all, 0), [3, 5, 2, 1, 4, 0]);
        let behind = Standing {
            is_behind: true,
            ..up(1)
        };
        assert_eq!(order(&[behind, up(90), down(now)], 0), [1, 0, 2]);
        // Nothing is measured: as they were given.
        assert_eq!(order(&[up(0), up(0), up(0)], 0), [0, 1, 2]);
    }

    #[test]
    fn home_moves_only_where_it_pays() {
        let check = |latencies: &[u64], home, wanted| {
            let all: Vec<_> = latencies.iter().map(|&ms| up(ms)).collect();
            assert_eq!(nearest(&all, home), wanted, "{latencies:?}");
        };
        check(&[100, 20, 30], 0, 1);
        check(&[100, 90, 80], 0, 0);
        check(&[4, 1], 0, 0);
        check(&[0, 0], 1, 1);
        check(&[0, 50], 0, 1);
        let mut all = [up(100), up(20)];
        all[1].is_closed = false;
        assert_eq!(nearest(&all, 0), 0);
    }

    #[test]
    fn one_measurement_counts_for_a_third() {
        let ms = Duration::from_millis;
        assert_eq!(average(None, ms(10)), ms(10));
        assert_eq!(average(Some(ms(10)), ms(110)), ms(40));
    }
}
