//! The targets of the tests, for `cargo fuzz`.

#[path = "../../tests/fuzz/targets/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests use more of them")]
mod targets;

/// Runs a target.
pub fn run(target: &str, input: &[u8]) {
    (targets::target(target).run)(input);
}

/// All targets with their seeds.
pub fn seeds() -> impl Iterator<Item = (&'static str, Vec<Vec<u8>>)> {
    let targets = targets::TARGETS.iter();
    targets.map(|target| (target.name, (target.seeds)()))
}
