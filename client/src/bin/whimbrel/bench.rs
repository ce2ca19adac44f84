//! `whimbrel bench`: sets up a run, shows how it goes, and prints what was measured.

mod report;

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::LocalSet;
use whimbrel_client::bench::{
    self, Accepted, Control, Editing, Extent, Idling, Load, Notice, Outage, Paging, Region, Target,
    Texts,
};
use whimbrel_client::import::gitter::Records;
use whimbrel_client::token::SigningKey;

use crate::args::Global;
use crate::args::bench::{
    Accept, Bench, BenchWhat, CatchUp, Common, Edits, History, Length, Streams, Visibility,
};
use crate::connect::{dev_dir, endpoints, read_dev};
use crate::output::Out;
use crate::usage;

pub(crate) async fn run(global: &Global, args: Bench, out: &mut Out) -> anyhow::Result<()> {
    let own = [
        ("--token", global.token.is_some()),
        ("--user", global.user.is_some()),
        ("--act-as", global.act_as.is_some()),
        ("--after", global.after.is_some()),
    ];
    if let Some((option, _)) = own.iter().find(|(_, given)| *given) {
        return Err(usage(format!(
            "`bench` makes users of its own: leave {option} out"
        )));
    }
    match args.what {
        BenchWhat::Accept(args) => accept(global, &args, out).await,
        BenchWhat::Visibility(args) => visibility(global, &args, out).await,
        BenchWhat::CatchUp(args) => catch_up(global, &args, out).await,
        BenchWhat::History(args) => history(global, &args, out).await,
        BenchWhat::Edits(args) => edits(global, &args, out).await,
        BenchWhat::Streams(args) => streams(global, &args, out).await,
    }
}

async fn accept(global: &Global, args: &Accept, out: &mut Out) -> anyhow::Result<()> {
    let target = target(global, &args.common)?;
    let load = Load {
        clients: args.clients,
        rate: args.rate,
        users: args.posting.users,
        conversations: args.posting.conversations,
        warmup: args.length.warmup,
        extent: extent(&args.length),
        texts: texts(&args.common)?,
    };
    let measured =
        measure(async move |control| bench::accept(&target, &load, &control).await).await?;
    print(out, "accept", args.common.seed, &measured, report::accept)?;
    ensure_accepted(&measured)
}

async fn visibility(global: &Global, args: &Visibility, out: &mut Out) -> anyhow::Result<()> {
    let target = target(global, &args.common)?;
    let load = Load {
        clients: args.clients,
        rate: Some(args.rate),
        users: args.posting.users,
        conversations: args.posting.conversations,
        warmup: args.length.warmup,
        extent: extent(&args.length),
        texts: texts(&args.common)?,
    };
    let measured =
        measure(async move |control| bench::visibility(&target, &load, &control).await).await?;
    let seed = args.common.seed;
    print(out, "visibility", seed, &measured, report::visibility)?;
    ensure_accepted(&measured.accepted)?;
    anyhow::ensure!(
        measured.is_exact(),
        "not every accepted message was seen exactly once in every region"
    );
    Ok(())
}

async fn catch_up(global: &Global, args: &CatchUp, out: &mut Out) -> anyhow::Result<()> {
    let dev = dev_dir(global).filter(|_| args.common.key.is_none());
    let Some(dev) = dev else {
        return Err(usage(
            "catch-up kills a region and starts it again: give `--dev DIR` of a dev cluster",
        ));
    };
    let target = target(global, &args.common)?;
    let last = || target.regions.last().map(|region| region.name.clone());
    let outage = Outage {
        region: args.down.clone().or_else(last).unwrap_or_default(),
        dev: std::path::absolute(&dev).with_context(|| format!("no folder {}", dev.display()))?,
        node: match &args.node {
            Some(node) => node.clone(),
            None => beside("whimbrel-node")?,
        },
    };
    let load = Load {
        clients: args.clients,
        rate: None,
        users: args.posting.users,
        conversations: args.posting.conversations,
        warmup: Duration::ZERO,
        extent: Extent::Messages(args.messages.get()),
        texts: texts(&args.common)?,
    };
    let measured =
        measure(async move |control| bench::catch_up(&target, &load, &outage, &control).await)
            .await?;
    print(
        out,
        "catch-up",
        args.common.seed,
        &measured,
        report::catch_up,
    )?;
    ensure_accepted(&measured.accepted)?;
    anyhow::ensure!(
        measured.digests_equal,
        "{} says that it holds everything, and its digests differ",
        measured.away
    );
    Ok(())
}

