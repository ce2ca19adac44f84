//! One input that holds several: each has its length in two bytes before it, little-endian. The
//! last one may be cut off, so that every input is valid.

/// Its parts, at most [`PARTS_MAX`].
pub(crate) fn parts(mut input: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = input.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (part, rest) = rest.split_at(length);
        input = rest;
        Some(part)
    })
    .take(PARTS_MAX)
}

/// Of one input. More would make inputs slow rather than different.
pub(crate) const PARTS_MAX: usize = 64;

/// The input with these parts.
pub(crate) fn join<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> Vec<u8> {
    let mut out = vec![];
    for part in parts {
        let part = part.as_ref();
        let length = u16::try_from(part.len()).expect("a part has at most 65,535 bytes");
        out.extend(length.to_le_bytes());
        out.extend(part);
    }
    out
}
