//! G8, G9: what an app sees when the region that it talks to dies: it goes on elsewhere within five
//! seconds, and reads what it wrote, or is told what is missing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use whimbrel_client::Client;
use whimbrel_client::api::{EventKind, MessagePage};

use crate::harness::{Cluster, group, say, text, walk_back};
use crate::wait::{ensure, until, within};

/// The promise.
const FAILOVER: Duration = Duration::from_secs(5);

/// Apps that post and read side by side, all in one session, until told to stop.
struct Apps {
    stop: Arc<AtomicBool>,
    posted: Arc<AtomicUsize>,
    tasks: JoinSet<Seen>,
}

/// What one of them saw.
#[derive(Default)]
struct Seen {
    posted: Vec<String>,
    /// Reads that lacked a part and said so.
    stale: usize,
    slowest_post: Duration,
}

impl Apps {
    fn start(client: &Client, conversation: &str, reads: bool) -> Self {
        const APPS: usize = 4;
        let stop = Arc::new(AtomicBool::new(false));
        let posted = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..APPS {
            let (client, conversation) = (client.clone(), conversation.to_owned());
            let (stop, posted) = (Arc::clone(&stop), Arc::clone(&posted));
            tasks.spawn(async move {
                let mut seen = Seen::default();
                while !stop.load(Ordering::SeqCst) {
                    let started = Instant::now();
                    let answer = client.post(&conversation, &text("tick")).await;
                    let answer = answer.expect("a post, in whichever region");
                    seen.slowest_post = seen.slowest_post.max(started.elapsed());
                    let id = answer.value.message.id;
                    seen.posted.push(id.clone());
                    posted.fetch_add(1, Ordering::SeqCst);
                    if reads {
                        let page = client.message(&conversation, &id).await;
                        match page {
                            Ok(page) => seen.stale += usize::from(!page.stale.is_empty()),
                            // Then it says what is missing.
                            Err(error) => {
                                let problem = error.problem().unwrap_or_else(|| panic!("{error}"));
                                assert_eq!(problem.waiting_for, ["eu"], "{error}");
                                seen.stale += 1;
                            }
                        }
                    }
                }
                seen
            });
        }
        Self {
            stop,
            posted,
            tasks,
        }
    }

    /// Waits until so many more are posted.
    async fn go_on(&self, posts: usize) {
        let wanted = self.posted.load(Ordering::SeqCst) + posts;
        until("more posts", async || {
            let now = self.posted.load(Ordering::SeqCst);
            ensure(now >= wanted, format!("{now} of {wanted}"))
        })
        .await;
    }

    async fn stop(self) -> Seen {
        self.stop.store(true, Ordering::SeqCst);
        let all = within("the apps", self.tasks.join_all()).await;
        all.into_iter().fold(Seen::default(), |mut sum, seen| {
            sum.posted.extend(seen.posted);
            sum.stale += seen.stale;
            sum.slowest_post = sum.slowest_post.max(seen.slowest_post);
            sum
        })
    }
}

/// G9, G7: SIGKILL in mid-load.
#[tokio::test(flavor = "multi_thread")]
async fn g9_an_app_goes_on_and_reads_its_writes_when_its_region_is_killed() {
    let mut cluster = Cluster::start().await;
    let ana = cluster.app("eu", "ana");
    let id = group(&ana, &[]).await;
    cluster.converged().await;
    let apps = Apps::start(&ana, &id, true);
    apps.go_on(100).await;
    cluster.kill("eu").await;
    apps.go_on(100).await;
    cluster.restart("eu").await;
    apps.go_on(100).await;
    let seen = apps.stop().await;
    println!("{} posts, {} stale reads", seen.posted.len(), seen.stale);
    assert!(seen.slowest_post < FAILOVER, "{:?}", seen.slowest_post);

    // What was missing is there again, and nothing is said to be missing.
    cluster.converged().await;
    until("reads with nothing missing", async || {
        let page = ana.messages(&id).await.map_err(|error| error.to_string())?;
        ensure(page.stale.is_empty(), "stale")
    })
    .await;
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for message in walk_back(&ana, &id, 200).await.unwrap() {
        *times.entry(message.id).or_default() += 1;
    }
    assert!(times.values().all(|&times| times == 1));
    assert_eq!(times.len(), seen.posted.len(), "acked and there");
    assert!(seen.posted.iter().all(|id| times.contains_key(id)));
}

