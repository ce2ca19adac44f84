//! The hybrid logical clock of a node: stamps that grow, near to wall-clock time.
//!
//! Kulkarni et al., "Logical Physical Clocks" (2014), from the crate `hlc-gen`; time is an argument.
//! What the crate leaves open is settled here:
//!
//! - Its state is in memory only, so a restart with an earlier wall clock would go back: a clock
//!   starts above a high-water mark that the caller has stored.
//! - Its drift bound is off at 0, and compares with the wall clock alone: after the wall clock steps
//!   back an hour it would refuse every remote stamp. Ours compares with the latest wall-clock time
//!   that a stamp of this clock has taken, too. Remote stamps never move that time, so peers cannot
//!   pull the clock ahead bit by bit.
//! - Its counter never carries into the milliseconds: a remote stamp with a counter near the end
//!   stops it until the wall clock passes. Such stamps are not merged, and the counter carries at
//!   half of its range, within the drift bound. So no honest stamp is above what peers accept.
//! - It takes a counter for every remote stamp, also for one that is long past. Those are skipped.

use std::fmt;
use std::time::Duration;

use hlc_gen::source::ManualClock;
use hlc_gen::{HlcGenerator, HlcTimestamp};

use crate::id::{HLC_COUNTER_BITS, HLC_EPOCH_UNIX_MS, Hlc};

/// Largest counter that is merged from a remote stamp, and after which a local one carries.
pub const COUNTER_MAX: u64 = 1 << 21;

const _: () = assert!(COUNTER_MAX < (1 << HLC_COUNTER_BITS) - 1);

/// Why there is no clock, or no stamp.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClockError {
    /// Caller's misuse: without a bound any peer could set the clock.
    #[error("the drift bound must be at least one millisecond")]
    NoDriftBound,
    /// The time, or the high-water mark, is past what a stamp can hold.
    #[error("the time is outside the range of stamps")]
    OutOfRange,
    /// All stamps up to the drift bound are used. More come when the wall clock has moved.
    #[error("no stamps left; more in {} ms", wait.as_millis())]
    Exhausted {
        /// After which the next stamp can be had.
        wait: Duration,
    },
}

/// What became of a remote stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Observed {
    /// Later stamps of this clock are above it.
    Merged,
    /// It is too far ahead of us. The clock was left alone.
    BeyondDrift,
    /// Its counter leaves too little room. The clock was left alone.
    CounterTooHigh,
}

/// Issues stamps that strictly increase, on one node.
pub struct Clock {
    generator: HlcGenerator<ManualClock>,
    max_drift_ms: i64,
    /// The latest wall-clock time that went into a stamp, in Unix milliseconds.
    wall_unix_ms: i64,
}

impl Clock {
    /// A clock whose stamps are all above `high_water`, which may be in the future.
    ///
    /// `max_drift` says how far ahead of us a remote stamp may be and still be merged. With a small
    /// one, replies to a node with a fast clock may sort before what they answer; with a large one,
    /// one bad clock moves the stamps of all.
    pub fn new(high_water: Option<Hlc>, max_drift: Duration) -> Result<Self, ClockError> {
        let max_drift_ms = i64::try_from(max_drift.as_millis()).unwrap_or(i64::MAX);
        if max_drift_ms == 0 {
            return Err(ClockError::NoDriftBound);
        }
        let mut clock = Self {
            // 0 switches the crate's own check off.
            generator: HlcGenerator::manual(0),
            max_drift_ms,
            wall_unix_ms: HLC_EPOCH_UNIX_MS,
        };
        if let Some(mut mark) = high_water {
            if mark.counter() > COUNTER_MAX {
                let next_ms = (mark.0 >> HLC_COUNTER_BITS) + 1;
                let stamp = next_ms.checked_mul(1 << HLC_COUNTER_BITS);
                mark = Hlc(stamp.ok_or(ClockError::OutOfRange)?);
            }
            clock.merge(mark)?;
            clock.wall_unix_ms = mark.unix_ms();
        }
        Ok(clock)
    }

    /// The next stamp, above all that this clock has issued or merged.
    pub fn next(&mut self, now_unix_ms: i64) -> Result<Hlc, ClockError> {
        let last = self.last();
        let mut time = now_unix_ms;
        if now_unix_ms <= last.unix_ms() && last.counter() >= COUNTER_MAX {
            time = last.unix_ms() + 1;
            let latest = self.bound(now_unix_ms);
            if time > latest {
                let wait = time.saturating_sub(now_unix_ms.saturating_add(self.max_drift_ms));
                return Err(ClockError::Exhausted {
                    wait: Duration::from_millis(wait.unsigned_abs()),
                });
            }
        }
        self.generator.set_current_timestamp(time);
        let stamp = self
            .generator
            .next_timestamp()
            .ok_or(ClockError::OutOfRange)?;
        self.wall_unix_ms = self.wall_unix_ms.max(now_unix_ms);
        Ok(Hlc(stamp.as_u64()))
    }

