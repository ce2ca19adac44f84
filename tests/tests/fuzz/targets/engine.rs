//! A link engine between hostile peers and a store that keeps its word: no panic, and effects,
//! memory and what goes out stay bounded whatever comes in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use whimbrel_replication::cursor::{Cursor, ShardCursor};
use whimbrel_replication::id::{NodeId, OpStamp, Origin, RegionId, ShardId, Stamp};
use whimbrel_replication::limits::{
    FRAME_BYTES_MAX, INBOUND_LOG_BYTES_MAX, LINK_QUESTIONS_MAX, ORIGINS_MAX, REGIONS_MAX,
};
use whimbrel_replication::link::{
    Batches, Effect, Engine, EngineConfig, Event, Frame, Have, Heard, LinkId, Role,
    SnapshotProgress,
};
use whimbrel_replication::op::{FORMAT, FORMAT_MIN};

use super::input::{join, parts};
use super::memory::Bounds;
use super::sample;

/// Effects of one event: for each link and log something to send, and something to do.
const EFFECTS_MAX: usize = 4 * LINKS_MAX * sample::SHARDS as usize * ORIGINS_MAX;
/// Open at once.
const LINKS_MAX: usize = 8;

const BOUNDS: Bounds = Bounds {
    least: 4 * 1024 * 1024,
    each: 256,
    work: 64,
};

// What a part says, in its first byte.
const FRAME: u8 = 0;
const UP: u8 = 1;
const DOWN: u8 = 2;
const ANSWER: u8 = 3;
const PASS: u8 = 4;
const COMMIT: u8 = 5;
const PULL: u8 = 6;
const WALL: u8 = 7;
const STREAM: u8 = 8;
const ORIGINS: u8 = 9;
const ASK: u8 = 10;
const SKIP: u8 = 11;

/// Each part is an event: what it is, two bytes that say where, and a rest.
pub(crate) fn run(input: &[u8]) {
    BOUNDS.hold(input.len(), || {
        let mut node = Node::new();
        for part in parts(input) {
            if let [what, a, b, rest @ ..] = part {
                node.take(*what, *a, *b, rest);
            }
        }
    });
}

/// Region 1, of 4.
struct Node {
    engine: Engine,
    now: Duration,
    links: BTreeMap<LinkId, (RegionId, Role)>,
    last_link: u64,
    last_question: u64,
    held: BTreeMap<(ShardId, Origin), Stamp>,
    /// To be answered, each once.
    asked: Vec<Effect>,
}

impl Node {
    fn new() -> Self {
        let config = EngineConfig {
            format: FORMAT,
            cluster: sample::cluster(),
            region: RegionId(1),
            origin: sample::origin(1),
            node: NodeId(1),
            shards: sample::SHARDS,
            regions: (1..=4).map(|n| (RegionId(n), format!("r{n}"))).collect(),
        };
        Self {
            engine: Engine::new(config, Cursor::new()),
            now: Duration::ZERO,
            links: BTreeMap::new(),
            last_link: 0,
            last_question: 0,
            held: BTreeMap::new(),
            asked: vec![],
        }
    }

