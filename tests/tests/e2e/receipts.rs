//! G6: receipts never go back, and never lie.

use std::collections::BTreeSet;

use rand::Rng as _;
use whimbrel_client::Client;
use whimbrel_client::api::{EventKind, Role};

use crate::harness::{
    Cluster, REGIONS, chance, events_until, group, say, texts, unread, walk_back,
};
use crate::wait::{ensure, until};

/// The marker of a user, as all may see it.
async fn marker(client: &Client, conversation: &str, user: &str) -> (String, Option<String>) {
    let receipts = client.receipts(conversation).await.unwrap().value.receipts;
    let receipt = receipts.into_iter().find(|receipt| receipt.user == user);
    let receipt = receipt.expect("who has read has a receipt");
    (receipt.cursor, receipt.message)
}

/// G6, G11: what arrives late stands in its place, is announced, and is unread.
#[tokio::test(flavor = "multi_thread")]
async fn g6_late_arrivals_stay_unread() {
    let cluster = Cluster::start().await;
    let (ana, ben) = (cluster.client("eu", "ana"), cluster.client("us", "ben"));
    let cleo = cluster.client("us", "cleo");
    let id = group(&ana, &["ben", "cleo"]).await;
    say(&ana, &id, "first").await;
    cluster.converged().await;
    cluster.cut_all();

    let late = say(&ana, &id, "late").await.message;
    let mut stream = ben.stream(None).await.unwrap();
    let newer = say(&cleo, &id, "newer").await.message;
    assert!(late.position < newer.position);
    let page = ben.messages(&id).await.unwrap().value;
    assert_eq!(texts(&page.messages), ["first", "newer"]);
    let before = page.cursor;
    let marked = ben.mark_read(&id, &before).await.unwrap();
    assert_eq!((marked.unread, marked.mentions), (0, 0));
    assert_eq!(unread(&ben, &id).await, Ok(0));

    cluster.heal_all();
    let arrived = |event: &whimbrel_client::api::Event| matches!(&event.kind, EventKind::MessagePosted { message } if message.id == late.id);
    events_until(&mut stream, arrived).await;
    cluster.converged().await;
    for region in REGIONS {
        let ben = cluster.client(region, "ben");
        let page = ben.messages(&id).await.unwrap().value;
        assert_eq!(
            texts(&page.messages),
            ["first", "late", "newer"],
            "in {region}"
        );
        assert_eq!(unread(&ben, &id).await, Ok(1), "in {region}");
        let shown = marker(&ana, &id, "ben").await.1;
        assert_eq!(shown.as_ref(), Some(&newer.id));
    }

    // Marking what was marked says nothing about the late one.
    let marked = ben.mark_read(&id, &before).await.unwrap();
    assert_eq!(marked.unread, 1);
    let page = ben.messages(&id).await.unwrap().value;
    let marked = ben.mark_read(&id, &page.cursor).await.unwrap();
    assert_eq!(marked.unread, 0);
    let highest = marker(&ben, &id, "ben").await;
    // Nothing takes it back.
    let marked = ben.mark_read(&id, &before).await.unwrap();
    assert_eq!(marked.unread, 0);
    assert_eq!(marker(&ben, &id, "ben").await, highest);
    cluster.converged().await;
    for region in REGIONS {
        let ben = cluster.client(region, "ben");
        assert_eq!(unread(&ben, &id).await, Ok(0), "in {region}");
        assert_eq!(marker(&ben, &id, "ben").await, highest, "in {region}");
    }
}

/// G6: marks in two regions at once add up.
#[tokio::test(flavor = "multi_thread")]
async fn g6_concurrent_marks_join() {
    let cluster = Cluster::start().await;
    let [eu, us, ap] = cluster.everywhere("ben");
    let ana = cluster.everywhere("ana");
    let id = group(&ana[0], &["ben"]).await;
    cluster.converged().await;
    cluster.cut_all();
    for (region, ana) in REGIONS.iter().zip(&ana) {
        say(ana, &id, &format!("in {region}")).await;
    }
    for ben in [&eu, &us] {
        let cursor = ben.messages(&id).await.unwrap().value.cursor;
        assert_eq!(ben.mark_read(&id, &cursor).await.unwrap().unread, 0);
    }
    assert_eq!(unread(&ap, &id).await, Ok(1));
    cluster.heal_all();
    cluster.converged().await;
    for ben in [&eu, &us, &ap] {
        assert_eq!(unread(ben, &id).await, Ok(1), "the one that no mark covers");
    }
}

/// G6: who is added late has no unread history, in any region.
#[tokio::test(flavor = "multi_thread")]
async fn g6_who_joins_late_has_no_unread_history() {
    let cluster = Cluster::start().await;
    let ana = cluster.everywhere("ana");
    let id = group(&ana[0], &["ben"]).await;
    for client in &ana {
        until("the group", async || client.conversation(&id).await).await;
        say(client, &id, "history").await;
    }
    cluster.converged().await;
    // Added in a region that wrote only a part of the history.
    ana[1].set_member(&id, "cleo", Role::Member).await.unwrap();
    cluster.converged().await;
    for region in REGIONS {
        let cleo = cluster.client(region, "cleo");
        assert_eq!(unread(&cleo, &id).await, Ok(0), "in {region}");
        assert_eq!(cleo.messages(&id).await.unwrap().messages.len(), 3);
    }
    say(&ana[2], &id, "@cleo, welcome").await;
    cluster.converged().await;
    for region in REGIONS {
        let cleo = cluster.client(region, "cleo");
        let list = cleo.conversations().await.unwrap().value.conversations;
        assert_eq!((list[0].unread, list[0].mentions), (1, 1), "in {region}");
    }
}

