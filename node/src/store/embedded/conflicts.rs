//! What was written lately, to tell whether a transaction's reads still stand.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::pending::KeyRange;
use crate::store::limits::RECENT_BYTES_MAX;

/// Memory of a key beside its bytes.
const KEY_OVERHEAD_BYTES: usize = 64;

/// Writes of the last [`Recent::window`], one entry a group of commits. A transaction asks only
/// about the groups after its view, mostly one or two: searching those costs less than keeping one
/// index of all.
#[derive(Debug)]
pub(super) struct Recent {
    window: Duration,
    /// By version.
    groups: VecDeque<Written>,
    bytes: usize,
    /// What was written up to this version may be forgotten.
    floor: u64,
}

/// What one group of commits has written.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) version: u64,
    pub(super) at: Instant,
    /// In order.
    pub(super) keys: Vec<Bytes>,
    pub(super) ranges: Vec<KeyRange>,
}

impl Written {
    fn bytes(&self) -> usize {
        let keys = self.keys.iter().map(|key| key.len() + KEY_OVERHEAD_BYTES);
        let ranges = self
            .ranges
            .iter()
            .map(|(begin, end)| begin.len() + end.len() + 2 * KEY_OVERHEAD_BYTES);
        keys.chain(ranges).sum()
    }

    fn touches(&self, range: &KeyRange) -> bool {
        let (begin, end) = range;
        let first = self.keys.partition_point(|key| key < begin);
        self.keys.get(first).is_some_and(|key| key < end)
            || self.ranges.iter().any(|other| overlap(other, range))
    }
}

/// Whether two ranges have a key in common.
pub(super) fn overlap((begin, end): &KeyRange, (other_begin, other_end): &KeyRange) -> bool {
    begin.max(other_begin) < end.min(other_end)
}

impl Recent {
    /// `version`: of the last commit before this start.
    pub(super) fn new(window: Duration, version: u64) -> Self {
        Self {
            window,
            groups: VecDeque::new(),
            bytes: 0,
            floor: version,
        }
    }

    /// Whether it can be told what was written since `version`.
    pub(super) fn covers(&self, version: u64) -> bool {
        version >= self.floor
    }

    /// Whether something in the range was written after `version`.
    pub(super) fn written_since(&self, range: &KeyRange, version: u64) -> bool {
        let later = self.groups.iter().rev();
        later
            .take_while(|group| group.version > version)
            .any(|group| group.touches(range))
    }

    /// Notes what a group wrote; versions only go up.
    pub(super) fn record(&mut self, written: Written) {
        debug_assert!(written.keys.is_sorted());
        self.bytes += written.bytes();
        self.groups.push_back(written);
    }

    /// Forgets what no transaction that is young enough can ask for.
    pub(super) fn prune(&mut self, now: Instant) {
        while let Some(group) = self.groups.front() {
            let expired = now.saturating_duration_since(group.at) > self.window;
            if !expired && self.bytes <= RECENT_BYTES_MAX {
                break;
            }
            self.bytes -= group.bytes();
            self.floor = group.version;
            self.groups.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(begin: &'static str, end: &'static str) -> KeyRange {
        (begin.into(), end.into())
    }

    fn written<const K: usize, const R: usize>(
        version: u64,
        at: Instant,
        keys: [&'static str; K],
        ranges: [KeyRange; R],
    ) -> Written {
        Written {
            version,
            at,
            keys: keys.map(Bytes::from).into(),
            ranges: ranges.into(),
        }
    }

    #[test]
    fn tells_keys_and_ranges_by_version() {
        let now = Instant::now();
        let mut recent = Recent::new(Duration::from_secs(5), 0);
        recent.record(written(1, now, ["b", "m"], []));
        recent.record(written(2, now, [], [range("d", "g")]));
        recent.record(written(3, now, [], [range("e", "f")]));
        let check = |begin, end, version, expected| {
            assert_eq!(
                recent.written_since(&range(begin, end), version),
                expected,
                "{begin}..{end} since {version}"
            );
        };
        check("a", "c", 0, true);
        check("a", "c", 1, false);
        check("a", "b", 0, false);
        check("b\0", "d", 0, false);
        check("d", "d\0", 1, true);
        check("d", "e", 2, false);
        check("e", "e\0", 2, true);
        check("f", "g", 1, true);
        check("f", "g", 2, false);
        check("g", "m", 0, false);
        check("g", "m\0", 0, true);
        check("n", "z", 0, false);
        check("m", "m", 0, false);
        check("e", "e", 0, false);
        check("a", "z", 3, false);
    }

    #[test]
    fn forgets_what_is_older_than_the_window() {
        let start = Instant::now();
        let window = Duration::from_secs(5);
        let mut recent = Recent::new(window, 0);
        recent.record(written(1, start, ["a", "b"], [range("c", "d")]));
        recent.record(written(2, start + window, ["a"], [range("x", "y")]));
        recent.prune(start + window);
        assert!(recent.covers(0));
        recent.prune(start + window + Duration::from_millis(1));
        assert!(!recent.covers(0) && recent.covers(1));
        assert!(recent.written_since(&range("a", "b"), 1));
        assert!(recent.written_since(&range("x", "y"), 1));
        recent.prune(start + window * 3);
        assert!(!recent.covers(1) && recent.covers(2));
        assert!(recent.groups.is_empty() && recent.bytes == 0);
    }

    #[test]
    fn forgets_the_oldest_where_there_is_too_much() {
        let now = Instant::now();
        let mut recent = Recent::new(Duration::from_secs(5), 0);
        for version in 1..=3 {
            let key = Bytes::from(vec![b'k'; RECENT_BYTES_MAX / 2]);
            recent.record(Written {
                version,
                at: now,
                keys: vec![key],
                ranges: Vec::new(),
            });
        }
        recent.prune(now);
        assert!(!recent.covers(1) && recent.covers(2));
    }
}
