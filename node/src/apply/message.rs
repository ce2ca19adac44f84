//! Messages: posts, edits, redactions, reactions.

use prost::Message as _;
use whimbrel_replication::crdt::message::{Edited, Message, Post, Posting};
use whimbrel_replication::crdt::reaction::Reaction;
use whimbrel_replication::crdt::text::Document;
use whimbrel_replication::id::{ChangeHash, MessageId, Place};
use whimbrel_replication::limits::{HEAD_BYTES, MERGED_ROW_BYTES_MAX};
use whimbrel_replication::op::Op;

use super::edits::Edits;
use super::rows::{ChangeRow, Happening, PostRow};
use super::{ApplyError, Workspace, corrupt};
use crate::mentions::mentions;
use crate::store::StoreError;
use crate::store::keys::Scope;

/// What the row keeps of a document: a function of the set of changes alone.
fn edited_text(document: &Document, edits: usize) -> Edited {
    let heads = document.revision().heads().to_vec();
    let room = MERGED_ROW_BYTES_MAX.saturating_sub(heads.len() * HEAD_BYTES);
    let mut text = document.text();
    text.truncate(text.floor_char_boundary(room));
    Edited {
        text,
        heads,
        edits: u32::try_from(edits).unwrap_or(u32::MAX),
    }
}

impl Workspace {
    pub(super) async fn posted(
        &mut self,
        scope: &Scope,
        place: Place,
        op: &Op,
        id: &MessageId,
        post: Post,
    ) -> Result<Happening, StoreError> {
        let slot = self.message_slot(scope, id).await?;
        let had_row = slot.now.is_some();
        let message = slot.now.get_or_insert_default();
        let posting = message.post(place, op.position, post);
        // Edits that came before their post (repairs may replay in any order) take effect now.
        if posting == Posting::New && had_row {
            self.merge_edits(scope, id).await?;
        }
        Ok(Happening::Posted(*id))
    }

    pub(super) async fn edited(
        &mut self,
        scope: &Scope,
        op: &Op,
        id: &MessageId,
        change: &[u8],
    ) -> Result<Happening, ApplyError> {
        let row = ChangeRow {
            change: change.to_vec(),
            author: op.actor.clone(),
            position: op.position.as_bytes().to_vec(),
        };
        self.take_change(scope, id, row).await?;
        Ok(Happening::Edited(*id))
    }

    /// Takes an edit; its hash, unless the message is redacted.
    pub(super) async fn take_change(
        &mut self,
        scope: &Scope,
        id: &MessageId,
        row: ChangeRow,
    ) -> Result<Option<ChangeHash>, ApplyError> {
        let message = self.message(scope, id).await?;
        // A redaction beats every edit, also one that arrives after it: the text must not come back.
        if message.is_some_and(|message| message.redacted) {
            return Ok(None);
        }
        let is_posted = message.is_some_and(|message| message.post.is_some());
        let tx = self.tx.clone();
        let edits = self.edits(scope, id).await?;
        let hash = edits
            .document
            .apply(&row.change)
            .map_err(|error| ApplyError::Op(format!("edit of message {id}: {error}")))?;
        let key = scope.change(id, &hash);
        let known = edits.rows.get(&hash);
        // The same edit may have been made in several regions: the earliest tells its time.
        if known.is_none_or(|known| row.position < known.position) {
            tx.set(&key, &row.encode_to_vec());
            edits.rows.insert(hash, row);
        }
        let text = edited_text(&edits.document, edits.rows.len());
        if is_posted {
            let slot = self.message_slot(scope, id).await?;
            slot.now.get_or_insert_default().edit(text);
        }
        Ok(Some(hash))
    }

    /// The edits of a message, read once for this transaction.
    pub async fn edits(&mut self, scope: &Scope, id: &MessageId) -> Result<&mut Edits, StoreError> {
        let key = (*scope, *id);
        if !self.documents.contains_key(&key) {
            let row = self.message(scope, id).await?;
            let original = row
                .and_then(|row| row.post.as_ref())
                .map(|post| post.text.clone());
            let original = original.unwrap_or_default();
            let lately = self.edited_lately.take(scope, id);
            let edits = Edits::read(&self.tx, scope, id, &original, lately).await?;
            self.documents.insert(key, edits);
        }
        Ok(self.documents.get_mut(&key).expect("read above"))
    }

    /// Reads them anew when they are asked for again.
    pub fn forget_edits(&mut self, scope: &Scope, id: &MessageId) {
        self.documents.remove(&(*scope, *id));
    }

