//! What the errors of `FoundationDB` mean to callers. Codes:
//! <https://apple.github.io/foundationdb/api-error-codes.html>

use foundationdb::FdbError;

use crate::store::StoreError;
use crate::store::check::PENDING_STAMP;

const TRANSACTION_TOO_OLD: i32 = 1007;
const NOT_COMMITTED: i32 = 1020;
const TRANSACTION_CANCELLED: i32 = 1025;
const TRANSACTION_TIMED_OUT: i32 = 1031;
const ACCESSED_UNREADABLE: i32 = 1036;
const TRANSACTION_TOO_LARGE: i32 = 2101;
const KEY_TOO_LARGE: i32 = 2102;
const VALUE_TOO_LARGE: i32 = 2103;

/// Of a read, or of anything else that commits nothing.
pub(super) fn of_read(error: FdbError) -> StoreError {
    match error.code() {
        TRANSACTION_TOO_OLD => StoreError::TooOld,
        NOT_COMMITTED => StoreError::Conflict,
        ACCESSED_UNREADABLE => PENDING_STAMP,
        TRANSACTION_TIMED_OUT => {
            StoreError::Unavailable("FoundationDB did not answer in time".into())
        }
        TRANSACTION_TOO_LARGE => StoreError::TooLarge("transaction"),
        KEY_TOO_LARGE => StoreError::TooLarge("key"),
        VALUE_TOO_LARGE => StoreError::TooLarge("value"),
        _ if error.is_retryable() => StoreError::Busy(error.message()),
        code => {
            StoreError::Unavailable(format!("{} (FoundationDB {code})", error.message()).into())
        }
    }
}

/// Of a commit.
pub(super) fn of_commit(error: FdbError) -> StoreError {
    match error.code() {
        // Given up here; what is under way may still land.
        TRANSACTION_TIMED_OUT | TRANSACTION_CANCELLED => StoreError::Abandoned,
        _ if error.is_maybe_committed() => StoreError::Unknown,
        _ => of_read(error),
    }
}
