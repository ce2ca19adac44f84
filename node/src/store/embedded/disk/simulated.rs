//! A disk that loses what was not synced when the power fails, and fails when it is told to.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::store::key_after;

/// The power has failed, or a sync: the engine stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the simulated disk has no power")]
pub(in crate::store::embedded) struct Crashed;

/// Where in a write the power fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before anything is written.
    BeforeWrite,
    /// It was written and not synced: the write may or may not be there afterwards.
    BeforeSync,
    /// It was synced, and nobody heard of it.
    AfterSync,
}

/// A disk; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Values by version; `None` where the key was cleared.
    rows: BTreeMap<Bytes, Vec<(u64, Option<Bytes>)>>,
    written: u64,
    synced: u64,
    fails_at: Option<Moment>,
    is_off: bool,
    /// How often the power came back: what was opened before that sees nothing of the disk.
    power: u64,
}

impl State {
    fn forget_old(&mut self) {
        for versions in self.rows.values_mut() {
            let last = versions.pop();
            versions.clear();
            versions.extend(last.filter(|(_, value)| value.is_some()));
        }
        self.rows.retain(|_, versions| !versions.is_empty());
    }
}

impl SimulatedDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power fails in the next write, or does not after all.
    pub fn fail_at_next_write(&self, moment: Option<Moment>) {
        self.state().fails_at = moment;
    }

    /// Whether the power has failed since it came back.
    pub fn is_off(&self) -> bool {
        self.state().is_off
    }

    /// The power fails now, if it has not yet, and comes back. What was written and not synced is
    /// there or not, as a whole.
    pub fn restart(&self, keep_unsynced: bool) {
        let mut state = self.state();
        let kept = if keep_unsynced {
            state.written
        } else {
            state.synced
        };
        for versions in state.rows.values_mut() {
            versions.retain(|(version, _)| *version <= kept);
        }
        state.forget_old();
        state.written = kept;
        state.synced = kept;
        state.fails_at = None;
        state.is_off = false;
        state.power += 1;
    }

    /// Forgets what was overwritten and cleared. No transaction may be under way.
    pub fn vacuum(&self) {
        let mut state = self.state();
        // What was not synced may still be taken back.
        if !state.is_off {
            state.forget_old();
        }
    }

    /// All that was on it is gone.
    pub fn destroy(&self) {
        let mut state = self.state();
        *state = State {
            power: state.power + 1,
            ..State::default()
        };
    }

    pub(in crate::store::embedded) fn open(&self) -> Power {
        let power = self.state().power;
        Power {
            disk: self.clone(),
            power,
        }
    }
}

/// The disk as long as the power holds.
#[derive(Clone, Debug)]
pub(in crate::store::embedded) struct Power {
    disk: SimulatedDisk,
    power: u64,
}

impl Power {
    fn state(&self) -> Result<MutexGuard<'_, State>, Crashed> {
        let state = self.disk.state();
        if state.is_off || state.power != self.power {
            return Err(Crashed);
        }
        Ok(state)
    }

    pub(super) fn view(&self) -> View {
        View {
            version: self.disk.state().written,
            power: self.clone(),
        }
    }

    pub(super) fn write(
        &self,
        rows: impl Iterator<Item = (Bytes, Option<Bytes>)>,
    ) -> Result<(), Crashed> {
        let mut state = self.state()?;
        let fails_at = state.fails_at.take();
        state.is_off = fails_at.is_some();
        if fails_at == Some(Moment::BeforeWrite) {
            return Err(Crashed);
        }
        state.written += 1;
        let version = state.written;
        for (key, value) in rows {
            state.rows.entry(key).or_default().push((version, value));
        }
        if fails_at == Some(Moment::BeforeSync) {
            return Err(Crashed);
        }
        state.synced = version;
        match fails_at {
            Some(_) => Err(Crashed),
            None => Ok(()),
        }
    }
}

/// The disk's rows up to one write.
#[derive(Clone, Debug)]
pub(in crate::store::embedded) struct View {
    power: Power,
    version: u64,
}

impl View {
    fn at(&self, versions: &[(u64, Option<Bytes>)]) -> Option<Bytes> {
        let seen = versions.iter().rev();
        let mut seen = seen.skip_while(|(version, _)| *version > self.version);
        seen.next().and_then(|(_, value)| value.clone())
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Crashed> {
        let state = self.power.state()?;
        Ok(state.rows.get(key).and_then(|versions| self.at(versions)))
    }

    pub(super) fn range(&self, begin: Bytes, end: Bytes) -> Range<'_> {
        Range {
            view: self,
            begin,
            end,
        }
    }

    fn find(&self, begin: &Bytes, end: &Bytes, reverse: bool) -> Result<Option<Row>, Crashed> {
        let state = self.power.state()?;
        if begin >= end {
            return Ok(None);
        }
        let bounds = (Bound::Included(begin), Bound::Excluded(end));
        let mut rows = state.rows.range::<Bytes, _>(bounds);
        let mut next = || {
            if reverse {
                rows.next_back()
            } else {
                rows.next()
            }
        };
        while let Some((key, versions)) = next() {
            if let Some(value) = self.at(versions) {
                return Ok(Some((key.clone(), value)));
            }
        }
        Ok(None)
    }
}

type Row = (Bytes, Bytes);

/// Looks for each row when it is asked for.
pub(super) struct Range<'a> {
    view: &'a View,
    begin: Bytes,
    end: Bytes,
}

impl Range<'_> {
    /// After an error nothing more comes.
    fn take(&mut self, reverse: bool) -> Option<Result<Row, Crashed>> {
        let found = self.view.find(&self.begin, &self.end, reverse);
        match &found {
            Ok(Some((key, _))) if reverse => self.end = key.clone(),
            Ok(Some((key, _))) => self.begin = key_after(key).into(),
            Ok(None) | Err(Crashed) => self.end = self.begin.clone(),
        }
        found.transpose()
    }
}

impl Iterator for Range<'_> {
    type Item = Result<Row, Crashed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take(false)
    }
}

impl DoubleEndedIterator for Range<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.take(true)
    }
}