async fn history(global: &Global, args: &History, out: &mut Out) -> anyhow::Result<()> {
    let target = target(global, &args.common)?;
    let paging = Paging {
        conversation: args.conversation.clone(),
        messages: args.messages.get(),
        clients: args.clients,
        warmup: args.warmup,
        duration: args.duration,
        seed: args.common.seed,
        texts: texts(&args.common)?,
    };
    let measured =
        measure(async move |control| bench::history(&target, &paging, &control).await).await?;
    print(out, "history", args.common.seed, &measured, report::history)
}

async fn edits(global: &Global, args: &Edits, out: &mut Out) -> anyhow::Result<()> {
    let target = target(global, &args.common)?;
    let editing = Editing {
        earlier: args.earlier.clone(),
        messages: args.messages,
        texts: texts(&args.common)?,
    };
    let measured =
        measure(async move |control| bench::edits(&target, &editing, &control).await).await?;
    print(out, "edits", args.common.seed, &measured, report::edits)
}

async fn streams(global: &Global, args: &Streams, out: &mut Out) -> anyhow::Result<()> {
    let target = target(global, &args.common)?;
    let idling = Idling {
        streams: args.streams,
        users: args.posting.users,
        conversations: args.posting.conversations,
        hold: args.hold,
    };
    let measured =
        measure(async move |control| bench::streams(&target, &idling, &control).await).await?;
    print(out, "streams", args.common.seed, &measured, report::streams)?;
    let lost = measured.streams - measured.held;
    anyhow::ensure!(lost == 0, "{lost} streams were lost while nothing happened");
    Ok(())
}

/// Figures of nothing are no figures.
fn ensure_accepted(measured: &Accepted) -> anyhow::Result<()> {
    let refused = measured.refused.keys().next();
    let why = refused.map_or("it ended too soon", String::as_str);
    anyhow::ensure!(measured.accepted > 0, "no message was accepted: {why}");
    Ok(())
}

/// A program that stands beside this one.
fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program")?;
    let path = own.with_file_name(name);
    if !path.exists() {
        return Err(usage(format!(
            "there is no {name} beside this program: give `--node PROGRAM`"
        )));
    }
    Ok(path)
}

fn extent(length: &Length) -> Extent {
    match length.messages {
        Some(messages) => Extent::Messages(messages.get()),
        None => Extent::Duration(length.duration),
    }
}

/// The figures, and what is needed to repeat them.
#[derive(Serialize)]
struct Run<'a, T> {
    mode: &'static str,
    version: &'static str,
    seed: u64,
    #[serde(flatten)]
    measured: &'a T,
}

fn print<T: Serialize>(
    out: &mut Out,
    mode: &'static str,
    seed: u64,
    measured: &T,
    lines: fn(&T) -> Vec<String>,
) -> anyhow::Result<()> {
    if out.json {
        let version = env!("CARGO_PKG_VERSION");
        return Ok(out.json(&Run {
            mode,
            version,
            seed,
            measured,
        })?);
    }
    for line in lines(measured) {
        out.line(&line)?;
    }
    Ok(())
}

