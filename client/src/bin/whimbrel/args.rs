//! The command line.

pub(crate) mod bench;
pub(crate) mod capacity;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use whimbrel_client::Ack;
use whimbrel_client::api::{ConversationKind, Role};

/// Talk to a Whimbrel cluster from the command line.
#[derive(Debug, Parser)]
#[command(
    name = "whimbrel",
    version,
    arg_required_else_help = true,
    after_help = "\
Where the regions are:
  --urls LIST, else --dev DIR, else WHIMBREL_URLS, else the folder .whimbrel where there is one.
Who you are:
  --token TOKEN, else --user NAME (signed with the key of the dev cluster), else WHIMBREL_TOKEN.

A first conversation, beside a running `whimbrel-node dev`:
  whimbrel --user ana create --kind channel --title Birds    prints the id of the channel
  whimbrel --user ana send ID 'Hello from Europe'
  whimbrel --user ben --region us history ID                 the same message, in another region
  whimbrel --user ana tail                                   what happens, as it happens

With a real cluster:
  export WHIMBREL_URLS=eu=https://eu.example.org,us=https://us.example.org
  export WHIMBREL_TOKEN=eyJ...
  whimbrel regions"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of all commands")]
pub(crate) struct Global {
    /// The regions, comma-separated, each `name=url` or `url` [env: WHIMBREL_URLS]
    #[arg(long, global = true, value_name = "LIST")]
    pub(crate) urls: Option<String>,
    /// Folder of a cluster that `whimbrel-node dev` runs
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) dev: Option<PathBuf>,
    /// The bearer token [env: WHIMBREL_TOKEN]
    #[arg(long, global = true)]
    pub(crate) token: Option<String>,
    /// Be this user, with a token signed by the key of the dev cluster
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "token")]
    pub(crate) user: Option<String>,
    /// Act for this user; the token needs scope `service`
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) act_as: Option<String>,
    /// The one region to ask; default: the first, and another where it fails
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) region: Option<String>,
    /// Only answer from a state that includes this cursor
    #[arg(long, global = true, value_name = "CURSOR")]
    pub(crate) after: Option<String>,
    /// Print JSON; an error is one line of it, on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print a token, alone on standard output
    #[command(after_help = "\
Examples:
  export WHIMBREL_TOKEN=$(whimbrel token --user ana --dev .whimbrel)
  whimbrel token --user bot --scope service --ttl 30d --key token-key.pem")]
    Token(Token),
    /// Show all regions and how they are
    Regions,
    /// List your conversations, newest activity first
    Conversations(Conversations),
    /// Make a conversation and print its id
    #[command(after_help = "\
Examples:
  whimbrel create --kind channel --title Birds --topic 'What flew by'
  whimbrel create --kind group --member ben --member cleo
  whimbrel create --kind direct --member ben")]
    Create(Create),
    /// Post a message and print its id
    #[command(after_help = "\
Examples:
  whimbrel send CONVERSATION 'Hello'
  uptime | whimbrel send CONVERSATION -
  whimbrel send CONVERSATION 'Deployed 4.2' --key deploy-4.2     at most once, however often it runs
  whimbrel send CONVERSATION 'Important' --ack regions:2         wait for a second region
  whimbrel send CONVERSATION 'On the train' --queue outbox       keep it until a region takes it")]
    Send(Send),
    /// Send what waits in the queue of `send --queue`
    #[command(after_help = "\
Entries are sent in order, each once. What was refused for good is listed until it is cleared.
Ends with 1 where something is left, or has failed.

Example:
  whimbrel flush outbox")]
    Flush(Flush),
    /// Show messages, or all versions of one message
    #[command(after_help = "\
Examples:
  whimbrel history CONVERSATION                     the newest 50
  whimbrel history CONVERSATION --before POSITION   those before them
  whimbrel history CONVERSATION --all
  whimbrel history CONVERSATION MESSAGE             the versions of one message")]
    History(History),
    /// Change the text of a message
    #[command(after_help = "\
Edits that others make at the same time merge. --base names the revision that you saw (see
`history --json`); without it the current one is fetched first.")]
    Edit(Edit),
    /// Take a message away for good, in all regions
    Redact(Redact),
    /// React to a message, or take a reaction back
    #[command(after_help = "Example:\n  whimbrel react CONVERSATION MESSAGE 👍")]
    React(React),
    /// Mark a conversation as read
    Read(Read),
    /// List, add, remove or ban members
    #[command(after_help = "\
Examples:
  whimbrel members CONVERSATION
  whimbrel members CONVERSATION add ben --role admin
  whimbrel --user ben members CHANNEL add ben        join a channel
  whimbrel --user ben members CHANNEL remove ben     leave it")]
    Members(Members),
    /// Show what happens in your conversations, as it happens
    #[command(after_help = "\
Ctrl-C ends it. Lost connections are made anew; nothing is missed and nothing comes twice.
Events come from conversations that you are a member of; join a channel with `members`.

