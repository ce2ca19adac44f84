//! The applied changes of a document: their ancestry, and which operations they made.

use std::collections::BTreeMap;

use automerge::legacy::{ElementId, Key, ObjectId, Op, OpId, OpType};
use automerge::{ActorId, Change, ObjType, ScalarValue};

use super::{ACTOR_BYTES, KEY, TextError};
use crate::id::ChangeHash;

/// What is known of one applied change.
#[derive(Debug)]
struct Applied {
    hash: ChangeHash,
    deps: Vec<ChangeHash>,
    first_op: u64,
    last_op: u64,
    /// Bit i: change i, in order of arrival, is this one or an ancestor.
    covers: Vec<u64>,
    /// Text objects that it made.
    texts: Vec<u64>,
    /// Runs of characters that it inserted: first and last counter, the text.
    inserts: Vec<(u64, u64, OpId)>,
}

impl Applied {
    fn covers(&self, index: usize) -> bool {
        self.covers
            .get(index / 64)
            .is_some_and(|word| word >> (index % 64) & 1 == 1)
    }
}

/// All applied changes. Automerge panics on an operation that refers to one which it has not seen,
/// and takes a change that it would have written otherwise for another one later, so every change is
/// checked against its own ancestors here first.
#[derive(Debug, Default)]
pub(super) struct History {
    applied: Vec<Applied>,
    by_hash: BTreeMap<ChangeHash, usize>,
    by_actor: BTreeMap<ActorId, usize>,
}

impl History {
    pub(super) fn contains(&self, hash: &ChangeHash) -> bool {
        self.by_hash.contains_key(hash)
    }

    pub(super) fn deps(&self, hash: &ChangeHash) -> Option<&[ChangeHash]> {
        let index = self.by_hash.get(hash)?;
        Some(&self.applied[*index].deps)
    }

    /// The change whose hash starts with these bytes, if it is the only one.
    pub(super) fn with_prefix(&self, prefix: &[u8; 8]) -> Option<ChangeHash> {
        let mut low = [0; 32];
        low[..8].copy_from_slice(prefix);
        let mut found = self
            .by_hash
            .range(ChangeHash::from_bytes(low)..)
            .map(|(hash, _)| hash)
            .take_while(|hash| hash.as_bytes().starts_with(prefix));
        let first = found.next()?;
        found.next().is_none().then_some(*first)
    }

    /// Drops what is an ancestor of another; sorted.
    pub(super) fn frontier(&self, hashes: &[ChangeHash]) -> Vec<ChangeHash> {
        let mut indexes: Vec<usize> = hashes
            .iter()
            .filter_map(|hash| self.by_hash.get(hash).copied())
            .collect();
        indexes.sort_unstable();
        indexes.dedup();
        let mut frontier: Vec<ChangeHash> = indexes
            .iter()
            .filter(|&&i| !indexes.iter().any(|&j| j != i && self.applied[j].covers(i)))
            .map(|&i| self.applied[i].hash)
            .collect();
        frontier.sort_unstable();
        frontier
    }

    /// All changes, ancestors first. Counters grow along every path, so this is a causal order, and
    /// it does not depend on the order of arrival.
    pub(super) fn in_order(&self) -> Vec<ChangeHash> {
        let mut order: Vec<(u64, ChangeHash)> =
            self.applied.iter().map(|c| (c.first_op, c.hash)).collect();
        order.sort_unstable();
        // An empty change takes no counter: what is made on it starts where it started.
        let mut placed = Vec::with_capacity(order.len());
        let mut at = 0;
        while at < order.len() {
            let first_op = order[at].0;
            let len = order[at..].iter().take_while(|c| c.0 == first_op).count();
            let mut group: Vec<ChangeHash> = order[at..at + len].iter().map(|c| c.1).collect();
            at += len;
            while !group.is_empty() {
                let next = group
                    .iter()
                    .position(|hash| {
                        let deps = self.deps(hash).unwrap_or_default();
                        !deps.iter().any(|dep| group.contains(dep))
                    })
                    .expect("changes are acyclic: a dep is part of the hash");
                placed.push(group.remove(next));
            }
        }
        placed
    }

