//! How far every log is held: whole batches only, by shard and origin.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::LogKey;
use crate::cursor::{Cursor, ShardCursor};
use crate::id::{OpStamp, Origin, RegionId, ShardId, Stamp};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held(BTreeMap<LogKey, Stamp>);

/// All logs of a shard.
pub(super) fn shard_range(shard: ShardId) -> RangeInclusive<LogKey> {
    let least = Origin {
        region: RegionId(0),
        incarnation: 0,
    };
    let last = Origin {
        region: RegionId(u16::MAX),
        incarnation: u32::MAX,
    };
    LogKey::new(shard, least)..=LogKey::new(shard, last)
}

impl Held {
    pub(super) fn stamp(&self, key: LogKey) -> Stamp {
        self.0.get(&key).copied().unwrap_or(Stamp::MIN)
    }

    /// Raises one log; tells whether it rose.
    pub(super) fn advance(&mut self, key: LogKey, to: Stamp) -> bool {
        let rises = to > self.stamp(key);
        if rises {
            self.0.insert(key, to);
        }
        rises
    }

    /// Sets one log, also to less.
    pub(super) fn set(&mut self, key: LogKey, to: Stamp) {
        self.0.insert(key, to);
    }

    /// Are a batch's deps covered? Its own log is in order anyway.
    pub(super) fn covers(&self, key: LogKey, deps: &ShardCursor) -> bool {
        deps.iter().all(|(origin, at)| {
            origin == key.origin || self.stamp(LogKey::new(key.shard, origin)) >= at.stamp
        })
    }

    pub(super) fn origins(&self, shard: ShardId) -> usize {
        self.0.range(shard_range(shard)).count()
    }

    pub(super) fn contains(&self, key: LogKey) -> bool {
        self.0.contains_key(&key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = LogKey> + '_ {
        self.0.keys().copied()
    }

    pub(super) fn cursor(&self) -> Cursor {
        self.cursor_of(self.0.keys().copied())
    }

    /// Of these logs alone.
    pub(super) fn cursor_of(&self, logs: impl IntoIterator<Item = LogKey>) -> Cursor {
        let mut cursor = Cursor::new();
        for key in logs {
            if let Some(stamp) = self.0.get(&key) {
                cursor.advance(key.shard, key.origin, OpStamp::whole(*stamp));
            }
        }
        cursor
    }
}

impl From<Cursor> for Held {
    fn from(cursor: Cursor) -> Self {
        let mut held = Self::default();
        for (shard, part) in cursor.iter() {
            for (origin, at) in part.iter() {
                held.advance(LogKey::new(shard, origin), at.stamp);
            }
        }
        held
    }
}
