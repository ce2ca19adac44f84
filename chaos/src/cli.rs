//! The command line.

mod amount;
mod run;
mod table;

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use whimbrel_chaos::experiment::SCHEMA;
use whimbrel_chaos::link::{
    Change, Client, ControlError, LinkReport, Order, Report, Request, SOCKET,
};
use whimbrel_client::api::DevCluster;

const EXAMPLES: &str = "\
Examples, beside a running `whimbrel-node dev --relay`:
  whimbrel-chaos link eu us cut               eu and us hear nothing from each other
  whimbrel-chaos link eu us cut --one-way     us hears nothing from eu, eu hears us
  whimbrel-chaos link ap all delay 150ms --jitter 20ms
                                              all that ap sends and receives is slow
  whimbrel-chaos link all all loss 5%         every link loses one datagram in twenty
  whimbrel-chaos link eu us bandwidth 1mbit   a narrow line; what does not fit is dropped
  whimbrel-chaos link eu us show              what is wrong between eu and us
  whimbrel-chaos links                        all links, with what they have done so far
  whimbrel-chaos link all all heal            all is well again

Faults add up until healed: a slow link can be lossy as well. They hold for what is sent
after the command; what is under way arrives as it would have.";

#[derive(Parser)]
#[command(
    name = "whimbrel-chaos",
    version,
    about = "Experiments on a cluster: regions that die, bad links, bad clocks, bad disks",
    after_help = EXAMPLES
)]
pub(crate) struct Arguments {
    /// The folder of a cluster that `whimbrel-node dev --relay` runs
    #[arg(long, global = true, value_name = "DIR", default_value = ".whimbrel")]
    dev: PathBuf,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Change or show the link between two regions, both ways
    #[command(after_help = EXAMPLES)]
    Link(LinkArguments),
    /// Show all links: what is wrong with them, and what they have done so far
    Links,
    /// Run experiments: load, faults, and a verdict for each guarantee
    #[command(after_help = run::EXAMPLES)]
    Run(run::RunArguments),
    /// Print the JSON Schema of an experiment file
    Schema,
}

#[derive(Args)]
struct LinkArguments {
    /// A region, or `all`
    from: Ends,
    /// Another region, or `all`
    to: Ends,
    /// Only what FROM sends to TO
    #[arg(long, global = true)]
    one_way: bool,
    #[command(subcommand)]
    action: Action,
}

/// One region, or all.
#[derive(Clone)]
struct Ends(Option<String>);

impl From<&str> for Ends {
    fn from(name: &str) -> Self {
        Self((name != "all").then(|| name.to_owned()))
    }
}

#[derive(Subcommand)]
enum Action {
    /// Let nothing through
    Cut,
    /// Take all faults away
    Heal,
    /// Let each datagram travel for so long
    Delay {
        /// Such as 80ms or 1.5s; 0ms ends it
        #[arg(value_parser = amount::milliseconds)]
        time: u32,
        /// Let the time differ by up to this, more or less; the order is kept
        #[arg(long, value_name = "TIME", value_parser = amount::milliseconds, default_value = "0ms")]
        jitter: u32,
    },
    /// Lose this share of datagrams
    Loss {
        /// Such as 5%; 0% ends it
        #[arg(value_parser = amount::share)]
        share: f64,
    },
    /// Deliver this share of datagrams twice
    Duplicate {
        /// Such as 1%; 0% ends it
        #[arg(value_parser = amount::share)]
        share: f64,
    },
    /// Hold this share of datagrams back, so that those sent soon after overtake them
    Reorder {
        /// Such as 10%; 0% ends it
        #[arg(value_parser = amount::share)]
        share: f64,
    },
    /// Let so many bits through in a second; what waits in too long a queue is dropped
    Bandwidth {
        /// Such as 500kbit, 1mbit or 1gbit; `unlimited` ends it
        #[arg(value_parser = amount::rate)]
        rate: amount::Rate,
    },
    /// Change nothing, only show
    Show,
}

impl Action {
    fn change(&self) -> Option<Change> {
        Some(match *self {
            Self::Cut => Change::Cut,
            Self::Heal => Change::Heal,
            Self::Delay { time, jitter } => Change::Delay {
                ms: time,
                jitter_ms: jitter,
            },
            Self::Loss { share } => Change::Loss(share),
            Self::Duplicate { share } => Change::Duplicate(share),
            Self::Reorder { share } => Change::Reorder(share),
            Self::Bandwidth { rate } => Change::Bandwidth(rate.0),
            Self::Show => return None,
        })
    }
}

/// Does as asked; what is to be printed, and how it ended.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<(String, ExitCode)> {
    let (request, wanted) = match arguments.command {
        Command::Run(run) => return run::run(&run, &arguments.dev, arguments.json),
        Command::Schema => return Ok((SCHEMA.to_owned(), ExitCode::SUCCESS)),
        Command::Links => (Request::Show, None),
        Command::Link(link) => {
            let (from, to) = (link.from.0, link.to.0);
            let request = link.action.change().map_or(Request::Show, |change| {
                Request::Change(Order {
                    from: from.clone(),
                    to: to.clone(),
                    one_way: link.one_way,
                    change,
                })
            });
            (request, Some((from, to, link.one_way)))
        }
    };
    let mut report = ask(&arguments.dev, &request)?;
    if let Some((from, to, one_way)) = wanted {
        let is = |name: &str, wanted: &Option<String>| {
            wanted.as_deref().is_none_or(|wanted| wanted == name)
        };
        let chosen = |link: &LinkReport| {
            (is(&link.from, &from) && is(&link.to, &to))
                || (!one_way && is(&link.from, &to) && is(&link.to, &from))
        };
        report.links.retain(chosen);
        anyhow::ensure!(
            !report.links.is_empty(),
            "there is no such link; `whimbrel-chaos links` shows those that there are"
        );
    }
    if arguments.json {
        let json = serde_json::to_string_pretty(&report).context("cannot write JSON")?;
        return Ok((json + "\n", ExitCode::SUCCESS));
    }
    Ok((table::render(&report.links), ExitCode::SUCCESS))
}

fn ask(dev: &Path, request: &Request) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let answer = runtime.block_on(async {
        let mut client = Client::connect(&dev.join(SOCKET)).await?;
        client.ask(request).await
    });
    match answer {
        Err(ControlError::Nobody(_)) => anyhow::bail!(why_nobody(dev)),
        answer => Ok(answer?),
    }
}

/// Why nobody steers links in a folder, and what to do.
fn why_nobody(dev: &Path) -> String {
    let dir = dev.display();
    let start = format!("whimbrel-node dev --data {dir} --relay");
    let cluster = std::fs::read(dev.join("dev.json"))
        .ok()
        .and_then(|json| serde_json::from_slice::<DevCluster>(&json).ok());
    match cluster {
        None => format!(
            "{dir} holds no cluster; start one there with `{start}`, or name another folder with --dev"
        ),
        Some(cluster) if answers(&cluster) => format!(
            "the cluster in {dir} runs without relays, so its links cannot be steered; \
             stop it and start it with `{start}`: it keeps its data"
        ),
        Some(_) => format!("the cluster in {dir} does not run; start it with `{start}`"),
    }
}

fn answers(cluster: &DevCluster) -> bool {
    cluster.regions.iter().any(|region| {
        let address = region.url.strip_prefix("http://");
        address.is_some_and(|address| TcpStream::connect(address).is_ok())
    })
}
