//! What clients did and saw: the history of a run, for [`check`](crate::check()) to judge.
//!
//! A history is made of *sessions*, each a client that does one thing after another. An
//! [`Operation`] has the time of its invocation and of its end, and one of three outcomes, as in
//! Jepsen's histories: it was done, it was refused and has not happened, or nobody knows
//! (Jepsen's `ok`, `fail`, `info`). A write that is sent again under its key is one operation for
//! each try.
//!
//! A checker can only judge what it can tell apart. So whoever records keeps to three rules:
//!
//! - **Keys are unique** in the whole run, and so is what is written. A post's text is one word
//!   that nobody else writes; an edit puts one such word behind the text that it saw and takes none
//!   away. Each text then names all writes that made it, as the lists do in Elle's append
//!   workloads (Kingsbury and Alvaro, "Elle: Inferring Isolation Anomalies from Experimental
//!   Observations", 2020).
//! - **Pages are the newest ones**, and each carries cursors of all that its session saw or wrote
//!   in the conversation before. What a region could not give of that in time is named in
//!   [`Page::stale`].
//! - **Times are of one clock** for the whole run.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, Write};
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// An operation: its session, and its place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OpId {
    /// The session.
    pub session: u32,
    /// From 0 in each session.
    pub number: u32,
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.session, self.number)
    }
}

/// One call, from when it was sent until its end was known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Which.
    pub id: OpId,
    /// Who called.
    pub user: String,
    /// The region that was asked.
    pub region: String,
    /// Microseconds since the run began.
    pub invoked_us: u64,
    /// The same, of the answer, or of giving up on one.
    pub ended_us: u64,
    /// What was asked.
    pub call: Call,
    /// What came of it.
    pub outcome: Outcome,
}

impl fmt::Display for Operation {
    /// For reports: who, what, where, when, and what came of it; no whole pages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |us: u64| us as f64 / 1e6;
        write!(
            f,
            "[{} {} in {}, {:.3} to {:.3} s: {}, {}]",
            self.id,
            self.user,
            self.region,
            seconds(self.invoked_us),
            seconds(self.ended_us),
            self.call,
            match &self.outcome {
                Outcome::Done(_) => "done",
                Outcome::Refused(why) | Outcome::Unknown(why) => why,
            }
        )
    }
}

/// What was asked. Conversations and messages are named by their ids, writes also by their keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Make a channel.
    Create {
        /// Its idempotency key.
        key: String,
    },
    /// Post a message.
    Post {
        /// Its idempotency key.
        key: String,
        /// Where.
        conversation: String,
        /// One word that nobody else writes.
        text: String,
        /// The message that it answers.
        reply_to: Option<String>,
        /// How many regions commit it before it counts as acked.
        #[serde(default = "alone")]
        regions: u16,
    },
    /// Edit a message.
    Edit {
        /// Its idempotency key.
        key: String,
        /// The message.
        message: String,
        /// The text that was seen, and behind it a word that nobody else writes.
        text: String,
    },
    /// Redact a message.
    Redact {
        /// Its idempotency key.
        key: String,
        /// The message.
        message: String,
    },
    /// React to a message. Nobody takes a reaction back.
    React {
        /// Its idempotency key.
        key: String,
        /// The message.
        message: String,
        /// With what.
        emoji: String,
    },
    /// Read the newest page.
    Page {
        /// Of which conversation.
        conversation: String,
    },
    /// Mark as read what a page covered.
    Mark {
        /// The conversation.
        conversation: String,
        /// The read of that page: an operation of the same session in the same region.
        read: OpId,
    },
    /// Listen to the stream: the first time from now, then after what was heard last.
    Listen,
}

/// A region answers by itself.
const fn alone() -> u16 {
    1
}

impl Call {
    /// The key, where it is a write that has one.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Create { key }
            | Self::Post { key, .. }
            | Self::Edit { key, .. }
            | Self::Redact { key, .. }
            | Self::React { key, .. } => Some(key),
            Self::Page { .. } | Self::Mark { .. } | Self::Listen => None,
        }
    }

    /// The word that the write adds to a text.
    pub fn word(&self) -> Option<&str> {
        match self {
            Self::Post { text, .. } | Self::Edit { text, .. } => words(text).last(),
            _ => None,
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { key } => write!(f, "create {key}"),
            Self::Post {
                text,
                reply_to: None,
                ..
            } => write!(f, "post `{text}`"),
            Self::Post {
                text,
                reply_to: Some(parent),
                ..
            } => write!(f, "post `{text}` in reply to {parent}"),
            Self::Edit { message, text, .. } => write!(f, "edit {message} to `{text}`"),
            Self::Redact { message, .. } => write!(f, "redact {message}"),
            Self::React { message, emoji, .. } => write!(f, "react {emoji} to {message}"),
            Self::Page { conversation } => write!(f, "page of {conversation}"),
            Self::Mark { conversation, read } => write!(f, "mark {conversation} as of {read}"),
            Self::Listen => f.write_str("listen"),
        }
    }
}

/// The words of a text, oldest write first where nothing was merged.
pub fn words(text: &str) -> impl DoubleEndedIterator<Item = &str> {
    text.split_ascii_whitespace()
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A 2xx: it was done.
    Done(Answer),
    /// A 4xx: it was not done, for this reason.
    Refused(String),
    /// No answer, or a 5xx: it may have been done, or may still be.
    Unknown(String),
}

