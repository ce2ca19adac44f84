//! `whimbrel send --queue` and `whimbrel flush`.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use whimbrel_client::RetryPolicy;
use whimbrel_client::queue::{Outcome, Reason, Ticket, Write};

use crate::args::{Flush, Global};
use crate::connect::{Caller, client, client_of, steady};
use crate::output::{Out, note};

/// What cannot be sent soon is kept anyway.
const IMPATIENT: RetryPolicy = RetryPolicy {
    delay_min: Duration::from_millis(50),
    delay_max: Duration::from_millis(500),
    give_up_after: Duration::from_secs(2),
};

/// Keeps a write and sends all that waits. That it waits is no error: it is kept.
pub(crate) async fn send(
    global: &Global,
    folder: &Path,
    write: Write,
    out: &mut Out,
) -> anyhow::Result<()> {
    let client = client_of(global, &Caller::USER, steady().retry(IMPATIENT)).await?;
    let queue = client.queue(folder)?;
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
    let queue = client(global).await?.queue(&args.queue)?;
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
    }
    if args.clear {
        for failed in &failed {
            queue.clear(failed.ticket).await?;
        }
    }
    if let Some(error) = flushed.stopped {
        note(&format!("{} entries wait", waiting.len()));
        return Err(error.into());
    }
    if !failed.is_empty() {
        anyhow::bail!("{} entries have failed", failed.len());
    }
    Ok(())
}

fn failed_line(ticket: Ticket, reason: &Reason) -> String {
    format!("{ticket}  failed: {reason}")
}