    fn take(&mut self, what: u8, a: u8, b: u8, rest: &[u8]) {
        let shard = ShardId(u16::from(b) % (sample::SHARDS + 1));
        let origin = sample::origin(u16::from(b >> 4) % 5);
        match what % 12 {
            FRAME => {
                if let Ok(frame) = Frame::decode(Bytes::copy_from_slice(rest)) {
                    self.frame(a, frame);
                }
            }
            UP => self.up(a, b),
            DOWN => {
                if let Some(link) = self.link(a) {
                    self.links.remove(&link);
                    self.tell(Event::Down { link });
                }
            }
            ANSWER => self.answer(a, b),
            PASS => {
                self.now += Duration::from_millis(u64::from(a) * 20);
                self.tell(Event::Timer);
            }
            COMMIT if shard.0 < sample::SHARDS => {
                let log = (shard, sample::origin(1));
                let stamp = Stamp::new(self.held(log).version() + u64::from(a) + 1, 0);
                self.commit(log, stamp);
            }
            PULL => {
                let shards = (0..sample::SHARDS).filter(|n| a >> n & 1 == 1);
                let shards: BTreeSet<ShardId> = shards.map(ShardId).collect();
                self.tell(Event::Pull { shards });
            }
            WALL => {
                let unix_ms = match a {
                    0 => i64::MIN,
                    1 => i64::MAX,
                    _ => sample::NOW_UNIX_MS,
                };
                self.tell(Event::Wall { unix_ms });
            }
            STREAM => {
                let frame = self.stream(shard, origin, rest);
                self.frame(a, Frame::Batches(frame));
            }
            ORIGINS => {
                let frame = Frame::Have(Have {
                    cursor: Cursor::of(shard, origins(b, rest)),
                    ..Have::default()
                });
                self.frame(a, frame);
            }
            ASK => {
                self.last_question += 1;
                self.tell(Event::Ask {
                    peer: RegionId(u16::from(a) % 6),
                    id: self.last_question,
                    question: Bytes::copy_from_slice(rest),
                });
            }
            SKIP => {
                let at = Stamp::new(u64::from(a), 0);
                self.tell(Event::Skip { shard, origin, at });
            }
            _ => {}
        }
    }

    fn link(&self, nth: u8) -> Option<LinkId> {
        let nth = usize::from(nth) % self.links.len().max(1);
        self.links.keys().nth(nth).copied()
    }

    fn frame(&mut self, link: u8, frame: Frame) {
        if let Some(link) = self.link(link) {
            self.tell(Event::Frame { link, frame });
        }
    }

    /// A link with a handshake that may be right.
    fn up(&mut self, a: u8, b: u8) {
        if self.links.len() == LINKS_MAX {
            return;
        }
        self.last_link += 1;
        let (link, peer) = (LinkId(self.last_link), RegionId(u16::from(a) % 6));
        let role = if b & 1 == 0 {
            Role::Puller
        } else {
            Role::Server
        };
        self.links.insert(link, (peer, role));
        self.tell(Event::Up { link, peer, role });
        let mut hello = sample::hello(peer.0);
        hello.origin.incarnation += u32::from(b >> 6);
        let frame = match role {
            Role::Puller => Frame::Welcome(hello),
            Role::Server => Frame::Hello(hello),
        };
        if b & 2 == 0 {
            self.tell(Event::Frame { link, frame });
        }
    }

    /// Batches that mostly join on to what is held; each byte is one of them.
    fn stream(&self, shard: ShardId, origin: Origin, each: &[u8]) -> Batches {
        let from = self.held((shard, origin));
        let mut at = from.version();
        let batches = each.iter().take(64).map(|byte| {
            at += u64::from(byte & 3) + 1;
            let mut batch = sample::batch(0, &sample::kinds()[..usize::from(byte >> 2 & 3)]);
            batch.origin = origin;
            if byte & 16 != 0 {
                batch.deps = sample::cursor(&[(u16::from(byte >> 5), at)]);
            }
            (Stamp::new(at, 0), batch.encode(FORMAT_MIN))
        });
        let batches: Vec<(Stamp, Bytes)> = batches.collect();
        Batches {
            shard,
            origin,
            from,
            to: batches.last().map_or(from, |(stamp, _)| *stamp),
            batches,
        }
    }

