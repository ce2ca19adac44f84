//! G3, G4, G11: every region takes every write, and all end up with the same.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use rand::Rng as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::task::JoinSet;
use whimbrel_client::api::{ChangeConversation, EventKind, PostMessage, ProblemCode, Role, header};
use whimbrel_client::{Client, Error};

use crate::foundationdb;
use crate::harness::{
    Cluster, REGIONS, chance, channel, events_until, group, http, say, text, walk_back,
    walk_forward,
};
use crate::wait::within;

/// The niceness of each thread of a process that is called so.
fn niceness_of_threads(pid: u32, called: &str) -> Vec<i64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let stats =
        threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("stat")).ok());
    let niceness = |stat: String| {
        // proc_pid_stat(5): what stands after the name is counted from the third field on, nice is the 19th.
        let (before, after) = stat.rsplit_once(") ")?;
        let is_called = before.split_once('(')?.1 == called;
        let nice = after.split(' ').nth(16)?.parse().ok()?;
        is_called.then_some(nice)
    };
    stats.filter_map(niceness).collect()
}

/// G4: also where replication gives way to clients on threads of its own; they end with the node.
#[tokio::test(flavor = "multi_thread")]
async fn g4_regions_whose_replication_gives_way_converge() {
    let gives_way = |cluster: &str, region: &str| {
        foundationdb::section(cluster, region) + "[replication]\nnice = 11\n\n"
    };
    let mut cluster = Cluster::with_stores(&REGIONS, gives_way).await;
    let ana = cluster.everywhere("ana");
    let id = group(&ana[0], &[]).await;
    cluster.converged().await;
    for (region, client) in REGIONS.into_iter().zip(&ana) {
        say(client, &id, region).await;
        let niceness = niceness_of_threads(cluster.node(region).pid(), "replication");
        assert!(niceness.len() >= 2, "{niceness:?}");
        assert!(niceness.iter().all(|nice| *nice >= 11), "{niceness:?}");
    }
    cluster.converged().await;
    for region in REGIONS {
        let messages = walk_back(&cluster.client(region, "ana"), &id, 50).await;
        assert_eq!(messages.unwrap().len(), REGIONS.len(), "{region}");
    }
    for region in REGIONS {
        cluster.stop(region).await;
    }
}

/// G3, G11: all regions post to one conversation at once, linked or not; no one waits, nothing is
/// lost, and all page through the same order.
#[tokio::test(flavor = "multi_thread")]
async fn g3_all_regions_write_one_conversation() {
    const POSTS: usize = 25;
    let cluster = Cluster::start().await;
    let ana = cluster.everywhere("ana");
    let id = group(&ana[0], &[]).await;
    cluster.converged().await;
    let mut expected = BTreeSet::new();
    for cut in [false, true] {
        if cut {
            cluster.cut_all();
        }
        let mut writers = JoinSet::new();
        for (region, client) in REGIONS.into_iter().zip(ana.clone()) {
            let id = id.clone();
            writers.spawn(async move {
                let mut ids = Vec::new();
                for i in 0..POSTS {
                    let posted = say(&client, &id, &format!("{region} {cut} {i}")).await;
                    assert_eq!(posted.acked_by, [region], "a local ack waits for nobody");
                    ids.push(posted.message.id);
                }
                ids
            });
        }
        let ids = within("posts in all regions", writers.join_all()).await;
        expected.extend(ids.concat());
    }
    assert_eq!(expected.len(), 2 * 3 * POSTS);
    cluster.heal_all();
    cluster.converged().await;
    let mut orders = BTreeSet::new();
    for client in &ana {
        for limit in [17, 200] {
            let back = walk_back(client, &id, limit).await.unwrap();
            let forward = walk_forward(client, &id, limit).await.unwrap();
            assert_eq!(back, forward);
            assert!(back.is_sorted_by(|a, b| a.position < b.position));
            let ids: Vec<String> = back.into_iter().map(|message| message.id).collect();
            assert_eq!(ids.iter().cloned().collect::<BTreeSet<_>>(), expected);
            assert_eq!(ids.len(), expected.len(), "each once");
            orders.insert(ids);
        }
    }
    assert_eq!(orders.len(), 1, "one order in all regions");
}

