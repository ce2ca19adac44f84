//! What a caller wants done: validated, with no HTTP types from here on.

use whimbrel_client::api;
use whimbrel_replication::crdt::text::RevisionRef;
use whimbrel_replication::cursor::ShardCursor;
use whimbrel_replication::id::{ConversationId, HashKind, MessageId, OpId, Place, hash};
use whimbrel_replication::op::{ConversationKind, Standing, Trace};

/// One write.
#[derive(Clone, Debug)]
pub struct Command {
    /// The user who acts, or for whom a service acts.
    pub actor: String,
    /// May do in any conversation what its owner may do.
    pub is_admin: bool,
    /// The caller's idempotency key, or one that was made for this call.
    pub key: String,
    /// Where.
    pub conversation: ConversationId,
    /// What.
    pub action: Action,
    /// The request that it came with.
    pub trace: Option<Trace>,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Action {
    /// Make the conversation.
    Create {
        /// Direct, group or channel.
        kind: ConversationKind,
        /// First title.
        title: Option<String>,
        /// First topic.
        topic: Option<String>,
        /// First members, without the actor; each once.
        members: Vec<String>,
    },
    /// Set title, topic or both.
    Change {
        /// New title.
        title: Option<String>,
        /// New topic.
        topic: Option<String>,
    },
    /// Add a member, change a role, or join.
    SetMember {
        /// Who.
        user: String,
        /// Owner, admin or member.
        role: Standing,
    },
    /// Leave, remove or ban.
    RemoveMember {
        /// Who.
        user: String,
        /// Keep them out.
        ban: bool,
    },
    /// Post a message.
    Post {
        /// Its id.
        message: MessageId,
        /// Its text.
        text: String,
        /// The message that it answers.
        reply_to: Option<MessageId>,
        /// Original time of an import, in Unix milliseconds.
        sent_at_unix_ms: Option<i64>,
    },
    /// Edit a message's text.
    Edit {
        /// Which.
        message: MessageId,
        /// The revision that the writer saw.
        base: RevisionRef,
        /// The whole new text.
        text: String,
    },
    /// Take a message away.
    Redact {
        /// Which.
        message: MessageId,
    },
    /// Set a reaction or take it back.
    React {
        /// To which message.
        message: MessageId,
        /// With what.
        emoji: String,
        /// Set, or take back.
        present: bool,
    },
    /// Mark as read.
    Read {
        /// Up to where; what this region does not hold is left out.
        marker: ShardCursor,
    },
}

impl Command {
    /// Id of the op.
    pub fn op_id(&self) -> OpId {
        OpId::derive(&self.actor, &self.key)
    }

    /// Hash of what is asked, to tell a replay from another request under the same key.
    pub fn request_hash(&self) -> [u8; 32] {
        let text = |value: &Option<String>| match value {
            None => vec![0],
            Some(text) => [&[1], text.as_bytes()].concat(),
        };
        let mut parts: Vec<Vec<u8>> = Vec::new();
        match &self.action {
            Action::Create {
                kind,
                title,
                topic,
                members,
            } => {
                parts.push(format!("create {kind:?}").into_bytes());
                parts.extend([text(title), text(topic)]);
                parts.extend(members.iter().map(|m| m.clone().into_bytes()));
            }
            Action::Change { title, topic } => {
                parts.push(b"change".to_vec());
                parts.extend([text(title), text(topic)]);
            }
            Action::SetMember { user, role } => {
                parts.push(format!("set {role:?}").into_bytes());
                parts.push(user.clone().into_bytes());
            }
            Action::RemoveMember { user, ban } => {
                parts.push(format!("remove {ban}").into_bytes());
                parts.push(user.clone().into_bytes());
            }
            // The id covers the whole body.
            Action::Post { message, .. } => {
                parts.push(b"post".to_vec());
                parts.push(message.as_bytes().to_vec());
            }
            Action::Edit {
                message,
                base,
                text,
            } => {
                parts.push(b"edit".to_vec());
                parts.push(message.as_bytes().to_vec());
                parts.extend(base.heads().iter().map(|head| head.to_vec()));
                parts.push(text.clone().into_bytes());
            }
            Action::Redact { message } => {
                parts.push(b"redact".to_vec());
                parts.push(message.as_bytes().to_vec());
            }
            Action::React {
                message,
                emoji,
                present,
            } => {
                parts.push(format!("react {present}").into_bytes());
                parts.push(message.as_bytes().to_vec());
                parts.push(emoji.clone().into_bytes());
            }
            Action::Read { marker } => {
                parts.push(b"read".to_vec());
                for (origin, at) in marker.iter() {
                    parts.push([&origin.to_bytes()[..], &at.to_bytes()].concat());
                }
            }
        }
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        *hash(HashKind::Request, &parts).as_bytes()
    }

    /// About how many bytes its ops take in a batch.
    pub fn estimated_bytes(&self) -> usize {
        const OP_BYTES: usize = 160;
        let option = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let op = OP_BYTES + self.actor.len();
        op + match &self.action {
            Action::Create {
                title,
                topic,
                members,
                ..
            } => {
                let members: usize = members.iter().map(|m| op + m.len()).sum();
                option(title) + option(topic) + members
            }
            Action::Change { title, topic } => option(title) + option(topic),
            // A join brings a read marker along.
            Action::SetMember { user, .. } => 3 * op + user.len(),
            Action::RemoveMember { user, .. } => user.len(),
            Action::Post { text, .. } => text.len(),
            Action::Edit { text, .. } => OP_BYTES + 2 * text.len(),
            Action::Redact { .. } => 0,
            Action::React { emoji, .. } => emoji.len(),
            Action::Read { marker } => 24 * marker.iter().count(),
        }
    }
}

/// What a write gave.
#[derive(Clone, Debug)]
pub struct Done {
    /// The answer. Its cursor is filled in by whoever knows the stamp.
    pub answer: Answer,
    /// It had been done before; nothing was written now.
    pub replayed: bool,
    /// Index of the last op of its batch so far; `None` if the batch has none.
    pub last_index: Option<u16>,
    /// Of a post: all places where the message stands. A region that holds one of them has it.
    pub places: Vec<Place>,
}

/// The current representation of what was written.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A conversation, and whether this call made it.
    Conversation {
        /// As the caller sees it.
        conversation: api::Conversation,
        /// Did it exist before?
        existed: bool,
    },
    /// A member.
    Member(api::Member),
    /// A message.
    Message(Box<api::Message>),
    /// A read marker as it stands now.
    Marker(ShardCursor),
    /// Nothing to show.
    Nothing,
}

/// Why a write was refused. It was alone refused: the rest of its batch went on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No such thing, or none that the caller may see.
    #[error("no such {0}, or you may not see it")]
    NotFound(&'static str),
    /// The caller may see it, but not do this.
    #[error("{0}")]
    Forbidden(&'static str),
    /// Well-formed, but against a rule.
    #[error("{field}: {message}")]
    Rule {
        /// The field at fault.
        field: &'static str,
        /// The rule and the remedy.
        message: String,
    },
    /// The key was used with another request.
    #[error("this idempotency key was used with another request; use a new key for a new request")]
    Mismatch,
    /// The message is gone.
    #[error("the message was redacted; it can no longer be read or changed")]
    Redacted,
    /// The edit's base is not known in this region.
    #[error("this region does not know the revision in `base` yet; try again shortly")]
    UnknownBase,
}
