//! A user who writes and reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use whimbrel_client::api::{
    Conversation, ConversationKind, CreateConversation, Message, PostMessage, PostedMessage,
};
use whimbrel_client::{Ack, Answer as Answered, Client};

use super::place::{Place, outcome_of, shown};
use super::{Stage, Way};
use crate::history::{Answer, Call, Outcome, Session};

/// Tries of one write or read; between two of them the user waits a little.
const TRIES_MAX: usize = 12;
const WAIT_MS_MAX: u64 = 200;
/// So often a region is asked for all that is known before one goes on with what it has.
const PATIENCE_MAX: usize = 4;

/// A read is due before more cursors are carried.
const CURSORS_MAX: usize = 4;

/// Edits of a message make its text longer.
const TEXT_BYTES_MAX: usize = 400;

const EMOJI: [&str; 3] = ["👍", "👀", "🐦"];

pub(super) struct Writer {
    pub(super) session: Session,
    pub(super) chance: StdRng,
    pub(super) ways: Vec<Way>,
    /// The region where the user is; wraps around.
    pub(super) at: usize,
    pub(super) places: Vec<Place>,
    pub(super) pause: Duration,
    pub(super) regions: u16,
    pub(super) acked: Arc<AtomicUsize>,
}

impl Writer {
    pub(super) async fn run(mut self, acts: u32, staged: watch::Receiver<Stage>) -> Session {
        for _ in 0..acts {
            if !matches!(*staged.borrow(), Stage::Running) {
                break;
            }
            self.act().await;
            tokio::time::sleep(self.pause.mul_f64(self.chance.random())).await;
        }
        self.session
    }

    async fn act(&mut self) {
        let hops = self.chance.random_bool(0.15);
        if hops {
            self.at += self.chance.random_range(1..self.ways.len());
        }
        let place = self.chance.random_range(0..self.places.len());
        // Mostly one looks first where one has come to.
        if hops && self.chance.random_bool(0.8) {
            return self.read(place).await;
        }
        let here = &self.places[place];
        let own = here
            .messages
            .iter()
            .filter(|message| message.sender == self.session.user())
            .filter(|message| {
                message
                    .text
                    .as_ref()
                    .is_some_and(|t| t.len() < TEXT_BYTES_MAX)
            });
        let own = own
            .collect::<Vec<_>>()
            .choose(&mut self.chance)
            .map(|m| (*m).clone());
        let any = here.messages.choose(&mut self.chance).cloned();
        let must_read = here.read.is_none() || here.cursors.len() > CURSORS_MAX;
        match (self.chance.random_range(0..100), own, any) {
            _ if must_read => self.read(place).await,
            (0..30, ..) => self.post(place, None).await,
            (30..47, _, Some(parent)) => self.post(place, Some(parent.id)).await,
            (47..60, Some(own), _) => self.edit(place, own).await,
            (60..64, Some(own), _) => self.redact(place, own.id).await,
            (64..70, _, Some(any)) => self.react(place, any.id).await,
            (70..76, ..) => self.mark(place).await,
            (76..78, ..) => self.create().await,
            _ => self.read(place).await,
        }
    }

    /// A word or key that nobody else has: the operation that writes it first.
    fn fresh(&self, kind: &str) -> String {
        format!("{kind}{}", self.session.next_id())
    }

    /// Where there is no answer, or the region lacks what is known, the next region is asked; in
    /// the end one goes on with what there is.
    async fn read(&mut self, place: usize) {
        let limit = self.chance.random_range(20..=60);
        let patience = self.chance.random_range(0..PATIENCE_MAX);
        for nth in 0..TRIES_MAX {
            let at = self.at % self.ways.len();
            let (way, knowingly) = (&self.ways[at], nth >= patience);
            let read = self.places[place].read(&mut self.session, at, way, limit, knowingly);
            if read.await {
                return;
            }
            self.go_on().await;
        }
    }

    /// To the next region, after a while.
    async fn go_on(&mut self) {
        let wait = self.chance.random_range(0..WAIT_MS_MAX);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        self.at += 1;
    }

