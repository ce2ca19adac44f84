//! Things that can go wrong in a run, each of which is surely a violation.

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedMutRandom as _, IndexedRandom as _};

use crate::history::{Answer, Call, History, OpId, Outcome, Page, Seen, Settled, Told};

pub(super) struct Mutation {
    pub(super) name: &'static str,
    /// False where the run has nothing of the kind.
    pub(super) make: fn(&mut History, &mut Settled, &mut StdRng) -> bool,
    pub(super) found_as: &'static [&'static str],
}

pub(super) const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "a region loses an acked message",
        make: |history, settled, chance| {
            let acked = pick(chance, acked_posts(history));
            acked.is_some_and(|id| remove(messages(settled, chance), &id))
        },
        found_as: &["G1"],
    },
    Mutation {
        name: "all regions lose an acked message",
        make: |history, settled, chance| {
            let Some(id) = pick(chance, acked_posts(history)) else {
                return false;
            };
            let states = settled.regions.values_mut();
            states
                .flat_map(|state| state.conversations.values_mut())
                .for_each(|messages| messages.retain(|seen| seen.id != id));
            true
        },
        found_as: &["G1"],
    },
    Mutation {
        name: "all regions lose an edit",
        make: |history, settled, chance| {
            let edits = history.operations.iter().filter_map(|op| {
                let done = matches!(op.outcome, Outcome::Done(_));
                let word = op.call.word().filter(|_| done)?;
                matches!(op.call, Call::Edit { .. }).then(|| format!(" {word}"))
            });
            let Some(word) = pick(chance, edits.collect()) else {
                return false;
            };
            let mut changed = false;
            for state in settled.regions.values_mut() {
                for text in state.conversations.values_mut().flatten() {
                    if let Some(text) = &mut text.text {
                        changed |= text.contains(&word);
                        *text = text.replace(&word, "");
                    }
                }
            }
            changed
        },
        found_as: &["G1"],
    },
    Mutation {
        name: "a message is there twice",
        make: |_, settled, chance| {
            let messages = messages(settled, chance);
            let Some(mut again) = messages.choose(chance).cloned() else {
                return false;
            };
            again.id.push_str("-again");
            again.position = messages.last().unwrap().position.clone() + "1";
            messages.push(again);
            true
        },
        found_as: &["G7", "G11"],
    },
    Mutation {
        name: "a text that nobody wrote",
        make: |_, settled, chance| {
            let seen = messages(settled, chance).choose_mut(chance);
            let text = seen.and_then(|seen| seen.text.as_mut());
            text.map(|text| text.push('!')).is_some()
        },
        found_as: &["G7"],
    },
    Mutation {
        name: "two messages change places",
        make: |_, settled, chance| {
            let messages = messages(settled, chance);
            if messages.len() < 2 {
                return false;
            }
            let at = chance.random_range(1..messages.len());
            messages.swap(at - 1, at);
            true
        },
        found_as: &["G11"],
    },
    Mutation {
        name: "positions differ between regions",
        make: |_, settled, chance| {
            let last = messages(settled, chance).last_mut();
            last.map(|last| last.position.push('0')).is_some()
        },
        found_as: &["G11"],
    },
    Mutation {
        name: "one region counts other unread messages",
        make: |_, settled, chance| {
            let state = settled.regions.values_mut().next().unwrap();
            let unread = state.unread.choose_mut(chance);
            unread.map(|unread| unread.count += 1).is_some()
        },
        found_as: &["G4"],
    },
    Mutation {
        name: "everything is unread again",
        make: |history, settled, _| {
            let reads = history.operations.iter().filter(|op| {
                matches!(op.call, Call::Mark { .. }) && matches!(op.outcome, Outcome::Done(_))
            });
            let marked: Vec<String> = reads.map(|op| op.user.clone()).collect();
            let mut changed = false;
            for state in settled.regions.values_mut() {
                for unread in &mut state.unread {
                    let messages = &state.conversations[&unread.conversation];
                    let all = messages
                        .iter()
                        .filter(|seen| seen.sender != unread.user && seen.text.is_some())
                        .count() as u64;
                    if marked.contains(&unread.user) && unread.count < all {
                        unread.count = all + 1;
                        changed = true;
                    }
                }
            }
            changed
        },
        found_as: &["G6"],
    },
    Mutation {
        name: "a redacted text is back",
        make: |_, settled, _| {
            let mut changed = false;
            for state in settled.regions.values_mut() {
                let mut gone = state.conversations.values_mut().flatten();
                if let Some(seen) = gone.find(|seen| seen.text.is_none()) {
                    seen.text = Some("back".to_owned());
                    changed = true;
                }
            }
            changed
        },
        found_as: &["G13", "G7"],
    },
    Mutation {
        name: "a page lacks what its session saw before",
        make: |history, _, chance| {
            let mut candidates = Vec::new();
            for (i, op) in history.operations.iter().enumerate() {
                let Some(page) = page(&op.outcome).filter(|page| page.stale.is_empty()) else {
                    continue;
                };
                let earlier = history.operations[..i]
                    .iter()
                    .rfind(|other| other.id.session == op.id.session && page_of(other).is_some());
                let Some(earlier) = earlier.and_then(page_of) else {
                    continue;
                };
                // Not the first: a page without it might be one that begins later.
                for seen in page.messages.iter().skip(1) {
                    if earlier.messages.iter().any(|other| other.id == seen.id) {
                        candidates.push((op.id, seen.id.clone()));
                    }
                }
            }
            let Some((at, id)) = pick(chance, candidates) else {
                return false;
            };
            remove(&mut page_mut(history, at).messages, &id)
        },
        found_as: &["G9"],
    },
    Mutation {
        name: "a page goes back to the one before",
        make: |history, settled, chance| {
            // What moved up later may stand before the page that lacks it.
            let stays = |seen: &Seen| {
                let mut regions = settled.regions.values();
                regions.all(|state| {
                    let mut shown = state.conversations.values().flatten();
                    shown.any(|m| m.id == seen.id && m.position == seen.position)
                })
            };
            let mut candidates = Vec::new();
            for pair in history.operations.windows(2) {
                let (Some(one), Some(other)) = (page(&pair[0].outcome), page(&pair[1].outcome))
                else {
                    continue;
                };
                // What the page between showed is not on it: something new, at its end.
                let newer = one.messages.last().map(|seen| &seen.position);
                let last = other.messages.last();
                if pair[0].id.session == pair[1].id.session
                    && last.is_some_and(|last| newer < Some(&last.position) && stays(last))
                {
                    candidates.push((pair[1].id, one.clone()));
                }
            }
            let Some((at, old)) = pick(chance, candidates) else {
                return false;
            };
            // Read once more, by an operation that follows.
            let mut again = history
                .operations
                .iter()
                .find(|op| op.id == at)
                .unwrap()
                .clone();
            again.id.number += 1;
            again.outcome = Outcome::Done(Answer::Page(Page {
                stale: Vec::new(),
                ..old
            }));
            let rest = history.operations.iter_mut();
            rest.filter(|op| op.id.session == at.session && op.id.number > at.number)
                .for_each(|op| op.id.number += 1);
            let marks = history.operations.iter_mut();
            for op in marks {
                if let Call::Mark { read, .. } = &mut op.call
                    && read.session == at.session
                    && read.number > at.number
                {
                    read.number += 1;
                }
            }
            history.operations.push(again);
            history.operations.sort_by_key(|op| op.id);
            true
        },
        found_as: &["G9"],
    },
    Mutation {
        name: "a reply shows without what it answers",
        make: |history, _, chance| {
            let mut candidates = Vec::new();
            for op in &history.operations {
                let messages = page_of(op).map_or(&[][..], |page| &page.messages);
                for seen in messages {
                    let parent = seen.reply_to.clone();
                    if let Some(parent) =
                        parent.filter(|p| messages.iter().skip(1).any(|other| other.id == *p))
                    {
                        candidates.push((op.id, parent));
                    }
                }
            }
            let Some((at, parent)) = pick(chance, candidates) else {
                return false;
            };
            remove(&mut page_mut(history, at).messages, &parent)
        },
        found_as: &["G10"],
    },
    Mutation {
        name: "a stream forgets a message",
        make: |history, _, chance| {
            let Some((at, nth)) = pick(chance, told_posts(history)) else {
                return false;
            };
            told_mut(history, at).remove(nth);
            true
        },
        found_as: &["G8"],
    },
    Mutation {
        name: "a stream repeats itself",
        make: |history, _, chance| {
            let Some((at, nth)) = pick(chance, told_posts(history)) else {
                return false;
            };
            let told = told_mut(history, at);
            let again = told[nth].clone();
            let behind = chance.random_range(nth + 1..=told.len());
            told.insert(behind, again);
            true
        },
        found_as: &["G8"],
    },
    Mutation {
        name: "a stream tells of a reply too early",
        make: |history, _, chance| {
            let mut candidates = Vec::new();
            for op in &history.operations {
                let Outcome::Done(Answer::Told(told)) = &op.outcome else {
                    continue;
                };
                let posted = |id: &str| {
                    told.iter()
                        .position(|told| matches!(told, Told::Posted(seen) if seen.id == id))
                };
                for seen in told.iter().filter_map(|told| told.seen()) {
                    let parent = seen.reply_to.as_deref().and_then(posted);
                    if let (Some(parent), Some(reply)) = (parent, posted(&seen.id)) {
                        candidates.push((op.id, parent, reply));
                    }
                }
            }
            let Some((at, parent, reply)) = pick(chance, candidates) else {
                return false;
            };
            told_mut(history, at).swap(parent, reply);
            true
        },
        found_as: &["G10"],
    },
    Mutation {
        name: "one key gives two messages",
        make: |history, _, chance| {
            let done = history
                .operations
                .iter()
                .filter(|op| matches!(op.outcome, Outcome::Done(Answer::Message { .. })));
            let Some(mut again) = pick(chance, done.cloned().collect()) else {
                return false;
            };
            let of_session = history
                .operations
                .iter()
                .filter(|op| op.id.session == again.id.session);
            again.id.number = of_session.count() as u32;
            if let Outcome::Done(Answer::Message { seen, .. }) = &mut again.outcome {
                seen.id.push_str("-other");
            }
            history.operations.push(again);
            history.operations.sort_by_key(|op| op.id);
            true
        },
        found_as: &["G7"],
    },
];

