use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::id::{ChangeHash, MessageId};
use crate::limits::*;

const MESSAGE: MessageId = MessageId::from_bytes([7; 16]);

fn base(document: &Document) -> RevisionRef {
    (&document.revision()).into()
}

fn original() -> RevisionRef {
    RevisionRef::default()
}

/// Changes of one message: each is made on a state that some earlier subset of them led to.
#[derive(Debug, Clone)]
struct Step {
    seen: usize,
    text: String,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let text = prop_oneof![
        "[abc ]{0,12}",
        "the (quick|slow|qüick) (brown|red) (fox|fowl|🦊)",
        "\\PC{0,8}",
    ];
    let step = (0..64_usize, text).prop_map(|(seen, text)| Step { seen, text });
    prop::collection::vec(step, 1..10)
}

fn changes_of(steps: &[Step]) -> Vec<bytes::Bytes> {
    let mut changes: Vec<bytes::Bytes> = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        let mut replica = Document::new(&MESSAGE, "the quick brown fox");
        for (j, change) in changes.iter().enumerate() {
            if step.seen >> (j % 6) & 1 == 1 {
                replica.apply(change).unwrap();
            }
        }
        let base = base(&replica);
        changes.push(replica.edit(&base, &i.to_string(), &step.text).unwrap().1);
    }
    changes
}

type View = (String, Revision, Vec<Version>, Vec<ChangeHash>);

