//! Cursors: "everything up to here", per shard and origin. They mean the same in every region.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;

use crate::error::DecodeError;
use crate::id::{OpStamp, Origin, Place, ShardId, Stamp};
use crate::limits::{CURSOR_TEXT_BYTES_MAX, SHARDS_MAX};

const VERSION: u8 = 1;

/// How far each origin's log of one shard is held, seen or asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardCursor(BTreeMap<Origin, OpStamp>);

impl ShardCursor {
    /// Covers nothing.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// How far this origin is covered.
    pub fn get(&self, origin: &Origin) -> Option<OpStamp> {
        self.0.get(origin).copied()
    }

    /// The last batch of which anything is covered, or zero. Cursors of what a region holds name
    /// whole batches only.
    pub fn stamp(&self, origin: &Origin) -> Stamp {
        self.0.get(origin).map_or(Stamp::MIN, |at| at.stamp)
    }

    /// Raises one origin; never lowers it.
    pub fn advance(&mut self, origin: Origin, at: OpStamp) {
        let entry = self.0.entry(origin).or_insert(at);
        *entry = (*entry).max(at);
    }

    /// Is this op covered?
    pub fn covers(&self, place: &Place) -> bool {
        self.0.get(&place.origin).is_some_and(|at| *at >= place.at)
    }

    /// Is everything covered that `other` covers?
    pub fn covers_all(&self, other: &Self) -> bool {
        other
            .0
            .iter()
            .all(|(origin, at)| self.get(origin).is_some_and(|mine| mine >= *at))
    }

    /// Origins of which `other` covers more than this.
    pub fn lacks<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = Origin> + 'a {
        other
            .0
            .iter()
            .filter(|(origin, at)| self.get(origin).is_none_or(|mine| mine < **at))
            .map(|(origin, _)| *origin)
    }

    /// The larger of both, per origin.
    pub fn join(&mut self, other: &Self) {
        for (origin, at) in &other.0 {
            self.advance(*origin, *at);
        }
    }

    /// What both cover.
    #[must_use]
    pub fn capped_at(&self, other: &Self) -> Self {
        Self(
            self.0
                .iter()
                .filter_map(|(origin, at)| Some((*origin, other.get(origin)?.min(*at))))
                .collect(),
        )
    }

    /// In order of origin.
    pub fn iter(&self) -> impl Iterator<Item = (Origin, OpStamp)> + '_ {
        self.0.iter().map(|(origin, at)| (*origin, *at))
    }

    /// Covers it nothing?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(Origin, OpStamp)> for ShardCursor {
    fn from_iter<I: IntoIterator<Item = (Origin, OpStamp)>>(entries: I) -> Self {
        let mut cursor = Self::new();
        for (origin, at) in entries {
            cursor.advance(origin, at);
        }
        cursor
    }
}

/// A cursor over some or all shards. Shards that it does not name are not asked about.
///
/// Its text form is opaque, versioned, URL-safe and at most [`CURSOR_TEXT_BYTES_MAX`] long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor(BTreeMap<ShardId, ShardCursor>);

impl Cursor {
    /// Names no shard.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Names one shard.
    pub fn of(shard: ShardId, cursor: ShardCursor) -> Self {
        Self(BTreeMap::from([(shard, cursor)]))
    }

    /// The part for one shard.
    pub fn shard(&self, shard: ShardId) -> Option<&ShardCursor> {
        self.0.get(&shard)
    }

    /// The part for one shard, made if it is missing.
    pub fn shard_mut(&mut self, shard: ShardId) -> &mut ShardCursor {
        self.0.entry(shard).or_default()
    }

    /// Raises one origin of one shard.
    pub fn advance(&mut self, shard: ShardId, origin: Origin, at: OpStamp) {
        self.shard_mut(shard).advance(origin, at);
    }

    /// The larger of both.
    pub fn join(&mut self, other: &Self) {
        for (shard, cursor) in &other.0 {
            self.shard_mut(*shard).join(cursor);
        }
    }

