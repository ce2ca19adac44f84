//! What a user has seen and written, as cursors that go with every read.
//!
//! Cursors are opaque, so the client cannot join two of them, and calls run side by side. Hence a
//! *set* of cursors: every read carries all of it, and the region answers with the join of what it
//! was given and what it shows. That one cursor takes the place of exactly those that were sent;
//! what other calls brought meanwhile stays. So the set always covers all that was ever seen.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Error;
use crate::api::limits;

/// What a read carries at most: longer headers are refused by some proxies. Two cursors are joined
/// also where they are longer.
const HEADER_BYTES_MAX: usize = limits::CURSOR_BYTES_MAX;

/// Cursors that were given up for the time being. Beyond it a read fails instead of going on.
const LOST_BYTES_MAX: usize = 64 * 1024;

/// A region whose address is not known here is asked for its part again after so long.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// What one user has seen; shared by the clones of a client.
#[derive(Debug, Default)]
pub(crate) struct Session {
    state: Mutex<State>,
    /// Held while the set is made smaller.
    pub(crate) joining: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// What every read carries.
    open: Vec<Arc<str>>,
    /// What no region had that answered: gone with a region, perhaps for good.
    lost: Vec<Lost>,
}

#[derive(Debug)]
struct Lost {
    cursors: Vec<Arc<str>>,
    /// Who has it.
    regions: Vec<String>,
    since: Instant,
}

/// What a read carries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Carried(Vec<Arc<str>>);

impl Carried {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As the value of `Whimbrel-After`.
    pub(crate) fn header(&self) -> String {
        self.0.join(",")
    }
}

/// What an answer brought.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Brought<'a> {
    /// Covers what the answer shows or wrote.
    pub(crate) shown: Option<&'a str>,
    /// Covers that, and all that was sent.
    pub(crate) joined: Option<&'a str>,
}

impl Session {
    /// A set that was kept from earlier: cursors, comma-separated.
    pub(crate) fn resume(&self, cursors: &str) -> Result<(), Error> {
        let items: Vec<&str> = cursors.split(',').map(str::trim).collect();
        let is_cursor = |item: &&str| {
            let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            !item.is_empty() && item.len() <= limits::CURSOR_BYTES_MAX && item.bytes().all(fits)
        };
        if !items.iter().all(is_cursor) {
            return Err(Error::config(
                "that is no cursor of Whimbrel; give what `Client::cursor` gave",
            ));
        }
        let mut state = self.state();
        items.into_iter().for_each(|item| state.add(item));
        Ok(())
    }

    /// All of it, also what is lost for now; `None` where nothing was seen yet.
    pub(crate) fn to_keep(&self) -> Option<String> {
        let state = self.state();
        let lost = state.lost.iter().flat_map(|lost| &lost.cursors);
        let all: Vec<&str> = state.open.iter().chain(lost).map(|c| &**c).collect();
        (!all.is_empty()).then(|| all.join(","))
    }

    /// What a read must carry; `Err` where that is too much for one header: a part of it, to be
    /// joined by a region first.
    pub(crate) fn carried(&self) -> Result<Carried, Carried> {
        let state = self.state();
        let mut bytes = 0;
        let fits = state.open.iter().take_while(|cursor| {
            bytes += cursor.len() + usize::from(bytes > 0);
            bytes <= HEADER_BYTES_MAX
        });
        let fits = fits.count();
        if fits == state.open.len() {
            Ok(Carried(state.open.clone()))
        } else {
            Err(Carried(state.open[..fits.max(2)].to_vec()))
        }
    }

    /// Takes in what an answer brought.
    pub(crate) fn learn(&self, sent: &Carried, brought: Brought<'_>) {
        let mut state = self.state();
        let Some(joined) = brought.joined else {
            brought.shown.into_iter().for_each(|shown| state.add(shown));
            return;
        };
        let shown = brought.shown.unwrap_or_default();
        let is_sent = |cursor: &&Arc<str>| sent.0.contains(cursor);
        let freed: usize = state.open.iter().filter(is_sent).map(|c| c.len()).sum();
        // Where another call has replaced the same cursors already, what was shown is enough; the
        // join would only be longer.
        if freed > 0 && (shown.is_empty() || joined.len() <= freed + shown.len()) {
            state.open.retain(|cursor| !sent.0.contains(cursor));
            state.add(joined);
        } else if !shown.is_empty() {
            state.add(shown);
        }
    }

    /// Takes in what is known from elsewhere, such as an event.
    pub(crate) fn add(&self, cursor: &str) {
        self.state().add(cursor);
    }

    /// So much came since the last join that a part of it is better joined before more comes.
    pub(crate) fn is_large(&self) -> bool {
        let state = self.state();
        let lengths = state.open.iter().map(|cursor| cursor.len());
        // The longest is what was joined.
        let since = lengths.clone().sum::<usize>() - lengths.max().unwrap_or_default();
        since > HEADER_BYTES_MAX / 4
    }

    /// Gives up for now what was sent and no region has: later calls carry what was `available`
    /// instead, as the answer to this one joined it. `false`: too much is given up already.
    pub(crate) fn lose(&self, sent: &Carried, regions: &[String], now: Instant) -> bool {
        let mut state = self.state();
        let known = state.lost.iter().flat_map(|lost| &lost.cursors);
        let bytes: usize = known.chain(&sent.0).map(|cursor| cursor.len()).sum();
        if bytes > LOST_BYTES_MAX {
            return false;
        }
        // Another call may have given up the same.
        let mut cursors = sent.0.clone();
        cursors.retain(|c| !state.lost.iter().any(|lost| lost.cursors.contains(c)));
        state.open.retain(|cursor| !sent.0.contains(cursor));
        if !cursors.is_empty() {
            state.lost.push(Lost {
                cursors,
                regions: regions.to_vec(),
                since: now,
            });
        }
        true
    }

    /// Carries again what was lost with regions that are back, as `is_back` says: heard of since
    /// then, or `None` where the region's address is not known.
    pub(crate) fn regain(&self, now: Instant, is_back: impl Fn(&str, Instant) -> Option<bool>) {
        let mut state = self.state();
        let (back, lost) = std::mem::take(&mut state.lost)
            .into_iter()
            .partition(|lost| {
                lost.regions.iter().any(|region| {
                    is_back(region, lost.since)
                        .unwrap_or(now.saturating_duration_since(lost.since) > ASK_AGAIN_AFTER)
                })
            });
        state.lost = lost;
        let back: Vec<Lost> = back;
        for cursor in back.into_iter().flat_map(|lost| lost.cursors) {
            state.add(&cursor);
        }
    }

    /// Regions whose part answers lack knowingly.
    pub(crate) fn stale(&self) -> Vec<String> {
        let state = self.state();
        let mut regions: Vec<_> = state.lost.iter().flat_map(|l| l.regions.clone()).collect();
        regions.sort();
        regions.dedup();
        regions
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, cursor: &str) {
        if !self.open.iter().any(|known| **known == *cursor) {
            self.open.push(cursor.into());
        }
    }
}

#[cfg(test)]
mod tests;
