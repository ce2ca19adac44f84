//! What all regions show in the end: nothing lost, nothing doubled, one order, and all the same.

use std::collections::{BTreeMap, BTreeSet};

use super::index::{Index, Write};
use super::violation::{At, Violation};
use crate::history::{Answer, Call, Operation, RegionState, Seen, Settled, words};

pub(super) fn check(index: &Index<'_>, settled: &Settled, found: &mut Vec<Violation>) {
    for (region, state) in &settled.regions {
        for messages in state.conversations.values() {
            super::shown::whole(index, &At::Region(region.clone()), messages, found);
        }
        let shown = Shown::new(region, state);
        for write in index.writes.values() {
            shown.check(index, write, found);
        }
        shown.reactions(index, found);
    }
    for (key, write) in &index.writes {
        one_answer(key, write, found);
    }
    let mut regions = settled.regions.iter();
    if let Some(one) = regions.next() {
        regions.for_each(|other| compare(one, other, found));
    }
}

/// What one region shows in the end.
struct Shown<'a> {
    region: &'a str,
    state: &'a RegionState,
    by_id: BTreeMap<&'a str, &'a Seen>,
}

impl<'a> Shown<'a> {
    fn new(region: &'a str, state: &'a RegionState) -> Self {
        let messages = state.conversations.values().flatten();
        Self {
            region,
            state,
            by_id: messages.map(|seen| (seen.id.as_str(), seen)).collect(),
        }
    }

    /// Whether what was acked is there.
    fn check(&self, index: &Index<'_>, write: &Write<'_>, found: &mut Vec<Violation>) {
        for (operation, answer) in write.done() {
            let there = match (&operation.call, answer) {
                (Call::Create { .. }, Answer::Created(id)) => {
                    self.state.conversations.contains_key(id)
                }
                (Call::Post { text, .. }, Answer::Message { seen, .. }) => {
                    let shown = self.by_id.get(seen.id.as_str());
                    shown.is_some_and(|shown| self.has_word(index, shown, text))
                }
                (Call::Edit { message, .. }, _) => {
                    let shown = self.by_id.get(message.as_str());
                    let word = operation.call.word().unwrap_or_default();
                    shown.is_some_and(|shown| self.has_word(index, shown, word))
                }
                (Call::Redact { message, .. }, _) => match self.by_id.get(message.as_str()) {
                    Some(Seen { text: Some(_), .. }) => {
                        found.push(Violation::Undead {
                            at: At::Region(self.region.to_owned()),
                            message: message.clone(),
                            redaction: operation.into(),
                        });
                        true
                    }
                    shown => shown.is_some(),
                },
                // Counted together.
                (Call::React { message, .. }, _) => self.by_id.contains_key(message.as_str()),
                _ => true,
            };
            if !there {
                found.push(Violation::Lost {
                    write: operation.into(),
                    region: self.region.to_owned(),
                });
            }
        }
    }

    /// Whether a write is in the text and in a version of it, unless somebody took it away.
    fn has_word(&self, index: &Index<'_>, shown: &Seen, word: &str) -> bool {
        let Some(text) = &shown.text else {
            return index.redactions(&shown.id).next().is_some();
        };
        let has = |text: &str| words(text).any(|found| found == word);
        let versions = self.state.versions.get(&shown.id);
        has(text) && versions.is_none_or(|versions| versions.iter().any(|text| has(text)))
    }

