use std::time::Duration;

use rand::Rng as _;
use whimbrel_replication::id::{Origin, ShardId};
use whimbrel_replication::link::{Event, Frame};

use super::{Due, Sim, What, ms};

impl Sim {
    /// Runs what is due until `until`.
    pub(crate) fn run_until(&mut self, until: Duration) {
        let mut at_once = 0;
        while let Some((&(at, sequence), _)) = self.queue.first_key_value()
            && at <= until
        {
            at_once = if at == self.now { at_once + 1 } else { 0 };
            assert!(at_once < 100_000, "time stands still at {at:?}");
            let due = self
                .queue
                .remove(&(at, sequence))
                .expect("it is the first key");
            self.now = at;
            self.step(due);
        }
        self.now = until;
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    fn step(&mut self, due: Due) {
        let n = due.node;
        // Dialling goes on over restarts; all else is lost with the memory.
        if let What::LinkUp(puller, server) = due.what {
            return self.dial(puller, server);
        }
        let node = self.nodes.get_mut(&n).expect("a node");
        if let What::LateCommit(shard, origin, from, batches) = due.what {
            node.store.apply(shard, origin, from, &batches);
            return self.appended_later(n, shard, origin);
        }
        if due.life != node.life {
            return;
        }
        match due.what {
            What::LinkUp(..) | What::LateCommit(..) => {}
            What::Appended(shard, origin) => {
                let stamp = node.store.held(shard, origin);
                self.event(
                    n,
                    Event::Appended {
                        shard,
                        origin,
                        stamp,
                    },
                );
            }
            What::Frame(link, bytes) => {
                if self.links.contains_key(&link) {
                    let frame = Frame::decode(bytes).expect("our own frames can be read");
                    self.event(n, Event::Frame { link, frame });
                }
            }
            What::Read(link, shard, origin, from, bytes_max) => {
                let floor = node.store.floors.get(&(shard, origin)).copied();
                if let Some(floor) = floor.filter(|floor| from < *floor) {
                    return self.event(
                        n,
                        Event::LogTrimmed {
                            link,
                            shard,
                            origin,
                            floor,
                        },
                    );
                }
                let (to, batches) = node.store.read((shard, origin), from, bytes_max);
                self.event(
                    n,
                    Event::LogRead {
                        link,
                        shard,
                        origin,
                        from,
                        to,
                        batches,
                    },
                );
            }
            What::Commit(shard, origin, from, batches) => {
                if let Some((at, _)) = batches
                    .iter()
                    .find(|(at, _)| self.poison.contains(&(origin, *at)))
                {
                    let (at, reason) = (*at, "poisoned".to_owned());
                    return self.event(
                        n,
                        Event::ApplyFailed {
                            shard,
                            origin,
                            at,
                            reason,
                        },
                    );
                }
                if self.rng.random_bool(self.others) {
                    // Another node of the region was faster with some of it.
                    let first = self.rng.random_range(1..=batches.len());
                    node.store.apply(shard, origin, from, &batches[..first]);
                    self.appended_later(n, shard, origin);
                }
                let node = self.nodes.get_mut(&n).expect("a node");
                node.store.apply(shard, origin, from, &batches);
                // A crash may fall between the commit and the news of it.
                let after = ms(self.rng.random_range(0..3));
                self.later(n, after, What::Applied(shard, origin));
            }
            What::Applied(shard, origin) => {
                let to = node.store.held(shard, origin);
                self.event(n, Event::Applied { shard, origin, to });
            }
            What::Timer => self.event(n, Event::Timer),
        }
        self.check_acks(n);
    }

    /// The tail of the log is watched; the news takes a moment.
    fn appended_later(&mut self, n: u16, shard: ShardId, origin: Origin) {
        let after = ms(self.rng.random_range(0..20));
        self.later(n, after, What::Appended(shard, origin));
    }

    /// G1, G14: what a region thinks that another holds is on the other's disk.
    fn check_acks(&self, n: u16) {
        for (peer, status) in self.nodes[&n].engine.peers() {
            let other = &self.nodes[&peer.0];
            if status.origin != Some(other.origin) {
                continue; // It does not know yet that the other was rebuilt.
            }
            for (shard, cursor) in status.holds.iter() {
                for (origin, at) in cursor.iter() {
                    let has = other.store.held(shard, origin);
                    assert!(
                        at.stamp <= has,
                        "G1: region {n} takes it that {peer} holds {origin} {at:?}; it has {has:?}"
                    );
                }
            }
        }
    }

    pub(crate) fn converged(&self) -> bool {
        let mut stores = self.nodes.values().map(|node| &node.store.logs);
        let first = stores.next().expect("a node");
        stores.all(|logs| logs == first)
    }

    /// Time until all stores are equal, or a panic.
    pub(crate) fn settle(&mut self, within: Duration) -> Duration {
        let start = self.now;
        while !self.converged() {
            if self.now - start > within {
                let held: Vec<_> = self
                    .nodes
                    .iter()
                    .map(|(n, node)| (n, &node.store.cursor))
                    .collect();
                panic!("G1: not converged after {within:?}: {held:#?}");
            }
            self.run_for(ms(20));
        }
        self.now - start
    }
}
