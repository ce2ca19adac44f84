//! The one place that turns an op into keys. Local commits and batches from other regions come
//! through here alike.
//!
//! A [`Workspace`] belongs to one attempt of one transaction. Rows that can hold a pending stamp
//! (messages, members) are loaded once, merged in memory and written by [`Workspace::finish`], for a
//! store refuses to read a key whose stamp is pending. All other rows are read and written through
//! the transaction.

mod conversation;
mod edits;
mod join;
mod message;
pub mod remote;
pub mod rows;

pub use edits::{EditedLately, Edits};
pub use join::Part;
pub use message::shown;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::try_join_all;
use prost::Message as _;
use whimbrel_replication::crdt::member::Member;
use whimbrel_replication::crdt::message::Message;
use whimbrel_replication::crdt::{Encoded, conversation::Conversation};
use whimbrel_replication::cursor::ShardCursor;
use whimbrel_replication::error::DecodeError;
use whimbrel_replication::id::{ConversationId, MessageId, OpStamp, Origin, Place, ShardId, Stamp};
use whimbrel_replication::op::{Op, OpKind};

use crate::store::keys::{self, Key, Scope};
use crate::store::{Atomic, RangeOptions, StoreError, Transaction};
use rows::{ArrivalRow, FeedRow, Happening};

/// A stored row that does not parse is our own bug or a damaged disk: nothing may be built on it.
#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
pub fn corrupt(error: DecodeError) -> StoreError {
    StoreError::Fatal(format!("a stored row does not parse: {error}").into())
}

/// Why an op of another region cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The op itself is at fault: its log stops here until an operator decides.
    #[error("{0}")]
    Op(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

struct Slot<T> {
    before: Option<T>,
    now: Option<T>,
}

impl<T: Clone> Slot<T> {
    fn loaded(row: Option<T>) -> Self {
        Self {
            before: row.clone(),
            now: row,
        }
    }
}

/// The rows that one transaction works on.
pub struct Workspace {
    tx: Arc<Transaction>,
    shards: u16,
    members: BTreeMap<(Scope, String), Slot<Member>>,
    messages: BTreeMap<(Scope, MessageId), Slot<Message>>,
    /// Documents of messages that are being edited: each is built once, however many edits there are.
    documents: BTreeMap<(Scope, MessageId), Edits>,
    edited_lately: Arc<EditedLately>,
}

/// Rows to be read.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    members: BTreeSet<(Scope, String)>,
    messages: BTreeSet<(Scope, MessageId)>,
}

impl Wanted {
    fn member(key: (Scope, String)) -> Self {
        Self {
            members: [key].into(),
            ..Self::default()
        }
    }

    fn message(key: (Scope, MessageId)) -> Self {
        Self {
            messages: [key].into(),
            ..Self::default()
        }
    }

    /// A member's row.
    pub fn add_member(&mut self, scope: Scope, user: &str) {
        self.members.insert((scope, user.to_owned()));
    }

    /// A message's row.
    pub fn add_message(&mut self, scope: Scope, message: MessageId) {
        self.messages.insert((scope, message));
    }

    /// What applying an op reads.
    pub fn add_op(&mut self, scope: Scope, op: &Op) {
        match &op.kind {
            OpKind::MemberSet { user, .. } => self.add_member(scope, user),
            OpKind::Posted { message, .. }
            | OpKind::Edited { message, .. }
            | OpKind::Redacted { message }
            | OpKind::Reacted { message, .. } => self.add_message(scope, *message),
            OpKind::ConversationCreated { .. }
            | OpKind::ConversationChanged { .. }
            | OpKind::Read { .. } => {}
        }
    }
}

impl Workspace {
    /// Of a transaction in a cluster with this many shards.
    pub fn new(tx: Arc<Transaction>, shards: u16, edited_lately: Arc<EditedLately>) -> Self {
        Self {
            tx,
            shards,
            members: BTreeMap::new(),
            messages: BTreeMap::new(),
            documents: BTreeMap::new(),
            edited_lately,
        }
    }

    /// The transaction.
    pub fn tx(&self) -> &Transaction {
        &self.tx
    }

    /// Keys of a conversation.
    pub fn scope(&self, conversation: ConversationId) -> Scope {
        Scope::new(conversation, self.shards)
    }

    /// The conversation's row.
    pub async fn conversation(&self, scope: &Scope) -> Result<Option<Conversation>, StoreError> {
        let row = self.tx.get(&scope.conversation(), false).await?;
        row.map(|bytes| Conversation::decode(&bytes))
            .transpose()
            .map_err(corrupt)
    }

    /// A member's row.
    pub async fn member(
        &mut self,
        scope: &Scope,
        user: &str,
    ) -> Result<Option<&Member>, StoreError> {
        Ok(self.member_slot(scope, user).await?.now.as_ref())
    }

