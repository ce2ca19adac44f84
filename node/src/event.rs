//! What sessions are told: an event as every session sees it, before it is made personal.

use std::time::Instant;

use whimbrel_replication::crdt::member::Member;
use whimbrel_replication::crdt::message::Message;
use whimbrel_replication::cursor::ShardCursor;
use whimbrel_replication::id::{MessageId, OpStamp, Place, Position};
use whimbrel_replication::op::Standing;

use crate::apply::corrupt;
use crate::apply::rows::{Happening, PostRow};
use crate::store::keys::Scope;
use crate::store::{RangeOptions, RunOptions, Store, StoreError, Transaction};

/// An event at its place.
#[derive(Clone, Debug)]
pub struct Event {
    /// The conversation.
    pub scope: Scope,
    /// Where its op stands; `None` for what is not stored.
    pub place: Option<Place>,
    /// When reading the state began: it shows all that was committed by then.
    pub read_at: Instant,
    /// What happened, with the state after it.
    pub kind: EventKind,
}

/// What happened, with the state after it. Later changes may show already.
#[derive(Clone, Debug)]
pub enum EventKind {
    /// Title, topic, or the conversation itself.
    Conversation,
    /// A member, and their standing.
    Member {
        /// Who.
        user: String,
        /// How they stand.
        standing: Option<Standing>,
    },
    /// A message.
    Message {
        /// What happened to it.
        change: MessageChange,
        /// Which.
        id: MessageId,
        /// Its row.
        row: Message,
    },
    /// A read marker has grown. How far a session is told depends on what it was told before.
    Receipt {
        /// Whose.
        user: String,
    },
    /// Somebody types. Not stored.
    Typing {
        /// Who.
        user: String,
    },
}

/// What happened to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageChange {
    /// Posted, perhaps once more at another place.
    Posted,
    /// Edited.
    Edited,
    /// Redacted.
    Redacted,
    /// A reaction was set or taken back.
    Reacted,
}

impl Event {
    /// What [`read`] made it of; `None` for what it does not read.
    pub fn happening(&self) -> Option<Happening> {
        match &self.kind {
            EventKind::Conversation => Some(Happening::Conversation),
            EventKind::Member { user, .. } => Some(Happening::Member {
                user: user.clone(),
                crossed: None,
            }),
            EventKind::Message { change, id, .. } => Some(match change {
                MessageChange::Posted => Happening::Posted(*id),
                MessageChange::Edited => Happening::Edited(*id),
                MessageChange::Redacted => Happening::Redacted(*id),
                MessageChange::Reacted => Happening::Reacted(*id),
            }),
            EventKind::Receipt { user } => Some(Happening::Receipt { user: user.clone() }),
            EventKind::Typing { .. } => None,
        }
    }

    /// Whose standing it tells, if it does.
    pub fn member(&self) -> Option<(&str, Option<Standing>)> {
        match &self.kind {
            EventKind::Member { user, standing } => Some((user, *standing)),
            _ => None,
        }
    }
}

/// Reads what an event shows.
///
/// # Errors
///
/// Those of the store.
pub async fn read(
    store: &Store,
    scope: Scope,
    place: Place,
    happening: Happening,
) -> Result<Event, StoreError> {
    // Of the first attempt: a later one sees more.
    let read_at = Instant::now();
    let kind = store.read(RunOptions::default(), move |tx| {
        let happening = happening.clone();
        async move { render(&tx, &scope, happening).await }
    });
    Ok(Event {
        scope,
        place: Some(place),
        read_at,
        kind: kind.await?,
    })
}

async fn render(
    tx: &Transaction,
    scope: &Scope,
    happening: Happening,
) -> Result<EventKind, StoreError> {
    Ok(match happening {
        Happening::Conversation => EventKind::Conversation,
        Happening::Member { user, .. } => {
            let row = tx.get(&scope.member(&user), true).await?;
            let row = row
                .map(|bytes| Member::decode(&bytes))
                .transpose()
                .map_err(corrupt)?;
            EventKind::Member {
                standing: row.and_then(|row| row.standing()),
                user,
            }
        }
        Happening::Posted(id) => message(tx, scope, MessageChange::Posted, id).await?,
        Happening::Edited(id) => message(tx, scope, MessageChange::Edited, id).await?,
        Happening::Redacted(id) => message(tx, scope, MessageChange::Redacted, id).await?,
        Happening::Reacted(id) => message(tx, scope, MessageChange::Reacted, id).await?,
        Happening::Receipt { user } => EventKind::Receipt { user },
    })
}