/// G11: a message that comes late is announced, and stands where it stands everywhere.
#[tokio::test(flavor = "multi_thread")]
async fn g11_a_late_insert_is_announced() {
    let cluster = Cluster::start().await;
    let ana = cluster.everywhere("ana");
    let id = group(&ana[0], &[]).await;
    cluster.converged().await;
    cluster.cut_all();
    let early = say(&ana[0], &id, "early").await.message;
    let mut stream = ana[1].stream(None).await.unwrap();
    let late = say(&ana[1], &id, "late").await.message;
    cluster.heal_all();
    let is_early = |event: &whimbrel_client::api::Event| matches!(&event.kind, EventKind::MessagePosted { message } if message.id == early.id);
    let events = events_until(&mut stream, is_early).await;
    let told: Vec<_> = events
        .iter()
        .filter_map(|event| event.kind.message())
        .collect();
    assert_eq!(told.len(), 2);
    assert_eq!(told[0].id, late.id);
    assert!(
        told[1].position < told[0].position,
        "clients insert it by its position"
    );
    cluster.converged().await;
    for client in &ana {
        let messages = walk_back(client, &id, 50).await.unwrap();
        let ids: Vec<_> = messages.into_iter().map(|message| message.id).collect();
        assert_eq!(ids, [early.id.clone(), late.id.clone()]);
    }
}

const USERS: [&str; 5] = ["ana", "ben", "cleo", "dora", "emil"];

/// One user in one region doing this and that.
struct Actor {
    chance: StdRng,
    clients: Vec<Client>,
    conversations: Vec<String>,
}

impl Actor {
    fn user(&mut self) -> usize {
        self.chance.random_range(0..USERS.len())
    }

    /// One act; refusals are part of life, faults are not.
    async fn act(&mut self) -> Result<(), Error> {
        let who = self.user();
        let client = self.clients[who].clone();
        let pick = self.chance.random_range(0..self.conversations.len());
        let id = self.conversations[pick].clone();
        let page = client.messages(&id).limit(10).await?.value;
        let count = page.messages.len();
        let other = (count > 0).then(|| page.messages[self.chance.random_range(0..count)].clone());
        let word: u32 = self.chance.random();
        let what = self.chance.random_range(0..100);
        match (what, other) {
            (0..35, _) => drop(client.post(&id, &text(format!("word {word}"))).await?),
            (35..45, Some(other)) => {
                let reply = PostMessage {
                    reply_to: Some(other.id),
                    ..text(format!("@{} {word}", other.sender))
                };
                client.post(&id, &reply).await?;
            }
            (45..65, Some(other)) => {
                let sender = USERS.iter().position(|&user| user == other.sender);
                let author = &self.clients[sender.unwrap_or(who)];
                let text = format!("{} and {word}", other.text.unwrap_or_default());
                author.edit(&id, &other.id, &text, &other.revision).await?;
            }
            (65..70, Some(other)) => drop(client.redact(&id, &other.id).await?),
            (70..85, Some(other)) => {
                let emoji = ["👍", "👀", "🐦"][self.chance.random_range(0..3)];
                if self.chance.random_bool(0.7) {
                    client.react(&id, &other.id, emoji).await?;
                } else {
                    client.unreact(&id, &other.id, emoji).await?;
                }
            }
            (85..90, _) => {
                let title = ChangeConversation {
                    title: Some(format!("title {word}")),
                    topic: Some(format!("topic {word}")).filter(|_| word.is_multiple_of(2)),
                };
                client.change(&id, &title).await?;
            }
            (90..95, _) => {
                let user = USERS[self.user()];
                let roles = [Role::Member, Role::Admin, Role::Owner];
                match self.chance.random_range(0..5) {
                    role @ 0..3 => drop(client.set_member(&id, user, roles[role]).await?),
                    3 => drop(client.remove_member(&id, user).await?),
                    _ => drop(client.set_member(&id, USERS[who], Role::Member).await?),
                }
            }
            _ => drop(client.mark_read(&id, &page.cursor).await?),
        }
        Ok(())
    }

