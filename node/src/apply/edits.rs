//! The edits of a message, and those that are kept in memory between transactions.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message as _;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use whimbrel_replication::crdt::text::Document;
use whimbrel_replication::id::{ChangeHash, MessageId};

use super::corrupt;
use super::rows::ChangeRow;
use crate::store::keys::Scope;
use crate::store::{RangeOptions, StoreError, Transaction};

/// The document of a message, and the rows of all its edits.
#[derive(Debug)]
pub struct Edits {
    /// With all of `rows` applied.
    pub document: Box<Document>,
    /// By change.
    pub rows: BTreeMap<ChangeHash, ChangeRow>,
    original: String,
}

impl Edits {
    /// Reads the rows that are stored here; `original` is the text as posted.
    ///
    /// `lately` is what an earlier transaction made of the same message. It is taken further if
    /// the store holds all that it holds, and dropped if not: its transaction may have failed, or
    /// the message was redacted since.
    pub async fn read(
        tx: &Transaction,
        scope: &Scope,
        id: &MessageId,
        original: &str,
        lately: Option<Self>,
    ) -> Result<Self, StoreError> {
        let (begin, end) = scope.changes(id);
        let mut rows = BTreeMap::new();
        for (key, value) in tx.range_all(&begin, &end, RangeOptions::default()).await? {
            let row = ChangeRow::decode(&value[..]).map_err(|error| corrupt(error.into()))?;
            let (_, hash) = scope.change_parts(&key).map_err(corrupt)?;
            rows.insert(hash, row);
        }
        let does_not_apply =
            |error| StoreError::Fatal(format!("a stored edit does not apply: {error}").into());
        let document = match lately {
            Some(lately)
                if lately.original == original
                    && lately.rows.keys().all(|hash| rows.contains_key(hash)) =>
            {
                let mut document = lately.document;
                for (hash, row) in &rows {
                    if !lately.rows.contains_key(hash) {
                        document.apply(&row.change).map_err(does_not_apply)?;
                    }
                }
                document
            }
            _ => {
                let changes = rows.values().map(|row| &row.change[..]);
                Box::new(Document::load(id, original, changes).map_err(does_not_apply)?)
            }
        };
        Ok(Self {
            document,
            rows,
            original: original.to_owned(),
        })
    }

    /// Bytes of all changes.
    pub fn bytes(&self) -> usize {
        self.rows.values().map(|row| row.change.len()).sum()
    }
}

/// Documents of messages that were edited lately: to build one takes longer than an edit.
#[derive(Debug)]
pub struct EditedLately(Cache<(Scope, MessageId), Arc<Edits>, Memory>);

/// What they may take, as estimated by [`Memory`].
const BYTES_MAX: u64 = 32 * 1024 * 1024;
const DOCUMENTS_EXPECTED: usize = 512;

#[derive(Clone)]
struct Memory;

impl Weighter<(Scope, MessageId), Arc<Edits>> for Memory {
    fn weight(&self, _: &(Scope, MessageId), edits: &Arc<Edits>) -> u64 {
        // As measured: an empty document, and what each byte of text and changes adds.
        (32 * 1024 + 6 * (edits.original.len() + edits.bytes())) as u64
    }
}

impl Default for EditedLately {
    fn default() -> Self {
        Self(Cache::with_weighter(DOCUMENTS_EXPECTED, BYTES_MAX, Memory))
    }
}

impl EditedLately {
    /// Gives a document to a transaction, which alone has it from now on.
    pub fn take(&self, scope: &Scope, id: &MessageId) -> Option<Edits> {
        let (_, edits) = self.0.remove(&(*scope, *id))?;
        Arc::into_inner(edits)
    }

    /// Takes it back, whether the transaction commits or not.
    pub fn put(&self, scope: Scope, id: MessageId, edits: Edits) {
        self.0.insert((scope, id), Arc::new(edits));
    }
}
