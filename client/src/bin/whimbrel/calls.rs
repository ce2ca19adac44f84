//! Commands that make one call each.

use std::io::Read as _;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::join_all;
use whimbrel_client::api::{
    CreateConversation, MessagePage, PostMessage, RegionInfo, RegionStatus,
};
use whimbrel_client::queue::{MessageRef, Write};
use whimbrel_client::{Call, Client, RetryPolicy};

use crate::args::{
    Conversations, Create, Edit, Global, History, Members, MembersWhat, React, Read, Redact, Send,
};
use crate::ask::{Unsure, ask, reading};
use crate::connect::{Caller, client, client_of, steady};
use crate::output::{Out, note};
use crate::pages::Pages;
use crate::queue;
use crate::show;

/// What a region says of itself is waited for so long.
const OWN_WORD_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) async fn regions(global: &Global, out: &mut Out) -> anyhow::Result<()> {
    let caller = Caller {
        anonymous: true,
        ..Caller::USER
    };
    let client = client_of(global, &caller, steady()).await?;
    let mut answer = ask(client.regions()).await?;
    let this = answer.value.this.clone();
    let others = answer.value.regions.iter_mut().filter(|region| {
        region.name != this && matches!(region.status, RegionStatus::Up | RegionStatus::Lagging)
    });
    join_all(others.map(async |region| {
        if let Some(own) = own_word(region).await {
            region.progress_percent = own.progress_percent;
            // Others see that it answers them, not that it takes no writes.
            if own.status == RegionStatus::Lagging {
                region.status = own.status;
            }
        }
    }))
    .await;
    if out.json {
        return Ok(out.json(&answer.value)?);
    }
    for region in &answer.regions {
        let status = match region.status {
            RegionStatus::Up => "up",
            RegionStatus::Lagging => "lagging",
            RegionStatus::Down => "down",
            _ => "unknown",
        };
        let this = if region.name == answer.this {
            "  (answers)"
        } else {
            ""
        };
        let progress = region.progress_percent.map_or_else(String::new, |percent| {
            format!("  (being built: {percent}%)")
        });
        out.line(&format!(
            "{:<12} {status:<8} {}{this}{progress}",
            region.name, region.url
        ))?;
    }
    let mut others = answer.regions.iter().filter(|r| r.name != answer.this);
    if answer.regions.len() > 2 && others.all(|region| region.status != RegionStatus::Up) {
        note(&format!(
            "note: that is how {0} sees them; as it is well with none, {0} itself may be the one \
             that is cut off: ask another with `--region`",
            answer.this
        ));
    }
    Ok(())
}

/// What a region says of itself: how far it is where it is built, and whether it takes writes; nothing where it does
/// not answer soon.
async fn own_word(region: &RegionInfo) -> Option<RegionInfo> {
    let client = Client::builder()
        .discover(false)
        .timeout(OWN_WORD_TIMEOUT)
        .retry(RetryPolicy::NEVER)
        .region(&region.name, &region.url)
        .build();
    let answer = client.ok()?.regions().await.ok()?;
    let mut all = answer.value.regions.into_iter();
    all.find(|info| info.name == region.name)
}

pub(crate) async fn conversations(
    global: &Global,
    args: &Conversations,
    out: &mut Out,
) -> anyhow::Result<()> {
    let client = client(global).await?;
    let mut call = reading(global, client.conversations());
    if let Some(limit) = args.limit {
        call = call.limit(limit);
    }
    if let Some(page) = &args.page {
        call = call.page(page);
    }
    let list = ask(call).await?.value;
    if out.json {
        return Ok(out.json(&list)?);
    }
    for listed in &list.conversations {
        let conversation = &listed.conversation;
        let title = conversation.title.as_deref().unwrap_or("(no title)");
        let mut line = format!(
            "{}  {:<7}  {title}",
            conversation.id,
            show::kind(conversation.kind)
        );
        if listed.unread > 0 {
            line.push_str(&format!("  ({} unread", listed.unread));
            if listed.mentions > 0 {
                line.push_str(&format!(", {} mention you", listed.mentions));
            }
            line.push(')');
        }
        if let Some(last) = &listed.last_message {
            let text = last.text.as_deref().unwrap_or("(redacted)");
            line.push_str(&format!("\n    {}: {}", last.sender, show::excerpt(text)));
        }
        out.line(&line)?;
    }
    if let Some(next) = &list.next {
        note(&format!("more: whimbrel conversations --page {next}"));
    }
    Ok(())
}

