//! What goes over the wire: one type per JSON object of the public API.
//!
//! Ids, positions, revisions, cursors and tokens are opaque strings of `[A-Za-z0-9_-]`; times are
//! RFC 3339 in UTC with milliseconds. Requests refuse fields that they don't know; answers ignore
//! them, so that an older client can read a newer node.

mod cluster;
mod event;
mod problem;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use cluster::{DevCluster, DevNode, DevRegion, Digests, RegionInfo, RegionStatus, Regions};
pub use event::{Event, EventKind, Sync};
pub use problem::{FieldError, PROBLEM_JSON, Problem, ProblemCode};

/// Names of HTTP headers, in lower case as HTTP/2 wants them.
pub mod header {
    /// In, on any call that writes: same key and same body give the same ids.
    pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
    /// Out, `true`: the call had been done before, nothing was written now.
    pub const IDEMPOTENCY_REPLAYED: &str = "idempotency-replayed";
    /// In: a cursor that the answer must include.
    pub const AFTER: &str = "whimbrel-after";
    /// Out: a cursor that covers what the answer shows or wrote.
    pub const CURSOR: &str = "whimbrel-cursor";
    /// Out: the region that answered.
    pub const REGION: &str = "whimbrel-region";
    /// In: the user for whom the bearer of a `service` token acts.
    pub const ACT_AS: &str = "whimbrel-act-as";
    /// Out, with 429 and 503: whole seconds.
    pub const RETRY_AFTER: &str = "retry-after";
    /// Out, with 429 and 503: the size of the window's allowance.
    pub const RATE_LIMIT_LIMIT: &str = "ratelimit-limit";
    /// Out, with 429 and 503: what is left of it.
    pub const RATE_LIMIT_REMAINING: &str = "ratelimit-remaining";
    /// Out, with 429 and 503: seconds until it is full again.
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
#[serde(deny_unknown_fields)]
pub struct CreateConversation {
    /// Direct takes exactly one other member.
    pub kind: ConversationKind,
    /// At most [`limits::TITLE_BYTES_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// First members, besides the creator, who becomes the owner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
}

/// Body of `PATCH /v1/conversations/{c}`. What is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeConversation {
    /// New title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// New topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
}

/// Body of `PUT /v1/conversations/{c}/members/{user}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetMember {
    /// The role to give.
    pub role: Role,
}

/// Body of `POST /v1/conversations/{c}/messages`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostMessage {
    /// At most [`limits::TEXT_BYTES_MAX`]; empty only with scope `service`.
    pub text: String,
    /// Id of the message that this one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Original time of an imported message; only with scope `service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<String>,
}

/// Body of `PATCH /v1/conversations/{c}/messages/{m}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EditMessage {
    /// The whole new text.
    pub text: String,
    /// The `revision` that the writer saw; the edit is made on it and merges.
    pub base: String,
}

/// Body of `PUT /v1/conversations/{c}/read`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MarkRead {
    /// Cursor of an event or a page: all that it covers has been seen.
    pub cursor: String,
}

/// A conversation as the caller sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// Its id.
    pub id: String,
    /// Direct, group or channel.
    pub kind: ConversationKind,
    /// Its title, if it has one.
    pub title: Option<String>,
    /// Its topic, if it has one.
    pub topic: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// Who made it.
    pub creator: String,
    /// The caller's role; `null` in a channel that they have not joined.
    pub role: Option<Role>,
    /// Covers the conversation as shown.
    pub cursor: String,
}

/// Answer of `GET /v1/conversations`, newest activity first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationList {
    /// One page of the caller's conversations.
    pub conversations: Vec<ListedConversation>,
    /// Value of `page` for the following page, `null` on the last.
    pub next: Option<String>,
}

/// A conversation in the caller's list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedConversation {
    /// The conversation.
    #[serde(flatten)]
    pub conversation: Conversation,
    /// Its last message, `null` where nothing was posted yet.
    pub last_message: Option<Message>,
    /// Messages that the caller's read marker does not cover.
    pub unread: u64,
    /// Those among them that mention the caller.
    pub mentions: u64,
}

/// Answer of `GET /v1/conversations/{c}/members`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// All members.
    pub members: Vec<Member>,
}

/// A member of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who.
    pub user: String,
    /// What they may do.
    pub role: Role,
    /// Since when.
    pub since: String,
}

/// A message as the caller sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its id.
    pub id: String,
    /// The conversation that it stands in.
    pub conversation: String,
    /// Where it stands there; positions order as their bytes do.
    pub position: String,
    /// Who posted it.
    pub sender: String,
    /// Its text, `null` when redacted.
    pub text: Option<String>,
    /// The state of its text: `base` of an edit.
    pub revision: String,
    /// It was edited.
    pub edited: bool,
    /// Its text came out of a merge of concurrent edits.
    pub merged: bool,
    /// It was taken away for good.
    pub redacted: bool,
    /// Id of the message that it answers.
    pub reply_to: Option<String>,
    /// Users whom its text mentions.
    pub mentions: Vec<String>,
    /// Emoji to how often it was given.
    pub reactions: BTreeMap<String, Reaction>,
    /// When it was posted, by the clock of its region.
    pub created_at: String,
    /// Original time of an imported message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<String>,
    /// The region that took the post.
    pub region: String,
}

/// How often an emoji was given to a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reaction {
    /// By how many users.
    pub count: u64,
    /// By the caller too.
    pub me: bool,
}

/// Answer of `POST /v1/conversations/{c}/messages`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostedMessage {
    /// The message.
    #[serde(flatten)]
    pub message: Message,
    /// Regions that have committed it.
    pub acked_by: Vec<String>,
}

/// Answer of `GET /v1/conversations/{c}/messages`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessagePage {
    /// Oldest first.
    pub messages: Vec<Message>,
    /// Position for `before`, `null` where nothing older exists.
    pub prev: Option<String>,
    /// Position for `after`, `null` where nothing newer exists.
    pub next: Option<String>,
    /// Covers the conversation as it was when the page was read.
    pub cursor: String,
    /// Unread messages above the page.
    pub unread_older: u64,
}

/// Answer of `GET /v1/conversations/{c}/messages/{m}/history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// All versions, the original first.
    pub versions: Vec<Version>,
    /// The current text came out of a merge.
    pub merged: bool,
}

/// One version of a message's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its revision.
    pub revision: String,
    /// The text as its author wrote it.
    pub text: String,
    /// Who wrote it.
    pub author: String,
    /// When.
    pub at: String,
    /// Revisions that it was made on.
    pub parents: Vec<String>,
}

/// Answer of `PUT /v1/conversations/{c}/read`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadMarked {
    /// What was marked.
    pub cursor: String,
    /// Messages that are still unread.
    pub unread: u64,
    /// Those among them that mention the caller.
    pub mentions: u64,
}

/// Answer of `GET /v1/conversations/{c}/receipts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipts {
    /// One per member who has read something.
    pub receipts: Vec<Receipt>,
}

/// How far somebody has read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Who.
    pub user: String,
    /// Their read marker.
    pub cursor: String,
    /// Id of the latest message that the marker covers, `null` where it covers none.
    pub message: Option<String>,
}

#[cfg(test)]
mod tests;
