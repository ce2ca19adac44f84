//! What was written lately, to tell whether a transaction's reads still stand.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::pending::{KeyRange, bounds};
use crate::store::limits::RECENT_BYTES_MAX;

/// Memory of a point beside its bytes: entries in a map and a list.
const POINT_OVERHEAD_BYTES: usize = 128;

/// Writes of the last [`Recent::window`], by key.
#[derive(Debug)]
pub(super) struct Recent {
    window: Duration,
    /// Version of the last write of a key.
    points: BTreeMap<Bytes, u64>,
    /// Version of the last clear from this key to the next one; 0 for none.
    ranges: BTreeMap<Bytes, u64>,
    groups: VecDeque<Group>,
    bytes: usize,
    /// What was written up to this version may be forgotten.
    floor: u64,
}

#[derive(Debug)]
struct Group {
    version: u64,
    at: Instant,
    points: Vec<Bytes>,
    bytes: usize,
}

impl Recent {
    /// `version`: of the last commit before this start.
    pub(super) fn new(window: Duration, version: u64) -> Self {
        Self {
            window,
            points: BTreeMap::new(),
            ranges: BTreeMap::new(),
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
    pub(super) fn written_since(&self, (begin, end): &KeyRange, version: u64) -> bool {
        if begin >= end {
            return false;
        }
        let cleared_before = self
            .ranges
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(&begin[..])))
            .next_back();
        let cleared = self.ranges.range::<[u8], _>(bounds(begin, end));
        let written = self.points.range::<[u8], _>(bounds(begin, end));
        cleared_before
            .into_iter()
            .chain(cleared)
            .chain(written)
            .any(|(_, at)| *at > version)
    }

    /// Notes what one transaction of the group of `version` wrote; versions never go down.
    pub(super) fn record(
        &mut self,
        version: u64,
        at: Instant,
        points: impl IntoIterator<Item = Bytes>,
        ranges: impl IntoIterator<Item = KeyRange>,
    ) {
        if self.groups.back().is_none_or(|g| g.version != version) {
            self.groups.push_back(Group {
                version,
                at,
                points: Vec::new(),
                bytes: 0,
            });
        }
        let group = self.groups.back_mut().expect("one was pushed");
        for key in points {
            let bytes = key.len() + POINT_OVERHEAD_BYTES;
            group.bytes += bytes;
            self.bytes += bytes;
            group.points.push(key.clone());
            self.points.insert(key, version);
        }
        for (begin, end) in ranges {
            if begin < end {
                self.clear(begin, end, version);
            }
        }
    }

    fn clear(&mut self, begin: Bytes, end: Bytes, version: u64) {
        let at_end = self
            .ranges
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(&end[..])))
            .next_back()
            .map_or(0, |(_, at)| *at);
        let inside: Vec<Bytes> = self
            .ranges
            .range::<[u8], _>(bounds(&begin, &end))
            .map(|(key, _)| key.clone())
            .collect();
        for key in inside {
            self.ranges.remove(&key);
        }
        self.ranges.insert(begin, version);
        self.ranges.insert(end, at_end);
    }

    /// Forgets what no transaction that is young enough can ask for.
    pub(super) fn prune(&mut self, now: Instant) {
        let mut pruned = false;
        while let Some(group) = self.groups.front() {
            let expired = now.saturating_duration_since(group.at) > self.window;
            if !expired && self.bytes <= RECENT_BYTES_MAX {
                break;
            }
            let group = self.groups.pop_front().expect("there is a front");
            self.bytes -= group.bytes;
            self.floor = group.version;
            pruned = true;
            for key in group.points {
                // A later write of the key has a group of its own.
                if self.points.get(&key) == Some(&group.version) {
                    self.points.remove(&key);
                }
            }
        }
        if pruned && !self.ranges.is_empty() {
            let floor = self.floor;
            let mut before = 0;
            self.ranges.retain(|_, at| {
                let now = if *at <= floor { 0 } else { *at };
                let keep = now != before;
                *at = now;
                before = now;
                keep
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(begin: &'static str, end: &'static str) -> KeyRange {
        (begin.into(), end.into())
    }

    #[test]
    fn tells_points_and_ranges_by_version() {
        let now = Instant::now();
        let mut recent = Recent::new(Duration::from_secs(5), 0);
        recent.record(1, now, [Bytes::from("b")], []);
        recent.record(2, now, [], [range("d", "g")]);
        recent.record(3, now, [], [range("e", "f")]);
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
        check("g", "z", 0, false);
        check("a", "z", 3, false);
    }

    #[test]
    fn forgets_what_is_older_than_the_window() {
        let start = Instant::now();
        let window = Duration::from_secs(5);
        let mut recent = Recent::new(window, 0);
        recent.record(
            1,
            start,
            [Bytes::from("a"), Bytes::from("b")],
            [range("c", "d")],
        );
        recent.record(2, start + window, [Bytes::from("a")], [range("x", "y")]);
        recent.prune(start + window);
        assert!(recent.covers(0));
        recent.prune(start + window + Duration::from_millis(1));
        assert!(!recent.covers(0) && recent.covers(1));
        assert_eq!(recent.points.len(), 1);
        assert_eq!(recent.ranges.len(), 2);
        assert!(recent.written_since(&range("a", "b"), 1));
        recent.prune(start + window * 3);
        assert!(recent.points.is_empty() && recent.ranges.is_empty() && recent.bytes == 0);
    }
}
