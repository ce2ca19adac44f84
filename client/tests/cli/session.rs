use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use whimbrel_client::api::{PostMessage, ProblemCode};
use whimbrel_client::{Client, ClientBuilder, RetryPolicy};

use crate::stub::{self, Reply, Request, Stub, message, problem, regions};

/// A cursor of these tests: what it covers, as numbers with a dash between.
fn covers(cursors: &str) -> BTreeSet<u64> {
    let numbers = cursors
        .split([',', '-'])
        .filter(|number| !number.is_empty());
    numbers.map(|number| number.parse().unwrap()).collect()
}

fn cursor(covers: &BTreeSet<u64>) -> String {
    let numbers: Vec<_> = covers.iter().map(u64::to_string).collect();
    numbers.join("-")
}

fn after(request: &Request) -> Option<BTreeSet<u64>> {
    request
        .headers
        .get("whimbrel-after")
        .map(|text| covers(text))
}

/// An answer that shows `shown`, joined with what the request carried.
fn joined(request: &Request, region: &str, shown: &[u64], body: Value) -> Reply {
    let shown: BTreeSet<u64> = shown.iter().copied().collect();
    let mut headers = vec![("whimbrel-region", region.to_owned())];
    if !shown.is_empty() {
        headers.push(("whimbrel-cursor", cursor(&shown)));
    }
    if let Some(mut all) = after(request) {
        all.extend(shown);
        headers.push(("whimbrel-joined", cursor(&all)));
    }
    Reply::With(200, headers, body)
}

fn page() -> Value {
    json!({"messages": [], "prev": null, "next": null, "cursor": "x", "unread_older": 0})
}

fn not_caught_up(region: &str, available: &str) -> Reply {
    let problem = json!({
        "type": "t", "title": "t", "status": 503, "detail": "wait", "code": "not_caught_up",
        "waiting_for": ["eu"], "available": available, "retry_after_ms": 10,
    });
    Reply::With(503, vec![("whimbrel-region", region.to_owned())], problem)
}

fn builder(regions: &[(&str, &str)]) -> ClientBuilder {
    let builder = Client::builder().token("t").discover(false);
    regions
        .iter()
        .fold(builder, |builder, (name, url)| builder.region(*name, *url))
}

/// Numbers every post, and notes what each read carried.
async fn counting() -> (Stub, Arc<Mutex<Vec<Option<BTreeSet<u64>>>>>) {
    let reads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&reads);
    let (mut posts, mut reads_made) = (0, 0);
    let stub = stub::start(move |request| {
        if request.method == "POST" {
            posts += 1;
            let reply = joined(request, "eu", &[posts], message("m1", "hi"));
            // Answers come in another order than they are made.
            return Reply::Later(Duration::from_millis(posts % 7), Box::new(reply));
        }
        reads_made += 1;
        if request.path != "/v1/regions" {
            seen.lock().unwrap().push(after(request));
        }
        let body = match request.path.as_str() {
            "/v1/regions" => json!({"self": "eu", "regions": []}),
            _ => page(),
        };
        let reply = joined(request, "eu", &[], body);
        Reply::Later(Duration::from_millis(reads_made % 3), Box::new(reply))
    })
    .await;
    (stub, reads)
}

#[tokio::test]
async fn a_read_carries_what_was_written_and_seen() {
    let (eu, reads) = counting().await;
    let client = builder(&[("eu", &eu.url)]).build().unwrap();
    let read = async || client.messages("c1").await.unwrap();
    read().await;
    let posted = client.post("c1", &PostMessage::default()).await.unwrap();
    assert_eq!(posted.cursor.as_deref(), Some("1"));
    read().await;
    client.post("c1", &PostMessage::default()).await.unwrap();
    read().await;
    assert_eq!(client.cursor().as_deref(), Some("1-2"));
    // A clone goes on with it, one who acts for another user does not.
    client.clone().messages("c1").await.unwrap();
    client
        .acting_as("ben")
        .unwrap()
        .messages("c1")
        .await
        .unwrap();
    // What is asked for goes along.
    client.messages("c1").after("9").await.unwrap();
    let set = |numbers: &[u64]| Some(numbers.iter().copied().collect());
    let wanted = [
        None,
        set(&[1]),
        set(&[1, 2]),
        set(&[1, 2]),
        None,
        set(&[1, 2, 9]),
    ];
    assert_eq!(*reads.lock().unwrap(), wanted);

    let without = builder(&[("eu", &eu.url)]).session(false).build().unwrap();
    without.post("c1", &PostMessage::default()).await.unwrap();
    without.messages("c1").await.unwrap();
    assert_eq!(*reads.lock().unwrap().last().unwrap(), None);
    assert_eq!(without.cursor(), None);
}