Examples:
  whimbrel tail
  whimbrel tail CONVERSATION --from-start
  whimbrel tail --json | jq 'select(.type == \"message.posted\")'
  whimbrel tail --since TOKEN                        TOKEN as in `--json`, of any region")]
    Tail(Tail),
    /// Import a chat export
    Import {
        #[command(subcommand)]
        format: Import,
    },
    /// Print all messages of a conversation, oldest first, one JSON object a line
    #[command(after_help = "Example:\n  whimbrel export CONVERSATION > birds.jsonl")]
    Export(Export),
    /// Measure a cluster under load
    #[command(after_help = "\
It makes users and conversations of its own, which stay. Ctrl-C prints what was measured until then.
Latencies are in milliseconds, in the JSON in microseconds.")]
    Bench(bench::Bench),
    /// Plan how much of everything a cluster needs, and what it costs
    #[command(
        allow_negative_numbers = true,
        after_help = "\
It asks no cluster. Figures come from unit costs that our benchmarks measured, from some that are
extrapolated from these, and from guesses; each row says on which of them it stands, and the last
tables list them. Prices are guesses: put in yours.

Examples:
  whimbrel capacity
  whimbrel capacity --daily-users 100M --regions 3 --regions-down 1
  whimbrel capacity --daily-users 250K --actions-per-user 40 --posts 60 --pages 20 --markers 10
  whimbrel capacity --cost post.node_us=180,post.fdb_us=150 --price-wan-gb 0.02
  whimbrel capacity --json | jq .plan.bill.million_messages"
    )]
    Capacity(Box<capacity::Capacity>),
}

