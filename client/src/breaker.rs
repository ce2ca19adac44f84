//! When a region is left alone. Pure: time and chance come in as arguments.
//!
//! The circuit breaker of M. Nygard, "Release It!", with a wait that doubles while the region stays
//! away. Half-open it lets one probe through; what the probe finds closes or opens it again.

use std::time::{Duration, Instant};

/// Failures in a row that open it, where the region at least answers.
const FAILURES_MAX: u32 = 5;
/// How long it stays open at first; doubled each time that a probe fails.
const OPEN_MIN: Duration = Duration::from_secs(1);
/// It never stays open for longer. Longer: fewer probes of a dead region, found again later.
const OPEN_MAX: Duration = Duration::from_secs(30);

/// How a region failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It answered that it cannot, or broke off.
    Faulty,
    /// It does not answer at all: one such failure is enough.
    Gone,
}

/// Decides whether a region is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Breaker {
    state: State,
    /// Openings in a row without a success in between.
    openings: u32,
}

#[derive(Clone, Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen,
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

impl Breaker {
    /// Whether calls go there.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// When the next probe may go out, where one is wanted and none is under way.
    pub(crate) fn probe_at(&self) -> Option<Instant> {
        match self.state {
            State::Open { until } => Some(until),
            State::Closed { .. } | State::HalfOpen => None,
        }
    }

    /// Lets one probe through, if it is time. [`Breaker::succeed`] or [`Breaker::fail`] must follow.
    pub(crate) fn probe(&mut self, now: Instant) -> bool {
        let due = self.probe_at().is_some_and(|at| at <= now);
        if due {
            self.state = State::HalfOpen;
        }
        due
    }

    /// The region did what was asked, or refused it for a reason of ours.
    pub(crate) fn succeed(&mut self) {
        *self = Self::default();
    }

    /// The region failed. `chance` is in `0.0..1.0`: all who lost a region at one moment must not
    /// come back at one moment.
    pub(crate) fn fail(&mut self, fault: Fault, now: Instant, chance: f64) {
        match &mut self.state {
            // Calls that were under way when it opened say nothing new.
            State::Open { .. } => return,
            State::Closed { failures } => {
                *failures += 1;
                if fault == Fault::Faulty && *failures < FAILURES_MAX {
                    return;
                }
            }
            State::HalfOpen => {}
        }
        let doubled = 1_u32.checked_shl(self.openings).unwrap_or(u32::MAX);
        let full = OPEN_MIN.saturating_mul(doubled).min(OPEN_MAX);
        self.openings = self.openings.saturating_add(1);
        self.state = State::Open {
            until: now + full.mul_f64(0.5 + chance / 2.0),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_faults_or_one_silence_open_it() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 1..FAILURES_MAX {
            breaker.fail(Fault::Faulty, now, 0.5);
            assert!(breaker.is_closed());
        }
        breaker.fail(Fault::Faulty, now, 0.5);
        assert!(!breaker.is_closed());

        let mut breaker = Breaker::default();
        breaker.fail(Fault::Gone, now, 0.5);
        assert!(!breaker.is_closed());
    }

    #[test]
    fn a_success_forgets_failures() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..10 * FAILURES_MAX {
            breaker.fail(Fault::Faulty, now, 0.5);
            breaker.succeed();
        }
        assert!(breaker.is_closed());
    }

    #[test]
    fn half_open_lets_one_probe_through() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        assert!(!breaker.probe(now), "closed, it wants none");
        breaker.fail(Fault::Gone, now, 0.5);
        assert!(!breaker.probe(now), "too early");
        let at = breaker.probe_at().unwrap();
        assert!(breaker.probe(at));
        assert!(!breaker.probe(at), "one is under way");
        assert!(!breaker.is_closed());
        breaker.succeed();
        assert!(breaker.is_closed());
    }

    #[test]
    fn it_waits_longer_each_time_and_not_all_alike() {
        let mut now = Instant::now();
        let mut breaker = Breaker::default();
        let mut waits = Vec::new();
        for _ in 0..8 {
            breaker.fail(Fault::Gone, now, 0.0);
            let at = breaker.probe_at().unwrap();
            // What was under way when it opened does not prolong it.
            breaker.fail(Fault::Gone, now, 0.9);
            assert_eq!(breaker.probe_at(), Some(at));
            waits.push(at - now);
            now = at;
            assert!(breaker.probe(now));
        }
        assert!(waits.is_sorted());
        assert_eq!(waits[0], OPEN_MIN / 2);
        assert_eq!(waits[7], OPEN_MAX / 2);
        breaker.fail(Fault::Gone, now, 0.999);
        let longest = breaker.probe_at().unwrap() - now;
        assert!(longest > OPEN_MAX.mul_f64(0.99) && longest <= OPEN_MAX);
    }
}
