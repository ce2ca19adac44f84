//! Snapshots between two stores: page by page, into a store that serves nobody meanwhile (G10, G16).

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use whimbrel_node::apply::held;
use whimbrel_node::apply::rows::SnapshotStage;
use whimbrel_node::batcher::commit;
use whimbrel_node::clock::unix_ms;
use whimbrel_node::command::{Action, Command};
use whimbrel_node::digest::{Digests, total};
use whimbrel_node::snapshot::{self, MergeError};
use whimbrel_node::store::{RunOptions, StoreError};
use whimbrel_node::trim;
use whimbrel_replication::cursor::ShardCursor;
use whimbrel_replication::id::{ConversationId, ShardId};
use whimbrel_replication::link::{SnapshotPage, SnapshotProgress};
use whimbrel_replication::op::ConversationKind;

use crate::batching::{Region, SHARDS, post};

const POSTS: usize = 30;

async fn with_history() -> (Region, ConversationId) {
    let eu = Region::start(1, None).await;
    let conversation = ConversationId::created("ada", "room");
    let create = Action::Create {
        kind: ConversationKind::Group,
        title: Some("Room".to_owned()),
        topic: None,
        members: vec!["ben".to_owned()],
    };
    eu.write("ada", "room", create, conversation).await;
    for n in 0..POSTS {
        let key = format!("post {n}");
        let (message, action) = post(&conversation, "ada", &key, &key);
        eu.write("ada", &key, action, conversation).await;
        if n == 3 {
            let redact = Action::Redact { message };
            eu.write("ada", "redact", redact, conversation).await;
        }
        if n == 4 {
            let react = Action::React {
                message,
                emoji: "👍".to_owned(),
                present: true,
            };
            eu.write("ben", "react", react, conversation).await;
        }
    }
    (eu, conversation)
}

async fn read(region: &Region, shard: ShardId, after: Option<Bytes>, bytes: usize) -> SnapshotPage {
    let own = region.identity.origin;
    let page = snapshot::read(&region.store, own, shard, after, bytes);
    page.await.unwrap()
}

async fn merge(region: &Region, page: SnapshotPage) -> Result<SnapshotProgress, MergeError> {
    snapshot::merge(&region.store, &region.context, None, page).await
}

async fn digest(region: &Region) -> blake3::Hash {
    let all = Digests::default();
    let all = all.all(&region.store, &region.identity).await.unwrap();
    total(&all)
}

async fn held_by(region: &Region, shard: ShardId) -> ShardCursor {
    let own = region.identity.origin;
    let read = region
        .store
        .read(RunOptions::default(), move |tx| async move {
            held(&tx, shard, own).await
        });
    read.await.unwrap()
}

async fn stage(region: &Region, shard: ShardId) -> SnapshotStage {
    let read = region
        .store
        .read(RunOptions::default(), move |tx| async move {
            snapshot::row(&tx, shard, true).await
        });
    read.await.unwrap().stage()
}

/// Whether a region takes a write to a conversation.
async fn takes(region: &Region, conversation: ConversationId, key: &str) -> Result<(), StoreError> {
    let command = Command {
        actor: "ada".to_owned(),
        is_admin: false,
        key: key.to_owned(),
        conversation,
        action: post(&conversation, "ada", key, key).1,
        trace: None,
    };
    static NEXT: AtomicU64 = AtomicU64::new(5_000);
    let batch = commit::Batch {
        shard: conversation.shard(SHARDS),
        // No batch of a node has the number of another.
        number: NEXT.fetch_add(1, Ordering::Relaxed),
        commands: [command].into(),
    };
    let committed = commit::commit(&region.store, &region.context, batch, unix_ms, |_| None);
    committed.await.map(drop)
}

