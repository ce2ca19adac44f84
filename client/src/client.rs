//! The client: how it is set up, and one function per call of the API.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::HeaderValue;
use serde::Serialize;

use crate::api::{
    ChangeConversation, Conversation, ConversationList, CreateConversation, EditMessage, History,
    MarkRead, Member, Members, Message, MessagePage, PostMessage, PostedMessage, ReadMarked,
    Receipts, Role, SetMember, Sync, limits,
};
use crate::regions::{Endpoint, Regions};
use crate::request::Call;
use crate::{Error, EventStream, RetryPolicy, api};

/// Talks to a cluster. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) act_as: Option<HeaderValue>,
}

pub(crate) struct Shared {
    pub(crate) http: reqwest::Client,
    /// WebSockets begin as HTTP/1.1.
    pub(crate) http1: reqwest::Client,
    pub(crate) regions: Regions,
    pub(crate) token: Option<HeaderValue>,
    pub(crate) timeout: Duration,
    pub(crate) retry: RetryPolicy,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("regions", &self.shared.regions)
            .field("act_as", &self.act_as)
            .finish_non_exhaustive()
    }
}

/// Sets up a [`Client`].
#[derive(Clone, Default)]
pub struct ClientBuilder {
    endpoints: Vec<Endpoint>,
    prefer: Option<String>,
    token: Option<String>,
    act_as: Option<String>,
    timeout: Option<Duration>,
    retry: RetryPolicy,
}

impl ClientBuilder {
    /// Adds a region's URL, without `/v1`.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.endpoints.push(Endpoint {
            region: None,
            url: url.into(),
        });
        self
    }

    /// Adds a region's URL under its name.
    pub fn region(mut self, name: impl Into<String>, url: impl Into<String>) -> Self {
        self.endpoints.push(Endpoint::named(name, url));
        self
    }

    /// Adds regions.
    pub fn endpoints(mut self, endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        self.endpoints.extend(endpoints);
        self
    }

    /// The region to ask, by name. Default: the first that was added.
    pub fn prefer(mut self, region: impl Into<String>) -> Self {
        self.prefer = Some(region.into());
        self
    }

    /// The bearer token. Without it only [`Client::regions`] answers.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// The user for whom the bearer of a `service` token acts.
    pub fn act_as(mut self, user: impl Into<String>) -> Self {
        self.act_as = Some(user.into());
        self
    }

    /// How long one try may take. Default 10 s. Less of it gives up on slow answers, e.g. to
    /// [`Ack::Regions`] over a slow link.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// When failed calls are tried again.
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// The client. No connection is made yet.
    pub fn build(self) -> Result<Client, Error> {
        // Refused when the program has installed one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let regions = Regions::new(&self.endpoints, self.prefer.as_deref())?;
        let token = self.token.map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
                .map_err(|_| Error::config("the token holds characters that no token has"))?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        });
        let http = || {
            let builder = reqwest::Client::builder()
                .user_agent(concat!("whimbrel-client/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(Duration::from_secs(3))
                .redirect(reqwest::redirect::Policy::none());
            if regions.any_tls() {
                builder
            } else {
                // Loading the system's certificates fails where there are none, e.g. in a small
                // container.
                builder.tls_certs_only([])
            }
        };
        let failed = |error: reqwest::Error| {
            let why = std::error::Error::source(&error).map_or(String::new(), |s| format!(": {s}"));
            Error::config(format!("cannot set up HTTP{why}"))
        };
        Ok(Client {
            shared: Arc::new(Shared {
                http: http().build().map_err(failed)?,
                http1: http().http1_only().build().map_err(failed)?,
                token: token.transpose()?,
                timeout: self.timeout.unwrap_or(Duration::from_secs(10)),
                retry: self.retry,
                regions,
            }),
            act_as: self.act_as.as_deref().map(user_header).transpose()?,
        })
    }
}

/// When a post counts as done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// When the region that took it has committed it.
    #[default]
    Local,
    /// When that many regions have committed it.
    Regions(u16),
}