    /// A message has each reaction of each user once: what was acked, and what may have happened.
    fn reactions(&self, index: &Index<'_>, found: &mut Vec<Violation>) {
        let mut acked: BTreeMap<(&str, &str), BTreeMap<&str, &Operation>> = BTreeMap::new();
        let mut possible: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
        for write in index.writes.values() {
            let Call::React { message, emoji, .. } = write.call() else {
                continue;
            };
            let what = (message.as_str(), emoji.as_str());
            if write.possible().next().is_some() {
                possible.entry(what).or_default().insert(write.user());
            }
            if let Some(operation) = write.acked() {
                acked
                    .entry(what)
                    .or_default()
                    .insert(write.user(), operation);
            }
        }
        let shown = self.by_id.values().filter(|seen| seen.text.is_some());
        for (seen, emoji, count) in shown.flat_map(|seen| {
            seen.reactions
                .iter()
                .map(move |(e, count)| (*seen, e, *count))
        }) {
            let most = possible.get(&(seen.id.as_str(), emoji.as_str()));
            if most.map_or(0, BTreeSet::len) < usize::try_from(count).unwrap_or(usize::MAX) {
                found.push(Violation::Phantom {
                    at: At::Region(self.region.to_owned()),
                    what: format!("{count} {emoji} on {}", seen.id),
                });
            }
        }
        for ((message, emoji), users) in acked {
            let count = self.by_id.get(message).and_then(|seen| {
                seen.text.as_ref()?;
                Some(seen.reactions.get(emoji).copied().unwrap_or(0))
            });
            // Of a redacted message they are gone; one that is not there was found already.
            if count.is_some_and(|count| usize::try_from(count).is_ok_and(|c| c < users.len())) {
                found.extend(users.into_values().map(|operation| Violation::Lost {
                    write: operation.into(),
                    region: self.region.to_owned(),
                }));
            }
        }
    }
}

/// One key, one thing: every try that was answered gave the same id.
fn one_answer(key: &str, write: &Write<'_>, found: &mut Vec<Violation>) {
    let id = |answer: &Answer| match answer {
        Answer::Created(id) => Some(id.clone()),
        Answer::Message { seen, .. } => Some(seen.id.clone()),
        Answer::Nothing | Answer::Page(_) | Answer::Told(_) => None,
    };
    let ids: BTreeSet<String> = write.done().filter_map(|(_, answer)| id(answer)).collect();
    let mut ids = ids.into_iter();
    if let (Some(one), Some(other)) = (ids.next(), ids.next()) {
        found.push(Violation::TwoAnswers {
            key: key.to_owned(),
            one,
            other,
        });
    }
}

fn compare(
    (one, left): (&String, &RegionState),
    (other, right): (&String, &RegionState),
    found: &mut Vec<Violation>,
) {
    let before = found.len();
    let mut diverged = |what: String| {
        found.push(Violation::Diverged {
            one: one.clone(),
            other: other.clone(),
            what,
        });
    };
    if !left.conversations.keys().eq(right.conversations.keys()) {
        diverged("which conversations there are".to_owned());
    }
    let mut orders = Vec::new();
    for (conversation, left) in &left.conversations {
        let Some(right) = right.conversations.get(conversation) else {
            continue;
        };
        let place = |seen: &Seen| (seen.position.clone(), seen.id.clone());
        if let Some(at) = first_difference(left, right, place) {
            orders.push(Violation::TwoOrders {
                one: one.clone(),
                other: other.clone(),
                conversation: conversation.clone(),
                message: at.id.clone(),
            });
        } else if let Some(at) = first_difference(left, right, Seen::clone) {
            diverged(format!("what {} is", at.id));
        }
    }
    for (message, left) in &left.versions {
        let right = right.versions.get(message);
        let sorted = |texts: &[String]| texts.iter().cloned().collect::<BTreeSet<String>>();
        if right.is_none_or(|right| sorted(left) != sorted(right)) {
            diverged(format!("the versions of {message}"));
        }
    }
    for left in &left.unread {
        let same = |right: &&crate::history::Unread| {
            right.user == left.user && right.conversation == left.conversation
        };
        if right.unread.iter().find(same).map(|right| right.count) != Some(left.count) {
            diverged(format!(
                "what {} has not read of {}",
                left.user, left.conversation
            ));
        }
    }
    found.append(&mut orders);
    if found.len() == before && left.digest != right.digest {
        found.push(Violation::Diverged {
            one: one.clone(),
            other: other.clone(),
            what: "their digests".to_owned(),
        });
    }
}

/// The first message that the two show differently, or that only one shows.
fn first_difference<'a, K: PartialEq>(
    left: &'a [Seen],
    right: &'a [Seen],
    key: impl Fn(&Seen) -> K,
) -> Option<&'a Seen> {
    let pairs = left.iter().zip(right);
    let differing = pairs.filter(|(one, other)| key(one) != key(other));
    let rest = left.get(right.len()..).or_else(|| right.get(left.len()..));
    differing
        .map(|(one, _)| one)
        .chain(rest.into_iter().flatten())
        .next()
}
