//! Batches of another region's log.

use whimbrel_replication::limits::BATCH_BYTES_MAX;
use whimbrel_replication::op::{Batch, FORMAT, FORMAT_MIN};

use super::memory::Bounds;
use super::sample;

/// Two bytes on the wire can be one empty op, whose form in memory has about 200; a list that grows
/// is held twice for a moment.
const BOUNDS: Bounds = Bounds {
    least: 64 * 1024,
    each: 400,
    work: 8,
};

pub(crate) fn run(input: &[u8]) {
    // A longer one is refused unread, wherever one comes in.
    if input.len() > BATCH_BYTES_MAX {
        return;
    }
    let Ok(batch) = BOUNDS.hold(input.len(), || Batch::decode(input)) else {
        return;
    };
    assert_eq!(Batch::decode(&batch.encode(FORMAT)).as_ref(), Ok(&batch));
}

/// Most of a format without a checksum, so that what is changed in them is not refused for that alone.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    const OPS: u8 = 6;
    let kinds = sample::kinds();
    let mut seeds = vec![sample::batch(0, &kinds).encode(FORMAT).to_vec()];
    seeds.extend(
        kinds
            .into_iter()
            .map(|kind| sample::batch(0, &[kind]).encode(FORMAT_MIN).to_vec()),
    );
    seeds.extend([
        [OPS << 3 | 2, 0].repeat(BATCH_BYTES_MAX / 2),
        vec![OPS << 3 | 2, 0xff, 0xff, 0xff, 0xff, 0x0f],
        // A marker of nothing, many times.
        sample::field(OPS, &sample::field(17, &[2 << 3 | 2, 0].repeat(30_000))),
    ]);
    seeds
}
