//! Which state of a message's text: the heads of its changes.

use std::fmt;
use std::str::FromStr;

use crate::error::DecodeError;
use crate::id::{ChangeHash, from_text, to_text};
use crate::limits::REVISION_HEADS_MAX;

/// Bytes of a head's hash that its text form keeps.
const SHORT: usize = 8;
/// Their length in base32hex.
const SHORT_TEXT: usize = 13;
const ORIGINAL: &str = "original";

/// The heads of a message's text, sorted. No heads mean the original.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(Vec<ChangeHash>);

impl Revision {
    /// From heads in any order.
    pub fn new(mut heads: Vec<ChangeHash>) -> Self {
        heads.sort_unstable();
        heads.dedup();
        Self(heads)
    }

    /// The heads, sorted; empty for the original.
    pub fn heads(&self) -> &[ChangeHash] {
        &self.0
    }

    /// The text came out of a merge that nobody has confirmed yet.
    pub fn is_merged(&self) -> bool {
        self.0.len() > 1
    }
}

/// `original`, or per head its first 8 bytes in base32hex, without separators.
impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(ORIGINAL);
        }
        for head in &self.0 {
            f.write_str(&to_text(&head.as_bytes()[..SHORT]))?;
        }
        Ok(())
    }
}

/// A revision as a client names it: the first bytes of each head.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RevisionRef(Vec<[u8; SHORT]>);

impl RevisionRef {
    /// The first bytes of each head, as the client gave them; empty for the original.
    pub fn heads(&self) -> &[[u8; SHORT]] {
        &self.0
    }

    /// Whether it names this revision.
    pub fn names(&self, revision: &Revision) -> bool {
        *self == Self::from(revision)
    }
}

impl From<&Revision> for RevisionRef {
    fn from(revision: &Revision) -> Self {
        Self(revision.0.iter().map(short).collect())
    }
}

impl FromStr for RevisionRef {
    type Err = DecodeError;
    fn from_str(text: &str) -> Result<Self, DecodeError> {
        const WHAT: &str = "revision";
        if text == ORIGINAL {
            return Ok(Self::default());
        }
        let bytes = text.as_bytes();
        if bytes.is_empty()
            || bytes.len() > REVISION_HEADS_MAX * SHORT_TEXT
            || !bytes.len().is_multiple_of(SHORT_TEXT)
            || !bytes.iter().all(u8::is_ascii_alphanumeric)
        {
            return Err(DecodeError::Text(WHAT));
        }
        let heads: Vec<[u8; SHORT]> = (0..bytes.len())
            .step_by(SHORT_TEXT)
            .map(|at| {
                let head = from_text(&text[at..at + SHORT_TEXT], WHAT)?;
                head.as_slice()
                    .try_into()
                    .map_err(|_| DecodeError::Text(WHAT))
            })
            .collect::<Result<_, _>>()?;
        // One text per revision: anything else than the sorted form is somebody's mistake.
        if heads.windows(2).any(|w| w[0] >= w[1]) {
            return Err(DecodeError::Text(WHAT));
        }
        Ok(Self(heads))
    }
}

pub(super) fn short(hash: &ChangeHash) -> [u8; SHORT] {
    hash.as_bytes()[..SHORT]
        .try_into()
        .expect("a hash is 32 bytes")
}