/// Runs `what` on one thread, away from the runtime of this program: no work is handed between
/// threads then, which costs more than the work. Ctrl-C ends it with what was measured until then.
async fn measure<T: Send + 'static>(
    what: impl AsyncFnOnce(Control) -> Result<T, whimbrel_client::Error> + Send + 'static,
) -> anyhow::Result<T> {
    let (stop, stopped) = watch::channel(false);
    let measuring = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start a thread")?;
        let bar = ProgressBar::no_length();
        let control = Control {
            stop: stopped,
            notice: {
                let bar = bar.clone();
                Rc::new(move |notice| show(&bar, notice))
            },
        };
        let measured = LocalSet::new().block_on(&runtime, what(control));
        bar.finish_and_clear();
        Ok(measured?)
    });
    tokio::pin!(measuring);
    loop {
        tokio::select! {
            measured = &mut measuring => return measured.context("the run broke off")?,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                if stop.send_replace(true) {
                    anyhow::bail!("interrupted twice: nothing is told");
                }
            }
        }
    }
}

fn show(bar: &ProgressBar, notice: Notice<'_>) {
    match notice {
        Notice::Stage { what, steps } => {
            // Hidden where standard error is no terminal.
            let style = match steps {
                Some(steps) => {
                    bar.set_length(steps);
                    ProgressStyle::with_template(
                        "{msg}: {bar:40} {human_pos}/{human_len}  {per_sec}  {eta} to go",
                    )
                }
                None => ProgressStyle::with_template("{spinner} {msg}  {human_pos}  {elapsed}"),
            };
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.set_message(what.to_owned());
            bar.reset();
        }
        Notice::Step => bar.inc(1),
        _ => {}
    }
}

/// The regions, the one to write to first, and the key that signs for users.
fn target(global: &Global, common: &Common) -> anyhow::Result<Target> {
    let dev = match common.key {
        Some(_) => None,
        None => dev_dir(global).map(|dir| read_dev(&dir)).transpose()?,
    };
    let (mut regions, key) = match (&dev, &common.key) {
        (Some(dev), _) => {
            let regions = dev.regions.iter().map(|region| Region {
                name: region.name.clone(),
                url: region.url.clone(),
                admin_url: Some(region.admin_url.clone()),
                pids: region.nodes.iter().map(|node| node.pid).collect(),
            });
            (regions.collect::<Vec<_>>(), dev.token_key.as_path())
        }
        (None, Some(key)) => {
            let regions = endpoints(global, None)?.into_iter().map(|endpoint| Region {
                name: endpoint.region.unwrap_or_else(|| endpoint.url.clone()),
                url: endpoint.url,
                admin_url: None,
                pids: Vec::new(),
            });
            (regions.collect(), key.as_path())
        }
        (None, None) => {
            return Err(usage(
                "which cluster, and with which key are users' tokens signed? Give `--dev DIR`, \
                 or `--urls LIST --key FILE`",
            ));
        }
    };
    if let Some(name) = &global.region {
        let Some(at) = regions.iter().position(|region| region.name == *name) else {
            let known: Vec<_> = regions.iter().map(|region| region.name.as_str()).collect();
            let known = known.join(", ");
            return Err(usage(format!("no region `{name}`; there are: {known}")));
        };
        regions[..=at].rotate_right(1);
    }
    Ok(Target {
        regions,
        key: SigningKey::from_pem_file(key)
            .with_context(|| format!("cannot sign with {}", key.display()))?,
    })
}

fn texts(common: &Common) -> anyhow::Result<Texts> {
    match &common.texts {
        None => Ok(Texts::generated(common.seed)),
        Some(path) => chosen(path, common.seed),
    }
}

fn chosen(path: &Path, seed: u64) -> anyhow::Result<Texts> {
    let shown = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    let records = Records::new(&bytes)
        .map_err(|bad| anyhow::anyhow!("{shown}:{}: {}", bad.line, bad.reason))?;
    let texts = records.filter_map(Result::ok).map(|record| record.text);
    Texts::chosen(texts, seed).with_context(|| format!("{shown} has no text of 80 to 200 bytes"))
}
