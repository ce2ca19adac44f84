//! From stored rows to what callers see.

use std::collections::BTreeMap;

use jiff::Timestamp;
use whimbrel_client::api;
use whimbrel_replication::crdt::conversation::Conversation;
use whimbrel_replication::crdt::message::Message;
use whimbrel_replication::crdt::text::Revision;
use whimbrel_replication::id::{ConversationId, MessageId, Position};
use whimbrel_replication::op::{ConversationKind, Standing};

use crate::identity::Identity;
use crate::mentions::mentions;

/// Emoji that a message shows; the most frequent ones.
const EMOJI_SHOWN_MAX: usize = 20;

/// RFC 3339 in UTC with milliseconds; times outside the calendar are its ends.
pub fn time(unix_ms: i64) -> String {
    // The ends of the calendar in whole seconds: not every millisecond of the last one fits.
    let ends = (
        Timestamp::MIN.as_second() * 1_000,
        Timestamp::MAX.as_second() * 1_000,
    );
    let time = Timestamp::from_millisecond(unix_ms.clamp(ends.0, ends.1));
    format!("{:.3}", time.unwrap_or(Timestamp::UNIX_EPOCH))
}

/// The state of a message's text.
pub fn revision(message: &Message) -> Revision {
    Revision::new(
        message
            .edited
            .as_ref()
            .map_or(Vec::new(), |edited| edited.heads.clone()),
    )
}

/// The emoji that a message shows, and their counts.
pub fn emoji_shown(message: &Message) -> Vec<(&str, u32)> {
    let mut shown: Vec<(&str, u32)> = message
        .reactions
        .iter()
        .map(|(emoji, count)| (emoji.as_str(), *count))
        .collect();
    shown.sort_by_key(|(emoji, count)| (std::cmp::Reverse(*count), *emoji));
    shown.truncate(EMOJI_SHOWN_MAX);
    shown
}

/// A message that stands at `position`; `mine` tells with which emoji the caller reacted. `None`
/// while the post itself has not arrived.
pub fn message(
    identity: &Identity,
    conversation: &ConversationId,
    id: &MessageId,
    position: Position,
    message: &Message,
    mine: &[String],
) -> Option<api::Message> {
    let post = message.post.as_ref()?;
    let reactions: BTreeMap<String, api::Reaction> = emoji_shown(message)
        .into_iter()
        .map(|(emoji, count)| {
            let me = mine.iter().any(|m| m == emoji);
            (
                emoji.to_owned(),
                api::Reaction {
                    count: count.into(),
                    me,
                },
            )
        })
        .collect();
    Some(api::Message {
        id: id.to_string(),
        conversation: conversation.to_string(),
        position: position.to_string(),
        sender: post.sender.clone(),
        text: message.text().map(str::to_owned),
        revision: revision(message).to_string(),
        edited: message.edited.is_some(),
        merged: revision(message).is_merged(),
        redacted: message.redacted,
        reply_to: post.reply_to.map(|id| id.to_string()),
        mentions: message.text().map(mentions).unwrap_or_default(),
        reactions: if message.redacted {
            BTreeMap::new()
        } else {
            reactions
        },
        created_at: time(position.hlc().unix_ms()),
        sent_at: post.sent_at_unix_ms.map(time),
        region: identity.region_name(position.region()),
    })
}

/// A conversation as a caller with this standing sees it; the cursor is the caller's to fill in.
/// `None` while its creation has not arrived.
pub fn conversation(
    id: &ConversationId,
    row: &Conversation,
    standing: Option<Standing>,
    cursor: String,
) -> Option<api::Conversation> {
    let creation = row.creation.as_ref()?;
    Some(api::Conversation {
        id: id.to_string(),
        kind: match creation.kind {
            ConversationKind::Direct => api::ConversationKind::Direct,
            ConversationKind::Group => api::ConversationKind::Group,
            ConversationKind::Channel => api::ConversationKind::Channel,
        },
        title: row.title().map(str::to_owned),
        topic: row.topic().map(str::to_owned),
        created_at: time(creation.position.hlc().unix_ms()),
        creator: creation.creator.clone(),
        role: standing.and_then(role),
        cursor,
    })
}

/// The role of somebody who is in.
pub fn role(standing: Standing) -> Option<api::Role> {
    match standing {
        Standing::Owner => Some(api::Role::Owner),
        Standing::Admin => Some(api::Role::Admin),
        Standing::Member => Some(api::Role::Member),
        Standing::Left | Standing::Banned => None,
    }
}

/// Any standing, as events tell it.
pub fn membership(standing: Standing) -> api::Membership {
    match standing {
        Standing::Owner => api::Membership::Owner,
        Standing::Admin => api::Membership::Admin,
        Standing::Member => api::Membership::Member,
        Standing::Left => api::Membership::Left,
        Standing::Banned => api::Membership::Banned,
    }
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times_have_milliseconds_and_never_fail() {
        assert_eq!(time(1_417_390_514_775), "2014-11-30T23:35:14.775Z");
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert!(time(i64::MAX).starts_with("9999"));
    }
}
