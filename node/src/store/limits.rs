//! Limits of the store: FoundationDB's, enforced by every engine, and those of the embedded one.

use std::time::Duration;

/// What stands before all keys of a store that shares a FoundationDB cluster with others.
pub const PREFIX_BYTES_MAX: usize = 100;
/// A key: 10,000 bytes together with the longest prefix.
pub const KEY_BYTES_MAX: usize = 10_000 - PREFIX_BYTES_MAX;
/// A value.
pub const VALUE_BYTES_MAX: usize = 100_000;
/// All keys, values and conflict ranges of a transaction.
pub const TRANSACTION_BYTES_MAX: usize = 10_000_000;
/// Age at which a transaction's view is gone.
pub const TRANSACTION_AGE_MAX: Duration = Duration::from_secs(5);
/// Keys from here on belong to the engine.
pub const KEYS_END: &[u8] = b"\xff";
/// Bytes that a versionstamp takes in a key or a value.
pub const STAMP_BYTES: usize = 10;
/// A page of a range read, unless asked otherwise.
pub const RANGE_BYTES: usize = 1 << 20;
/// Watches armed at once.
pub const WATCHES_MAX: usize = 10_000;

/// Transactions that wait for the embedded committer.
pub const QUEUE_COUNT_MAX: usize = 1024;
/// Their bytes, in KiB: a semaphore counts them.
pub const QUEUE_KIB_MAX: usize = 64 << 10;
/// Transactions in one group. Larger groups raise the tail latency more than the throughput.
pub const GROUP_COUNT_MAX: usize = 256;
/// Bytes at which a group takes no further transaction.
pub const GROUP_BYTES_MAX: usize = 4 << 20;
/// Keys that the `clear_range` calls of one transaction may remove: the embedded engine writes a
/// tombstone for each, so more would grow memory and stall everyone behind it.
pub const CLEARED_KEYS_MAX: usize = 100_000;
/// Memory of the index of recent writes; beyond it the oldest are forgotten before their time and
/// transactions that began before them end as too old.
pub const RECENT_BYTES_MAX: usize = 32 << 20;

const _: () = assert!(GROUP_COUNT_MAX < u16::MAX as usize);
const _: () = assert!(TRANSACTION_BYTES_MAX / 1024 < QUEUE_KIB_MAX);
const _: () = assert!(QUEUE_KIB_MAX < u32::MAX as usize);
const _: () = assert!(GROUP_COUNT_MAX <= QUEUE_COUNT_MAX);