    /// Takes note of another node's stamp, so that what follows here sorts after it.
    pub fn observe(&mut self, remote: Hlc, now_unix_ms: i64) -> Observed {
        if remote <= self.last() {
            return Observed::Merged;
        }
        if remote.unix_ms() > self.bound(now_unix_ms) {
            return Observed::BeyondDrift;
        }
        if remote.counter() > COUNTER_MAX {
            return Observed::CounterTooHigh;
        }
        match self.merge(remote) {
            Ok(()) => Observed::Merged,
            // The end of the range is beyond any drift.
            Err(_) => Observed::BeyondDrift,
        }
    }

    /// The largest stamp issued or merged so far.
    pub fn last(&self) -> Hlc {
        Hlc(self.generator.timestamp().as_u64())
    }

    /// The latest time that a stamp may carry now, in Unix milliseconds.
    fn bound(&self, now_unix_ms: i64) -> i64 {
        now_unix_ms
            .max(self.wall_unix_ms)
            .saturating_add(self.max_drift_ms)
    }

    fn merge(&self, stamp: Hlc) -> Result<(), ClockError> {
        // The crate takes the wall clock along if that is ahead; a merge is to be a merge only.
        self.generator.set_current_timestamp(HLC_EPOCH_UNIX_MS);
        HlcTimestamp::try_from(stamp.0)
            .and_then(|stamp| self.generator.update(&stamp))
            .map(drop)
            .map_err(|_| ClockError::OutOfRange)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock")
            .field("last", &self.last())
            .field("max_drift_ms", &self.max_drift_ms)
            .field("wall_unix_ms", &self.wall_unix_ms)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_790_000_000_000;
    const HOUR: i64 = 3_600_000;
    const DRIFT: Duration = Duration::from_millis(500);

    fn at(unix_ms: i64, counter: u64) -> Hlc {
        Hlc(Hlc::from_unix_ms(unix_ms).0 | counter)
    }

    fn clock() -> Clock {
        let mut clock = Clock::new(None, DRIFT).unwrap();
        clock.next(NOW).unwrap();
        clock
    }

    #[test]
    fn the_layout_is_that_of_the_crate() {
        let stamp = HlcTimestamp::from_parts(NOW, 7).unwrap();
        assert_eq!(Hlc(stamp.as_u64()), at(NOW, 7));
        assert_eq!(Hlc(stamp.as_u64()).unix_ms(), NOW);
    }

    #[test]
    fn no_drift_bound_is_refused() {
        for none in [Duration::ZERO, Duration::from_micros(999)] {
            assert_eq!(
                Clock::new(None, none).unwrap_err(),
                ClockError::NoDriftBound
            );
        }
        assert!(Clock::new(None, Duration::MAX).is_ok());
    }

    #[test]
    fn stamps_carry_the_time() {
        let mut clock = clock();
        assert_eq!(clock.next(NOW), Ok(at(NOW, 1)));
        assert_eq!(clock.next(NOW + 5), Ok(at(NOW + 5, 0)));
        assert_eq!(clock.last(), at(NOW + 5, 0));
    }

    #[test]
    fn starts_above_the_high_water_mark_even_in_the_future() {
        let end = (1 << HLC_COUNTER_BITS) - 1;
        for mark in [
            at(NOW - HOUR, 3),
            at(NOW + HOUR, 0),
            at(NOW + HOUR, COUNTER_MAX),
            at(NOW + HOUR, end),
            at(HLC_EPOCH_UNIX_MS, end),
        ] {
            let mut clock = Clock::new(Some(mark), DRIFT).unwrap();
            let first = clock.next(NOW).unwrap();
            assert!(first > mark);
            assert!(clock.next(NOW).unwrap() > first);
            // Peers that kept the time of the mark are heard.
            let peer = at(mark.unix_ms() + 400, 0);
            assert_eq!(clock.observe(peer, NOW), Observed::Merged);
        }
        assert_eq!(
            Clock::new(Some(Hlc(u64::MAX)), DRIFT).unwrap_err(),
            ClockError::OutOfRange
        );
    }

    #[test]
    fn a_wall_clock_that_steps_back_stops_nothing() {
        let mut clock = clock();
        let before = clock.last();
        let back = NOW - HOUR;
        assert!(clock.next(back).unwrap() > before);
        let remote = at(NOW + 300, 9);
        assert_eq!(clock.observe(remote, back), Observed::Merged);
        assert!(clock.next(back).unwrap() > remote);
        assert_eq!(clock.observe(at(NOW + 501, 0), back), Observed::BeyondDrift);
    }

    #[test]
    fn peers_cannot_pull_the_clock_step_by_step() {
        let mut clock = clock();
        for step in 1..=20 {
            let _ = clock.observe(at(NOW + 400 * step, 0), NOW);
            clock.next(NOW).unwrap();
        }
        assert!(clock.last().unix_ms() <= NOW + 500);
    }

    #[test]
    fn what_is_not_merged_leaves_the_clock_alone() {
        let mut clock = clock();
        let before = clock.last();
        let mut check = |remote, expected| {
            assert_eq!(clock.observe(remote, NOW), expected);
            assert_eq!(clock.last(), before);
        };
        check(at(NOW + 501, 0), Observed::BeyondDrift);
        check(Hlc(u64::MAX), Observed::BeyondDrift);
        check(at(NOW, COUNTER_MAX + 1), Observed::CounterTooHigh);
        check(at(NOW + 500, (1 << 22) - 1), Observed::CounterTooHigh);
        check(at(NOW - HOUR, COUNTER_MAX + 1), Observed::Merged);
    }

    #[test]
    fn an_exhausted_counter_carries_then_waits() {
        let mut clock = clock();
        assert_eq!(clock.observe(at(NOW, COUNTER_MAX), NOW), Observed::Merged);
        assert_eq!(clock.next(NOW), Ok(at(NOW + 1, 0)));
        let last = at(NOW + 500, COUNTER_MAX);
        assert_eq!(clock.observe(last, NOW), Observed::Merged);
        let wait = Duration::from_millis(1);
        assert_eq!(clock.next(NOW), Err(ClockError::Exhausted { wait }));
        assert_eq!(clock.next(NOW + 1), Ok(at(NOW + 501, 0)));
    }

    #[test]
    fn absurd_times_are_errors() {
        let mut clock = clock();
        let before = clock.last();
        assert_eq!(clock.next(i64::MAX), Err(ClockError::OutOfRange));
        assert_eq!(clock.last(), before);
        assert!(clock.next(i64::MIN).unwrap() > before);
        assert_eq!(
            clock.observe(at(NOW + 501, 0), i64::MIN),
            Observed::BeyondDrift
        );
    }

    #[derive(Clone, Debug)]
    enum Event {
        Next(i64),
        Observe(i64, u64, i64),
        Restart,
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let now = || {
            prop_oneof![
                8 => NOW..NOW + 20,
                1 => NOW - 2 * HOUR..NOW + 2 * HOUR,
                1 => any::<i64>(),
            ]
        };
        let counter = prop_oneof![0..10_u64, COUNTER_MAX - 3..COUNTER_MAX + 3, 0..1_u64 << 22];
        let event = prop_oneof![
            4 => now().prop_map(Event::Next),
            4 => (NOW - 1000..NOW + 1000, counter, now())
                .prop_map(|(ms, counter, now)| Event::Observe(ms, counter, now)),
            1 => Just(Event::Restart),
        ];
        prop::collection::vec(event, 0..60)
    }

    proptest! {
        #[test]
        fn stamps_only_grow(events in events()) {
            let mut clock = Clock::new(None, DRIFT).unwrap();
            let mut above = clock.last();
            let mut wall = HLC_EPOCH_UNIX_MS;
            for event in events {
                match event {
                    Event::Next(now) => match clock.next(now) {
                        Ok(stamp) => {
                            prop_assert!(stamp > above);
                            prop_assert!(stamp.counter() <= COUNTER_MAX + 1);
                            wall = wall.max(now);
                            above = stamp;
                        }
                        Err(ClockError::Exhausted { wait }) => {
                            let later = now + i64::try_from(wait.as_millis()).unwrap();
                            above = clock.next(later).unwrap();
                            wall = wall.max(later);
                        }
                        Err(error) => prop_assert_eq!(error, ClockError::OutOfRange),
                    },
                    Event::Observe(ms, counter, now) => {
                        let remote = at(ms, counter);
                        match clock.observe(remote, now) {
                            Observed::Merged => above = above.max(remote),
                            _ => prop_assert_eq!(clock.last().max(above), clock.last()),
                        }
                        // Only wall clocks decide how far ahead the clock can be.
                        let bound = wall.max(now).saturating_add(501);
                        prop_assert!(clock.last().unix_ms() <= bound.max(above.unix_ms()));
                    }
                    Event::Restart => {
                        let mark = clock.last();
                        clock = Clock::new(Some(mark), DRIFT).unwrap();
                        wall = wall.max(mark.unix_ms());
                    }
                }
                prop_assert!(clock.last() >= above);
            }
        }
    }
}