    /// Answers one effect as a store may.
    fn answer(&mut self, nth: u8, how: u8) {
        if self.asked.is_empty() {
            return;
        }
        let nth = usize::from(nth) % self.asked.len();
        match self.asked.swap_remove(nth) {
            Effect::Apply {
                shard,
                origin,
                from,
                batches,
            } => {
                let log = (shard, origin);
                if how % 4 == 3 {
                    let (at, reason) = (batches[0].0, "no".to_owned());
                    self.tell(Event::ApplyFailed {
                        shard,
                        origin,
                        at,
                        reason,
                    });
                    return;
                }
                // All of them, some, or none; none either where the cursor stands elsewhere.
                let some = batches.len() * usize::from(how % 4) / 2;
                if self.held(log) == from
                    && let Some((to, _)) = batches.iter().take(some).last()
                {
                    self.held.insert(log, *to);
                }
                let to = self.held(log);
                self.tell(Event::Applied { shard, origin, to });
            }
            Effect::ReadLog {
                link,
                shard,
                origin,
                from,
                bytes_max,
                ..
            } => {
                let held = self.held((shard, origin));
                let event = match how % 4 {
                    0 => Event::LogTrimmed {
                        link,
                        shard,
                        origin,
                        floor: held,
                    },
                    1 => Event::LogRead {
                        link,
                        shard,
                        origin,
                        from,
                        to: from,
                        batches: vec![],
                    },
                    _ => {
                        let to = held.max(from);
                        let bytes = Bytes::from(vec![0; bytes_max / usize::from(how).max(4)]);
                        let batches = (to > from).then_some((to, bytes));
                        Event::LogRead {
                            link,
                            shard,
                            origin,
                            from,
                            to,
                            batches: batches.into_iter().collect(),
                        }
                    }
                };
                self.tell(event);
            }
            Effect::ReadSnapshot { link, shard, .. } => {
                let page = None;
                self.tell(Event::SnapshotRead { link, shard, page });
            }
            Effect::MergeSnapshot { page, .. } => {
                let shard = page.shard;
                let progress = match (how % 4, page.next) {
                    (0, _) => SnapshotProgress::Failed,
                    (1, _) => SnapshotProgress::After(None),
                    (_, Some(next)) => SnapshotProgress::After(Some(next)),
                    (_, None) => SnapshotProgress::Merged(page.cursor),
                };
                self.tell(Event::SnapshotMerged { shard, progress });
            }
            Effect::Question { link, id, question } => {
                let answer = how.is_multiple_of(2).then_some(question);
                self.tell(Event::Answer { link, id, answer });
            }
            _ => {}
        }
    }

    fn held(&self, log: (ShardId, Origin)) -> Stamp {
        self.held.get(&log).copied().unwrap_or(Stamp::MIN)
    }

    fn commit(&mut self, log: (ShardId, Origin), stamp: Stamp) {
        self.held.insert(log, stamp);
        let (shard, origin) = log;
        self.tell(Event::Appended {
            shard,
            origin,
            stamp,
        });
    }

    fn tell(&mut self, event: Event) {
        let effects = self.engine.handle(event, self.now);
        assert!(effects.len() <= EFFECTS_MAX, "{} effects", effects.len());
        for effect in effects {
            self.check(&effect);
            match effect {
                Effect::Apply { .. }
                | Effect::ReadLog { .. }
                | Effect::ReadSnapshot { .. }
                | Effect::MergeSnapshot { .. }
                | Effect::Question { .. } => self.asked.push(effect),
                Effect::Close { link, .. } => {
                    self.links.remove(&link);
                }
                _ => {}
            }
        }
        let queue_max = INBOUND_LOG_BYTES_MAX / 64 * self.held.len().max(16 * REGIONS_MAX);
        assert!(self.engine.waiting() <= queue_max);
        for (region, peer) in self.engine.peers() {
            for (_, holds) in peer.holds.iter() {
                let origins = holds.iter().count();
                assert!(origins <= ORIGINS_MAX + REGIONS_MAX, "{region}: {origins}");
            }
        }
    }