/// G10: who was away hears of each mark with what it covered, not with messages of which they hear
/// later.
#[tokio::test(flavor = "multi_thread")]
async fn g10_who_was_away_hears_of_no_receipt_before_its_message() {
    const ROUNDS: usize = 3;
    let cluster = Cluster::of(&["eu"]).await;
    let (ana, ben) = (cluster.client("eu", "ana"), cluster.client("eu", "ben"));
    let id = group(&ana, &["ben"]).await;
    let token = ana.sync(None).await.unwrap().value.token;
    let mut expected = Vec::new();
    for round in 0..ROUNDS {
        expected.push(say(&ana, &id, &format!("round {round}")).await.message.id);
        let page = ben.messages(&id).await.unwrap().value;
        ben.mark_read(&id, &page.cursor).await.unwrap();
    }
    let events = ana.sync(Some(&token)).await.unwrap().value.events;
    let mut shown = Vec::new();
    let mut receipts = Vec::new();
    for event in &events {
        match &event.kind {
            EventKind::MessagePosted { message } => shown.push(message.id.clone()),
            EventKind::Receipt { message, .. } => {
                assert_eq!(message.as_ref(), shown.last(), "told before its message");
                receipts.extend(message.clone());
            }
            _ => {}
        }
    }
    assert_eq!((&shown, &receipts), (&expected, &expected));
}

/// G6: with posts, marks and partitions by chance, what is unread is what no marked page held.
#[tokio::test(flavor = "multi_thread")]
async fn g6_unread_equals_a_recount() {
    let cluster = Cluster::start().await;
    let mut chance = chance("g6_unread_equals_a_recount");
    let (ana, ben) = (cluster.everywhere("ana"), cluster.everywhere("ben"));
    let id = group(&ana[0], &["ben"]).await;
    cluster.converged().await;
    let mut posted = BTreeSet::new();
    let mut read = BTreeSet::new();
    let mut old_cursors = Vec::new();
    for round in 0..4 {
        cluster.cut_all();
        for step in 0..12 {
            let region = chance.random_range(0..3);
            match chance.random_range(0..10) {
                0..6 => {
                    let message = say(&ana[region], &id, &format!("{round}.{step}")).await;
                    posted.insert(message.message.id);
                }
                6..9 => {
                    let page = ben[region].messages(&id).limit(200).await.unwrap().value;
                    ben[region].mark_read(&id, &page.cursor).await.unwrap();
                    read.extend(page.messages.into_iter().map(|message| message.id));
                    old_cursors.push((region, page.cursor));
                }
                // An old mark, in the region that it comes from: it holds all of it.
                _ => {
                    if let Some((region, cursor)) = old_cursors.first() {
                        ben[*region].mark_read(&id, cursor).await.unwrap();
                    }
                }
            }
        }
        cluster.heal_all();
        cluster.converged().await;
        let expected = posted.difference(&read).count() as u64;
        for (region, ben) in REGIONS.iter().zip(&ben) {
            assert_eq!(
                unread(ben, &id).await,
                Ok(expected),
                "{region}, round {round}"
            );
            let page = ben.messages(&id).limit(200).await.unwrap();
            assert_eq!(page.unread_older, 0);
            let one = ben.messages(&id).limit(1).await.unwrap().value;
            let all = walk_back(ben, &id, 50).await.unwrap();
            let last = &one.messages[0].id;
            let older = expected - u64::from(!read.contains(last));
            assert_eq!((one.unread_older, all.len()), (older, posted.len()));
        }
    }
}

/// G6: a mark waits for what it covers, and then marks what is there.
#[tokio::test(flavor = "multi_thread")]
async fn g6_a_mark_with_a_cursor_from_elsewhere() {
    let cluster = Cluster::start().await;
    let (ana, ben) = (cluster.everywhere("ana"), cluster.everywhere("ben"));
    let id = group(&ana[0], &["ben"]).await;
    cluster.converged().await;
    cluster.cut_all();
    say(&ana[1], &id, "here").await;
    say(&ana[0], &id, "there").await;
    let cursor = ben[0].messages(&id).await.unwrap().value.cursor;
    // It covers what this region cannot get: only what is held is marked.
    let marked = ben[1].mark_read(&id, &cursor).await.unwrap().value;
    assert_eq!(marked.unread, 1);
    assert_ne!(marked.cursor, cursor);
    cluster.heal_all();
    cluster.converged().await;
    until("the mark to hold once all is there", async || {
        let marked = ben[1].mark_read(&id, &cursor).await.unwrap();
        ensure(marked.unread == 1, format!("{} unread", marked.unread))
    })
    .await;
    cluster.converged().await;
    assert_eq!(unread(&ben[2], &id).await, Ok(1));
}
