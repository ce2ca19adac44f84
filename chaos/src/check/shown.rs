//! What any answer shows: in order, each thing once, and nothing that nobody wrote.

use std::collections::BTreeSet;

use super::index::{Index, shown};
use super::violation::{At, Violation};
use crate::history::{Answer, Call, Operation, Outcome, Seen, words};

/// All answers of a history.
pub(super) fn check(index: &Index<'_>, found: &mut Vec<Violation>) {
    for operation in index.sessions.values().flatten() {
        match &operation.outcome {
            Outcome::Done(Answer::Page(page)) => {
                whole(
                    index,
                    &At::Operation((*operation).into()),
                    &page.messages,
                    found,
                );
            }
            _ => shown(operation).for_each(|seen| {
                phantom(index, &At::Operation((*operation).into()), seen, found);
            }),
        }
        for seen in shown(operation) {
            from_the_future(index, operation, seen, found);
        }
    }
}

/// Messages that stand one behind the other.
pub(super) fn whole(index: &Index<'_>, at: &At, messages: &[Seen], found: &mut Vec<Violation>) {
    let mut known = BTreeSet::new();
    for seen in messages {
        phantom(index, at, seen, found);
        let in_text = seen.text.iter().flat_map(|text| words(text));
        for what in in_text.chain([seen.id.as_str()]) {
            if !known.insert(what) {
                found.push(Violation::Doubled {
                    at: at.clone(),
                    what: what.to_owned(),
                });
            }
        }
    }
    for pair in messages.windows(2) {
        if pair[0].position >= pair[1].position {
            found.push(Violation::OutOfOrder {
                at: at.clone(),
                first: pair[0].id.clone(),
                second: pair[1].id.clone(),
            });
        }
    }
}

/// A message is what somebody posted, and its text what they and those who edited it wrote.
fn phantom(index: &Index<'_>, at: &At, seen: &Seen, found: &mut Vec<Violation>) {
    let mut report = |what: String| {
        found.push(Violation::Phantom {
            at: at.clone(),
            what,
        });
    };
    let Some(text) = &seen.text else {
        if index.redactions(&seen.id).next().is_none() {
            report(format!("the redaction of {}", seen.id));
        }
        return;
    };
    let mut words = words(text);
    let posted = words.next().is_some_and(|first| {
        index.writer(first).is_some_and(|write| {
            matches!(write.call(), Call::Post { conversation, reply_to, .. }
                if *conversation == seen.conversation && *reply_to == seen.reply_to)
                && write.user() == seen.sender
                && write.possible().next().is_some()
        })
    });
    if !posted {
        report(format!("message {} `{text}`", seen.id));
    }
    for word in words {
        let edited = index.writer(word).is_some_and(|write| {
            matches!(write.call(), Call::Edit { message, .. } if *message == seen.id)
                && write.possible().next().is_some()
        });
        if !edited {
            report(format!("`{word}` in message {}", seen.id));
        }
    }
}

/// Nothing is seen before it is sent.
fn from_the_future(
    index: &Index<'_>,
    operation: &Operation,
    seen: &Seen,
    found: &mut Vec<Violation>,
) {
    for word in seen.text.iter().flat_map(|text| words(text)) {
        let writer = index.writer(word);
        if writer.is_some_and(|write| write.first().invoked_us > operation.ended_us) {
            found.push(Violation::Phantom {
                at: At::Operation(operation.into()),
                what: format!("`{word}`, before it was sent,"),
            });
        }
    }
}
