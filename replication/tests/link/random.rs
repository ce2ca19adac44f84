//! Three regions under random writes and faults. Whatever happens: each batch is applied exactly
//! once, in order, after its deps, and acked after its commit (checked by the modelled stores at
//! every step); and once the faults stop all stores become equal.

use rand::Rng;

use crate::sim::{Path, Sim, ms};

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Prints the seed if the run panics.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with WHIMBREL_SEED={}", self.0);
        }
    }
}

/// Runs one seed; returns how many frames were sent, as a fingerprint.
fn run(seed: u64) -> u64 {
    let _print = Seed(seed);
    let mut sim = Sim::new(3, seed);
    let pairs: Vec<(u16, u16)> = sim.paths.keys().copied().collect();
    for pair in &pairs {
        let path = Path {
            delay: ms(sim.rng.random_range(1..300)),
            jitter: ms(sim.rng.random_range(0..100)),
            loss: sim.rng.random_range(0.0..0.3),
            double: sim.rng.random_range(0.0..0.3),
            up: true,
        };
        sim.paths.insert(*pair, path);
    }
    sim.others = if sim.rng.random_bool(0.5) { 0.1 } else { 0.0 };
    sim.dial_all();

    let steps = sim.rng.random_range(50..400);
    for _ in 0..steps {
        let n = sim.rng.random_range(1..=3);
        let (a, b) = pairs[sim.rng.random_range(0..pairs.len())];
        match sim.rng.random_range(0..100) {
            0..70 => {
                let shard = sim.rng.random_range(0..crate::sim::SHARDS);
                let burst = if sim.rng.random_bool(0.05) { 30 } else { 1 };
                let text = if burst > 1 { 20_000 } else { 20 };
                for _ in 0..burst {
                    sim.commit(n, shard, text);
                }
            }
            70..76 => sim.set_both(a, b, false),
            76..80 => sim.set_up(a, b, false),
            80..92 => sim.set_both(a, b, true),
            92..95 => sim.restart(n),
            // One region only: what two disks lose together may be gone for good.
            95..96 => sim.rebuild(1),
            _ => {
                let pause = sim.rng.random_range(0..3000);
                sim.run_for(ms(pause));
            }
        }
        let pause = sim.rng.random_range(0..60);
        sim.run_for(ms(pause));
    }

    for (a, b) in pairs {
        sim.set_up(a, b, true);
        let delay = sim.paths[&(a, b)].delay;
        sim.paths.insert(
            (a, b),
            Path {
                delay,
                ..Path::clean(0)
            },
        );
    }
    sim.settle(ms(60_000));
    // The news of the last commits is still under way.
    sim.run_for(ms(1_000));
    for node in sim.nodes.values() {
        assert_eq!(
            (node.engine.waiting(), node.engine.stopped().count()),
            (0, 0)
        );
    }
    assert!(sim.alerts.is_empty(), "{:?}", sim.alerts);
    sim.sent.values().sum()
}

/// G1, G4, G7, G10, G16.
#[test]
fn g1_g10_random_faults_lose_double_and_misorder_nothing() {
    if let Some(seed) = env("WHIMBREL_SEED") {
        run(seed);
        return;
    }
    let base: u64 = rand::rng().random_range(0..1 << 40);
    for run_number in 0..env("WHIMBREL_RUNS").unwrap_or(30) {
        run(base + run_number);
    }
}

#[test]
fn equal_seeds_give_equal_runs() {
    assert_eq!(run(123), run(123));
}