    /// One write, sent until there is an answer, or until the user has had enough. `sends` has a
    /// call for each way.
    async fn write<T: DeserializeOwned + Clone + Send + 'static>(
        &mut self,
        call: Call,
        sends: Vec<whimbrel_client::Call<T>>,
        answer: fn(&Answered<T>) -> Answer,
    ) -> Option<Answered<T>> {
        for _ in 0..TRIES_MAX {
            let at = self.at % self.ways.len();
            let begun = self.session.begin(&self.ways[at].0, call.clone());
            match sends[at].clone().await {
                Ok(answered) => {
                    self.session.end(begun, Outcome::Done(answer(&answered)));
                    self.acked.fetch_add(1, Ordering::Relaxed);
                    return Some(answered);
                }
                Err(error) => {
                    let outcome = outcome_of(&error);
                    let refused = matches!(outcome, Outcome::Refused(_));
                    self.session.end(begun, outcome);
                    if refused || self.chance.random_bool(0.1) {
                        return None;
                    }
                }
            }
            self.go_on().await;
        }
        None
    }

    /// A call for each way.
    fn sends<T>(
        &self,
        send: impl Fn(&Client) -> whimbrel_client::Call<T>,
    ) -> Vec<whimbrel_client::Call<T>> {
        self.ways.iter().map(|(_, client)| send(client)).collect()
    }

    async fn post(&mut self, place: usize, reply_to: Option<String>) {
        let conversation = self.places[place].conversation.clone();
        let key = self.fresh("p");
        let body = PostMessage {
            text: key.clone(),
            reply_to: reply_to.clone(),
            sent_at: None,
        };
        let ack = match self.regions {
            0 | 1 => Ack::Local,
            count => Ack::Regions(count),
        };
        let sends = self.sends(|client| client.post(&conversation, &body).ack(ack).key(&key));
        let call = Call::Post {
            regions: self.regions,
            text: key.clone(),
            key,
            conversation,
            reply_to,
        };
        let answer = |answered: &Answered<PostedMessage>| Answer::Message {
            seen: shown(&answered.message),
            replayed: answered.replayed,
        };
        if let Some(answered) = self.write(call, sends, answer).await {
            self.note(place, answered.cursor, Some(answered.value.message));
        }
    }

    async fn edit(&mut self, place: usize, own: Message) {
        let conversation = &self.places[place].conversation;
        let key = self.fresh("e");
        let text = format!("{} {key}", own.text.unwrap_or_default());
        let sends = self.sends(|client| {
            let edit = client.edit(conversation, &own.id, &text, &own.revision);
            edit.key(&key)
        });
        let call = Call::Edit {
            key,
            message: own.id,
            text,
        };
        let answer = |answered: &Answered<Message>| Answer::Message {
            seen: shown(answered),
            replayed: answered.replayed,
        };
        if let Some(answered) = self.write(call, sends, answer).await {
            self.note(place, answered.cursor, Some(answered.value));
        }
    }

    async fn redact(&mut self, place: usize, message: String) {
        let conversation = &self.places[place].conversation;
        let key = self.fresh("d");
        let sends = self.sends(|client| client.redact(conversation, &message).key(&key));
        let call = Call::Redact {
            key,
            message: message.clone(),
        };
        if let Some(answered) = self.write(call, sends, |_| Answer::Nothing).await {
            let messages = &mut self.places[place].messages;
            messages.retain(|known| known.id != message);
            self.note(place, answered.cursor, None);
        }
    }

    async fn react(&mut self, place: usize, message: String) {
        let emoji = EMOJI[self.chance.random_range(0..EMOJI.len())];
        let conversation = &self.places[place].conversation;
        let key = self.fresh("r");
        let sends = self.sends(|client| client.react(conversation, &message, emoji).key(&key));
        let call = Call::React {
            key,
            message,
            emoji: emoji.to_owned(),
        };
        if let Some(answered) = self.write(call, sends, |_| Answer::Nothing).await {
            self.note(place, answered.cursor, None);
        }
    }

    async fn create(&mut self) {
        let key = self.fresh("c");
        let body = CreateConversation {
            kind: ConversationKind::Channel,
            title: Some(key.clone()),
            topic: None,
            members: Vec::new(),
        };
        let sends = self.sends(|client| client.create(&body).key(&key));
        let answer = |answered: &Answered<Conversation>| Answer::Created(answered.id.clone());
        // Nobody writes there: it needs no place.
        let _ = self.write(Call::Create { key }, sends, answer).await;
    }

    /// Marks as read what the last page covered, in the region that showed it: that region holds
    /// all of it. Sent once: a mark has no key under which another region would know it.
    async fn mark(&mut self, place: usize) {
        let here = &self.places[place];
        let Some(read) = &here.read else {
            return;
        };
        let (region, client) = &self.ways[read.at];
        let call = Call::Mark {
            conversation: here.conversation.clone(),
            read: read.id,
        };
        let sent = client.mark_read(&here.conversation, &read.cursor);
        let begun = self.session.begin(region, call);
        let outcome = match sent.await {
            Ok(_) => Outcome::Done(Answer::Nothing),
            Err(error) => outcome_of(&error),
        };
        self.session.end(begun, outcome);
    }

    fn note(&mut self, place: usize, cursor: Option<String>, message: Option<Message>) {
        let place = &mut self.places[place];
        place.cursors.extend(cursor);
        if let Some(message) = message {
            place.messages.retain(|known| known.id != message.id);
            place.messages.push(message);
        }
    }
}