async fn message(
    tx: &Transaction,
    scope: &Scope,
    change: MessageChange,
    id: MessageId,
) -> Result<EventKind, StoreError> {
    let row = tx.get(&scope.message(&id), true).await?;
    let row = row
        .map(|bytes| Message::decode(&bytes))
        .transpose()
        .map_err(corrupt)?;
    Ok(EventKind::Message {
        change,
        id,
        row: row.unwrap_or_default(),
    })
}

/// A user's read marker.
pub async fn marker(
    tx: &Transaction,
    scope: &Scope,
    user: &str,
) -> Result<ShardCursor, StoreError> {
    let (begin, end) = scope.marker_of(user);
    let options = RangeOptions {
        snapshot: true,
        ..RangeOptions::default()
    };
    let mut marker = ShardCursor::new();
    for (key, value) in tx.range_all(&begin, &end, options).await? {
        let (_, origin) = scope.marker_parts(&key).map_err(corrupt)?;
        marker.advance(origin, OpStamp::try_from(&value[..]).map_err(corrupt)?);
    }
    Ok(marker)
}

/// The latest message, by position, that a marker covers.
pub async fn last_covered(
    tx: &Transaction,
    scope: &Scope,
    marker: &ShardCursor,
) -> Result<Option<(Position, MessageId)>, StoreError> {
    let mut last = None;
    for (origin, at) in marker.iter() {
        let (begin, end) = scope.posts_up_to(origin, at);
        let options = RangeOptions {
            limit: 1,
            reverse: true,
            snapshot: true,
            ..RangeOptions::default()
        };
        for (_, value) in tx.range(&begin, &end, options).await?.rows {
            let row = decode_post(&value)?;
            let found = (
                row.position().map_err(corrupt)?,
                row.message().map_err(corrupt)?,
            );
            last = last.max(Some(found));
        }
    }
    Ok(last)
}

fn decode_post(value: &[u8]) -> Result<PostRow, StoreError> {
    prost::Message::decode(value).map_err(|error: prost::DecodeError| corrupt(error.into()))
}

/// Counts of what a user has not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// Messages.
    pub messages: u64,
    /// Those among them that mention the user.
    pub mentions: u64,
}

/// Counting stops here.
const UNREAD_MAX: u64 = 1_000;
const UNREAD_PAGE_ROWS: usize = 256;
/// Rows that are looked at, own and redacted ones too; what lies behind them counts as read.
const UNREAD_ROWS_MAX: usize = 20_000;

/// Counts posts that the marker does not cover: not the user's own, not redacted ones, each once;
/// a message is read if the marker covers *any* of its places. With `above` only messages that
/// stand before that position count.
pub async fn unread(
    tx: &Transaction,
    scope: &Scope,
    held: &ShardCursor,
    user: &str,
    above: Option<&Position>,
) -> Result<Unread, StoreError> {
    let marker = marker(tx, scope, user).await?;
    let mut unread = Unread::default();
    let mut rows = 0;
    // A message with one place can be counted once only; the others are remembered.
    let mut counted = std::collections::BTreeSet::new();
    for (origin, _) in held.iter() {
        let (mut begin, end) = scope.posts_after(origin, marker.get(&origin));
        loop {
            let options = RangeOptions {
                limit: UNREAD_PAGE_ROWS,
                snapshot: true,
                ..RangeOptions::default()
            };
            let page = tx.range(&begin, &end, options).await?;
            for (_, value) in &page.rows {
                let row = decode_post(value)?;
                if row.redacted || row.sender == user {
                    continue;
                }
                let mut position = row.position().map_err(corrupt)?;
                if row.elsewhere {
                    let id = row.message().map_err(corrupt)?;
                    let bytes = tx.get(&scope.message(&id), true).await?;
                    let message = bytes
                        .map(|b| Message::decode(&b))
                        .transpose()
                        .map_err(corrupt)?;
                    let message = message.unwrap_or_default();
                    let is_read = message.places.keys().any(|place| marker.covers(place));
                    if is_read || !counted.insert(id) {
                        continue;
                    }
                    position = message.position().unwrap_or(position);
                }
                if above.is_some_and(|above| position >= *above) {
                    continue;
                }
                unread.messages += 1;
                unread.mentions += u64::from(row.mentions.iter().any(|m| m == user));
                if unread.messages == UNREAD_MAX {
                    return Ok(unread);
                }
            }
            rows += page.rows.len();
            match page.rows.last() {
                Some((key, _)) if page.more && rows < UNREAD_ROWS_MAX => {
                    begin = crate::store::key_after(key);
                }
                _ => break,
            }
        }
    }
    Ok(unread)
}
