//! Logs, to standard error.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Installs the process's log output. Once.
pub fn init(log: &Log) -> anyhow::Result<()> {
    // Automerge notes every step of a merge as a span, which costs more than some merges do.
    let quiet = if log.filter.contains("automerge") {
        ""
    } else {
        ",automerge=warn"
    };
    let filter = EnvFilter::try_new(format!("{}{quiet}", log.filter))
        .context("the log filter does not parse")?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let installed = match log.format {
        LogFormat::Human => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    installed.map_err(|error| anyhow::anyhow!("cannot install the log output: {error}"))
}