    /// Checks a change whose deps are all applied, and notes it. Nothing is noted on an error.
    pub(super) fn admit(&mut self, change: &Change) -> Result<(), TextError> {
        let mut deps: Vec<ChangeHash> = change
            .deps()
            .iter()
            .map(|h| ChangeHash::from_bytes(h.0))
            .collect();
        deps.sort_unstable();
        if self.frontier(&deps).len() != change.deps().len() {
            return Err(TextError::Malformed("deps"));
        }
        if deps.is_empty() && !self.applied.is_empty() {
            return Err(TextError::Malformed("a second first change"));
        }
        let actor = change.actor_id();
        if actor.to_bytes().len() != ACTOR_BYTES || self.by_actor.contains_key(actor) {
            return Err(TextError::Malformed("actor"));
        }
        let parents = || deps.iter().map(|dep| &self.applied[self.by_hash[dep]]);
        let first_op = parents().map(|c| c.last_op).max().unwrap_or(0) + 1;
        if change.start_op().get() != first_op {
            return Err(TextError::Malformed("first counter"));
        }
        let index = self.applied.len();
        let mut covers = vec![0; index / 64 + 1];
        for parent in parents() {
            for (word, more) in covers.iter_mut().zip(&parent.covers) {
                *word |= more;
            }
        }
        covers[index / 64] |= 1 << (index % 64);
        let mut noted = Applied {
            hash: ChangeHash::from_bytes(change.hash().0),
            deps,
            first_op,
            last_op: first_op + change.len() as u64 - 1,
            covers,
            texts: Vec::new(),
            inserts: Vec::new(),
        };
        let expanded = change.decode();
        for (counter, op) in (first_op..).zip(&expanded.operations) {
            self.check(&mut noted, actor, counter, op)?;
        }
        // Automerge keeps operations, not bytes: it looks up each actor that a change lists, and
        // writes changes anew for a fork. Other bytes than its own would be another change there.
        if Change::from(expanded).raw_bytes() != change.raw_bytes() {
            return Err(TextError::Malformed("not as Automerge writes it"));
        }
        self.by_hash.insert(noted.hash, index);
        self.by_actor.insert(actor.clone(), index);
        self.applied.push(noted);
        Ok(())
    }

    fn check(
        &self,
        change: &mut Applied,
        actor: &ActorId,
        counter: u64,
        op: &Op,
    ) -> Result<(), TextError> {
        match (&op.action, &op.obj, &op.key) {
            (OpType::Make(ObjType::Text), ObjectId::Root, Key::Map(key))
                if key == KEY && !op.insert =>
            {
                let once = op.pred.iter().is_sorted_by(|a, b| a < b);
                if !once || !op.pred.iter().all(|id| self.is_text(change, actor, id)) {
                    return Err(TextError::Malformed("predecessor"));
                }
                change.texts.push(counter);
                Ok(())
            }
            (OpType::Put(ScalarValue::Str(value)), ObjectId::Id(text), Key::Seq(after))
                if op.insert && op.pred.is_empty() =>
            {
                let known = match after {
                    ElementId::Head => self.is_text(change, actor, text),
                    ElementId::Id(id) => self.is_character(change, actor, id, text),
                };
                if !known || value.chars().count() != 1 {
                    return Err(TextError::Malformed("insertion"));
                }
                match change.inserts.last_mut() {
                    Some((_, last, same)) if *last + 1 == counter && same == text => {
                        *last = counter;
                    }
                    _ => change.inserts.push((counter, counter, text.clone())),
                }
                Ok(())
            }
            (OpType::Delete, ObjectId::Id(text), Key::Seq(ElementId::Id(id)))
                if !op.insert
                    && op.pred.iter().eq([id])
                    && self.is_character(change, actor, id, text) =>
            {
                Ok(())
            }
            _ => Err(TextError::Malformed("operation")),
        }
    }

    /// The change that made an operation, if it is `change` so far or one of its ancestors.
    fn maker<'a>(&'a self, change: &'a Applied, actor: &ActorId, id: &OpId) -> Option<&'a Applied> {
        if id.actor() == actor {
            return Some(change);
        }
        let index = *self.by_actor.get(id.actor())?;
        change.covers(index).then(|| &self.applied[index])
    }

    fn is_text(&self, change: &Applied, actor: &ActorId, id: &OpId) -> bool {
        self.maker(change, actor, id)
            .is_some_and(|maker| maker.texts.contains(&id.counter()))
    }

    fn is_character(&self, change: &Applied, actor: &ActorId, id: &OpId, text: &OpId) -> bool {
        self.maker(change, actor, id).is_some_and(|maker| {
            let run = maker
                .inserts
                .partition_point(|(_, last, _)| *last < id.counter());
            maker
                .inserts
                .get(run)
                .is_some_and(|(first, _, of)| *first <= id.counter() && of == text)
        })
    }
}
