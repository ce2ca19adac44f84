//! Latencies as percentiles.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longer is counted as this.
const LONGEST: Duration = Duration::from_secs(10 * 60);

/// Collects latencies with three significant digits, in microseconds.
#[derive(Debug)]
pub(super) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(super) fn new() -> Self {
        let longest = LONGEST.as_micros() as u64;
        let histogram = Histogram::new_with_bounds(1, longest, 3);
        Self(histogram.expect("1 and three digits are in bounds"))
    }

    pub(super) fn record(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record(us.max(1));
    }

    /// `None` where nothing was recorded.
    pub(super) fn percentiles(&self) -> Option<Percentiles> {
        let at = |quantile| self.0.value_at_quantile(quantile);
        (!self.0.is_empty()).then(|| Percentiles {
            count: self.0.len(),
            mean_us: self.0.mean().round() as u64,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            max_us: self.0.max(),
        })
    }
}

/// A distribution of latencies, in microseconds, with three significant digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// How many.
    pub count: u64,
    /// Their mean.
    pub mean_us: u64,
    /// Half of them took no longer.
    pub p50_us: u64,
    /// Nine of ten took no longer.
    pub p90_us: u64,
    /// 99 of 100 took no longer.
    pub p99_us: u64,
    /// 999 of 1,000 took no longer.
    pub p99_9_us: u64,
    /// The longest.
    pub max_us: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_known_distribution() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.percentiles(), None);
        for us in 1..=1000 {
            latencies.record(Duration::from_micros(us));
        }
        let expected = Percentiles {
            count: 1000,
            mean_us: 501,
            p50_us: 500,
            p90_us: 900,
            p99_us: 990,
            p99_9_us: 999,
            max_us: 1000,
        };
        assert_eq!(latencies.percentiles(), Some(expected));
    }

    #[test]
    fn what_is_out_of_bounds_counts_as_the_bound() {
        let mut latencies = Latencies::new();
        latencies.record(Duration::ZERO);
        latencies.record(Duration::from_secs(100_000));
        let found = latencies.percentiles().unwrap();
        assert_eq!((found.count, found.p50_us), (2, 1));
        assert!(found.max_us.abs_diff(600_000_000) < 1_000_000);
    }
}