    /// In order of shard.
    pub fn iter(&self) -> impl Iterator<Item = (ShardId, &ShardCursor)> + '_ {
        self.0.iter().map(|(shard, cursor)| (*shard, cursor))
    }

    /// Version; table of origins; per shard its number and (origin's index, stamp, op index + 1 or
    /// 0 for the whole batch). Counts and numbers are LEB128.
    fn to_bytes(&self) -> Vec<u8> {
        let mut origins: Vec<Origin> = self
            .0
            .values()
            .flat_map(|cursor| cursor.0.keys().copied())
            .collect();
        origins.sort_unstable();
        origins.dedup();

        let mut out = vec![VERSION];
        put_varint(&mut out, origins.len() as u32);
        for origin in &origins {
            out.extend_from_slice(&origin.to_bytes());
        }
        put_varint(&mut out, self.0.len() as u32);
        for (shard, cursor) in &self.0 {
            put_varint(&mut out, shard.0.into());
            put_varint(&mut out, cursor.0.len() as u32);
            for (origin, at) in &cursor.0 {
                let index = origins
                    .binary_search(origin)
                    .expect("every origin is in the table");
                put_varint(&mut out, index as u32);
                out.extend_from_slice(at.stamp.as_bytes());
                put_varint(&mut out, u32::from(at.index.wrapping_add(1)));
            }
        }
        out
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut input = Input(bytes);
        if input.take::<1>()? != [VERSION] {
            return None;
        }
        let mut origins = Vec::new();
        for _ in 0..input.varint()? {
            origins.push(Origin::from(input.take::<6>()?));
        }
        let mut cursor = Self::new();
        for _ in 0..input.varint()? {
            let shard = u16::try_from(input.varint()?)
                .ok()
                .filter(|s| *s < SHARDS_MAX)?;
            let part = cursor.shard_mut(ShardId(shard));
            for _ in 0..input.varint()? {
                let origin = *origins.get(usize::try_from(input.varint()?).ok()?)?;
                let stamp = Stamp::from_bytes(input.take::<10>()?);
                let index = u16::try_from(input.varint()?).ok()?.wrapping_sub(1);
                part.advance(origin, OpStamp::new(stamp, index));
            }
        }
        // One value, one text: what does not come out as it went in was not made by us.
        (input.0.is_empty() && cursor.to_bytes() == bytes).then_some(cursor)
    }
}

impl FromIterator<(ShardId, ShardCursor)> for Cursor {
    fn from_iter<I: IntoIterator<Item = (ShardId, ShardCursor)>>(parts: I) -> Self {
        Self(parts.into_iter().collect())
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.to_bytes()))
    }
}

impl FromStr for Cursor {
    type Err = DecodeError;
    fn from_str(text: &str) -> Result<Self, DecodeError> {
        if text.len() > CURSOR_TEXT_BYTES_MAX {
            return Err(DecodeError::Text("cursor"));
        }
        BASE64URL_NOPAD
            .decode(text.as_bytes())
            .ok()
            .and_then(|bytes| Self::from_bytes(&bytes))
            .ok_or(DecodeError::Text("cursor"))
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    fn varint(&mut self) -> Option<u32> {
        let mut value = 0u32;
        for shift in (0..28).step_by(7) {
            let [byte] = self.take::<1>()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::RegionId;

    fn origin(region: u16) -> Origin {
        Origin {
            region: RegionId(region),
            incarnation: 1_700_000_000,
        }
    }

    fn any_cursor() -> impl Strategy<Value = Cursor> {
        let entry = (0u16..4, any::<[u8; 10]>(), any::<u16>());
        let part = proptest::collection::vec(entry, 0..4);
        proptest::collection::btree_map(0..SHARDS_MAX, part, 0..64).prop_map(|shards| {
            let part = |entries: Vec<(u16, [u8; 10], u16)>| -> ShardCursor {
                entries
                    .into_iter()
                    .map(|(r, s, i)| (origin(r), OpStamp::new(Stamp::from_bytes(s), i)))
                    .collect()
            };
            shards
                .into_iter()
                .map(|(shard, entries)| (ShardId(shard), part(entries)))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn text_round_trips(cursor in any_cursor()) {
            let text = cursor.to_string();
            prop_assert!(text.len() <= CURSOR_TEXT_BYTES_MAX);
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
            prop_assert_eq!(text.parse::<Cursor>(), Ok(cursor));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,64}", bytes in any::<Vec<u8>>()) {
            let _ = text.parse::<Cursor>();
            let _ = BASE64URL_NOPAD.encode(&bytes).parse::<Cursor>();
        }

        #[test]
        fn join_covers_both_and_cap_is_covered_by_both(a in any_cursor(), b in any_cursor()) {
            for (shard, part) in a.iter() {
                let other = b.shard(shard).cloned().unwrap_or_default();
                let mut joined = part.clone();
                joined.join(&other);
                prop_assert!(joined.covers_all(part) && joined.covers_all(&other));
                let capped = part.capped_at(&other);
                prop_assert!(part.covers_all(&capped) && other.covers_all(&capped));
                prop_assert_eq!(part.lacks(&joined).count() == 0, part.covers_all(&joined));
            }
        }
    }

    #[test]
    fn the_text_never_starts_with_a_dash() {
        assert!(Cursor::new().to_string().starts_with('A'));
    }
}
