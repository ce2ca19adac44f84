//! A small causal store of three regions that keeps all promises, and users who use it: what it
//! gives must never look like a violation.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::history::{
    Answer, Call, History, OpId, Operation, Outcome, Page, RegionState, Seen, Settled, Told, Unread,
};

const REGIONS: [&str; 3] = ["eu", "us", "ap"];
const CONVERSATION: &str = "c";
/// Few, so that some sit on earlier pages.
const PAGE: usize = 8;
const WRITERS: u32 = 4;
const LISTENERS: u32 = 2;

/// How much of each region's log.
type Cursor = [usize; 3];

#[derive(Clone)]
enum Effect {
    Post {
        message: String,
        position: String,
        sender: String,
        word: String,
        reply_to: Option<String>,
    },
    Edit {
        message: String,
        word: String,
    },
    Redact {
        message: String,
    },
    React {
        message: String,
        user: String,
    },
    Mark {
        user: String,
        covers: Cursor,
    },
}

#[derive(Clone)]
struct Entry {
    deps: Cursor,
    effect: Effect,
}

#[derive(Clone, Default)]
struct Region {
    holds: Cursor,
    arrivals: Vec<(usize, usize)>,
}

struct Writer {
    user: String,
    cursor: Cursor,
    page: Option<(OpId, usize, Cursor, Vec<Seen>)>,
}

#[derive(Default)]
struct Listener {
    token: Option<Cursor>,
    posted: BTreeSet<String>,
}

pub(super) struct Model {
    chance: StdRng,
    regions: [Region; 3],
    logs: [Vec<Entry>; 3],
    now_us: u64,
    operations: Vec<Operation>,
    numbers: BTreeMap<u32, u32>,
}

impl Model {
    /// So many steps, and the end.
    pub(super) fn run(seed: u64, steps: usize) -> (History, Settled) {
        let mut model = Self {
            chance: StdRng::seed_from_u64(seed),
            regions: Default::default(),
            logs: Default::default(),
            now_us: 0,
            operations: Vec::new(),
            numbers: BTreeMap::new(),
        };
        let mut writers: Vec<Writer> = (0..WRITERS)
            .map(|session| Writer {
                user: format!("user{session}"),
                cursor: [0; 3],
                page: None,
            })
            .collect();
        let mut listeners: Vec<Listener> = (0..LISTENERS).map(|_| Listener::default()).collect();
        for (session, listener) in (WRITERS..).zip(&mut listeners) {
            model.listen(session, listener, usize::MAX);
        }
        for _ in 0..steps {
            match model.chance.random_range(0..10) {
                0..3 => {
                    let (from, to) = (model.pick(3), model.pick(3));
                    model.pass_on(from, to);
                }
                3 => {
                    let session = model.pick(LISTENERS as usize);
                    // Not always to the end.
                    let most = if model.chance.random_bool(0.5) {
                        5
                    } else {
                        usize::MAX
                    };
                    model.listen(WRITERS + session as u32, &mut listeners[session], most);
                }
                _ => {
                    let session = model.pick(writers.len());
                    model.act(session as u32, &mut writers[session]);
                }
            }
        }
        model.converge();
        for (session, listener) in (WRITERS..).zip(&mut listeners) {
            model.listen(session, listener, usize::MAX);
        }
        let settled = model.settled();
        let mut operations = model.operations;
        operations.sort_by_key(|operation| operation.id);
        (History { operations }, settled)
    }

    fn pick(&mut self, count: usize) -> usize {
        self.chance.random_range(0..count)
    }

    /// Some of what the one holds and the other lacks, after its deps.
    fn pass_on(&mut self, from: usize, to: usize) {
        let most = self.chance.random_range(1..20);
        for _ in 0..most {
            let from = self.regions[from].holds;
            let to = &mut self.regions[to];
            let next = (0..3).find(|&origin| {
                to.holds[origin] < from[origin]
                    && covers(&to.holds, &self.logs[origin][to.holds[origin]].deps)
            });
            let Some(origin) = next else {
                return;
            };
            to.arrivals.push((origin, to.holds[origin]));
            to.holds[origin] += 1;
        }
    }

