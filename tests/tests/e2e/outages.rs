//! G1, G2: regions die and come back; nothing is lost, and who is left serves everything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::task::JoinSet;
use whimbrel_client::Client;
use whimbrel_client::api::{
    ConversationKind, CreateConversation, EventKind, ProblemCode, RegionStatus, Role,
};

use crate::harness::{
    Cluster, REGIONS, channel, events_until, group, say, text, texts, walk_back, walk_forward,
};
use crate::wait::{ensure, until, within};

/// Shared by all writers.
struct Run {
    stop: AtomicBool,
    acked: AtomicUsize,
}

/// Posts until stopped; what is not answered is sent again, under its key, in the next region.
/// Gives id to text of all that was acked.
async fn write(
    run: Arc<Run>,
    name: String,
    mut clients: Vec<Client>,
    conversations: Vec<String>,
) -> Vec<(String, String, String)> {
    let mut acked = Vec::new();
    for i in 0.. {
        if run.stop.load(Ordering::SeqCst) {
            break;
        }
        let conversation = &conversations[i % conversations.len()];
        let body = format!("{name} {i}");
        let retry = async {
            loop {
                let call = clients[0].post(conversation, &text(body.as_str()));
                match call.key(body.as_str()).await {
                    Ok(posted) => return posted.value.message.id,
                    Err(error) => assert!(error.is_transient(), "{error}"),
                }
                clients.rotate_left(1);
                tokio::task::yield_now().await;
            }
        };
        let id = within("an ack", retry).await;
        acked.push((conversation.clone(), id, body));
        run.acked.fetch_add(1, Ordering::SeqCst);
    }
    acked
}

/// G1: under load, each region in turn is killed and comes back.
#[tokio::test(flavor = "multi_thread")]
async fn g1_no_acked_message_is_lost_when_regions_are_killed() {
    const ACKS_BETWEEN: usize = 60;
    let mut cluster = Cluster::start().await;
    let ana = cluster.everywhere("ana");
    let mut conversations = Vec::new();
    for _ in 0..3 {
        conversations.push(group(&ana[0], &["ben"]).await);
    }
    cluster.converged().await;

    let run = Arc::new(Run {
        stop: AtomicBool::new(false),
        acked: AtomicUsize::new(0),
    });
    let mut writers = JoinSet::new();
    for (home, region) in REGIONS.into_iter().enumerate() {
        for user in ["ana", "ben"] {
            let mut clients = cluster.everywhere(user).to_vec();
            clients.rotate_left(home);
            let name = format!("{user} of {region}");
            writers.spawn(write(
                Arc::clone(&run),
                name,
                clients,
                conversations.clone(),
            ));
        }
    }
    let more_acks = async || {
        let from = run.acked.load(Ordering::SeqCst);
        until("more acks", async || {
            let acked = run.acked.load(Ordering::SeqCst) - from;
            ensure(acked >= ACKS_BETWEEN, format!("{acked} acks"))
        })
        .await;
    };
    more_acks().await;
    for region in REGIONS {
        cluster.kill(region).await;
        more_acks().await;
        cluster.restart(region).await;
        more_acks().await;
    }
    run.stop.store(true, Ordering::SeqCst);
    let acked = within("the writers", writers.join_all()).await.concat();
    println!("{} messages were acked", acked.len());
    cluster.converged().await;

    let mut expected: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for (conversation, id, text) in &acked {
        let of = expected.entry(conversation).or_default();
        assert_eq!(of.insert(id, text), None, "no id twice");
    }
    for client in &ana {
        for (conversation, expected) in &expected {
            let back = walk_back(client, conversation, 200).await.unwrap();
            let found: BTreeMap<&str, &str> = back
                .iter()
                .map(|m| (m.id.as_str(), m.text.as_deref().unwrap_or_default()))
                .collect();
            // Every key was acked in the end, so there is nothing else.
            assert_eq!(found, *expected);
            assert_eq!(back.len(), expected.len(), "each once");
            assert_eq!(walk_forward(client, conversation, 200).await.unwrap(), back);
        }
    }
}

