//! The client: how it is set up, and one function per call of the API.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::header::HeaderValue;
use serde::Serialize;

use crate::api::{
    ChangeConversation, Conversation, ConversationList, CreateConversation, EditMessage, History,
    MarkRead, Member, Members, Message, MessagePage, PostMessage, PostedMessage, ReadMarked,
    Receipts, Role, SetMember, Sync, limits,
};
use crate::probe::{ANSWER_MAX, QUIET_MAX, Scout};
use crate::regions::{Endpoint, Regions, Wish};
use crate::request::Call;
use crate::retry::Budget;
use crate::session::Session;
use crate::{Error, EventStream, RetryPolicy, api};

/// Talks to a cluster. Cheap to clone; clones share connections, what is known of regions, the
/// budget of retries, and the session.
///
/// # Regions
///
/// A client asks the region that it prefers ([`ClientBuilder::prefer`]) or else the nearest, and
/// another one where that fails: at once on lost connections and 5xx, never on 4xx, and within five
/// seconds where a region falls silent. While a slow call waits, its region is asked whether it is
/// still there; as long as it answers, the call may take its time. All tries share one idempotency
/// key, so nothing is done twice. A region that fails is left alone for a while that grows.
///
/// Further regions are found by asking one (`GET /v1/regions`), after the first call and once in a
/// while; their latency is measured by the same. No call waits for that.
///
/// # Sessions
///
/// A client remembers what its answers showed and wrote, and each read carries that: so it
/// shows at least what was written and seen before, in any region. What no region has that can be
/// reached is reported ([`Answer::stale`](crate::Answer::stale)), and the client goes on without it.
/// One session is one user's: [`Client::acting_as`] starts a new one.
///
/// ```
/// # mod stub { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/doc_stub.rs")); }
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let (eu, us) = (stub::dead(), stub::start().await);
/// use whimbrel_client::Client;
/// use whimbrel_client::api::PostMessage;
///
/// let client = Client::builder()
///     .region("eu", eu)
///     .region("us", us)
///     .prefer("eu")
///     .token("eyJ...")
///     .build()?;
///
/// // eu is down.
/// let message = PostMessage { text: "hello".to_owned(), ..PostMessage::default() };
/// let posted = client.post("conversation", &message).await?;
/// assert_eq!(posted.region.as_deref(), Some("us"));
/// assert_eq!(posted.tried[0].name(), "eu");
///
/// // The read includes the post, whichever region answers.
/// let page = client.messages("conversation").await?;
/// assert!(page.stale.is_empty());
/// # Ok::<(), whimbrel_client::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) act_as: Option<HeaderValue>,
    /// What was seen and written; `None` where the app looks after that itself.
    pub(crate) session: Option<Arc<Session>>,
}

pub(crate) struct Shared {
    pub(crate) http: reqwest::Client,
    /// Each time a new connection, which begins as HTTP/1.1: for WebSockets, and for questions
    /// whether a region is there.
    pub(crate) http1: reqwest::Client,
    pub(crate) regions: Arc<Regions>,
    pub(crate) scout: Scout,
    pub(crate) token: Option<HeaderValue>,
    pub(crate) timeout: Duration,
    pub(crate) retry: RetryPolicy,
    budget: Mutex<Budget>,
}

