//! G7: one idempotency key is one thing, whatever dies and wherever one asks again.

use std::collections::BTreeSet;

use tokio::task::JoinSet;
use whimbrel_client::Client;
use whimbrel_client::api::{ConversationKind, CreateConversation, ProblemCode};

use crate::harness::{Cluster, group, say, text, walk_back};
use crate::wait::{ensure, until};

/// G7 in one region.
#[tokio::test(flavor = "multi_thread")]
async fn g7_a_retry_is_answered_and_not_done_again() {
    let cluster = Cluster::of(&["eu"]).await;
    let ana = cluster.client("eu", "ana");
    let id = group(&ana, &[]).await;

    let call = ana.post(&id, &text("once")).key("k1");
    let first = call.clone().await.unwrap();
    let again = call.await.unwrap();
    assert!(!first.replayed && again.replayed);
    assert_eq!(first.value.message, again.value.message);
    let other = ana.post(&id, &text("twice")).key("k1").await.unwrap_err();
    assert_eq!(other.code(), Some(ProblemCode::IdempotencyMismatch));
    assert_eq!(other.status(), Some(409));

    // A replay shows what is there now.
    let message = first.value.message;
    let edit = ana
        .edit(&id, &message.id, "edited", &message.revision)
        .key("k2");
    let edited = edit.clone().await.unwrap();
    let again = edit.await.unwrap();
    assert!(!edited.replayed && again.replayed);
    assert_eq!(edited.value, again.value);
    let replayed = ana.post(&id, &text("once")).key("k1").await.unwrap();
    assert!(replayed.replayed);
    assert_eq!(replayed.value.message.text.as_deref(), Some("edited"));
    assert_eq!(
        ana.history(&id, &message.id).await.unwrap().versions.len(),
        2
    );

    let create = CreateConversation {
        kind: ConversationKind::Channel,
        title: Some("Once".to_owned()),
        topic: None,
        members: Vec::new(),
    };
    let first = ana.create(&create).key("k3").await.unwrap();
    let again = ana.create(&create).key("k3").await.unwrap();
    assert!(!first.replayed && again.replayed);
    assert_eq!(first.value.id, again.value.id);
    // A key is its user's own.
    let ben = cluster.client("eu", "ben");
    let others = ben.create(&create).key("k3").await.unwrap();
    assert_ne!(first.value.id, others.value.id);
    assert_eq!(walk_back(&ana, &id, 50).await.unwrap().len(), 1);
}

/// G7: the same call in three regions that don't see each other, all at once.
#[tokio::test(flavor = "multi_thread")]
async fn g7_one_key_in_cut_off_regions_is_one_thing() {
    let cluster = Cluster::start().await;
    let everywhere = cluster.everywhere("ana");
    let id = group(&everywhere[0], &["ben"]).await;
    let shared = say(&everywhere[0], &id, "to be edited").await.message;
    cluster.converged().await;
    cluster.cut_all();

    let create = CreateConversation {
        kind: ConversationKind::Channel,
        title: Some("Everywhere".to_owned()),
        topic: None,
        members: Vec::new(),
    };
    let mut all = JoinSet::new();
    for ana in everywhere.clone() {
        let (id, shared, create) = (id.clone(), shared.clone(), create.clone());
        all.spawn(async move {
            let body = text("the same");
            let posted = ana.post(&id, &body).key("post").await.unwrap();
            let call = ana.edit(&id, &shared.id, "edited", &shared.revision);
            let edited = call.key("edit").await.unwrap();
            let created = ana.create(&create).key("create").await.unwrap();
            for replayed in [posted.replayed, edited.replayed, created.replayed] {
                assert!(!replayed, "the regions don't see each other");
            }
            let region = posted.region.unwrap();
            // Same key, other body: two messages, and nothing is lost.
            let own = ana.post(&id, &text(format!("only in {region}")));
            own.key("mine").await.unwrap();
            (
                posted.value.message.id,
                edited.value.revision,
                created.value.id,
            )
        });
    }
    let results: BTreeSet<_> = all.join_all().await.into_iter().collect();
    assert_eq!(results.len(), 1, "{results:?}");
    let (post, revision, created) = results.into_iter().next().unwrap();

    cluster.heal_all();
    cluster.converged().await;
    let mut orders = BTreeSet::new();
    for ana in &everywhere {
        let messages = walk_back(ana, &id, 50).await.unwrap();
        assert_eq!(messages.len(), 5);
        assert_eq!(messages.iter().filter(|m| m.id == post).count(), 1);
        let edited = messages.iter().find(|m| m.id == shared.id).unwrap();
        assert_eq!(
            (edited.revision.as_str(), edited.merged),
            (revision.as_str(), false)
        );
        assert_eq!(edited.text.as_deref(), Some("edited"));
        let versions = ana.history(&id, &shared.id).await.unwrap().value.versions;
        assert_eq!(versions.len(), 2, "{versions:#?}");
        orders.insert(
            messages
                .into_iter()
                .map(|m| (m.position, m.id))
                .collect::<Vec<_>>(),
        );
        let list = ana.conversations().await.unwrap().value.conversations;
        let made = list.iter().filter(|c| c.conversation.id == created).count();
        assert_eq!((made, list.len()), (1, 2));
    }
    assert_eq!(orders.len(), 1, "all regions show the same positions");
    // And once more, with all in sight of each other.
    for ana in &everywhere {
        let again = ana.post(&id, &text("the same")).key("post").await.unwrap();
        assert!(again.replayed);
        assert_eq!(again.value.message.id, post);
    }
}

