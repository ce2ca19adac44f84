//! What every engine refuses before it does anything.

use super::StoreError;
use super::limits::{KEY_BYTES_MAX, KEYS_END, STAMP_BYTES, VALUE_BYTES_MAX};

/// A read where a versionstamp is not known yet, or a change of such a value.
pub(super) const PENDING_STAMP: StoreError = StoreError::Misuse("a versionstamp is pending there");

pub(super) fn key_ok(key: &[u8]) -> Result<(), StoreError> {
    if key.len() > KEY_BYTES_MAX {
        return Err(StoreError::TooLarge("key"));
    }
    if key.is_empty() {
        // fjall has no empty keys.
        return Err(StoreError::Misuse("a key is empty"));
    }
    if key >= KEYS_END {
        return Err(StoreError::Misuse("a key belongs to the engine"));
    }
    Ok(())
}

pub(super) fn value_ok(value: &[u8]) -> Result<(), StoreError> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(StoreError::TooLarge("value"));
    }
    Ok(())
}

pub(super) fn range_ok(begin: &[u8], end: &[u8]) -> Result<(), StoreError> {
    // One byte more than a key: the key after the longest one.
    if begin.len() > KEY_BYTES_MAX + 1 || end.len() > KEY_BYTES_MAX + 1 {
        return Err(StoreError::TooLarge("key"));
    }
    if begin > end {
        return Err(StoreError::Misuse("a range ends before it begins"));
    }
    if end > KEYS_END {
        return Err(StoreError::Misuse("a range reaches into the engine's keys"));
    }
    Ok(())
}

pub(super) fn stamp_ok(bytes: &[u8], offset: usize) -> Result<(), StoreError> {
    match offset.checked_add(STAMP_BYTES) {
        Some(end) if end <= bytes.len() => Ok(()),
        _ => Err(StoreError::Misuse("no room for a versionstamp")),
    }
}
