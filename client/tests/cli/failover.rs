use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use whimbrel_client::api::{EventKind, PostMessage, ProblemCode};
use whimbrel_client::{Client, ClientBuilder, Error, RetryPolicy};

use crate::stub::{self, NOBODY, Reply, Request, Stub, message, problem, regions};

/// The promise: so long after a region fails, another one answers.
const FAILOVER: Duration = Duration::from_secs(5);

const MESSAGES: &str = "/v1/conversations/c1/messages";

fn builder(regions: &[(&str, &str)]) -> ClientBuilder {
    let builder = Client::builder().token("t").discover(false);
    regions
        .iter()
        .fold(builder, |builder, (name, url)| builder.region(*name, *url))
}

fn client(regions: &[(&str, &str)]) -> Client {
    builder(regions).build().unwrap()
}

fn hi() -> PostMessage {
    PostMessage {
        text: "hi".to_owned(),
        ..PostMessage::default()
    }
}

/// Takes every post.
async fn healthy() -> Stub {
    stub::start(|request| match request.path.as_str() {
        "/v1/regions" => regions("us", &[]),
        _ => Reply::Json(201, message("m1", "hi")),
    })
    .await
}

/// Refuses every post like this, and tells of itself if asked.
async fn refusing(status: u16, code: &'static str) -> Stub {
    stub::start(move |request| match request.path.as_str() {
        "/v1/regions" => regions("eu", &[]),
        _ => problem(status, code),
    })
    .await
}

#[tokio::test]
async fn a_region_where_nobody_listens_is_left_alone() {
    let us = healthy().await;
    let client = client(&[("eu", NOBODY), ("us", &us.url)]);
    let answer = client.post("c1", &hi()).await.unwrap();
    assert_eq!(answer.retries, 1);
    let tried = &answer.tried[0];
    assert_eq!((tried.name(), tried.url.as_str()), ("eu", NOBODY));
    assert!(tried.reason.contains("no answer"), "{}", tried.reason);
    // Its breaker is open now.
    for _ in 0..20 {
        let answer = client.post("c1", &hi()).await.unwrap();
        assert!(answer.tried.is_empty());
    }
}

#[tokio::test]
async fn a_5xx_leads_elsewhere_under_the_same_key() {
    for (status, code) in [
        (503, "overloaded"),
        (503, "store_unavailable"),
        (500, "internal"),
        (502, "unknown"),
    ] {
        let (eu, us) = (refusing(status, code).await, healthy().await);
        let client = client(&[("eu", &eu.url), ("us", &us.url)]);
        let answer = client.post("c1", &hi()).await.unwrap();
        assert_eq!((answer.retries, answer.tried.len()), (1, 1), "{code}");
        let keys = [&eu, &us].map(|stub| stub.asked.lock().unwrap()[0].2.clone());
        assert!(keys[0].is_some());
        assert_eq!(keys[0], keys[1]);
    }
}

#[tokio::test]
async fn a_4xx_stays() {
    for (status, code) in [
        (400, "invalid"),
        (401, "unauthenticated"),
        (404, "not_found"),
        (410, "redacted"),
    ] {
        let (eu, us) = (refusing(status, code).await, healthy().await);
        let client = client(&[("eu", &eu.url), ("us", &us.url)]);
        let error = client.post("c1", &hi()).await.unwrap_err();
        assert_eq!(error.status(), Some(status));
        assert_eq!(eu.count(MESSAGES), 1);
        assert_eq!(us.count(MESSAGES), 0);
    }
}

#[tokio::test]
async fn a_429_waits_as_told_in_the_same_region() {
    let mut calls = 0;
    let eu = stub::start(move |_| {
        calls += 1;
        if calls > 1 {
            return Reply::Json(201, message("m1", "hi"));
        }
        let problem = json!({
            "type": "t", "title": "t", "status": 429, "detail": "slow down",
            "code": "rate_limited", "retry_after_ms": 300,
        });
        Reply::With(429, Vec::new(), problem)
    })
    .await;
    let us = healthy().await;
    let client = client(&[("eu", &eu.url), ("us", &us.url)]);
    let started = Instant::now();
    let answer = client.post("c1", &hi()).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!(answer.retries, 1);
    assert!(answer.tried.is_empty());
    assert_eq!(us.count(MESSAGES), 0);
}

#[tokio::test]
async fn a_region_that_falls_silent_is_left_within_five_seconds() {
    // It takes connections, as a machine that hangs does.
    let eu = stub::start(|_| Reply::Silence).await;
    let us = healthy().await;
    let client = client(&[("eu", &eu.url), ("us", &us.url)]);
    let started = Instant::now();
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let client = client.clone();
        calls.spawn(async move { client.post("c1", &hi()).await });
    }
    for answer in calls.join_all().await {
        assert_eq!(answer.unwrap().tried[0].name(), "eu");
    }
    assert!(started.elapsed() < FAILOVER, "{:?}", started.elapsed());
    // All of them asked once.
    assert_eq!(eu.count("/v1/regions"), 1);
    assert!(client.post("c1", &hi()).await.unwrap().tried.is_empty());
}