pub(crate) async fn create(global: &Global, args: Create, out: &mut Out) -> anyhow::Result<()> {
    let client = client(global).await?;
    let body = CreateConversation {
        kind: args.kind.into(),
        title: args.title,
        topic: args.topic,
        members: args.members,
    };
    let answer = ask(keyed(client.create(&body), args.key)).await?;
    if out.json {
        return Ok(out.json_written(&answer)?);
    }
    Ok(out.line(&answer.id)?)
}

pub(crate) async fn send(global: &Global, args: Send, out: &mut Out) -> anyhow::Result<()> {
    if let Some(folder) = &args.queue {
        let write = Write::Post {
            conversation: args.conversation,
            text: text_of(args.text)?,
            reply_to: args.reply_to.map(MessageRef::Id),
        };
        return queue::send(global, folder, write, out).await;
    }
    let client = client(global).await?;
    let body = PostMessage {
        text: text_of(args.text)?,
        reply_to: args.reply_to,
        sent_at: None,
    };
    let call = client.post(&args.conversation, &body).ack(args.ack);
    let call = keyed(call, args.key);
    let key = call.idempotency_key().unwrap_or_default().to_owned();
    let answer = ask(call).await.map_err(|error| Unsure::of(error, key))?;
    if out.json {
        return Ok(out.json_written(&answer)?);
    }
    Ok(out.line(&answer.message.id)?)
}

pub(crate) async fn history(global: &Global, args: &History, out: &mut Out) -> anyhow::Result<()> {
    let client = client(global).await?;
    if let Some(message) = &args.message {
        let call = client.history(&args.conversation, message);
        let history = ask(reading(global, call)).await?.value;
        if out.json {
            return Ok(out.json(&history)?);
        }
        for version in &history.versions {
            let at = show::time(&version.at);
            let text = version.text.replace('\n', "\n    ");
            out.line(&format!(
                "{}  {at}  {}: {text}",
                version.revision, version.author
            ))?;
        }
        if history.merged {
            out.line("The current text was merged from concurrent edits.")?;
        }
        return Ok(());
    }
    if args.all {
        let mut pages = Pages::new(global, &client, &args.conversation);
        let mut all: Option<MessagePage> = None;
        while let Some(page) = pages.next().await? {
            if !out.json {
                show_messages(&page, out)?;
                continue;
            }
            match &mut all {
                None => all = Some(page),
                Some(all) => {
                    all.messages.extend(page.messages);
                    all.next = page.next;
                }
            }
        }
        if let Some(all) = all {
            out.json(&all)?;
        }
        return Ok(());
    }
    let mut call = reading(global, client.messages(&args.conversation));
    if let Some(limit) = args.limit {
        call = call.limit(limit);
    }
    if let Some(position) = &args.before {
        call = call.older_than(position);
    }
    if let Some(position) = &args.newer {
        call = call.newer_than(position);
    }
    let page = ask(call).await?.value;
    if out.json {
        return Ok(out.json(&page)?);
    }
    show_messages(&page, out)?;
    out.flush()?;
    let conversation = &args.conversation;
    if let Some(prev) = &page.prev {
        note(&format!(
            "older: whimbrel history {conversation} --before {prev}"
        ));
    }
    if let Some(next) = &page.next {
        note(&format!(
            "newer: whimbrel history {conversation} --newer {next}"
        ));
    }
    Ok(())
}

