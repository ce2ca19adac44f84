//! Load with latencies: the figures of `docs/performance.md`.
//!
//! The generator shares its machine with what it measures. So it runs on one thread, makes
//! requests beforehand, and tells how much processor time it used itself, beside that of the
//! regions' processes: where all share two cores, time for each message says more than messages a
//! second.
//!
//! All functions here must run on a [`tokio::task::LocalSet`].

mod accept;
mod cast;
mod catch_up;
mod edits;
mod history;
mod latency;
mod load;
mod schedule;
mod streams;
mod texts;
mod usage;
mod visibility;
mod wire;

use std::fmt;
use std::rc::Rc;

use tokio::sync::watch;

pub use accept::{Accepted, accept};
pub use catch_up::{CaughtUp, Outage, catch_up};
pub use edits::{Edited, EditedAfter, Editing, edits};
pub use history::{Paged, Pages, Paging, history};
pub use latency::Percentiles;
pub use load::{Load, TextsUsed};
pub use schedule::Extent;
pub use streams::{Idled, Idling, streams};
pub use texts::Texts;
pub use usage::{Cpu, RegionCpu};
pub use visibility::{RegionVisibility, Visibility, visibility};

use crate::Error;
use crate::token::SigningKey;

/// The cluster to measure.
pub struct Target {
    /// Its regions; the first is the one that is written to.
    pub regions: Vec<Region>,
    /// Signs the tokens of the users.
    pub key: SigningKey,
}

impl Target {
    fn written(&self) -> Result<&Region, Error> {
        let none = || Error::config("no region to measure");
        self.regions.first().ok_or_else(none)
    }
}

/// A region of a [`Target`].
#[derive(Clone, Debug)]
pub struct Region {
    /// Its name.
    pub name: String,
    /// Of its public API, without `/v1`.
    pub url: String,
    /// Of its admin listener, where it is known.
    pub admin_url: Option<String>,
    /// The processes that serve it, where they run on this machine.
    pub pids: Vec<u32>,
}

/// How a run is watched and ended.
#[derive(Clone)]
pub struct Control {
    /// Ends the run when it becomes true; what was measured until then is told.
    pub stop: watch::Receiver<bool>,
    /// Is told how it goes.
    pub notice: Rc<dyn Fn(Notice<'_>)>,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("stop", &self.stop)
            .finish_non_exhaustive()
    }
}

/// What is told while a run goes on.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// Something begins.
    Stage {
        /// What.
        what: &'a str,
        /// How many [`Notice::Step`]s it has, where that is known.
        steps: Option<u64>,
    },
    /// A step of the stage is done.
    Step,
}

impl Control {
    fn stage(&self, what: &str, steps: Option<u64>) {
        (self.notice)(Notice::Stage { what, steps });
    }

    fn step(&self) {
        (self.notice)(Notice::Step);
    }
}