/// G9: what only a dead region has is reported, in every read, until the region is back.
#[tokio::test(flavor = "multi_thread")]
async fn g9_what_died_with_its_region_is_reported_stale() {
    let mut cluster = Cluster::start().await;
    let ana = cluster.app("eu", "ana");
    let id = group(&ana, &[]).await;
    cluster.converged().await;
    cluster.cut_all();
    let lost = say(&ana, &id, "only in eu").await.message.id;
    cluster.kill("eu").await;
    cluster.heal_all();

    let has = |page: &MessagePage, id: &str| page.messages.iter().any(|m| m.id == id);
    let page = ana.messages(&id).await.unwrap();
    assert_eq!(page.stale, ["eu"]);
    assert_ne!(page.region.as_deref(), Some("eu"));
    assert!(!has(&page, &lost));
    // It goes on: writes, and reads of what it has written since.
    let posted = ana.post(&id, &text("in another region")).await.unwrap();
    let page = ana.messages(&id).await.unwrap();
    assert_eq!(page.stale, ["eu"]);
    assert!(has(&page, &posted.message.id) && !has(&page, &lost));
    let error = ana.message(&id, &lost).await.unwrap_err();
    let problem = error.problem().unwrap_or_else(|| panic!("{error}"));
    assert_eq!(
        (problem.status, &problem.waiting_for[..]),
        (404, &["eu".to_owned()][..])
    );

    cluster.restart("eu").await;
    until("the missing part", async || {
        let page = ana.messages(&id).await.map_err(|error| error.to_string())?;
        // It may come before eu is heard again, but is never missing in silence.
        assert!(!page.stale.is_empty() || has(&page, &lost));
        ensure(page.stale.is_empty(), "stale")
    })
    .await;
}

/// G8: a stream, whose region is killed in mid-load.
#[tokio::test(flavor = "multi_thread")]
async fn g8_a_stream_of_an_app_survives_its_region() {
    let mut cluster = Cluster::start().await;
    let (ana, ben) = (cluster.app("eu", "ana"), cluster.app("eu", "ben"));
    let id = group(&ana, &["ben"]).await;
    cluster.converged().await;
    let mut stream = ben.stream(None).await.unwrap();
    let apps = Apps::start(&ana, &id, false);
    let mut heard: BTreeMap<String, usize> = BTreeMap::new();
    // Hears so many posts; the longest time without an event.
    let mut listen = async |posts: usize| {
        let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
        let mut left = posts;
        while left > 0 {
            let event = within("an event", stream.next()).await.expect("an event");
            longest = longest.max(last.elapsed());
            last = Instant::now();
            assert!(!matches!(event.kind, EventKind::Gap));
            if let EventKind::MessagePosted { message } = event.kind {
                *heard.entry(message.id).or_default() += 1;
                left -= 1;
            }
        }
        longest
    };
    listen(100).await;
    cluster.kill("eu").await;
    let longest = listen(200).await;
    assert!(longest < FAILOVER, "{longest:?}");
    cluster.restart("eu").await;
    let seen = apps.stop().await;
    listen(seen.posted.len() - 300).await;
    assert_eq!(heard.len(), seen.posted.len());
    for id in &seen.posted {
        assert_eq!(heard.get(id), Some(&1), "{id}");
    }
}

/// G8, G9: a region that hangs, but whose machine still takes connections.
#[tokio::test(flavor = "multi_thread")]
async fn g9_an_app_leaves_a_region_that_hangs() {
    let cluster = Cluster::start().await;
    let (ana, ben) = (cluster.app("eu", "ana"), cluster.app("eu", "ben"));
    let id = group(&ana, &["ben"]).await;
    cluster.converged().await;
    let mut stream = ben.stream(None).await.unwrap();
    say(&ana, &id, "first").await;
    let mut told = async |what: &str| {
        loop {
            let event = within(what, stream.next()).await.expect("an event");
            if event
                .kind
                .message()
                .is_some_and(|m| m.text.as_deref() == Some(what))
            {
                break;
            }
        }
    };
    told("first").await;
    cluster.converged().await;
    cluster.node("eu").signal("STOP");
    let started = Instant::now();
    let posted = ana.post(&id, &text("second")).await;
    let took = started.elapsed();
    told("second").await;
    cluster.node("eu").signal("CONT");
    let posted = posted.unwrap();
    assert_eq!(posted.tried[0].name(), "eu");
    assert!(took < FAILOVER, "{took:?}");
    // It may have been done in eu, too, before it hung: once.
    cluster.converged().await;
    let all = walk_back(&cluster.client("eu", "ana"), &id, 50)
        .await
        .unwrap();
    assert_eq!(all.len(), 2);
}