/// G2: two of three regions are gone, and the third does everything.
#[tokio::test(flavor = "multi_thread")]
async fn g2_the_last_region_serves_everything() {
    let mut cluster = Cluster::start().await;
    let [ana_eu, ..] = cluster.everywhere("ana");
    let (ana, ben) = (cluster.client("ap", "ana"), cluster.client("ap", "ben"));
    let old = group(&ana_eu, &["ben"]).await;
    let message = say(&ana_eu, &old, "from eu").await.message;
    let open = channel(&ana_eu).await;
    cluster.converged().await;
    let token = cluster
        .client("us", "ben")
        .sync(None)
        .await
        .unwrap()
        .value
        .token;
    cluster.stop("us").await;
    cluster.kill("eu").await;

    let mut stream = ben.stream(Some(&token)).await.unwrap();
    let edit = ana.edit(
        &old,
        &message.id,
        "from eu, edited in ap",
        &message.revision,
    );
    edit.await.unwrap();
    ben.react(&old, &message.id, "👍").await.unwrap();
    let page = ben.messages(&old).await.unwrap().value;
    assert_eq!(texts(&page.messages), ["from eu, edited in ap"]);
    assert_eq!(ben.mark_read(&old, &page.cursor).await.unwrap().unread, 0);
    ben.set_member(&open, "ben", Role::Member).await.unwrap();
    let hello = say(&ben, &open, "I joined alone").await.message;
    let create = CreateConversation {
        kind: ConversationKind::Direct,
        title: None,
        topic: None,
        members: vec!["cleo".to_owned()],
    };
    let direct = ben.create(&create).await.unwrap().value.id;
    let secret = say(&ben, &direct, "between us").await.message;
    let mut missing = vec![hello.id.clone(), secret.id.clone()];
    events_until(&mut stream, |event| {
        if let EventKind::MessagePosted { message } = &event.kind {
            missing.retain(|id| *id != message.id);
        }
        missing.is_empty()
    })
    .await;
    let redacted = say(&ana, &old, "a slip").await.message;
    ana.redact(&old, &redacted.id).await.unwrap();
    until("the others to be seen as down", async || {
        let regions = ana.regions().await.unwrap().value;
        let down = regions
            .regions
            .iter()
            .filter(|r| r.status == RegionStatus::Down);
        ensure(down.count() == 2, format!("{regions:?}"))
    })
    .await;

    cluster.restart("eu").await;
    cluster.restart("us").await;
    cluster.converged().await;
    for region in REGIONS {
        let (ben, cleo) = (
            cluster.client(region, "ben"),
            cluster.client(region, "cleo"),
        );
        let shown = ben.message(&old, &message.id).await.unwrap().value;
        assert_eq!(shown.text.as_deref(), Some("from eu, edited in ap"));
        assert!(shown.reactions["👍"].me);
        assert_eq!(ben.messages(&open).await.unwrap().messages[0].id, hello.id);
        assert_eq!(
            cleo.messages(&direct).await.unwrap().messages[0].id,
            secret.id
        );
        assert!(ben.message(&old, &redacted.id).await.unwrap().redacted);
        until("all regions to be up", async || {
            let regions = ben.regions().await.unwrap().value;
            let up = regions
                .regions
                .iter()
                .filter(|r| r.status == RegionStatus::Up);
            ensure(up.count() == 3, format!("{regions:?}"))
        })
        .await;
    }
}

/// G1: what one region alone has acked is there when it comes back, also after all were killed.
#[tokio::test(flavor = "multi_thread")]
async fn g1_what_one_region_alone_acked_comes_back_with_it() {
    let mut cluster = Cluster::start().await;
    let ana = cluster.everywhere("ana");
    let id = group(&ana[0], &[]).await;
    cluster.converged().await;
    cluster.cut_all();
    let mut posted = Vec::new();
    for (region, client) in REGIONS.iter().zip(&ana) {
        for i in 0..10 {
            posted.push(say(client, &id, &format!("{region} {i}")).await.message);
        }
    }
    for region in REGIONS {
        cluster.kill(region).await;
    }
    cluster.heal_all();
    for region in REGIONS {
        cluster.restart(region).await;
    }
    cluster.converged().await;
    posted.sort_unstable_by(|a, b| a.position.cmp(&b.position));
    for client in &ana {
        assert_eq!(walk_back(client, &id, 50).await.unwrap(), posted);
    }
}

/// G18: a node that is told to stop answers what it has taken, and takes nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn g18_a_stopping_node_refuses_rather_than_lies() {
    let mut cluster = Cluster::of(&["eu"]).await;
    let ana = cluster.client("eu", "ana");
    let id = group(&ana, &[]).await;
    let run = Arc::new(Run {
        stop: AtomicBool::new(false),
        acked: AtomicUsize::new(0),
    });
    let mut writers = JoinSet::new();
    for writer in 0..4 {
        let (ana, id, run) = (ana.clone(), id.clone(), Arc::clone(&run));
        writers.spawn(async move {
            let mut acked = Vec::new();
            for i in 0.. {
                match ana.post(&id, &text(format!("{writer} {i}"))).await {
                    Ok(posted) => acked.push(posted.value.message.id),
                    Err(error) if error.is_transient() => {
                        let code = error.code();
                        assert!(
                            matches!(code, None | Some(ProblemCode::Overloaded)),
                            "{error}"
                        );
                        break;
                    }
                    Err(error) => panic!("{error}"),
                }
                run.acked.fetch_add(1, Ordering::SeqCst);
            }
            acked
        });
    }
    until("some acks", async || {
        ensure(run.acked.load(Ordering::SeqCst) > 40, "too few")
    })
    .await;
    cluster.stop("eu").await;
    let acked = within("the writers", writers.join_all()).await.concat();
    cluster.restart("eu").await;
    let messages = walk_back(&ana, &id, 200).await.unwrap();
    for id in &acked {
        assert!(
            messages.iter().any(|message| message.id == *id),
            "{id} was acked"
        );
    }
}
