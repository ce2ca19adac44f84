//! How far a region is that is new, or built anew from what others have.

use whimbrel_replication::cursor::{Cursor, ShardCursor};
use whimbrel_replication::id::ShardId;

/// Percent of the shards in which others hold something; of one that a snapshot brings, the share that `snapshot` tells.
/// At most 99: that it has all is said by serving. `None` before others have said what they hold.
pub(super) fn percent(
    wanted: &Cursor,
    held: &Cursor,
    snapshot: impl Fn(ShardId) -> Option<f64>,
) -> Option<u8> {
    let share = |shard: ShardId, wanted: &ShardCursor| {
        let covers = || {
            held.shard(shard)
                .is_some_and(|held| held.covers_all(wanted))
        };
        snapshot(shard).unwrap_or_else(|| f64::from(u8::from(covers())))
    };
    let (mut shards, mut sum) = (0.0, 0.0);
    for (shard, wanted) in wanted.iter() {
        shards += 1.0;
        sum += share(shard, wanted);
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to 100"
    )]
    (shards > 0.0).then(|| ((100.0 * sum / shards) as u8).min(99))
}

#[cfg(test)]
mod tests {
    use whimbrel_replication::id::{OpStamp, Origin, RegionId, Stamp};

    use super::*;

    const US: Origin = Origin {
        region: RegionId(2),
        incarnation: 1,
    };

    fn cursor(shards: &[(u16, Stamp)]) -> Cursor {
        let mut cursor = Cursor::new();
        for (shard, stamp) in shards {
            cursor.advance(ShardId(*shard), US, OpStamp::whole(*stamp));
        }
        cursor
    }

    #[test]
    fn shards_count_by_what_is_there_of_them() {
        let wanted: Vec<_> = (0..4).map(|shard| (shard, Stamp::MAX)).collect();
        let wanted = cursor(&wanted);
        let none = |_| None;
        assert_eq!(percent(&Cursor::new(), &Cursor::new(), none), None);
        assert_eq!(percent(&wanted, &Cursor::new(), none), Some(0));
        // Of the first it has some, of the second all.
        let some = cursor(&[(0, Stamp::MIN), (1, Stamp::MAX)]);
        assert_eq!(percent(&wanted, &some, none), Some(25));
        assert_eq!(percent(&wanted, &wanted, none), Some(99));
        // A snapshot is on its way with what the cursor does not say.
        let snapshot = |shard: ShardId| (shard.0 < 2).then_some(0.5);
        assert_eq!(percent(&wanted, &wanted, snapshot), Some(75));
        assert_eq!(percent(&wanted, &Cursor::new(), snapshot), Some(25));
    }
}
