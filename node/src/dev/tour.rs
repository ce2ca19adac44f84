//! The tour: a short story about a cluster, told while it happens and checked at every step.

mod story;
mod user;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::layout::Layout;
use super::region::Running;
use super::relays::Relays;
use super::{Options, Prepared, all_ready, pid_of, prepare, start_all, start_servers, supervise};
use story::Story;

/// How many regions have a part in it.
const REGIONS_MIN: usize = 3;

/// Tells the story. It is well only if every check held; the cluster is stopped in any case.
pub(super) async fn run(mut options: Options, shutdown: CancellationToken) -> anyhow::Result<()> {
    if let Some(regions) = &options.regions {
        enough(regions.len())?;
    }
    let folder = Folder::open(options.data.take())?;
    options.relay = Some(options.relay.unwrap_or_else(rand::random));
    let started = Instant::now();
    let checks = on_cluster(&options, folder, shutdown).await?;
    println!(
        "\nAll {checks} checks held, in {:.0} s. Your turn: {} --relay",
        started.elapsed().as_secs_f64(),
        super::this_command()
    );
    Ok(())
}

fn enough(regions: usize) -> anyhow::Result<()> {
    anyhow::ensure!(
        regions >= REGIONS_MIN,
        "the tour needs {REGIONS_MIN} regions and this cluster has {regions}; \
         name more with --regions, for a new cluster"
    );
    Ok(())
}

/// Where the tour's cluster is.
enum Folder {
    Given(PathBuf),
    /// Gone when all is well.
    Temporary(TempDir),
}

impl Folder {
    fn open(given: Option<PathBuf>) -> anyhow::Result<Self> {
        match given {
            Some(path) => Ok(Self::Given(path)),
            None => TempDir::with_prefix("whimbrel-tour-")
                .context("cannot make a temporary folder; give --data")
                .map(Self::Temporary),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }

    fn keep(self) -> PathBuf {
        match self {
            Self::Given(path) => path,
            Self::Temporary(folder) => folder.keep(),
        }
    }
}

/// Starts the cluster, tells the story, and stops the cluster; how many checks held.
async fn on_cluster(
    options: &Options,
    folder: Folder,
    shutdown: CancellationToken,
) -> anyhow::Result<u32> {
    let Prepared {
        layout,
        relays,
        lock: _lock,
    } = prepare(options, folder.path()).await?;
    enough(layout.regions.len())?;
    let relays = relays.context("the tour runs with relays")?;
    let names: Vec<&str> = layout.regions.iter().map(|r| r.name.as_str()).collect();
    println!(
        "A whole cluster on this machine: {}, each a process with a disk of its own.\n\
         Relays on their links can cut them. A check mark stands behind what was looked at.\n\
         Folder: {}  Seed: {}",
        listed(&names),
        folder.path().display(),
        relays.links().seed()
    );
    let servers_stop = CancellationToken::new();
    let mut supervised = supervise(
        &layout,
        start_servers(&layout, &layout.regions).await?,
        &servers_stop,
    );
    let mut running = start_all(&layout)?;
    let told = tokio::select! {
        told = tell(&layout, &relays, &mut running) => told,
        () = shutdown.cancelled() => Err(anyhow::anyhow!("stopped before its end")),
    };
    let told = told.map_err(|error| {
        println!("   ✗ {error:#}");
        ended(&mut running)
            .into_iter()
            .fold(error, anyhow::Error::context)
    });
    shutdown.cancel();
    let mut stopping: JoinSet<_> = running
        .into_iter()
        .map(|region| region.watch(shutdown.clone()))
        .collect();
    while stopping.join_next().await.is_some() {}
    servers_stop.cancel();
    while supervised.join_next().await.is_some() {}
    relays.stop().await;
    told.map_err(|error| {
        let kept = folder.keep();
        let logs = layout.regions.iter().map(|region| region.log(&kept, 0));
        let logs: Vec<String> = logs.map(|log| log.display().to_string()).collect();
        error.context(format!("the tour failed; its logs are {}", logs.join(" ")))
    })
}

/// `eu, us and ap`.
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

async fn tell(layout: &Layout, relays: &Relays, running: &mut Vec<Running>) -> anyhow::Result<u32> {
    all_ready(running).await?;
    layout.write_description(&layout.describe(pid_of(running)))?;
    Story::new(layout, relays.links(), running)?.tell().await
}

/// Regions that ended though the tour did not end them.
fn ended(running: &mut [Running]) -> Vec<String> {
    let how = |region: &mut Running| {
        let how = region.ended()?;
        Some(format!("{} ended ({how})", region.name()))
    };
    running.iter_mut().filter_map(how).collect()
}

/// How long anything that must come may take.
const WAIT_MAX: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(20);

/// Asks until the answer is as expected, and gives it; at the deadline, what was said last.
async fn wait<T>(
    expected: &str,
    mut probe: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut last = None;
    let asking = async {
        loop {
            match probe().await {
                Ok(value) => return value,
                Err(reason) => last = Some(reason),
            }
            tokio::time::sleep(POLL).await;
        }
    };
    match tokio::time::timeout(WAIT_MAX, asking).await {
        Ok(value) => Ok(value),
        Err(_) => {
            let saw = last.map_or_else(|| "no answer".to_owned(), |reason| format!("{reason:#}"));
            anyhow::bail!(
                "expected {expected} within {} s, saw: {saw}",
                WAIT_MAX.as_secs()
            )
        }
    }
}
