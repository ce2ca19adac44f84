//! Whether this node's wall clock can be trusted, judged by those of its peers and by its own
//! monotonic clock. One that cannot takes no writes: a bad clock is to harm nobody but itself (G12).

use std::time::{Duration, Instant};

/// An offset is told by a frame, and seems smaller by the time that this was under way. Larger: a
/// clock that is fast is found later. Smaller: one behind a slow link is taken for fast.
const UNDER_WAY_MAX: Duration = Duration::from_secs(2);

/// Judgements in a row that must find fault: a process that stood still sees old frames as new ones.
const IN_A_ROW: u32 = 2;

/// What is wrong with the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// More than half of all regions, this one counted, stand together this far from it.
    Off {
        /// Milliseconds that it is behind them; negative: ahead.
        behind_ms: i64,
    },
    /// It has moved against the monotonic clock, and too few peers say that it is right.
    Leapt {
        /// By so many milliseconds.
        by_ms: i64,
    },
}

/// The judge.
#[derive(Debug)]
pub(super) struct Clocks {
    bound_ms: i64,
    /// Of the cluster, this one too.
    regions: usize,
    last: Option<(Instant, i64)>,
    leapt_by_ms: Option<i64>,
    faults_in_a_row: u32,
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Clocks {
    /// `bound` is how far a clock may be off, as for stamps of other regions.
    pub(super) fn new(bound: Duration, regions: usize) -> Self {
        Self {
            bound_ms: ms(bound),
            regions,
            last: None,
            leapt_by_ms: None,
            faults_in_a_row: 0,
        }
    }

    /// Once a second or so; both clocks are read at one moment. `offsets_ms`: the wall clock of each peer
    /// that was heard lately minus this one.
    pub(super) fn judge(
        &mut self,
        now: Instant,
        unix_ms: i64,
        offsets_ms: &[i64],
    ) -> Option<Fault> {
        let fault = self.look(now, unix_ms, offsets_ms);
        self.faults_in_a_row = match fault {
            Some(_) => self.faults_in_a_row + 1,
            None => 0,
        };
        fault.filter(|_| self.faults_in_a_row >= IN_A_ROW)
    }

    fn look(&mut self, now: Instant, unix_ms: i64, offsets_ms: &[i64]) -> Option<Fault> {
        if let Some((then, then_unix_ms)) = self.last.replace((now, unix_ms)) {
            let expected = then_unix_ms + ms(now.saturating_duration_since(then));
            let by_ms = unix_ms - expected;
            if by_ms.abs() > self.bound_ms {
                self.leapt_by_ms = Some(by_ms);
            }
        }
        let is_most = |clocks: usize| clocks * 2 > self.regions;
        let slow = |offset: &&i64| **offset > self.bound_ms;
        let fast = |offset: &&i64| **offset < -self.bound_ms - ms(UNDER_WAY_MAX);
        let mut off: Vec<i64> = offsets_ms.iter().filter(slow).copied().collect();
        if !is_most(off.len()) {
            off = offsets_ms.iter().filter(fast).copied().collect();
        }
        if is_most(off.len()) {
            off.sort_unstable();
            return Some(Fault::Off {
                behind_ms: off[off.len() / 2],
            });
        }
        let agree = offsets_ms.iter().filter(|o| !slow(o) && !fast(o)).count();
        if is_most(agree + 1) {
            self.leapt_by_ms = None;
        }
        self.leapt_by_ms.map(|by_ms| Fault::Leapt { by_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_millis(500);
    const START: i64 = 1_790_000_000_000;

    /// The wall clock's error, offsets of peers, and whether it is at fault once both have lasted.
    fn check(regions: usize, states: &[(i64, &[i64], Option<Fault>)]) {
        let (mut now, mut clocks) = (Instant::now(), Clocks::new(BOUND, regions));
        let (mut unix_ms, mut was_at_fault) = (START, false);
        for (nth, (error, offsets, expected)) in states.iter().enumerate() {
            for again in 1..=IN_A_ROW {
                (now, unix_ms) = (now + Duration::from_secs(1), unix_ms + 1_000);
                let fault = clocks.judge(now, unix_ms + error, offsets);
                if again == IN_A_ROW {
                    assert_eq!(fault, *expected, "state {nth}");
                } else if !was_at_fault {
                    assert_eq!(fault, None, "state {nth}, too early");
                }
            }
            was_at_fault = expected.is_some();
        }
    }

    const fn off(behind_ms: i64) -> Option<Fault> {
        Some(Fault::Off { behind_ms })
    }

    const fn leapt(by_ms: i64) -> Option<Fault> {
        Some(Fault::Leapt { by_ms })
    }

    #[test]
    fn g12_who_stands_off_most_others_is_at_fault() {
        check(3, &[(0, &[700, 900], off(900)), (0, &[0, 0], None)]);
        check(3, &[(0, &[-60_000, -60_010], off(-60_000))]);
        // One of the others is wrong, or they do not agree on which way.
        check(
            3,
            &[(0, &[600_000, 10], None), (0, &[600_000, -600_000], None)],
        );
        // Half is not most; nobody is heard; there is nobody.
        check(2, &[(0, &[600_000], None)]);
        check(3, &[(0, &[600_000], None), (0, &[], None)]);
        check(1, &[(0, &[], None)]);
        // Slow links make peers seem behind.
        check(3, &[(0, &[-900, -1_900], None)]);
    }

    #[test]
    fn g12_a_leap_counts_until_most_say_that_the_clock_is_right() {
        // Cut off from all.
        check(
            3,
            &[
                (0, &[], None),
                (700, &[], leapt(700)),
                (700, &[], leapt(700)),
            ],
        );
        // One peer and this one are two of three.
        check(
            3,
            &[(0, &[], None), (700, &[], leapt(700)), (700, &[-10], None)],
        );
        // Of two regions it is the one that has leapt.
        check(
            2,
            &[
                (0, &[0], None),
                (9_000, &[-9_000], leapt(9_000)),
                (0, &[0], None),
            ],
        );
        // It was wrong, and was set right.
        check(
            3,
            &[(9_000, &[-9_000, -9_000], off(-9_000)), (0, &[0, 0], None)],
        );
        // Small steps are what a time service does.
        check(3, &[(0, &[], None), (400, &[], None), (0, &[], None)]);
    }
}
