//! The side that is copied: one page of a shard's state.

use std::sync::Arc;

use bytes::Bytes;
use whimbrel_replication::id::{Origin, ShardId};
use whimbrel_replication::link::SnapshotPage;

use super::{read_cursor, row};
use crate::apply::{Part, corrupt, held};
use crate::store::keys::{self, Scope};
use crate::store::{RangeOptions, RunOptions, Store, StoreError, Transaction, key_after};

/// Rows that one read of a range brings.
const READ_ROWS: usize = 256;
/// Reads of ranges for one page: far from the store's time limit.
const READS_MAX: usize = 400;

/// Reads a page of a shard's state after a key. Also amid a snapshot: two regions may need each
/// other's.
///
/// # Errors
///
/// Those of the store.
pub async fn read(
    store: &Store,
    own: Origin,
    shard: ShardId,
    after: Option<Bytes>,
    bytes_max: usize,
) -> Result<SnapshotPage, StoreError> {
    let read = move |tx: Arc<Transaction>| {
        let after = after.clone();
        async move {
            let cursor = held(&tx, shard, own).await?;
            let mut reaches = read_cursor(&row(&tx, shard, true).await?.reaches, shard)?;
            reaches.join(&cursor);
            let range = keys::shard(shard);
            let (rows, next) = page(&tx, shard, range, after.as_ref(), bytes_max).await?;
            Ok(SnapshotPage {
                shard,
                after,
                cursor,
                reaches,
                rows,
                next,
            })
        }
    };
    store.read(RunOptions::default(), read).await
}

type Rows = Vec<(Bytes, Bytes)>;

/// Rows of a range of a shard that travel, after a key, and after which key there are more.
///
/// # Errors
///
/// Those of the store.
pub async fn page(
    tx: &Transaction,
    shard: ShardId,
    (first, end): keys::Range,
    after: Option<&Bytes>,
    bytes_max: usize,
) -> Result<(Rows, Option<Bytes>), StoreError> {
    let prefix = keys::shard_prefix(shard);
    let relative = |key: &[u8]| Bytes::copy_from_slice(&key[prefix.len()..]);
    let mut begin = match after {
        Some(after) => first.max(key_after(&[&prefix[..], after].concat())),
        None => first,
    };
    let (mut rows, mut bytes, mut last) = (Rows::new(), 0, None);
    for _ in 0..READS_MAX {
        if begin >= end {
            return Ok((rows, None));
        }
        let options = RangeOptions {
            limit: READ_ROWS,
            bytes: bytes_max,
            snapshot: true,
            ..RangeOptions::default()
        };
        let read = tx.range(&begin, &end, options).await?;
        let mut leapt = false;
        for (key, value) in &read.rows {
            last = Some(relative(key));
            let kind = keys::kind_of(key).map_err(corrupt)?;
            if !Part::is_one(&kind) {
                // Over all rows of this kind at once.
                let conversation = keys::conversation_of(key).map_err(corrupt)?;
                begin = Scope {
                    shard,
                    conversation,
                }
                .end_of(&kind);
                leapt = true;
                break;
            }
            begin = key_after(key);
            bytes += key.len() + value.len();
            rows.push((relative(key), value.clone()));
            if bytes >= bytes_max {
                return Ok((rows, last));
            }
        }
        if !leapt && !read.more {
            return Ok((rows, None));
        }
    }
    Ok((rows, last))
}
