//! What is fuzzed: each target takes any bytes and panics where a promise is broken. The tests run
//! them on seeds and mutations of those, `cargo fuzz` runs them guided by coverage.

mod apply;
mod batch;
mod change;
mod control;
mod engine;
mod frame;
mod input;
mod memory;
mod sample;
mod state;
mod text;
mod token;

pub(crate) use change::check_refused as check_refused_changes;

/// One of them.
pub(crate) struct Target {
    /// Of `cargo fuzz run`.
    pub(crate) name: &'static str,
    /// Takes any bytes.
    pub(crate) run: fn(&[u8]),
    /// Valid inputs, and hostile ones that are made by hand.
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
    /// Inputs that a test tries.
    pub(crate) tries: usize,
}

/// All of them.
pub(crate) const TARGETS: [Target; 9] = [
    Target {
        name: "frame",
        run: frame::run,
        seeds: frame::seeds,
        tries: 5_000,
    },
    Target {
        name: "batch",
        run: batch::run,
        seeds: batch::seeds,
        tries: 5_000,
    },
    Target {
        name: "text",
        run: text::run,
        seeds: text::seeds,
        tries: 5_000,
    },
    Target {
        name: "change",
        run: change::run,
        seeds: change::seeds,
        tries: 300,
    },
    Target {
        name: "engine",
        run: engine::run,
        seeds: engine::seeds,
        tries: 300,
    },
    Target {
        name: "apply",
        run: apply::run,
        seeds: apply::seeds,
        tries: 150,
    },
    Target {
        name: "state",
        run: state::run,
        seeds: state::seeds,
        tries: 300,
    },
    Target {
        name: "token",
        run: token::run,
        seeds: token::seeds,
        tries: 1_000,
    },
    Target {
        name: "control",
        run: control::run,
        seeds: control::seeds,
        tries: 5_000,
    },
];

/// The one of this name.
pub(crate) fn target(name: &str) -> &'static Target {
    let found = TARGETS.iter().find(|target| target.name == name);
    found.expect("a target of this name")
}
