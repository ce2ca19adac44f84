//! From which standpoint a region shows a conversation: how far it holds the logs, and which of their
//! ops it knows to concern the conversation. Two regions must show the same exactly where they have
//! taken in the same ops.

use whimbrel_replication::cursor::ShardCursor;
use whimbrel_replication::id::{OpStamp, Origin, Stamp};

use crate::apply::{corrupt, held};
use crate::store::keys::{self, Scope};
use crate::store::{RangeOptions, StoreError, Transaction};

/// All of one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standpoint {
    /// How far the region holds the shard's logs; it has taken in all ops up to there.
    pub held: ShardCursor,
    /// How far logs and feeds are trimmed: what came before has left no trace but the state.
    pub floors: ShardCursor,
    /// The last op of each origin that the conversation's feed tells of, or a repair has brought.
    pub last: ShardCursor,
}

/// How two regions stand to a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Both have taken in the same ops.
    Same,
    /// One of them has more to come.
    Apart,
    /// One counts an op as taken in that the other has in its feed, but has it not in its own.
    Lacking,
}

impl Standpoint {
    /// As a transaction sees it; `None` amid a repair.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn read(
        tx: &Transaction,
        scope: &Scope,
        own: Origin,
    ) -> Result<Option<Self>, StoreError> {
        let held = held(tx, scope.shard, own).await?;
        let mut floors = ShardCursor::new();
        let Some(mut last) = super::repair::brought(tx, scope).await? else {
            return Ok(None);
        };
        for (origin, _) in held.iter() {
            let floor = tx.get(&keys::trimmed(scope.shard, origin), true).await?;
            if let Some(floor) = floor {
                floors.advance(origin, OpStamp::try_from(&floor[..]).map_err(corrupt)?);
            }
            let (begin, end) = scope.feed_after(origin, None);
            let options = RangeOptions {
                limit: 1,
                reverse: true,
                snapshot: true,
                ..RangeOptions::default()
            };
            let page = tx.range(&begin, &end, options).await?;
            if let Some((key, _)) = page.rows.first() {
                last.advance(origin, keys::stamp_of(key).map_err(corrupt)?);
            }
        }
        Ok(Some(Self { held, floors, last }))
    }

    /// How it compares with that of another region.
    pub fn compare(&self, other: &Self) -> Standing {
        let all = [self, other];
        let origins = all
            .iter()
            .flat_map(|one| one.last.iter().chain(one.floors.iter()))
            .map(|(origin, _)| origin);
        let mut standing = Standing::Same;
        for origin in origins {
            let at =
                |cursor: &ShardCursor| cursor.get(&origin).unwrap_or(OpStamp::whole(Stamp::MIN));
            // Below it one of them has no feed left to tell.
            let floor = at(&self.floors).max(at(&other.floors));
            if at(&self.held) < floor || at(&other.held) < floor {
                return Standing::Apart;
            }
            let (ours, theirs) = (at(&self.last).max(floor), at(&other.last).max(floor));
            let (behind, ahead) = match ours.cmp(&theirs) {
                std::cmp::Ordering::Equal => continue,
                std::cmp::Ordering::Less => (self, theirs),
                std::cmp::Ordering::Greater => (other, ours),
            };
            if at(&behind.held) < ahead {
                return Standing::Apart;
            }
            standing = Standing::Lacking;
        }
        standing
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_replication::id::RegionId;

    use super::*;

    fn cursor(at: u64) -> ShardCursor {
        let origin = Origin {
            region: RegionId(1),
            incarnation: 7,
        };
        let at = (at > 0).then_some((origin, OpStamp::whole(Stamp::new(at, 0))));
        at.into_iter().collect()
    }

    /// Held, floor and last of one origin in both regions; 0: none.
    fn check(ours: [u64; 3], theirs: [u64; 3], expected: Standing) {
        let [ours, theirs] = [ours, theirs].map(|[held, floor, last]| Standpoint {
            held: cursor(held),
            floors: cursor(floor),
            last: cursor(last),
        });
        assert_eq!(ours.compare(&theirs), expected);
        assert_eq!(theirs.compare(&ours), expected);
    }

    #[test]
    fn only_regions_that_took_in_the_same_ops_are_compared() {
        use Standing::{Apart, Lacking, Same};
        check([0, 0, 0], [0, 0, 0], Same);
        check([9, 0, 5], [9, 0, 5], Same);
        // Who is behind lacks nothing of this conversation.
        check([9, 0, 5], [5, 0, 5], Same);
        check([9, 0, 5], [3, 0, 0], Apart);
        check([9, 0, 5], [3, 0, 2], Apart);
        // The one has trimmed it, the other has not.
        check([9, 5, 0], [9, 0, 5], Same);
        check([9, 7, 0], [9, 0, 5], Same);
        check([9, 7, 9], [9, 0, 9], Same);
        // Both have trimmed, and one may not have seen all of that.
        check([9, 9, 0], [6, 4, 0], Apart);
        check([9, 7, 0], [9, 5, 0], Same);
        // Counted as taken in, and not there.
        check([9, 0, 5], [9, 0, 0], Lacking);
        check([9, 0, 5], [9, 2, 3], Lacking);
    }
}
