//! What an audit asks peers, and what they answer. Field numbers are never reused.

use bytes::Bytes;
use prost::Message as _;
use whimbrel_replication::cursor::{Cursor, ShardCursor};
use whimbrel_replication::error::DecodeError;
use whimbrel_replication::id::{ConversationId, ShardId};

use super::standpoint::Standpoint;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// The digests of a shard's conversations after one.
    Digests {
        /// The shard.
        shard: ShardId,
        /// Exclusive; `None`: from the first.
        after: Option<ConversationId>,
    },
    /// The state of a conversation, after a key.
    State {
        /// The conversation.
        conversation: ConversationId,
        /// Exclusive; `None`: from the first.
        after: Option<Bytes>,
    },
}

/// A conversation as a region shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Which.
    pub conversation: ConversationId,
    /// What the digest was taken of.
    pub standpoint: Standpoint,
    /// `None` where the region knows nothing of the conversation.
    pub digest: Option<[u8; 32]>,
}

/// Some conversations of a shard, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DigestPage {
    /// Those that did not change while they were digested.
    pub shown: Vec<Shown>,
    /// More come after this one.
    pub next: Option<ConversationId>,
}

/// Some rows of a conversation, in order of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatePage {
    /// The state holds no more than this.
    pub reaches: ShardCursor,
    /// Keys without what stands before all keys of the shard, and values.
    pub rows: Vec<(Bytes, Bytes)>,
    /// More come after this key.
    pub next: Option<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct QuestionWire {
    #[prost(oneof = "Kind", tags = "1, 2")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(message, tag = "1")]
    Digests(DigestsWire),
    #[prost(message, tag = "2")]
    State(StateWire),
}

#[derive(Clone, PartialEq, prost::Message)]
struct DigestsWire {
    #[prost(uint32, tag = "1")]
    shard: u32,
    #[prost(bytes = "vec", optional, tag = "2")]
    after: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StateWire {
    #[prost(bytes = "vec", tag = "1")]
    conversation: Vec<u8>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    after: Option<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ShownWire {
    #[prost(bytes = "vec", tag = "1")]
    conversation: Vec<u8>,
    #[prost(string, tag = "2")]
    held: String,
    #[prost(string, tag = "3")]
    floors: String,
    #[prost(string, tag = "4")]
    last: String,
    #[prost(bytes = "vec", optional, tag = "5")]
    digest: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DigestPageWire {
    #[prost(message, repeated, tag = "1")]
    shown: Vec<ShownWire>,
    #[prost(bytes = "vec", optional, tag = "2")]
    next: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RowWire {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatePageWire {
    #[prost(string, tag = "1")]
    reaches: String,
    #[prost(message, repeated, tag = "2")]
    rows: Vec<RowWire>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    next: Option<Bytes>,
}

fn id(bytes: &[u8]) -> Result<ConversationId, DecodeError> {
    ConversationId::try_from(bytes)
}

/// Cursors of one shard travel in their text form, whose length and origins are bounded.
fn cursor_text(shard: ShardId, cursor: &ShardCursor) -> String {
    Cursor::of(shard, cursor.clone()).to_string()
}

fn cursor(shard: ShardId, text: &str) -> Result<ShardCursor, DecodeError> {
    let cursor: Cursor = text.parse()?;
    Ok(cursor.shard(shard).cloned().unwrap_or_default())
}

impl Question {
    /// As it travels.
    pub fn encode(&self) -> Bytes {
        let kind = match self.clone() {
            Self::Digests { shard, after } => Kind::Digests(DigestsWire {
                shard: shard.0.into(),
                after: after.map(|id| id.as_bytes().to_vec()),
            }),
            Self::State {
                conversation,
                after,
            } => Kind::State(StateWire {
                conversation: conversation.as_bytes().to_vec(),
                after,
            }),
        };
        QuestionWire { kind: Some(kind) }.encode_to_vec().into()
    }

    /// Reads one of a peer; `None` for a kind that a newer version asks.
    ///
    /// # Errors
    ///
    /// What comes from a peer may be anything.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, DecodeError> {
        Ok(match QuestionWire::decode(bytes)?.kind {
            None => None,
            Some(Kind::Digests(wire)) => Some(Self::Digests {
                shard: ShardId(u16::try_from(wire.shard).map_err(|_| DecodeError::Range("shard"))?),
                after: wire.after.as_deref().map(id).transpose()?,
            }),
            Some(Kind::State(wire)) => Some(Self::State {
                conversation: id(&wire.conversation)?,
                after: wire.after,
            }),
        })
    }
}

impl DigestPage {
    /// As it travels.
    pub fn encode(&self, shard: ShardId) -> Bytes {
        let shown = self.shown.iter().map(|shown| ShownWire {
            conversation: shown.conversation.as_bytes().to_vec(),
            held: cursor_text(shard, &shown.standpoint.held),
            floors: cursor_text(shard, &shown.standpoint.floors),
            last: cursor_text(shard, &shown.standpoint.last),
            digest: shown.digest.map(|digest| digest.to_vec()),
        });
        let wire = DigestPageWire {
            shown: shown.collect(),
            next: self.next.map(|id| id.as_bytes().to_vec()),
        };
        wire.encode_to_vec().into()
    }

    /// Reads one of a peer.
    ///
    /// # Errors
    ///
    /// What comes from a peer may be anything.
    pub fn decode(shard: ShardId, bytes: &[u8]) -> Result<Self, DecodeError> {
        let wire = DigestPageWire::decode(bytes)?;
        let shown = wire.shown.into_iter().map(|wire| {
            let digest = wire.digest.map(|digest| {
                <[u8; 32]>::try_from(digest).map_err(|_| DecodeError::Range("digest"))
            });
            Ok(Shown {
                conversation: id(&wire.conversation)?,
                standpoint: Standpoint {
                    held: cursor(shard, &wire.held)?,
                    floors: cursor(shard, &wire.floors)?,
                    last: cursor(shard, &wire.last)?,
                },
                digest: digest.transpose()?,
            })
        });
        Ok(Self {
            shown: shown.collect::<Result<_, DecodeError>>()?,
            next: wire.next.as_deref().map(id).transpose()?,
        })
    }
}

impl StatePage {
    /// As it travels.
    pub fn encode(&self, shard: ShardId) -> Bytes {
        let rows = self.rows.iter().map(|(key, value)| RowWire {
            key: key.clone(),
            value: value.clone(),
        });
        let wire = StatePageWire {
            reaches: cursor_text(shard, &self.reaches),
            rows: rows.collect(),
            next: self.next.clone(),
        };
        wire.encode_to_vec().into()
    }

    /// Reads one of a peer.
    ///
    /// # Errors
    ///
    /// What comes from a peer may be anything.
    pub fn decode(shard: ShardId, bytes: &[u8]) -> Result<Self, DecodeError> {
        let wire = StatePageWire::decode(bytes)?;
        Ok(Self {
            reaches: cursor(shard, &wire.reaches)?,
            rows: wire
                .rows
                .into_iter()
                .map(|row| (row.key, row.value))
                .collect(),
            next: wire.next,
        })
    }
}
