//! What a transaction has read and written so far.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use whimbrel_replication::id::Stamp;

use crate::store::limits::STAMP_BYTES;
use crate::store::{Atomic, Value, key_after};

/// From the first key to before the second.
pub(super) type KeyRange = (Bytes, Bytes);

/// The range that holds only `key`.
pub(super) fn point(key: &[u8]) -> KeyRange {
    let after = Bytes::from(key_after(key));
    (after.slice(..key.len()), after)
}

/// Bounds for a map of keys; the begin must not be above the end.
pub(super) fn bounds<'a>(begin: &'a [u8], end: &'a [u8]) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    (Bound::Included(begin), Bound::Excluded(end))
}

/// Disjoint ranges, by their begin.
#[derive(Debug, Default)]
pub(super) struct RangeSet(BTreeMap<Bytes, Bytes>);

impl RangeSet {
    pub(super) fn insert(&mut self, begin: &[u8], end: &[u8]) {
        if begin >= end {
            return;
        }
        let mut begin = Bytes::copy_from_slice(begin);
        let mut end = Bytes::copy_from_slice(end);
        // Swallows what overlaps or touches, from the right to the left.
        while let Some((b, e)) = self
            .0
            .range(..=end.clone())
            .next_back()
            .filter(|(_, e)| **e >= begin)
            .map(|(b, e)| (b.clone(), e.clone()))
        {
            self.0.remove(&b);
            begin = begin.min(b);
            end = end.max(e);
        }
        self.0.insert(begin, end);
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        self.0
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
            .next_back()
            .is_some_and(|(_, end)| key < end)
    }

    /// Whether any of `begin..end` is covered.
    pub(super) fn intersects(&self, begin: &[u8], end: &[u8]) -> bool {
        begin < end
            && (self.contains(begin)
                || self.0.range::<[u8], _>(bounds(begin, end)).next().is_some())
    }

    /// What is not covered of `begin..end`.
    pub(super) fn gaps(&self, begin: &[u8], end: &[u8]) -> Vec<KeyRange> {
        let mut gaps = Vec::new();
        let mut from = Bytes::copy_from_slice(begin);
        let first = self
            .0
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(begin)))
            .next_back()
            .map_or_else(|| from.clone(), |(b, _)| b.clone());
        for (b, e) in self
            .0
            .range::<[u8], _>(bounds(&first.min(from.clone()), end))
        {
            if *e <= from {
                continue;
            }
            if *b > from {
                gaps.push((from, b.clone()));
            }
            from = e.clone();
        }
        if from < end {
            gaps.push((from, Bytes::copy_from_slice(end)));
        }
        gaps
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.0.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What becomes of one key. It stands for all calls on that key since the transaction began.
#[derive(Debug)]
pub(super) enum Write {
    Set(Value),
    Clear,
    /// In order, on a value that is not known yet.
    Atomics(Vec<(Atomic, Value)>),
    StampedValue {
        value: Vec<u8>,
        offset: usize,
    },
}

#[derive(Debug)]
pub(super) struct StampedKey {
    pub(super) key: Vec<u8>,
    pub(super) offset: usize,
    pub(super) value: Value,
}

impl StampedKey {
    /// Every key that it may become lies in here.
    fn range(&self) -> (Vec<u8>, Vec<u8>) {
        let mut low = self.key.clone();
        let mut high = key_after(&self.key);
        low[self.offset..self.offset + STAMP_BYTES].fill(0);
        high[self.offset..self.offset + STAMP_BYTES].fill(0xff);
        (low, high)
    }
}

/// Puts the stamp into its place.
pub(super) fn stamped(mut bytes: Vec<u8>, offset: usize, stamp: Stamp) -> Bytes {
    bytes[offset..offset + STAMP_BYTES].copy_from_slice(stamp.as_bytes());
    bytes.into()
}

/// All writes, in normal form: the cleared ranges come first, then one write per key.
#[derive(Debug, Default)]
pub(super) struct Writes {
    pub(super) keys: BTreeMap<Bytes, Write>,
    pub(super) cleared: RangeSet,
    pub(super) stamped_keys: Vec<StampedKey>,
    /// Where those may come to stand.
    pending_stamps: RangeSet,
    /// Write conflicts without a write.
    pub(super) conflicts: Vec<KeyRange>,
}

/// What a transaction's own writes say about a key.
pub(super) enum Seen<'a> {
    Known(Option<Value>),
    /// To be applied to the value in the transaction's view.
    Over(&'a [(Atomic, Value)]),
    Unreadable,
}

