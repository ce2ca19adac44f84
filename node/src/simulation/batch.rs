//! Many seeds on all cores.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::{Counts, Report, run};

/// What came of many seeds.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The first seed.
    pub from: u64,
    /// Seeds that were run to their end.
    pub runs: u64,
    /// What happened in all of them.
    pub counts: Counts,
    /// How long they took.
    pub took: Duration,
    /// The first run that broke a promise.
    pub violated: Option<Report>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.took.as_secs_f64() / 60.0;
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let rate = self.runs as f64 / minutes;
        let Self {
            runs, from, counts, ..
        } = self;
        write!(f, "{runs} seeds from {from}, {rate:.0} a minute: {counts}")
    }
}

/// Runs `seeds` seeds from `from` on, and shows a bar meanwhile. Stops at the first violation. `each` is
/// shown every run, one at a time, and may stop too.
///
/// # Panics
///
/// When a run does.
pub fn run_all(
    from: u64,
    seeds: u64,
    each: impl FnMut(&Report) -> ControlFlow<()> + Send,
) -> Outcome {
    let style = ProgressStyle::with_template(
        "{bar:30} {human_pos} of {human_len} seeds, {per_sec}, {eta} left",
    );
    let style = style.expect("the template is well-formed");
    let bar = ProgressBar::new(seeds).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    let begun = AtomicU64::new(0);
    let outcome = Outcome {
        from,
        ..Outcome::default()
    };
    let shared = Mutex::new((outcome, each));
    let began = Instant::now();
    let worker = || {
        let next = |nth| (nth < seeds).then(|| nth + 1);
        while let Ok(nth) = begun.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            // After the last seed comes the first.
            let report = run(from.wrapping_add(nth));
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let (outcome, each) = &mut *shared;
            outcome.runs += 1;
            outcome.counts.add(&report.counts);
            bar.inc(1);
            let shown = bar.suspend(|| each(&report));
            if report.violation.is_some() {
                outcome.violated.get_or_insert(report);
            }
            if shown.is_break() || outcome.violated.is_some() {
                begun.store(seeds, Ordering::Relaxed);
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(worker);
        }
    });
    bar.finish_and_clear();
    let shared = shared.into_inner();
    let (mut outcome, _) = shared.unwrap_or_else(PoisonError::into_inner);
    outcome.took = began.elapsed();
    outcome
}
