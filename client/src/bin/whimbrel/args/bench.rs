//! The command line of `whimbrel bench`.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
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
    /// How long messages take to be seen in the other regions
    #[command(after_help = "\
Messages are due at even times in the first region, or in --region; streams in all others wait for
them. Ends with 1 where one was missed or seen twice.

Example:
  whimbrel bench visibility --dev .whimbrel --rate 1000 --duration 30s")]
    Visibility(Visibility),
    /// How fast a region that was away gets what it missed
    #[command(after_help = "\
Kills a region of a dev cluster (SIGKILL), posts in another, starts it again with
`whimbrel-node dev --only`, and waits until it holds everything. It goes on running then.

Example:
  whimbrel bench catch-up --dev .whimbrel --down ap --messages 50000")]
    CatchUp(CatchUp),
    /// How long a page of 50 messages takes, the newest and any
    #[command(after_help = "\
Examples:
  whimbrel bench history --messages 100000         fills a conversation first, and prints its id
  whimbrel bench history --conversation ID         one that is there, such as an imported one")]
    History(History),
    /// How long an edit and a merge take after earlier edits
    Edits(Edits),
    /// How much memory idle streams take in a node
    #[command(after_help = "\
Memory is that of the region's processes in RAM, before and while the streams are open: needs
`--dev`. What a node allocated for other things before and gave not back to the system makes the
difference smaller: start the cluster anew for a figure of this alone.")]
    Streams(Streams),
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
pub(crate) struct Visibility {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) posting: Posting,
    /// Connections; more than are needed do no harm
    #[arg(long, value_name = "N", default_value = "64")]
    pub(crate) clients: NonZeroUsize,
    /// Messages a second
    #[arg(long, value_name = "N", default_value = "1000")]
    pub(crate) rate: NonZeroU32,
    #[command(flatten)]
    pub(crate) length: Length,
}

#[derive(Debug, Args)]
pub(crate) struct CatchUp {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) posting: Posting,
    /// The region to kill; default: the last
    #[arg(long, value_name = "NAME")]
    pub(crate) down: Option<String>,
    /// Program that starts it again; default: `whimbrel-node` beside this one
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) node: Option<PathBuf>,
    /// What it misses
    #[arg(long, value_name = "N", default_value = "50000")]
    pub(crate) messages: NonZeroU64,
    /// Connections that post meanwhile
    #[arg(long, value_name = "N", default_value = "64")]
    pub(crate) clients: NonZeroUsize,
}

#[derive(Debug, Args)]
pub(crate) struct History {
    #[command(flatten)]
    pub(crate) common: Common,
    /// A conversation that is there; its group must have the member `bench`, a channel none
    #[arg(long, value_name = "ID")]
    pub(crate) conversation: Option<String>,
    /// Messages of the conversation that is made
    #[arg(
        long,
        value_name = "N",
        default_value = "10000",
        conflicts_with = "conversation"
    )]
    pub(crate) messages: NonZeroU64,
    /// Connections, each with one page under way at a time
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) clients: NonZeroUsize,
    /// What comes first and does not count, of each kind of page
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time)]
    pub(crate) warmup: Duration,
    /// How long it goes on after that, for each kind of page
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = time)]
    pub(crate) duration: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Edits {
    #[command(flatten)]
    pub(crate) common: Common,
    /// How often a message was edited before
    #[arg(long, value_name = "N,...", default_value = "1,10,100", value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1..=EARLIER_EDITS_MAX))]
    pub(crate) earlier: Vec<u32>,
    /// Messages for each of them
    #[arg(long, value_name = "N", default_value = "20")]
    pub(crate) messages: NonZeroU32,
}

#[derive(Debug, Args)]
pub(crate) struct Streams {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) posting: Posting,
    /// Streams to open; a user may have 200
    #[arg(long, value_name = "N", default_value = "1000")]
    pub(crate) streams: NonZeroUsize,
    /// How long they are held
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    pub(crate) hold: Duration,
}

/// The two measured edits must fit as well.
const EARLIER_EDITS_MAX: i64 = whimbrel_client::api::limits::EDITS_MAX as i64 - 2;

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
    pub(crate) messages: Option<NonZeroU64>,
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