fn view(changes: &[bytes::Bytes]) -> View {
    let mut document = Document::new(&MESSAGE, "the quick brown fox");
    for change in changes {
        document.apply(change).unwrap();
    }
    (
        document.text(),
        document.revision(),
        document.versions(),
        document.missing(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn order_and_repetition_change_nothing(
        steps in steps(),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
        keep in any::<u16>(),
    ) {
        let changes = changes_of(&steps);
        let kept: Vec<_> = changes
            .iter()
            .enumerate()
            .filter(|(i, _)| keep >> i & 1 == 1)
            .map(|(_, change)| change.clone())
            .collect();
        for set in [changes, kept] {
            let expected = view(&set);
            let mut shuffled: Vec<_> = if set.is_empty() {
                Vec::new()
            } else {
                order.iter().map(|i| i.get(&set).clone()).collect()
            };
            shuffled.extend(set.iter().rev().cloned());
            prop_assert_eq!(view(&shuffled), expected);
        }
    }

    #[test]
    fn the_same_edit_is_the_same_change_everywhere(steps in steps(), text in "\\PC{0,20}") {
        let changes = changes_of(&steps);
        let mut poor = Document::new(&MESSAGE, "the quick brown fox");
        let mut rich = Document::new(&MESSAGE, "the quick brown fox");
        for (i, change) in changes.iter().enumerate().rev() {
            if i < changes.len() / 2 {
                poor.apply(change).unwrap();
            }
            rich.apply(change).unwrap();
        }
        let base = base(&poor);
        let first = poor.edit(&base, "k", &text).unwrap();
        prop_assert_eq!(&rich.edit(&base, "k", &text).unwrap(), &first);
        prop_assert_eq!(&poor.edit(&base, "k", &text).unwrap(), &first);
        prop_assert_ne!(&poor.edit(&base, "l", &text).unwrap().0, &first.0);
        let versions = rich.versions();
        let made = versions.iter().find(|v| v.change == Some(first.0)).unwrap();
        prop_assert_eq!(&made.text, &text);
    }

    #[test]
    fn versions_come_after_their_parents(steps in steps()) {
        let (_, _, versions, missing) = view(&changes_of(&steps));
        prop_assert!(missing.is_empty());
        prop_assert_eq!(versions[0].revision.to_string(), "original");
        let mut seen = std::collections::BTreeSet::new();
        for version in versions {
            prop_assert!(version.parents.heads().iter().all(|h| seen.contains(h)));
            seen.extend(version.change);
        }
    }

    #[test]
    fn altered_changes_are_refused_without_panic(
        steps in steps(),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let changes = changes_of(&steps);
        for (i, change) in changes.iter().enumerate() {
            let mut document = Document::new(&MESSAGE, "the quick brown fox");
            for earlier in &changes[..i] {
                document.apply(earlier).unwrap();
            }
            let before = document.text();
            prop_assert!(document.apply(&change[..cut.index(change.len())]).is_err());
            let mut altered = change.to_vec();
            let at = at.index(altered.len());
            altered[at] ^= value;
            if altered != change.as_ref() {
                prop_assert!(document.apply(&altered).is_err());
            }
            prop_assert_eq!(document.text(), before);
            // With a right checksum it may happen to be a change, but never a panic.
            let _ = document.apply(&sealed(&altered));
            document.versions();
        }
    }

    #[test]
    fn revision_refs_have_one_spelling(text in "[a-v0-9A-Z_-]{0,40}") {
        if let Ok(parsed) = text.parse::<RevisionRef>() {
            prop_assert!(text == "original" || text.len() == 13 * parsed.heads().len());
            prop_assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
        }
    }
}

#[test]
fn hashes_are_the_same_in_every_version_of_this_program() {
    let mut document = Document::new(&MESSAGE, "hello wörld");
    let (first, bytes) = document.edit(&original(), "key", "hello, world").unwrap();
    let heads = document.versions();
    assert_eq!(heads.len(), 2);
    assert_eq!(document.genesis().to_string(), GENESIS);
    assert_eq!(first.to_string(), EDIT);
    assert_eq!(blake3::hash(&bytes).to_hex().as_str(), EDIT_BYTES);
}

const GENESIS: &str = "2nuroh3gdhu8khdcn4u0m9hlqi2b1d6287bdbg20s18lch7olj8g";
const EDIT: &str = "gvmcu848q127olv6f17m6m5otpntegrkelldd37gh6sjnmanj2i0";
const EDIT_BYTES: &str = "8b531d3e3a96c5a9c5f3f75ff4d390efb346e4becd4ec495193c940573a5f5b9";

#[test]
fn concurrent_edits_merge_and_the_author_settles_it() {
    let mut eu = Document::new(&MESSAGE, "meet at noon");
    let mut us = Document::new(&MESSAGE, "meet at noon");
    let (_, a) = eu
        .edit(&original(), "a", "meet at noon, in the park")
        .unwrap();
    let (_, b) = us.edit(&original(), "b", "let us meet at noon").unwrap();
    eu.apply(&b).unwrap();
    us.apply(&a).unwrap();
    assert_eq!(eu.text(), "let us meet at noon, in the park");
    assert_eq!(eu.text(), us.text());
    assert!(eu.revision().is_merged());
    let merged: RevisionRef = eu.revision().to_string().parse().unwrap();
    assert!(merged.names(&us.revision()));

    // Saying the merged text again settles it, with an empty change.
    let text = eu.text();
    let (hash, bytes) = eu.edit(&merged, "c", &text).unwrap();
    assert_eq!(us.apply(&bytes), Ok(hash));
    assert_eq!(us.revision(), Revision::new(vec![hash]));
    assert!(!us.revision().is_merged());
    assert_eq!(us.text(), text);
    assert_eq!(us.versions().last().unwrap().parents.heads().len(), 2);
    assert_eq!(us.edit(&merged, "c", &text).unwrap().0, hash);
}

#[test]
fn an_unknown_base_is_told_from_a_malformed_one() {
    let mut here = Document::new(&MESSAGE, "a");
    let mut there = Document::new(&MESSAGE, "a");
    there.edit(&original(), "k", "b").unwrap();
    let base = base(&there);
    assert!(!here.knows(&base));
    assert_eq!(here.edit(&base, "k", "c"), Err(TextError::UnknownBase));
    for bad in [
        "",
        "Original",
        "original0",
        "00000000000",
        "zzzzzzzzzzzzz",
        "é",
        "../../../../.",
        &"0".repeat(26),
        &"0".repeat(13 * 1001),
    ] {
        assert!(bad.parse::<RevisionRef>().is_err(), "{bad}");
    }
    assert_eq!("original".parse(), Ok(original()));
}

#[test]
fn a_change_waits_for_its_deps() {
    let mut there = Document::new(&MESSAGE, "a");
    let (first, a) = there.edit(&original(), "1", "ab").unwrap();
    let next = base(&there);
    let (second, b) = there.edit(&next, "2", "abc").unwrap();
    let mut here = Document::new(&MESSAGE, "a");
    assert_eq!(here.apply(&b), Ok(second));
    assert_eq!(here.missing(), [first]);
    assert_eq!((here.text().as_str(), here.versions().len()), ("a", 1));
    assert_eq!(here.apply(&a), Ok(first));
    assert_eq!(here.missing(), []);
    assert_eq!((here.text().as_str(), here.versions().len()), ("abc", 3));
}

/// Text that has nothing in common with that of another seed.
fn noise(bytes: usize, seed: u32, alphabet: &[char]) -> String {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut text = String::new();
    loop {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let c = alphabet[state as usize % alphabet.len()];
        if text.len() + c.len_utf8() > bytes {
            return text;
        }
        text.push(c);
    }
}

#[test]
fn the_largest_edits_fit_a_change() {
    let ascii: Vec<char> = ('a'..='z').collect();
    let mixed: Vec<char> = "aäb€c🦊".chars().collect();
    let widths: Vec<char> = "aä".chars().collect();
    for alphabet in [&ascii, &mixed, &widths] {
        let mut replica = Document::new(&MESSAGE, &noise(TEXT_BYTES_MAX, 1, alphabet));
        let mut changes = Vec::new();
        for i in 0..4_u8 {
            let mut other = Document::new(&MESSAGE, &noise(TEXT_BYTES_MAX, 1, alphabet));
            let text = noise(TEXT_BYTES_MAX, 2 + u32::from(i), alphabet);
            changes.push(other.edit(&original(), "k", &text).unwrap().1);

            assert_eq!(other.text(), text);
        }
        for change in &changes {
            replica.apply(change).unwrap();
        }
        assert!(replica.text().len() > MERGED_TEXT_BYTES_MAX - 32);
        let text = noise(TEXT_BYTES_MAX, 9, alphabet);
        replica.edit(&base(&replica), "k", &text).unwrap();

        assert_eq!(replica.text(), text);
        assert!(!replica.revision().is_merged());
    }
    let every_second = |c: char| {
        ['x', c]
            .iter()
            .collect::<String>()
            .repeat(TEXT_BYTES_MAX / 2)
    };
    let mut replica = Document::new(&MESSAGE, &every_second('a'));
    replica.edit(&original(), "k", &every_second('b')).unwrap();

    assert_eq!(replica.text(), every_second('b'));
    assert_eq!(
        replica.edit(&original(), "k", &"a".repeat(TEXT_BYTES_MAX + 1)),
        Err(TextError::TooLarge)
    );
}

#[test]
fn many_concurrent_heads_can_be_settled() {
    let mut replica = Document::new(&MESSAGE, "a");
    for i in 0..REVISION_HEADS_MAX {
        replica.edit(&original(), &i.to_string(), "ab").unwrap();
    }
    let merged: RevisionRef = replica.revision().to_string().parse().unwrap();
    assert_eq!(merged.heads().len(), REVISION_HEADS_MAX);
    let text = noise(TEXT_BYTES_MAX, 3, &('a'..='z').collect::<Vec<_>>());
    replica.edit(&merged, "k", &text).unwrap();
    assert_eq!(replica.text(), text);
}

// Hostile changes, written by hand.

fn uleb(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn sleb(mut value: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !(-64..64).contains(&value) {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push((value & 0x7f) as u8);
    bytes
}

fn chunk(kind: u8, body: &[u8]) -> Vec<u8> {
    let rest = [&[kind], uleb(body.len() as u64).as_slice(), body].concat();
    let hash = ring::digest::digest(&ring::digest::SHA256, &rest);
    [&[0x85, 0x6f, 0x4a, 0x83], &hash.as_ref()[..4], &rest].concat()
}

/// With the checksum that fits, where the length is right.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.len() > 8 {
        let hash = ring::digest::digest(&ring::digest::SHA256, &bytes[8..]);
        bytes[4..8].copy_from_slice(&hash.as_ref()[..4]);
    }
    bytes
}

fn crafted(document: &Document, start: u64, columns: &[(u64, Vec<u8>)]) -> Vec<u8> {
    crafted_beside(&[], document, start, columns)
}

/// Lists other actors, whether the columns refer to them or not.
fn crafted_beside(
    others: &[[u8; 16]],
    document: &Document,
    start: u64,
    columns: &[(u64, Vec<u8>)],
) -> Vec<u8> {
    let mut body = uleb(1);
    body.extend(document.genesis().as_bytes());
    body.extend(uleb(16));
    body.extend([9; 16]);
    body.extend(uleb(1));
    body.extend(uleb(start));
    body.extend([0, 0]);
    body.extend(uleb(others.len() as u64));
    for other in others {
        body.extend(uleb(16));
        body.extend(other);
    }
    body.extend(uleb(columns.len() as u64));
    for (spec, data) in columns {
        body.extend(uleb(*spec));
        body.extend(uleb(data.len() as u64));
    }
    for (_, data) in columns {
        body.extend(data);
    }
    chunk(1, &body)
}

/// `count` operations that set a key of the root to nothing, in a few bytes.
fn bomb(document: &Document, count: i64) -> Vec<u8> {
    let key = [sleb(count), uleb(4), b"text".to_vec()].concat();
    let insert = uleb(count as u64);
    let one = |value| [sleb(count), uleb(value)].concat();
    crafted(
        document,
        3,
        &[
            (0x15, key),
            (0x34, insert),
            (0x42, one(1)),
            (0x56, one(0)),
            (0x70, one(0)),
        ],
    )
}

#[test]
fn hostile_changes_are_refused_fast() {
    let document = || Document::new(&MESSAGE, "a");
    let check = |bytes: &[u8], expected: Option<TextError>| {
        let mut document = document();
        let started = Instant::now();
        let result = document.apply(bytes);
        let took = started.elapsed();
        match expected {
            Some(error) => assert_eq!(result, Err(error)),
            None => assert!(matches!(result, Err(TextError::Malformed(_))), "{result:?}"),
        }
        assert!(took < Duration::from_millis(500), "{took:?}");
        assert_eq!(document.text(), "a");
        assert_eq!(document.missing(), []);
    };
    check(b"", None);
    check(b"garbage", None);
    check(&vec![0x85; CHANGE_BYTES_MAX], None);
    check(&vec![0; CHANGE_BYTES_MAX + 1], Some(TextError::TooLarge));
    check(&chunk(0, b"document"), None);
    check(&chunk(3, b"bundle"), None);
    check(&chunk(2, &[0; 100]), Some(TextError::Compressed));
    for count in [100_000, 10_000_000, i64::MAX] {
        check(&bomb(&document(), count), Some(TextError::TooLarge));
    }
    // Within the limits, and still not a text.
    check(&bomb(&document(), CHANGE_OPS_MAX as i64), None);
    check(&bomb(&document(), 1), None);
    check(&crafted(&document(), 3, &[(0x13, vec![0x81; 11])]), None);
    check(&crafted(&document(), 3, &[(0x99, vec![1])]), None);
    // A counter that leaves no room, or repeats one.
    check(&crafted(&document(), u64::from(u32::MAX), &[]), None);
    check(&crafted(&document(), 1, &[]), None);
    // Inserts into an object of nobody, and after a character that is not there.
    let insert = |actor: u64, counter: u64, after: i64| {
        crafted(
            &document(),
            3,
            &[
                (0x01, [sleb(1), uleb(actor)].concat()),
                (0x02, [sleb(1), uleb(counter)].concat()),
                (0x11, [sleb(1), uleb(0)].concat()),
                (0x13, [sleb(1), sleb(after)].concat()),
                (0x34, vec![0, 1]),
                (0x42, [sleb(1), uleb(1)].concat()),
                (0x56, [sleb(1), uleb(0x16)].concat()),
                (0x57, b"x".to_vec()),
                (0x70, [sleb(1), uleb(0)].concat()),
            ],
        )
    };
    check(&insert(0, 1, 1), None);
    check(&insert(0, 3, 3), None);
    check(&insert(0, 3, -1), None);
    check(&insert(1, 1, 1), None);
    check(&insert(0, u64::MAX, i64::MAX), None);
    // Lists an actor that nobody knows, or its own once more: Automerge would not have written it.
    let empty = |others: &[[u8; 16]]| crafted_beside(others, &document(), 3, &[]);
    document().apply(&empty(&[])).unwrap();
    check(&empty(&[[8; 16]]), None);
    check(&empty(&[[9; 16]]), None);
    // Another message's change never becomes ready.
    let mut other = Document::new(&MessageId::from_bytes([8; 16]), "a");
    let (_, foreign) = other.edit(&original(), "k", "b").unwrap();
    let mut here = document();
    here.apply(&foreign).unwrap();
    assert_eq!(here.missing(), [other.genesis()]);
    assert_eq!(here.text(), "a");
}