impl Client {
    /// Sets up a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// The same client, acting for `user`; the token needs scope `service`.
    pub fn acting_as(&self, user: &str) -> Result<Self, Error> {
        Ok(Self {
            shared: Arc::clone(&self.shared),
            act_as: Some(user_header(user)?),
        })
    }

    /// All regions and how they are. Needs no token.
    pub fn regions(&self) -> Call<api::Regions> {
        self.read(&["regions"])
    }

    /// Makes a conversation. The caller becomes its owner.
    pub fn create(&self, body: &CreateConversation) -> Call<Conversation> {
        self.write(Method::POST, &["conversations"]).body(body)
    }

    /// One page of the caller's conversations, newest activity first.
    pub fn conversations(&self) -> Call<ConversationList> {
        self.read(&["conversations"])
    }

    /// A conversation.
    pub fn conversation(&self, conversation: &str) -> Call<Conversation> {
        self.read(&["conversations", conversation])
    }

    /// Sets title or topic.
    pub fn change(&self, conversation: &str, body: &ChangeConversation) -> Call<Conversation> {
        self.write(Method::PATCH, &["conversations", conversation])
            .body(body)
    }

    /// The members of a conversation.
    pub fn members(&self, conversation: &str) -> Call<Members> {
        self.read(&["conversations", conversation, "members"])
    }

    /// Adds a member or changes their role; oneself joins a channel.
    pub fn set_member(&self, conversation: &str, user: &str, role: Role) -> Call<Member> {
        self.write(
            Method::PUT,
            &["conversations", conversation, "members", user],
        )
        .body(&SetMember { role })
    }

    /// Removes a member; oneself leaves.
    pub fn remove_member(&self, conversation: &str, user: &str) -> Call<()> {
        self.write(
            Method::DELETE,
            &["conversations", conversation, "members", user],
        )
    }

    /// Removes a member and keeps them out.
    pub fn ban_member(&self, conversation: &str, user: &str) -> Call<()> {
        self.remove_member(conversation, user).query("ban", "true")
    }

    /// Posts a message.
    pub fn post(&self, conversation: &str, body: &PostMessage) -> Call<PostedMessage> {
        self.write(Method::POST, &["conversations", conversation, "messages"])
            .body(body)
    }

    /// One page of messages, oldest first within it: the newest page, unless
    /// [`Call::older_than`] or [`Call::newer_than`] say otherwise.
    pub fn messages(&self, conversation: &str) -> Call<MessagePage> {
        self.read(&["conversations", conversation, "messages"])
    }

    /// A message; a tombstone if it was redacted.
    pub fn message(&self, conversation: &str, message: &str) -> Call<Message> {
        self.read(&["conversations", conversation, "messages", message])
    }

    /// Sets a message's text. `base` is the revision that the writer saw; edits that others made
    /// meanwhile merge.
    pub fn edit(&self, conversation: &str, message: &str, text: &str, base: &str) -> Call<Message> {
        self.write(
            Method::PATCH,
            &["conversations", conversation, "messages", message],
        )
        .body(&EditMessage {
            text: text.to_owned(),
            base: base.to_owned(),
        })
    }

    /// Takes a message away for good. Once more is no error.
    pub fn redact(&self, conversation: &str, message: &str) -> Call<()> {
        self.write(
            Method::DELETE,
            &["conversations", conversation, "messages", message],
        )
    }

    /// All versions of a message.
    pub fn history(&self, conversation: &str, message: &str) -> Call<History> {
        self.read(&[
            "conversations",
            conversation,
            "messages",
            message,
            "history",
        ])
    }

    /// Reacts to a message.
    pub fn react(&self, conversation: &str, message: &str, emoji: &str) -> Call<()> {
        self.reaction(Method::PUT, conversation, message, emoji)
    }

