//! Whether a store has ever held all that its peers held. Until then what it lacks is no answer: "there is no such
//! conversation" would be believed.

use crate::store::{RunOptions, Store, StoreError, keys};

/// Notes that it has; for good, whatever it may lack later.
///
/// # Errors
///
/// Those of the store.
pub async fn save(store: &Store) -> Result<(), StoreError> {
    let saved = store.run(RunOptions::default(), |tx| async move {
        tx.set(&keys::whole(), &[]);
        Ok(())
    });
    saved.await.map(drop)
}

/// Whether that was noted.
///
/// # Errors
///
/// Those of the store.
pub async fn load(store: &Store) -> Result<bool, StoreError> {
    let read = store.read(RunOptions::default(), |tx| async move {
        Ok(tx.get(&keys::whole(), true).await?.is_some())
    });
    read.await
}