    /// The members' rows that this transaction has loaded or changed.
    pub fn members_at_work<'a>(
        &'a self,
        scope: &'a Scope,
    ) -> impl Iterator<Item = (&'a str, Option<&'a Member>)> + 'a {
        let rows = self.members.iter().filter(move |((at, _), _)| at == scope);
        rows.map(|((_, user), slot)| (user.as_str(), slot.now.as_ref()))
    }

    async fn member_slot(
        &mut self,
        scope: &Scope,
        user: &str,
    ) -> Result<&mut Slot<Member>, StoreError> {
        let key = (*scope, user.to_owned());
        if !self.members.contains_key(&key) {
            self.load(Wanted::member(key.clone())).await?;
        }
        Ok(self.members.get_mut(&key).expect("loaded above"))
    }

    /// A message's row.
    pub async fn message(
        &mut self,
        scope: &Scope,
        message: &MessageId,
    ) -> Result<Option<&Message>, StoreError> {
        Ok(self.message_slot(scope, message).await?.now.as_ref())
    }

    async fn message_slot(
        &mut self,
        scope: &Scope,
        message: &MessageId,
    ) -> Result<&mut Slot<Message>, StoreError> {
        let key = (*scope, *message);
        if !self.messages.contains_key(&key) {
            self.load(Wanted::message(key)).await?;
        }
        Ok(self.messages.get_mut(&key).expect("loaded above"))
    }

    /// Reads rows that will be needed, all at once: one by one each would cost a round trip.
    pub async fn load(&mut self, wanted: Wanted) -> Result<(), StoreError> {
        let tx = &self.tx;
        let members = wanted.members.into_iter().map(async |key| {
            let row = tx.get(&key.0.member(&key.1), false).await?;
            let row = row.map(|bytes| Member::decode(&bytes)).transpose();
            Ok::<_, StoreError>((key, Slot::loaded(row.map_err(corrupt)?)))
        });
        let messages = wanted.messages.into_iter().map(async |key| {
            let row = tx.get(&key.0.message(&key.1), false).await?;
            let row = row.map(|bytes| Message::decode(&bytes)).transpose();
            Ok::<_, StoreError>((key, Slot::loaded(row.map_err(corrupt)?)))
        });
        let (members, messages) = tokio::try_join!(try_join_all(members), try_join_all(messages))?;
        // What this transaction has changed already stays.
        for (key, slot) in members {
            self.members.entry(key).or_insert(slot);
        }
        for (key, slot) in messages {
            self.messages.entry(key).or_insert(slot);
        }
        Ok(())
    }

    /// Takes one op at its place. `deps` are those of its batch; `arrival` is given for what another
    /// region committed.
    pub async fn apply(
        &mut self,
        place: Place,
        op: &Op,
        deps: &ShardCursor,
        arrival: Option<OpStamp>,
    ) -> Result<(), ApplyError> {
        let scope = self.scope(op.conversation);
        let happening = match &op.kind {
            OpKind::ConversationCreated { kind, title, topic } => {
                self.created(&scope, op, *kind, title.clone(), topic.clone())
                    .await?
            }
            OpKind::ConversationChanged { title, topic } => {
                self.changed(&scope, op, title.clone(), topic.clone())
                    .await?
            }
            OpKind::MemberSet { user, standing } => {
                self.set_member(&scope, place, op, user, *standing, deps)
                    .await?
            }
            OpKind::Posted {
                message,
                text,
                reply_to,
                sent_at_unix_ms,
            } => {
                let post = whimbrel_replication::crdt::message::Post {
                    sender: op.actor.clone(),
                    text: text.clone(),
                    reply_to: *reply_to,
                    sent_at_unix_ms: *sent_at_unix_ms,
                };
                self.posted(&scope, place, op, message, post).await?
            }
            OpKind::Edited { message, change } => self.edited(&scope, op, message, change).await?,
            OpKind::Redacted { message } => self.redacted(&scope, message).await?,
            OpKind::Reacted {
                message,
                emoji,
                present,
            } => self.reacted(&scope, op, message, emoji, *present).await?,
            OpKind::Read { user, marker } => self.read(&scope, user, marker),
        };
        let key = scope.feed(place.origin, place.at);
        self.write(&key, &FeedRow::encode_happening(&happening, arrival));
        Ok(())
    }

    /// Markers only grow: the store keeps the larger bytes.
    fn read(&self, scope: &Scope, user: &str, marker: &ShardCursor) -> Happening {
        for (origin, at) in marker.iter() {
            self.tx
                .atomic(Atomic::ByteMax, &scope.marker(user, origin), &at.to_bytes());
        }
        Happening::Receipt {
            user: user.to_owned(),
        }
    }

    /// Writes the log row and the arrival of a batch.
    pub fn log(&self, shard: ShardId, place: (Origin, Stamp), bytes: &[u8], arrival: OpStamp) {
        let (origin, stamp) = place;
        let plain = |bytes: Vec<u8>| Encoded {
            bytes,
            pending: false,
        };
        self.write(&keys::log(shard, origin, stamp), &plain(bytes.to_vec()));
        let row = ArrivalRow {
            origin: origin.to_bytes().to_vec(),
            stamp: (stamp != Stamp::PENDING).then(|| stamp.as_bytes().to_vec()),
            skipped: false,
        };
        self.write(&keys::arrival(shard, arrival), &plain(row.encode_to_vec()));
    }

    /// Takes it that of what was loaded nothing stands in the store: all that is derived from it is
    /// written, whatever the merge finds. A place in the timeline that it had is not cleared.
    pub fn write_anew(&mut self) {
        self.members
            .values_mut()
            .for_each(|slot| slot.before = None);
        self.messages
            .values_mut()
            .for_each(|slot| slot.before = None);
    }

    /// Writes the rows that were merged in memory, and keeps the documents for a later transaction.
    pub fn finish(&mut self) {
        for ((scope, user), slot) in std::mem::take(&mut self.members) {
            if let Some(member) = slot.now
                && slot.before.as_ref() != Some(&member)
            {
                let row = member.encode();
                self.write_at(&scope.member(&user), &row);
                self.write_at(&keys::membership(&user, &scope.conversation), &row);
            }
        }
        for ((scope, id), slot) in std::mem::take(&mut self.messages) {
            if let Some(message) = slot.now
                && slot.before.as_ref() != Some(&message)
            {
                self.write_message(&scope, &id, slot.before.as_ref(), &message);
            }
        }
        for ((scope, id), edits) in std::mem::take(&mut self.documents) {
            self.edited_lately.put(scope, id, edits);
        }
    }

    fn write_at(&self, key: &[u8], row: &Encoded) {
        match row.stamp_offset() {
            Some(offset) => self
                .tx
                .set_versionstamped_value(key, row.bytes.clone(), offset),
            None => self.tx.set(key, &row.bytes),
        }
    }

    /// At most one of key and row may have a pending stamp.
    fn write(&self, key: &Key, row: &Encoded) {
        match key.stamp_offset {
            Some(offset) => self
                .tx
                .set_versionstamped_key(key.bytes.clone(), offset, &row.bytes),
            None => self.write_at(&key.bytes, row),
        }
    }
}