    async fn run(mut self, acts: usize) -> Self {
        let mut refused = 0;
        for _ in 0..acts {
            let Err(error) = self.act().await else {
                continue;
            };
            refused += 1;
            let expected = [
                Some(ProblemCode::NotFound),
                Some(ProblemCode::Forbidden),
                Some(ProblemCode::Invalid),
                Some(ProblemCode::Redacted),
                Some(ProblemCode::NotCaughtUp),
            ];
            assert!(expected.contains(&error.code()), "{error}: {error:?}");
        }
        println!("{refused} of {acts} acts were refused");
        self
    }
}

/// G4, G13: whatever users do in all regions, linked or not, all regions end up with the same.
#[tokio::test(flavor = "multi_thread")]
async fn g4_regions_converge_after_all_kinds_of_writes() {
    let cluster = Cluster::start().await;
    let mut chance = chance("g4_regions_converge_after_all_kinds_of_writes");
    let ana = cluster.client("eu", "ana");
    let conversations = vec![
        group(&ana, &USERS[1..]).await,
        group(&ana, &USERS[1..3]).await,
        channel(&ana).await,
    ];
    cluster.converged().await;
    let mut actors: Vec<Actor> = REGIONS
        .into_iter()
        .map(|region| Actor {
            chance: StdRng::seed_from_u64(chance.random()),
            clients: USERS
                .iter()
                .map(|user| cluster.client(region, user))
                .collect(),
            conversations: conversations.clone(),
        })
        .collect();
    for phase in ["linked", "one link cut", "all cut", "healed"] {
        match phase {
            "one link cut" => {
                let one = chance.random_range(0..3);
                cluster.cut(REGIONS[one], REGIONS[(one + 1) % 3]);
            }
            "all cut" => cluster.cut_all(),
            "healed" => cluster.heal_all(),
            _ => {}
        }
        println!("{phase}");
        let mut running = JoinSet::new();
        for actor in actors {
            running.spawn(actor.run(60));
        }
        actors = within("the acts", running.join_all()).await;
    }
    let digests = cluster.converged().await;
    for id in &conversations {
        assert!(digests.conversations.contains_key(id));
    }
    // And it stays so for whoever reads: the same pages, the same members, the same markers.
    let admin = |region| {
        let token = cluster.token("ana", Some("admin"));
        let url = cluster.node(region).url();
        async move |path: &str| {
            let call = http().get(format!("{url}/v1/conversations/{path}"));
            let answer = call.bearer_auth(token.clone()).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{path} in {region}");
            assert_eq!(answer.headers()[header::REGION], region);
            let mut json: serde_json::Value = answer.json().await.unwrap();
            // Where a page stands may differ in what it says of other conversations of its shard.
            if let Some(object) = json.as_object_mut() {
                object.remove("cursor");
            }
            json
        }
    };
    for id in &conversations {
        for path in [
            id.clone(),
            format!("{id}/messages?limit=200"),
            format!("{id}/members"),
            format!("{id}/receipts"),
        ] {
            let eu = admin("eu")(&path).await;
            for region in ["us", "ap"] {
                assert_eq!(eu, admin(region)(&path).await, "{path} in eu and {region}");
            }
        }
    }
}

/// G2, G10: two regions without a link hear of each other through the third.
#[tokio::test(flavor = "multi_thread")]
async fn g10_what_one_region_cannot_send_another_forwards() {
    let cluster = Cluster::start().await;
    let ana = cluster.everywhere("ana");
    let id = group(&ana[0], &[]).await;
    cluster.converged().await;
    cluster.cut("eu", "ap");
    let mut stream = ana[2].stream(None).await.unwrap();
    let posted = say(&ana[0], &id, "the long way round").await.message;
    let is_posted = |event: &whimbrel_client::api::Event| {
        event
            .kind
            .message()
            .is_some_and(|message| message.id == posted.id)
    };
    events_until(&mut stream, is_posted).await;
    // The long poll too, back the other way.
    let token = ana[0].sync(None).await.unwrap().value.token;
    let answer = say(&ana[2], &id, "and back").await.message;
    let sync = ana[0].sync(Some(&token)).wait(Duration::from_secs(20));
    let events = sync.await.unwrap().value.events;
    assert!(
        events
            .iter()
            .any(|e| e.kind.message().is_some_and(|m| m.id == answer.id))
    );
}