    /// Derives the text from all stored edits.
    pub(super) async fn merge_edits(
        &mut self,
        scope: &Scope,
        id: &MessageId,
    ) -> Result<(), StoreError> {
        // Read before the post was known, they hang on another original.
        self.forget_edits(scope, id);
        let edits = self.edits(scope, id).await?;
        if edits.rows.is_empty() {
            return Ok(());
        }
        let edited = edited_text(&edits.document, edits.rows.len());
        let slot = self.message_slot(scope, id).await?;
        slot.now.get_or_insert_default().edit(edited);
        Ok(())
    }

    pub(super) async fn redacted(
        &mut self,
        scope: &Scope,
        id: &MessageId,
    ) -> Result<Happening, StoreError> {
        self.message_slot(scope, id)
            .await?
            .now
            .get_or_insert_default()
            .redact();
        self.clear_edits(scope, id);
        Ok(Happening::Redacted(*id))
    }

    pub(super) fn clear_edits(&mut self, scope: &Scope, id: &MessageId) {
        self.forget_edits(scope, id);
        let (begin, end) = scope.changes(id);
        self.tx.clear_range(&begin, &end);
    }

    pub(super) async fn reacted(
        &mut self,
        scope: &Scope,
        op: &Op,
        id: &MessageId,
        emoji: &str,
        present: bool,
    ) -> Result<Happening, StoreError> {
        let reaction = Reaction {
            present,
            position: op.position,
        };
        self.take_reaction(scope, id, (emoji, &op.actor), reaction)
            .await?;
        Ok(Happening::Reacted(*id))
    }

    /// Takes a user's reaction, and counts it.
    pub(super) async fn take_reaction(
        &mut self,
        scope: &Scope,
        id: &MessageId,
        (emoji, user): (&str, &str),
        reaction: Reaction,
    ) -> Result<(), StoreError> {
        let key = scope.reaction(id, emoji, user);
        let stored = self.tx.get(&key, false).await?;
        let mut row = stored
            .map(|bytes| Reaction::decode(&bytes))
            .transpose()
            .map_err(corrupt)?;
        let before = row.as_ref().is_some_and(|r| r.present);
        Reaction::merge(&mut row, reaction);
        if let Some(row) = row {
            self.tx.set(&key, &row.encode());
            if row.present != before {
                let slot = self.message_slot(scope, id).await?;
                slot.now
                    .get_or_insert_default()
                    .count_reaction(emoji, row.present);
            }
        }
        Ok(())
    }

    /// A message stands in three places: by id, in the timeline, and by each of its places.
    pub(super) fn write_message(
        &self,
        scope: &Scope,
        id: &MessageId,
        before: Option<&Message>,
        now: &Message,
    ) {
        self.write_at(&scope.message(id), &now.encode());
        let (was_at, is_at) = (before.and_then(Message::position), now.position());
        if let Some(was_at) = was_at.filter(|was_at| Some(*was_at) != is_at) {
            self.tx.clear(&scope.timeline(&was_at));
        }
        let (Some(is_at), Some(post)) = (is_at, &now.post) else {
            return;
        };
        let mut shown = vec![];
        shown.extend_from_slice(id.as_bytes());
        shown.extend_from_slice(&now.encode_without_places());
        self.tx.set(&scope.timeline(&is_at), &shown);

        let by_place_is_stale = before.is_none_or(|before| {
            before.places != now.places
                || before.redacted != now.redacted
                || before.text() != now.text()
        });
        if by_place_is_stale {
            let mentions = mentions(now.text().unwrap_or_default());
            for (place, position) in &now.places {
                let row = PostRow {
                    message: id.as_bytes().to_vec(),
                    sender: post.sender.clone(),
                    position: position.as_bytes().to_vec(),
                    redacted: now.redacted,
                    elsewhere: now.places.len() > 1,
                    mentions: mentions.clone(),
                };
                let key = scope.post(place.origin, place.at);
                let row = whimbrel_replication::crdt::Encoded {
                    bytes: row.encode_to_vec(),
                    pending: false,
                };
                self.write(&key, &row);
            }
        }
    }
}

/// Reads a row of the timeline: which message, as it is shown.
pub fn shown(bytes: &[u8]) -> Result<(MessageId, Message), StoreError> {
    let (id, row) = bytes
        .split_first_chunk::<{ MessageId::LEN }>()
        .ok_or_else(|| StoreError::Fatal("a timeline row is too short".into()))?;
    Ok((
        MessageId::from_bytes(*id),
        Message::decode(row).map_err(corrupt)?,
    ))
}