    fn check(&self, effect: &Effect) {
        match effect {
            Effect::Send { link, frame, .. } => {
                assert!(self.links.contains_key(link), "sent on a closed link");
                let bytes = frame.encode();
                assert!(bytes.len() <= FRAME_BYTES_MAX);
                assert_eq!(Frame::decode(bytes).as_ref(), Ok(frame));
            }
            Effect::Apply {
                shard,
                origin,
                from,
                batches,
            } => {
                let is_under_way = |asked: &Effect| {
                    matches!(asked, Effect::Apply { shard: s, origin: o, .. }
                        if (s, o) == (shard, origin))
                };
                assert!(!self.asked.iter().any(is_under_way), "two applies of a log");
                let stamps: Vec<Stamp> = batches.iter().map(|(stamp, _)| *stamp).collect();
                assert!(!stamps.is_empty() && stamps[0] > *from);
                assert!(stamps.windows(2).all(|pair| pair[0] < pair[1]));
            }
            Effect::ReadLog {
                link,
                shard,
                origin,
                ..
            } => {
                let is_under_way = |asked: &Effect| {
                    matches!(asked, Effect::ReadLog { link: l, shard: s, origin: o, .. }
                        if (l, s, o) == (link, shard, origin))
                };
                assert!(!self.asked.iter().any(is_under_way), "two reads of a log");
            }
            Effect::ReadSnapshot { link, shard, .. } => {
                let is_under_way = |asked: &Effect| {
                    matches!(asked, Effect::ReadSnapshot { link: l, shard: s, .. }
                        if (l, s) == (link, shard))
                };
                assert!(!self.asked.iter().any(is_under_way), "two reads of a state");
            }
            Effect::MergeSnapshot { page, .. } => {
                let is_under_way = |asked: &Effect| {
                    matches!(asked, Effect::MergeSnapshot { page: other, .. }
                        if other.shard == page.shard)
                };
                assert!(
                    !self.asked.iter().any(is_under_way),
                    "two merges of a shard"
                );
            }
            Effect::Question { link, .. } => {
                let of_link = |asked: &&Effect| matches!(asked, Effect::Question { link: l, .. } if l == link);
                let waiting = self.asked.iter().filter(of_link).count();
                assert!(waiting < LINK_QUESTIONS_MAX, "{waiting} questions wait");
            }
            Effect::Answered { id, .. } => assert!(*id <= self.last_question),
            Effect::Close { .. } | Effect::SetTimer { .. } | Effect::Alert(_) => {}
        }
    }
}

/// Origins of a shard that nobody ever heard of.
fn origins(region: u8, each: &[u8]) -> ShardCursor {
    let origin = |(n, byte): (u32, &u8)| Origin {
        region: RegionId(u16::from(region >> 4) % 5),
        incarnation: n * 256 + u32::from(*byte),
    };
    let origins = (0..).zip(each).map(origin);
    origins
        .map(|origin| (origin, OpStamp::whole(Stamp::new(1, 0))))
        .collect()
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let (pull, serve, region_2) = (0, 1, 0x20);
    let subscribe = Frame::Subscribe {
        shard: ShardId(0),
        origin: sample::origin(1),
        from: Stamp::MIN,
    };
    let have = |at| {
        Frame::Have(Have {
            cursor: Cursor::of(ShardId(0), sample::cursor(&[(2, at), (3, 4)])),
            unix_ms: Some(at.cast_signed()),
            heard: Some(Heard {
                holder: sample::origin(3),
                cursor: Cursor::of(ShardId(0), sample::cursor(&[(1, at)])),
            }),
            ..Have::default()
        })
    };
    let frame = |link, frame: Frame| [&[FRAME, link, 0][..], &frame.encode()].concat();
    let all = 2;
    vec![
        join([
            vec![WALL, 2, 0],
            vec![UP, 2, pull],
            frame(0, have(9)),
            vec![STREAM, 0, region_2, 0, 1, 2, 3],
            vec![ANSWER, 0, all],
            vec![PASS, 10, 0],
            vec![STREAM, 0, region_2, 0x30, 0x70],
            vec![ANSWER, 0, 3],
            vec![PASS, 255, 0],
        ]),
        join([
            vec![UP, 3, serve],
            vec![COMMIT, 0, 0],
            frame(0, subscribe),
            vec![ANSWER, 0, 3],
            vec![COMMIT, 5, 0],
            frame(
                0,
                Frame::Ack {
                    shard: ShardId(0),
                    origin: sample::origin(1),
                    to: Stamp::new(1, 0),
                },
            ),
            vec![ANSWER, 0, 2],
            vec![DOWN, 0, 0],
        ]),
        join([
            vec![UP, 2, pull],
            vec![UP, 3, pull],
            frame(1, have(3)),
            [&[ORIGINS, 0, region_2][..], &[1; 120]].concat(),
            [&[ORIGINS, 0, region_2][..], &[2; 120]].concat(),
            vec![PULL, 1, 0],
            vec![PASS, 255, 0],
        ]),
    ]
}
