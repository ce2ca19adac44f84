//! What clients write into URLs and headers: cursors (also as stream tokens), ids, positions,
//! revisions. One value has one text.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use whimbrel_replication::crdt::text::{Revision, RevisionRef};
use whimbrel_replication::cursor::Cursor;
use whimbrel_replication::id::{
    ChangeHash, ClusterId, ConversationId, MessageId, OpId, Position, ShardId, Stamp,
};
use whimbrel_replication::limits::{CURSOR_TEXT_BYTES_MAX, REVISION_HEADS_MAX};

use super::memory::Bounds;
use super::sample;

/// An entry of a cursor has 12 bytes of text at least, and most of a node of a map in memory.
const BOUNDS: Bounds = Bounds {
    least: 64 * 1024,
    each: 64,
    work: 8,
};

pub(crate) fn run(input: &[u8]) {
    // As text, and as the bytes behind a cursor's text: most texts are no base64.
    if let Ok(text) = std::str::from_utf8(input) {
        one_text::<Cursor>(text);
        one_text::<ChangeHash>(text);
        one_text::<ClusterId>(text);
        one_text::<ConversationId>(text);
        one_text::<MessageId>(text);
        one_text::<OpId>(text);
        one_text::<Position>(text);
        one_text::<Stamp>(text);
        let revision = BOUNDS.hold(text.len(), || text.parse::<RevisionRef>());
        assert!(
            revision.is_ok_and(|r| r.heads().len() <= REVISION_HEADS_MAX) || text != "original"
        );
    }
    one_text::<Cursor>(&BASE64URL_NOPAD.encode(input));
}

fn one_text<T: FromStr + Display + Debug + PartialEq>(text: &str) {
    let Ok(value) = BOUNDS.hold(text.len(), || text.parse::<T>()) else {
        return;
    };
    assert!(text.len() <= CURSOR_TEXT_BYTES_MAX);
    assert_eq!(value.to_string(), text);
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut cursor = Cursor::of(ShardId(0), sample::cursor(&[(1, 4), (2, 9)]));
    *cursor.shard_mut(ShardId(63)) = sample::cursor(&[(2, 1)]);
    let decoded = |cursor: &Cursor| BASE64URL_NOPAD.decode(cursor.to_string().as_bytes());
    let hash = |n| ChangeHash::from_bytes([n; ChangeHash::LEN]);
    let mut seeds: Vec<Vec<u8>> = [&Cursor::new(), &cursor]
        .iter()
        .flat_map(|cursor| {
            let bytes = decoded(cursor).expect("a cursor is base64");
            [cursor.to_string().into_bytes(), bytes]
        })
        .collect();
    let texts = [
        "original".to_owned(),
        Revision::new(vec![hash(1), hash(2)]).to_string(),
        hash(3).to_string(),
        sample::message().to_string(),
        Position::MAX.to_string(),
        Stamp::MIN.to_string(),
        "é".repeat(13),
    ];
    seeds.extend(texts.map(String::into_bytes));
    // Counts of origins, shards and entries that nothing follows, and numbers that never end.
    seeds.extend([
        vec![1, 0xff, 0xff, 0xff, 0x7f],
        vec![1, 0, 0xff, 0xff, 0xff, 0x7f],
        vec![1, 0, 1, 0, 0xff, 0xff, 0xff, 0x7f],
        vec![1, 0xff, 0xff, 0xff, 0xff, 0xff],
        // One shard, named as often as a text can.
        [&[1, 0, 0xff, 0xff, 0x7f][..], &[0, 0].repeat(3000)].concat(),
    ]);
    seeds
}
