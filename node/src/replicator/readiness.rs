//! When a node may serve: once it has caught up with every peer that it can reach, as those peers were when they were
//! first reached.

use std::collections::BTreeMap;
use std::time::Duration;

use whimbrel_replication::cursor::Cursor;
use whimbrel_replication::id::{Origin, RegionId, ShardId};

/// After its start a node waits so long for links before it counts a peer as out of reach.
const LINK_GRACE: Duration = Duration::from_secs(2);
/// And so long, where its store was never whole, before it counts itself as the first region there is.
const FIRST_LINK_GRACE: Duration = Duration::from_secs(30);

/// What a node's store held at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Had {
    /// All that others held, once.
    Whole,
    /// Some of what others had, and nothing of its own: it stopped while it was built anew.
    Part,
    /// Nothing of others, or writes of its own too: it may be the first region there is.
    Unknown,
}

impl Had {
    /// Of a store of the origin `own` that holds so much; `is_whole`: it was noted that it was whole.
    pub(super) fn of(is_whole: bool, own: Origin, held: &Cursor) -> Self {
        let mut logs = held.iter().flat_map(|(_, logs)| logs.iter()).peekable();
        if is_whole {
            Self::Whole
        } else if logs.peek().is_some() && logs.all(|(origin, _)| origin != own) {
            // A region takes writes only once it has all.
            Self::Part
        } else {
            Self::Unknown
        }
    }
}

/// How far a node is on its way there.
#[derive(Debug)]
pub(super) struct Readiness {
    /// With the life of the peer's store: what one held whose disk is gone may never come.
    targets: BTreeMap<RegionId, (Option<Origin>, Cursor)>,
    is_reached: bool,
    is_whole: bool,
    had: Had,
}

impl Readiness {
    /// Of a node that starts.
    pub(super) fn new(had: Had) -> Self {
        Self {
            targets: BTreeMap::new(),
            is_reached: false,
            is_whole: had == Had::Whole,
            had,
        }
    }

    pub(super) const fn is_reached(&self) -> bool {
        self.is_reached
    }

    pub(super) const fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// A peer has told all that it holds. What it tells later is no target: it would move for ever.
    pub(super) fn hear(&mut self, peer: RegionId, life: Option<Origin>, holds: &Cursor) {
        if self.targets.get(&peer).is_none_or(|(of, _)| *of != life) {
            self.targets.insert(peer, (life, holds.clone()));
        }
    }

    pub(super) fn has_heard_any(&self) -> bool {
        !self.targets.is_empty()
    }

    /// Whether so many of the `peers` say that they know no such region as this one, that it must not serve.
    pub(super) fn is_refused(&self, refusing: usize, peers: usize) -> bool {
        // With a whole store one of them may be mistaken, as where its config is older.
        let enough = if self.is_whole { peers } else { 1 };
        peers > 0 && !self.has_heard_any() && refusing >= enough
    }

    /// Whether some of the `peers` may still be heard, so long after the start.
    pub(super) fn waits_for_links(&self, peers: usize, since_start: Duration) -> bool {
        // It is not the first region there is, however long nobody is heard.
        if self.had == Had::Part && !self.has_heard_any() {
            return peers > 0;
        }
        let grace = if self.is_whole || self.has_heard_any() {
            LINK_GRACE
        } else {
            FIRST_LINK_GRACE
        };
        self.targets.len() < peers && since_start < grace
    }

