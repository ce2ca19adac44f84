//! How fast a region that was away gets what it missed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::accept::Accepted;
use super::cast::Cast;
use super::load::drive;
use super::wire::{Line, Server};
use super::{Control, Extent, Load, Region, Target};
use crate::Error;
use crate::api::Digests;

/// How long a killed process may take to be gone.
const GONE_MAX: Duration = Duration::from_secs(10);

/// How long the region may take until it holds everything.
const CAUGHT_UP_MAX: Duration = Duration::from_secs(10 * 60);

/// How often it is asked what it holds; so fine is the figure.
const POLL: Duration = Duration::from_millis(10);

/// Which region is killed, and how it is started again.
#[derive(Clone, Debug)]
pub struct Outage {
    /// Its name; not the one that is written to.
    pub region: String,
    /// The folder of the dev cluster.
    pub dev: PathBuf,
    /// The `whimbrel-node` program.
    pub node: PathBuf,
}

/// What [`catch_up`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct CaughtUp {
    /// The posts while the region was away.
    #[serde(flatten)]
    pub accepted: Accepted,
    /// The region that was away.
    pub away: String,
    /// From starting its process until it answered.
    pub start_seconds: f64,
    /// From starting its process until it held all that the other region holds.
    pub catch_up_seconds: f64,
    /// Missed messages a second, by the time after the region answered.
    pub caught_up_per_second: f64,
    /// The digests of all conversations were equal then.
    pub digests_equal: bool,
    /// The process that started the region again, and runs on with it.
    pub parent_pid: u32,
}

/// Kills a region of a dev cluster, posts into the first region of `target`, starts the other again,
/// and waits until it holds the same.
///
/// The end is seen by what both say they hold (`held` of `/admin/v1/replication`): the cursor up to
/// which their streams show everything. Asking for it costs nothing, and it is equal only where
/// all logs of all regions are. The digests, which cost much, are compared once, after the time is
/// taken.
pub async fn catch_up(
    target: &Target,
    load: &Load,
    outage: &Outage,
    control: &Control,
) -> Result<CaughtUp, Error> {
    let region = target.written()?;
    load.check(region)?;
    if !matches!(load.extent, Extent::Messages(_)) {
        return Err(Error::config(
            "catching up is measured with a number of messages",
        ));
    }
    let away = target
        .regions
        .iter()
        .skip(1)
        .find(|other| other.name == outage.region)
        .ok_or_else(|| {
            Error::config(format!(
                "`{}` is no region besides {}, which is written to",
                outage.region, region.name
            ))
        })?;
    let mut here = Admin::of(region)?;
    let mut there = Admin::of(away)?;

    control.stage("making users and conversations", None);
    let cast = Cast::make(target, region, load.users.get(), load.conversations.get()).await?;
    let cast = Rc::new(cast);
    control.stage(&format!("killing {}", away.name), None);
    kill(away, &outage.dev).await?;
    let tally = drive(target, region, &cast, load, control, |_, _| Ok(())).await;

    control.stage(&format!("{} catches up", away.name), None);
    let started = Instant::now();
    // Whatever became of the posts: the cluster is left as it was found.
    let mut parent = start(outage)?;
    let accepted = Accepted::new(&cast, region, load, tally?);
    let mut answered = None;
    let caught_up = loop {
        if started.elapsed() > CAUGHT_UP_MAX {
            return Err(Error::config(format!(
                "{} did not catch up within {} s",
                away.name,
                CAUGHT_UP_MAX.as_secs()
            )));
        }
        if let Ok(Some(status)) = parent.try_wait() {
            return Err(Error::config(format!(
                "{} was not started again ({status}): see {}",
                away.name,
                log(outage).display()
            )));
        }
        // It does not answer at first.
        if let Ok(held) = there.held().await {
            answered.get_or_insert_with(|| started.elapsed());
            if held == here.held().await? {
                break started.elapsed();
            }
        }
        tokio::time::sleep(POLL).await;
    };
    let answered = answered.unwrap_or(caught_up);
    let digests_equal = here.digest().await? == there.digest().await?;
    let seconds = |time: Duration| (time.as_secs_f64() * 1000.0).round() / 1000.0;
    let after = caught_up.saturating_sub(answered).max(POLL).as_secs_f64();
    Ok(CaughtUp {
        away: away.name.clone(),
        start_seconds: seconds(answered),
        catch_up_seconds: seconds(caught_up),
        caught_up_per_second: (accepted.accepted as f64 / after).round(),
        accepted,
        digests_equal,
        parent_pid: parent.id(),
    })
}

