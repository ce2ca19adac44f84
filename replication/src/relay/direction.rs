//! What becomes of each datagram in one direction: a function of faults, time and chance.

use std::time::Duration;

use rand::Rng;

use super::Faults;
use crate::limits::{RELAY_BURST_BYTES, RELAY_QUEUE_BYTES};

/// How much longer a datagram is held that others shall overtake.
const REORDER_HOLD_MS: std::ops::RangeInclusive<u64> = 5..=25;

/// One direction of a link. Times are durations since any fixed start.
#[derive(Clone, Debug, Default)]
pub struct Direction {
    faults: Faults,
    /// When the last datagram leaves that keeps its place; those after it don't leave earlier.
    last_leaves: Duration,
    /// When all that was let in would be through, were there no burst.
    busy_until: Duration,
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It gets through.
    Leaves {
        /// When. Not before it was let in.
        at: Duration,
        /// Twice?
        twice: bool,
        /// Held back so that others overtake it?
        overtaken: bool,
    },
    /// It does not.
    Dropped(Cause),
}

/// Why a datagram was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The direction is cut.
    Cut,
    /// Bad luck.
    Loss,
    /// The queue before the narrow place was full.
    Bandwidth,
    /// The relay has no room, neither asked for nor chance.
    Room,
}

impl Direction {
    /// Other faults, for datagrams from now on. Those neither queue nor keep their order behind what
    /// is under way, or a link would stay slow long after it was healed.
    pub fn change(&mut self, faults: Faults) {
        if self.faults != faults {
            *self = Self {
                faults,
                ..Self::default()
            };
        }
    }

    /// Decides about a datagram that was sent just now. Bandwidth counts first, then the delay.
    pub fn admit(&mut self, now: Duration, bytes: usize, rng: &mut impl Rng) -> Fate {
        if self.faults.cut {
            return Fate::Dropped(Cause::Cut);
        }
        if happens(self.faults.loss, rng) {
            return Fate::Dropped(Cause::Loss);
        }
        let Some(through) = self.squeeze(now, bytes) else {
            return Fate::Dropped(Cause::Bandwidth);
        };
        let twice = happens(self.faults.duplicate, rng);
        let overtaken = happens(self.faults.reorder, rng);
        let mut at = (through + self.travel(rng)).max(self.last_leaves);
        if overtaken {
            at += Duration::from_millis(rng.random_range(REORDER_HOLD_MS));
        } else {
            self.last_leaves = at;
        }
        Fate::Leaves {
            at,
            twice,
            overtaken,
        }
    }

    /// A token bucket, as the generic cell rate algorithm: when the datagram is through, or `None`
    /// where too many wait already.
    fn squeeze(&mut self, now: Duration, bytes: usize) -> Option<Duration> {
        let Some(rate) = self.faults.bits_per_second else {
            return Some(now);
        };
        let takes = |bytes: usize| Duration::from_nanos(bytes as u64 * 8 * 1_000_000_000 / rate);
        let busy_until = self.busy_until.max(now) + takes(bytes);
        let through = busy_until.saturating_sub(takes(RELAY_BURST_BYTES)).max(now);
        if through - now > takes(RELAY_QUEUE_BYTES) {
            return None;
        }
        self.busy_until = busy_until;
        Some(through)
    }

    fn travel(&self, rng: &mut impl Rng) -> Duration {
        let (delay, jitter) = (self.faults.delay_ms, self.faults.jitter_ms);
        let delay = Duration::from_millis(delay.into());
        if jitter == 0 {
            return delay;
        }
        let jitter = Duration::from_millis(jitter.into());
        rng.random_range(delay.saturating_sub(jitter)..=delay + jitter)
    }
}

