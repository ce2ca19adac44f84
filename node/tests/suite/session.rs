use std::time::Duration;

use whimbrel_client::api::EventKind;
use whimbrel_node::command::Action;
use whimbrel_node::session::{Session, SessionContext};
use whimbrel_replication::id::ConversationId;
use whimbrel_replication::op::ConversationKind;

use crate::batching::{Region, post};

/// The tailer hands a message over with its text while the session still reads what was missed; by
/// then it is redacted, and the session tells so. The text must not come after that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g13_no_text_comes_back_between_what_was_missed_and_what_is_live() {
    let region = Region::alone().await;
    let conversation = ConversationId::created("ada", "room");
    let create = Action::Create {
        kind: ConversationKind::Group,
        title: None,
        topic: None,
        members: vec!["ben".to_owned()],
    };
    let write = async |key: &str, action| {
        let written = region.write("ada", key, action, conversation).await;
        let told = region
            .tailers
            .wait_for(&written.cursor, Duration::from_secs(10));
        told.await.unwrap();
    };
    write("room", create).await;
    let since = region.tailers.held_all();
    let (message, action) = post(&conversation, "ada", "one", "secret");
    write("one", action).await;

    let context = SessionContext {
        store: region.store.clone(),
        identity: region.identity.clone(),
        tailers: region.tailers.clone(),
    };
    let opened = Session::open(context, "ben".to_owned(), Some(since)).await;
    let mut session = opened.unwrap();
    let react = Action::React {
        message,
        emoji: "!".to_owned(),
        present: true,
    };
    write("react", react).await;
    write("redact", Action::Redact { message }).await;

    let mut texts = Vec::new();
    let mut note = |kind: EventKind| match kind {
        EventKind::MessagePosted { message } => texts.push(("posted", message.text)),
        EventKind::MessageReacted { message } => texts.push(("reacted", message.text)),
        EventKind::MessageRedacted { message } => texts.push(("redacted", message.text)),
        other => panic!("{other:?}"),
    };
    while let Some(event) = session.next_missed().await.unwrap() {
        note(event.kind);
    }
    while let Some(event) = session.try_recv() {
        session.take(&event).await.unwrap();
        note(session.next_missed().await.unwrap().unwrap().kind);
    }
    let expected = ["posted", "reacted", "redacted"].map(|what| (what, None));
    assert_eq!(texts, expected);
}
