//! G8: a stream goes on in any region, with no gap and no duplicate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinSet;
use whimbrel_client::Client;
use whimbrel_client::api::{Event, EventKind, Membership};

use crate::harness::{Cluster, REGIONS, events_until, group, next, say};
use crate::wait::{DEADLINE, within};

/// Posts in all given regions until told to stop; gives all ids.
struct Writers {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Vec<String>>,
}

impl Writers {
    fn start(clients: &[Client], conversations: &[String]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for client in clients {
            let (client, conversations) = (client.clone(), conversations.to_vec());
            let stop = Arc::clone(&stop);
            tasks.spawn(async move {
                let mut posted = Vec::new();
                for i in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let conversation = &conversations[i % conversations.len()];
                    posted.push(say(&client, conversation, "tick").await.message.id);
                }
                posted
            });
        }
        Self { stop, tasks }
    }

    async fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        within("the writers", self.tasks.join_all()).await.concat()
    }
}

/// What was heard, over all streams of a user.
#[derive(Default)]
struct Heard {
    posted: BTreeMap<String, usize>,
    token: String,
}

impl Heard {
    fn note(&mut self, event: &Event) {
        assert!(!matches!(event.kind, EventKind::Gap), "nothing was trimmed");
        if let EventKind::MessagePosted { message } = &event.kind {
            *self.posted.entry(message.id.clone()).or_default() += 1;
        }
        self.token.clone_from(&event.token);
    }

    /// Reads so many posts in a region, and leaves in mid-stream.
    async fn read(&mut self, client: &Client, posts: usize) {
        let mut stream = client.stream(Some(&self.token)).await.expect("a stream");
        let mut heard = 0;
        while heard < posts {
            let event = next(&mut stream).await;
            heard += usize::from(matches!(event.kind, EventKind::MessagePosted { .. }));
            self.note(&event);
        }
    }

    /// Reads until all of these were heard.
    async fn read_all(&mut self, client: &Client, ids: &[String]) {
        let mut stream = client.stream(Some(&self.token)).await.expect("a stream");
        let mut missing: BTreeSet<&String> = ids.iter().collect();
        missing.retain(|id| !self.posted.contains_key(*id));
        while !missing.is_empty() {
            let event = tokio::time::timeout(DEADLINE, stream.next()).await;
            let event = event.unwrap_or_else(|_| panic!("never told: {missing:?}"));
            let event = event.expect("an event");
            if let EventKind::MessagePosted { message } = &event.kind {
                missing.remove(&message.id);
            }
            self.note(&event);
        }
    }

    fn assert_each_once(&self, ids: &[String]) {
        for id in ids {
            assert_eq!(self.posted.get(id), Some(&1), "{id}");
        }
    }
}

/// G8: from region to region in mid-stream, while all of them post.
#[tokio::test(flavor = "multi_thread")]
async fn g8_a_stream_goes_on_in_another_region() {
    let cluster = Cluster::start().await;
    let ana = cluster.everywhere("ana");
    let ben = cluster.everywhere("ben");
    let mut conversations = Vec::new();
    for _ in 0..4 {
        conversations.push(group(&ana[0], &["ben"]).await);
    }
    cluster.converged().await;
    let mut heard = Heard {
        token: ben[0].sync(None).await.unwrap().value.token,
        ..Heard::default()
    };
    let writers = Writers::start(&ana, &conversations);
    for hop in 0..9 {
        heard.read(&ben[hop % 3], 20).await;
    }
    let posted = writers.stop().await;
    heard.read_all(&ben[1], &posted).await;
    heard.assert_each_once(&posted);
    // What was told is never told again, also where it came late.
    cluster.converged().await;
    for region in &ben {
        let after = region.sync(Some(&heard.token)).await.unwrap().value;
        for event in &after.events {
            heard.note(event);
        }
    }
    heard.assert_each_once(&posted);
}

/// G8: the region of the stream dies.
#[tokio::test(flavor = "multi_thread")]
async fn g8_a_stream_survives_its_region() {
    let mut cluster = Cluster::start().await;
    let ana = cluster.everywhere("ana");
    let ben = cluster.everywhere("ben");
    let id = group(&ana[0], &["ben"]).await;
    cluster.converged().await;
    let token = ben[0].sync(None).await.unwrap().value.token;
    let mut heard = Heard {
        token,
        ..Heard::default()
    };
    let conversations = [id.clone()];
    let in_eu = Writers::start(&ana[..1], &conversations);
    let elsewhere = Writers::start(&ana[1..], &conversations);
    heard.read(&ben[0], 40).await;
    let mut posted = in_eu.stop().await;
    cluster.kill("eu").await;
    heard.read(&ben[1], 40).await;
    cluster.restart("eu").await;
    heard.read(&ben[2], 40).await;
    posted.extend(elsewhere.stop().await);
    heard.read_all(&ben[0], &posted).await;
    heard.assert_each_once(&posted);
}

/// G8: much was missed, in many pages of each feed.
#[tokio::test(flavor = "multi_thread")]
async fn g8_a_long_absence_is_made_up_for() {
    const POSTS: usize = 150;
    let cluster = Cluster::start().await;
    let ana = cluster.everywhere("ana");
    let ben = cluster.everywhere("ben");
    let mut conversations = Vec::new();
    for _ in 0..2 {
        conversations.push(group(&ana[0], &["ben"]).await);
    }
    cluster.converged().await;
    let mut heard = Heard {
        token: ben[0].sync(None).await.unwrap().value.token,
        ..Heard::default()
    };
    let mut writers = JoinSet::new();
    for (client, posts) in ana.iter().zip([POSTS, POSTS, 5]) {
        let (client, conversations) = (client.clone(), conversations.clone());
        writers.spawn(async move {
            let mut posted = Vec::new();
            for conversation in &conversations {
                for _ in 0..posts {
                    posted.push(say(&client, conversation, "tick").await.message.id);
                }
            }
            posted
        });
    }
    let posted = within("the writers", writers.join_all()).await.concat();
    cluster.converged().await;
    // Half of it in one region, the rest in another.
    heard.read(&ben[1], POSTS).await;
    heard.read_all(&ben[2], &posted).await;
    heard.assert_each_once(&posted);
}

