//! Makes changes. What comes out depends on the arguments only: same base, same key, same text,
//! same bytes.

use std::borrow::Cow;

use automerge::transaction::{CommitOptions, Transactable as _};
use automerge::{ActorId, Automerge, Change, ObjId, ObjType, ROOT, ReadDoc as _, TextEncoding};

use super::{ACTOR_BYTES, ENCODER_VERSION, KEY, TextError};
use crate::id::{ChangeHash, HashKind, MessageId, hash};
use crate::limits::{CHANGE_BYTES_MAX, CHANGE_OPS_MAX};

/// Inserted and deleted characters up to which the smallest edit script is looked for: the search
/// takes time that grows with their square.
const DIFF_DISTANCE_MAX: usize = 1024;

/// A document without changes. Positions count code points, in every region.
pub(super) fn empty() -> Automerge {
    Automerge::new_with_encoding(TextEncoding::UnicodeCodePoint)
}

fn actor(kind: HashKind, parts: &[&[u8]]) -> ActorId {
    ActorId::from(&hash(kind, parts).as_bytes()[..ACTOR_BYTES])
}

fn options() -> CommitOptions {
    CommitOptions::default().with_time(0)
}

/// The first change of a message's document.
pub(super) fn genesis(message: &MessageId, original: &str) -> Result<Change, TextError> {
    let mut doc = empty();
    doc.set_actor(actor(
        HashKind::Genesis,
        &[message.as_bytes(), original.as_bytes(), &[ENCODER_VERSION]],
    ));
    let mut tx = doc.transaction();
    let object = tx.put_object(ROOT, KEY, ObjType::Text)?;
    tx.splice_text(&object, 0, 0, original)?;
    tx.commit_with(options());
    doc.get_last_local_change()
        .ok_or(TextError::Malformed("no first change"))
}

/// The text object that everybody shows, of those that concurrent rewrites left.
pub(super) fn object(doc: &Automerge) -> Result<ObjId, TextError> {
    match doc.get(ROOT, KEY)? {
        Some((_, object)) => Ok(object),
        None => Err(TextError::Malformed("no text")),
    }
}

/// The change that turns the text of `at_base`, a document that ends at `base`, into `text`.
pub(super) fn edit(
    at_base: &Automerge,
    message: &MessageId,
    base: &[ChangeHash],
    key: &str,
    text: &str,
) -> Result<Change, TextError> {
    let base: Vec<u8> = base.iter().flat_map(|h| *h.as_bytes()).collect();
    let actor = actor(
        HashKind::Edit,
        &[
            message.as_bytes(),
            key.as_bytes(),
            &base,
            text.as_bytes(),
            &[ENCODER_VERSION],
        ],
    );
    let old = at_base.text(object(at_base)?)?;
    for how in [How::Diff, How::Splice, How::Rewrite] {
        let Some(change) = attempt(at_base, &actor, &old, text, how)? else {
            continue;
        };
        if change.len() <= CHANGE_OPS_MAX && change.raw_bytes().len() <= CHANGE_BYTES_MAX {
            return Ok(change);
        }
    }
    Err(TextError::TooLarge)
}

/// Ways to write an edit, the one that merges best first.
#[derive(Clone, Copy)]
enum How {
    /// The smallest set of insertions and deletions.
    Diff,
    /// All between the first and the last difference is replaced.
    Splice,
    /// A new text object. Concurrent edits of the old one stay in the history, not in the text.
    Rewrite,
}

fn attempt(
    at_base: &Automerge,
    actor: &ActorId,
    old: &str,
    new: &str,
    how: How,
) -> Result<Option<Change>, TextError> {
    let (prefix, old_middle, new_middle) = middle(old, new);
    let (deleted, inserted) = (old_middle.chars().count(), new_middle.chars().count());
    let mut doc = at_base.clone();
    doc.set_actor(actor.clone());
    if old == new {
        doc.empty_commit(options());
        return Ok(doc.get_last_local_change());
    }
    let object = object(&doc)?;
    let mut tx = doc.transaction();
    match how {
        How::Diff => {
            if !is_near(old_middle, new_middle, DIFF_DISTANCE_MAX) {
                return Ok(None);
            }
            tx.update_text(&object, new)?;
        }
        How::Splice => {
            if deleted + inserted > CHANGE_OPS_MAX {
                return Ok(None);
            }
            let at = old[..prefix].chars().count();
            let deleted = isize::try_from(deleted).map_err(|_| TextError::TooLarge)?;
            tx.splice_text(&object, at, deleted, new_middle)?;
        }
        How::Rewrite => {
            let object = tx.put_object(ROOT, KEY, ObjType::Text)?;
            tx.splice_text(&object, 0, 0, new)?;
        }
    }
    tx.commit_with(options());
    Ok(doc.get_last_local_change())
}

/// Length of the common start in bytes, and what lies between it and the common end.
fn middle<'a>(old: &'a str, new: &'a str) -> (usize, &'a str, &'a str) {
    let prefix: usize = old
        .chars()
        .zip(new.chars())
        .take_while(|(a, b)| a == b)
        .map(|(a, _)| a.len_utf8())
        .sum();
    let (old, new) = (&old[prefix..], &new[prefix..]);
    let suffix: usize = old
        .chars()
        .rev()
        .zip(new.chars().rev())
        .take_while(|(a, b)| a == b)
        .map(|(a, _)| a.len_utf8())
        .sum();
    (
        prefix,
        &old[..old.len() - suffix],
        &new[..new.len() - suffix],
    )
}

/// Whether at most `max` insertions and deletions lead from one text to the other.
/// Myers, "An O(ND) difference algorithm and its variations" (1986), the greedy search.
fn is_near(old: &str, new: &str, max: usize) -> bool {
    let old: Cow<'_, [char]> = old.chars().collect();
    let new: Cow<'_, [char]> = new.chars().collect();
    if old.len().abs_diff(new.len()) > max {
        return false;
    }
    let max = max.min(old.len() + new.len());
    // Diagonal k stands at k + max + 1; the value is how far into `old` it reaches.
    let mut reach = vec![0_usize; 2 * max + 3];
    for d in 0..=max {
        for at in (max + 1 - d..=max + 1 + d).step_by(2) {
            let (below, above) = (reach[at - 1], reach[at + 1]);
            let down = at == max + 1 - d || (at != max + 1 + d && below < above);
            let mut x = if down { above } else { below + 1 };
            let Some(mut y) = (x + max + 1).checked_sub(at) else {
                continue;
            };
            while x < old.len() && y < new.len() && old[x] == new[y] {
                x += 1;
                y += 1;
            }
            if x >= old.len() && y >= new.len() {
                return true;
            }
            reach[at] = x;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_insertions_and_deletions() {
        let check = |old, new, distance: usize| {
            assert!(is_near(old, new, distance), "{old} {new} {distance}");
            assert!(
                distance == 0 || !is_near(old, new, distance - 1),
                "{old} {new} {distance}"
            );
        };
        check("", "", 0);
        check("same", "same", 0);
        check("", "abc", 3);
        check("abc", "", 3);
        check("abc", "abd", 2);
        check("kitten", "sitting", 5);
        check("äöü", "aöü", 2);
        check("abcabba", "cbabac", 5);
    }

    #[test]
    fn middle_is_cut_at_characters() {
        assert_eq!(middle("häuser", "hauser"), (1, "ä", "a"));
        assert_eq!(middle("aaa", "aa"), (2, "a", ""));
        assert_eq!(middle("", "x"), (0, "", "x"));
    }
}