#[tokio::test]
async fn a_slow_call_is_waited_for_while_its_region_is_there() {
    let slow = FAILOVER + Duration::from_secs(1);
    let eu = stub::start(move |request| match request.path.as_str() {
        "/v1/regions" => regions("eu", &[]),
        _ => Reply::Later(slow, Box::new(Reply::Json(201, message("m1", "hi")))),
    })
    .await;
    let us = healthy().await;
    let client = client(&[("eu", &eu.url), ("us", &us.url)]);
    let answer = client.post("c1", &hi()).await.unwrap();
    assert_eq!(answer.retries, 0);
    assert!(eu.count("/v1/regions") >= 2);
    assert_eq!(us.count(MESSAGES), 0);
}

#[tokio::test]
async fn a_region_that_is_back_is_asked_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let us = healthy().await;
    let url = format!("http://{address}");
    let client = builder(&[("eu", &url), ("us", &us.url)])
        .prefer("eu")
        .build()
        .unwrap();
    assert_eq!(client.post("c1", &hi()).await.unwrap().tried.len(), 1);
    let listener = TcpListener::bind(address).await.unwrap();
    let eu = stub::start_on(listener, |request| match request.path.as_str() {
        "/v1/regions" => regions("eu", &[]),
        _ => Reply::Json(201, message("m1", "hi")),
    });
    let deadline = Instant::now() + Duration::from_secs(30);
    while eu.count(MESSAGES) == 0 {
        assert!(Instant::now() < deadline, "it is never asked again");
        // No call is tried out on it.
        assert!(client.post("c1", &hi()).await.unwrap().tried.is_empty());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn one_region_only() {
    let us = healthy().await;
    let client = builder(&[("eu", NOBODY), ("us", &us.url)])
        .only("eu")
        .retry(RetryPolicy {
            give_up_after: Duration::from_millis(300),
            ..RetryPolicy::default()
        })
        .build()
        .unwrap();
    let error = client.post("c1", &hi()).await.unwrap_err();
    assert!(matches!(error, Error::Connection { .. }), "{error}");
    assert_eq!(us.count(MESSAGES), 0);
}

#[tokio::test]
async fn what_no_region_could_do_says_why_each_could_not() {
    let us = refusing(503, "store_unavailable").await;
    let client = builder(&[("eu", NOBODY), ("us", &us.url)])
        .retry(RetryPolicy {
            give_up_after: Duration::from_millis(300),
            ..RetryPolicy::default()
        })
        .build()
        .unwrap();
    let error = client.post("c1", &hi()).await.unwrap_err();
    assert!(error.is_transient() && error.remedy().is_some());
    let Error::NoRegion { tried } = &error else {
        panic!("{error}");
    };
    let mut names: Vec<_> = tried.iter().map(whimbrel_client::Tried::name).collect();
    names.sort_unstable();
    assert_eq!(names, ["eu", "us"]);
    let line = error.to_string();
    assert!(line.contains("eu: no answer ("), "{line}");
    assert!(
        line.contains("us: because (503 store_unavailable)"),
        "{line}"
    );
}

/// Each region knows of itself only: what both have said counts.
#[tokio::test]
async fn who_has_committed_is_put_together_from_all_answers() {
    let committed = |region: &'static str, other: &'static str| {
        stub::start(move |request| match request.path.as_str() {
            "/v1/regions" => regions(region, &[]),
            _ => Reply::Json(
                503,
                json!({
                    "type": "t", "title": "t", "status": 503, "code": "not_caught_up",
                    "detail": format!("committed by {region} only"),
                    "acked_by": [region], "waiting_for": [other, "ap"],
                }),
            ),
        })
    };
    let (eu, us) = (committed("eu", "us").await, committed("us", "eu").await);
    let retry = RetryPolicy {
        give_up_after: Duration::from_millis(300),
        ..RetryPolicy::default()
    };
    let client = builder(&[("eu", &eu.url), ("us", &us.url)]);
    let client = client.retry(retry).build().unwrap();
    let error = client.post("c1", &hi()).await.unwrap_err();
    let problem = error.problem().unwrap();
    assert_eq!(problem.acked_by, ["eu", "us"]);
    assert_eq!(problem.waiting_for, ["ap"]);
    assert!(problem.detail.contains("eu, us"), "{}", problem.detail);
}

#[tokio::test]
async fn a_failing_cluster_is_not_stormed() {
    const CALLS: usize = 100;
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = || {
        let tries = Arc::clone(&tries);
        stub::start(move |request| match request.path.as_str() {
            "/v1/regions" => regions("eu", &[]),
            _ => {
                tries.fetch_add(1, Ordering::SeqCst);
                problem(503, "overloaded")
            }
        })
    };
    let (eu, us) = (counted().await, counted().await);
    let client = builder(&[("eu", &eu.url), ("us", &us.url)])
        .retry(RetryPolicy {
            delay_max: Duration::from_millis(100),
            give_up_after: Duration::from_secs(5),
            ..RetryPolicy::default()
        })
        .build()
        .unwrap();
    let started = Instant::now();
    let mut calls = JoinSet::new();
    for _ in 0..CALLS {
        let client = client.clone();
        calls.spawn(async move { client.post("c1", &hi()).await.is_err() });
    }
    assert!(calls.join_all().await.iter().all(|&failed| failed));
    // Each once; a hundred saved up, a tenth of the calls, and ten a second. Unbounded it would be
    // some hundred tries a call.
    let seconds = started.elapsed().as_secs_f64().ceil() as usize;
    let most = CALLS + 100 + CALLS / 10 + 10 * seconds;
    let made = tries.load(Ordering::SeqCst);
    assert!(
        (CALLS + 1..=most).contains(&made),
        "{made} tries, at most {most}"
    );
}

#[tokio::test]
async fn regions_are_found_by_asking_one() {
    let us = healthy().await;
    let (elsewhere, mut is_told) = (us.url.clone(), false);
    let eu = stub::start(move |request| {
        if request.path == "/v1/regions" {
            is_told = true;
            return regions("eu", &[("us", &elsewhere), ("eu", "http://x")]);
        }
        let status = if is_told { 503 } else { 201 };
        let region = ("whimbrel-region", "eu".to_owned());
        Reply::With(status, vec![region], message("m1", "hi"))
    })
    .await;
    let client = Client::builder().url(&eu.url).token("t").build().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while us.count(MESSAGES) == 0 {
        assert!(Instant::now() < deadline, "the other is never found");
        let answer = client.post("c1", &hi()).await.unwrap();
        let tried: Vec<_> = answer
            .tried
            .iter()
            .map(whimbrel_client::Tried::name)
            .collect();
        assert_eq!(tried, ["eu"][..us.count(MESSAGES)]);
    }
}

fn event(token: &str) -> serde_json::Value {
    json!({"type": "conversation", "conversation": "c1", "token": token, "cursor": "x"})
}

/// Goes on with a stream after `t2`, and tells that it lacks something.
async fn second() -> Stub {
    stub::start(|request: &Request| match request.path.as_str() {
        "/v1/stream?since=t2" => Reply::Stay(vec![
            json!({"type": "behind", "token": "t2", "waiting_for": ["eu"]}),
            event("t3"),
        ]),
        "/v1/regions" => regions("us", &[]),
        other => panic!("{other}"),
    })
    .await
}

#[tokio::test]
async fn a_stream_goes_on_in_another_region_when_its_own_is_killed() {
    let eu = stub::start(|request| match request.path.as_str() {
        "/v1/sync" => Reply::Json(200, json!({"events": [], "token": "t0"})),
        _ => Reply::Stay(vec![event("t1"), event("t2")]),
    })
    .await;
    let us = second().await;
    let client = client(&[("eu", &eu.url), ("us", &us.url)]);
    let mut events = client.stream(None).await.unwrap();
    assert_eq!(events.next().await.unwrap().token, "t1");
    assert_eq!(events.next().await.unwrap().token, "t2");
    assert_eq!(events.region(), Some("eu"));
    eu.kill().await;
    let started = Instant::now();
    let behind = events.next().await.unwrap();
    assert!(started.elapsed() < FAILOVER);
    assert!(
        matches!(behind.kind, EventKind::Behind { .. }),
        "{behind:?}"
    );
    assert_eq!(events.next().await.unwrap().token, "t3");
    assert_eq!(events.region(), Some("us"));
}

#[tokio::test]
async fn a_stream_leaves_a_region_that_falls_silent() {
    let eu = stub::start(|request| match request.path.as_str() {
        "/v1/stream?since=t0" => Reply::Mute(vec![event("t1"), event("t2")]),
        _ => Reply::Silence,
    })
    .await;
    let us = second().await;
    let client = client(&[("eu", &eu.url), ("us", &us.url)]);
    let mut events = client.stream(Some("t0")).await.unwrap();
    events.next().await.unwrap();
    events.next().await.unwrap();
    let started = Instant::now();
    events.next().await.unwrap();
    assert!(started.elapsed() < FAILOVER, "{:?}", started.elapsed());
    assert_eq!(events.next().await.unwrap().token, "t3");
}

#[tokio::test]
async fn an_idle_stream_stays_where_it_is() {
    let eu = stub::start(|request| match request.path.as_str() {
        "/v1/stream?since=t0" => Reply::Stay(Vec::new()),
        other => panic!("{other}"),
    })
    .await;
    let us = second().await;
    let client = client(&[("eu", &eu.url), ("us", &us.url)]);
    let mut events = client.stream(Some("t0")).await.unwrap();
    let idle = tokio::time::timeout(2 * FAILOVER, events.next()).await;
    assert!(idle.is_err(), "{idle:?}");
    assert_eq!(eu.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_stream_that_is_refused_everywhere_says_so() {
    let (eu, us) = (
        refusing(503, "overloaded").await,
        refusing(401, "unauthenticated").await,
    );
    let client = client(&[("eu", &eu.url), ("us", &us.url)]);
    let error = client.stream(Some("t0")).await.unwrap_err();
    assert_eq!(error.code(), Some(ProblemCode::Unauthenticated));
}
