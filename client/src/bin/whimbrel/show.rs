//! Wire types as lines for people.

use whimbrel_client::api::{ConversationKind, Membership, Message, Role};

/// `2026-01-02 03:04:05`, in UTC.
pub(crate) fn time(rfc3339: &str) -> String {
    rfc3339.get(..19).unwrap_or(rfc3339).replace('T', " ")
}

/// A message; further lines of its text are indented.
pub(crate) fn message(message: &Message) -> String {
    let at = time(message.sent_at.as_deref().unwrap_or(&message.created_at));
    let text = match &message.text {
        Some(text) => text.replace('\n', "\n    "),
        None => "(redacted)".to_owned(),
    };
    let mut line = format!("{}  {at}  {}: {text}", message.id, message.sender);
    if message.merged {
        line.push_str("  (merged)");
    } else if message.edited {
        line.push_str("  (edited)");
    }
    if let Some(answered) = &message.reply_to {
        line.push_str(&format!("  (answers {answered})"));
    }
    for (emoji, reaction) in &message.reactions {
        line.push_str(&format!("  {emoji} {}", reaction.count));
    }
    line
}

pub(crate) const fn kind(kind: ConversationKind) -> &'static str {
    match kind {
        ConversationKind::Direct => "direct",
        ConversationKind::Group => "group",
        ConversationKind::Channel => "channel",
    }
}

pub(crate) const fn role(role: Role) -> &'static str {
    match role {
        Role::Owner => "owner",
        Role::Admin => "admin",
        Role::Member => "member",
    }
}

pub(crate) const fn membership(membership: Membership) -> &'static str {
    match membership {
        Membership::Owner => "is an owner now",
        Membership::Admin => "is an admin now",
        Membership::Member => "is a member now",
        Membership::Left => "has left",
        Membership::Banned => "was banned",
    }
}

/// The first line of a text, cut.
pub(crate) fn excerpt(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let line = text.lines().next().unwrap_or_default();
    let mut cut: String = line.chars().take(CHARS_MAX).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts() {
        assert_eq!(excerpt("a"), "a");
        assert_eq!(excerpt("a\nb"), "a…");
        assert_eq!(excerpt(&"x".repeat(61)), format!("{}…", "x".repeat(60)));
    }

    #[test]
    fn times() {
        assert_eq!(time("2026-01-02T03:04:05.678Z"), "2026-01-02 03:04:05");
        assert_eq!(time("soon"), "soon");
    }
}
