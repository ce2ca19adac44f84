//! Reads what all regions show in the end.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_client::api::{ProblemCode, limits};
use whimbrel_client::{Client, Error};

use super::place::shown;
use super::{Plan, Way};
use crate::history::{Answer, History, Outcome, RegionState, Seen, Settled, Unread, words};

/// Everything of these conversations, and of those that were made meanwhile, in all regions. To be
/// called once they have converged; `digests` are theirs.
pub async fn settle(
    plan: &Plan,
    conversations: &[String],
    history: &History,
    ways: impl Fn(&str) -> Vec<Way>,
    digests: &BTreeMap<String, String>,
) -> Result<Settled, Error> {
    let made = history
        .operations
        .iter()
        .filter_map(|operation| match &operation.outcome {
            Outcome::Done(Answer::Created(id)) => Some(id),
            _ => None,
        });
    let all: BTreeSet<&String> = conversations.iter().chain(made).collect();
    let users = plan.users();
    let mut settled = Settled::default();
    let readers = ways(&users[0]);
    for (nth, (region, reader)) in readers.iter().enumerate() {
        let mut state = RegionState {
            digest: digests.get(region).cloned().unwrap_or_default(),
            ..RegionState::default()
        };
        for &conversation in &all {
            let messages = match messages(reader, conversation).await {
                Ok(messages) => messages,
                // It is missing, which is for the check to say.
                Err(error) if error.code() == Some(ProblemCode::NotFound) => continue,
                Err(error) => return Err(error),
            };
            for seen in &messages {
                let text = seen.text.as_deref().unwrap_or_default();
                if words(text).count() > 1 {
                    let history = reader.history(conversation, &seen.id).await?.value;
                    let texts = history.versions.into_iter().map(|version| version.text);
                    state.versions.insert(seen.id.clone(), texts.collect());
                }
            }
            state.conversations.insert(conversation.clone(), messages);
        }
        for user in &users {
            let (_, client) = &ways(user)[nth];
            let list = client.conversations().limit(limits::PAGE_ITEMS_MAX).await?;
            let counted = list.value.conversations.into_iter().map(|listed| Unread {
                user: user.clone(),
                conversation: listed.conversation.id,
                count: listed.unread,
            });
            state
                .unread
                .extend(counted.filter(|unread| conversations.contains(&unread.conversation)));
        }
        settled.regions.insert(region.clone(), state);
    }
    Ok(settled)
}

/// All messages, oldest first.
async fn messages(client: &Client, conversation: &str) -> Result<Vec<Seen>, Error> {
    let mut pages = Vec::new();
    let mut before: Option<String> = None;
    loop {
        let mut call = client.messages(conversation).limit(limits::PAGE_ITEMS_MAX);
        if let Some(before) = &before {
            call = call.older_than(before);
        }
        let page = call.await?.value;
        pages.push(page.messages.iter().map(shown).collect::<Vec<_>>());
        before = page.prev;
        if before.is_none() {
            break;
        }
    }
    Ok(pages.into_iter().rev().flatten().collect())
}
