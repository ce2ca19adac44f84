//! The store as one ordered map: what a history of transactions must be explained by.

use std::collections::BTreeMap;

use whimbrel_node::store::{Atomic, Page};
use whimbrel_replication::id::Stamp;

pub(super) type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// One step of a transaction, with what the store answered.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Get {
        key: Vec<u8>,
        snapshot: bool,
        got: Option<Vec<u8>>,
    },
    Range {
        begin: Vec<u8>,
        end: Vec<u8>,
        limit: usize,
        reverse: bool,
        snapshot: bool,
        got: Page,
    },
    Set(Vec<u8>, Vec<u8>),
    Clear(Vec<u8>),
    ClearRange(Vec<u8>, Vec<u8>),
    Atomic(Atomic, Vec<u8>, Vec<u8>),
    StampedKey(Vec<u8>, usize, Vec<u8>),
    StampedValue(Vec<u8>, Vec<u8>, usize),
}

impl Step {
    pub(super) fn is_write(&self) -> bool {
        !matches!(self, Self::Get { .. } | Self::Range { .. })
    }
}

fn atomic(atomic: Atomic, old: Option<&Vec<u8>>, operand: &[u8]) -> Vec<u8> {
    let Some(old) = old else {
        return operand.to_vec();
    };
    match atomic {
        Atomic::Add => {
            let number = |bytes: &[u8]| {
                let mut wide = [0; 8];
                let len = bytes.len().min(8);
                wide[..len].copy_from_slice(&bytes[..len]);
                u64::from_le_bytes(wide)
            };
            assert_eq!(operand.len(), 8);
            number(old)
                .wrapping_add(number(operand))
                .to_le_bytes()
                .to_vec()
        }
        Atomic::ByteMax => old.as_slice().max(operand).to_vec(),
        Atomic::ByteMin => old.as_slice().min(operand).to_vec(),
    }
}

fn stamped(bytes: &[u8], offset: usize, stamp: Stamp) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[offset..offset + 10].copy_from_slice(stamp.as_bytes());
    bytes
}

fn range_matches(
    state: &State,
    begin: &[u8],
    end: &[u8],
    limit: usize,
    reverse: bool,
    got: &Page,
) -> bool {
    let rows = state.range(begin.to_vec()..end.to_vec());
    let mut rows: Vec<_> = if reverse {
        rows.rev().collect()
    } else {
        rows.collect()
    };
    if got.more {
        // The page may end early, but not without a row.
        if got.rows.is_empty() || got.rows.len() > limit {
            return false;
        }
        rows.truncate(got.rows.len());
    }
    rows.len() == got.rows.len()
        && rows
            .iter()
            .zip(&got.rows)
            .all(|((k, v), (gk, gv))| **k == gk[..] && **v == gv[..])
}

/// Runs the steps on `state`. The error is the step whose answer `state` does not explain.
/// Snapshot reads are looked at only with `snapshots`. Without a stamp nothing is stamped.
pub(super) fn replay(
    state: &mut State,
    steps: &[Step],
    stamp: Option<Stamp>,
    snapshots: bool,
) -> Result<(), Step> {
    for step in steps {
        let explained = match step {
            Step::Get { key, snapshot, got } => {
                (*snapshot && !snapshots) || state.get(key) == got.as_ref()
            }
            Step::Range {
                begin,
                end,
                limit,
                reverse,
                snapshot,
                got,
            } => {
                (*snapshot && !snapshots) || range_matches(state, begin, end, *limit, *reverse, got)
            }
            Step::Set(key, value) => {
                state.insert(key.clone(), value.clone());
                true
            }
            Step::Clear(key) => {
                state.remove(key);
                true
            }
            Step::ClearRange(begin, end) => {
                state.retain(|key, _| key < begin || key >= end);
                true
            }
            Step::Atomic(op, key, operand) => {
                let value = atomic(*op, state.get(key), operand);
                state.insert(key.clone(), value);
                true
            }
            Step::StampedKey(key, offset, value) => {
                if let Some(stamp) = stamp {
                    state.insert(stamped(key, *offset, stamp), value.clone());
                }
                true
            }
            Step::StampedValue(key, value, offset) => {
                if let Some(stamp) = stamp {
                    state.insert(key.clone(), stamped(value, *offset, stamp));
                }
                true
            }
        };
        if !explained {
            return Err(step.clone());
        }
    }
    Ok(())
}
