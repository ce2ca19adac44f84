//! A modelled store.

use std::collections::BTreeMap;

use bytes::Bytes;
use whimbrel_replication::cursor::{Cursor, ShardCursor};
use whimbrel_replication::id::{
    ConversationId, Hlc, NodeId, OpId, OpStamp, Origin, Position, ShardId, Stamp,
};
use whimbrel_replication::op::{Batch, FORMAT, Op, OpKind};

/// A batch of one op whose text has this many bytes.
pub(crate) fn batch(origin: Origin, number: u64, deps: ShardCursor, text: usize) -> Bytes {
    let conversation = ConversationId::direct("ada", "bob");
    Batch {
        origin,
        node: NodeId(1),
        number,
        deps,
        ops: vec![Op {
            position: Position::new(Hlc(number), origin.region, NodeId(1)),
            id: OpId::derive("ada", &number.to_string()),
            actor: "ada".into(),
            conversation,
            kind: OpKind::ConversationChanged {
                title: Some("x".repeat(text)),
                topic: None,
            },
            trace: None,
        }],
    }
    .encode(FORMAT)
}

pub(crate) type Log = (ShardId, Origin);

/// What survives a restart. It refuses to be lied to: every breach of a promise panics here.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Store {
    pub(crate) logs: BTreeMap<Log, BTreeMap<Stamp, Bytes>>,
    pub(crate) cursor: BTreeMap<Log, Stamp>,
    pub(crate) floors: BTreeMap<Log, Stamp>,
}

impl Store {
    pub(crate) fn held(&self, shard: ShardId, origin: Origin) -> Stamp {
        self.cursor
            .get(&(shard, origin))
            .copied()
            .unwrap_or(Stamp::MIN)
    }

    pub(crate) fn shard_cursor(&self, shard: ShardId) -> ShardCursor {
        self.cursor
            .iter()
            .filter(|((s, _), _)| *s == shard)
            .map(|((_, origin), stamp)| (*origin, OpStamp::whole(*stamp)))
            .collect()
    }

    pub(crate) fn full_cursor(&self) -> Cursor {
        let mut cursor = Cursor::new();
        for ((shard, origin), stamp) in &self.cursor {
            cursor.advance(*shard, *origin, OpStamp::whole(*stamp));
        }
        cursor
    }

    pub(crate) fn append(&mut self, shard: ShardId, origin: Origin, at: Stamp, bytes: Bytes) {
        self.logs
            .entry((shard, origin))
            .or_default()
            .insert(at, bytes);
        self.cursor.insert((shard, origin), at);
    }

    /// Compare-and-set on the cursor; checks order (G1), exactly once (G7) and deps (G10).
    pub(crate) fn apply(
        &mut self,
        shard: ShardId,
        origin: Origin,
        from: Stamp,
        batches: &[(Stamp, Bytes)],
    ) {
        if self.held(shard, origin) != from {
            return;
        }
        assert!(!batches.is_empty(), "an apply of nothing");
        for (at, bytes) in batches {
            let last = self.held(shard, origin);
            assert!(*at > last, "G1: {at:?} after {last:?} of {origin}");
            let batch = Batch::decode(bytes).expect("only what can be read is applied");
            for (dep, needs) in batch.deps.iter() {
                let has = self.held(shard, dep);
                assert!(
                    has >= needs.stamp,
                    "G10: {origin} {at:?} needs {dep} {needs:?}, the store has {has:?}"
                );
            }
            let log = self.logs.entry((shard, origin)).or_default();
            let before = log.insert(*at, bytes.clone());
            assert!(before.is_none(), "G7: {origin} {at:?} applied twice");
            self.cursor.insert((shard, origin), *at);
        }
    }

    pub(crate) fn read(
        &self,
        log: Log,
        from: Stamp,
        bytes_max: usize,
    ) -> (Stamp, Vec<(Stamp, Bytes)>) {
        let mut bytes = 0;
        let mut batches = Vec::new();
        for (at, batch) in self.logs.get(&log).into_iter().flatten() {
            if *at <= from {
                continue;
            }
            if !batches.is_empty() && bytes + batch.len() > bytes_max {
                break;
            }
            bytes += batch.len();
            batches.push((*at, batch.clone()));
        }
        (batches.last().map_or(from, |(at, _)| *at), batches)
    }
}