#[derive(Debug, Args)]
pub(crate) struct Token {
    /// What the token allows besides: `admin`, `service`; may be given several times
    #[arg(long, value_name = "SCOPE")]
    pub(crate) scope: Vec<String>,
    /// How long it holds, e.g. 90s, 30m, 1h, 7d
    #[arg(long, default_value = "1h", value_parser = parse_ttl)]
    pub(crate) ttl: Duration,
    /// Private key to sign with (Ed25519, PKCS#8 PEM), instead of `--dev`
    #[arg(long, value_name = "FILE", conflicts_with = "dev")]
    pub(crate) key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Conversations {
    /// At most so many
    #[arg(long, value_parser = page_items)]
    pub(crate) limit: Option<u32>,
    /// A further page: `next` of the one before
    #[arg(long)]
    pub(crate) page: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// What it is: between two users, for members only, or open to all
    #[arg(long, value_enum)]
    pub(crate) kind: Kind,
    /// Its title
    #[arg(long)]
    pub(crate) title: Option<String>,
    /// What it is about
    #[arg(long)]
    pub(crate) topic: Option<String>,
    /// A first member; may be given several times
    #[arg(long = "member", value_name = "USER")]
    pub(crate) members: Vec<String>,
    /// Idempotency key: the same key never makes a second one
    #[arg(long)]
    pub(crate) key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Send {
    /// Id of the conversation
    pub(crate) conversation: String,
    /// The text; `-` reads standard input
    #[arg(allow_hyphen_values = true)]
    pub(crate) text: String,
    /// Id of the message that it answers
    #[arg(long, value_name = "MESSAGE")]
    pub(crate) reply_to: Option<String>,
    /// Idempotency key: the same key never posts twice
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// When it counts as posted: `local`, or `regions:K` when K regions have it
    #[arg(long, value_parser = parse_ack, default_value = "local")]
    pub(crate) ack: Ack,
    /// Put it into the queue in this folder first, and send all that waits there; what cannot be
    /// sent now is kept
    #[arg(long, value_name = "DIR", conflicts_with_all = ["key", "ack"])]
    pub(crate) queue: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Flush {
    /// Folder of the queue
    pub(crate) queue: PathBuf,
    /// Forget what has failed, after it was listed
    #[arg(long)]
    pub(crate) clear: bool,
}

#[derive(Debug, Args)]
pub(crate) struct History {
    /// Id of the conversation
    pub(crate) conversation: String,
    /// Show the versions of this message instead
    #[arg(conflicts_with_all = ["limit", "all", "before", "newer"])]
    pub(crate) message: Option<String>,
    /// Messages on a page
    #[arg(long, value_parser = page_items)]
    pub(crate) limit: Option<u32>,
    /// All messages, not one page
    #[arg(long, conflicts_with_all = ["before", "newer"])]
    pub(crate) all: bool,
    /// The page before a position
    #[arg(long, value_name = "POSITION", conflicts_with = "newer")]
    pub(crate) before: Option<String>,
    /// The page after a position
    #[arg(long, value_name = "POSITION")]
    pub(crate) newer: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Edit {
    /// Id of the conversation
    pub(crate) conversation: String,
    /// Id of the message
    pub(crate) message: String,
    /// The whole new text; `-` reads standard input
    #[arg(allow_hyphen_values = true)]
    pub(crate) text: String,
    /// The revision that the edit is made on
    #[arg(long, value_name = "REVISION")]
    pub(crate) base: Option<String>,
    /// Idempotency key
    #[arg(long)]
    pub(crate) key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Redact {
    /// Id of the conversation
    pub(crate) conversation: String,
    /// Id of the message
    pub(crate) message: String,
}

#[derive(Debug, Args)]
pub(crate) struct React {
    /// Id of the conversation
    pub(crate) conversation: String,
    /// Id of the message
    pub(crate) message: String,
    /// One emoji
    pub(crate) emoji: String,
    /// Take it back
    #[arg(long)]
    pub(crate) remove: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Read {
    /// Id of the conversation
    pub(crate) conversation: String,
    /// Up to here; default: all that there is now
    #[arg(long)]
    pub(crate) cursor: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Members {
    /// Id of the conversation
    pub(crate) conversation: String,
    #[command(subcommand)]
    pub(crate) what: Option<MembersWhat>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MembersWhat {
    /// List them (this is the default)
    List,
    /// Add a member or change their role
    Add {
        /// Whom
        user: String,
        /// What they may do
        #[arg(long, value_enum, default_value = "member")]
        role: RoleArg,
    },
    /// Remove a member; oneself leaves
    Remove {
        /// Whom
        user: String,
    },
    /// Remove a member and keep them out
    Ban {
        /// Whom
        user: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// Only this conversation
    pub(crate) conversation: Option<String>,
    /// Resume after this event
    #[arg(long, value_name = "TOKEN")]
    pub(crate) since: Option<String>,
    /// Show all earlier messages first
    #[arg(long, requires = "conversation", conflicts_with = "since")]
    pub(crate) from_start: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Import {
    /// Import an export of Gitter
    #[command(after_help = "\
The file is tab-separated, quoted as in RFC 4180, with the header row
  room_id room sent_at user_id username message_id text
Rooms become channels that user `import` owns, senders join them, messages keep their time. Bad
records are reported with the line on which they start, and the import goes on. Running it again
adds nothing twice.

With a dev cluster it signs its own token. Else the token needs scope `service`:
  whimbrel import gitter rooms.tsv --dev .whimbrel
  whimbrel import gitter rooms.tsv --token $(whimbrel token --user import --scope service --key K)")]
    Gitter(ImportGitter),
}

#[derive(Debug, Args)]
pub(crate) struct ImportGitter {
    /// The export
    pub(crate) file: PathBuf,
    /// Only the first N rooms of the file
    #[arg(long, value_name = "N")]
    pub(crate) rooms: Option<usize>,
    /// Rooms under way at once; each waits for one post at a time
    #[arg(long, value_name = "N", default_value = "64")]
    pub(crate) concurrency: NonZeroUsize,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Id of the conversation
    pub(crate) conversation: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Kind {
    Direct,
    Group,
    Channel,
}

impl From<Kind> for ConversationKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Direct => Self::Direct,
            Kind::Group => Self::Group,
            Kind::Channel => Self::Channel,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum RoleArg {
    Owner,
    Admin,
    Member,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Owner => Self::Owner,
            RoleArg::Admin => Self::Admin,
            RoleArg::Member => Self::Member,
        }
    }
}

fn page_items(text: &str) -> Result<u32, String> {
    let max = whimbrel_client::api::limits::PAGE_ITEMS_MAX;
    text.parse()
        .ok()
        .filter(|items| (1..=max).contains(items))
        .ok_or_else(|| format!("a page has 1 to {max} items"))
}

fn parse_ack(text: &str) -> Result<Ack, String> {
    match text.split_once(':') {
        None if text == "local" => Ok(Ack::Local),
        Some(("regions", count)) => match count.parse() {
            Ok(count) if count > 0 => Ok(Ack::Regions(count)),
            _ => Err("after `regions:` stands a number of regions".to_owned()),
        },
        _ => Err("it is `local` or `regions:K`".to_owned()),
    }
}

fn parse_ttl(text: &str) -> Result<Duration, String> {
    let wrong = || "it is a number and s, m, h or d, e.g. 90s, 30m, 1h, 7d".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    count
        .checked_mul(seconds)
        .filter(|&seconds| seconds > 0 && seconds <= 100 * 366 * 24 * 60 * 60)
        .map(Duration::from_secs)
        .ok_or_else(|| "it is between a second and a hundred years".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_to_live() {
        assert_eq!(parse_ttl("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_ttl("7d"), Ok(Duration::from_secs(604_800)));
        for bad in ["", "h", "1", "-1h", "1w", "0s", "1é", "999999999999999999d"] {
            assert!(parse_ttl(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn acks() {
        assert_eq!(parse_ack("local"), Ok(Ack::Local));
        assert_eq!(parse_ack("regions:2"), Ok(Ack::Regions(2)));
        for bad in ["", "regions", "regions:", "regions:0", "all"] {
            assert!(parse_ack(bad).is_err(), "{bad}");
        }
    }
}
