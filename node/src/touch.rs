//! Wakes the tailers of a region's other nodes: a key changes with commits, and they watch it.
//!
//! The change goes along with a commit where it can, but a key that is written more than some hundred
//! times a second is hot: within 20 ms of the last change a commit leaves it alone, and it is
//! changed afterwards, unless a later commit has done so.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use whimbrel_replication::id::ShardId;

use crate::store::{Atomic, RunOptions, Store, Transaction, keys};

/// Between two changes by one node.
const INTERVAL: Duration = Duration::from_millis(20);

/// The key of one shard.
#[derive(Debug)]
pub struct Touch {
    shard: ShardId,
    state: Mutex<State>,
    /// A commit went without.
    missed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// When the last transaction that changed it, of those that were committed, decided to.
    changed: Option<Instant>,
    /// The last commit that went without.
    missed: Option<Instant>,
}

/// That a transaction changes the key, if it is committed.
#[derive(Clone, Copy, Debug)]
pub struct Touched(Instant);

impl Touch {
    /// Of a shard.
    pub fn new(shard: ShardId) -> Self {
        Self {
            shard,
            state: Mutex::default(),
            missed: Notify::new(),
        }
    }

    /// Changes the key in a transaction, if that is not too soon.
    pub fn go_along(&self, tx: &Transaction) -> Option<Touched> {
        let now = Instant::now();
        let is_soon = |changed: Instant| now < changed + INTERVAL;
        if self.state().changed.is_some_and(is_soon) {
            return None;
        }
        change(tx, self.shard);
        Some(Touched(now))
    }

    /// Something was committed, with the key or without.
    pub fn committed(&self, touched: Option<Touched>) {
        let mut state = self.state();
        match touched {
            Some(Touched(at)) => state.changed = state.changed.max(Some(at)),
            None => {
                state.missed = Some(Instant::now());
                self.missed.notify_one();
            }
        }
    }

    /// Follows commits that went without, until `shutdown`.
    pub async fn follow(&self, store: &Store, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.missed.notified() => {}
            }
            let due = self.state().changed.map(|changed| changed + INTERVAL);
            if let Some(due) = due {
                tokio::time::sleep_until(due.into()).await;
            }
            // Who decided to change it before the other commit ended may have come before it.
            let is_covered = {
                let state = self.state();
                state.changed > state.missed
            };
            if is_covered {
                continue;
            }
            let (now, shard) = (Instant::now(), self.shard);
            let changed = store
                .run(RunOptions::default(), move |tx| async move {
                    change(&tx, shard);
                    Ok(())
                })
                .await;
            match changed {
                Ok(_) => self.committed(Some(Touched(now))),
                // The others look once a second in any case.
                Err(error) => tracing::debug!(%shard, %error, "other nodes were not woken"),
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn change(tx: &Transaction, shard: ShardId) {
    tx.atomic(Atomic::Add, &keys::wake(shard), &1u64.to_le_bytes());
}
