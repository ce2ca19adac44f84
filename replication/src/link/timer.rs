//! A table of deadlines.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{LinkId, LogKey};
use crate::id::ShardId;

/// What comes due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The handshake takes too long.
    Handshake(LinkId),
    /// The peer may have fallen silent.
    Silence(LinkId),
    /// What we hold has changed and was not told yet.
    Have(LinkId),
    /// All that we hold is told again.
    Heartbeat(LinkId),
    /// A failed read of the log is repeated.
    Read(LinkId, LogKey),
    /// A log that we lack makes no progress.
    Pull(LogKey),
    /// An apply that moved nothing is repeated.
    Apply(LogKey),
    /// A page of a snapshot did not come, or is asked for again.
    Snapshot(ShardId),
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    at: BTreeMap<Timer, Duration>,
    order: BTreeSet<(Duration, Timer)>,
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Duration) {
        self.cancel(timer);
        self.at.insert(timer, at);
        self.order.insert((at, timer));
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.at.contains_key(&timer)
    }

    pub(super) fn cancel(&mut self, timer: Timer) {
        if let Some(at) = self.at.remove(&timer) {
            self.order.remove(&(at, timer));
        }
    }

    pub(super) fn cancel_link(&mut self, link: LinkId) {
        let of_link = |timer: &Timer| match timer {
            Timer::Handshake(l)
            | Timer::Silence(l)
            | Timer::Have(l)
            | Timer::Heartbeat(l)
            | Timer::Read(l, _) => *l == link,
            Timer::Pull(_) | Timer::Apply(_) | Timer::Snapshot(_) => false,
        };
        self.at.retain(|timer, _| !of_link(timer));
        self.order.retain(|(_, timer)| !of_link(timer));
    }

    pub(super) fn next(&self) -> Option<Duration> {
        self.order.first().map(|(at, _)| *at)
    }

    /// All that is due, in order. What is set again meanwhile waits for the next time.
    pub(super) fn take_due(&mut self, now: Duration) -> Vec<Timer> {
        let due: Vec<Timer> = self
            .order
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, timer)| *timer)
            .collect();
        for timer in &due {
            self.cancel(*timer);
        }
        due
    }
}
