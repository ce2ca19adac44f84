//! G5: an edit is made on what the store holds, whatever document is still in memory.

use std::sync::Arc;

use tempfile::TempDir;
use whimbrel_node::apply::{EditedLately, Workspace};
use whimbrel_node::store::embedded::Options;
use whimbrel_node::store::keys::Scope;
use whimbrel_node::store::{Embedded, Store};
use whimbrel_replication::crdt::text::{Document, RevisionRef};
use whimbrel_replication::cursor::ShardCursor;
use whimbrel_replication::id::{
    ConversationId, MessageId, OpId, OpStamp, Origin, Place, Position, RegionId, Stamp,
};
use whimbrel_replication::op::{Op, OpKind};

const ORIGINAL: &str = "whimbrels fly";

struct Message {
    store: Store,
    scope: Scope,
    id: MessageId,
    _dir: TempDir,
}

impl Message {
    async fn post() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::Embedded(Embedded::open(dir.path(), Options::default()).unwrap());
        let conversation = ConversationId::created("ada", "room");
        let message = Self {
            store,
            scope: Scope::new(conversation, 1),
            id: MessageId::derive(&conversation, "ada", "key", ORIGINAL, None, None),
            _dir: dir,
        };
        let posted = OpKind::Posted {
            message: message.id,
            text: ORIGINAL.to_owned(),
            reply_to: None,
            sent_at_unix_ms: None,
        };
        message.apply(&Arc::default(), 1, posted, true).await;
        message
    }

    /// Applies an op in a transaction that is committed or dropped.
    async fn apply(&self, node: &Arc<EditedLately>, nth: u8, kind: OpKind, commits: bool) {
        let tx = Arc::new(self.store.begin().unwrap());
        let mut workspace = Workspace::new(tx.clone(), 1, node.clone());
        let origin = Origin {
            region: RegionId(1),
            incarnation: 1,
        };
        let at = OpStamp::whole(Stamp::from_bytes([nth; Stamp::LEN]));
        let op = Op {
            position: Position::from_bytes([nth; Position::LEN]),
            id: OpId::derive("ada", &nth.to_string()),
            actor: "ada".to_owned(),
            conversation: self.scope.conversation,
            kind,
            trace: None,
        };
        let place = Place { origin, at };
        let applied = workspace.apply(place, &op, &ShardCursor::new(), None).await;
        applied.unwrap();
        workspace.finish();
        if commits {
            tx.commit().await.unwrap();
        }
    }

    fn edit(&self, text: &str) -> OpKind {
        let mut document = Document::new(&self.id, ORIGINAL);
        let (_, change) = document.edit(&RevisionRef::default(), text, text).unwrap();
        OpKind::Edited {
            message: self.id,
            change,
        }
    }

    /// The text and the number of edits that the next transaction of a node starts from.
    async fn seen_by(&self, node: &Arc<EditedLately>) -> (String, usize) {
        let tx = Arc::new(self.store.begin().unwrap());
        let mut workspace = Workspace::new(tx, 1, node.clone());
        let edits = workspace.edits(&self.scope, &self.id).await.unwrap();
        let seen = (edits.document.text(), edits.rows.len());
        workspace.finish();
        seen
    }
}

#[tokio::test]
async fn g5_an_edit_that_was_not_committed_is_not_built_on() {
    let (message, node) = (Message::post().await, Arc::default());
    let lost = message.edit("whimbrels swim");
    message.apply(&node, 2, lost, false).await;
    assert_eq!(message.seen_by(&node).await, (ORIGINAL.to_owned(), 0));
}

#[tokio::test]
async fn g5_edits_of_other_nodes_join_a_document_in_memory() {
    let (message, one, other) = (Message::post().await, Arc::default(), Arc::default());
    let (far, now) = (
        message.edit("whimbrels fly far"),
        message.edit("now whimbrels fly"),
    );
    message.apply(&one, 2, far, true).await;
    assert_eq!(message.seen_by(&one).await.0, "whimbrels fly far");
    message.apply(&other, 3, now, true).await;
    let merged = ("now whimbrels fly far".to_owned(), 2);
    assert_eq!(message.seen_by(&one).await, merged);
    assert_eq!(message.seen_by(&Arc::default()).await, merged);
}

#[tokio::test]
async fn g13_a_document_in_memory_does_not_outlive_a_redaction_elsewhere() {
    let (message, one, other) = (Message::post().await, Arc::default(), Arc::default());
    let far = message.edit("whimbrels fly far");
    message.apply(&one, 2, far, true).await;
    let redacted = OpKind::Redacted {
        message: message.id,
    };
    message.apply(&other, 3, redacted, true).await;
    assert_eq!(message.seen_by(&one).await, (String::new(), 0));
}
