//! A message: the set of its places, its text or tombstone, its edits and reaction counts.

use std::collections::BTreeMap;

use prost::Message as _;

use super::Encoded;
use crate::error::DecodeError;
use crate::id::{ChangeHash, MessageId, OpStamp, Place, Position, Stamp};

/// What its sender wrote. The message id covers all of it, so every copy is equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// Who wrote it.
    pub sender: String,
    /// The original text; empty once redacted.
    pub text: String,
    /// The message that it answers.
    pub reply_to: Option<MessageId>,
    /// Original time of an imported message, in Unix milliseconds.
    pub sent_at_unix_ms: Option<i64>,
}

/// The text as edits left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// The merged text.
    pub text: String,
    /// Heads of the Automerge document, sorted; never empty.
    pub heads: Vec<ChangeHash>,
    /// How many changes there are.
    pub edits: u32,
}

/// The row of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// `None` while only edits, reactions or a redaction have arrived.
    pub post: Option<Post>,
    /// Every place where it was posted, with the position that it got there.
    pub places: BTreeMap<Place, Position>,
    /// Taken away for good.
    pub redacted: bool,
    /// Derived from the stored changes; `None` while unedited.
    pub edited: Option<Edited>,
    /// Derived from the reaction rows: how many users reacted with each emoji.
    pub reactions: BTreeMap<String, u32>,
}

/// What a post changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posting {
    /// It was unknown.
    New,
    /// It was known, and stands elsewhere now.
    Moved {
        /// Where it stood.
        from: Position,
    },
    /// It was known, and stands where it stood.
    Known,
}

impl Message {
    /// Takes a post at a place. The smallest position wins, everywhere.
    pub fn post(&mut self, place: Place, position: Position, post: Post) -> Posting {
        let before = self.position();
        self.places.insert(place, position);
        if self.post.is_none() {
            self.post = Some(post);
            self.hide_if_redacted();
        }
        match before {
            None => Posting::New,
            Some(from) if position < from => Posting::Moved { from },
            Some(_) => Posting::Known,
        }
    }

    /// Takes it away: texts go, the tombstone stays.
    pub fn redact(&mut self) {
        self.redacted = true;
        self.hide_if_redacted();
    }

    fn hide_if_redacted(&mut self) {
        if self.redacted {
            self.edited = None;
            if let Some(post) = &mut self.post {
                post.text = String::new();
            }
        }
    }

    /// Takes the text that all known changes add up to; a redaction beats it.
    pub fn edit(&mut self, edited: Edited) {
        self.edited = Some(edited);
        self.hide_if_redacted();
    }

    /// Counts a reaction that was set or taken back.
    pub fn count_reaction(&mut self, emoji: &str, present: bool) {
        let count = self.reactions.entry(emoji.to_owned()).or_default();
        *count = if present {
            *count + 1
        } else {
            count.saturating_sub(1)
        };
        if *count == 0 {
            self.reactions.remove(emoji);
        }
    }

    /// Takes another region's places, post and tombstone. Edits and reactions are derived from
    /// rows of their own and are derived anew by the caller.
    pub fn join(&mut self, other: Self) {
        self.places.extend(other.places);
        self.redacted |= other.redacted;
        if self.post.is_none() {
            self.post = other.post;
        }
        self.hide_if_redacted();
    }

    /// Where it stands in the timeline, if it was posted.
    pub fn position(&self) -> Option<Position> {
        self.places.values().min().copied()
    }

    /// The text that is shown; `None` if redacted or not posted.
    pub fn text(&self) -> Option<&str> {
        if self.redacted {
            return None;
        }
        let original = self.post.as_ref().map(|post| post.text.as_str());
        self.edited
            .as_ref()
            .map(|edited| edited.text.as_str())
            .or(original)
    }

    /// As stored. At most one place may be pending.
    pub fn encode(&self) -> Encoded {
        self.encode_with(self.places.iter())
    }

    /// As shown in the timeline, without the places.
    pub fn encode_without_places(&self) -> Vec<u8> {
        self.encode_with(std::iter::empty()).bytes
    }

