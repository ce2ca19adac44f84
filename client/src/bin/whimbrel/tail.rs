//! `whimbrel tail`.

use std::collections::HashSet;

use whimbrel_client::Client;
use whimbrel_client::api::{Event, EventKind};

use crate::args::{Global, Tail};
use crate::connect::{Caller, client_of};
use crate::output::{Out, note};
use crate::pages::Pages;
use crate::show;

pub(crate) async fn run(global: &Global, args: &Tail, out: &mut Out) -> anyhow::Result<()> {
    tokio::select! {
        // First of all, so that Ctrl-C is heard before anything is shown.
        biased;
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        done = follow(global, args, out) => done,
    }
}

async fn follow(global: &Global, args: &Tail, out: &mut Out) -> anyhow::Result<()> {
    // It lasts: further regions are worth to be found.
    let client = client_of(global, &Caller::USER, Client::builder()).await?;
    // Before the pages are read: what happens meanwhile then comes twice, and is told apart by id.
    let mut events = client.stream(args.since.as_deref()).await?;
    let mut region = events.region().map(str::to_owned);
    let mut shown = HashSet::new();
    if let (true, Some(conversation)) = (args.from_start, &args.conversation) {
        let mut pages = Pages::new(global, &client, conversation);
        while let Some(page) = pages.next().await? {
            for message in page.messages {
                shown.insert(message.id.clone());
                let event = Event {
                    kind: EventKind::MessagePosted {
                        message: Box::new(message),
                    },
                    conversation: Some(conversation.clone()),
                    token: events.token().to_owned(),
                    cursor: Some(page.cursor.clone()),
                };
                print(&event, args, out)?;
            }
        }
    }
    loop {
        // Before waiting, and not after each line of many.
        out.flush()?;
        let event = match events.next().await {
            Ok(event) => event,
            Err(error) if error.is_transient() => {
                note(&format!("{error}; trying again"));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if events.region() != region.as_deref() {
            if let (Some(left), Some(now)) = (&region, events.region()) {
                note(&format!("lost the connection to {left}; going on in {now}"));
            }
            region = events.region().map(str::to_owned);
        }
        if let EventKind::MessagePosted { message } = &event.kind
            && shown.remove(&message.id)
        {
            continue;
        }
        // What is about the stream itself has no conversation.
        let other = match (&args.conversation, &event.conversation) {
            (Some(wanted), Some(conversation)) => wanted != conversation,
            _ => false,
        };
        if !other {
            print(&event, args, out)?;
        }
    }
}

fn print(event: &Event, args: &Tail, out: &mut Out) -> std::io::Result<()> {
    if out.json {
        return out.json(event);
    }
    let Some(mut line) = line(&event.kind) else {
        return Ok(());
    };
    if let (None, Some(conversation)) = (&args.conversation, &event.conversation) {
        line = format!("{conversation}  {line}");
    }
    out.line(&line)
}

fn line(kind: &EventKind) -> Option<String> {
    Some(match kind {
        EventKind::MessagePosted { message } => show::message(message),
        EventKind::MessageEdited { message } => format!("edited: {}", show::message(message)),
        EventKind::MessageRedacted { message } => format!("redacted: {}", show::message(message)),
        EventKind::MessageReacted { message } => format!("reacted: {}", show::message(message)),
        EventKind::MessageMoved { message } => format!("moved: {}", show::message(message)),
        EventKind::Receipt { user, message } => match message {
            Some(message) => format!("{user} has read up to {message}"),
            None => format!("{user} has read"),
        },
        EventKind::Member { user, role } => format!("{user} {}", show::membership(*role)),
        EventKind::Conversation => "title or topic changed".to_owned(),
        EventKind::Typing { user } => format!("{user} is typing"),
        EventKind::Gap => {
            "some events are no longer kept: look them up with `whimbrel history`".to_owned()
        }
        EventKind::Behind { waiting_for } => format!(
            "this region has not yet got all from {}",
            waiting_for.join(", ")
        ),
        _ => return None,
    })
}
