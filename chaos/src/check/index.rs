//! A history, arranged for the questions that the checks ask.

use std::collections::BTreeMap;

use crate::history::{Answer, Call, History, OpId, Operation, Outcome, Seen, Settled, words};

/// One write: all tries under one key, in order.
#[derive(Debug)]
pub(super) struct Write<'a> {
    tries: Vec<&'a Operation>,
}

impl<'a> Write<'a> {
    pub(super) fn call(&self) -> &'a Call {
        &self.first().call
    }

    pub(super) fn user(&self) -> &'a str {
        &self.first().user
    }

    /// The first try. There is one: a write is made with it.
    pub(super) fn first(&self) -> &'a Operation {
        self.tries[0]
    }

    /// The first try that was acked.
    pub(super) fn acked(&self) -> Option<&'a Operation> {
        self.done().next().map(|(operation, _)| operation)
    }

    /// The tries that were acked, with their answers.
    pub(super) fn done(&self) -> impl Iterator<Item = (&'a Operation, &'a Answer)> {
        self.tries
            .iter()
            .filter_map(|&operation| match &operation.outcome {
                Outcome::Done(answer) => Some((operation, answer)),
                Outcome::Refused(_) | Outcome::Unknown(_) => None,
            })
    }

    /// The tries by which it may have happened.
    pub(super) fn possible(&self) -> impl Iterator<Item = &'a Operation> {
        self.tries
            .iter()
            .copied()
            .filter(|operation| !matches!(operation.outcome, Outcome::Refused(_)))
    }

    /// Whether it may have come from one of these regions.
    pub(super) fn may_be_of(&self, regions: &[String]) -> bool {
        self.possible()
            .any(|operation| regions.contains(&operation.region))
    }

    /// Whether it may have been done twice, in different places.
    pub(super) fn may_have_moved(&self) -> bool {
        self.possible().count() > 1
    }
}

#[derive(Debug)]
pub(super) struct Index<'a> {
    /// By key.
    pub(super) writes: BTreeMap<&'a str, Write<'a>>,
    /// Word to the key of the post or edit that wrote it.
    by_word: BTreeMap<&'a str, &'a str>,
    /// Message to the keys of its redactions.
    redactions: BTreeMap<&'a str, Vec<&'a str>>,
    /// Message to the key of its post.
    posts: BTreeMap<&'a str, &'a str>,
    /// Conversation to position to message, as all regions show it in the end.
    timelines: BTreeMap<&'a str, BTreeMap<&'a str, &'a str>>,
    /// Message to where it stands in the end.
    places: BTreeMap<&'a str, (&'a str, &'a str)>,
    pub(super) sessions: BTreeMap<u32, Vec<&'a Operation>>,
}

impl<'a> Index<'a> {
    pub(super) fn new(history: &'a History, settled: &'a Settled) -> Self {
        let mut this = Self {
            writes: BTreeMap::new(),
            by_word: BTreeMap::new(),
            redactions: BTreeMap::new(),
            posts: BTreeMap::new(),
            timelines: BTreeMap::new(),
            places: BTreeMap::new(),
            sessions: BTreeMap::new(),
        };
        for operation in &history.operations {
            this.add(operation);
        }
        let seen = history.operations.iter().flat_map(shown);
        let settled = settled.regions.values();
        let in_the_end = settled.flat_map(|region| region.conversations.values().flatten());
        for seen in seen.chain(in_the_end.clone()) {
            let first = seen.text.as_deref().and_then(|text| words(text).next());
            if let Some(key) = first.and_then(|word| this.by_word.get(word)) {
                this.posts.entry(&seen.id).or_insert(key);
            }
        }
        // Where regions disagree, which is found elsewhere, the smaller position: what stands above
        // a page's begin there stands above it in all.
        for seen in in_the_end {
            let place = (seen.conversation.as_str(), seen.position.as_str());
            let known = this.places.entry(&seen.id).or_insert(place);
            *known = (*known).min(place);
            let timeline = this.timelines.entry(&seen.conversation).or_default();
            timeline.insert(&seen.position, &seen.id);
        }
        this
    }

    fn add(&mut self, operation: &'a Operation) {
        let session = self.sessions.entry(operation.id.session).or_default();
        session.push(operation);
        let Some(key) = operation.call.key() else {
            return;
        };
        let write = self
            .writes
            .entry(key)
            .or_insert(Write { tries: Vec::new() });
        write.tries.push(operation);
        if let Some(word) = operation.call.word() {
            self.by_word.insert(word, key);
        }
        match &operation.call {
            Call::Redact { message, .. } => {
                self.redactions.entry(message).or_default().push(key);
            }
            Call::Post { .. } => {
                if let Outcome::Done(Answer::Message { seen, .. }) = &operation.outcome {
                    self.posts.insert(&seen.id, key);
                }
            }
            _ => {}
        }
    }

    /// The post or edit that wrote a word.
    pub(super) fn writer(&self, word: &str) -> Option<&Write<'a>> {
        self.writes.get(self.by_word.get(word)?)
    }

    /// The post that made a message.
    pub(super) fn post(&self, message: &str) -> Option<&Write<'a>> {
        self.writes.get(self.posts.get(message)?)
    }

    /// The calls that may have redacted a message.
    pub(super) fn redactions(&self, message: &str) -> impl Iterator<Item = &Write<'a>> {
        let keys = self.redactions.get(message).into_iter().flatten();
        keys.filter_map(|key| self.writes.get(key))
            .filter(|write| write.possible().next().is_some())
    }

    /// The messages of a conversation that have never stood before a position. A message that was
    /// posted in two regions moves to the smaller of its positions, never up.
    pub(super) fn messages_from(
        &self,
        conversation: &str,
        from: &'a str,
    ) -> impl Iterator<Item = &'a str> {
        let timeline = self.timelines.get(conversation).into_iter();
        timeline.flat_map(move |timeline| timeline.range(from..).map(|(_, id)| *id))
    }

    /// Where a message stands in the end: its conversation, and its position there.
    pub(super) fn place(&self, message: &str) -> Option<(&'a str, &'a str)> {
        self.places.get(message).copied()
    }

    pub(super) fn operation(&self, id: OpId) -> Option<&'a Operation> {
        let operations = self.sessions.get(&id.session)?;
        operations.iter().copied().find(|op| op.id == id)
    }
}

/// The messages that an answer shows.
pub(super) fn shown(operation: &Operation) -> impl Iterator<Item = &Seen> {
    let (mut one, mut page, mut told) = (None, None, None);
    if let Outcome::Done(answer) = &operation.outcome {
        match answer {
            Answer::Message { seen, .. } => one = Some(seen),
            Answer::Page(read) => page = Some(&read.messages),
            Answer::Told(all) => told = Some(all),
            Answer::Nothing | Answer::Created(_) => {}
        }
    }
    let told = told.into_iter().flatten().filter_map(|told| told.seen());
    one.into_iter()
        .chain(page.into_iter().flatten())
        .chain(told)
}