    fn encode_with<'a>(
        &self,
        places: impl Iterator<Item = (&'a Place, &'a Position)> + Clone,
    ) -> Encoded {
        let is_pending = |(place, _): &(&Place, &Position)| place.at.stamp == Stamp::PENDING;
        let last = places.clone().find(is_pending);
        let bytes = Wire {
            sender: self.post.as_ref().map(|p| p.sender.clone()),
            text: self.post.as_ref().map(|p| p.text.clone()),
            reply_to: self
                .post
                .as_ref()
                .and_then(|p| p.reply_to.as_ref())
                .map(|id| id.as_bytes().to_vec()),
            sent_at_unix_ms: self.post.as_ref().and_then(|p| p.sent_at_unix_ms),
            redacted: self.redacted,
            edited: self.edited.as_ref().map(|e| WireEdited {
                text: e.text.clone(),
                heads: e.heads.iter().map(|h| h.as_bytes().to_vec()).collect(),
                edits: e.edits,
            }),
            reactions: self
                .reactions
                .iter()
                .map(|(emoji, count)| WireReaction {
                    emoji: emoji.clone(),
                    count: *count,
                })
                .collect(),
            places: places
                .filter(|p| !is_pending(p))
                .chain(last)
                .map(WirePlace::from)
                .collect(),
        }
        .encode_to_vec();
        Encoded {
            bytes,
            pending: last.is_some(),
        }
    }

    /// Reads a stored row, with or without places.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let wire = Wire::decode(bytes)?;
        let post = match (wire.sender, wire.text) {
            (Some(sender), Some(text)) => Some(Post {
                sender,
                text,
                reply_to: wire
                    .reply_to
                    .map(|id| id.as_slice().try_into())
                    .transpose()?,
                sent_at_unix_ms: wire.sent_at_unix_ms,
            }),
            _ => None,
        };
        let edited = wire.edited.map(|edited| {
            let heads = edited
                .heads
                .iter()
                .map(|h| ChangeHash::try_from(h.as_slice()));
            Ok::<_, DecodeError>(Edited {
                text: edited.text,
                heads: heads.collect::<Result<_, _>>()?,
                edits: edited.edits,
            })
        });
        Ok(Self {
            post,
            places: wire
                .places
                .into_iter()
                .map(WirePlace::into_entry)
                .collect::<Result<_, DecodeError>>()?,
            redacted: wire.redacted,
            edited: edited.transpose()?,
            reactions: wire
                .reactions
                .into_iter()
                .map(|r| (r.emoji, r.count))
                .collect(),
        })
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Wire {
    #[prost(string, optional, tag = "1")]
    sender: Option<String>,
    #[prost(string, optional, tag = "2")]
    text: Option<String>,
    #[prost(bytes = "vec", optional, tag = "3")]
    reply_to: Option<Vec<u8>>,
    #[prost(sint64, optional, tag = "4")]
    sent_at_unix_ms: Option<i64>,
    #[prost(bool, tag = "5")]
    redacted: bool,
    #[prost(message, optional, tag = "6")]
    edited: Option<WireEdited>,
    #[prost(message, repeated, tag = "7")]
    reactions: Vec<WireReaction>,
    /// Stands last, and its stamp last in it, for the sake of a pending stamp.
    #[prost(message, repeated, tag = "15")]
    places: Vec<WirePlace>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireEdited {
    #[prost(string, tag = "1")]
    text: String,
    #[prost(bytes = "vec", repeated, tag = "2")]
    heads: Vec<Vec<u8>>,
    #[prost(uint32, tag = "3")]
    edits: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireReaction {
    #[prost(string, tag = "1")]
    emoji: String,
    #[prost(uint32, tag = "2")]
    count: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WirePlace {
    #[prost(bytes = "vec", tag = "1")]
    position: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    origin: Vec<u8>,
    #[prost(uint32, tag = "3")]
    index: u32,
    #[prost(bytes = "vec", tag = "4")]
    stamp: Vec<u8>,
}

impl From<(&Place, &Position)> for WirePlace {
    fn from((place, position): (&Place, &Position)) -> Self {
        Self {
            position: position.as_bytes().to_vec(),
            origin: place.origin.to_bytes().to_vec(),
            index: place.at.index.into(),
            stamp: place.at.stamp.as_bytes().to_vec(),
        }
    }
}

impl WirePlace {
    fn into_entry(self) -> Result<(Place, Position), DecodeError> {
        let index = u16::try_from(self.index).map_err(|_| DecodeError::Range("index"))?;
        let place = Place {
            origin: self.origin.as_slice().try_into()?,
            at: OpStamp::new(self.stamp.as_slice().try_into()?, index),
        };
        Ok((place, self.position.as_slice().try_into()?))
    }
}
