//! G17: whatever bytes come in from peers, clients and operators, nothing panics, and memory and
//! work stay bounded. What [`targets`] promise is tried here on seeds and mutations of them, for
//! some seconds; `cargo fuzz` in `tests/fuzz` looks for longer.
//!
//! A failing run prints its seed; `WHIMBREL_SEED=<seed>` runs that one alone.

/// Changes of valid inputs.
mod mutate;
/// What is fuzzed, with its seeds.
mod targets;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn seed() -> u64 {
    let given = std::env::var("WHIMBREL_SEED").ok();
    given.map_or_else(
        || rand::rng().random_range(0..1 << 40),
        |seed| seed.parse().expect("WHIMBREL_SEED is a number"),
    )
}

/// Prints what failed.
struct Input(u64, Vec<u8>);

impl Drop for Input {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let hex = data_encoding::HEXLOWER.encode(&self.1[..self.1.len().min(2000)]);
            eprintln!("replay with WHIMBREL_SEED={}; the input was {hex}", self.0);
        }
    }
}

fn check(name: &str) {
    let (target, seed) = (targets::target(name), seed());
    let seeds = (target.seeds)();
    let try_one = |input: Vec<u8>| {
        let input = Input(seed, input);
        (target.run)(&input.1);
    };
    for input in &seeds {
        try_one(input.clone());
    }
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..target.tries {
        try_one(mutate::mutated(&seeds, &mut rng));
    }
}

#[test]
fn g17_frames() {
    check("frame");
}

#[test]
fn g17_batches() {
    check("batch");
}

#[test]
fn g17_texts_of_cursors_ids_and_revisions() {
    check("text");
}

#[test]
fn g17_automerge_changes() {
    check("change");
}

#[test]
fn g17_a_change_of_too_many_operations_is_refused_unexpanded() {
    targets::check_refused_changes();
}

#[test]
fn g17_events_of_links() {
    check("engine");
}

#[test]
fn g17_batches_into_a_store() {
    check("apply");
}

#[test]
fn g17_state_of_conversations_into_a_store() {
    check("state");
}

#[test]
fn g17_tokens_and_their_keys() {
    check("token");
}

#[test]
fn g17_lines_that_steer_relays() {
    check("control");
}