fn pick<T>(chance: &mut StdRng, mut candidates: Vec<T>) -> Option<T> {
    if candidates.is_empty() {
        return None;
    }
    let at = chance.random_range(0..candidates.len());
    Some(candidates.swap_remove(at))
}

/// Of a region by chance.
fn messages<'a>(settled: &'a mut Settled, chance: &mut StdRng) -> &'a mut Vec<Seen> {
    let nth = chance.random_range(0..settled.regions.len());
    let state = settled.regions.values_mut().nth(nth).unwrap();
    state.conversations.values_mut().next().unwrap()
}

fn acked_posts(history: &History) -> Vec<String> {
    let done = history
        .operations
        .iter()
        .filter_map(|op| match (&op.call, &op.outcome) {
            (Call::Post { .. }, Outcome::Done(Answer::Message { seen, .. })) => {
                Some(seen.id.clone())
            }
            _ => None,
        });
    done.collect()
}

fn remove(messages: &mut Vec<Seen>, id: &str) -> bool {
    let before = messages.len();
    messages.retain(|seen| seen.id != id);
    messages.len() < before
}

fn page(outcome: &Outcome) -> Option<&Page> {
    match outcome {
        Outcome::Done(Answer::Page(page)) => Some(page),
        _ => None,
    }
}

fn page_of(operation: &crate::history::Operation) -> Option<&Page> {
    page(&operation.outcome)
}

fn page_mut(history: &mut History, at: OpId) -> &mut Page {
    match history.operations.iter_mut().find(|op| op.id == at) {
        Some(crate::history::Operation {
            outcome: Outcome::Done(Answer::Page(page)),
            ..
        }) => page,
        _ => panic!("{at} is a page"),
    }
}

/// Where streams tell that something was posted.
fn told_posts(history: &History) -> Vec<(OpId, usize)> {
    let mut all = Vec::new();
    for op in &history.operations {
        if let Outcome::Done(Answer::Told(told)) = &op.outcome {
            let posted = told.iter().enumerate();
            let posted = posted.filter(|(_, told)| matches!(told, Told::Posted(_)));
            all.extend(posted.map(|(nth, _)| (op.id, nth)));
        }
    }
    all
}

fn told_mut(history: &mut History, at: OpId) -> &mut Vec<Told> {
    match history.operations.iter_mut().find(|op| op.id == at) {
        Some(crate::history::Operation {
            outcome: Outcome::Done(Answer::Told(told)),
            ..
        }) => told,
        _ => panic!("{at} listens"),
    }
}
