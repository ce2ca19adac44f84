//! What is wrong with one direction of a link.

use serde::{Deserialize, Serialize};

use crate::limits::{RELAY_DELAY_MS_MAX, RELAY_RATE_BITS_MIN};

/// What is wrong with one direction of a link. The default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Nothing gets through.
    pub cut: bool,
    /// How long a datagram takes, in milliseconds, at most [`RELAY_DELAY_MS_MAX`].
    pub delay_ms: u32,
    /// The delay differs from datagram to datagram by up to this, evenly spread, in milliseconds; at
    /// most the delay. Order is kept, as in the queue of one path: `reorder` is what breaks it.
    pub jitter_ms: u32,
    /// The share of datagrams that is lost, 0 to 1.
    pub loss: f64,
    /// The share of datagrams that arrives twice, 0 to 1.
    pub duplicate: f64,
    /// The share of datagrams that is held back for some milliseconds more, so that those which are
    /// sent soon after it overtake it, 0 to 1.
    pub reorder: f64,
    /// Bits per second that get through, at least [`RELAY_RATE_BITS_MIN`]. What is too much waits in
    /// a short queue; what does not fit there is dropped.
    pub bits_per_second: Option<u64>,
}

/// One step of steering. Each but [`Change::Heal`] and [`Change::Set`] leaves the other faults be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// Nothing gets through.
    Cut,
    /// No faults at all.
    Heal,
    /// See [`Faults::delay_ms`] and [`Faults::jitter_ms`].
    Delay {
        /// Zero: none.
        ms: u32,
        /// Zero: none.
        jitter_ms: u32,
    },
    /// See [`Faults::loss`].
    Loss(f64),
    /// See [`Faults::duplicate`].
    Duplicate(f64),
    /// See [`Faults::reorder`].
    Reorder(f64),
    /// See [`Faults::bits_per_second`].
    Bandwidth(Option<u64>),
    /// These faults and no others.
    Set(Faults),
}

/// Faults that cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FaultsError {
    /// A share that is none.
    #[error("{field} is {value}; it must be a share from 0 to 1")]
    Share {
        /// Which.
        field: &'static str,
        /// As asked for.
        value: f64,
    },
    /// A delay that would fill the relay.
    #[error(
        "a delay of {0} ms is too long; {RELAY_DELAY_MS_MAX} ms is the most, a cut is for more"
    )]
    Delay(u32),
    /// Datagrams would have to arrive before they were sent.
    #[error("a jitter of {jitter_ms} ms is more than the delay of {delay_ms} ms; lower it")]
    Jitter {
        /// As asked for.
        jitter_ms: u32,
        /// As asked for.
        delay_ms: u32,
    },
    /// Too slow for even one datagram in reasonable time.
    #[error(
        "{0} bits per second is too little; {RELAY_RATE_BITS_MIN} is the least, a cut is for less"
    )]
    Rate(u64),
}

impl Faults {
    /// These faults after a change.
    pub fn changed(&self, change: &Change) -> Result<Self, FaultsError> {
        let mut faults = *self;
        match change {
            Change::Cut => faults.cut = true,
            Change::Heal => faults = Self::default(),
            Change::Delay { ms, jitter_ms } => {
                (faults.delay_ms, faults.jitter_ms) = (*ms, *jitter_ms);
            }
            Change::Loss(share) => faults.loss = *share,
            Change::Duplicate(share) => faults.duplicate = *share,
            Change::Reorder(share) => faults.reorder = *share,
            Change::Bandwidth(rate) => faults.bits_per_second = *rate,
            Change::Set(all) => faults = *all,
        }
        faults.check()?;
        Ok(faults)
    }

    /// Errs where these faults cannot be.
    pub fn check(&self) -> Result<(), FaultsError> {
        let shares = [
            ("loss", self.loss),
            ("duplicate", self.duplicate),
            ("reorder", self.reorder),
        ];
        for (field, value) in shares {
            if !(0.0..=1.0).contains(&value) {
                return Err(FaultsError::Share { field, value });
            }
        }
        if self.delay_ms > RELAY_DELAY_MS_MAX {
            return Err(FaultsError::Delay(self.delay_ms));
        }
        if self.jitter_ms > self.delay_ms {
            return Err(FaultsError::Jitter {
                jitter_ms: self.jitter_ms,
                delay_ms: self.delay_ms,
            });
        }
        match self.bits_per_second {
            Some(rate) if rate < RELAY_RATE_BITS_MIN => Err(FaultsError::Rate(rate)),
            _ => Ok(()),
        }
    }

    /// Is nothing wrong?
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delay(ms: u32, jitter_ms: u32) -> Change {
        Change::Delay { ms, jitter_ms }
    }

    #[test]
    fn changes_add_up_until_healed() {
        let faults = [delay(80, 20), Change::Loss(0.05), Change::Cut]
            .iter()
            .fold(Faults::default(), |f, change| f.changed(change).unwrap());
        let expected = Faults {
            cut: true,
            delay_ms: 80,
            jitter_ms: 20,
            loss: 0.05,
            ..Faults::default()
        };
        assert_eq!(faults, expected);
        let only = Faults {
            reorder: 0.5,
            ..Faults::default()
        };
        assert_eq!(faults.changed(&Change::Set(only)).unwrap(), only);
        assert!(faults.changed(&Change::Heal).unwrap().is_none());
    }

    #[test]
    fn impossible_faults_are_refused_in_words() {
        let check = |change: &Change, words: &str| {
            let error = Faults::default().changed(change).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        check(&Change::Loss(1.5), "loss is 1.5");
        check(&Change::Duplicate(-0.1), "duplicate is -0.1");
        check(&Change::Reorder(f64::NAN), "reorder is NaN");
        check(&delay(RELAY_DELAY_MS_MAX + 1, 0), "60000 ms is the most");
        check(&delay(5, 6), "more than the delay of 5 ms");
        check(&Change::Bandwidth(Some(1)), "1000 is the least");
    }
}