    /// How much of the targets is here, in percent: of their shards, and of one that a snapshot brings the share that
    /// `snapshot` tells. At most 99: that it has all is said by serving. `None` while nobody was heard.
    pub(super) fn progress_percent(
        &self,
        held: &Cursor,
        snapshot: impl Fn(ShardId) -> Option<f64>,
    ) -> Option<u8> {
        let mut wanted = Cursor::new();
        for (_, target) in self.targets.values() {
            wanted.join(target);
        }
        let (mut shards, mut sum) = (0.0, 0.0);
        for (shard, wanted) in wanted.iter() {
            let covers = || {
                held.shard(shard)
                    .is_some_and(|held| held.covers_all(wanted))
            };
            shards += 1.0;
            sum += snapshot(shard).unwrap_or_else(|| f64::from(u8::from(covers())));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from 0 to 100"
        )]
        (shards > 0.0).then(|| ((100.0 * sum / shards) as u8).min(99))
    }

    /// The store holds so much. Whether that is enough, now or before.
    pub(super) fn reach(&mut self, held: &Cursor) -> bool {
        let covers = |wanted: &Cursor| {
            wanted.iter().all(|(shard, wanted)| {
                held.shard(shard)
                    .is_some_and(|held| held.covers_all(wanted))
            })
        };
        self.is_reached |= self.targets.values().all(|(_, wanted)| covers(wanted));
        self.is_whole |= self.is_reached;
        self.is_reached
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_replication::id::{OpStamp, Stamp};

    use super::*;

    const US: RegionId = RegionId(2);
    const AP: RegionId = RegionId(3);

    fn life(region: RegionId, incarnation: u32) -> Origin {
        Origin {
            region,
            incarnation,
        }
    }

    /// All of a log, up to the last stamp there can be.
    fn all_of(origin: Origin) -> Cursor {
        let mut cursor = Cursor::new();
        cursor.advance(ShardId(0), origin, OpStamp::whole(Stamp::MAX));
        cursor
    }

    #[test]
    fn g16_it_is_reached_with_all_that_was_heard_first() {
        let mut readiness = Readiness::new(Had::Unknown);
        let (us, ap) = (life(US, 1), life(AP, 1));
        readiness.hear(US, Some(us), &all_of(us));
        assert!(!readiness.reach(&Cursor::new()) && !readiness.is_whole());
        // The target does not move with what is written meanwhile.
        let mut more = all_of(us);
        more.advance(ShardId(0), ap, OpStamp::whole(Stamp::MAX));
        readiness.hear(US, Some(us), &more);
        assert!(readiness.reach(&all_of(us)) && readiness.is_whole());
        // What comes later changes nothing.
        readiness.hear(AP, Some(ap), &all_of(ap));
        assert!(readiness.reach(&Cursor::new()));
    }

    #[test]
    fn g16_who_is_refused_by_others_is_not_the_first_region() {
        let mut empty = Readiness::new(Had::Unknown);
        assert!(!empty.is_refused(0, 2) && empty.is_refused(1, 2));
        // With all data it stops only where nobody knows it.
        let whole = Readiness::new(Had::Whole);
        assert!(!whole.is_refused(1, 2) && whole.is_refused(2, 2));
        assert!(!whole.is_refused(0, 0), "a region alone");
        empty.hear(US, None, &Cursor::new());
        assert!(!empty.is_refused(1, 2), "one of them knows it");
    }

    #[test]
    fn progress_counts_shards_by_what_is_here_of_them() {
        let us = life(US, 1);
        let of = |shards: &[(u16, Stamp)]| {
            let mut cursor = Cursor::new();
            for (shard, stamp) in shards {
                cursor.advance(ShardId(*shard), us, OpStamp::whole(*stamp));
            }
            cursor
        };
        let middle = Stamp::new(5, 0);
        let wanted = of(&[(0, middle), (1, middle), (2, middle), (3, middle)]);
        let mut readiness = Readiness::new(Had::Unknown);
        let check = |readiness: &Readiness, held: &Cursor, snapshot: Option<f64>, expected| {
            let snapshot = |shard: ShardId| snapshot.filter(|_| shard.0 < 2);
            assert_eq!(readiness.progress_percent(held, snapshot), expected);
        };
        check(&readiness, &Cursor::new(), None, None);
        readiness.hear(US, Some(us), &wanted);
        check(&readiness, &Cursor::new(), None, Some(0));
        // Of the first it has some, of the second all.
        let some = of(&[(0, Stamp::MIN), (1, middle)]);
        check(&readiness, &some, None, Some(25));
        check(&readiness, &wanted, None, Some(99));
        // A snapshot is on its way with what the cursor does not say.
        check(&readiness, &wanted, Some(0.5), Some(75));
        check(&readiness, &Cursor::new(), Some(0.5), Some(25));
        // What is written meanwhile takes nothing back.
        readiness.hear(US, Some(us), &all_of(us));
        check(&readiness, &some, None, Some(25));
    }

    #[test]
    fn g16_what_a_peer_held_whose_disk_is_gone_is_not_waited_for() {
        let mut readiness = Readiness::new(Had::Whole);
        let (old, new) = (life(US, 1), life(US, 2));
        readiness.hear(US, Some(old), &all_of(old));
        assert!(!readiness.reach(&Cursor::new()));
        readiness.hear(US, Some(new), &Cursor::new());
        assert!(readiness.reach(&Cursor::new()));
    }

    #[test]
    fn g16_a_store_that_has_only_what_others_wrote_was_being_built() {
        let (own, us) = (life(AP, 2), life(US, 1));
        let mut both = all_of(us);
        both.join(&all_of(own));
        for (is_whole, held, expected) in [
            (false, Cursor::new(), Had::Unknown),
            (false, all_of(us), Had::Part),
            // Its life before: that came from others too.
            (false, all_of(life(AP, 1)), Had::Part),
            (false, both, Had::Unknown),
            (true, all_of(us), Had::Whole),
        ] {
            assert_eq!(Had::of(is_whole, own, &held), expected, "{held:?}");
        }
    }

    #[test]
    fn g16_a_store_that_was_never_whole_waits_longer_for_the_first_link() {
        let check = |had: Had, heard: usize, seconds: u64, expected: bool| {
            let mut readiness = Readiness::new(had);
            for peer in [US, AP].into_iter().take(heard) {
                readiness.hear(peer, None, &Cursor::new());
            }
            let waits = readiness.waits_for_links(2, Duration::from_secs(seconds));
            assert_eq!(waits, expected, "{had:?} {heard} {seconds}");
        };
        check(Had::Whole, 0, 1, true);
        check(Had::Whole, 0, 2, false);
        check(Had::Unknown, 0, 29, true);
        check(Had::Unknown, 0, 30, false);
        check(Had::Unknown, 1, 1, true);
        check(Had::Unknown, 1, 2, false);
        check(Had::Unknown, 2, 0, false);
        // One that stopped while it was built anew waits until it hears somebody.
        check(Had::Part, 0, 3_600, true);
        check(Had::Part, 1, 1, true);
        check(Had::Part, 1, 2, false);
        // The only region there is.
        assert!(!Readiness::new(Had::Unknown).waits_for_links(0, Duration::ZERO));
    }
}
