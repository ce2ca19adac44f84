//! A whole cluster on this machine: one process per node, throw-away keys. Regions have an embedded
//! store, or a FoundationDB process each.
//!
//! The folder outlives the processes: ids, keys and ports are made once, so starting again goes on
//! with the data, at the same addresses.

pub mod foundationdb;
mod http;
mod layout;
mod region;
mod relays;
mod shape;
mod tour;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use whimbrel_client::api::DevCluster;

use foundationdb::Server;
use layout::Route;
pub use layout::{DEFAULT_REGIONS, Layout};
use region::{Exit, Running};
use relays::Relays;
pub use shape::{Shape, StoreKind};

/// How long regions of other processes may take to stop.
const OTHERS_STOP_MAX: Duration = Duration::from_secs(7);

/// Where a cluster is kept if nothing else is said.
const DEFAULT_DATA: &str = ".whimbrel";

/// What `whimbrel-node dev` was asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cluster's folder, default `.whimbrel`; for the tour a temporary one.
    pub data: Option<PathBuf>,
    /// Regions of a new cluster, default [`DEFAULT_REGIONS`].
    pub regions: Option<Vec<String>>,
    /// What the regions of a new cluster are made of.
    pub shape: Shape,
    /// Start this one region beside the running rest.
    pub only: Option<String>,
    /// First port of a new cluster; free ones are looked for otherwise.
    pub port_base: Option<u16>,
    /// Let the regions reach each other through relays, whose chances come from this seed.
    pub relay: Option<u64>,
    /// Show on a cluster what Whimbrel promises, then stop it. With relays in any case.
    pub tour: bool,
}

