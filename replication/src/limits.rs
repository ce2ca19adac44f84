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
/// Operations inside one Automerge change: deletes all of a merged text and writes a new one.
pub const CHANGE_OPS_MAX: usize = 2 * MERGED_TEXT_BYTES_MAX;
/// One Automerge change, uncompressed.
pub const CHANGE_BYTES_MAX: usize = 48 * 1024;

const _: () = assert!(BATCH_OPS_MAX < u16::MAX as usize);
const _: () = assert!(CHANGE_BYTES_MAX < BATCH_BYTES_MAX);
