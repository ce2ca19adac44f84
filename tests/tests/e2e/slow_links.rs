//! G3, G10: links that take their time, and links that lose, double and reorder what they carry.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::Rng as _;
use tokio::task::JoinSet;
use whimbrel_chaos::link::{Change, Faults};
use whimbrel_chaos::workload::Plan;
use whimbrel_client::api::{EventKind, PostMessage};
use whimbrel_client::{Client, EventStream};

use crate::harness::{Cluster, REGIONS, chance, group, next, say, text};
use crate::load::{Load, plan};
use crate::wait::{until, within};

/// That one region posts, to measure.
const POSTS: usize = 80;

/// When each text was sent.
type Sent = Arc<Mutex<BTreeMap<String, Instant>>>;

/// Posts one after another; gives how long each ack took.
async fn post_all(client: Client, conversation: String, name: String, sent: Sent) -> Vec<Duration> {
    let mut acks = Vec::new();
    for i in 0..POSTS {
        let body = text(format!("{name} {i}"));
        let started = Instant::now();
        sent.lock().unwrap().insert(body.text.clone(), started);
        let posted = client.post(&conversation, &body).await.expect("a post");
        acks.push(started.elapsed());
        assert_eq!(posted.acked_by.len(), 1, "a local ack waits for nobody");
    }
    acks
}

/// Listens until so many posts of other regions were told; gives how long after being sent.
async fn hear_others(
    mut stream: EventStream,
    own: &str,
    count: usize,
    sent: Sent,
) -> Vec<Duration> {
    let mut delays = Vec::new();
    while delays.len() < count {
        if let EventKind::MessagePosted { message } = next(&mut stream).await.kind
            && message.region != own
        {
            let text = message.text.expect("nothing is redacted");
            delays.push(sent.lock().unwrap()[&text].elapsed());
        }
    }
    delays
}

/// The time that 99 of 100 stay below.
fn p99(times: &mut [Duration]) -> Duration {
    times.sort();
    times[(times.len() * 99).div_ceil(100) - 1]
}

/// All regions post at once; gives how long acks took, and how long others waited.
async fn measure(cluster: &Cluster, round: &str) -> (Vec<Duration>, Vec<Duration>) {
    let ana = cluster.everywhere("ana");
    let id = group(&ana[0], &[]).await;
    cluster.converged().await;
    let sent = Sent::default();
    let (mut writers, mut listeners) = (JoinSet::new(), JoinSet::new());
    let mut streams = Vec::new();
    for client in &ana {
        streams.push(client.stream(None).await.expect("a stream"));
    }
    for ((region, client), stream) in REGIONS.into_iter().zip(&ana).zip(streams) {
        let name = format!("{round} {region}");
        writers.spawn(post_all(
            client.clone(),
            id.clone(),
            name,
            Arc::clone(&sent),
        ));
        listeners.spawn(hear_others(stream, region, 2 * POSTS, Arc::clone(&sent)));
    }
    let acks = within("the posts", writers.join_all()).await.concat();
    let heard = within("the news", listeners.join_all()).await.concat();
    (acks, heard)
}

/// G3: where a way to another region takes 300 ms, an ack does not: it is there before anything
/// can have gone to another region, let alone come back.
#[tokio::test(flavor = "multi_thread")]
async fn g3_acks_do_not_wait_for_slow_links() {
    const ONE_WAY: Duration = Duration::from_millis(300);
    let cluster = Cluster::start().await;
    let (mut near, _) = measure(&cluster, "near").await;
    let slow = Change::Delay {
        ms: 300,
        jitter_ms: 0,
    };
    cluster.links.change_all(slow).expect("a delay that can be");
    let (mut far, heard) = measure(&cluster, "far").await;
    let soonest = heard.iter().min().expect("others heard");
    let (near, far) = (p99(&mut near), p99(&mut far));
    println!("p99 of acks: {near:?} beside fast links, {far:?} beside slow ones");
    println!("others heard after {soonest:?} at the soonest");
    assert!(*soonest >= ONE_WAY, "the links are not slow: {soonest:?}");
    assert!(far < ONE_WAY, "acks wait for other regions: p99 {far:?}");
}

const SLOW_MS: u32 = 1_500;

