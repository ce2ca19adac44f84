//! Automerge changes as a peer may make them.

use ring::digest::{SHA256, digest};
use whimbrel_replication::crdt::text::{Document, RevisionRef, TextError};
use whimbrel_replication::limits::{CHANGE_OPS_MAX, MERGED_TEXT_BYTES_MAX};

use super::input::{join, parts};
use super::memory::Bounds;
use super::sample;

/// A change that is refused for its number of operations, before they are expanded.
const UNEXPANDED: Bounds = Bounds {
    least: 4 * 1024,
    each: 2,
    work: 2,
};

/// A hundred bytes may hold all operations that one change may have; each takes some hundred bytes
/// in memory while it is looked at.
const BOUNDS: Bounds = Bounds {
    least: 32 * 1024 * 1024,
    each: 1024,
    work: 8,
};

const TYPE_CHANGE: u8 = 1;
const TYPE_COMPRESSED: u8 = 2;

/// How a part is to be read, in its first byte.
const BODY: u8 = 0;
const SEALED: u8 = 1;
const PLAIN: u8 = 2;

/// Each part is a change, or the body of one, which gets its header and checksum here: no fuzzer
/// guesses those.
pub(crate) fn run(input: &[u8]) {
    let mut document = Document::new(&sample::message(), sample::ORIGINAL);
    let mut taken = vec![];
    for part in parts(input).take(8) {
        let Some((how, rest)) = part.split_first() else {
            continue;
        };
        let change = match how % 3 {
            BODY => chunk(TYPE_CHANGE, rest),
            SEALED => sealed(rest.to_vec()),
            _ => rest.to_vec(),
        };
        let before = (document.text(), document.revision(), document.missing());
        match BOUNDS.hold(change.len(), || document.apply(&change)) {
            Ok(_) => taken.push(change),
            Err(TextError::Automerge(error)) => panic!("what was checked is refused: {error}"),
            Err(_) => assert_eq!(
                (document.text(), document.revision(), document.missing()),
                before
            ),
        }
        assert!(document.text().len() <= MERGED_TEXT_BYTES_MAX);
    }
    let versions = document.versions();
    let given = taken.iter().map(Vec::as_slice);
    let again = Document::load(&sample::message(), sample::ORIGINAL, given);
    let mut again = again.expect("each was taken alone");
    assert!(versions.len() <= 1 + taken.len());
    assert!(again.versions().len() <= 1 + taken.len());
    // Automerge writes changes anew where an edit is made on what is not the newest.
    for version in &versions {
        let base = RevisionRef::from(&version.revision);
        let [here, there] = [&mut document, &mut again].map(|document| {
            let edited = document.edit(&base, "on it", "a quick fox");
            edited.expect("what is shown can be edited").1
        });
        assert_eq!(here, there, "the same edit in two regions");
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let first = sample::edit("a", "the quick red fox");
    let other = sample::edit("b", "a quick brown fox 🦊");
    let mut document = Document::new(&sample::message(), sample::ORIGINAL);
    for change in [&first, &other] {
        document.apply(change).expect("an edit of the original");
    }
    let base = RevisionRef::from(&document.revision());
    let mut edit = |key: &str, text: &str| {
        let edited = document.edit(&base, key, text);
        edited.expect("an edit of what is there").1
    };
    let settled = edit("c", "a quick red fox");
    let rewritten = edit("d", &"xy".repeat(2000));
    let body = |change: &[u8]| {
        let len_bytes = change[9..].iter().position(|byte| byte & 0x80 == 0);
        let at = 10 + len_bytes.expect("a length ends");
        [&[BODY], &change[at..]].concat()
    };
    let plain = |change: &[u8]| [&[PLAIN], change].concat();
    let valid = [&first, &other, &settled];
    let mut seeds = vec![
        join(valid.map(|change| plain(change))),
        join(valid.map(|change| body(change))),
        // Not in the order in which they were made.
        join([&settled, &rewritten, &other, &first].map(|change| body(change))),
        join([body(&first), body(&first)]),
    ];
    let bombs = [CHANGE_OPS_MAX as u64, 1].map(bomb);
    seeds.extend(bombs.map(|bomb| join([plain(&bomb)])));
    seeds.extend(refused().map(|change| join([plain(&change)])));
    seeds.push(join([plain(&beside_a_stranger())]));
    seeds
}

/// Some bytes that hold more operations than a change may have, and a compressed chunk.
fn refused() -> [Vec<u8>; 4] {
    [
        bomb(200_000),
        bomb(10_000_000),
        bomb(i64::MAX.cast_unsigned()),
        chunk(TYPE_COMPRESSED, &[0; 100]),
    ]
}

/// Refuses them all without expanding one.
pub(crate) fn check_refused() {
    for change in refused() {
        assert!(change.len() < 160, "{} bytes", change.len());
        let mut document = Document::new(&sample::message(), sample::ORIGINAL);
        let applied = UNEXPANDED.hold(change.len(), || document.apply(&change));
        assert!(
            matches!(applied, Err(TextError::TooLarge | TextError::Compressed)),
            "{applied:?}"
        );
    }
}

/// Changes nothing, and lists an actor that nobody knows.
fn beside_a_stranger() -> Vec<u8> {
    let mut body = start_of_body();
    body.extend([1, 16]);
    body.extend([8; 16]);
    body.push(0);
    chunk(TYPE_CHANGE, &body)
}

/// This many times the operation that sets the text to nothing.
fn bomb(count: u64) -> Vec<u8> {
    let run = |value: &[u8]| [&signed(count), value].concat();
    let columns: [(u8, Vec<u8>); 5] = [
        (0x15, run(b"\x04text")),
        (0x34, unsigned(count)),
        (0x42, run(&[1])),
        (0x56, run(&[0])),
        (0x70, run(&[0])),
    ];
    let mut body = start_of_body();
    body.extend([0, columns.len() as u8]);
    for (column, data) in &columns {
        body.extend([*column, data.len() as u8]);
    }
    body.extend(columns.iter().flat_map(|(_, data)| data));
    chunk(TYPE_CHANGE, &body)
}

/// Up to the other actors: the only dep, actor, sequence, first counter, time and message.
fn start_of_body() -> Vec<u8> {
    let genesis = Document::new(&sample::message(), sample::ORIGINAL).genesis();
    let first_counter = 2 + sample::ORIGINAL.len() as u8;
    let ids = [&[1], &genesis.as_bytes()[..], &[16], &[9; 16]].concat();
    [&ids[..], &[1, first_counter, 0, 0]].concat()
}

fn chunk(kind: u8, body: &[u8]) -> Vec<u8> {
    let head = [0x85, 0x6f, 0x4a, 0x83, 0, 0, 0, 0, kind];
    let length = unsigned(body.len() as u64);
    sealed([&head[..], &length, body].concat())
}

/// With the right checksum.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() > 8 {
        let hash = digest(&SHA256, &bytes[8..]);
        bytes[4..8].copy_from_slice(&hash.as_ref()[..4]);
    }
    bytes
}

/// LEB128.
fn unsigned(value: u64) -> Vec<u8> {
    let mut bytes = vec![];
    prost::encoding::encode_varint(value, &mut bytes);
    bytes
}

/// Signed LEB128 of a value that is not negative: the last byte's sign bit must be clear.
fn signed(value: u64) -> Vec<u8> {
    let mut bytes = unsigned(value);
    if let Some(last) = bytes.last_mut()
        && *last & 0x40 != 0
    {
        *last |= 0x80;
        bytes.push(0);
    }
    bytes
}
