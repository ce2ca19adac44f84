//! Users who write, read and listen in all regions at once, and go from region to region; what
//! they do and see is recorded.
//!
//! A *writer* posts, replies, edits, redacts, reacts, reads pages and marks them as read. It has a
//! client for each region and carries its cursors by hand, so that what is judged is what the
//! regions promise. What is not answered it sends again, under the same key, in the next region. A
//! *listener* follows the stream for a while in one region and then goes on in another, and now and
//! then reads a page with the cursor of what it heard.
//!
//! What they do is drawn from a seed; how it interleaves is not, so that a seed makes a failure
//! likely again, not certain.

mod listener;
mod place;
mod settle;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::task::JoinSet;
use whimbrel_client::api::PostMessage;
use whimbrel_client::{Client, Error};

use crate::history::{Answer, Call, Clock, History, Outcome, Session};
use listener::Listener;
use place::Place;
pub(crate) use place::{outcome_of, shown};
pub use settle::settle;
use writer::Writer;

/// How much load.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What users do is drawn from it.
    pub seed: u64,
    /// Users who write and read.
    pub writers: u32,
    /// Users who listen.
    pub listeners: u32,
    /// After so many things a writer stops by itself. Retries do not count.
    pub acts: u32,
    /// The longest that a user does nothing between two things. Less of it is more load.
    pub pause: Duration,
    /// How many regions commit a post before it counts as acked. Other writes never wait.
    pub regions: u16,
}

impl Plan {
    /// The names of all its users. All of them must be members of all its conversations.
    pub fn users(&self) -> Vec<String> {
        let writers = (0..self.writers).map(|nth| format!("writer{nth}"));
        let listeners = (0..self.listeners).map(|nth| format!("listener{nth}"));
        writers.chain(listeners).collect()
    }
}

/// A user's way to a region: a client that asks only this region, tries a call once, as each try is
/// recorded, and carries no cursors of its own accord.
pub type Way = (String, Client);

/// Users at work.
#[derive(Debug)]
pub struct Load {
    stage: watch::Sender<Stage>,
    writers: JoinSet<Session>,
    listeners: JoinSet<Session>,
    acked: Arc<AtomicUsize>,
    closer: (Session, Vec<Way>),
    clock: Clock,
    next_session: u32,
    conversations: Vec<String>,
}

/// How far a run has come.
#[derive(Clone, Debug)]
enum Stage {
    /// All are at work.
    Running,
    /// Nobody writes any more.
    Written,
    /// These are the last messages: who has heard of them has heard all.
    Last(Arc<[String]>),
}

impl Load {
    /// Starts them, once all listeners listen. `ways` are the ways of a user to all regions; the
    /// conversations are there in all of them.
    pub async fn start(
        plan: &Plan,
        conversations: &[String],
        ways: impl Fn(&str) -> Vec<Way>,
    ) -> Result<Self, Error> {
        let clock = Clock::start();
        let (stage, staged) = watch::channel(Stage::Running);
        let acked = Arc::new(AtomicUsize::new(0));
        let (mut writers, mut listeners) = (JoinSet::new(), JoinSet::new());
        let places = || conversations.iter().map(|id| Place::new(id)).collect();
        let chance = |session: u32| StdRng::seed_from_u64(plan.seed.wrapping_add(session.into()));
        let users = plan.users();
        let (writing, listening) = users.split_at(plan.writers as usize);
        for (id, user) in (plan.writers..).zip(listening) {
            let session = Session::new(id, user, clock);
            let listener = Listener::open(session, chance(id), ways(user), places()).await?;
            listeners.spawn(listener.run(staged.clone()));
        }
        for (id, user) in (0..).zip(writing) {
            let writer = Writer {
                session: Session::new(id, user, clock),
                chance: chance(id),
                ways: ways(user),
                at: id as usize,
                places: places(),
                pause: plan.pause,
                regions: plan.regions,
                acked: Arc::clone(&acked),
            };
            writers.spawn(writer.run(plan.acts, staged.clone()));
        }
        let closer = Session::new(plan.writers + plan.listeners, &writing[0], clock);
        Ok(Self {
            clock,
            next_session: plan.writers + plan.listeners + 1,
            stage,
            writers,
            listeners,
            acked,
            closer: (closer, ways(&writing[0])),
            conversations: conversations.to_vec(),
        })
    }

    /// Writes that were acked until now.
    pub fn acked(&self) -> usize {
        self.acked.load(Ordering::Relaxed)
    }

    /// The clock of the run.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// A session beside those of the load, to be added to its history.
    pub fn session(&mut self, user: &str) -> Session {
        let id = self.next_session;
        self.next_session += 1;
        Session::new(id, user, self.clock)
    }

    /// Lets writers end what they are about.
    pub async fn stop(mut self) -> Written {
        self.stage.send_replace(Stage::Written);
        let mut sessions = Vec::new();
        while let Some(session) = self.writers.join_next().await {
            sessions.push(session.expect("a writer ends by itself"));
        }
        Written {
            load: self,
            sessions,
        }
    }
}

/// All is written; listeners listen on.
#[derive(Debug)]
pub struct Written {
    load: Load,
    sessions: Vec<Session>,
}

impl Written {
    /// Posts a last message in each conversation, and waits until all listeners have heard of it,
    /// or give up. To be called once all regions have converged: what was not heard until then is
    /// a gap.
    pub async fn finish(self) -> Result<History, Error> {
        let Self {
            mut load,
            mut sessions,
        } = self;
        let (mut closer, ways) = load.closer;
        let (region, client) = &ways[0];
        let mut last = Vec::new();
        for (nth, conversation) in load.conversations.iter().enumerate() {
            let key = format!("last{nth}");
            let body = PostMessage {
                text: key.clone(),
                ..PostMessage::default()
            };
            let post = client.post(conversation, &body).key(&key);
            let call = Call::Post {
                key,
                conversation: conversation.clone(),
                text: body.text,
                reply_to: None,
                regions: 1,
            };
            let begun = closer.begin(region, call);
            let posted = post.await?;
            last.push(posted.message.id.clone());
            let answer = Answer::Message {
                seen: shown(&posted.message),
                replayed: posted.replayed,
            };
            closer.end(begun, Outcome::Done(answer));
        }
        load.stage.send_replace(Stage::Last(last.into()));
        while let Some(session) = load.listeners.join_next().await {
            sessions.push(session.expect("a listener ends by itself"));
        }
        sessions.push(closer);
        Ok(History::of(sessions))
    }
}