/// Kills the processes of a region, as a power cut would.
async fn kill(region: &Region, dev: &Path) -> Result<(), Error> {
    for &pid in &region.pids {
        // The description may be that of a cluster long gone, and the number somebody else's now.
        if !serves(pid, &dev.join(&region.name)) {
            return Err(Error::config(format!(
                "process {pid} does not serve {}: is the cluster in {} running?",
                region.name,
                dev.display()
            )));
        }
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let number = number.ok_or_else(|| Error::config(format!("{pid} is no process")))?;
        kill_process(number, Signal::KILL)
            .map_err(|error| Error::config(format!("cannot kill {}: {error}", region.name)))?;
        let deadline = Instant::now() + GONE_MAX;
        while serves(pid, &dev.join(&region.name)) {
            if Instant::now() > deadline {
                return Err(Error::config(format!("{} does not die", region.name)));
            }
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(())
}

/// Whether a process is the node whose config stands in `folder`.
fn serves(pid: u32, folder: &Path) -> bool {
    const CONFIG: &str = "config.toml";
    let (Ok(arguments), Ok(config)) = (
        std::fs::read(format!("/proc/{pid}/cmdline")),
        folder.join(CONFIG).canonicalize(),
    ) else {
        return false;
    };
    let names_it = |argument: &[u8]| {
        // The folder may be named in several ways.
        let path = std::str::from_utf8(argument).map(Path::new);
        path.is_ok_and(|path| {
            path.ends_with(CONFIG) && path.canonicalize().is_ok_and(|p| p == config)
        })
    };
    arguments.split(|&byte| byte == 0).any(names_it)
}

/// Starts the region again, to run on after us.
fn start(outage: &Outage) -> Result<Child, Error> {
    let wrong = |what: &Path, error: std::io::Error| {
        Error::config(format!("cannot start {}: {error}", what.display()))
    };
    let path = log(outage);
    let log = std::fs::File::create(&path).map_err(|error| wrong(&path, error))?;
    let errors = log.try_clone().map_err(|error| wrong(&path, error))?;
    let mut command = Command::new(&outage.node);
    command
        .args(["dev", "--only", &outage.region, "--data"])
        .arg(&outage.dev)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors);
    // A Ctrl-C in the terminal is for us.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().map_err(|error| wrong(&outage.node, error))
}

/// Where the program that starts the region again writes.
fn log(outage: &Outage) -> PathBuf {
    outage.dev.join(&outage.region).join("bench.log")
}

/// The admin listener of a region.
struct Admin {
    server: Server,
    line: Option<Line>,
}

impl Admin {
    fn of(region: &Region) -> Result<Self, Error> {
        let url = region.admin_url.as_ref().ok_or_else(|| {
            Error::config(format!(
                "the admin listener of {} is not known: give `--dev DIR`",
                region.name
            ))
        })?;
        Ok(Self {
            server: Server::new(url)?,
            line: None,
        })
    }

    /// Up to where it has everything, as a cursor.
    async fn held(&mut self) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Replication {
            held: String,
        }
        let replication: Replication = self.get("replication").await?;
        Ok(replication.held)
    }

    async fn digest(&mut self) -> Result<String, Error> {
        let digests: Digests = self.get("digests").await?;
        Ok(digests.digest)
    }

    async fn get<T: for<'a> Deserialize<'a>>(&mut self, what: &str) -> Result<T, Error> {
        let line = match &mut self.line {
            Some(line) => line,
            None => self.line.insert(Line::open(self.server.clone()).await?),
        };
        let target = self.server.target(&["admin", "v1", what])?;
        let request = line.request(Method::GET, target, None, Default::default());
        line.call(request).await?.json()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number in an old description may be that of any process now.
    #[test]
    #[cfg(target_os = "linux")]
    fn only_the_node_of_this_folder_is_killed() {
        let top = std::env::temp_dir().join(format!("whimbrel-bench-{}", std::process::id()));
        let [eu, us] = ["eu", "us"].map(|name| top.join(name));
        for folder in [&eu, &us] {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(folder.join("config.toml"), "").unwrap();
        }
        let mut command = Command::new("tail");
        let mut node = command
            .arg("-f")
            .arg(eu.join("config.toml"))
            .spawn()
            .unwrap();
        // Just after the start of a program the system may not show its command line yet.
        let started = Instant::now();
        while !serves(node.id(), &eu) {
            assert!(started.elapsed() < Duration::from_secs(20), "not found");
            std::thread::yield_now();
        }
        assert!(
            serves(node.id(), &us.join("..").join("eu")),
            "the same by another name"
        );
        assert!(!serves(node.id(), &us));
        assert!(!serves(std::process::id(), &eu));
        node.kill().unwrap();
        node.wait().unwrap();
        assert!(!serves(node.id(), &eu));
        std::fs::remove_dir_all(top).unwrap();
    }
}
