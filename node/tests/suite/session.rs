use std::time::Duration;

use whimbrel_client::api::EventKind;
use whimbrel_node::command::Action;
use whimbrel_node::session::{Session, SessionContext};
use whimbrel_replication::id::{ConversationId, MessageId};
use whimbrel_replication::op::ConversationKind;

use crate::batching::{Region, post};

/// A room of ada's and ben's with one message in it, and ben's session, which has missed that.
struct Room {
    region: Region,
    conversation: ConversationId,
    message: MessageId,
    session: Session,
    told: Vec<(&'static str, Option<String>)>,
}

impl Room {
    async fn new() -> Self {
        let region = Region::alone().await;
        let conversation = ConversationId::created("ada", "room");
        let create = Action::Create {
            kind: ConversationKind::Group,
            title: None,
            topic: None,
            members: vec!["ben".to_owned()],
        };
        write(&region, conversation, "room", create).await;
        let since = region.tailers.held_all();
        let (message, action) = post(&conversation, "ada", "one", "secret");
        write(&region, conversation, "one", action).await;
        let context = SessionContext {
            store: region.store.clone(),
            identity: region.identity.clone(),
            tailers: region.tailers.clone(),
        };
        let session = Session::open(context, "ben".to_owned(), Some(since)).await;
        Self {
            session: session.unwrap(),
            region,
            conversation,
            message,
            told: Vec::new(),
        }
    }

    /// Returns once the tailer has handed it over.
    async fn write(&self, key: &str, action: Action) {
        write(&self.region, self.conversation, key, action).await;
    }

    async fn react(&self, emoji: &str) {
        let react = Action::React {
            message: self.message,
            emoji: emoji.to_owned(),
            present: true,
        };
        self.write(emoji, react).await;
    }

    async fn redact(&self) {
        let message = self.message;
        self.write("redact", Action::Redact { message }).await;
    }

    /// Notes all that the session is ready to tell.
    async fn listen(&mut self) {
        while let Some(event) = self.session.next_missed().await.unwrap() {
            self.told.push(match event.kind {
                EventKind::MessagePosted { message } => ("posted", message.text),
                EventKind::MessageReacted { message } => ("reacted", message.text),
                EventKind::MessageRedacted { message } => ("redacted", message.text),
                other => panic!("{other:?}"),
            });
        }
    }

    /// Takes what the tailers have handed over.
    async fn take_all(&mut self) {
        let waiting: Vec<_> = std::iter::from_fn(|| self.session.try_recv()).collect();
        for event in waiting {
            self.session.take(&event).await.unwrap();
            self.listen().await;
        }
    }
}

async fn write(region: &Region, conversation: ConversationId, key: &str, action: Action) {
    let written = region.write("ada", key, action, conversation).await;
    let told = region
        .tailers
        .wait_for(&written.cursor, Duration::from_secs(10));
    told.await.unwrap();
}

/// The tailer hands a message over with its text while the session still reads what was missed; by
/// then it is redacted, and the session tells so. The text must not come after that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g13_no_text_comes_back_between_what_was_missed_and_what_is_live() {
    let mut room = Room::new().await;
    room.react("!").await;
    room.redact().await;
    room.listen().await;
    room.take_all().await;
    let expected = ["posted", "reacted", "redacted"].map(|what| (what, None));
    assert_eq!(room.told, expected);
}

/// An event that the tailer had read before what was missed is read once more, by when the message is
/// redacted. What was handed over in between, with the text, comes after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g13_no_text_comes_back_among_what_is_live() {
    let mut room = Room::new().await;
    room.react("!").await;
    room.listen().await;
    room.react("?").await;
    room.redact().await;
    room.take_all().await;
    let text = Some("secret".to_owned());
    let expected = [
        ("posted", text),
        ("reacted", None),
        ("reacted", None),
        ("redacted", None),
    ];
    assert_eq!(room.told, expected);
}
