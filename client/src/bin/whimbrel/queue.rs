//! `whimbrel send --queue` and `whimbrel flush`.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use whimbrel_client::queue::{Outcome, Reason, Ticket, Write};
use whimbrel_client::{Client, OfflineQueue, QueueError, RetryPolicy};

use crate::args::{Flush, Global};
use crate::connect::{Caller, client, client_of, steady};
use crate::output::{Out, note};

/// What cannot be sent soon is kept anyway.
const IMPATIENT: RetryPolicy = RetryPolicy {
    delay_min: Duration::from_millis(50),
    delay_max: Duration::from_millis(500),
    // A region that falls silent takes 3.5 s to be left; another is to be asked after it.
    give_up_after: Duration::from_secs(5),
};

/// How long another program may hold the queue: a flush in an outage takes a while.
const TURN_MAX: Duration = Duration::from_secs(30);
const TURN_POLL: Duration = Duration::from_millis(50);

/// Opens a queue, and waits for its turn where another program has it open.
async fn open(client: &Client, folder: &Path) -> anyhow::Result<OfflineQueue> {
    let started = Instant::now();
    let mut said = false;
    let queue = loop {
        match client.queue(folder) {
            Err(QueueError::InUse { .. }) if started.elapsed() < TURN_MAX => {
                if !std::mem::replace(&mut said, true) {
                    note("another program has the queue open; waiting for it");
                }
                tokio::time::sleep(TURN_POLL).await;
            }
            opened => break opened?,
        }
    };
    if let Some(aside) = queue.cut_off() {
        let aside = aside.display();
        note(&format!(
            "the end of the queue was torn by a crash; it was put into {aside}"
        ));
    }
    Ok(queue)
}

/// Keeps a write and sends all that waits. That it waits is no error: it is kept.
pub(crate) async fn send(
    global: &Global,
    folder: &Path,
    write: Write,
    out: &mut Out,
) -> anyhow::Result<()> {
    let client = client_of(global, &Caller::USER, steady().retry(IMPATIENT)).await?;
    let queue = open(&client, folder).await?;
    let ticket = queue.enqueue(write).await?;
    let flushed = queue.flush().await?;
    for (other, outcome) in &flushed.finished {
        if let (Outcome::Failed(reason), true) = (outcome, *other != ticket) {
            note(&failed_line(*other, reason));
        }
    }
    let outcome = queue.outcome(ticket);
    if out.json {
        out.json(&json!({"ticket": ticket, "outcome": outcome}))?;
    }
    match outcome {
        Some(Outcome::Sent(sent)) if !out.json => {
            out.line(sent.message.as_deref().unwrap_or_default())?;
        }
        Some(Outcome::Sent(_)) => {}
        Some(Outcome::Failed(reason)) => anyhow::bail!("{reason}"),
        None => {
            if let Some(error) = flushed.stopped {
                note(&error.to_string());
            }
            let folder = folder.display();
            note(&format!(
                "it waits as entry {ticket}; send it with `whimbrel flush {folder}`"
            ));
        }
    }
    Ok(())
}

pub(crate) async fn flush(global: &Global, args: &Flush, out: &mut Out) -> anyhow::Result<()> {
    anyhow::ensure!(
        args.queue.is_dir(),
        "there is no queue {}; `whimbrel send --queue` makes one",
        args.queue.display()
    );
    let queue = open(&client(global).await?, &args.queue).await?;
    let flushed = queue.flush().await?;
    let (waiting, failed) = (queue.waiting(), queue.failed());
    if out.json {
        let finished: Vec<_> = flushed
            .finished
            .iter()
            .map(|(ticket, outcome)| json!({"ticket": ticket, "outcome": outcome}))
            .collect();
        out.json(&json!({"finished": finished, "waiting": waiting.len(), "failed": failed}))?;
    } else {
        for (ticket, outcome) in &flushed.finished {
            if let Outcome::Sent(sent) = outcome {
                let message = sent.message.as_deref().unwrap_or("done");
                out.line(&format!("{ticket}  {message}"))?;
            }
        }
        for failed in &failed {
            out.line(&failed_line(failed.ticket, &failed.reason))?;
        }
        if flushed.finished.is_empty() && waiting.is_empty() && failed.is_empty() {
            note("nothing waits");
        }
    }
    if args.clear {
        for failed in &failed {
            queue.clear(failed.ticket).await?;
        }
    }
    if let Some(error) = flushed.stopped {
        note(&format!("waiting: {}", waiting.len()));
        return Err(error.into());
    }
    if !failed.is_empty() {
        anyhow::bail!(
            "failed: {}; `--clear` forgets what has failed",
            failed.len()
        );
    }
    Ok(())
}

fn failed_line(ticket: Ticket, reason: &Reason) -> String {
    format!("{ticket}  failed: {reason}")
}
