//! Shows on a terminal how far a move has come; elsewhere as a line now and then.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::Progress;

/// Between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// One bar for the rows, then one for the comparison.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    what: &'static str,
    is_terminal: bool,
    told: Instant,
}

impl Default for Bar {
    fn default() -> Self {
        Self {
            bar: ProgressBar::hidden(),
            what: "",
            is_terminal: std::io::stderr().is_terminal(),
            told: Instant::now(),
        }
    }
}

impl Bar {
    /// Shows it.
    pub fn show(&mut self, progress: Progress) {
        match progress {
            Progress::Anew => self.note("the old store was used since: the move begins anew"),
            Progress::Begun { rows, done } => {
                self.note(&match done {
                    0 => format!("{rows} rows are to be copied"),
                    _ => format!("{done} of {rows} rows are there already; going on"),
                });
                self.begin("rows", rows);
                self.bar.set_position(done);
                self.bar.reset_eta();
            }
            Progress::Comparing(conversations) => {
                self.note("copied; comparing the digests of both stores");
                self.begin("conversations", conversations);
            }
            Progress::Copied(count) | Progress::Compared(count) => {
                self.bar.set_position(count);
                if !self.is_terminal && self.told.elapsed() >= LINE_INTERVAL {
                    let of = self.bar.length().unwrap_or_default();
                    self.note(&format!("{count} of {of} {}", self.what));
                }
            }
        }
    }

    /// Takes it off the terminal.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }

    fn begin(&mut self, what: &'static str, count: u64) {
        self.bar.finish_and_clear();
        let style = ProgressStyle::with_template(&format!(
            "{{bar:30}} {{human_pos}} of {{human_len}} {what}, {{per_sec}}, {{eta}} left"
        ))
        .expect("the template is well-formed");
        self.bar = ProgressBar::new(count).with_style(style);
        self.what = what;
    }

    fn note(&mut self, line: &str) {
        self.told = Instant::now();
        self.bar.suspend(|| eprintln!("{line}"));
    }
}
