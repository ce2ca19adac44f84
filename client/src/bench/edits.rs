//! How long an edit takes, and one that merges, of a message that was edited before.

use std::cell::{Cell, RefCell};
use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use hyper::Method;
use hyper::header::HeaderValue;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::cast::{Cast, observer_bearer};
use super::latency::Latencies;
use super::usage::{Clocks, Cpu};
use super::wire::{Line, Server, with_key};
use super::{Control, Percentiles, Target, Texts, TextsUsed};
use crate::Error;
use crate::api::{EditMessage, PostMessage};
use crate::client::to_json;

/// Messages that are prepared at once.
const PREPARED_AT_ONCE: usize = 32;

/// What is edited.
#[derive(Clone, Debug)]
pub struct Editing {
    /// How often a message was edited before; each is measured for itself.
    pub earlier: Vec<u32>,
    /// Messages for each of them. Each is edited and merged once.
    pub messages: NonZeroU32,
    /// What the messages say.
    pub texts: Texts,
}

/// What [`edits`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Edited {
    /// The region that was asked.
    pub region: String,
    /// Where the texts came from.
    pub texts: TextsUsed,
    /// For each number of earlier edits.
    pub after: Vec<EditedAfter>,
}

/// Edits of messages that were edited before.
#[derive(Clone, Debug, Serialize)]
pub struct EditedAfter {
    /// How often.
    pub earlier_edits: u32,
    /// Messages that were edited and merged.
    pub messages: u64,
    /// Of an edit of the current revision.
    pub edit: Option<Percentiles>,
    /// Of a second edit of the same revision, which merges with the first.
    pub merge: Option<Percentiles>,
    /// Processor time for an edit and a merge together.
    pub cpu: Cpu,
}

/// Edits messages in the first region of `target`, one call at a time.
pub async fn edits(target: &Target, editing: &Editing, control: &Control) -> Result<Edited, Error> {
    let region = target.written()?;
    let server = Server::new(&region.url)?;
    control.stage("making a conversation", None);
    let cast = Cast::make(target, region, 1, 1).await?;
    let editor = Rc::new(Editor {
        run: cast.run.clone(),
        // The owner, who has no quota: a message is edited faster than a person types.
        bearer: observer_bearer(target, &cast.run)?,
        conversation: cast.conversations[0].clone(),
        server,
        texts: editing.texts.clone(),
        keys: Cell::new(0),
    });
    let mut after = Vec::new();
    for &earlier in &editing.earlier {
        if *control.stop.borrow() {
            break;
        }
        let prepared = prepare(&editor, editing.messages, earlier, control).await?;
        after.push(measure(target, &editor, &prepared, earlier, control).await?);
    }
    Ok(Edited {
        region: region.name.clone(),
        texts: TextsUsed::from(&editing.texts),
        after,
    })
}

/// Posts messages and edits them `earlier` times.
async fn prepare(
    editor: &Rc<Editor>,
    messages: NonZeroU32,
    earlier: u32,
    control: &Control,
) -> Result<Vec<Message>, Error> {
    let stage = format!("preparing messages with {earlier} edits");
    control.stage(&stage, Some(messages.get().into()));
    let left = Rc::new(Cell::new(messages.get()));
    let prepared = Rc::new(RefCell::new(Vec::new()));
    let mut clients = JoinSet::new();
    for _ in 0..PREPARED_AT_ONCE.min(messages.get() as usize) {
        let (editor, left) = (Rc::clone(editor), Rc::clone(&left));
        let (prepared, control) = (Rc::clone(&prepared), control.clone());
        clients.spawn_local(async move {
            let mut line = Line::open(editor.server.clone()).await?;
            while left.get() > 0 && !*control.stop.borrow() {
                left.set(left.get() - 1);
                let mut message = editor.post(&mut line).await?;
                for nth in 0..earlier {
                    if *control.stop.borrow() {
                        return Ok(());
                    }
                    let text = message.with_word(nth, "earlier");
                    message = editor.edit(&mut line, &message, &text).await?;
                }
                prepared.borrow_mut().push(message);
                control.step();
            }
            Ok::<_, Error>(())
        });
    }
    while let Some(joined) = clients.join_next().await {
        joined.map_err(|panic| Error::config(format!("a client broke off: {panic}")))??;
    }
    Ok(prepared.take())
}

