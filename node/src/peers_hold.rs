//! `P/`: what peers are known to hold, kept across restarts: what a peer that is away lacks must not
//! be trimmed, and its lag goes on to grow.
//!
//! Kept by the peer's life: a store that was built anew holds nothing yet.

use std::collections::BTreeMap;

use whimbrel_replication::cursor::Cursor;
use whimbrel_replication::id::{OpStamp, Origin, RegionId, Stamp};

use crate::apply::corrupt;
use crate::store::keys;
use crate::store::{Atomic, RangeOptions, RunOptions, Store, StoreError};

/// Notes what a peer holds.
///
/// # Errors
///
/// Those of the store.
pub async fn save(store: &Store, peer: Origin, holds: Cursor) -> Result<(), StoreError> {
    let saved = store.run(RunOptions::default(), move |tx| {
        let holds = holds.clone();
        async move {
            for (shard, part) in holds.iter() {
                for (origin, at) in part.iter() {
                    let key = keys::peer_holds(peer, shard, origin);
                    tx.atomic(Atomic::ByteMax, &key, at.stamp.as_bytes());
                }
            }
            Ok(())
        }
    });
    saved.await.map(drop)
}

/// What the last known life of each peer holds.
///
/// # Errors
///
/// Those of the store.
pub async fn load(store: &Store) -> Result<BTreeMap<RegionId, (Origin, Cursor)>, StoreError> {
    let read = store.read(RunOptions::default(), |tx| async move {
        let (begin, end) = keys::peers_hold();
        let options = RangeOptions {
            snapshot: true,
            ..RangeOptions::default()
        };
        let mut all: BTreeMap<RegionId, (Origin, Cursor)> = BTreeMap::new();
        for (key, value) in tx.range_all(&begin, &end, options).await? {
            let (peer, shard, origin) = keys::peer_holds_parts(&key).map_err(corrupt)?;
            let stamp = Stamp::try_from(&value[..]).map_err(corrupt)?;
            let known = all
                .entry(peer.region)
                .or_insert_with(|| (peer, Cursor::new()));
            if known.0.incarnation < peer.incarnation {
                *known = (peer, Cursor::new());
            }
            if known.0 == peer {
                known.1.advance(shard, origin, OpStamp::whole(stamp));
            }
        }
        Ok(all)
    });
    read.await
}

/// Forgets all former lives of a peer.
///
/// # Errors
///
/// Those of the store.
pub async fn forget_before(store: &Store, peer: Origin) -> Result<(), StoreError> {
    let cleared = store.run(RunOptions::default(), move |tx| async move {
        let first = Origin {
            incarnation: 0,
            ..peer
        };
        let (begin, end) = (keys::peer_holds_all(first).0, keys::peer_holds_all(peer).0);
        tx.clear_range(&begin, &end);
        Ok(())
    });
    cleared.await.map(drop)
}