impl Writes {
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
            && self.cleared.is_empty()
            && self.stamped_keys.is_empty()
            && self.conflicts.is_empty()
    }

    pub(super) fn seen(&self, key: &[u8]) -> Seen<'_> {
        match self.keys.get(key) {
            Some(Write::Set(value)) => Seen::Known(Some(value.clone())),
            Some(Write::Clear) => Seen::Known(None),
            Some(Write::Atomics(atomics)) => Seen::Over(atomics),
            Some(Write::StampedValue { .. }) => Seen::Unreadable,
            None if self.cleared.contains(key) => Seen::Known(None),
            None => Seen::Over(&[]),
        }
    }

    /// Whether a versionstamp is pending in `begin..end`.
    pub(super) fn unreadable(&self, begin: &[u8], end: &[u8]) -> bool {
        self.stamped_key_in(begin, end)
            || self
                .keys
                .range::<[u8], _>(bounds(begin, end))
                .any(|(_, write)| matches!(write, Write::StampedValue { .. }))
    }

    pub(super) fn stamped_key_in(&self, begin: &[u8], end: &[u8]) -> bool {
        self.pending_stamps.intersects(begin, end)
    }

    pub(super) fn stamped_key_at(&self, key: &[u8]) -> bool {
        self.pending_stamps.contains(key)
    }

    pub(super) fn put_stamped_key(&mut self, stamped: StampedKey) {
        let (low, high) = stamped.range();
        self.pending_stamps.insert(&low, &high);
        self.stamped_keys.push(stamped);
    }

    pub(super) fn put(&mut self, key: &[u8], write: Write) {
        self.keys.insert(Bytes::copy_from_slice(key), write);
    }

    pub(super) fn clear_range(&mut self, begin: &[u8], end: &[u8]) {
        let covered: Vec<Bytes> = self
            .keys
            .range::<[u8], _>(bounds(begin, end))
            .map(|(key, _)| key.clone())
            .collect();
        for key in covered {
            self.keys.remove(&key);
        }
        self.cleared.insert(begin, end);
    }

    /// False if the key has a versionstamp pending.
    pub(super) fn atomic(&mut self, atomic: Atomic, key: &[u8], operand: &[u8]) -> bool {
        let value = match self.seen(key) {
            Seen::Unreadable => return false,
            Seen::Known(value) => atomic.apply(value.as_deref(), operand),
            Seen::Over(_) => {
                let operand = Bytes::copy_from_slice(operand);
                match self.keys.get_mut(key) {
                    Some(Write::Atomics(atomics)) => atomics.push((atomic, operand)),
                    _ => self.put(key, Write::Atomics(vec![(atomic, operand)])),
                }
                return true;
            }
        };
        self.put(key, Write::Set(value));
        true
    }
}

/// The value after all `atomics`.
pub(super) fn fold(atomics: &[(Atomic, Value)], base: Option<Value>) -> Option<Value> {
    atomics.iter().fold(base, |value, (atomic, operand)| {
        Some(atomic.apply(value.as_deref(), operand))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[(&str, &str)]) -> RangeSet {
        let mut set = RangeSet::default();
        for (begin, end) in ranges {
            set.insert(begin.as_bytes(), end.as_bytes());
        }
        set
    }

    #[test]
    fn ranges_merge() {
        let check = |ranges: &[(&str, &str)], expected: &[(&str, &str)]| {
            let set = set(ranges);
            let got: Vec<_> = set.iter().map(|(b, e)| (&b[..], &e[..])).collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|(b, e)| (b.as_bytes(), e.as_bytes()))
                .collect();
            assert_eq!(got, expected, "{ranges:?}");
        };
        check(&[("a", "c"), ("b", "d")], &[("a", "d")]);
        check(&[("a", "b"), ("b", "c")], &[("a", "c")]);
        check(&[("a", "b"), ("c", "d")], &[("a", "b"), ("c", "d")]);
        check(&[("b", "c"), ("d", "e"), ("a", "f")], &[("a", "f")]);
        check(&[("a", "f"), ("b", "c")], &[("a", "f")]);
        check(&[("a", "a")], &[]);
    }

    #[test]
    fn gaps_are_what_is_left() {
        let check = |ranges: &[(&str, &str)], begin: &str, end: &str, expected: &[(&str, &str)]| {
            let gaps = set(ranges).gaps(begin.as_bytes(), end.as_bytes());
            let gaps: Vec<_> = gaps.iter().map(|(b, e)| (&b[..], &e[..])).collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|(b, e)| (b.as_bytes(), e.as_bytes()))
                .collect();
            assert_eq!(gaps, expected, "{ranges:?}");
        };
        check(&[], "a", "z", &[("a", "z")]);
        check(&[("a", "z")], "b", "c", &[]);
        check(&[("a", "c"), ("e", "g")], "b", "f", &[("c", "e")]);
        check(&[("c", "d")], "a", "z", &[("a", "c"), ("d", "z")]);
        check(&[("a", "b")], "b", "c", &[("b", "c")]);
    }
}
