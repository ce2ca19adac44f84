//! `whimbrel-node`: parses the command line and hands over.

use std::cell::RefCell;
use std::io::Write as _;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{ArgGroup, Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use whimbrel_node::config::{self, Config, Flags};
use whimbrel_node::{ca, dev, keys, migrate, open, restored, simulation, telemetry, wiring};

/// A quarter of the time of a region under load went into the allocator of glibc.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long what is left of the tasks may take to end.
const RUNTIME_STOP_MAX: Duration = Duration::from_secs(1);

#[derive(Parser)]
#[command(
    name = "whimbrel-node",
    version,
    about = "The regional server of Whimbrel"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one node
    Serve {
        #[command(flatten)]
        source: Source,
        /// Stop when standard input closes, so that the node does not outlive who started it
        #[arg(long)]
        parent_pipe: bool,
    },
    /// Run a whole cluster on this machine, one process per region
    Dev(DevArgs),
    /// Make an Ed25519 key pair that signs and verifies tokens
    Keys {
        /// Folder for token.key.pem and token.pub.pem
        #[arg(long, default_value = ".")]
        out: PathBuf,
    },
    /// Make the cluster's certificate authority and the certificates of its nodes
    Ca {
        #[command(subcommand)]
        command: CaCommand,
    },
    /// Move a region from its embedded store to FoundationDB
    ///
    /// Stop the region's node and change the section [store] of its config first. The move copies the
    /// store in data_dir to where the config says, compares the digests of all conversations, and then
    /// lets nodes start on the new store only. The region goes on as a new origin; other regions notice
    /// nothing else. Interrupted, it goes on where it stood when it is run again. Only the old store's
    /// mark that it was moved is written to data_dir.
    Migrate {
        /// Where the data is
        #[arg(long, value_enum)]
        from: MoveFrom,
        /// Where it is to be
        #[arg(long, value_enum)]
        to: MoveTo,
        #[command(flatten)]
        source: Source,
    },
    /// Give a store that came back from a backup a new life
    ///
    /// Run it once after a restore, before any node of the region starts. A store that has lost its
    /// last commits must not give their stamps out again: it goes on as a new origin, and pulls what
    /// it lost from the other regions, as far as they had it.
    Restored {
        #[command(flatten)]
        source: Source,
    },
    /// Simulate whole regions in virtual time, with faults, and check what was promised
    ///
    /// Each seed is a run of three regions over twelve virtual seconds of crashes, cuts, bad links,
    /// wrong clocks and lost disks, and what follows until all are equal. Ends with 0 only if every
    /// run held. The same seed gives the same run.
    Simulate(SimulateArgs),
    /// Check a config and say all that is wrong
    Check {
        #[command(flatten)]
        source: Source,
    },
}