/// How far this region holds each origin of a shard, as a transaction sees it. Snapshot reads: a
/// versionstamped append conflicts with every serializable reader of its tail.
pub async fn held(
    tx: &Transaction,
    shard: ShardId,
    own: Origin,
) -> Result<ShardCursor, StoreError> {
    let mut held = others_held(tx, shard).await?;
    if let Some(stamp) = own_tail(tx, shard, own).await? {
        held.advance(own, OpStamp::whole(stamp));
    }
    Ok(held)
}

/// [`held`], without the own origin.
pub async fn others_held(tx: &Transaction, shard: ShardId) -> Result<ShardCursor, StoreError> {
    let (begin, end) = keys::applied_all(shard);
    let options = RangeOptions {
        snapshot: true,
        ..RangeOptions::default()
    };
    let mut held = ShardCursor::new();
    for (key, value) in tx.range_all(&begin, &end, options).await? {
        let origin = keys::applied_origin(&key).map_err(corrupt)?;
        held.advance(
            origin,
            OpStamp::whole(Stamp::try_from(&value[..]).map_err(corrupt)?),
        );
    }
    Ok(held)
}

/// The stamp of the own origin's last batch, also where it was trimmed.
pub async fn own_tail(
    tx: &Transaction,
    shard: ShardId,
    own: Origin,
) -> Result<Option<Stamp>, StoreError> {
    let (begin, end) = keys::log_all(shard, own);
    let options = RangeOptions {
        limit: 1,
        reverse: true,
        snapshot: true,
        ..RangeOptions::default()
    };
    let page = tx.range(&begin, &end, options).await?;
    let last = page
        .rows
        .first()
        .map(|(key, _)| keys::stamp_of(key))
        .transpose();
    if let Some(last) = last.map_err(corrupt)? {
        return Ok(Some(last.stamp));
    }
    trim_floor(tx, shard, own).await
}

/// Up to where a log was trimmed; a snapshot read.
pub async fn trim_floor(
    tx: &Transaction,
    shard: ShardId,
    origin: Origin,
) -> Result<Option<Stamp>, StoreError> {
    let row = tx.get(&keys::trimmed(shard, origin), true).await?;
    let last = row.map(|bytes| OpStamp::try_from(&bytes[..])).transpose();
    Ok(last.map_err(corrupt)?.map(|last| last.stamp))
}

/// The last row of a conversation's timeline, and its position.
pub async fn last_row(
    tx: &Transaction,
    scope: &Scope,
) -> Result<Option<(whimbrel_replication::id::Position, crate::store::Value)>, StoreError> {
    let (begin, end) = scope.timeline_between(None, None);
    let options = RangeOptions {
        limit: 1,
        reverse: true,
        snapshot: true,
        ..RangeOptions::default()
    };
    let page = tx.range(&begin, &end, options).await?;
    let Some((key, value)) = page.rows.into_iter().next() else {
        return Ok(None);
    };
    Ok(Some((
        scope.timeline_position(&key).map_err(corrupt)?,
        value,
    )))
}
