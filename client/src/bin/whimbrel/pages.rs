//! All pages of a conversation.

use whimbrel_client::api::{MessagePage, limits};
use whimbrel_client::{Call, Client, Error};

use crate::args::Global;
use crate::ask::{ask, reading};

/// Pages from the oldest message to the newest.
///
/// The API starts at the newest, so this walks back first and keeps nothing but the position: two
/// requests a page, but no conversation is too long for it.
pub(crate) struct Pages<'a> {
    global: &'a Global,
    client: &'a Client,
    conversation: &'a str,
    state: State,
}

enum State {
    Start,
    After(String),
    End,
}

impl<'a> Pages<'a> {
    pub(crate) fn new(global: &'a Global, client: &'a Client, conversation: &'a str) -> Self {
        Self {
            global,
            client,
            conversation,
            state: State::Start,
        }
    }

    fn call(&self) -> Call<MessagePage> {
        let call = self.client.messages(self.conversation);
        reading(self.global, call).limit(limits::PAGE_ITEMS_MAX)
    }

    pub(crate) async fn next(&mut self) -> Result<Option<MessagePage>, Error> {
        let page = match &self.state {
            State::Start => {
                let mut page = ask(self.call()).await?.value;
                while let Some(prev) = &page.prev {
                    page = ask(self.call().older_than(prev)).await?.value;
                }
                page
            }
            State::After(position) => ask(self.call().newer_than(position)).await?.value,
            State::End => return Ok(None),
        };
        self.state = match &page.next {
            Some(next) => State::After(next.clone()),
            None => State::End,
        };
        Ok(Some(page))
    }
}