async fn measure(
    target: &Target,
    editor: &Editor,
    prepared: &[Message],
    earlier: u32,
    control: &Control,
) -> Result<EditedAfter, Error> {
    let stage = format!("editing messages with {earlier} edits");
    control.stage(&stage, Some(prepared.len() as u64));
    let mut line = Line::open(editor.server.clone()).await?;
    let (mut edit, mut merge) = (Latencies::new(), Latencies::new());
    let mut count = 0;
    let pids: Vec<_> = target.regions.iter().map(|r| r.pids.clone()).collect();
    let before = Clocks::read(&pids);
    for message in prepared {
        if *control.stop.borrow() {
            break;
        }
        let (one, other) = (
            message.with_word(earlier, "one"),
            message.with_word(earlier + 1, "other"),
        );
        let sent = Instant::now();
        editor.edit(&mut line, message, &one).await?;
        let edited = Instant::now();
        // On the revision that the first edit was made on as well.
        let merged = editor.edit(&mut line, message, &other).await?;
        let took = edited.elapsed();
        if !merged.merged {
            return Err(Error::config(
                "two edits of one revision did not merge: somebody else edits these messages",
            ));
        }
        edit.record(edited.duration_since(sent));
        merge.record(took);
        count += 1;
        control.step();
    }
    Ok(EditedAfter {
        earlier_edits: earlier,
        messages: count,
        edit: edit.percentiles(),
        merge: merge.percentiles(),
        cpu: Clocks::read(&pids).since(&before, &target.regions, count),
    })
}

/// A message as the region answered it last.
#[derive(Clone, Debug, Deserialize)]
struct Message {
    id: String,
    text: String,
    revision: String,
    merged: bool,
}

impl Message {
    /// Its text with one word put into another place of it: a small edit, as people make.
    fn with_word(&self, nth: u32, word: &str) -> String {
        let spaces: Vec<usize> = self.text.match_indices(' ').map(|(at, _)| at).collect();
        let at = match spaces.len() {
            0 => self.text.len(),
            count => spaces[nth as usize * 7 % count],
        };
        let (before, after) = self.text.split_at(at);
        // The text stays as long as it is from the second edit on.
        match after.strip_prefix(&format!(" {word}")) {
            Some(rest) => format!("{before}{rest}"),
            None => format!("{before} {word}{after}"),
        }
    }
}

/// Makes calls about the messages of one conversation.
struct Editor {
    run: String,
    bearer: HeaderValue,
    conversation: String,
    server: Server,
    texts: Texts,
    /// Keys that were used.
    keys: Cell<u64>,
}

impl Editor {
    async fn post(&self, line: &mut Line) -> Result<Message, Error> {
        let text = self.texts.nth(self.keys.get()).to_owned();
        let body = PostMessage {
            text,
            ..PostMessage::default()
        };
        self.call(line, Method::POST, &[], to_json(&body).into())
            .await
    }

    async fn edit(&self, line: &mut Line, message: &Message, text: &str) -> Result<Message, Error> {
        let body = EditMessage {
            text: text.to_owned(),
            base: message.revision.clone(),
        };
        self.call(line, Method::PATCH, &[&message.id], to_json(&body).into())
            .await
    }

    async fn call(
        &self,
        line: &mut Line,
        method: Method,
        below: &[&str],
        body: Bytes,
    ) -> Result<Message, Error> {
        let messages = ["v1", "conversations", &self.conversation, "messages"];
        let target = self.server.target(&[&messages, below].concat())?;
        let key = self.keys.replace(self.keys.get() + 1);
        let request = line.request(method, target, Some(self.bearer.clone()), body);
        let request = with_key(request, format!("{}-edit-{key}", self.run));
        line.call(request).await?.json()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_small_and_different() {
        let message = |text: &str| Message {
            id: String::new(),
            text: text.to_owned(),
            revision: String::new(),
            merged: false,
        };
        let text = message("a whimbrel flies over the sea").with_word(0, "now");
        assert_eq!(text, "a now whimbrel flies over the sea");
        assert_eq!(
            message(&text).with_word(0, "now"),
            "a whimbrel flies over the sea"
        );
        assert_eq!(message("one").with_word(3, "now"), "one now");
        let long = message(Texts::generated(1).nth(0));
        for nth in 0..100 {
            assert_ne!(long.with_word(nth, "one"), long.text);
            assert_ne!(long.with_word(nth, "one"), long.with_word(nth + 1, "other"));
        }
    }
}
