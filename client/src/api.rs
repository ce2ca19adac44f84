//! What goes over the wire: one type per JSON object of the public API.
//!
//! Ids, positions, revisions, cursors and tokens are opaque strings of `[A-Za-z0-9_-]`; times are
//! RFC 3339 in UTC with milliseconds. Requests refuse fields that they don't know; answers ignore
//! them, so that an older client can read a newer node.

mod cluster;
mod event;
#[cfg(feature = "openapi")]
mod example;
#[cfg(feature = "openapi")]
pub mod openapi;
mod problem;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use cluster::{
    DevCluster, DevFoundationDb, DevNode, DevRegion, Digests, RegionInfo, RegionStatus, Regions,
};
pub use event::{Event, EventKind, Sync};
#[cfg(feature = "openapi")]
use openapi as form;
pub use problem::{FieldError, PROBLEM_JSON, Problem, ProblemCode};

/// Names of HTTP headers, in lower case as HTTP/2 wants them.
pub mod header {
    /// In, on any call that writes: same key and same body give the same ids.
    pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
    /// Out, `true`: the call had been done before, nothing was written now.
    pub const IDEMPOTENCY_REPLAYED: &str = "idempotency-replayed";
    /// In: cursors, comma-separated, that the answer must include.
    pub const AFTER: &str = "whimbrel-after";
    /// Out: a cursor that covers what the answer shows or wrote.
    pub const CURSOR: &str = "whimbrel-cursor";
    /// Out, where [`AFTER`] came in: one cursor that covers [`CURSOR`] and all that came in.
    pub const JOINED: &str = "whimbrel-joined";
    /// Out: the region that answered.
    pub const REGION: &str = "whimbrel-region";
    /// Out: the request's id, 32 hexadecimal digits: the trace id of [`TRACEPARENT`], or one that was
    /// made. Logs and traces of all regions know the request by it.
    pub const REQUEST: &str = "whimbrel-request";
    /// In: the caller's trace, as W3C Trace Context.
    pub const TRACEPARENT: &str = "traceparent";
    /// In: the user for whom the bearer of a `service` token acts.
    pub const ACT_AS: &str = "whimbrel-act-as";
    /// Out, with 429 and 503: whole seconds.
    pub const RETRY_AFTER: &str = "retry-after";
    /// Out, with 429: the size of the window's allowance.
    pub const RATE_LIMIT_LIMIT: &str = "ratelimit-limit";
    /// Out, with 429: what is left of it.
    pub const RATE_LIMIT_REMAINING: &str = "ratelimit-remaining";
    /// Out, with 429: seconds until it is full again.
    pub const RATE_LIMIT_RESET: &str = "ratelimit-reset";
}

/// Default limits that a client can check before it asks. A cluster's config may say otherwise.
pub mod limits {
    /// Text of a message, in bytes of UTF-8.
    pub const TEXT_BYTES_MAX: usize = 16 * 1024;
    /// Title of a conversation, in bytes.
    pub const TITLE_BYTES_MAX: usize = 256;
    /// Emoji of a reaction, in bytes.
    pub const EMOJI_BYTES_MAX: usize = 32;
    /// Name of a user, in bytes.
    pub const USER_BYTES_MAX: usize = 128;
    /// Idempotency key, in bytes of printable ASCII.
    pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 128;
    /// One cursor or token, in bytes.
    pub const CURSOR_BYTES_MAX: usize = 8 * 1024;
    /// All cursors of a request together, in bytes of `Whimbrel-After`: any two fit.
    pub const AFTER_BYTES_MAX: usize = 2 * CURSOR_BYTES_MAX + 1;
    /// Members of a conversation.
    pub const MEMBERS_MAX: usize = 10_000;
    /// Edits of one message.
    pub const EDITS_MAX: usize = 1_000;
    /// Body of a request, in bytes.
    pub const BODY_BYTES_MAX: usize = 64 * 1024;
    /// Items on one page.
    pub const PAGE_ITEMS_MAX: u32 = 200;
    /// Items on a page where the caller names no limit.
    pub const PAGE_ITEMS_DEFAULT: u32 = 50;
    /// The longest that `/v1/sync` waits, in milliseconds.
    pub const SYNC_WAIT_MS_MAX: u64 = 30_000;

    const _: () = assert!(TEXT_BYTES_MAX < BODY_BYTES_MAX);
    const _: () = assert!(PAGE_ITEMS_DEFAULT <= PAGE_ITEMS_MAX);
}

/// The code with which a stream is closed whose reader is too slow. It may be resumed.
pub const CLOSE_SLOW_READER: u16 = 4008;

/// What a conversation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum ConversationKind {
    /// Two users, for good.
    Direct,
    /// Members only.
    Group,
    /// Anyone who is signed in reads and may join.
    Channel,
}

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// All, and names admins and owners.
    Owner,
    /// Moderates, sets title and topic, adds and removes members.
    Admin,
    /// Posts, reacts, edits and redacts their own.
    Member,
}

