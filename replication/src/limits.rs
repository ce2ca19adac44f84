//! Limits of the replication core. Units stand in the names.

/// A batch as it is stored in the log.
pub const BATCH_BYTES_MAX: usize = 64 * 1024;
/// Ops in one batch; an index is two bytes and [`u16::MAX`] means the whole batch.
pub const BATCH_OPS_MAX: usize = 512;
/// A cursor in its text form.
pub const CURSOR_TEXT_BYTES_MAX: usize = 8 * 1024;
/// Shards of a cluster.
pub const SHARDS_MAX: u16 = 64;
/// Regions of a cluster.
pub const REGIONS_MAX: usize = 16;
/// The text of a message that came out of a merge. A longer merge is cut at a character boundary.
pub const MERGED_TEXT_BYTES_MAX: usize = 64 * 1024;
/// The text of a post or an edit.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;
/// Operations inside one Automerge change: a new text, and the deletion of twice as much. An edit
/// that needs more starts a new text object instead of deleting character by character.
pub const CHANGE_OPS_MAX: usize = 3 * TEXT_BYTES_MAX;
/// One Automerge change, uncompressed: the text, at most one byte of metadata for each of its
/// bytes, and the hashes that it is made on.
pub const CHANGE_BYTES_MAX: usize = 56 * 1024;
/// Concurrent heads of a message's text that one edit can name as its base.
pub const REVISION_HEADS_MAX: usize = 1000;
/// What a batch needs besides one change: actor, ids, deps.
const BATCH_ENVELOPE_BYTES: usize = 8 * 1024;

const _: () = assert!(BATCH_OPS_MAX < u16::MAX as usize);
const _: () = assert!(CHANGE_BYTES_MAX + BATCH_ENVELOPE_BYTES <= BATCH_BYTES_MAX);
const _: () = assert!(2 * TEXT_BYTES_MAX < CHANGE_BYTES_MAX);
const _: () = assert!(TEXT_BYTES_MAX <= MERGED_TEXT_BYTES_MAX);
