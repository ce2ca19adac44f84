//! The `whimbrel` program.

mod args;
mod ask;
mod bench;
mod calls;
mod capacity;
mod connect;
mod output;
mod pages;
mod queue;
mod show;
mod tail;
mod token;
mod transfer;

use std::io;
use std::process::ExitCode;

use clap::Parser as _;
use whimbrel_client::Error;
use whimbrel_client::api::ProblemCode;

use args::{Cli, Command};
use ask::Unsure;
use output::Out;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let is_json = cli.global.json;
    let mut out = Out::new(is_json);
    let done = run(cli, &mut out).await;
    match done.and_then(|()| Ok(out.flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough, e.g. `head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // What was printed before the error counts.
            let _ = out.flush();
            report(&error, is_json);
            if error.is::<Usage>() {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

async fn run(cli: Cli, out: &mut Out) -> anyhow::Result<()> {
    let global = &cli.global;
    match cli.command {
        Command::Token(args) => token::run(global, &args, out),
        Command::Regions => calls::regions(global, out).await,
        Command::Conversations(args) => calls::conversations(global, &args, out).await,
        Command::Create(args) => calls::create(global, args, out).await,
        Command::Send(args) => calls::send(global, args, out).await,
        Command::Flush(args) => queue::flush(global, &args, out).await,
        Command::History(args) => calls::history(global, &args, out).await,
        Command::Edit(args) => calls::edit(global, args, out).await,
        Command::Redact(args) => calls::redact(global, &args, out).await,
        Command::React(args) => calls::react(global, &args, out).await,
        Command::Read(args) => calls::read(global, args, out).await,
        Command::Members(args) => calls::members(global, &args, out).await,
        Command::Tail(args) => tail::run(global, &args, out).await,
        Command::Import { format } => match format {
            args::Import::Gitter(args) => transfer::import_gitter(global, &args, out).await,
        },
        Command::Export(args) => transfer::export(global, &args, out).await,
        Command::Bench(args) => bench::run(global, args, out).await,
        Command::Capacity(args) => capacity::run(&args, out),
    }
}

/// A command line that cannot work, found after parsing.
#[derive(Debug)]
struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

fn usage(message: impl Into<String>) -> anyhow::Error {
    Usage(message.into()).into()
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    // Only our own output: a lost connection is inside an [`Error`].
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn report(error: &anyhow::Error, is_json: bool) {
    let mut line = error.to_string();
    let root = error.root_cause().to_string();
    if !line.contains(&root) {
        line.push_str(": ");
        line.push_str(&root);
    }
    let unsure = error.downcast_ref::<Unsure>();
    let of_call = error.downcast_ref::<Error>();
    let of_call = of_call.or(unsure.map(|unsure| &unsure.error));
    let again = unsure.map(|unsure| {
        format!(
            "it may have been taken all the same; to send it again but not twice, use --key {}",
            unsure.key
        )
    });
    let hints = of_call.and_then(hint).map(str::to_owned).into_iter();
    let hints: Vec<String> = hints.chain(again).collect();
    let hint = (!hints.is_empty()).then(|| hints.join("; "));
    if is_json {
        let problem = of_call.and_then(Error::problem);
        let told = serde_json::json!({"error": line, "hint": hint, "problem": problem});
        return output::note(&told.to_string());
    }
    output::note(&format!("error: {line}"));
    if let Some(hint) = hint {
        output::note(&format!("hint: {hint}"));
    }
}

/// What to do, in the words of this program where it has some of its own.
fn hint(error: &Error) -> Option<&'static str> {
    match error.code() {
        Some(ProblemCode::Unauthenticated) => Some(
            "make a token with `whimbrel token --user NAME --dev DIR` and put it into \
             WHIMBREL_TOKEN, or say `--dev DIR --user NAME`",
        ),
        Some(ProblemCode::NotFound) => {
            Some("check the ids with `whimbrel conversations`; what one may not see is not found")
        }
        Some(ProblemCode::NotCaughtUp)
            if error
                .problem()
                .is_some_and(|problem| !problem.acked_by.is_empty()) =>
        {
            Some(
                "it is written, and asked for again by the same `--key` it is not doubled; `--ack \
                 regions:N` with a smaller N waits for fewer",
            )
        }
        Some(ProblemCode::NotCaughtUp) => Some(
            "this region lacks what was written elsewhere: wait, ask another `--region`, or leave \
             `--after` away where you have given it",
        ),
        Some(ProblemCode::IdempotencyMismatch) => Some("use another `--key`, or none"),
        _ => error.remedy(),
    }
}

#[cfg(test)]
#[path = "../../../../tests/man_pages.rs"]
mod man_pages;

#[cfg(test)]
#[test]
fn man_pages_are_made() {
    man_pages::make(<Cli as clap::CommandFactory>::command());
}
