//! The simulation of whole regions: a hundred seeds hold, and a seed decides everything.

use std::sync::Mutex;

use whimbrel_node::simulation::{Counts, run, run_all};

const SEEDS: u64 = 100;

#[test]
fn g1_to_g13_hold_over_a_hundred_seeds() {
    let from = match std::env::var("WHIMBREL_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => 0,
    };
    println!("WHIMBREL_SEED={from}");
    let sum = Mutex::new(Counts::default());
    let violated = run_all(from, SEEDS, |report| {
        sum.lock().unwrap().add(&report.counts);
    });
    if let Some(report) = violated {
        let violation = report.violation.unwrap();
        panic!("seed {}: {violation}\n{}", report.seed, report.trace);
    }
    let sum = sum.into_inner().unwrap();
    // Every kind of harm was done.
    assert!(sum.acked > SEEDS * 100 && sum.unknown > SEEDS, "{sum}");
    assert!(sum.crashes > SEEDS && sum.destroyed > SEEDS / 10, "{sum}");
    assert!(sum.cuts > SEEDS && sum.steps > SEEDS, "{sum}");
}

/// After the last seed comes the first; no others are run.
#[test]
fn as_many_seeds_are_run_as_are_asked_for() {
    let seeds = Mutex::new(Vec::new());
    let violated = run_all(u64::MAX, 2, |report| {
        seeds.lock().unwrap().push(report.seed);
    });
    assert!(violated.is_none(), "a seed at the edge broke a promise");
    let mut seeds = seeds.into_inner().unwrap();
    seeds.sort_unstable();
    assert_eq!(seeds, [0, u64::MAX]);
}

#[test]
fn equal_seeds_give_equal_traces() {
    for seed in 1_000..1_003 {
        let (one, other) = (run(seed), run(seed));
        assert_eq!(one.trace.hash(), other.trace.hash(), "seed {seed}");
        assert_eq!(one.counts, other.counts);
        assert_ne!(one.trace.hash(), run(seed + 10).trace.hash());
    }
}