#[tokio::test]
async fn of_calls_side_by_side_nothing_is_dropped() {
    const ROUNDS: u64 = 20;
    const CALLS: u64 = 32;
    let (eu, reads) = counting().await;
    let client = builder(&[("eu", &eu.url)]).build().unwrap();
    for round in 1..=ROUNDS {
        let mut calls = JoinSet::new();
        for call in 0..CALLS {
            let client = client.clone();
            calls.spawn(async move {
                // Some begin when others are done.
                tokio::time::sleep(Duration::from_millis(call % 5)).await;
                client.post("c1", &PostMessage::default()).await.unwrap();
                client.messages("c1").await.unwrap();
            });
        }
        calls.join_all().await;
        client.messages("c1").await.unwrap();
        let last = reads.lock().unwrap().last().unwrap().clone().unwrap();
        assert_eq!(last, (1..=round * CALLS).collect(), "round {round}");
    }
}

#[tokio::test]
async fn many_writes_without_a_read_are_joined_now_and_then() {
    const WRITES: u64 = 1_500;
    let (eu, reads) = counting().await;
    let client = builder(&[("eu", &eu.url)]).build().unwrap();
    for _ in 0..WRITES / 10 {
        let mut calls = JoinSet::new();
        for _ in 0..10 {
            let client = client.clone();
            calls.spawn(async move { client.post("c1", &PostMessage::default()).await.unwrap() });
        }
        calls.join_all().await;
    }
    let joins = eu.count("/v1/regions");
    assert!((1..10).contains(&joins), "{joins}");
    client.messages("c1").await.unwrap();
    assert_eq!(*reads.lock().unwrap(), [Some((1..=WRITES).collect())]);
}

#[tokio::test]
async fn more_than_a_header_holds_is_joined_by_a_region() {
    let (eu, reads) = counting().await;
    let client = builder(&[("eu", &eu.url)]).build().unwrap();
    let all: BTreeSet<u64> = (1_000_000_000..1_000_001_000).collect();
    for number in &all {
        client.resume_from(&number.to_string()).unwrap();
    }
    // Each number takes eleven bytes: all of them together are more than fits, joined or not.
    let few: BTreeSet<u64> = all.iter().copied().take(700).collect();
    let client = builder(&[("eu", &eu.url)]).build().unwrap();
    for number in &few {
        client.resume_from(&number.to_string()).unwrap();
        client.resume_from(&format!("{number}-{number}")).unwrap();
    }
    client.messages("c1").await.unwrap();
    assert_eq!(*reads.lock().unwrap().last().unwrap(), Some(few));
    assert!(eu.count("/v1/regions") >= 2);
}

/// The region us lacks 1, which eu wrote, until told otherwise.
async fn lagging(name: &'static str) -> (Stub, Arc<AtomicBool>) {
    let has_caught_up = Arc::new(AtomicBool::new(false));
    let has = Arc::clone(&has_caught_up);
    let stub = stub::start(move |request| {
        let carried = after(request).unwrap_or_default();
        match request.path.as_str() {
            "/v1/regions" => regions(name, &[]),
            _ if request.method == "GET" && carried.contains(&1) && !has.load(Ordering::SeqCst) => {
                not_caught_up(name, "0")
            }
            "/v1/conversations/c2" => problem(404, "not_found"),
            _ => joined(request, name, &[20], page()),
        }
    })
    .await;
    (stub, has_caught_up)
}

