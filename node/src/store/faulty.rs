//! A store whose commits fail at random, from a seed.

use std::future::Future;
use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use whimbrel_replication::id::Stamp;

use super::{Store, StoreError};

/// How often each fault is injected: shares of all commits, at most 1 together.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// [`StoreError::Conflict`], not committed.
    pub conflict: f64,
    /// [`StoreError::TooOld`], not committed.
    pub too_old: f64,
    /// [`StoreError::Unknown`], committed.
    pub unknown_committed: f64,
    /// [`StoreError::Unknown`], not committed.
    pub unknown_lost: f64,
}

/// A store that works as the one inside, but for the faults of its commits.
#[derive(Clone, Debug)]
pub struct Faulty(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    faults: Faults,
    random: Mutex<StdRng>,
}

impl Faulty {
    /// The same seed draws the same faults, in the order of the commits.
    pub fn new(store: Store, faults: Faults, seed: u64) -> Self {
        Self(Arc::new(Inner {
            store,
            faults,
            random: Mutex::new(StdRng::seed_from_u64(seed)),
        }))
    }

    /// The store inside.
    pub fn inner(&self) -> &Store {
        &self.0.store
    }

    pub(super) async fn commit(
        &self,
        commit: impl Future<Output = Result<Option<Stamp>, StoreError>>,
    ) -> Result<Option<Stamp>, StoreError> {
        let faults = &self.0.faults;
        let drawn: f64 = self
            .0
            .random
            .lock()
            .expect("drawing a number does not panic")
            .random();
        let conflict = faults.conflict;
        let too_old = conflict + faults.too_old;
        let unknown_lost = too_old + faults.unknown_lost;
        let unknown_committed = unknown_lost + faults.unknown_committed;
        if drawn < conflict {
            Err(StoreError::Conflict)
        } else if drawn < too_old {
            Err(StoreError::TooOld)
        } else if drawn < unknown_lost {
            Err(StoreError::Unknown)
        } else if drawn < unknown_committed {
            commit.await.and(Err(StoreError::Unknown))
        } else {
            commit.await
        }
    }
}