/// Runs regions until `shutdown`, then stops those that it started.
pub async fn run(options: Options, shutdown: CancellationToken) -> anyhow::Result<()> {
    if options.tour {
        return tour::run(options, shutdown).await;
    }
    let data = options.data.as_deref().unwrap_or(Path::new(DEFAULT_DATA));
    if let Some(name) = &options.only {
        anyhow::ensure!(
            options.regions.is_none(),
            "--only starts a region of the cluster as it is; leave --regions away"
        );
        anyhow::ensure!(
            options.shape.store.is_none() && options.shape.nodes.is_none(),
            "--only starts a region of the cluster as it is; leave --store and --nodes away"
        );
        anyhow::ensure!(
            options.relay.is_none(),
            "relays live in the process that runs the cluster; leave --relay away: \
             {name} comes back behind them where the others are"
        );
        return only(&absolute(data)?, name, shutdown).await;
    }
    let Prepared {
        layout,
        relays,
        lock: _lock,
    } = prepare(&options, data).await?;
    let servers = tokio::select! {
        servers = start_servers(&layout, &layout.regions) => servers?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let mut running = start_all(&layout)?;
    let ready = tokio::select! {
        ready = all_ready(&mut running) => ready,
        () = shutdown.cancelled() => Ok(()),
    };
    if ready.is_ok() && !shutdown.is_cancelled() {
        describe(&layout, &running, &servers)?;
        print_start(
            layout.dir(),
            data,
            &layout.describe(pid_of(&running)),
            options.relay,
        );
    }
    if ready.is_err() {
        shutdown.cancel();
    }
    let own: Vec<u32> = running.iter().map(Running::pid).collect();
    // They outlive the nodes.
    let servers_stop = CancellationToken::new();
    let mut supervised = supervise(&layout, servers, &servers_stop);
    let mut tasks = JoinSet::new();
    for node in running {
        tasks.spawn(node.watch(shutdown.clone()));
    }
    let others = {
        let (layout, shutdown) = (layout.clone(), shutdown.clone());
        tokio::spawn(async move {
            shutdown.cancelled().await;
            stop_others(&layout, &own).await;
        })
    };
    while let Some(exit) = tasks.join_next().await {
        if let Exit::Died { name, region, how } = exit.context("the watch of a node panicked")? {
            println!(
                "{name} stopped ({how}); start it again with: {} --data {} --only {region}",
                this_command(),
                data.display()
            );
        }
    }
    ready?;
    if !shutdown.is_cancelled() {
        println!("no region is left that this process started; Ctrl-C ends it");
        shutdown.cancelled().await;
    }
    others.await.context("the stop of other regions panicked")?;
    servers_stop.cancel();
    while supervised.join_next().await.is_some() {}
    if let Some(relays) = relays {
        relays.stop().await;
    }
    Ok(())
}

/// A cluster that can be started.
struct Prepared {
    layout: Layout,
    relays: Option<Relays>,
    /// As long as it is held, no other process runs the cluster.
    lock: File,
}

/// Opens or makes the cluster in `data`, and starts its relays where it is to have them.
async fn prepare(options: &Options, data: &Path) -> anyhow::Result<Prepared> {
    let dir = absolute(data)?;
    let lock = layout::lock(&dir)?;
    let regions = options.regions.as_deref();
    let mut layout = Layout::open_or_make(&dir, regions, options.shape, options.port_base)?;
    for region in &layout.regions {
        layout.ensure_stopped(region)?;
    }
    let route = match options.relay {
        Some(_) => Route::Relayed,
        None => Route::Direct,
    };
    if route == Route::Relayed {
        layout.allot_relays(options.port_base)?;
    }
    for region in &layout.regions {
        layout.route(region, route)?;
    }
    let relays = match options.relay {
        Some(seed) => Some(Relays::start(&layout, data, seed).await?),
        None => None,
    };
    layout.remove_description()?;
    Ok(Prepared {
        layout,
        relays,
        lock,
    })
}

fn absolute(data: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(data).with_context(|| format!("no such folder: {}", data.display()))
}

fn start_all(layout: &Layout) -> anyhow::Result<Vec<Running>> {
    layout
        .regions
        .iter()
        .flat_map(|region| (0..region.node_count()).map(move |nth| (region, nth)))
        .map(|(region, nth)| Running::start(layout, region, nth))
        .collect()
}

/// Starts the FoundationDB of each of these regions that has one.
async fn start_servers(
    layout: &Layout,
    regions: &[shape::Region],
) -> anyhow::Result<Vec<(String, Server)>> {
    let mut servers = Vec::new();
    for region in regions {
        if let Some(port) = region.foundationdb {
            anyhow::ensure!(
                cfg!(feature = "foundationdb"),
                "this program was built without FoundationDB; build it with --features foundationdb"
            );
            let programs = foundationdb::Programs::find()?;
            let dir = region.foundationdb_dir(layout.dir());
            let server = Server::start(&programs, &dir, port, foundationdb::Engine::Ssd);
            let server = server
                .await
                .with_context(|| format!("the FoundationDB of {}", region.name))?;
            servers.push((region.name.clone(), server));
        }
    }
    Ok(servers)
}

/// Keeps them running until `stop`.
fn supervise(
    layout: &Layout,
    servers: Vec<(String, Server)>,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for (region, server) in servers {
        let (layout, stop) = (layout.clone(), stop.clone());
        tasks.spawn(async move {
            let told = |pid| {
                println!("the FoundationDB of {region} had ended; it runs again as process {pid}");
                if let Err(error) = layout.update_foundationdb(&region, pid) {
                    println!("dev.json still names the old process: {error:#}");
                }
            };
            if let Err(error) = server.supervise(stop, told).await {
                println!("the FoundationDB of {region} is gone: {error:#}");
            }
        });
    }
    tasks
}

fn describe(
    layout: &Layout,
    running: &[Running],
    servers: &[(String, Server)],
) -> anyhow::Result<()> {
    layout.write_description(&layout.describe(pid_of(running)))?;
    for (region, server) in servers {
        layout.update_foundationdb(region, server.pid().unwrap_or_default())?;
    }
    Ok(())
}

/// The process of a node; 0 if it does not run.
fn pid_of(running: &[Running]) -> impl Fn(&shape::Region, usize) -> u32 {
    move |region, nth| {
        let found = running.iter().find(|node| node.is(region, nth));
        found.map_or(0, Running::pid)
    }
}

async fn all_ready(running: &mut [Running]) -> anyhow::Result<()> {
    for region in running {
        region.ready().await?;
    }
    Ok(())
}

async fn only(dir: &Path, name: &str, shutdown: CancellationToken) -> anyhow::Result<()> {
    let layout = Layout::open(dir)?.with_context(|| {
        format!(
            "{} holds no cluster; `whimbrel-node dev --data {}` makes one",
            dir.display(),
            dir.display()
        )
    })?;
    let region = layout.region(name)?;
    let stopped = layout.stopped(region)?;
    // Where another process runs the cluster, it has said already how regions reach each other, and
    // runs their FoundationDB. Where none does, there is no relay.
    let mut servers = Vec::new();
    if layout::try_lock(dir)?.is_some() {
        layout.route(region, Route::Direct)?;
        let alone = match region.foundationdb {
            Some(port) if shape::is_free(port) => std::slice::from_ref(region),
            _ => &[],
        };
        servers = tokio::select! {
            servers = start_servers(&layout, alone) => servers?,
            () = shutdown.cancelled() => return Ok(()),
        };
    }
    let start = |nth| Running::start(&layout, region, nth);
    let mut running: Vec<Running> = stopped.into_iter().map(start).collect::<Result<_, _>>()?;
    // At once: getting ready can take long, and may have to be ended.
    for node in &running {
        let (region, nth) = node.node();
        layout.update_pid(region, nth, node.pid())?;
    }
    for (region, server) in &servers {
        layout.update_foundationdb(region, server.pid().unwrap_or_default())?;
    }
    let ready = tokio::select! {
        ready = all_ready(&mut running) => ready,
        () = shutdown.cancelled() => Ok(()),
    };
    if ready.is_ok() && !shutdown.is_cancelled() {
        let url = region.first.url();
        println!("{name} is ready at {url}; Ctrl-C stops it");
    } else {
        shutdown.cancel();
    }
    // They outlive the nodes.
    let servers_stop = CancellationToken::new();
    let mut supervised = supervise(&layout, servers, &servers_stop);
    let mut tasks = JoinSet::new();
    for node in running {
        tasks.spawn(node.watch(shutdown.clone()));
    }
    let mut died = Vec::new();
    while let Some(exit) = tasks.join_next().await {
        // The process that runs the cluster stops them all when it ends.
        if let Exit::Died { name, how, .. } = exit.context("the watch of a node panicked")?
            && !how.success()
        {
            died.push(format!("{name} stopped ({how})"));
        }
    }
    servers_stop.cancel();
    while supervised.join_next().await.is_some() {}
    ready?;
    anyhow::ensure!(
        died.is_empty(),
        "{}; its log is {}",
        died.join(", "),
        region.log(dir, 0).display()
    );
    Ok(())
}

/// How the reader runs this program: a newcomer has it from cargo, not on the path.
fn this_command() -> &'static str {
    if std::env::var_os("CARGO").is_some() {
        "cargo run --release -p whimbrel-node -- dev"
    } else {
        "whimbrel-node dev"
    }
}