/// What became of somebody's membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Membership {
    /// Is an owner now.
    Owner,
    /// Is an admin now.
    Admin,
    /// Is a member now.
    Member,
    /// Is gone, by themselves or removed.
    Left,
    /// Is kept out.
    Banned,
}

/// Body of `POST /v1/conversations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(examples(example::create_conversation))
)]
#[serde(deny_unknown_fields)]
pub struct CreateConversation {
    /// Direct takes exactly one other member.
    pub kind: ConversationKind,
    /// First title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<form::Title>))]
    pub title: Option<String>,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<form::Title>))]
    pub topic: Option<String>,
    /// First members, at most 256, besides the creator, who becomes the owner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<form::User>))]
    pub members: Vec<String>,
}

/// Body of `PATCH /v1/conversations/{c}`. What is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(examples(example::change_conversation))
)]
#[serde(deny_unknown_fields)]
pub struct ChangeConversation {
    /// New title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<form::Title>))]
    pub title: Option<String>,
    /// New topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<form::Title>))]
    pub topic: Option<String>,
}

/// Body of `PUT /v1/conversations/{c}/members/{user}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(examples(example::set_member))
)]
#[serde(deny_unknown_fields)]
pub struct SetMember {
    /// The role to give.
    pub role: Role,
}

/// Body of `POST /v1/conversations/{c}/messages`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(examples(example::post_message))
)]
#[serde(deny_unknown_fields)]
pub struct PostMessage {
    /// Its text; empty only with scope `service`.
    #[cfg_attr(feature = "openapi", schema(value_type = form::Text))]
    pub text: String,
    /// Id of the message that this one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<form::MessageId>))]
    pub reply_to: Option<String>,
    /// Original time of an imported message; only with scope `service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub sent_at: Option<String>,
}

/// Body of `PATCH /v1/conversations/{c}/messages/{m}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(examples(example::edit_message))
)]
#[serde(deny_unknown_fields)]
pub struct EditMessage {
    /// The whole new text.
    #[cfg_attr(feature = "openapi", schema(value_type = form::Text))]
    pub text: String,
    /// The `revision` that the writer saw; the edit is made on it and merges.
    #[cfg_attr(feature = "openapi", schema(value_type = form::Revision))]
    pub base: String,
}

/// Body of `PUT /v1/conversations/{c}/read`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(examples(example::mark_read))
)]
#[serde(deny_unknown_fields)]
pub struct MarkRead {
    /// Cursor of an event or a page: all that it covers has been seen.
    #[cfg_attr(feature = "openapi", schema(value_type = form::Cursor))]
    pub cursor: String,
}

/// A conversation as the caller sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(examples(example::conversation))
)]
pub struct Conversation {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = form::ConversationId))]
    pub id: String,
    /// Direct, group or channel.
    pub kind: ConversationKind,
    /// Its title, if it has one.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<form::Title>, required))]
    pub title: Option<String>,
    /// Its topic, if it has one.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<form::Title>, required))]
    pub topic: Option<String>,
    /// When it was made.
    #[cfg_attr(feature = "openapi", schema(value_type = form::Time))]
    pub created_at: String,
    /// Who made it.
    #[cfg_attr(feature = "openapi", schema(value_type = form::User))]
    pub creator: String,
    /// The caller's role; `null` in a channel that they have not joined.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub role: Option<Role>,
    /// Covers the conversation as shown.
    #[cfg_attr(feature = "openapi", schema(value_type = form::Cursor))]
    pub cursor: String,
}

/// Answer of `GET /v1/conversations`, newest activity first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(examples(example::conversation_list))
)]
pub struct ConversationList {
    /// One page of the caller's conversations.
    pub conversations: Vec<ListedConversation>,
    /// Value of `page` for the following page, `null` on the last.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<form::PageToken>, required))]
    pub next: Option<String>,
}

/// A conversation in the caller's list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(examples(example::listed_conversation))
)]
pub struct ListedConversation {
    /// The conversation.
    #[serde(flatten)]
    pub conversation: Conversation,
    /// Its last message, `null` where nothing was posted yet.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub last_message: Option<Message>,
    /// Messages that the caller's read marker does not cover.
    pub unread: u64,
    /// Those among them that mention the caller.
    pub mentions: u64,
}

/// Answer of `GET /v1/conversations/{c}/members`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(examples(example::members))
)]
pub struct Members {
    /// All members.
    pub members: Vec<Member>,
}

/// A member of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(examples(example::member))
)]
pub struct Member {
    /// Who.
    #[cfg_attr(feature = "openapi", schema(value_type = form::User))]
    pub user: String,
    /// What they may do.
    pub role: Role,
    /// Since when.
    #[cfg_attr(feature = "openapi", schema(value_type = form::Time))]
    pub since: String,
}