    fn converge(&mut self) {
        while self
            .regions
            .iter()
            .any(|r| r.holds != self.regions[0].holds)
        {
            for (from, to) in [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)] {
                self.pass_on(from, to);
            }
        }
    }

    fn commit(&mut self, region: usize, effect: Effect) {
        let deps = self.regions[region].holds;
        let at = self.logs[region].len();
        self.logs[region].push(Entry { deps, effect });
        self.regions[region].arrivals.push((region, at));
        self.regions[region].holds[region] += 1;
    }

    /// The messages of a state, oldest first.
    fn view(&self, holds: &Cursor) -> Vec<Seen> {
        let mut messages: BTreeMap<String, Seen> = BTreeMap::new();
        let mut later = Vec::new();
        let mut reacted = BTreeSet::new();
        for (origin, log) in self.logs.iter().enumerate() {
            for entry in &log[..holds[origin]] {
                match &entry.effect {
                    Effect::Post {
                        message,
                        position,
                        sender,
                        word,
                        reply_to,
                    } => {
                        let seen = messages.entry(message.clone()).or_insert_with(|| Seen {
                            id: message.clone(),
                            conversation: CONVERSATION.to_owned(),
                            position: position.clone(),
                            sender: sender.clone(),
                            text: Some(word.clone()),
                            reply_to: reply_to.clone(),
                            reactions: BTreeMap::new(),
                        });
                        seen.position = seen.position.clone().min(position.clone());
                    }
                    effect => later.push(effect),
                }
            }
        }
        let mut words = BTreeSet::new();
        for effect in &later {
            if let Effect::Edit { message, word } = effect
                && words.insert(word)
                && let Some(text) = messages.get_mut(message).and_then(|m| m.text.as_mut())
            {
                text.push(' ');
                text.push_str(word);
            }
        }
        for effect in &later {
            if let Effect::React { message, user } = effect
                && reacted.insert((message, user))
                && let Some(seen) = messages.get_mut(message)
            {
                *seen.reactions.entry("👍".to_owned()).or_default() += 1;
            }
        }
        for effect in &later {
            if let Effect::Redact { message } = effect
                && let Some(seen) = messages.get_mut(message)
            {
                seen.text = None;
                seen.reactions.clear();
            }
        }
        let mut messages: Vec<Seen> = messages.into_values().collect();
        messages.sort_by(|a, b| a.position.cmp(&b.position));
        messages
    }

    fn message(&self, region: usize, id: &str) -> Option<Seen> {
        let view = self.view(&self.regions[region].holds);
        view.into_iter().find(|seen| seen.id == id)
    }

    fn log(
        &mut self,
        session: u32,
        user: &str,
        region: usize,
        call: Call,
        outcome: Outcome,
    ) -> OpId {
        let number = self.numbers.entry(session).or_default();
        let id = OpId {
            session,
            number: *number,
        };
        *number += 1;
        let invoked_us = self.now_us;
        self.now_us += 2;
        self.operations.push(Operation {
            id,
            user: user.to_owned(),
            region: REGIONS[region].to_owned(),
            invoked_us,
            ended_us: invoked_us + 1,
            call,
            outcome,
        });
        id
    }

    /// A user does something, now and then without an answer, and then perhaps again elsewhere.
    fn act(&mut self, session: u32, writer: &mut Writer) {
        let region = self.pick(3);
        let what = self.pick(20);
        if what < 6 || writer.page.is_none() {
            return self.read(session, region, writer);
        }
        if what == 6 {
            return self.mark(session, writer);
        }
        let (.., page) = writer.page.clone().unwrap();
        let own = page
            .iter()
            .rfind(|seen| seen.sender == writer.user && seen.text.is_some());
        let other = (!page.is_empty()).then(|| page[self.pick(page.len())].clone());
        let word = format!("w{}", self.now_us);
        let key = format!("k{}", self.now_us);
        let call = match (what, own, other) {
            (7..10, Some(own), _) => Call::Edit {
                key,
                message: own.id.clone(),
                text: format!("{} {word}", own.text.clone().unwrap()),
            },
            (10, Some(own), _) => Call::Redact {
                key,
                message: own.id.clone(),
            },
            (11, _, Some(other)) => Call::React {
                key,
                message: other.id,
                emoji: "👍".to_owned(),
            },
            (_, _, other) => Call::Post {
                key,
                conversation: CONVERSATION.to_owned(),
                text: word,
                reply_to: other.filter(|_| what < 16).map(|other| other.id),
                regions: 1,
            },
        };
        for region in [region, (region + 1) % 3, region] {
            let answered = self.chance.random_bool(0.7);
            let happens = answered || self.chance.random_bool(0.5);
            let outcome = if happens {
                self.write(region, &writer.user, &call)
            } else {
                Outcome::Unknown("no answer".to_owned())
            };
            let done = answered && matches!(outcome, Outcome::Done(_));
            let refused = answered && !done;
            let outcome = if answered {
                outcome
            } else {
                Outcome::Unknown("no answer".to_owned())
            };
            self.log(session, &writer.user, region, call.clone(), outcome);
            if done {
                join(&mut writer.cursor, &self.regions[region].holds);
            }
            if done || refused || self.chance.random_bool(0.3) {
                return;
            }
        }
    }

    fn write(&mut self, region: usize, user: &str, call: &Call) -> Outcome {
        let refused = Outcome::Refused("not there".to_owned());
        match call {
            Call::Post {
                key,
                text,
                reply_to,
                ..
            } => {
                if let Some(parent) = reply_to
                    && self.message(region, parent).is_none()
                {
                    return refused;
                }
                let message = format!("m-{key}");
                let replayed = self.message(region, &message).is_some();
                if !replayed {
                    let position = format!("{:06}{region}", self.now_us);
                    self.commit(
                        region,
                        Effect::Post {
                            message: message.clone(),
                            position,
                            sender: user.to_owned(),
                            word: text.clone(),
                            reply_to: reply_to.clone(),
                        },
                    );
                }
                let seen = self.message(region, &message).unwrap();
                Outcome::Done(Answer::Message { seen, replayed })
            }
            Call::Edit { message, .. } => {
                let Some(Seen {
                    text: Some(text), ..
                }) = self.message(region, message)
                else {
                    return refused;
                };
                let word = call.word().unwrap().to_owned();
                let replayed = text.contains(&word);
                if !replayed {
                    let message = message.clone();
                    self.commit(region, Effect::Edit { message, word });
                }
                let seen = self.message(region, message).unwrap();
                Outcome::Done(Answer::Message { seen, replayed })
            }
            Call::Redact { message, .. } => {
                if self.message(region, message).is_none() {
                    return refused;
                }
                let message = message.clone();
                self.commit(region, Effect::Redact { message });
                Outcome::Done(Answer::Nothing)
            }
            Call::React { message, .. } => {
                if self
                    .message(region, message)
                    .is_none_or(|m| m.text.is_none())
                {
                    return refused;
                }
                let (message, user) = (message.clone(), user.to_owned());
                self.commit(region, Effect::React { message, user });
                Outcome::Done(Answer::Nothing)
            }
            Call::Create { .. } | Call::Page { .. } | Call::Mark { .. } | Call::Listen => {
                unreachable!("no write of the model")
            }
        }
    }

    fn read(&mut self, session: u32, region: usize, writer: &mut Writer) {
        let holds = self.regions[region].holds;
        let lacks = (0..3).filter(|&origin| holds[origin] < writer.cursor[origin]);
        let stale: Vec<String> = lacks.map(|origin| REGIONS[origin].to_owned()).collect();
        let mut messages = self.view(&holds);
        let complete = messages.len() <= PAGE;
        messages.drain(..messages.len().saturating_sub(PAGE));
        writer.cursor = holds;
        let page = Page {
            messages: messages.clone(),
            complete,
            stale,
        };
        let call = Call::Page {
            conversation: CONVERSATION.to_owned(),
        };
        let outcome = Outcome::Done(Answer::Page(page));
        let id = self.log(session, &writer.user, region, call, outcome);
        writer.page = Some((id, region, holds, messages));
    }

    fn mark(&mut self, session: u32, writer: &Writer) {
        let (read, region, covers, _) = writer.page.clone().unwrap();
        let answered = self.chance.random_bool(0.8);
        if answered || self.chance.random_bool(0.5) {
            let user = writer.user.clone();
            self.commit(region, Effect::Mark { user, covers });
        }
        let call = Call::Mark {
            conversation: CONVERSATION.to_owned(),
            read,
        };
        let outcome = if answered {
            Outcome::Done(Answer::Nothing)
        } else {
            Outcome::Unknown("no answer".to_owned())
        };
        self.log(session, &writer.user, region, call, outcome);
    }

    fn marker(&self, holds: &Cursor, user: &str) -> Cursor {
        let mut marker = [0; 3];
        for (log, held) in self.logs.iter().zip(holds) {
            for entry in &log[..*held] {
                if let Effect::Mark { user: of, covers } = &entry.effect
                    && of == user
                {
                    join(&mut marker, covers);
                }
            }
        }
        marker
    }

    /// So much of what arrived in a region and the token does not cover.
    fn listen(&mut self, session: u32, listener: &mut Listener, most: usize) {
        let region = self.pick(3);
        let Region { holds, arrivals } = self.regions[region].clone();
        let mut told = Vec::new();
        let token = listener.token.get_or_insert(holds);
        if !covers(&holds, token) {
            told.push(Told::Behind);
        }
        let missed: Vec<_> = arrivals
            .into_iter()
            .filter(|(origin, at)| *at >= token[*origin])
            .collect();
        for (origin, at) in missed.into_iter().take(most) {
            token[origin] = at + 1;
            let message = match &self.logs[origin][at].effect {
                Effect::Post { message, .. } => {
                    let seen = self.message(region, message).unwrap();
                    if listener.posted.insert(message.clone()) {
                        told.push(Told::Posted(seen));
                    } else {
                        told.push(Told::Changed(seen));
                    }
                    continue;
                }
                Effect::Mark { user, .. } => {
                    // As far as the reader was told.
                    let marker = self.marker(token, user);
                    let view = self.view(&marker);
                    let last = view.last().map(|last| last.id.clone());
                    told.extend(last.map(|message| Told::Receipt {
                        user: user.clone(),
                        message,
                    }));
                    continue;
                }
                Effect::Edit { message, .. }
                | Effect::Redact { message }
                | Effect::React { message, .. } => message,
            };
            told.push(Told::Changed(self.message(region, message).unwrap()));
        }
        let user = format!("user{session}");
        self.log(
            session,
            &user,
            region,
            Call::Listen,
            Outcome::Done(Answer::Told(told)),
        );
    }

    fn settled(&self) -> Settled {
        let holds = self.regions[0].holds;
        let messages = self.view(&holds);
        let unread = (0..WRITERS).map(|session| {
            let user = format!("user{session}");
            let marker = self.marker(&holds, &user);
            let read: BTreeSet<String> = self.view(&marker).into_iter().map(|m| m.id).collect();
            let count = messages.iter().filter(|seen| {
                seen.sender != user && seen.text.is_some() && !read.contains(&seen.id)
            });
            Unread {
                count: count.count() as u64,
                user,
                conversation: CONVERSATION.to_owned(),
            }
        });
        let edited = messages.iter().filter_map(|seen| {
            let text = seen.text.clone().filter(|text| text.contains(' '))?;
            Some((seen.id.clone(), vec![text]))
        });
        let state = RegionState {
            digest: "the same".to_owned(),
            versions: edited.collect(),
            unread: unread.collect(),
            conversations: BTreeMap::from([(CONVERSATION.to_owned(), messages)]),
        };
        let regions = REGIONS.map(|region| (region.to_owned(), state.clone()));
        Settled {
            regions: regions.into(),
        }
    }
}

fn covers(holds: &Cursor, other: &Cursor) -> bool {
    holds.iter().zip(other).all(|(held, other)| held >= other)
}

fn join(cursor: &mut Cursor, other: &Cursor) {
    for (mine, other) in cursor.iter_mut().zip(other) {
        *mine = (*mine).max(*other);
    }
}
