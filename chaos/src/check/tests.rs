//! Violations that are planted are found, and what is clean is clean.

mod model;
mod mutations;
mod planted;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::{Counts, Report, check};
use model::Model;
use mutations::MUTATIONS;

/// Prints the seed if the run panics.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with WHIMBREL_SEED={}", self.0);
        }
    }
}

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("WHIMBREL_SEED") {
        Ok(seed) => vec![seed.parse().expect("WHIMBREL_SEED is a number")],
        Err(_) => {
            let base = rand::rng().random_range(0..1 << 40);
            (base..base + count).collect()
        }
    }
}

/// What a model does that keeps all promises never looks like a violation; and all that a check
/// looks at happens in it.
#[test]
fn a_correct_model_is_clean() {
    let mut all = Counts::default();
    for seed in seeds(60) {
        let _print = Seed(seed);
        let (history, settled) = Model::run(seed, 120);
        let report = check(&history, &settled);
        assert!(report.violations.is_empty(), "{report}");
        all = add(all, report.counts);
    }
    if std::env::var("WHIMBREL_SEED").is_err() {
        for count in [
            all.edits,
            all.redactions,
            all.unknown,
            all.retried_elsewhere,
            all.replayed,
            all.hops,
            all.stale,
            all.behind,
        ] {
            assert!(count > 10, "{all:?}");
        }
    }
}

fn add(one: Counts, other: Counts) -> Counts {
    Counts {
        operations: one.operations + other.operations,
        posts: one.posts + other.posts,
        edits: one.edits + other.edits,
        redactions: one.redactions + other.redactions,
        other_writes: one.other_writes + other.other_writes,
        refused: one.refused + other.refused,
        unknown: one.unknown + other.unknown,
        retried_elsewhere: one.retried_elsewhere + other.retried_elsewhere,
        replayed: one.replayed + other.replayed,
        pages: one.pages + other.pages,
        hops: one.hops + other.hops,
        stale: one.stale + other.stale,
        resumptions: one.resumptions + other.resumptions,
        told: one.told + other.told,
        behind: one.behind + other.behind,
    }
}

/// One thing that goes wrong in such a run is found, as what it is.
#[test]
fn one_mutation_is_found() {
    let mut made = vec![0; MUTATIONS.len()];
    for seed in seeds(15) {
        let _print = Seed(seed);
        let mut chance = StdRng::seed_from_u64(seed);
        let (history, settled) = Model::run(seed, 120);
        for (mutation, made) in MUTATIONS.iter().zip(&mut made) {
            let (mut history, mut settled) = (history.clone(), settled.clone());
            if !(mutation.make)(&mut history, &mut settled, &mut chance) {
                continue;
            }
            *made += 1;
            let Report { violations, .. } = check(&history, &settled);
            let found = violations
                .iter()
                .any(|violation| mutation.found_as.contains(&violation.guarantee()));
            assert!(found, "{}: {violations:#?}", mutation.name);
        }
    }
    if std::env::var("WHIMBREL_SEED").is_err() {
        for (mutation, made) in MUTATIONS.iter().zip(made) {
            assert!(made >= 3, "`{}` was made {made} times", mutation.name);
        }
    }
}

#[test]
fn histories_survive_being_written_down() {
    let (history, settled) = Model::run(7, 120);
    let mut bytes = Vec::new();
    history.write_json_lines(&mut bytes).unwrap();
    let read = crate::history::History::read_json_lines(&bytes[..]).unwrap();
    assert_eq!(read, history);
    assert_eq!(check(&read, &settled), check(&history, &settled));
}
