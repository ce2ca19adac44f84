//! What a user knows of one conversation, and how they read it.

use whimbrel_client::api::{Message, MessagePage, ProblemCode};
use whimbrel_client::{Client, Error};

use super::Way;
use crate::history::{Answer, Call, OpId, Outcome, Page, Seen, Session};

/// A conversation as a user knows it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) conversation: String,
    /// Together they cover all that was read and written here.
    pub(super) cursors: Vec<String>,
    /// Covers what the stream told.
    pub(super) heard: Option<String>,
    /// What was read last, and what was written since.
    pub(super) messages: Vec<Message>,
    /// The last read.
    pub(super) read: Option<Read>,
}

/// A page that was read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) id: OpId,
    /// Where, as an index of ways.
    pub(super) at: usize,
    pub(super) cursor: String,
}

impl Place {
    pub(super) fn new(conversation: &str) -> Self {
        Self {
            conversation: conversation.to_owned(),
            cursors: Vec::new(),
            heard: None,
            messages: Vec::new(),
            read: None,
        }
    }

    /// Reads the newest page, from a state that includes all that is known. Where the region lacks
    /// something of that, the read fails, or, with `knowingly`, goes on without. Whether there was
    /// an answer.
    pub(super) async fn read(
        &mut self,
        session: &mut Session,
        at: usize,
        (region, client): &Way,
        limit: u32,
        knowingly: bool,
    ) -> bool {
        let call = Call::Page {
            conversation: self.conversation.clone(),
        };
        let id = session.next_id();
        let begun = session.begin(region, call);
        let (page, stale) = match self.send(client, limit, knowingly).await {
            Ok(read) => read,
            Err(error) => {
                session.end(begun, outcome_of(&error));
                return false;
            }
        };
        let answer = Answer::Page(Page {
            messages: page.messages.iter().map(shown).collect(),
            complete: page.prev.is_none(),
            stale,
        });
        session.end(begun, Outcome::Done(answer));
        // It covers what the cursors that were sent along cover.
        self.cursors = vec![page.cursor.clone()];
        self.heard = None;
        self.messages = page.messages;
        self.read = Some(Read {
            id,
            at,
            cursor: page.cursor,
        });
        true
    }

    /// A call carries one cursor, and what a region holds only grows: so one call for each cursor,
    /// and the page with the last.
    async fn send(
        &self,
        client: &Client,
        limit: u32,
        knowingly: bool,
    ) -> Result<(MessagePage, Vec<String>), Error> {
        let mut stale = Vec::new();
        let mut page = None;
        let cursors: Vec<String> = self.cursors.iter().chain(&self.heard).cloned().collect();
        let count = cursors.len();
        for (nth, mut cursor) in cursors.into_iter().enumerate() {
            loop {
                let answer = if nth + 1 == count {
                    let read = client.messages(&self.conversation).limit(limit);
                    let answer = read.after(&cursor).await;
                    answer.map(|answer| page = Some(answer.value))
                } else {
                    let look = client.conversation(&self.conversation);
                    look.after(&cursor).await.map(drop)
                };
                let Err(error) = answer else {
                    break;
                };
                let available = error
                    .problem()
                    .and_then(|problem| problem.available.clone());
                let available = available.filter(|available| knowingly && *available != cursor);
                let (Some(available), Some(problem)) = (available, error.problem()) else {
                    return Err(error);
                };
                stale.extend(problem.waiting_for.iter().cloned());
                cursor = available;
            }
        }
        let page = match page {
            Some(page) => page,
            None => {
                let first = client.messages(&self.conversation).limit(limit);
                first.await?.value
            }
        };
        stale.sort();
        stale.dedup();
        Ok((page, stale))
    }
}

/// A message as it is recorded.
pub(crate) fn shown(message: &Message) -> Seen {
    let reactions = message.reactions.iter();
    Seen {
        id: message.id.clone(),
        conversation: message.conversation.clone(),
        position: message.position.clone(),
        sender: message.sender.clone(),
        text: message.text.clone(),
        reply_to: message.reply_to.clone(),
        reactions: reactions
            .map(|(emoji, reaction)| (emoji.clone(), reaction.count))
            .collect(),
    }
}

/// What an error says about whether the call was done.
pub(crate) fn outcome_of(error: &Error) -> Outcome {
    let code = error.code().map_or("", ProblemCode::as_str);
    match error.status() {
        Some(status @ 400..500) => Outcome::Refused(format!("{status} {code}")),
        Some(status) => Outcome::Unknown(format!("{status} {code}")),
        None => Outcome::Unknown("no answer".to_owned()),
    }
}
