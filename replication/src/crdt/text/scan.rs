//! Bounds of a raw Automerge change, found without expanding it.
//!
//! The columns of a change are run-length encoded: a hundred bytes can stand for any number of
//! operations, and parsing expands them all. So the runs are added up first. Format:
//! <https://automerge.org/automerge-binary-format-spec/>

use super::TextError;
use crate::limits::{CHANGE_BYTES_MAX, CHANGE_OPS_MAX, REVISION_HEADS_MAX};

const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
const TYPE_CHANGE: u8 = 1;
const TYPE_COMPRESSED: u8 = 2;

/// Actions that a text needs.
const ACTION_SET: u64 = 1;
const ACTION_DELETE: u64 = 3;
const ACTION_MAKE_TEXT: u64 = 4;

/// A value's metadata is its length above four bits of type.
const VALUE_STRING: u64 = 6;

/// Counters of operations; leaves room for those of one more change in the 32 bits they have.
const COUNTER_MAX: u64 = u32::MAX as u64 - CHANGE_OPS_MAX as u64;

/// Refuses what is not one plain change of a text within the limits. What passes is cheap to parse.
pub(super) fn scan(bytes: &[u8]) -> Result<(), TextError> {
    if bytes.len() > CHANGE_BYTES_MAX {
        return Err(TextError::TooLarge);
    }
    let mut r = Reader(bytes);
    if r.take(4)? != MAGIC {
        return Err(TextError::Malformed("no magic bytes"));
    }
    r.take(4)?;
    match r.take(1)?[0] {
        TYPE_CHANGE => {}
        TYPE_COMPRESSED => return Err(TextError::Compressed),
        _ => return Err(TextError::Malformed("not a change")),
    }
    let before = r.0.len();
    let len = r.unsigned()?;
    if len != r.0.len() as u64 || before - r.0.len() != unsigned_len(len) {
        return Err(TextError::Malformed("length"));
    }

    let deps = r.unsigned()?;
    if deps > REVISION_HEADS_MAX as u64 {
        return Err(TextError::TooLarge);
    }
    for _ in 0..deps {
        r.take(32)?;
    }
    r.bytes()?; // actor
    if r.unsigned()? != 1 {
        return Err(TextError::Malformed("sequence"));
    }
    if r.unsigned()? > COUNTER_MAX {
        return Err(TextError::Malformed("first counter"));
    }
    if r.signed()? != 0 {
        return Err(TextError::Malformed("time"));
    }
    if !r.bytes()?.is_empty() {
        return Err(TextError::Malformed("message"));
    }
    let others = r.unsigned()?;
    for _ in 0..others {
        r.bytes()?;
    }
    columns(&mut r, others)?;
    if !r.0.is_empty() {
        return Err(TextError::Malformed("extra bytes"));
    }
    Ok(())
}

fn columns(r: &mut Reader<'_>, others: u64) -> Result<(), TextError> {
    let count = r.unsigned()?;
    let mut found = Vec::new();
    for _ in 0..count {
        found.push((r.unsigned()?, r.unsigned()?));
    }
    for (spec, len) in found {
        let data = Reader(r.take(usize::try_from(len).map_err(|_| SHORT_INPUT)?)?);
        match spec {
            // Actors of object, key and predecessors: own, or one of the others.
            0x01 | 0x11 | 0x71 => runs(data, Reader::unsigned, |v, _| *v <= others)?,
            // Counter of the object; counters of keys and predecessors, as differences.
            // Parsing panics on one above 32 bits.
            0x02 => runs(data, Reader::unsigned, |v, _| *v <= COUNTER_MAX)?,
            0x13 | 0x73 => {
                let mut counter = 0_i128;
                runs(data, Reader::signed, |v, count| {
                    counter += i128::from(*v) * i128::from(count);
                    (0..=i128::from(COUNTER_MAX)).contains(&counter)
                })?;
            }
            0x15 => runs(data, Reader::bytes, |v, _| *v == super::KEY.as_bytes())?,
            0x34 => booleans(data)?,
            0x42 => runs(data, Reader::unsigned, |v, _| {
                matches!(*v, ACTION_SET | ACTION_DELETE | ACTION_MAKE_TEXT)
            })?,
            // No value, or one character.
            0x56 => runs(data, Reader::unsigned, |v, _| {
                *v == 0 || (v & 15 == VALUE_STRING && (1..=4).contains(&(v >> 4)))
            })?,
            0x57 => {}
            // How many predecessors each operation has.
            0x70 => {
                let mut total = 0_u64;
                runs(data, Reader::unsigned, |v, count| {
                    total = total.saturating_add(v.saturating_mul(count));
                    total <= CHANGE_OPS_MAX as u64
                })?;
            }
            _ => return Err(TextError::Malformed("column")),
        }
    }
    Ok(())
}

/// Walks a run-length encoded column without expanding it.
fn runs<'a, T>(
    mut r: Reader<'a>,
    read: impl Fn(&mut Reader<'a>) -> Result<T, TextError>,
    mut allowed: impl FnMut(&T, u64) -> bool,
) -> Result<(), TextError> {
    let mut total = 0_u64;
    while !r.0.is_empty() {
        let run = r.signed()?;
        let count = match run {
            0 => r.unsigned()?,
            _ => run.unsigned_abs(),
        };
        total = total.saturating_add(count);
        if total > CHANGE_OPS_MAX as u64 {
            return Err(TextError::TooLarge);
        }
        let (values, each) = match run {
            0 => (0, 0),
            1.. => (1, count),
            _ => (count, 1),
        };
        for _ in 0..values {
            if !allowed(&read(&mut r)?, each) {
                return Err(TextError::Malformed("value"));
            }
        }
    }
    Ok(())
}

fn booleans(mut r: Reader<'_>) -> Result<(), TextError> {
    let mut total = 0_u64;
    while !r.0.is_empty() {
        total = total.saturating_add(r.unsigned()?);
        if total > CHANGE_OPS_MAX as u64 {
            return Err(TextError::TooLarge);
        }
    }
    Ok(())
}

const SHORT_INPUT: TextError = TextError::Malformed("truncated");

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], TextError> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(SHORT_INPUT)?;
        self.0 = rest;
        Ok(head)
    }

    fn bytes(&mut self) -> Result<&'a [u8], TextError> {
        let n = self.unsigned()?;
        self.take(usize::try_from(n).map_err(|_| SHORT_INPUT)?)
    }

    /// The bits, how many there are, and whether the last group's sign bit is set.
    fn leb128(&mut self) -> Result<(u64, u32, bool), TextError> {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let byte = self.take(1)?[0];
            let bits = u64::from(byte & 0x7f);
            if shift > 63 || (shift == 63 && !matches!(bits, 0 | 1 | 0x7f)) {
                return Err(TextError::Malformed("number"));
            }
            value |= bits << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return Ok((value, shift, byte & 0x40 != 0));
            }
        }
    }

    fn unsigned(&mut self) -> Result<u64, TextError> {
        Ok(self.leb128()?.0)
    }

    fn signed(&mut self) -> Result<i64, TextError> {
        let (value, bits, negative) = self.leb128()?;
        let sign = if negative && bits < 64 {
            u64::MAX << bits
        } else {
            0
        };
        Ok((value | sign).cast_signed())
    }
}

fn unsigned_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros()).div_ceil(7) as usize
}