#[tokio::test]
async fn what_is_gone_with_a_region_is_reported_and_comes_back_with_it() {
    let eu = stub::start(|request| joined(request, "eu", &[1], message("m1", "hi"))).await;
    let ((us, us_has), (ap, ap_has)) = (lagging("us").await, lagging("ap").await);
    let address = eu.url.strip_prefix("http://").unwrap().to_owned();
    let client = builder(&[("eu", &eu.url), ("us", &us.url), ("ap", &ap.url)])
        .prefer("eu")
        .build()
        .unwrap();
    client.post("c1", &PostMessage::default()).await.unwrap();
    eu.kill().await;

    let answer = client.messages("c1").await.unwrap();
    assert_eq!(answer.stale, ["eu"]);
    assert_eq!(us.count("/v1/conversations/c1/messages"), 2);
    assert_eq!(ap.count("/v1/conversations/c1/messages"), 1);
    // Later reads go on at once, and say it, too; so does what is not found.
    let answer = client.messages("c1").await.unwrap();
    assert_eq!((answer.stale, answer.retries), (vec!["eu".to_owned()], 0));
    // Who keeps the session keeps what is missing.
    assert_eq!(covers(&client.cursor().unwrap()), [0, 1, 20].into());

    // The others still lack it when eu is back; so eu answers.
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let eu = stub::start_on(listener, |request| match request.path.as_str() {
        "/v1/regions" => regions("eu", &[]),
        _ => joined(request, "eu", &[1], page()),
    });
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = client.messages("c1").await.unwrap();
        if answer.stale.is_empty() {
            assert_eq!(answer.region.as_deref(), Some("eu"));
            break;
        }
        assert!(Instant::now() < deadline, "eu is back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(covers(&client.cursor().unwrap()), [0, 1, 20].into());
    us_has.store(true, Ordering::SeqCst);
    ap_has.store(true, Ordering::SeqCst);
    eu.kill().await;
    assert!(client.messages("c1").await.unwrap().stale.is_empty());
}

#[tokio::test]
async fn another_region_may_have_what_one_lacks() {
    let (us, _) = lagging("us").await;
    let ap = stub::start(|request| joined(request, "ap", &[1], page())).await;
    let client = builder(&[("us", &us.url), ("ap", &ap.url)])
        .build()
        .unwrap();
    client.resume_from("1").unwrap();
    let answer = client.messages("c1").await.unwrap();
    assert_eq!(answer.region.as_deref(), Some("ap"));
    assert!(answer.stale.is_empty());
    // It is asked first for now, instead of waiting in vain each time.
    assert_eq!(client.messages("c1").await.unwrap().retries, 0);
}

#[tokio::test]
async fn what_is_not_found_says_what_may_be_missing() {
    let (us, _) = lagging("us").await;
    let client = builder(&[("us", &us.url)]).build().unwrap();
    client.resume_from("1").unwrap();
    let error = client.conversation("c2").await.unwrap_err();
    assert_eq!(error.code(), Some(ProblemCode::NotFound));
    assert_eq!(error.problem().unwrap().waiting_for, ["eu"]);
    // Later, too, without waiting for it again.
    let error = client.conversation("c2").await.unwrap_err();
    assert_eq!(error.problem().unwrap().waiting_for, ["eu"]);
    assert_eq!(us.count("/v1/conversations/c2"), 3);
    assert_eq!(covers(&client.cursor().unwrap()), [0, 1].into());
}

#[tokio::test]
async fn what_is_asked_for_is_never_left_out() {
    let (us, _) = lagging("us").await;
    let quick = RetryPolicy {
        give_up_after: Duration::from_millis(200),
        ..RetryPolicy::default()
    };
    let client = builder(&[("us", &us.url)]).retry(quick).build().unwrap();
    let error = client.messages("c1").after("1").await.unwrap_err();
    assert_eq!(error.code(), Some(ProblemCode::NotCaughtUp));
    assert!(us.count("/v1/conversations/c1/messages") > 1);
}

#[tokio::test]
async fn a_write_is_never_stale() {
    let us = stub::start(|_| not_caught_up("us", "0")).await;
    let quick = RetryPolicy {
        give_up_after: Duration::from_millis(200),
        ..RetryPolicy::default()
    };
    let client = builder(&[("us", &us.url)]).retry(quick).build().unwrap();
    client.resume_from("1").unwrap();
    let error = client.edit("c1", "m1", "text", "r9").await.unwrap_err();
    assert_eq!(error.code(), Some(ProblemCode::NotCaughtUp));
    assert!(us.asked.lock().unwrap().len() > 1);
}
