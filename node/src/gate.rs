//! May this node take writes? Not before it has heard from its peers that its store is whole, not
//! after they have shown that it is not, not while the store does not answer: they would only
//! wait in vain; and not while its clock is wrong, so that this harms nobody else.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

const STARTING: u8 = 0;
const OPEN: u8 = 1;
const LOST: u8 = 2;

/// One for all writers of a node.
#[derive(Debug, Default)]
pub struct WriteGate {
    state: AtomicU8,
    store_away: AtomicBool,
    clock_off: AtomicBool,
}

impl WriteGate {
    /// Peers hold no more of our log than we do, or none can be reached. Whether it was shut before.
    pub fn open(&self) -> bool {
        // A store that has lost commits stays shut.
        self.state
            .compare_exchange(STARTING, OPEN, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// A peer holds commits of ours that our store does not have: stamping anything on top of that
    /// would give one stamp to two batches.
    pub fn shut_for_good(&self) {
        self.state.store(LOST, Ordering::Relaxed);
    }

    /// Why writes are refused, if they are.
    pub fn refusal(&self) -> Option<&'static str> {
        match self.state.load(Ordering::Relaxed) {
            STARTING => Some("the node has just started and waits for its peers"),
            LOST => Some("this region's store has lost commits, or has a later life"),
            _ if self.store_away.load(Ordering::Relaxed) => Some("the store does not answer"),
            _ if self.is_clock_off() => Some("this node's clock is wrong"),
            _ => None,
        }
    }

    /// The store does not answer, or answers again.
    pub fn store_away(&self, is_away: bool) {
        self.store_away.store(is_away, Ordering::Relaxed);
    }

    /// The wall clock cannot be trusted, or can again.
    pub fn clock_off(&self, is_off: bool) {
        self.clock_off.store(is_off, Ordering::Relaxed);
    }

    /// Is the wall clock not to be trusted?
    pub fn is_clock_off(&self) -> bool {
        self.clock_off.load(Ordering::Relaxed)
    }

    /// Has the store lost commits?
    pub fn is_lost(&self) -> bool {
        self.state.load(Ordering::Relaxed) == LOST
    }
}