/// Asks regions that another process of this program runs (`--only`) to stop too, and waits.
async fn stop_others(layout: &Layout, own: &[u32]) {
    let others = layout.running_besides(own);
    for pid in &others {
        let pid = i32::try_from(*pid)
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // It may be gone already.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
    let gone = async {
        while !layout.running_besides(own).is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(OTHERS_STOP_MAX, gone).await.is_err() {
        println!("a region that `dev --only` runs does not stop; end it by its pid in dev.json");
    }
}

fn print_start(dir: &Path, data: &Path, cluster: &DevCluster, relay: Option<u64>) {
    println!("{}", start_text(dir, data, cluster, relay));
}

/// What a newcomer sees: where the regions are, and what to try.
fn start_text(dir: &Path, data: &Path, cluster: &DevCluster, relay: Option<u64>) -> String {
    use std::fmt::Write as _;
    let mut text = format!("The cluster runs; its data is in {}\n", dir.display());
    for region in &cluster.regions {
        let _ = writeln!(
            text,
            "  {:<8} {}  (log: {})",
            region.name,
            region.url,
            region.log.display()
        );
    }
    let first = cluster.regions.first().map_or("eu", |r| &r.name);
    let second = cluster.regions.get(1).map_or(first, |r| &r.name);
    let _ = write!(
        text,
        "
Try it. In a second terminal, bob listens in {second}:

  whimbrel() {{ cargo run -q --release -p whimbrel-client --bin whimbrel -- --dev {dev} \"$@\"; }}
  whimbrel --user bob --region {second} tail

In a third one, ada writes in {first}:

  whimbrel() {{ cargo run -q --release -p whimbrel-client --bin whimbrel -- --dev {dev} \"$@\"; }}
  C=$(whimbrel --user ada --region {first} create --kind channel --title hello --member bob)
  whimbrel --user ada --region {first} send $C 'Hello from {first}'

Lose a region, go on without it, and bring it back:

  kill -9 {pid}
  whimbrel --user ada --region {second} send $C 'Still here'
  {this} --data {dev} --only {first}
",
        dev = data.display(),
        this = this_command(),
        pid = cluster.regions.first().map_or(0, |r| r.pid),
    );
    if let Some(seed) = relay {
        let _ = write!(
            text,
            "
The links pass through relays; --relay-seed {seed} takes the same chances again.
Make links bad, and good again:

  chaos() {{ cargo run -q --release -p whimbrel-chaos -- --dev {dev} \"$@\"; }}
  chaos link {first} {second} cut
  chaos link all all delay 150ms --jitter 20ms
  chaos links
  chaos link all all heal
",
            dev = data.display(),
        );
    }
    text += "\nCtrl-C stops all.";
    text
}