/// G8: conversations that one is added to, or removed from, while nobody listens.
#[tokio::test(flavor = "multi_thread")]
async fn g8_a_stream_finds_new_conversations_and_ends_left_ones() {
    let cluster = Cluster::start().await;
    let ana = cluster.everywhere("ana");
    let ben = cluster.everywhere("ben");
    let old = group(&ana[0], &["ben"]).await;
    cluster.converged().await;
    let token = ben[0].sync(None).await.unwrap().value.token;

    let new = group(&ana[2], &["ben"]).await;
    let welcome = say(&ana[2], &new, "welcome").await.message.id;
    cluster.converged().await;
    let before = say(&ana[1], &old, "before").await.message;
    ana[1].remove_member(&old, "ben").await.unwrap();
    say(&ana[1], &old, "after").await;
    ana[1]
        .edit(&old, &before.id, "edited after", &before.revision)
        .await
        .unwrap();
    cluster.converged().await;

    // In a region that none of it was written in.
    let mut stream = ben[0].stream(Some(&token)).await.unwrap();
    let mut open = BTreeSet::from([&welcome, &old]);
    let events = events_until(&mut stream, |event| {
        match &event.kind {
            EventKind::MessagePosted { message } => open.remove(&message.id),
            EventKind::Member { user, role } if user == "ben" && *role == Membership::Left => {
                open.remove(event.conversation.as_ref().unwrap())
            }
            _ => false,
        };
        open.is_empty()
    })
    .await;
    let joined = events.iter().find(|event| {
        event.conversation.as_ref() == Some(&new)
            && matches!(&event.kind, EventKind::Member { user, .. } if user == "ben")
    });
    let joined = joined.expect("one's own join is told");
    let cursor = joined.cursor.as_ref().expect("it tells from where to page");
    let page = ben[0].messages(&new).after(cursor).await.unwrap();
    assert_eq!(page.messages.len(), 1);
    let last = say(&ana[0], &new, "last").await.message.id;
    let is_last = |event: &Event| event.kind.message().is_some_and(|m| m.id == last);
    let rest = events_until(&mut stream, is_last).await;
    let mut of_old: Vec<_> = events.iter().chain(&rest).collect();
    of_old.retain(|event| event.conversation.as_ref() == Some(&old));
    // Events show what is there now, so that also an earlier one would tell of what came after.
    assert!(
        matches!(
            of_old.as_slice(),
            [Event { kind: EventKind::Member { user, role: Membership::Left }, .. }] if user == "ben"
        ),
        "{of_old:#?}"
    );
}

/// G17: who never was in hears of nothing but their own ban.
#[tokio::test(flavor = "multi_thread")]
async fn g17_a_ban_opens_nothing_to_who_never_was_in() {
    let cluster = Cluster::of(&["eu"]).await;
    let (ana, eve) = (cluster.client("eu", "ana"), cluster.client("eu", "eve"));
    let token = eve.sync(None).await.unwrap().value.token;
    let id = group(&ana, &[]).await;
    say(&ana, &id, "a secret").await;
    // Whether it is possible at all is not what matters here.
    let _ = ana.ban_member(&id, "eve").await;
    let _ = ana.remove_member(&id, "eve").await;
    let sync = eve.sync(Some(&token)).await.unwrap().value;
    let own =
        |event: &&Event| matches!(&event.kind, EventKind::Member { user, .. } if user == "eve");
    let heard: Vec<_> = sync.events.iter().filter(|event| !own(event)).collect();
    assert!(heard.is_empty(), "{heard:#?}");
}

/// G8: a region that lacks what the token covers says so, goes on, and never repeats.
#[tokio::test(flavor = "multi_thread")]
async fn g8_a_region_that_is_behind_says_so_and_goes_on() {
    let cluster = Cluster::start().await;
    let ana = cluster.everywhere("ana");
    let ben = cluster.everywhere("ben");
    let id = group(&ana[0], &["ben"]).await;
    cluster.converged().await;
    cluster.cut_all();
    let mut stream = ben[0].stream(None).await.unwrap();
    let told = say(&ana[0], &id, "told in eu").await.message.id;
    let mut heard = Heard::default();
    let is_told = |event: &Event| event.kind.message().is_some_and(|m| m.id == told);
    for event in events_until(&mut stream, is_told).await {
        heard.note(&event);
    }
    drop(stream);

    let mut stream = ben[1].stream(Some(&heard.token)).await.unwrap();
    let own = say(&ana[1], &id, "in us").await.message.id;
    let is_own = |event: &Event| event.kind.message().is_some_and(|m| m.id == own);
    let events = events_until(&mut stream, is_own).await;
    let behind = events.iter().find_map(|event| match &event.kind {
        EventKind::Behind { waiting_for } => Some(waiting_for.clone()),
        _ => None,
    });
    assert_eq!(behind, Some(vec![REGIONS[0].to_owned()]), "{events:?}");
    cluster.heal_all();
    cluster.converged().await;
    let last = say(&ana[2], &id, "last").await.message.id;
    let is_last = |event: &Event| event.kind.message().is_some_and(|m| m.id == last);
    let rest = events_until(&mut stream, is_last).await;
    events
        .iter()
        .chain(&rest)
        .for_each(|event| heard.note(event));
    heard.assert_each_once(&[told, own, last]);
}
