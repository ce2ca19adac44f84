//! When to ask again. Pure: time and chance come in as arguments.

use std::time::Duration;

/// How often and how long a failed call is tried again, always under one idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Wait before the first retry; doubled for each further one. Default 50 ms. Less of it finds
    /// a returning region sooner and loads a struggling one more.
    pub delay_min: Duration,
    /// No wait is longer, unless the region asks for more. Default 2 s.
    pub delay_max: Duration,
    /// No retry starts later than this after the first try. Default 10 s; zero never retries.
    pub give_up_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            delay_min: Duration::from_millis(50),
            delay_max: Duration::from_secs(2),
            give_up_after: Duration::from_secs(10),
        }
    }
}

impl RetryPolicy {
    /// Tries once only.
    pub const NEVER: Self = Self {
        delay_min: Duration::ZERO,
        delay_max: Duration::ZERO,
        give_up_after: Duration::ZERO,
    };

    /// How long to wait before retry number `retry` (from 0), or `None` to give up. `elapsed` is
    /// the time since the first try, `asked` what the region asked for, `chance` in `0.0..1.0`.
    pub fn next(
        &self,
        retry: u32,
        elapsed: Duration,
        asked: Option<Duration>,
        chance: f64,
    ) -> Option<Duration> {
        let full = self
            .delay_min
            .saturating_mul(1_u32.checked_shl(retry).unwrap_or(u32::MAX))
            .min(self.delay_max);
        // Between half and all of it: spread out, yet never at once.
        let delay = full.mul_f64(0.5 + chance / 2.0);
        let delay = match asked {
            // All who were refused at one moment must not come back at one moment.
            Some(asked) => asked + delay,
            None => delay,
        };
        (elapsed + delay < self.give_up_after).then_some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let policy = RetryPolicy::default();
        let next = |retry, chance| policy.next(retry, Duration::ZERO, None, chance);
        assert_eq!(next(0, 0.0), Some(ms(25)));
        assert_eq!(next(3, 0.0), Some(ms(200)));
        assert_eq!(next(60, 0.0), Some(ms(1000)));
        assert!(next(60, 0.999).unwrap() <= ms(2000));
    }

    #[test]
    fn the_region_is_heard() {
        let policy = RetryPolicy::default();
        let next = policy.next(0, Duration::ZERO, Some(ms(3000)), 0.0);
        assert_eq!(next, Some(ms(3025)));
        let asks_too_much = policy.next(0, Duration::ZERO, Some(ms(60_000)), 0.0);
        assert_eq!(asks_too_much, None);
    }

    #[test]
    fn it_ends() {
        assert_eq!(RetryPolicy::default().next(9, ms(9500), None, 0.5), None);
        assert_eq!(RetryPolicy::NEVER.next(0, Duration::ZERO, None, 0.0), None);
    }
}
