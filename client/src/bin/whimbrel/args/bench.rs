//! The command line of `whimbrel bench`.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) what: BenchWhat,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchWhat {
    /// How many messages a region accepts, and how long each acknowledgement takes
    #[command(after_help = "\
Without --rate each client sends its next message when the last one was answered (closed loop).
With it, messages are due at even times, and latencies count from then (open loop).

Examples:
  whimbrel bench accept --dev .whimbrel
  whimbrel bench accept --rate 1000 --duration 30s
  whimbrel bench accept --clients 1 --texts gitter.tsv --json")]
    Accept(Accept),
}

/// What every kind of load needs to know.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Private key that signs the users' tokens (Ed25519, PKCS#8 PEM), instead of `--dev`
    #[arg(long, value_name = "FILE", conflicts_with = "dev")]
    pub(crate) key: Option<PathBuf>,
    /// Gitter export whose texts of 80 to 200 bytes are posted; without it texts are made up
    #[arg(long, value_name = "FILE", env = "WHIMBREL_GITTER_TSV")]
    pub(crate) texts: Option<PathBuf>,
    /// Decides on texts and order; printed with the figures
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Accept {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) posting: Posting,
    /// Connections, each with one message under way at a time
    #[arg(long, value_name = "N", default_value = "64")]
    pub(crate) clients: NonZeroUsize,
    /// Messages a second in an open loop
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<NonZeroU32>,
    #[command(flatten)]
    pub(crate) length: Length,
}

#[derive(Debug, Args)]
pub(crate) struct Posting {
    /// Users, who take turns; each may write 50 times a second unless the region's config says
    /// otherwise
    #[arg(long, value_name = "N", default_value = "200")]
    pub(crate) users: NonZeroUsize,
    /// Conversations, which take turns
    #[arg(long, value_name = "N", default_value = "16")]
    pub(crate) conversations: NonZeroUsize,
}

#[derive(Debug, Args)]
pub(crate) struct Length {
    /// What comes first and does not count
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = time)]
    pub(crate) warmup: Duration,
    /// How long it goes on after that
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    pub(crate) duration: Duration,
    /// So many messages instead
    #[arg(long, value_name = "N", conflicts_with = "duration")]
    pub(crate) messages: Option<u64>,
}

/// The longest time that can be asked for.
const TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

fn time(text: &str) -> Result<Duration, String> {
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|time| Duration::try_from(time).ok())
        .filter(|time| *time <= TIME_MAX)
        .ok_or_else(|| "it is a time up to a day, e.g. 500ms, 10s, 2m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(time("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(time("0s"), Ok(Duration::ZERO));
        assert_eq!(time("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "5", "-1s", "2 days", "25h"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
