//! The feature level: the newest format of batches that this node may write. Every node of every
//! region must be able to apply what it writes, so it is what all of them are known to read (G19).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use whimbrel_replication::error::DecodeError;
use whimbrel_replication::id::RegionId;
use whimbrel_replication::op::{FORMAT, FORMAT_MIN};

use crate::apply::corrupt;
use crate::store::{RangeOptions, RunOptions, Store, StoreError, keys};

/// What is written now, and what is read.
#[derive(Debug)]
pub struct FeatureLevel {
    /// Starts at the oldest format, and rises once all regions were heard.
    level: AtomicU32,
    reads: u32,
}

impl Default for FeatureLevel {
    fn default() -> Self {
        Self::reading(FORMAT)
    }
}

impl FeatureLevel {
    /// Of a node that reads formats up to this one.
    pub const fn reading(reads: u32) -> Self {
        Self {
            level: AtomicU32::new(FORMAT_MIN),
            reads,
        }
    }

    /// What is written now.
    pub fn get(&self) -> u32 {
        self.level.load(Ordering::Acquire)
    }

    /// What it was before.
    pub fn set(&self, level: u32) -> u32 {
        self.level.swap(level, Ordering::AcqRel)
    }

    /// The newest format that this node reads.
    pub const fn reads(&self) -> u32 {
        self.reads
    }
}

/// Notes which format regions read, so that one that is away does not lower the level of a node that
/// starts.
///
/// # Errors
///
/// Those of the store.
pub async fn save(store: &Store, formats: BTreeMap<RegionId, u32>) -> Result<(), StoreError> {
    let saved = store.run(RunOptions::default(), move |tx| {
        let formats = formats.clone();
        async move {
            for (region, format) in formats {
                tx.set(&keys::peer_format(region), &format.to_be_bytes());
            }
            Ok(())
        }
    });
    saved.await.map(drop)
}

/// What was noted.
///
/// # Errors
///
/// Those of the store.
pub async fn load(store: &Store) -> Result<BTreeMap<RegionId, u32>, StoreError> {
    let read = store.read(RunOptions::default(), |tx| async move {
        let (begin, end) = keys::peer_formats();
        let options = RangeOptions {
            snapshot: true,
            ..RangeOptions::default()
        };
        let rows = tx.range_all(&begin, &end, options).await?;
        let formats = rows.iter().map(|(key, value)| {
            let region = keys::peer_format_region(key)?;
            let format = <[u8; 4]>::try_from(&value[..]);
            let format = format.map_err(|_| DecodeError::Range("format of a region"))?;
            Ok((region, u32::from_be_bytes(format)))
        });
        formats.collect::<Result<_, _>>().map_err(corrupt)
    });
    read.await
}