#[tokio::test]
async fn g16_small_pages_add_up_to_the_same_state() {
    let (eu, conversation) = with_history().await;
    let us = Region::start(2, None).await;
    for shard in (0..SHARDS).map(ShardId) {
        snapshot::begin(&us.store, None, shard).await.unwrap();
        let (mut after, mut pages) = (None, 0);
        loop {
            let page = read(&eu, shard, after.clone(), 300).await;
            pages += 1;
            // Once more, as after an answer that was lost: it says how far it is, and no more.
            let again = page.clone();
            let is_last = page.next.is_none();
            let progress = merge(&us, page).await.unwrap();
            let repeated = merge(&us, again).await.unwrap();
            match progress {
                SnapshotProgress::After(at) => {
                    assert_eq!(repeated, SnapshotProgress::After(at.clone()));
                    assert!(at > after, "{at:?} after {after:?}");
                    after = at;
                }
                SnapshotProgress::Merged(cursor) => {
                    assert!(is_last);
                    assert_eq!(cursor, held_by(&eu, shard).await);
                    break;
                }
                SnapshotProgress::Failed => panic!("nobody holds a lease"),
            }
        }
        if shard == conversation.shard(SHARDS) {
            assert!(pages > 5, "{pages} pages");
            // Nobody can be given the log from here.
            let floors = trim::floors(&us.store).await.unwrap();
            let floors = floors.shard(shard).cloned().unwrap_or_default();
            assert!(floors.covers_all(&held_by(&eu, shard).await));
        }
        let own = us.identity.origin;
        let ended = snapshot::end_if_caught_up(&us.store, own, shard, vec![]).await;
        assert!(ended.unwrap());
    }
    assert_eq!(digest(&us).await, digest(&eu).await);
    takes(&us, conversation, "and on").await.unwrap();
}

/// G10: nothing is written on top of what is merged in part.
#[tokio::test]
async fn g10_a_shard_amid_a_snapshot_takes_no_write() {
    let (eu, conversation) = with_history().await;
    let shard = conversation.shard(SHARDS);
    takes(&eu, conversation, "before").await.unwrap();
    snapshot::begin(&eu.store, None, shard).await.unwrap();
    let refused = takes(&eu, conversation, "amid").await;
    assert_eq!(refused, Err(StoreError::Snapshot));
}

/// What some page has held beyond the others must come by the logs before the shard is shown.
#[tokio::test]
async fn g10_a_snapshot_ends_only_where_the_logs_have_caught_up() {
    let (eu, conversation) = with_history().await;
    let us = Region::start(2, None).await;
    let shard = conversation.shard(SHARDS);
    snapshot::begin(&us.store, None, shard).await.unwrap();
    let first = read(&eu, shard, None, 300).await;
    let after = first.next.clone();
    assert!(after.is_some());
    let begun_at = first.cursor.clone();
    merge(&us, first).await.unwrap();
    let (_, late) = post(&conversation, "ada", "late", "late");
    eu.write("ada", "late", late, conversation).await;
    let rest = read(&eu, shard, after, usize::MAX).await;
    let merged = merge(&us, rest).await.unwrap();
    // It counts as holding what all pages held.
    assert_eq!(merged, SnapshotProgress::Merged(begun_at.clone()));
    assert_eq!(held_by(&us, shard).await, begun_at);
    let own = us.identity.origin;
    let ended = snapshot::end_if_caught_up(&us.store, own, shard, vec![]).await;
    assert!(!ended.unwrap(), "the late post is here, and its log is not");
    assert_eq!(stage(&us, shard).await, SnapshotStage::CatchingUp);
    let refused = takes(&us, conversation, "amid").await;
    assert_eq!(refused, Err(StoreError::Snapshot));
}

/// G17: a page that cannot be read leaves nothing behind.
#[tokio::test]
async fn g17_a_bad_page_is_refused_as_a_whole() {
    let (eu, conversation) = with_history().await;
    let us = Region::start(2, None).await;
    let shard = conversation.shard(SHARDS);
    snapshot::begin(&us.store, None, shard).await.unwrap();
    let good = read(&eu, shard, None, usize::MAX).await;
    let nothing = digest(&us).await;
    let spoil = |spoil: fn(&mut SnapshotPage)| {
        let mut page = good.clone();
        spoil(&mut page);
        page
    };
    for bad in [
        spoil(|page| page.rows[5].1 = Bytes::from_static(b"\xff\xff\xff")),
        spoil(|page| page.rows[5].0 = Bytes::from_static(b"no key")),
        // A row that is derived must not be given.
        spoil(|page| {
            let mut key = page.rows[0].0.to_vec();
            let kind = key.len() - 2;
            assert_eq!(key[kind], b'c');
            key[kind] = b't';
            page.rows[0].0 = key.into();
        }),
        spoil(|page| page.shard = ShardId(1 - page.shard.0)),
    ] {
        let refused = merge(&us, bad).await;
        assert!(matches!(refused, Err(MergeError::Page(_))), "{refused:?}");
        assert_eq!(digest(&us).await, nothing);
    }
    assert!(matches!(
        merge(&us, good).await,
        Ok(SnapshotProgress::Merged(_))
    ));
}
