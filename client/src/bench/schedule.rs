//! When messages are sent, and which of them count.
//!
//! In a **closed loop** a client sends its next message when the last one was answered: the load
//! falls when the region slows down. In an **open loop** each message has its intended time,
//! whatever became of those before. Its latency counts from that time, also where it was sent late
//! because all connections were waiting: otherwise a stall of a second would show as one slow
//! message instead of all those that it kept from being sent. That error is known as coordinated
//! omission (Gil Tene, "How NOT to Measure Latency", 2013); the way around it is that of wrk2.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};

/// How long a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// So long, not counting the warm-up.
    Duration(Duration),
    /// So many messages, not counting the warm-up.
    Messages(u64),
}

/// A run's times, relative to its start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    /// Messages a second; `None`: a closed loop.
    pub(super) rate: Option<NonZeroU32>,
    pub(super) warmup: Duration,
    pub(super) extent: Extent,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Sent, and not counted.
    Warmup,
    /// Sent and counted.
    Counted,
    /// Not sent: the run is over.
    Over,
}

impl Schedule {
    /// When message number `n` of an open loop is due.
    fn due(rate: NonZeroU32, n: u64) -> Duration {
        // In 128 bits no product overflows.
        let nanos = u128::from(n) * 1_000_000_000 / u128::from(rate.get());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// What becomes of a message that is due at `due`, after `counted` that were counted.
    fn phase(&self, due: Duration, counted: u64) -> Phase {
        if due < self.warmup {
            return Phase::Warmup;
        }
        let over = match self.extent {
            Extent::Duration(duration) => due >= self.warmup + duration,
            Extent::Messages(messages) => counted >= messages,
        };
        if over { Phase::Over } else { Phase::Counted }
    }
}

/// The next message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// Its number, from 0.
    pub(super) n: u64,
    /// From when on its latency counts.
    pub(super) due: Instant,
    /// Whether it counts at all.
    pub(super) counted: bool,
}

/// Hands out turns to the clients of one thread.
pub(super) struct Turns {
    schedule: Schedule,
    started: Instant,
    next: Cell<u64>,
    counted: Cell<u64>,
    /// A permit for each message that is due; closed when the run is over. `None`: a closed loop.
    permits: Option<Arc<Semaphore>>,
    stop: watch::Receiver<bool>,
}

impl Turns {
    /// The run starts now. It ends early when `stop` becomes true.
    pub(super) fn start(schedule: Schedule, stop: watch::Receiver<bool>) -> Self {
        let started = Instant::now();
        let permits = schedule.rate.map(|rate| {
            let permits = Arc::new(Semaphore::new(0));
            let (theirs, stop) = (Arc::clone(&permits), stop.clone());
            // It ends with the run: the semaphore is closed.
            std::thread::spawn(move || pace(rate, started, &theirs, &stop));
            permits
        });
        Self {
            schedule,
            started,
            next: Cell::new(0),
            counted: Cell::new(0),
            permits,
            stop,
        }
    }

    /// The next turn, once it is due, or `None` when the run is over.
    pub(super) async fn next(&self) -> Option<Turn> {
        if let Some(permits) = &self.permits {
            permits.acquire().await.ok()?.forget();
        }
        if *self.stop.borrow() {
            self.end();
            return None;
        }
        let n = self.next.get();
        let due = match self.schedule.rate {
            Some(rate) => Schedule::due(rate, n),
            None => self.started.elapsed(),
        };
        let phase = self.schedule.phase(due, self.counted.get());
        if phase == Phase::Over {
            self.end();
            return None;
        }
        self.next.set(n + 1);
        if phase == Phase::Counted {
            self.counted.set(self.counted.get() + 1);
        }
        Some(Turn {
            n,
            due: self.started + due,
            counted: phase == Phase::Counted,
        })
    }

    fn end(&self) {
        if let Some(permits) = &self.permits {
            permits.close();
        }
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        self.end();
    }
}

