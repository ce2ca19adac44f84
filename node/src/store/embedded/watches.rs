//! Who waits for a key to change.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::store::Notify;
use crate::store::limits::WATCHES_MAX;
use crate::store::{StoreError, Value};

#[derive(Debug, Default)]
pub(super) struct Watches {
    by_key: BTreeMap<Bytes, Vec<Waiter>>,
    count: usize,
}

#[derive(Debug)]
struct Waiter {
    expected: Option<Value>,
    notify: Notify,
}

impl Watches {
    /// Fires once the key's value is not `expected`.
    pub(super) fn arm(&mut self, key: Bytes, expected: Option<Value>, notify: Notify) {
        if self.count >= WATCHES_MAX {
            self.sweep();
        }
        if self.count >= WATCHES_MAX {
            let error = StoreError::Unavailable("too many watches".into());
            // Nobody waits any more: nothing to tell.
            let _ = notify.send(Err(error));
            return;
        }
        self.count += 1;
        let waiter = Waiter { expected, notify };
        self.by_key.entry(key).or_default().push(waiter);
    }

    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.by_key.contains_key(key)
    }

    /// Wakes those who do not expect what stands there now.
    pub(super) fn changed(&mut self, key: &[u8], value: Option<&[u8]>) {
        let Some(waiters) = self.by_key.get_mut(key) else {
            return;
        };
        let before = waiters.len();
        let fired = waiters.extract_if(.., |w| w.expected.as_deref() != value);
        for waiter in fired {
            let _ = waiter.notify.send(Ok(()));
        }
        self.count -= before - waiters.len();
        if waiters.is_empty() {
            self.by_key.remove(key);
        }
    }

    /// Forgets those who wait no more.
    pub(super) fn sweep(&mut self) {
        let mut count = 0;
        self.by_key.retain(|_, waiters| {
            waiters.retain(|w| !w.notify.is_closed());
            count += waiters.len();
            !waiters.is_empty()
        });
        self.count = count;
    }
}