#[derive(Args)]
struct SimulateArgs {
    /// How many seeds
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first one
    #[arg(long, value_name = "S", default_value_t = 0)]
    from: u64,
    /// Print the end of each run's trace, also where all held
    #[arg(long)]
    trace: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum MoveFrom {
    /// The files in data_dir
    Embedded,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum MoveTo {
    /// The cluster in the section [store]
    Foundationdb,
}

#[derive(Subcommand)]
enum CaCommand {
    /// Make an authority: ca.pem for all nodes, ca.key.pem for a safe place
    Init {
        /// Folder for ca.pem and ca.key.pem
        #[arg(long, default_value = ".")]
        out: PathBuf,
        /// Days until it expires
        #[arg(long, default_value_t = ca::CA_DAYS)]
        days: u32,
    },
    /// Issue a certificate for the nodes of a region
    Issue {
        /// Folder with ca.key.pem
        #[arg(long, default_value = ".")]
        ca: PathBuf,
        /// The region's name
        #[arg(long)]
        region: String,
        /// Folder for REGION.pem and REGION.key.pem
        #[arg(long, default_value = ".")]
        out: PathBuf,
        /// Days until it expires
        #[arg(long, default_value_t = ca::NODE_DAYS)]
        days: u32,
    },
}

/// A config: the file, then WHIMBREL_ variables (WHIMBREL_LISTEN__HTTP), then these flags
#[derive(Args)]
struct Source {
    /// The config file (TOML)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Instead of data_dir
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Instead of listen.http
    #[arg(long)]
    http: Option<SocketAddr>,
    /// Instead of listen.admin
    #[arg(long)]
    admin: Option<SocketAddr>,
    /// Instead of listen.quic
    #[arg(long)]
    quic: Option<SocketAddr>,
    /// Instead of log.filter
    #[arg(long)]
    log: Option<String>,
}

#[derive(Args)]
#[command(group(ArgGroup::new("relays").args(["relay", "tour"]).multiple(true)))]
struct DevArgs {
    /// Regions of a new cluster [default: eu,us,ap]
    #[arg(long, value_delimiter = ',')]
    regions: Option<Vec<String>>,
    /// Where the regions of a new cluster keep their data; `foundationdb` starts a FoundationDB
    /// process for each region [default: embedded]
    #[arg(long, value_enum)]
    store: Option<dev::StoreKind>,
    /// Nodes in each region of a new cluster; more than one need --store foundationdb [default: 1]
    #[arg(long, value_name = "N")]
    nodes: Option<usize>,
    /// The cluster's folder; made on first start [default: .whimbrel; with --tour a temporary one]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Start this one region again, beside the running rest
    #[arg(long, value_name = "REGION")]
    only: Option<String>,
    /// First port of a new cluster; free ones are found without it
    #[arg(long)]
    port_base: Option<u16>,
    /// Let the regions reach each other through relays, so that `whimbrel-chaos` can make their
    /// links bad
    #[arg(long)]
    relay: bool,
    /// Take the chances of the relays again that another run has printed
    #[arg(long, value_name = "N", requires = "relays")]
    relay_seed: Option<u64>,
    /// Show what Whimbrel promises, in less than a minute: a cluster of its own is started, cut
    /// apart, killed in part, checked and stopped. Ends with 0 only if every check held. With
    /// --data on the cluster there, in a conversation of its own
    #[arg(long, conflicts_with = "only")]
    tour: bool,
}

impl Source {
    fn load(self) -> anyhow::Result<Config> {
        let flags = Flags {
            data_dir: self.data_dir,
            http: self.http,
            admin: self.admin,
            quic: self.quic,
            log: self.log,
        };
        Ok(Config::load(&self.config, &flags)?)
    }
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("whimbrel-node: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve {
            source,
            parent_pipe,
        } => {
            let config = source.load()?;
            telemetry::init(&config.log)?;
            run_until_signal(|shutdown| {
                if parent_pipe {
                    stop_with_parent(shutdown.clone());
                }
                wiring::run(config, shutdown)
            })
        }
        Command::Dev(args) => {
            let options = dev::Options {
                data: args.data,
                regions: args.regions,
                shape: dev::Shape {
                    store: args.store,
                    nodes: args.nodes,
                },
                only: args.only,
                port_base: args.port_base,
                relay: args.relay_seed.or_else(|| args.relay.then(rand::random)),
                tour: args.tour,
            };
            run_until_signal(|shutdown| dev::run(options, shutdown))
        }
        Command::Keys { out } => {
            let made = keys::make(&out)?;
            made_both(&made.private, &made.public)
        }
        Command::Ca { command } => {
            let made = match command {
                CaCommand::Init { out, days } => ca::make(&out, days)?,
                CaCommand::Issue {
                    ca,
                    region,
                    out,
                    days,
                } => ca::issue(&ca, &region, &out, days)?,
            };
            made_both(&made.key, &made.cert)
        }
        Command::Migrate {
            from: MoveFrom::Embedded,
            to: MoveTo::Foundationdb,
            source,
        } => {
            let config = source.load()?;
            telemetry::init(&config.log)?;
            run_until_signal(|shutdown| migrate(config, shutdown))
        }
        Command::Restored { source } => {
            let config = source.load()?;
            telemetry::init(&config.log)?;
            run_until_signal(|shutdown| restored(config, shutdown))
        }
        Command::Simulate(args) => run_until_signal(|shutdown| simulate(args, shutdown)),
        Command::Check { source } => {
            let config = source.load()?;
            say(&format!(
                "the config holds: region {} of {}\n",
                config.region.name,
                config.cluster.regions.len()
            ))
        }
    }
}

async fn simulate(args: SimulateArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let SimulateArgs { seeds, from, trace } = args;
    let run = move || {
        let mut shown = Ok(());
        let outcome = simulation::run_all(from, seeds, |report| {
            // The trace of a violation is shown in the end.
            if trace && report.violation.is_none() {
                shown = say(&format!("seed {}\n{}", report.seed, report.trace));
            }
            if shown.is_err() || shutdown.is_cancelled() {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        shown.map(|()| outcome)
    };
    let outcome = tokio::task::spawn_blocking(run).await??;
    say(&format!("{outcome}\n"))?;
    if let Some(report) = &outcome.violated {
        let violation = report.violation.as_ref().context("it has one")?;
        say(&report.trace.to_string())?;
        bail!(
            "seed {seed}: {violation}\nreplay it with: whimbrel-node simulate --seeds 1 --from {seed}",
            seed = report.seed
        )
    }
    if outcome.runs < seeds {
        bail!("interrupted after {} of {seeds} seeds", outcome.runs);
    }
    Ok(())
}

/// Prints to standard output, which can be a file on a full disk.
fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.context("cannot write to standard output")
}

/// Whoever read our output has seen enough, e.g. `head`.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .root_cause()
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

async fn migrate(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let config::Store::FoundationDb(cluster) = &config.store else {
        bail!(
            "store.engine: the config says embedded; set it to \"foundationdb\", with cluster_file and \
             prefix, so that it names the store to move to"
        );
    };
    let from = open::existing(&config.data_dir).await?;
    let Some(to) = open::foundationdb(cluster, &shutdown).await? else {
        bail!("interrupted before anything was copied");
    };
    let bar = RefCell::new(migrate::Bar::default());
    let show = |step| bar.borrow_mut().show(step);
    // Where the cluster goes away it goes on when that is back.
    let moved = open::until_reached(&shutdown, async || {
        migrate::run(&from, &to, &config, &shutdown, show).await
    })
    .await;
    bar.borrow().end();
    let Some(moved) = moved?.flatten() else {
        bail!("interrupted; run it again to go on where it stood");
    };
    say(&format!(
        "moved {} rows; {} conversations are equal in both stores, digest {}\n\
         region {} was origin {} and goes on as {}; start its nodes\n",
        moved.rows,
        moved.conversations,
        moved.digest,
        config.region.name,
        moved.before,
        moved.after
    ))
}

async fn restored(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let store = match &config.store {
        config::Store::Embedded => Some(open::existing(&config.data_dir).await?),
        config::Store::FoundationDb(cluster) => open::foundationdb(cluster, &shutdown).await?,
    };
    let store = store.context("interrupted before anything was done")?;
    let (before, after) = restored::run(&store, &config).await?;
    say(&format!(
        "region {} was origin {before} and goes on as {after}; start its nodes: they pull what was \
         lost of {before} from the other regions\n",
        config.region.name
    ))
}

fn made_both(private: &Path, public: &Path) -> anyhow::Result<()> {
    say(&format!(
        "private: {}\npublic:  {}\n",
        private.display(),
        public.display()
    ))
}

/// Runs on a new runtime; SIGINT and SIGTERM cancel the token.
fn run_until_signal<F>(start: impl FnOnce(CancellationToken) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let result = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot take SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot take SIGTERM")?;
        let token = shutdown.clone();
        let signals = tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            token.cancel();
        });
        let result = start(shutdown).await;
        signals.abort();
        result
    });
    // No task may call FoundationDB's library once that is stopped.
    runtime.shutdown_timeout(RUNTIME_STOP_MAX);
    #[cfg(feature = "foundationdb")]
    whimbrel_node::store::foundationdb::stop();
    result
}

/// Cancels the token when standard input ends. A thread, since the read cannot be interrupted.
fn stop_with_parent(shutdown: CancellationToken) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        shutdown.cancel();
    });
}

#[cfg(test)]
#[path = "../../tests/man_pages.rs"]
mod man_pages;

#[cfg(test)]
#[test]
fn man_pages_are_made() {
    man_pages::make(<Cli as clap::CommandFactory>::command());
}
