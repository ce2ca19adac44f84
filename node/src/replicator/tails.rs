//! The ends of the logs, kept in memory: a peer that follows closely is served without a read of
//! the store. What is not here any more is read from there.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use whimbrel_replication::id::{Origin, ShardId, Stamp};

use crate::tailer::Appended;

/// Of one log. More of it serves peers longer that fall behind, and takes this much memory for each
/// shard and origin.
const TAIL_BYTES_MAX: usize = 64 * 1024;

/// The ends of all logs.
#[derive(Debug, Default)]
pub(super) struct Tails(BTreeMap<(ShardId, Origin), Tail>);

/// All batches of one log after `floor`, up to the last one.
#[derive(Debug)]
struct Tail {
    floor: Stamp,
    batches: VecDeque<(Stamp, Bytes)>,
    bytes: usize,
}

impl Tail {
    fn last(&self) -> Stamp {
        self.batches.back().map_or(self.floor, |(stamp, _)| *stamp)
    }
}

impl Tails {
    /// Takes what was appended to a log.
    pub(super) fn push(&mut self, appended: &Appended) {
        let key = (appended.shard, appended.origin);
        let tail = self.0.entry(key).or_insert_with(|| Tail {
            floor: appended.after,
            batches: VecDeque::new(),
            bytes: 0,
        });
        let Some(bytes) = appended
            .bytes
            .as_ref()
            .filter(|_| tail.last() == appended.after)
        else {
            // Something is missing before or in it.
            self.0.remove(&key);
            return;
        };
        tail.bytes += bytes.len();
        tail.batches.push_back((appended.stamp, bytes.clone()));
        while tail.bytes > TAIL_BYTES_MAX
            && let Some((stamp, gone)) = tail.batches.pop_front()
        {
            tail.floor = stamp;
            tail.bytes -= gone.len();
        }
    }

    /// The batches after `from`: at least one, and not many more than `bytes_max` bytes. `None` if
    /// they are not here.
    pub(super) fn after(
        &self,
        shard: ShardId,
        origin: Origin,
        from: Stamp,
        bytes_max: usize,
    ) -> Option<Vec<(Stamp, Bytes)>> {
        let tail = self.0.get(&(shard, origin))?;
        if from < tail.floor || from >= tail.last() {
            return None;
        }
        let first = tail.batches.partition_point(|(stamp, _)| *stamp <= from);
        let mut bytes = 0;
        let fitting = tail.batches.iter().skip(first).take_while(|(_, batch)| {
            let fits = bytes < bytes_max;
            bytes += batch.len();
            fits
        });
        Some(fitting.cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_replication::id::RegionId;

    use super::*;

    const SHARD: ShardId = ShardId(3);

    fn origin() -> Origin {
        Origin {
            region: RegionId(1),
            incarnation: 7,
        }
    }

    fn stamp(version: u64) -> Stamp {
        Stamp::new(version, 0)
    }

    fn appended(after: u64, at: u64, bytes: Option<usize>) -> Appended {
        Appended {
            shard: SHARD,
            origin: origin(),
            after: stamp(after),
            stamp: stamp(at),
            bytes: bytes.map(|length| vec![0; length].into()),
        }
    }

    fn check(tails: &Tails, from: u64, bytes_max: usize, expected: Option<&[u64]>) {
        let got = tails.after(SHARD, origin(), stamp(from), bytes_max);
        let got = got.map(|batches| batches.into_iter().map(|(at, _)| at).collect::<Vec<_>>());
        let expected = expected.map(|all| all.iter().map(|at| stamp(*at)).collect::<Vec<_>>());
        assert_eq!(got, expected, "after {from}, {bytes_max} bytes");
    }

    #[test]
    fn answers_what_it_has_and_nothing_else() {
        let mut tails = Tails::default();
        check(&tails, 0, 100, None);
        tails.push(&appended(4, 5, Some(10)));
        tails.push(&appended(5, 9, Some(10)));
        check(&tails, 3, 100, None);
        check(&tails, 4, 100, Some(&[5, 9]));
        check(&tails, 5, 100, Some(&[9]));
        check(&tails, 7, 100, Some(&[9]));
        check(&tails, 9, 100, None);
        check(&tails, 4, 1, Some(&[5]));
        check(&tails, 4, 11, Some(&[5, 9]));
    }

    #[test]
    fn a_gap_begins_anew() {
        let mut tails = Tails::default();
        tails.push(&appended(0, 1, Some(10)));
        tails.push(&appended(2, 3, Some(10)));
        check(&tails, 0, 100, None);
        tails.push(&appended(3, 4, Some(10)));
        check(&tails, 3, 100, Some(&[4]));
        tails.push(&appended(4, 5, None));
        check(&tails, 3, 100, None);
    }

    #[test]
    fn it_is_bounded() {
        let mut tails = Tails::default();
        for at in 1..=4 {
            tails.push(&appended(at - 1, at, Some(TAIL_BYTES_MAX / 2)));
        }
        check(&tails, 1, usize::MAX, None);
        check(&tails, 2, usize::MAX, Some(&[3, 4]));
        tails.push(&appended(4, 5, Some(TAIL_BYTES_MAX + 1)));
        check(&tails, 4, usize::MAX, None);
        tails.push(&appended(5, 6, Some(1)));
        check(&tails, 5, usize::MAX, Some(&[6]));
    }
}