    /// Takes a reaction back.
    pub fn unreact(&self, conversation: &str, message: &str, emoji: &str) -> Call<()> {
        self.reaction(Method::DELETE, conversation, message, emoji)
    }

    fn reaction(&self, method: Method, conversation: &str, message: &str, emoji: &str) -> Call<()> {
        self.write(
            method,
            &[
                "conversations",
                conversation,
                "messages",
                message,
                "reactions",
                emoji,
            ],
        )
    }

    /// Marks as read what `cursor`, of an event or a page, covers.
    pub fn mark_read(&self, conversation: &str, cursor: &str) -> Call<ReadMarked> {
        self.write(Method::PUT, &["conversations", conversation, "read"])
            .body(&MarkRead {
                cursor: cursor.to_owned(),
            })
    }

    /// How far the members have read.
    pub fn receipts(&self, conversation: &str) -> Call<Receipts> {
        self.read(&["conversations", conversation, "receipts"])
    }

    /// Tells the others that the caller is typing.
    pub fn typing(&self, conversation: &str) -> Call<()> {
        self.write(Method::POST, &["conversations", conversation, "typing"])
    }

    /// Waits for events after the token `since`; without it the token of now is answered at once.
    pub fn sync(&self, since: Option<&str>) -> Call<Sync> {
        self.read(&["sync"]).query_opt("since", since)
    }

    /// All events of the caller's conversations after the token `since`, or from now on.
    pub async fn stream(&self, since: Option<&str>) -> Result<EventStream, Error> {
        EventStream::open(self.clone(), since.map(str::to_owned)).await
    }

    fn read<T>(&self, path: &[&str]) -> Call<T> {
        Call::new(self, Method::GET, path)
    }

    fn write<T>(&self, method: Method, path: &[&str]) -> Call<T> {
        Call::new(self, method, path).with_fresh_key()
    }
}

impl Call<PostedMessage> {
    /// When the post counts as done. Default: [`Ack::Local`].
    pub fn ack(self, ack: Ack) -> Self {
        match ack {
            Ack::Local => self,
            Ack::Regions(count) => self.query("ack", &format!("regions:{count}")),
        }
    }
}

impl Call<MessagePage> {
    /// The page that ends before a position: `prev` of a page.
    pub fn older_than(self, position: &str) -> Self {
        self.query("before", position)
    }

    /// The page that starts after a position: `next` of a page.
    pub fn newer_than(self, position: &str) -> Self {
        self.query("after", position)
    }

    /// Messages on the page, 1 to [`limits::PAGE_ITEMS_MAX`].
    pub fn limit(self, items: u32) -> Self {
        self.query("limit", &items.to_string())
    }
}

impl Call<ConversationList> {
    /// The page that `next` of the one before names.
    pub fn page(self, page: &str) -> Self {
        self.query("page", page)
    }

    /// Conversations on the page, 1 to [`limits::PAGE_ITEMS_MAX`].
    pub fn limit(self, items: u32) -> Self {
        self.query("limit", &items.to_string())
    }
}

impl Call<Sync> {
    /// How long to wait for a first event, up to [`limits::SYNC_WAIT_MS_MAX`].
    pub fn wait(self, wait: Duration) -> Self {
        let wait_ms = wait.as_millis();
        self.query("wait", &wait_ms.to_string())
            .with_extra_time(wait.min(Duration::from_millis(limits::SYNC_WAIT_MS_MAX)))
    }
}

fn user_header(user: &str) -> Result<HeaderValue, Error> {
    if user.is_empty() || user.len() > limits::USER_BYTES_MAX {
        let max = limits::USER_BYTES_MAX;
        return Err(Error::config(format!(
            "`{user}` is no user: a name has 1 to {max} bytes"
        )));
    }
    HeaderValue::from_bytes(user.as_bytes())
        .map_err(|_| Error::config(format!("`{user}` is no user: control characters")))
}

/// As a request body. The types of [`api`] have no map keys or values that JSON cannot hold.
pub(crate) fn to_json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("request types always serialize")
}