/// A message as the caller sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(examples(example::message))
)]
pub struct Message {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = form::MessageId))]
    pub id: String,
    /// The conversation that it stands in.
    #[cfg_attr(feature = "openapi", schema(value_type = form::ConversationId))]
    pub conversation: String,
    /// Where it stands there; positions order as their bytes do.
    #[cfg_attr(feature = "openapi", schema(value_type = form::Position))]
    pub position: String,
    /// Who posted it.
    #[cfg_attr(feature = "openapi", schema(value_type = form::User))]
    pub sender: String,
    /// Its text, `null` when redacted.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub text: Option<String>,
    /// The state of its text: `base` of an edit.
    #[cfg_attr(feature = "openapi", schema(value_type = form::Revision))]
    pub revision: String,
    /// It was edited.
    pub edited: bool,
    /// Its text came out of a merge of concurrent edits.
    pub merged: bool,
    /// It was taken away for good.
    pub redacted: bool,
    /// Id of the message that it answers.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<form::MessageId>, required))]
    pub reply_to: Option<String>,
    /// Users whom its text mentions.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<form::User>))]
    pub mentions: Vec<String>,
    /// Emoji to how often it was given.
    pub reactions: BTreeMap<String, Reaction>,
    /// When it was posted, by the clock of its region.
    #[cfg_attr(feature = "openapi", schema(value_type = form::Time))]
    pub created_at: String,
    /// Original time of an imported message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = form::Time, required = false))]
    pub sent_at: Option<String>,
    /// The region that took the post.
    #[cfg_attr(feature = "openapi", schema(value_type = form::RegionName))]
    pub region: String,
}

/// How often an emoji was given to a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(examples(example::reaction))
)]
pub struct Reaction {
    /// By how many users.
    pub count: u64,
    /// By the caller too.
    pub me: bool,
}

/// Answer of `POST /v1/conversations/{c}/messages`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(examples(example::posted_message))
)]
pub struct PostedMessage {
    /// The message.
    #[serde(flatten)]
    pub message: Message,
    /// Regions that have committed it.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<form::RegionName>))]
    pub acked_by: Vec<String>,
}

/// Answer of `GET /v1/conversations/{c}/messages`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(examples(example::message_page))
)]
pub struct MessagePage {
    /// Oldest first.
    pub messages: Vec<Message>,
    /// Position for `before`, `null` where nothing older exists.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<form::Position>, required))]
    pub prev: Option<String>,
    /// Position for `after`, `null` where nothing newer exists.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<form::Position>, required))]
    pub next: Option<String>,
    /// Covers the conversation as it was when the page was read.
    #[cfg_attr(feature = "openapi", schema(value_type = form::Cursor))]
    pub cursor: String,
    /// Unread messages above the page.
    pub unread_older: u64,
}

/// Answer of `GET /v1/conversations/{c}/messages/{m}/history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(examples(example::history))
)]
pub struct History {
    /// All versions, the original first.
    pub versions: Vec<Version>,
    /// The current text came out of a merge.
    pub merged: bool,
}

/// One version of a message's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Version {
    /// Its revision.
    #[cfg_attr(feature = "openapi", schema(value_type = form::Revision))]
    pub revision: String,
    /// The text as its author wrote it.
    pub text: String,
    /// Who wrote it.
    #[cfg_attr(feature = "openapi", schema(value_type = form::User))]
    pub author: String,
    /// When.
    #[cfg_attr(feature = "openapi", schema(value_type = form::Time))]
    pub at: String,
    /// Revisions that it was made on.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<form::Revision>))]
    pub parents: Vec<String>,
}

/// Answer of `PUT /v1/conversations/{c}/read`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(examples(example::read_marked))
)]
pub struct ReadMarked {
    /// What was marked.
    #[cfg_attr(feature = "openapi", schema(value_type = form::Cursor))]
    pub cursor: String,
    /// Messages that are still unread.
    pub unread: u64,
    /// Those among them that mention the caller.
    pub mentions: u64,
}

/// Answer of `GET /v1/conversations/{c}/receipts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(examples(example::receipts))
)]
pub struct Receipts {
    /// One per member who has read something.
    pub receipts: Vec<Receipt>,
}

/// How far somebody has read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(examples(example::receipt))
)]
pub struct Receipt {
    /// Who.
    #[cfg_attr(feature = "openapi", schema(value_type = form::User))]
    pub user: String,
    /// Their read marker.
    #[cfg_attr(feature = "openapi", schema(value_type = form::Cursor))]
    pub cursor: String,
    /// Id of the latest message that the marker covers, `null` where it covers none.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<form::MessageId>, required))]
    pub message: Option<String>,
}

#[cfg(test)]
mod tests;