/// G7: a region dies with posts under way; they are sent again elsewhere, and each is there once.
#[tokio::test(flavor = "multi_thread")]
async fn g7_posts_of_a_dying_region_are_sent_again_elsewhere() {
    const POSTS: usize = 60;
    let mut cluster = Cluster::start().await;
    let everywhere = cluster.everywhere("ana");
    let id = group(&everywhere[0], &[]).await;
    cluster.converged().await;

    let send = async |client: &Client, i: usize| {
        let body = text(format!("post {i}"));
        client.post(&id, &body).key(format!("key {i}")).await
    };
    let mut under_way = JoinSet::new();
    for i in 0..POSTS {
        let (client, id) = (everywhere[0].clone(), id.clone());
        under_way.spawn(async move {
            let body = text(format!("post {i}"));
            let posted = client.post(&id, &body).key(format!("key {i}")).await;
            (i, posted.map(|posted| posted.value.message.id))
        });
    }
    // After the first answer, so that some have landed and some have not.
    let mut ids = vec![None; POSTS];
    let (i, first) = under_way.join_next().await.unwrap().unwrap();
    ids[i] = Some(first.unwrap());
    cluster.kill("eu").await;
    for (i, posted) in under_way.join_all().await {
        ids[i] = posted.ok();
    }
    let unanswered = ids.iter().filter(|id| id.is_none()).count();
    println!("{unanswered} of {POSTS} posts were not answered");

    // All of them, also the answered ones: who retries may not have read the answer.
    for (i, known) in ids.iter().enumerate() {
        let posted = send(&everywhere[1 + i % 2], i).await.unwrap();
        let found = posted.value.message.id;
        assert!(known.as_ref().is_none_or(|known| *known == found));
    }
    cluster.restart("eu").await;
    cluster.converged().await;
    for client in &everywhere {
        let messages = walk_back(client, &id, 50).await.unwrap();
        assert_eq!(messages.len(), POSTS);
        let keys: BTreeSet<_> = messages.into_iter().map(|m| m.text).collect();
        assert_eq!(keys.len(), POSTS, "each once");
    }
}

/// G7, G9: an edit of something that this region does not know yet is not lost and not refused for
/// good.
#[tokio::test(flavor = "multi_thread")]
async fn g7_an_edit_finds_its_base_later() {
    let cluster = Cluster::start().await;
    let [eu, us, _] = cluster.everywhere("ana");
    let id = group(&eu, &[]).await;
    let message = say(&eu, &id, "first").await.message;
    cluster.converged().await;
    cluster.cut_all();
    let edit = eu.edit(&id, &message.id, "second", &message.revision);
    let edited = edit.await.unwrap().value;
    let call = us
        .edit(&id, &message.id, "third", &edited.revision)
        .key("third");
    let early = call.clone().await.unwrap_err();
    assert_eq!(early.code(), Some(ProblemCode::NotCaughtUp), "{early}");
    cluster.heal_all();
    let edited = until("the edit to find its base", async || call.clone().await).await;
    assert_eq!(edited.text.as_deref(), Some("third"));
    cluster.converged().await;
    until("the text everywhere", async || {
        let there = eu.message(&id, &message.id).await.unwrap().value;
        ensure(
            there.text.as_deref() == Some("third") && !there.merged,
            format!("{there:?}"),
        )
    })
    .await;
}