impl Shared {
    /// Further tries that may be made.
    pub(crate) fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
#[derive(Clone)]
pub struct ClientBuilder {
    endpoints: Vec<Endpoint>,
    wish: Wish,
    discover: bool,
    session: bool,
    token: Option<String>,
    act_as: Option<String>,
    timeout: Duration,
    retry: RetryPolicy,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            wish: Wish::default(),
            discover: true,
            session: true,
            token: None,
            act_as: None,
            timeout: Duration::from_secs(10),
            retry: RetryPolicy::default(),
        }
    }
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

    /// The region to ask while it is up, by name. Default: the nearest, by measured latency, and
    /// until that is measured the first that was added.
    pub fn prefer(mut self, region: impl Into<String>) -> Self {
        self.wish = Wish::Prefer(region.into());
        self
    }

    /// The one region to ask, by name: no other answers in its place, and none is looked for.
    pub fn only(mut self, region: impl Into<String>) -> Self {
        self.wish = Wish::Only(region.into());
        self
    }

    /// Whether to look for further regions, and for the nearest one. Default: yes. Without it a
    /// client knows the regions that were added, and prefers the first.
    pub fn discover(mut self, discover: bool) -> Self {
        self.discover = discover;
        self
    }

    /// Whether reads carry what was seen and written before. Default: yes. Without it a read in
    /// another region may lack what was just written, unless [`Call::after`] asks for it. For
    /// programs that write much and read nothing, or that keep cursors themselves.
    pub fn session(mut self, session: bool) -> Self {
        self.session = session;
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

    /// How long one try may take, in a region that is there. Default 10 s. Less of it gives up on
    /// slow answers, e.g. to [`Ack::Regions`] over a slow link.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
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
        let regions = Arc::new(Regions::new(&self.endpoints, &self.wish)?);
        let discover = self.discover && !matches!(self.wish, Wish::Only(_));
        let token = self.token.map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
                .map_err(|_| Error::config("the token holds characters that no token has"))?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        });
        let http = || {
            let builder = reqwest::Client::builder()
                .user_agent(concat!("whimbrel-client/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(ANSWER_MAX)
                // What is sent into a connection that nobody holds any more is never confirmed; a
                // region that is slow confirms it all the same.
                .tcp_user_timeout(QUIET_MAX + ANSWER_MAX)
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
        let http1 = http().http1_only().pool_max_idle_per_host(0).build();
        let http1 = http1.map_err(failed)?;
        Ok(Client {
            shared: Arc::new(Shared {
                http: http().build().map_err(failed)?,
                scout: Scout::new(http1.clone(), Arc::clone(&regions), discover),
                http1,
                token: token.transpose()?,
                timeout: self.timeout,
                retry: self.retry,
                regions,
                budget: Mutex::new(Budget::new(Instant::now())),
            }),
            act_as: self.act_as.as_deref().map(user_header).transpose()?,
            session: self.session.then(Arc::default),
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
    ///
    /// Its session is a new one: a user need not wait for what others have seen. Where one must
    /// see what another did, hand it on: `ben.resume_from(&ana.cursor()...)`.
    pub fn acting_as(&self, user: &str) -> Result<Self, Error> {
        Ok(Self {
            shared: Arc::clone(&self.shared),
            act_as: Some(user_header(user)?),
            session: self.session.as_ref().map(|_| Arc::default()),
        })
    }

    /// What the session has seen and written so far, to be kept over a restart or handed to
    /// another client; also fit for [`Call::after`]. `None` where that is nothing, or there is no
    /// session.
    pub fn cursor(&self) -> Option<String> {
        self.session.as_ref()?.to_keep()
    }

    /// Makes later reads include what [`Client::cursor`], an answer's or an event's cursor covers.
    ///
    /// ```
    /// # use whimbrel_client::Client;
    /// # let client = || Client::builder().url("http://127.0.0.1:7001").build();
    /// let before = client()?;
    /// before.resume_from("AQFj-2")?;
    /// let kept = before.cursor().unwrap();
    /// // The program starts again.
    /// let now = client()?;
    /// now.resume_from(&kept)?;
    /// assert_eq!(now.cursor(), before.cursor());
    /// # Ok::<(), whimbrel_client::Error>(())
    /// ```
    pub fn resume_from(&self, cursor: &str) -> Result<(), Error> {
        match &self.session {
            Some(session) => session.resume(cursor),
            None => Err(Error::config(
                "this client has no session: it was built with `session(false)`",
            )),
        }
    }

    /// All regions and how they are. Needs no token.
    pub fn regions(&self) -> Call<api::Regions> {
        self.read(&["regions"]).outside_session()
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
    ///
    /// The events do not enter the session; [`Client::resume_from`] takes an event's cursor in.
    pub fn sync(&self, since: Option<&str>) -> Call<Sync> {
        // A token covers all that its region had, not what this user saw.
        self.read(&["sync"])
            .query_opt("since", since)
            .outside_session()
    }

    /// All events of the caller's conversations after the token `since`, or from now on.
    pub async fn stream(&self, since: Option<&str>) -> Result<EventStream, Error> {
        EventStream::open(self.clone(), since.map(str::to_owned)).await
    }

    pub(crate) fn read<T>(&self, path: &[&str]) -> Call<T> {
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