fn slow_between_eu_and_ap(cluster: &Cluster) {
    let slow = Change::Delay {
        ms: SLOW_MS,
        jitter_ms: 0,
    };
    cluster.change("eu", "ap", slow);
    cluster.change("ap", "eu", slow);
}

/// G10: eu's own way to ap is slow, that over us is fast. What us answers to eu is never seen in
/// ap before what it answers, on pages and on the stream; and it does not wait for the slow way.
#[tokio::test(flavor = "multi_thread")]
async fn g10_a_fast_way_round_brings_no_answer_before_its_question() {
    const ROUNDS: usize = 20;
    let cluster = Cluster::start().await;
    let (ana, ben) = (cluster.client("eu", "ana"), cluster.client("us", "ben"));
    let cleo = cluster.client("ap", "cleo");
    let id = group(&ana, &["ben", "cleo"]).await;
    cluster.converged().await;
    slow_between_eu_and_ap(&cluster);
    let mut stream = cleo.stream(None).await.expect("a stream");
    let mut fast = 0;
    for round in 0..ROUNDS {
        let asked = Instant::now();
        let question = say(&ana, &id, &format!("question {round}")).await.message;
        let there = ben.message(&id, &question.id);
        until("the question in us", async || there.clone().await).await;
        let answer = PostMessage {
            reply_to: Some(question.id.clone()),
            ..text(format!("answer {round}"))
        };
        let answer = ben
            .post(&id, &answer)
            .await
            .expect("an answer")
            .value
            .message;
        let look = async {
            loop {
                let page = cleo.messages(&id).limit(10).await.expect("a page").value;
                let shows = |id: &str| page.messages.iter().any(|message| message.id == id);
                if shows(&answer.id) {
                    assert!(
                        shows(&question.id),
                        "the answer shows, the question does not"
                    );
                    break;
                }
            }
        };
        let listen = async {
            for expected in [&question.id, &answer.id] {
                let event = next(&mut stream).await;
                let told = event.kind.message().map(|message| message.id.clone());
                assert_eq!(told.as_ref(), Some(expected), "told in this order");
            }
        };
        tokio::join!(within("the answer in ap", look), listen);
        fast += usize::from(asked.elapsed() < Duration::from_millis(SLOW_MS.into()));
    }
    println!("{fast} of {ROUNDS} answers were there sooner than the slow way allows");
    assert!(fast > ROUNDS / 2, "only {fast} came the fast way");
}

/// G9, G10: the same ways, under load: whoever writes after having read is seen by nobody who
/// lacks what was read.
#[tokio::test(flavor = "multi_thread")]
async fn g9_g10_sessions_hold_where_a_way_round_is_faster() {
    let cluster = Cluster::start().await;
    slow_between_eu_and_ap(&cluster);
    let mut chance = chance("g9_g10_sessions_hold_where_a_way_round_is_faster");
    // Quick users: an answer must be on its way before the way round has brought its question.
    let plan = Plan {
        writers: 9,
        pause: Duration::from_millis(5),
        ..plan(chance.random())
    };
    let load = Load::start(&cluster, plan).await;
    load.acks(600).await;
    let counts = load.judge(&cluster).await;
    assert!(counts.posts > 200 && counts.told > 400, "{counts:?}");
}

/// G1, G4 to G11: links that lose, double, delay and reorder datagrams.
#[tokio::test(flavor = "multi_thread")]
async fn g1_g10_hold_over_bad_links() {
    let cluster = Cluster::start().await;
    let mut chance = chance("g1_g10_hold_over_bad_links");
    let bad = Faults {
        delay_ms: 30,
        jitter_ms: 30,
        loss: 0.05,
        duplicate: 0.05,
        reorder: 0.1,
        ..Faults::default()
    };
    let set = cluster.links.change_all(Change::Set(bad));
    set.expect("faults that can be");
    let load = Load::start(&cluster, plan(chance.random())).await;
    load.acks(200).await;
    // They converge over these links: nobody heals them.
    let counts = load.judge(&cluster).await;
    assert!(counts.posts > 80 && counts.told > 200, "{counts:?}");
    for link in cluster.links.report() {
        println!("{} to {}: {:?}", link.from, link.to, link.counters);
        let counters = link.counters;
        assert!(
            counters.dropped.loss > 0 && counters.duplicated > 0,
            "{counters:?}"
        );
        assert!(counters.reordered > 0, "{counters:?}");
    }
}
