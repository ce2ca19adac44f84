//! Many seeds on all cores.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::{Counts, Report, run};

/// Runs `seeds` seeds from `from` on, shows a bar meanwhile and the sum in the end. Stops at the first
/// violation, and gives the run in which it was. `each` is shown every run.
///
/// # Panics
///
/// When a run does.
pub fn run_all(from: u64, seeds: u64, each: impl Fn(&Report) + Sync) -> Option<Report> {
    let style = ProgressStyle::with_template(
        "{bar:30} {human_pos} of {human_len} seeds, {per_sec}, {eta} left",
    );
    let style = style.expect("the template is well-formed");
    let bar = ProgressBar::new(seeds).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    let begun = AtomicU64::new(0);
    let violated: Mutex<Option<Report>> = Mutex::new(None);
    let (sum, runs) = (Mutex::new(Counts::default()), AtomicU64::new(0));
    let lock = || violated.lock().unwrap_or_else(PoisonError::into_inner);
    let began = Instant::now();
    let worker = || {
        while lock().is_none() {
            let nth = begun.fetch_add(1, Ordering::Relaxed);
            if nth >= seeds {
                return;
            }
            // After the last seed comes the first.
            let report = run(from.wrapping_add(nth));
            runs.fetch_add(1, Ordering::Relaxed);
            bar.inc(1);
            bar.suspend(|| each(&report));
            sum.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .add(&report.counts);
            if report.violation.is_some() {
                lock().get_or_insert(report);
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
    let sum = *sum.lock().unwrap_or_else(PoisonError::into_inner);
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    let runs = runs.into_inner();
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let rate = runs as f64 / minutes;
    println!("{runs} seeds from {from}, {rate:.0} a minute: {sum}");
    violated
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
}
