//! `whimbrel import` and `whimbrel export`.

use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use whimbrel_client::RetryPolicy;
use whimbrel_client::import::gitter::Records;
use whimbrel_client::import::{BadRecord, Importer, Notice, OWNER, Summary};
use whimbrel_client::token::SCOPE_SERVICE;

use crate::args::{Export, Global, ImportGitter};
use crate::connect::{Caller, client, client_of, steady};
use crate::output::{Out, note};
use crate::pages::Pages;

/// A region that is restarted must find the import still there.
const PATIENCE: RetryPolicy = RetryPolicy {
    delay_min: Duration::from_millis(50),
    delay_max: Duration::from_secs(2),
    give_up_after: Duration::from_secs(75),
};

pub(crate) async fn import_gitter(
    global: &Global,
    args: &ImportGitter,
    out: &mut Out,
) -> anyhow::Result<()> {
    let shown = args.file.display();
    let bytes = std::fs::read(&args.file).with_context(|| format!("cannot read {shown}"))?;
    let records = Records::new(&bytes).map_err(|bad| {
        let BadRecord { line, reason } = bad;
        anyhow::anyhow!("{shown}:{line}: {reason}")
    })?;
    let caller = Caller {
        user: Some(OWNER),
        scope: Some(SCOPE_SERVICE),
        anonymous: false,
    };
    // It reads nothing. It moves only where it must: positions keep the order of the file as long as
    // one region gives them.
    let builder = steady().retry(PATIENCE).session(false);
    let client = client_of(global, &caller, builder).await?;

    let mut importer = Importer::new(client);
    importer.concurrency = args.concurrency.get();
    importer.rooms_max = args.rooms.unwrap_or(usize::MAX);
    for record in records {
        match record {
            Ok(record) => importer.add(record),
            Err(bad) => {
                note(&bad_line(&shown.to_string(), &bad));
                importer.add_bad();
            }
        }
    }
    drop(bytes);

    // Hidden where standard error is no terminal.
    let style = ProgressStyle::with_template(
        "{bar:40} {human_pos}/{human_len} messages  {per_sec}  {eta} to go",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(importer.waiting()).with_style(style);
    let (summary, outcome) = importer
        .run(|notice| match notice {
            Notice::Done => bar.inc(1),
            Notice::Bad(bad) => {
                bar.inc(1);
                bar.suspend(|| note(&bad_line(&shown.to_string(), &bad)));
            }
            _ => {}
        })
        .await;
    bar.finish_and_clear();

    if let Err(error) = outcome {
        note(&format!("stopped after: {}", summary_line(&summary)));
        note("run it again to go on; nothing is posted twice");
        return Err(error.into());
    }
    if out.json {
        return Ok(out.json(&summary)?);
    }
    Ok(out.line(&summary_line(&summary))?)
}

fn bad_line(file: &str, bad: &BadRecord) -> String {
    let BadRecord { line, reason } = bad;
    format!("{file}:{line}: {reason}")
}

fn summary_line(summary: &Summary) -> String {
    let Summary {
        records,
        rooms,
        users,
        new,
        replayed,
        bad,
        seconds,
        messages_per_second,
    } = summary;
    format!(
        "{records} records, {rooms} rooms, {users} users: {new} new, {replayed} replayed, {bad} bad \
         in {seconds:.1} s ({messages_per_second:.0} messages/s)"
    )
}

pub(crate) async fn export(global: &Global, args: &Export, out: &mut Out) -> anyhow::Result<()> {
    let client = client(global).await?;
    let mut pages = Pages::new(global, &client, &args.conversation);
    while let Some(page) = pages.next().await? {
        for message in &page.messages {
            out.json(message)?;
        }
    }
    Ok(())
}
