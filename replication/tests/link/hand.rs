//! Region 1's engine, spoken to by hand.

use std::time::Duration;

use bytes::Bytes;
use whimbrel_replication::cursor::{Cursor, ShardCursor};
use whimbrel_replication::id::{ClusterId, NodeId, ShardId, Stamp};
use whimbrel_replication::link::{
    Batches, Effect, Engine, Event, Frame, Hello, LinkId, PROTOCOL_MAX, PROTOCOL_MIN, Role,
};
use whimbrel_replication::op::FORMAT;

use crate::sim::{SHARDS, config, ms, origin, region, stamp};
use crate::store::batch;

pub(crate) const LINK: LinkId = LinkId(1);
pub(crate) const S: ShardId = ShardId(0);

/// Region 1's engine, spoken to by hand.
pub(crate) struct Hand {
    pub(crate) engine: Engine,
    pub(crate) now: Duration,
}

impl Hand {
    pub(crate) fn new() -> Self {
        Self {
            engine: Engine::new(config(1, 3), Cursor::new()),
            now: ms(0),
        }
    }

    pub(crate) fn event(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = self.engine.handle(event, self.now);
        effects.retain(|effect| !matches!(effect, Effect::SetTimer { .. }));
        effects
    }

    pub(crate) fn frame(&mut self, frame: Frame) -> Vec<Effect> {
        self.event(Event::Frame { link: LINK, frame })
    }

    pub(crate) fn up(&mut self, peer: u16, role: Role) -> Vec<Effect> {
        self.event(Event::Up {
            link: LINK,
            peer: region(peer),
            role,
        })
    }

    /// With region 2 at the other end.
    pub(crate) fn open(role: Role) -> Self {
        let mut hand = Self::new();
        hand.up(2, role);
        let frame = match role {
            Role::Puller => Frame::Welcome(hello()),
            Role::Server => Frame::Hello(hello()),
        };
        assert_eq!(close_reason(&hand.frame(frame)), None);
        hand
    }

    pub(crate) fn batches(&mut self, from: u64, to: u64, stamps: &[u64]) -> Vec<Effect> {
        let batches = stamps
            .iter()
            .map(|n| (stamp(*n), batch(origin(2), *n, ShardCursor::new(), 20)))
            .collect();
        self.raw_batches(from, to, batches)
    }

    pub(crate) fn raw_batches(
        &mut self,
        from: u64,
        to: u64,
        batches: Vec<(Stamp, Bytes)>,
    ) -> Vec<Effect> {
        self.frame(Frame::Batches(Batches {
            shard: S,
            origin: origin(2),
            from: stamp(from),
            to: stamp(to),
            batches,
        }))
    }

    pub(crate) fn applied(&mut self, to: u64) -> Vec<Effect> {
        self.event(Event::Applied {
            shard: S,
            origin: origin(2),
            to: stamp(to),
        })
    }

    pub(crate) fn read(&mut self, from: u64, stamps: &[u64], bytes: usize) -> Vec<Effect> {
        let batches: Vec<_> = stamps
            .iter()
            .map(|n| (stamp(*n), Bytes::from(vec![0; bytes])))
            .collect();
        let to = batches.last().map_or(stamp(from), |(at, _)| *at);
        self.event(Event::LogRead {
            link: LINK,
            shard: S,
            origin: origin(1),
            from: stamp(from),
            to,
            batches,
        })
    }
}

/// Region 2's.
pub(crate) fn hello() -> Hello {
    Hello {
        cluster: ClusterId::from_bytes([7; 16]),
        region: region(2),
        region_name: "r2".into(),
        origin: origin(2),
        node: NodeId(9),
        shards: SHARDS,
        protocols: (PROTOCOL_MIN, PROTOCOL_MAX),
        format: FORMAT,
    }
}

pub(crate) fn subscribe(from: u64) -> Frame {
    Frame::Subscribe {
        shard: S,
        origin: origin(1),
        from: stamp(from),
    }
}

pub(crate) fn appended(to: u64) -> Event {
    Event::Appended {
        shard: S,
        origin: origin(1),
        stamp: stamp(to),
    }
}

pub(crate) fn close_reason(effects: &[Effect]) -> Option<&str> {
    effects.iter().find_map(|effect| match effect {
        Effect::Close { reason, .. } => Some(reason.as_str()),
        _ => None,
    })
}

pub(crate) fn sent(effects: &[Effect]) -> Vec<&Frame> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send { frame, .. } => Some(frame),
            _ => None,
        })
        .collect()
}

pub(crate) fn names(effects: &[Effect]) -> Vec<&'static str> {
    sent(effects).into_iter().map(Frame::name).collect()
}

pub(crate) fn applies(effects: &[Effect]) -> Vec<(Stamp, Vec<Stamp>)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Apply { from, batches, .. } => {
                Some((*from, batches.iter().map(|(at, _)| *at).collect()))
            }
            _ => None,
        })
        .collect()
}

pub(crate) fn reads(effects: &[Effect]) -> Vec<(Stamp, usize)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::ReadLog {
                from, bytes_max, ..
            } => Some((*from, *bytes_max)),
            _ => None,
        })
        .collect()
}
