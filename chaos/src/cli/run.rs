//! `whimbrel-chaos run`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use futures_util::stream::{self, StreamExt as _};
use tokio_util::sync::CancellationToken;
use whimbrel_chaos::cluster::Origin;
use whimbrel_chaos::experiment::{Experiment, Form};
use whimbrel_chaos::journal::{Journal, Outcome};
use whimbrel_chaos::report;
use whimbrel_chaos::run::{Case, Ground, Options};

pub(super) const EXAMPLES: &str = "\
Examples:
  whimbrel-chaos run chaos/experiments/region-killed.json
  whimbrel-chaos run --short --jobs 3 --report report.html chaos/experiments/*.json
  whimbrel-chaos --dev .whimbrel run --attach chaos/experiments/full-partition.json

Exit status:
  0  all guarantees held while the faults did bite; what was skipped is named
  1  a guarantee was violated, or the steady state did not come back
  2  bad input, an experiment that could not be run to its end, or a fault that did not bite";

#[derive(Args)]
pub(super) struct RunArguments {
    /// Experiment files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Run the short forms, each under 30 s
    #[arg(long)]
    short: bool,
    /// Take the same chances as another run: what users do, and what bad links do
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// So many experiments at once, each on a cluster of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    jobs: u8,
    /// Write what was done and what came of it, as JSON
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Write a page with time lines, plots and verdicts
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Write JUnit's XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Keep the files of clusters here; default: temporary folders, kept where something is wrong
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The program that runs regions; default: whimbrel-node beside this one
    #[arg(long, value_name = "FILE", env = "WHIMBREL_NODE")]
    node: Option<PathBuf>,
    /// Use the cluster that runs in the folder --dev; its links alone can be harmed
    #[arg(long, conflicts_with_all = ["data", "node"])]
    attach: bool,
}

/// Runs all; what is to be printed, and how it ended.
pub(super) fn run(
    arguments: &RunArguments,
    dev: &Path,
    is_json: bool,
) -> anyhow::Result<(String, ExitCode)> {
    let cases = arguments.files.iter().map(|file| read(file));
    let cases: Vec<Case> = cases.collect::<anyhow::Result<_>>()?;
    let seed = arguments.seed.unwrap_or_else(rand::random);
    anyhow::ensure!(
        !arguments.attach || arguments.jobs == 1,
        "one cluster takes one experiment at a time; leave --jobs away"
    );
    let grounds = cases
        .iter()
        .map(|case| arguments.ground(&case.name, dev))
        .collect::<anyhow::Result<Vec<Ground>>>()?;
    // Before anything starts.
    for (case, ground) in cases.iter().zip(&grounds) {
        case.lacks(ground)?;
    }
    arguments.check_outputs()?;
    eprintln!("--seed {seed} takes the same chances again");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let journals = runtime.block_on(run_all(arguments, cases, grounds, seed))?;
    arguments.write(&journals)?;
    let told = if is_json {
        report::json(&journals)
    } else {
        summary(&journals)
    };
    Ok((told, exit_code(&journals)))
}

impl RunArguments {
    fn ground(&self, name: &str, dev: &Path) -> anyhow::Result<Ground> {
        if self.attach {
            return Ok(Ground::Attached(dev.to_owned()));
        }
        let program = match &self.node {
            Some(program) => program.clone(),
            None => beside()?,
        };
        anyhow::ensure!(
            program.is_file(),
            "there is no program {}; build it with `cargo build -p whimbrel-node`, or name it \
             with --node",
            program.display()
        );
        Ok(Ground::Own(Origin {
            program: std::path::absolute(&program).context("the program has no path")?,
            data: self.data.clone(),
            name: name.to_owned(),
        }))
    }

    /// What comes of many minutes must not be lost for a mistyped path.
    fn check_outputs(&self) -> anyhow::Result<()> {
        let outputs = [&self.journal, &self.report, &self.junit];
        for file in outputs.into_iter().flatten() {
            fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(file)
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(())
    }

    fn write(&self, journals: &[Journal]) -> anyhow::Result<()> {
        let files = [
            (&self.journal, report::json as fn(&[Journal]) -> String),
            (&self.report, report::html),
            (&self.junit, report::junit),
        ];
        for (file, render) in files {
            if let Some(file) = file {
                fs::write(file, render(journals))
                    .with_context(|| format!("cannot write {}", file.display()))?;
            }
        }
        Ok(())
    }
}

fn beside() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("cannot find this program")?;
    Ok(this.with_file_name("whimbrel-node"))
}

fn read(file: &Path) -> anyhow::Result<Case> {
    let experiment = Experiment::read(file)?;
    let json = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let name = file.file_stem().unwrap_or(file.as_os_str());
    Ok(Case {
        name: name.to_string_lossy().into_owned(),
        json: serde_json::from_slice(&json).context("it was JSON a moment ago")?,
        experiment,
    })
}

async fn run_all(
    arguments: &RunArguments,
    cases: Vec<Case>,
    grounds: Vec<Ground>,
    seed: u64,
) -> anyhow::Result<Vec<Journal>> {
    let interrupted = CancellationToken::new();
    let watch = {
        let interrupted = interrupted.clone();
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
                .context("cannot listen for signals")?;
        tokio::spawn(async move {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            interrupted.cancel();
        })
    };
    let form = if arguments.short {
        Form::Short
    } else {
        Form::Long
    };
    let are_many = cases.len() > 1;
    let runs = cases
        .into_iter()
        .zip(grounds)
        .enumerate()
        .map(|(nth, (case, ground))| {
            let options = Options { form, seed, ground };
            let interrupted = &interrupted;
            async move {
                let journal = Box::pin(case.run(&options, interrupted)).await;
                // Of one alone the summary follows at once.
                if are_many {
                    eprintln!("{}", line(&journal));
                }
                (nth, journal)
            }
        });
    let ended = stream::iter(runs).buffer_unordered(arguments.jobs.into());
    let mut journals: Vec<(usize, Journal)> = ended.collect().await;
    watch.abort();
    journals.sort_by_key(|(nth, _)| *nth);
    Ok(journals.into_iter().map(|(_, journal)| journal).collect())
}

fn line(journal: &Journal) -> String {
    let mut text = format!(
        "{:<24} {:<13} {:>6.1} s",
        journal.name,
        journal.outcome.to_string(),
        journal.duration
    );
    if let Some(counts) = &journal.counts {
        let acked = counts.posts + counts.edits + counts.redactions + counts.other_writes;
        let violations: usize = journal.verdicts.iter().map(|v| v.violations).sum();
        let _ = write!(
            text,
            "  {} operations, {acked} acked writes, {violations} violations",
            counts.operations
        );
    }
    if journal.gone > 0 {
        let _ = write!(text, ", {} gone with a disk", journal.gone);
    }
    if let Some(reason) = &journal.reason {
        let _ = write!(text, "  {reason}");
    }
    text
}

fn summary(journals: &[Journal]) -> String {
    let mut text = String::new();
    for journal in journals {
        let _ = writeln!(text, "{}", line(journal));
        for verdict in journal.verdicts.iter().filter(|verdict| !verdict.held) {
            for example in &verdict.examples {
                let _ = writeln!(text, "  {example}");
            }
            let more = verdict.violations - verdict.examples.len();
            if more > 0 {
                let _ = writeln!(text, "  and {more} more of {}", verdict.guarantee);
            }
        }
        if let Some(folder) = &journal.kept {
            let _ = writeln!(text, "  the files of its cluster are kept in {folder}");
        }
    }
    text
}

fn exit_code(journals: &[Journal]) -> ExitCode {
    let any = |outcome: Outcome| journals.iter().any(|journal| journal.outcome == outcome);
    if any(Outcome::Violated) {
        ExitCode::from(1)
    } else if any(Outcome::NoBite) || any(Outcome::NotRun) {
        ExitCode::from(2)
    } else {
        ExitCode::SUCCESS
    }
}
