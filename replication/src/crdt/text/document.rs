//! A message's text in memory.

use std::collections::{BTreeMap, BTreeSet};

use automerge::{Automerge, Change, ROOT, ReadDoc as _};
use bytes::Bytes;

use super::history::History;
use super::revision::{Revision, RevisionRef};
use super::{KEY, TextError, encode, scan};
use crate::id::{ChangeHash, MessageId};
use crate::limits::{CHANGE_OPS_MAX, MERGED_TEXT_BYTES_MAX, TEXT_BYTES_MAX};

/// One version of a message's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Names this version.
    pub revision: Revision,
    /// What it was made on; more than one head where it settled a merge.
    pub parents: Revision,
    /// The text as its author wrote it.
    pub text: String,
    /// The change; none for the original.
    pub change: Option<ChangeHash>,
}

/// The text of one message: its original and any set of changes.
///
/// Text, revision and versions are a function of the set of changes alone, however often and in
/// what order they were applied. A change whose deps are missing waits in memory and shows nowhere
/// until they come.
#[derive(Debug)]
pub struct Document {
    message: MessageId,
    genesis: ChangeHash,
    doc: Automerge,
    history: History,
    heads: BTreeSet<ChangeHash>,
    waiting: BTreeMap<ChangeHash, Change>,
}

impl Document {
    /// Of a message that nobody has edited yet.
    pub fn new(message: &MessageId, original: &str) -> Self {
        let genesis =
            encode::genesis(message, original).expect("a text object takes any string at 0");
        let hash = ChangeHash::from_bytes(genesis.hash().0);
        let mut document = Self {
            message: *message,
            genesis: hash,
            doc: encode::empty(),
            history: History::default(),
            heads: BTreeSet::new(),
            waiting: BTreeMap::new(),
        };
        document
            .note(&genesis)
            .and_then(|()| Ok(document.doc.apply_changes([genesis])?))
            .expect("the first change of an empty document has no deps");
        document
    }

    /// Hash of the change that everybody derives from the message's id and original text.
    pub fn genesis(&self) -> ChangeHash {
        self.genesis
    }

    /// Of a message and its stored changes, in any order. The same as [`Self::apply`] for each of
    /// them, in one step: Automerge takes many changes at once in little more time than one.
    pub fn load<'a>(
        message: &MessageId,
        original: &str,
        changes: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, TextError> {
        let mut document = Self::new(message, original);
        for change in changes {
            let change = parse(change)?;
            document.waiting.insert(hash_of(&change), change);
        }
        let ready = document.take_ready();
        document.doc.apply_changes(ready)?;
        Ok(document)
    }

    /// Takes a change of another replica or of the store. Costs little where it is refused.
    ///
    /// A change whose deps have not come is kept, and [`Self::missing`] says so.
    pub fn apply(&mut self, change: &[u8]) -> Result<ChangeHash, TextError> {
        let parsed = parse(change)?;
        let hash = hash_of(&parsed);
        if self.history.contains(&hash) || self.waiting.contains_key(&hash) {
            return Ok(hash);
        }
        if self.is_ready(&parsed) {
            self.note(&parsed)?;
            let mut ready = vec![parsed];
            ready.extend(self.take_ready());
            self.doc.apply_changes(ready)?;
        } else {
            self.waiting.insert(hash, parsed);
        }
        Ok(hash)
    }