/// What a region answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Nothing to look at.
    Nothing,
    /// The id of a conversation.
    Created(String),
    /// The message that was posted or edited, as it is now.
    Message {
        /// The message.
        seen: Seen,
        /// The region had done the write before, under its key.
        replayed: bool,
    },
    /// A page.
    Page(Page),
    /// What was told, in this order.
    Told(Vec<Told>),
}

/// A message as it was shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Its id.
    pub id: String,
    /// Its conversation.
    pub conversation: String,
    /// Where it stood; positions order as their text does.
    pub position: String,
    /// Who posted it.
    pub sender: String,
    /// `None` when redacted.
    pub text: Option<String>,
    /// The message that it answers.
    pub reply_to: Option<String>,
    /// Emoji to how many users gave it.
    pub reactions: BTreeMap<String, u64>,
}

/// The newest page of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// As they came.
    pub messages: Vec<Seen>,
    /// Nothing older exists.
    pub complete: bool,
    /// Regions that the answer said it lacks something of, which the session had seen or written;
    /// it went on without, and asks for it no more.
    pub stale: Vec<String>,
}

/// Something that a stream told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// A message was posted.
    Posted(Seen),
    /// Its text, its reactions, its position, or that it is gone.
    Changed(Seen),
    /// Somebody has read up to this message.
    Receipt {
        /// Who.
        user: String,
        /// The last message that the marker covers.
        message: String,
    },
    /// The region lacks what the session has heard elsewhere.
    Behind,
    /// The region has forgotten what comes next.
    Gap,
}

impl Told {
    /// The message that it shows.
    pub fn seen(&self) -> Option<&Seen> {
        match self {
            Self::Posted(seen) | Self::Changed(seen) => Some(seen),
            Self::Receipt { .. } | Self::Behind | Self::Gap => None,
        }
    }
}

/// What happened in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Session by session, each in order.
    pub operations: Vec<Operation>,
}

impl History {
    /// Adds what another session did.
    pub fn add(&mut self, session: Session) {
        self.operations.extend(session.operations);
        self.operations.sort_by_key(|operation| operation.id);
    }

    /// Puts sessions together.
    pub fn of(sessions: impl IntoIterator<Item = Session>) -> Self {
        let mut operations: Vec<Operation> =
            sessions.into_iter().flat_map(|s| s.operations).collect();
        operations.sort_by_key(|operation| operation.id);
        Self { operations }
    }

    /// One JSON object for each operation, in order of invocation: to be read by people and tools.
    pub fn write_json_lines(&self, mut to: impl Write) -> io::Result<()> {
        let mut operations: Vec<&Operation> = self.operations.iter().collect();
        operations.sort_by_key(|operation| (operation.invoked_us, operation.id));
        for operation in operations {
            serde_json::to_writer(&mut to, operation)?;
            to.write_all(b"\n")?;
        }
        to.flush()
    }

    /// Reads what [`History::write_json_lines`] wrote.
    pub fn read_json_lines(from: impl BufRead) -> io::Result<Self> {
        let mut operations = from
            .lines()
            .map(|line| Ok(serde_json::from_str(&line?)?))
            .collect::<io::Result<Vec<Operation>>>()?;
        operations.sort_by_key(|operation| operation.id);
        Ok(Self { operations })
    }
}

/// The clock of a run.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
}

impl Clock {
    /// The run begins now.
    pub fn start() -> Self {
        Self {
            began: Instant::now(),
        }
    }

    /// Microseconds since it began.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// Records one session. It belongs to the session, so nobody waits for a lock.
#[derive(Debug)]
pub struct Session {
    id: u32,
    user: String,
    clock: Clock,
    operations: Vec<Operation>,
}

impl Session {
    /// A session of a user; its id is unique in the run.
    pub fn new(id: u32, user: impl Into<String>, clock: Clock) -> Self {
        Self {
            id,
            user: user.into(),
            clock,
            operations: Vec::new(),
        }
    }

    /// Whose it is.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The operation that is recorded next.
    pub fn next_id(&self) -> OpId {
        OpId {
            session: self.id,
            number: u32::try_from(self.operations.len()).unwrap_or(u32::MAX),
        }
    }

    /// A call is sent now. It is recorded once its end is known.
    pub fn begin(&self, region: &str, call: Call) -> Begun {
        Begun {
            region: region.to_owned(),
            invoked_us: self.clock.now_us(),
            call,
        }
    }

    /// Records what came of a call. A session does one thing after another: of what it has begun
    /// it ends each, or forgets it.
    pub fn end(&mut self, begun: Begun, outcome: Outcome) {
        let Begun {
            region,
            invoked_us,
            call,
        } = begun;
        self.operations.push(Operation {
            id: self.next_id(),
            user: self.user.clone(),
            region,
            invoked_us,
            ended_us: self.clock.now_us(),
            call,
            outcome,
        });
    }
}

/// A call that was sent.
#[derive(Debug)]
#[must_use = "it is not recorded yet"]
pub struct Begun {
    region: String,
    invoked_us: u64,
    call: Call,
}

/// What all regions show after the run, once they have converged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// By name.
    pub regions: BTreeMap<String, RegionState>,
}

/// What one region shows in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionState {
    /// Over everything.
    pub digest: String,
    /// All messages of each conversation, in the order in which it pages.
    pub conversations: BTreeMap<String, Vec<Seen>>,
    /// The texts of all versions of each message that was edited and is not redacted.
    pub versions: BTreeMap<String, Vec<String>>,
    /// What is unread.
    pub unread: Vec<Unread>,
}

/// What one user has not read of one conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// The user.
    pub user: String,
    /// The conversation.
    pub conversation: String,
    /// As the region counts.
    pub count: u64,
}
