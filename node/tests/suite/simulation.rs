//! The simulation of whole regions: a hundred seeds hold, and a seed decides everything.

use std::ops::ControlFlow;

use whimbrel_node::simulation::{run, run_all};

const SEEDS: u64 = 100;

#[test]
fn g1_to_g13_hold_over_a_hundred_seeds() {
    let from = match std::env::var("WHIMBREL_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => 0,
    };
    println!("WHIMBREL_SEED={from}");
    let outcome = run_all(from, SEEDS, |_| ControlFlow::Continue(()));
    println!("{outcome}");
    let sum = outcome.counts;
    if let Some(report) = outcome.violated {
        let violation = report.violation.unwrap();
        panic!("seed {}: {violation}\n{}", report.seed, report.trace);
    }
    // Every kind of harm was done.
    assert!(sum.acked > SEEDS * 100 && sum.unknown > SEEDS, "{sum}");
    assert!(sum.crashes > SEEDS && sum.destroyed > SEEDS / 10, "{sum}");
    assert!(sum.cuts > SEEDS && sum.steps > SEEDS, "{sum}");
}

/// After the last seed comes the first; no others are run.
#[test]
fn as_many_seeds_are_run_as_are_asked_for() {
    let mut seeds = Vec::new();
    let outcome = run_all(u64::MAX, 2, |report| {
        seeds.push(report.seed);
        ControlFlow::Continue(())
    });
    let violated = outcome.violated;
    assert!(violated.is_none(), "a seed at the edge broke a promise");
    seeds.sort_unstable();
    assert_eq!(seeds, [0, u64::MAX]);
}

#[test]
fn no_more_seeds_are_begun_once_one_is_to_be_the_last() {
    let outcome = run_all(0, u64::MAX, |_| ControlFlow::Break(()));
    // Each core may have been amid one.
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    assert!((1..=cores).contains(&outcome.runs), "{outcome}");
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
