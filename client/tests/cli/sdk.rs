use std::time::Duration;

use serde_json::json;
use whimbrel_client::api::{PostMessage, ProblemCode};
use whimbrel_client::{Client, Error, RetryPolicy};

use crate::stub::{self, Reply, message, problem};

fn client(stub: &stub::Stub) -> Client {
    Client::builder()
        .region("stub", &stub.url)
        .only("stub")
        .token("t")
        .retry(RetryPolicy {
            delay_min: Duration::from_millis(1),
            ..RetryPolicy::default()
        })
        .build()
        .unwrap()
}

#[tokio::test]
async fn all_tries_of_a_write_share_one_key() {
    let mut calls = 0;
    let stub = stub::start(move |request| {
        assert_eq!(request.headers["authorization"], "Bearer t");
        assert_eq!(request.body, json!({"text": "hi"}));
        calls += 1;
        match calls {
            1 => Reply::Hangup,
            2 => problem(503, "overloaded"),
            3 => problem(429, "rate_limited"),
            _ => Reply::Replayed(201, message("m1", "hi")),
        }
    })
    .await;
    let body = PostMessage {
        text: "hi".to_owned(),
        ..PostMessage::default()
    };
    let answer = client(&stub).post("c1", &body).await.unwrap();
    assert_eq!(answer.message.id, "m1");
    assert_eq!(answer.acked_by, ["stub"]);
    assert!(answer.replayed);
    assert_eq!(answer.retries, 3);
    assert_eq!(answer.cursor.as_deref(), Some("here"));
    let asked = stub.asked.lock().unwrap();
    assert_eq!(asked.len(), 4);
    assert!(asked[0].2.is_some());
    assert!(asked.iter().all(|call| call == &asked[0]), "{asked:?}");
}

#[tokio::test]
async fn refusals_are_not_tried_again() {
    let stub = stub::start(|_| problem(404, "not_found")).await;
    let error = client(&stub).conversation("c1").await.unwrap_err();
    assert_eq!(error.code(), Some(ProblemCode::NotFound));
    assert_eq!(error.to_string(), "because (404 not_found)");
    assert_eq!(stub.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_region_that_is_gone_is_given_up() {
    let client = Client::builder()
        .url("http://127.0.0.1:1")
        .retry(RetryPolicy::NEVER)
        .build()
        .unwrap();
    let error = client.regions().await.unwrap_err();
    assert!(matches!(error, Error::Connection { .. }), "{error:?}");
}

#[tokio::test]
async fn a_stream_resumes_after_its_last_event() {
    let event = |token: &str| json!({"type": "conversation", "conversation": "c1", "token": token});
    let stub = stub::start(move |request| match request.path.as_str() {
        "/v1/sync" => Reply::Json(200, json!({"events": [], "token": "t0"})),
        "/v1/stream?since=t0" => Reply::Events(vec![event("t1"), event("t2")]),
        "/v1/stream?since=t2" => Reply::Events(vec![event("t3")]),
        "/v1/stream?since=t3" => problem(401, "unauthenticated"),
        other => panic!("{other}"),
    })
    .await;
    let mut events = client(&stub).stream(None).await.unwrap();
    for token in ["t1", "t2", "t3"] {
        assert_eq!(events.next().await.unwrap().token, token);
    }
    let error = events.next().await.unwrap_err();
    assert_eq!(error.code(), Some(ProblemCode::Unauthenticated));
    assert_eq!(events.token(), "t3");
}
