//! When to ask again, and how often at most. Pure: time and chance come in as arguments.

use std::time::{Duration, Instant};

/// How often and how long a failed call is tried again, always under one idempotency key.
///
/// A call first goes round all regions that are up, without a wait. Only then it waits, for a
/// random time between zero and a bound that doubles: "full jitter" of M. Brooker, "Exponential
/// Backoff And Jitter", which spreads those who failed together best.
///
/// ```
/// use std::time::Duration;
/// use whimbrel_client::RetryPolicy;
///
/// let policy = RetryPolicy::default();
/// // Before the third further try, 0.7 s after the first; the die shows one half.
/// let wait = policy.next(2, Duration::from_millis(700), None, 0.5);
/// assert_eq!(wait, Some(Duration::from_millis(100)));
/// // After ten seconds it gives up.
/// assert_eq!(policy.next(9, Duration::from_secs(10), None, 0.5), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Bound of the wait before the first retry; doubled for each further one. Default 50 ms. Less
    /// of it finds a returning region sooner and loads a struggling one more.
    pub delay_min: Duration,
    /// The bound never grows beyond this, and no wait does, unless the region asks for more.
    /// Default 2 s.
    pub delay_max: Duration,
    /// No retry starts later than this after the first try. Default 10 s; zero never retries, also
    /// not in another region.
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
    /// Tries once only, in one region.
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
        let bound = self
            .delay_min
            .saturating_mul(1_u32.checked_shl(retry).unwrap_or(u32::MAX))
            .min(self.delay_max);
        // All who were refused at one moment must not come back at one moment.
        let delay = asked.unwrap_or_default() + bound.mul_f64(chance);
        (elapsed + delay < self.give_up_after).then_some(delay)
    }

    /// What is left of the time for retries.
    pub(crate) fn left(&self, elapsed: Duration) -> Option<Duration> {
        let left = self.give_up_after.checked_sub(elapsed)?;
        (!left.is_zero()).then_some(left)
    }
}

/// Further tries that a client may make, over all its calls: a cluster that fails must not get
/// several times the load for it.
///
/// A token bucket as the `RetryBudget` of Finagle: each call pays in a tenth of a token, each second
/// ten; each further try takes one out. Where none is there, a try waits for its turn instead of
/// being refused: the load is bounded just the same, and a patient call lives through an outage.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    /// Negative: so many tries wait for their turn.
    tokens: f64,
    filled: Instant,
}

/// Tokens that each call pays in.
const PER_CALL: f64 = 0.1;
/// Tokens that each second brings. More: a client with few calls may retry more often.
const PER_SECOND: f64 = 10.0;
/// No more are saved up: what ten seconds bring. More: a longer burst of further tries.
const TOKENS_MAX: f64 = 10.0 * PER_SECOND;

impl Budget {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            tokens: TOKENS_MAX,
            filled: now,
        }
    }

    /// A call is made.
    pub(crate) fn pay_in(&mut self) {
        self.tokens = (self.tokens + PER_CALL).min(TOKENS_MAX);
    }

    /// A further try: how long it must wait for its turn, or `None` if that is longer than `most`.
    pub(crate) fn take(&mut self, now: Instant, most: Duration) -> Option<Duration> {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * PER_SECOND).min(TOKENS_MAX);
        self.filled = self.filled.max(now);
        let lacking = (1.0 - self.tokens).max(0.0);
        let wait = Duration::from_secs_f64(lacking / PER_SECOND);
        if wait > most {
            return None;
        }
        self.tokens -= 1.0;
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    #[test]
    fn waits_are_anywhere_below_a_bound_that_doubles() {
        let policy = RetryPolicy::default();
        let next = |retry, chance| policy.next(retry, Duration::ZERO, None, chance);
        assert_eq!(next(0, 0.0), Some(ms(0)));
        assert_eq!(next(0, 0.5), Some(ms(25)));
        assert_eq!(next(3, 0.5), Some(ms(200)));
        assert_eq!(next(60, 0.5), Some(ms(1000)));
        assert!(next(60, 0.999).unwrap() <= ms(2000));
    }

    #[test]
    fn the_region_is_heard() {
        let policy = RetryPolicy::default();
        let next = policy.next(0, Duration::ZERO, Some(ms(3000)), 0.5);
        assert_eq!(next, Some(ms(3025)));
        let asks_too_much = policy.next(0, Duration::ZERO, Some(ms(60_000)), 0.0);
        assert_eq!(asks_too_much, None);
    }

    #[test]
    fn it_ends() {
        assert_eq!(RetryPolicy::default().next(9, ms(9500), None, 0.5), None);
        assert_eq!(RetryPolicy::NEVER.next(0, Duration::ZERO, None, 0.0), None);
        assert_eq!(RetryPolicy::NEVER.left(Duration::ZERO), None);
        assert_eq!(RetryPolicy::default().left(ms(9500)), Some(ms(500)));
    }

    #[test]
    fn further_tries_are_a_tenth_of_the_calls_and_ten_a_second() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let mut tries = 0;
        for call in 0..10_000 {
            // A thousand calls a second, and all fail.
            let now = start + ms(call);
            budget.pay_in();
            tries += u32::from(budget.take(now, Duration::ZERO).is_some());
        }
        // Saved up, a tenth of the calls, and ten in each of ten seconds.
        assert!((1_190..=1_210).contains(&tries), "{tries}");
    }

    #[test]
    fn tries_take_turns_where_nothing_is_saved_up() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        for _ in 0..100 {
            assert_eq!(budget.take(now, Duration::ZERO), Some(Duration::ZERO));
        }
        assert_eq!(budget.take(now, Duration::ZERO), None);
        assert_eq!(budget.take(now, ms(1000)), Some(ms(100)));
        assert_eq!(budget.take(now, ms(1000)), Some(ms(200)));
        assert_eq!(budget.take(now, ms(250)), None);
        assert_eq!(budget.take(now + ms(300), ms(250)), Some(Duration::ZERO));
    }
}