fn happens(share: f64, rng: &mut impl Rng) -> bool {
    share > 0.0 && rng.random_bool(share)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    const DATAGRAMS: u32 = 10_000;
    const BYTES: usize = 1_000;

    /// Prints its seed; `WHIMBREL_SEED` replays.
    fn chance() -> StdRng {
        let seed = std::env::var("WHIMBREL_SEED")
            .map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
        println!("WHIMBREL_SEED={seed}");
        StdRng::seed_from_u64(seed)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// The fates of datagrams that are sent one each millisecond.
    fn fates(faults: Faults, rng: &mut StdRng) -> Vec<(Duration, Fate)> {
        fates_every(ms(1), faults, rng)
    }

    fn fates_every(pause: Duration, faults: Faults, rng: &mut StdRng) -> Vec<(Duration, Fate)> {
        let mut direction = Direction::default();
        faults.check().unwrap();
        direction.change(faults);
        (0..DATAGRAMS)
            .map(|i| (pause * i, direction.admit(pause * i, BYTES, rng)))
            .collect()
    }

    fn leaves(fate: &Fate) -> Duration {
        match fate {
            Fate::Leaves { at, .. } => *at,
            Fate::Dropped(cause) => panic!("dropped: {cause:?}"),
        }
    }

    fn on_time(at: Duration) -> Fate {
        Fate::Leaves {
            at,
            twice: false,
            overtaken: false,
        }
    }

    /// How many of `fates` are so; with 10,000 tries of 5% to 30%, ten sigma is below 5% of them.
    fn check_share(expected: f64, fates: &[(Duration, Fate)], is: impl Fn(&Fate) -> bool) {
        let count = fates.iter().filter(|(_, fate)| is(fate)).count();
        let share = count as f64 / f64::from(DATAGRAMS);
        assert!((share - expected).abs() < 0.05, "{share} of {expected}");
    }

    #[test]
    fn without_faults_all_leave_at_once() {
        for (now, fate) in fates(Faults::default(), &mut chance()) {
            assert_eq!(fate, on_time(now));
        }
    }

    #[test]
    fn cut_drops_all_and_heals_at_once() {
        let rng = &mut chance();
        let mut direction = Direction::default();
        direction.change(Faults {
            cut: true,
            ..Faults::default()
        });
        let fate = direction.admit(ms(1), BYTES, rng);
        assert_eq!(fate, Fate::Dropped(Cause::Cut));
        direction.change(Faults {
            delay_ms: 60_000,
            ..Faults::default()
        });
        assert_eq!(direction.admit(ms(2), BYTES, rng), on_time(ms(60_002)));
        direction.change(Faults::default());
        assert_eq!(direction.admit(ms(3), BYTES, rng), on_time(ms(3)));
    }

    #[test]
    fn delays_fill_their_jitter() {
        let faults = Faults {
            delay_ms: 80,
            jitter_ms: 20,
            ..Faults::default()
        };
        // So far apart that order holds nobody up.
        let fates = fates_every(ms(50), faults, &mut chance());
        let delays = fates.iter().map(|(now, fate)| leaves(fate) - *now);
        let (least, most) = (delays.clone().min().unwrap(), delays.max().unwrap());
        assert!((ms(60)..ms(65)).contains(&least), "{least:?}");
        assert!((ms(95)..=ms(100)).contains(&most), "{most:?}");
    }

    #[test]
    fn jitter_keeps_the_order() {
        let faults = Faults {
            delay_ms: 80,
            jitter_ms: 80,
            ..Faults::default()
        };
        let fates = fates(faults, &mut chance());
        assert!(fates.is_sorted_by_key(|(_, fate)| leaves(fate)));
    }

    #[test]
    fn loss_and_duplication_hit_their_share() {
        let faults = Faults {
            loss: 0.3,
            duplicate: 0.2,
            ..Faults::default()
        };
        let fates = fates(faults, &mut chance());
        check_share(0.3, &fates, |fate| *fate == Fate::Dropped(Cause::Loss));
        let is_twice = |fate: &Fate| matches!(fate, Fate::Leaves { twice: true, .. });
        check_share(0.7 * 0.2, &fates, is_twice);
    }

    #[test]
    fn reordered_ones_are_overtaken() {
        let faults = Faults {
            reorder: 0.1,
            ..Faults::default()
        };
        let fates = fates(faults, &mut chance());
        let is_overtaken = |fate: &Fate| {
            matches!(
                fate,
                Fate::Leaves {
                    overtaken: true,
                    ..
                }
            )
        };
        check_share(0.1, &fates, is_overtaken);
        for (now, fate) in &fates {
            // The next ones, a millisecond apart, leave when they come.
            let late = leaves(fate) > *now + ms(4);
            assert_eq!(late, is_overtaken(fate), "{fate:?} at {now:?}");
        }
    }

    #[test]
    fn bandwidth_lets_its_rate_through_and_a_bounded_queue_wait() {
        let rng = &mut chance();
        let rate = 1_000_000;
        // Eight times the rate is offered.
        let faults = Faults {
            bits_per_second: Some(rate),
            ..Faults::default()
        };
        let fates = fates(faults, rng);
        let longest =
            Duration::from_secs(RELAY_QUEUE_BYTES as u64 * 8) / u32::try_from(rate).unwrap();
        let mut bytes = 0;
        for (now, fate) in &fates {
            match fate {
                Fate::Dropped(cause) => assert_eq!(*cause, Cause::Bandwidth),
                Fate::Leaves { at, .. } => {
                    assert!(*at - *now <= longest, "{fate:?} at {now:?}");
                    bytes += BYTES;
                }
            }
        }
        let seconds = u64::from(DATAGRAMS) / 1_000;
        let through = rate / 8 * seconds;
        let spare = RELAY_BURST_BYTES + RELAY_QUEUE_BYTES;
        let bytes = u64::try_from(bytes).unwrap();
        assert!(
            bytes.abs_diff(through) <= u64::try_from(spare).unwrap(),
            "{bytes} of {through}"
        );
    }

    #[test]
    fn a_quiet_link_takes_a_burst_at_once() {
        let rng = &mut chance();
        let mut direction = Direction::default();
        direction.change(Faults {
            bits_per_second: Some(8_000),
            ..Faults::default()
        });
        for _ in 0..RELAY_BURST_BYTES / BYTES {
            assert_eq!(direction.admit(ms(5), BYTES, rng), on_time(ms(5)));
        }
        let next = leaves(&direction.admit(ms(5), BYTES, rng));
        assert!(next > ms(500), "{next:?}");
    }

    #[test]
    fn one_seed_gives_one_fate() {
        let all = Faults {
            cut: false,
            delay_ms: 50,
            jitter_ms: 50,
            loss: 0.1,
            duplicate: 0.1,
            reorder: 0.1,
            bits_per_second: Some(4_000_000),
        };
        let run = |seed| fates(all, &mut StdRng::seed_from_u64(seed));
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }
}
