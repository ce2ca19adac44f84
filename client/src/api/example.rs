//! Examples for the OpenAPI document: values of the wire types, so that they cannot be out of date.

use super::*;

const CONVERSATION: &str = "e15rkinhssrhkna30cg1qq0mq4";
const POSITION: &str = "036m4s2ho30000004000380";
const CURSOR: &str = "AQAA";
const AT: &str = "2026-11-23T09:13:17.042Z";

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

pub(super) fn create_conversation() -> CreateConversation {
    CreateConversation {
        kind: ConversationKind::Channel,
        title: some("Birds"),
        topic: some("Waders and their ways"),
        members: vec!["bob".to_owned()],
    }
}

pub(super) fn change_conversation() -> ChangeConversation {
    ChangeConversation {
        title: some("Shore birds"),
        topic: None,
    }
}

pub(super) fn set_member() -> SetMember {
    SetMember { role: Role::Member }
}

pub(super) fn post_message() -> PostMessage {
    PostMessage {
        text: "Hello from Europe, @bob".to_owned(),
        reply_to: None,
        sent_at: None,
    }
}

pub(super) fn edit_message() -> EditMessage {
    EditMessage {
        text: "Hello from Europe, bob".to_owned(),
        base: "original".to_owned(),
    }
}

pub(super) fn mark_read() -> MarkRead {
    MarkRead {
        cursor: CURSOR.to_owned(),
    }
}

pub(super) fn conversation() -> Conversation {
    Conversation {
        id: CONVERSATION.to_owned(),
        kind: ConversationKind::Channel,
        title: some("Birds"),
        topic: some("Waders and their ways"),
        created_at: AT.to_owned(),
        creator: "ada".to_owned(),
        role: Some(Role::Owner),
        cursor: CURSOR.to_owned(),
    }
}

pub(super) fn conversation_list() -> ConversationList {
    ConversationList {
        conversations: vec![listed_conversation()],
        next: None,
    }
}

pub(super) fn listed_conversation() -> ListedConversation {
    ListedConversation {
        conversation: conversation(),
        last_message: Some(message()),
        unread: 1,
        mentions: 1,
    }
}

pub(super) fn members() -> Members {
    Members {
        members: vec![member()],
    }
}

pub(super) fn member() -> Member {
    Member {
        user: "bob".to_owned(),
        role: Role::Member,
        since: AT.to_owned(),
    }
}

pub(super) fn message() -> Message {
    Message {
        id: "0vccstgq8edbmaueb4lroncph8".to_owned(),
        conversation: CONVERSATION.to_owned(),
        position: POSITION.to_owned(),
        sender: "ada".to_owned(),
        text: some("Hello from Europe, @bob"),
        revision: "original".to_owned(),
        edited: false,
        merged: false,
        redacted: false,
        reply_to: None,
        mentions: vec!["bob".to_owned()],
        reactions: BTreeMap::from([("👍".to_owned(), reaction())]),
        created_at: AT.to_owned(),
        sent_at: None,
        region: "eu".to_owned(),
    }
}

pub(super) fn reaction() -> Reaction {
    Reaction { count: 2, me: true }
}

pub(super) fn posted_message() -> PostedMessage {
    PostedMessage {
        message: message(),
        acked_by: vec!["eu".to_owned()],
    }
}

pub(super) fn message_page() -> MessagePage {
    MessagePage {
        messages: vec![message()],
        prev: some(POSITION),
        next: None,
        cursor: CURSOR.to_owned(),
        unread_older: 3,
    }
}

pub(super) fn history() -> History {
    let version = |revision: &str, text: &str, parents: &[&str]| Version {
        revision: revision.to_owned(),
        text: text.to_owned(),
        author: "ada".to_owned(),
        at: AT.to_owned(),
        parents: parents.iter().map(ToString::to_string).collect(),
    };
    History {
        versions: vec![
            version("original", "Hello from Europe, @bob", &[]),
            version("5k8l6sl6qg2he", "Hello from Europe, bob", &["original"]),
        ],
        merged: false,
    }
}

pub(super) fn read_marked() -> ReadMarked {
    ReadMarked {
        cursor: CURSOR.to_owned(),
        unread: 0,
        mentions: 0,
    }
}

pub(super) fn receipts() -> Receipts {
    Receipts {
        receipts: vec![receipt()],
    }
}

pub(super) fn receipt() -> Receipt {
    Receipt {
        user: "bob".to_owned(),
        cursor: CURSOR.to_owned(),
        message: some("0vccstgq8edbmaueb4lroncph8"),
    }
}

pub(super) fn sync() -> Sync {
    Sync {
        events: vec![event()],
        token: CURSOR.to_owned(),
    }
}

pub(super) fn event() -> Event {
    Event {
        kind: EventKind::MessagePosted {
            message: Box::new(message()),
        },
        conversation: some(CONVERSATION),
        token: CURSOR.to_owned(),
        cursor: some(CURSOR),
    }
}

pub(super) fn regions() -> Regions {
    let region = |name: &str, status| RegionInfo {
        name: name.to_owned(),
        url: format!("https://{name}.example.org"),
        urls: vec![format!("https://{name}.example.org")],
        status,
        progress_percent: None,
    };
    Regions {
        this: "eu".to_owned(),
        regions: vec![
            region("eu", RegionStatus::Up),
            region("us", RegionStatus::Lagging),
        ],
    }
}
