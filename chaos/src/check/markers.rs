//! Read markers: what is unread in the end equals a recount.
//!
//! A mark covers what its region held when the page was read. Of that a history knows two bounds:
//! the session had seen at least so much of it there, and nothing was there that had not been sent.
//! Where sessions read whole conversations the bounds meet.

use std::collections::{BTreeMap, BTreeSet};

use super::index::Index;
use super::sessions::Held;
use super::violation::Violation;
use crate::history::{Call, Outcome, Settled};

/// A region stops counting here.
const UNREAD_MAX: u64 = 1_000;

/// What marks of a user in a conversation cover.
#[derive(Default)]
struct Marked<'a> {
    surely: BTreeSet<&'a str>,
    /// All that was sent before this.
    perhaps_us: u64,
}

pub(super) fn check(
    index: &Index<'_>,
    held: &Held<'_>,
    settled: &Settled,
    found: &mut Vec<Violation>,
) {
    let mut marked: BTreeMap<(&str, &str), Marked<'_>> = BTreeMap::new();
    for operation in index.sessions.values().flatten() {
        let Call::Mark { conversation, read } = &operation.call else {
            continue;
        };
        let Some(read) = index.operation(*read) else {
            continue;
        };
        if matches!(operation.outcome, Outcome::Refused(_)) {
            continue;
        }
        let marked = marked.entry((&operation.user, conversation)).or_default();
        marked.perhaps_us = marked.perhaps_us.max(read.ended_us);
        if matches!(operation.outcome, Outcome::Done(_)) {
            marked.surely.extend(held.after(read));
        }
    }
    let none = Marked::default();
    for (region, state) in &settled.regions {
        for unread in &state.unread {
            let marked = marked.get(&(unread.user.as_str(), unread.conversation.as_str()));
            let marked = marked.unwrap_or(&none);
            let messages = state.conversations.get(&unread.conversation);
            let others = messages
                .into_iter()
                .flatten()
                .filter(|seen| seen.text.is_some() && seen.sender != unread.user);
            let count =
                |messages: usize| u64::try_from(messages).unwrap_or(u64::MAX).min(UNREAD_MAX);
            let most = others
                .clone()
                .filter(|seen| !marked.surely.contains(seen.id.as_str()));
            let least = others.filter(|seen| {
                let post = index.post(&seen.id);
                post.is_some_and(|post| post.first().invoked_us > marked.perhaps_us)
            });
            let (least, most) = (count(least.count()), count(most.count()));
            if !(least..=most).contains(&unread.count) {
                found.push(Violation::Miscounted {
                    region: region.clone(),
                    user: unread.user.clone(),
                    conversation: unread.conversation.clone(),
                    count: unread.count,
                    least,
                    most,
                });
            }
        }
    }
}