    /// Writes `text` over the revision that its author saw, and applies the change.
    ///
    /// The same base, key and text give the same change in every region. Where the text is that of
    /// the base the change is empty, with a hash of its own: on a merged base it settles the merge,
    /// on any other it is a version that reads like its parent.
    pub fn edit(
        &mut self,
        base: &RevisionRef,
        key: &str,
        text: &str,
    ) -> Result<(ChangeHash, Bytes), TextError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(TextError::TooLarge);
        }
        let base = self.resolve(base)?;
        // Counters continue from the largest in the document: only one that ends at the base gives
        // the same change everywhere.
        let change = if self.heads.iter().eq(&base) {
            encode::edit(&self.doc, &self.message, &base, key, text)?
        } else {
            let hashes: Vec<_> = base.iter().map(to_automerge).collect();
            let at_base = self.doc.fork_at(&hashes)?;
            encode::edit(&at_base, &self.message, &base, key, text)?
        };
        let bytes = Bytes::copy_from_slice(change.raw_bytes());
        let hash = self.apply(&bytes)?;
        Ok((hash, bytes))
    }

    /// The merged text: its first [`MERGED_TEXT_BYTES_MAX`] bytes, cut at a character.
    pub fn text(&self) -> String {
        let text = encode::object(&self.doc).and_then(|object| Ok(self.doc.text(object)?));
        cut(text.unwrap_or_default())
    }

    /// The heads.
    pub fn revision(&self) -> Revision {
        self.public(self.heads.iter().copied())
    }

    /// The original, then the version of every change, each after those that it was made on.
    pub fn versions(&self) -> Vec<Version> {
        self.history
            .in_order()
            .into_iter()
            .map(|hash| Version {
                revision: self.public([hash]),
                parents: self.public(self.history.deps(&hash).unwrap_or_default().to_vec()),
                text: self.text_at(&hash).unwrap_or_default(),
                change: (hash != self.genesis).then_some(hash),
            })
            .collect()
    }

    /// Whether an edit on this base could be made here.
    pub fn knows(&self, base: &RevisionRef) -> bool {
        self.resolve(base).is_ok()
    }

    /// Changes that others are waiting for, sorted.
    pub fn missing(&self) -> Vec<ChangeHash> {
        let missing: BTreeSet<ChangeHash> = self
            .waiting
            .values()
            .flat_map(Change::deps)
            .map(|hash| ChangeHash::from_bytes(hash.0))
            .filter(|hash| !self.history.contains(hash) && !self.waiting.contains_key(hash))
            .collect();
        missing.into_iter().collect()
    }

    fn is_ready(&self, change: &Change) -> bool {
        change
            .deps()
            .iter()
            .all(|hash| self.history.contains(&ChangeHash::from_bytes(hash.0)))
    }

    /// Checks a change whose deps are all here, and notes it; the document is still to be given it.
    fn note(&mut self, change: &Change) -> Result<(), TextError> {
        self.history.admit(change)?;
        for dep in change.deps() {
            self.heads.remove(&ChangeHash::from_bytes(dep.0));
        }
        self.heads.insert(hash_of(change));
        Ok(())
    }

    /// Notes what has waited and is ready now, each after its deps. A malformed one among it is
    /// dropped: its fault was not to be seen before its deps were here.
    fn take_ready(&mut self) -> Vec<Change> {
        let mut ready = Vec::new();
        let mut next: Vec<ChangeHash> = self
            .waiting
            .iter()
            .filter(|(_, change)| self.is_ready(change))
            .map(|(hash, _)| *hash)
            .collect();
        // Who waits for whom, so that each change is looked at once a dep.
        let mut waiters: BTreeMap<ChangeHash, Vec<ChangeHash>> = BTreeMap::new();
        for (hash, change) in &self.waiting {
            for dep in change.deps() {
                let dep = ChangeHash::from_bytes(dep.0);
                waiters.entry(dep).or_default().push(*hash);
            }
        }
        while let Some(hash) = next.pop() {
            let Some(change) = self.waiting.remove(&hash) else {
                continue;
            };
            if self.note(&change).is_err() {
                continue;
            }
            ready.push(change);
            let freed = waiters.remove(&hash).unwrap_or_default();
            next.extend(freed.into_iter().filter(|waiter| {
                let waiting = self.waiting.get(waiter);
                waiting.is_some_and(|change| self.is_ready(change))
            }));
        }
        ready
    }

    fn resolve(&self, base: &RevisionRef) -> Result<Vec<ChangeHash>, TextError> {
        if base.heads().is_empty() {
            return Ok(vec![self.genesis]);
        }
        let heads: Vec<ChangeHash> = base
            .heads()
            .iter()
            .map(|prefix| self.history.with_prefix(prefix))
            .collect::<Option<_>>()
            .ok_or(TextError::UnknownBase)?;
        Ok(self.history.frontier(&heads))
    }

    fn text_at(&self, hash: &ChangeHash) -> Result<String, TextError> {
        let heads = [to_automerge(hash)];
        let Some((_, object)) = self.doc.get_at(ROOT, KEY, &heads)? else {
            return Err(TextError::Malformed("no text"));
        };
        Ok(cut(self.doc.text_at(object, &heads)?))
    }

    /// As clients name it: the original has no heads.
    fn public(&self, heads: impl IntoIterator<Item = ChangeHash>) -> Revision {
        Revision::new(heads.into_iter().filter(|h| *h != self.genesis).collect())
    }
}

/// A change from outside, checked as far as it can be by itself.
fn parse(change: &[u8]) -> Result<Change, TextError> {
    scan::scan(change)?;
    let parsed = Change::try_from(change).map_err(|_| TextError::Malformed("columns"))?;
    // Parsing a change does not look at its checksum.
    if change[4..8] != parsed.hash().0[..4] {
        return Err(TextError::Malformed("checksum"));
    }
    if parsed.len() > CHANGE_OPS_MAX {
        return Err(TextError::TooLarge);
    }
    Ok(parsed)
}

fn hash_of(change: &Change) -> ChangeHash {
    ChangeHash::from_bytes(change.hash().0)
}

fn to_automerge(hash: &ChangeHash) -> automerge::ChangeHash {
    automerge::ChangeHash(*hash.as_bytes())
}

fn cut(mut text: String) -> String {
    let mut end = text.len().min(MERGED_TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
