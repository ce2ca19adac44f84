//! Changes valid inputs a little, as a fuzzer without coverage can.

use rand::Rng;
use rand::rngs::StdRng;

/// Seeds above it are tried as they are: changes of them take long and find little.
const SEED_BYTES_MAX: usize = 4 * 1024;

/// Numbers that length fields break at.
const EDGES: [u8; 6] = [0, 1, 0x7f, 0x80, 0xfe, 0xff];

/// An input that is one of `seeds` with some changes, or noise.
pub(crate) fn mutated(seeds: &[Vec<u8>], rng: &mut StdRng) -> Vec<u8> {
    let small = seeds.iter().filter(|seed| seed.len() <= SEED_BYTES_MAX);
    let seeds: Vec<&[u8]> = small.map(Vec::as_slice).collect();
    let seeds = &seeds[..];
    let mut input = pick(seeds, rng).to_vec();
    if rng.random_ratio(1, 20) {
        input = (0..rng.random_range(0..200))
            .map(|_| rng.random())
            .collect();
    }
    for _ in 0..rng.random_range(1..=4) {
        if input.is_empty() {
            input = pick(seeds, rng).to_vec();
            continue;
        }
        let at = rng.random_range(0..input.len());
        match rng.random_range(0..8) {
            0 => input[at] ^= 1 << rng.random_range(0..8),
            1 => input[at] = rng.random(),
            2 => input[at] = EDGES[rng.random_range(0..EDGES.len())],
            3 => input[at] = input[at].wrapping_add_signed(rng.random_range(-4..=4)),
            4 => input.truncate(at),
            // A varint that has no end where it should, or a huge value.
            5 => drop(input.splice(at..=at, vec![0xff; rng.random_range(1..10)])),
            6 => {
                let end = (at + rng.random_range(0..32)).min(input.len());
                let piece = input[at..end].to_vec();
                let to = rng.random_range(0..=input.len());
                let gone = rng.random_range(to..=(to + piece.len()).min(input.len()));
                drop(input.splice(to..gone, piece));
            }
            _ => {
                let other = pick(seeds, rng);
                let tail = rng.random_range(0..=other.len());
                input.truncate(at);
                input.extend(&other[tail..]);
            }
        }
    }
    input
}

fn pick<'a>(seeds: &[&'a [u8]], rng: &mut StdRng) -> &'a [u8] {
    seeds[rng.random_range(0..seeds.len())]
}