fn show_messages(page: &MessagePage, out: &mut Out) -> std::io::Result<()> {
    page.messages
        .iter()
        .try_for_each(|message| out.line(&show::message(message)))
}

pub(crate) async fn edit(global: &Global, args: Edit, out: &mut Out) -> anyhow::Result<()> {
    let client = client(global).await?;
    let text = text_of(args.text)?;
    let base = match args.base {
        Some(base) => base,
        None => {
            let call = client.message(&args.conversation, &args.message);
            ask(reading(global, call)).await?.value.revision
        }
    };
    let call = client.edit(&args.conversation, &args.message, &text, &base);
    let answer = ask(keyed(call, args.key)).await?;
    if out.json {
        return Ok(out.json_written(&answer)?);
    }
    Ok(out.line(&show::message(&answer.value))?)
}

pub(crate) async fn redact(global: &Global, args: &Redact, out: &mut Out) -> anyhow::Result<()> {
    let client = client(global).await?;
    done(client.redact(&args.conversation, &args.message), out).await
}

pub(crate) async fn react(global: &Global, args: &React, out: &mut Out) -> anyhow::Result<()> {
    let client = client(global).await?;
    let (conversation, message, emoji) = (&args.conversation, &args.message, &args.emoji);
    let call = if args.remove {
        client.unreact(conversation, message, emoji)
    } else {
        client.react(conversation, message, emoji)
    };
    done(call, out).await
}

pub(crate) async fn read(global: &Global, args: Read, out: &mut Out) -> anyhow::Result<()> {
    let client = client(global).await?;
    let cursor = match args.cursor {
        Some(cursor) => cursor,
        None => {
            let call = client.messages(&args.conversation).limit(1);
            ask(reading(global, call)).await?.value.cursor
        }
    };
    let answer = ask(client.mark_read(&args.conversation, &cursor)).await?;
    if out.json {
        return Ok(out.json_written(&answer)?);
    }
    let (unread, mentions) = (answer.unread, answer.mentions);
    Ok(out.line(&format!("{unread} unread, {mentions} mention you"))?)
}

pub(crate) async fn members(global: &Global, args: &Members, out: &mut Out) -> anyhow::Result<()> {
    let client = client(global).await?;
    let conversation = &args.conversation;
    match args.what.as_ref().unwrap_or(&MembersWhat::List) {
        MembersWhat::List => {
            let call = reading(global, client.members(conversation));
            let members = ask(call).await?.value;
            if out.json {
                return Ok(out.json(&members)?);
            }
            for member in &members.members {
                let (role, since) = (show::role(member.role), show::time(&member.since));
                out.line(&format!("{role:<6}  {since}  {}", member.user))?;
            }
            Ok(())
        }
        MembersWhat::Add { user, role } => {
            let call = client.set_member(conversation, user, (*role).into());
            let answer = ask(call).await?;
            if out.json {
                return Ok(out.json_written(&answer)?);
            }
            let role = show::role(answer.role);
            Ok(out.line(&format!("{} is {role} now", answer.user))?)
        }
        MembersWhat::Remove { user } => done(client.remove_member(conversation, user), out).await,
        MembersWhat::Ban { user } => done(client.ban_member(conversation, user), out).await,
    }
}

/// A call without an answer: says nothing to people, who see the exit code.
async fn done(call: Call<()>, out: &mut Out) -> anyhow::Result<()> {
    let answer = ask(call).await?;
    if out.json {
        out.json_written(&answer)?;
    }
    Ok(())
}

fn keyed<T>(call: Call<T>, key: Option<String>) -> Call<T> {
    match key {
        Some(key) => call.key(key),
        None => call,
    }
}

/// The text of an argument, or of standard input, without the newline that ends it.
fn text_of(argument: String) -> anyhow::Result<String> {
    if argument != "-" {
        return Ok(argument);
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("cannot read the text from standard input")?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}
