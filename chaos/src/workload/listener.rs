//! A user who listens, now here and now there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use whimbrel_client::Error;
use whimbrel_client::api::{Event, EventKind};

use super::place::{Place, outcome_of, shown};
use super::{Stage, Way};
use crate::history::{Answer, Call, Outcome, Session, Told};

/// How long one listens in one region.
const STAY_MS_MAX: u64 = 1_500;
/// How long one waits for the last messages once all regions have them.
const LAST_MAX: Duration = Duration::from_secs(30);
/// Between two tries to connect, so that nobody spins where all regions are down.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Listener {
    session: Session,
    chance: StdRng,
    ways: Vec<Way>,
    places: Vec<Place>,
    token: String,
    heard: BTreeSet<String>,
}

impl Listener {
    /// Listens from now.
    pub(super) async fn open(
        mut session: Session,
        chance: StdRng,
        ways: Vec<Way>,
        places: Vec<Place>,
    ) -> Result<Self, Error> {
        let (region, client) = &ways[0];
        let begun = session.begin(region, Call::Listen);
        let token = client.sync(None).await?.value.token;
        session.end(begun, Outcome::Done(Answer::Told(Vec::new())));
        Ok(Self {
            session,
            chance,
            ways,
            places,
            token,
            heard: BTreeSet::new(),
        })
    }

    pub(super) async fn run(mut self, mut staged: watch::Receiver<Stage>) -> Session {
        let last = loop {
            if let Stage::Last(last) = &*staged.borrow_and_update() {
                break last.clone();
            }
            let stay = Duration::from_millis(self.chance.random_range(0..STAY_MS_MAX));
            tokio::select! {
                () = self.listen(&[], Instant::now() + stay) => {}
                // Seen at the next turn.
                Ok(()) = staged.changed() => continue,
            }
            if self.chance.random_bool(0.5) {
                self.read().await;
            }
        };
        let deadline = Instant::now() + LAST_MAX;
        while !self.has_heard(&last) && Instant::now() < deadline {
            self.listen(&last, deadline).await;
        }
        self.session
    }

    /// In some region until then, or until all of `last` was heard.
    async fn listen(&mut self, last: &[String], until: Instant) {
        let at = self.chance.random_range(0..self.ways.len());
        let (region, client) = &self.ways[at];
        let begun = self.session.begin(region, Call::Listen);
        let mut stream = match client.stream(Some(&self.token)).await {
            Ok(stream) => stream,
            Err(error) => {
                self.session.end(begun, outcome_of(&error));
                tokio::time::sleep(PAUSE).await;
                return;
            }
        };
        let mut told = Vec::new();
        let mut heard = BTreeMap::new();
        // Only what is recorded counts as heard: this may be dropped half-way, and then the stream
        // is taken up where it was before.
        let mut posted = BTreeSet::new();
        let all = |posted: &BTreeSet<String>| {
            last.iter()
                .all(|id| posted.contains(id) || self.heard.contains(id))
        };
        while last.is_empty() || !all(&posted) {
            let Ok(Ok(event)) = timeout_at(until, stream.next()).await else {
                break;
            };
            if let EventKind::MessagePosted { message } = &event.kind {
                posted.insert(message.id.clone());
            }
            // Of a receipt it would be the reader's marker.
            if event.kind.message().is_some()
                && let (Some(conversation), Some(cursor)) = (&event.conversation, &event.cursor)
            {
                heard.insert(conversation.clone(), cursor.clone());
            }
            told.extend(noted(&event));
        }
        self.heard.append(&mut posted);
        self.token = stream.token().to_owned();
        self.session.end(begun, Outcome::Done(Answer::Told(told)));
        for place in &mut self.places {
            let heard = heard.remove(&place.conversation);
            place.heard = heard.or(place.heard.take());
        }
    }

    fn has_heard(&self, last: &[String]) -> bool {
        last.iter().all(|id| self.heard.contains(id))
    }

    /// What one has heard in one region one reads in any other.
    async fn read(&mut self) {
        let place = self.chance.random_range(0..self.places.len());
        let at = self.chance.random_range(0..self.ways.len());
        let (way, limit) = (&self.ways[at], 50);
        let read = self.places[place].read(&mut self.session, at, way, limit, true);
        read.await;
    }
}

/// An event as it is recorded.
fn noted(event: &Event) -> Option<Told> {
    Some(match &event.kind {
        EventKind::MessagePosted { message } => Told::Posted(shown(message)),
        EventKind::MessageEdited { message }
        | EventKind::MessageRedacted { message }
        | EventKind::MessageReacted { message }
        | EventKind::MessageMoved { message } => Told::Changed(shown(message)),
        EventKind::Receipt { user, message } => Told::Receipt {
            user: user.clone(),
            message: message.clone()?,
        },
        EventKind::Behind { .. } => Told::Behind,
        EventKind::Gap => Told::Gap,
        _ => return None,
    })
}