/// Gives a permit for each message when it is due. On a thread of its own, because timers of tokio
/// are only as fine as a millisecond.
fn pace(rate: NonZeroU32, started: Instant, permits: &Semaphore, stop: &watch::Receiver<bool>) {
    /// Wakes no more often: at high rates several messages are due at once.
    const NAP_MIN: Duration = Duration::from_micros(200);
    /// Wakes no less often, to see that the run is over.
    const NAP_MAX: Duration = Duration::from_millis(100);
    let mut given = 0;
    while !permits.is_closed() {
        if *stop.borrow() {
            permits.close();
            return;
        }
        let now = started.elapsed();
        let mut due = 0;
        while Schedule::due(rate, given) <= now && due < Semaphore::MAX_PERMITS / 2 {
            given += 1;
            due += 1;
        }
        permits.add_permits(due);
        let nap = Schedule::due(rate, given).saturating_sub(started.elapsed());
        std::thread::sleep(nap.clamp(NAP_MIN, NAP_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    fn schedule(extent: Extent) -> Schedule {
        Schedule {
            rate: NonZeroU32::new(1000),
            warmup: ms(100),
            extent,
        }
    }

    #[test]
    fn open_loops_are_even_and_do_not_drift() {
        let due = |rate, n| Schedule::due(NonZeroU32::new(rate).unwrap(), n);
        assert_eq!(due(1000, 0), Duration::ZERO);
        assert_eq!(due(1000, 1500), ms(1500));
        assert_eq!(due(3, 1), Duration::from_nanos(333_333_333));
        assert_eq!(due(3, 3_000_000_000), Duration::from_secs(1_000_000_000));
        assert_eq!(due(1, u64::MAX), Duration::from_nanos(u64::MAX));
    }

    #[test]
    fn phases() {
        let timed = schedule(Extent::Duration(ms(50)));
        assert_eq!(timed.phase(ms(99), 0), Phase::Warmup);
        assert_eq!(timed.phase(ms(100), 0), Phase::Counted);
        assert_eq!(timed.phase(ms(149), 9), Phase::Counted);
        assert_eq!(timed.phase(ms(150), 9), Phase::Over);
        let counted = schedule(Extent::Messages(10));
        assert_eq!(counted.phase(ms(99), 0), Phase::Warmup);
        assert_eq!(counted.phase(ms(10_000), 9), Phase::Counted);
        assert_eq!(counted.phase(ms(100), 10), Phase::Over);
    }

    /// All turns of a run.
    async fn turns(schedule: Schedule, stop: watch::Receiver<bool>) -> Vec<Turn> {
        let turns = Turns::start(schedule, stop);
        let mut all = Vec::new();
        while let Some(turn) = turns.next().await {
            all.push(turn);
        }
        all
    }

    #[tokio::test]
    async fn an_open_loop_gives_each_turn_at_its_time() {
        let (_go, stop) = watch::channel(false);
        let all = turns(schedule(Extent::Duration(ms(50))), stop).await;
        assert_eq!(all.len(), 150);
        for (turn, n) in all.iter().zip(0..) {
            assert_eq!((turn.n, turn.counted), (n, n >= 100));
            assert_eq!(turn.due, all[0].due + ms(n));
        }
        assert!(Instant::now() >= all[149].due, "no turn came early");
    }

    #[tokio::test]
    async fn a_closed_loop_counts_its_messages() {
        let (_go, stop) = watch::channel(false);
        let closed = Schedule {
            rate: None,
            warmup: Duration::ZERO,
            extent: Extent::Messages(7),
        };
        let all = turns(closed, stop).await;
        assert_eq!(all.iter().filter(|turn| turn.counted).count(), 7);
        assert!(all.is_sorted_by_key(|turn| turn.due));
    }

    #[tokio::test]
    async fn stopping_ends_any_loop() {
        for rate in [None, NonZeroU32::new(1)] {
            let (stop, stopped) = watch::channel(false);
            let endless = Schedule {
                rate,
                warmup: Duration::ZERO,
                extent: Extent::Messages(u64::MAX),
            };
            let turns = Turns::start(endless, stopped);
            assert!(turns.next().await.is_some());
            stop.send(true).unwrap();
            assert!(turns.next().await.is_none());
        }
    }
}
