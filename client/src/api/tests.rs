use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

/// Reads `wire`, and writes it again just as it was.
fn check<T: Serialize + DeserializeOwned>(wire: &Value) -> T {
    let read: T = serde_json::from_value(wire.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), *wire);
    read
}

fn message() -> Value {
    json!({
        "id": "m1", "conversation": "c1", "position": "p1", "sender": "ana", "text": "hi @ben",
        "revision": "r0", "edited": false, "merged": false, "redacted": false, "reply_to": null,
        "mentions": ["ben"], "reactions": {"👍": {"count": 2, "me": true}},
        "created_at": "2026-01-02T03:04:05.678Z", "region": "eu",
    })
}

fn with(mut value: Value, more: &Value) -> Value {
    let (Value::Object(all), Value::Object(more)) = (&mut value, more) else {
        panic!("two objects")
    };
    all.extend(more.clone());
    value
}

#[test]
fn messages() {
    let read: Message = check(&message());
    assert!(read.reactions["👍"].me);
    assert_eq!(read.sent_at, None);
    let read: Message = check(&with(
        message(),
        &json!({"text": null, "redacted": true, "sent_at": "2014-11-30T23:35:14.775Z"}),
    ));
    assert_eq!(read.text, None);
    let posted: PostedMessage = check(&with(message(), &json!({"acked_by": ["eu", "us"]})));
    assert_eq!(posted.acked_by, ["eu", "us"]);
    assert_eq!(posted.message.sender, "ana");
    check::<MessagePage>(&json!({
        "messages": [message()], "prev": "p1", "next": null, "cursor": "x", "unread_older": 3,
    }));
    check::<History>(&json!({
        "versions": [{
            "revision": "r0", "text": "hi", "author": "ana", "at": "2026-01-02T03:04:05.678Z",
            "parents": [],
        }],
        "merged": false,
    }));
}

#[test]
fn conversations() {
    let conversation = json!({
        "id": "c1", "kind": "channel", "title": "Birds", "topic": null,
        "created_at": "2026-01-02T03:04:05.678Z", "creator": "ana", "role": null, "cursor": "x",
    });
    check::<Conversation>(&conversation);
    let listed = with(
        conversation,
        &json!({"last_message": message(), "unread": 1, "mentions": 0}),
    );
    let list: ConversationList = check(&json!({"conversations": [listed], "next": "n"}));
    assert_eq!(list.conversations[0].conversation.id, "c1");
    check::<Members>(&json!({
        "members": [{"user": "ana", "role": "owner", "since": "2026-01-02T03:04:05.678Z"}],
    }));
    check::<Receipts>(&json!({"receipts": [{"user": "ana", "cursor": "x", "message": null}]}));
    check::<ReadMarked>(&json!({"cursor": "x", "unread": 0, "mentions": 0}));
}

#[test]
fn requests() {
    check::<CreateConversation>(&json!({"kind": "direct", "members": ["ben"]}));
    check::<CreateConversation>(&json!({"kind": "group", "title": "t", "topic": "o"}));
    check::<ChangeConversation>(&json!({}));
    check::<SetMember>(&json!({"role": "admin"}));
    check::<PostMessage>(&json!({"text": "hi", "reply_to": "m0"}));
    check::<EditMessage>(&json!({"text": "hi", "base": "r0"}));
    check::<MarkRead>(&json!({"cursor": "x"}));
}

#[test]
fn requests_refuse_unknown_fields_by_name() {
    fn refused<T: DeserializeOwned>(wire: Value) {
        let error = serde_json::from_value::<T>(wire).err().unwrap().to_string();
        assert!(error.contains("`extra`"), "{error}");
    }
    refused::<CreateConversation>(json!({"kind": "group", "extra": 1}));
    refused::<ChangeConversation>(json!({"extra": 1}));
    refused::<SetMember>(json!({"role": "member", "extra": 1}));
    refused::<PostMessage>(json!({"text": "", "extra": 1}));
    refused::<EditMessage>(json!({"text": "", "base": "", "extra": 1}));
    refused::<MarkRead>(json!({"cursor": "", "extra": 1}));
}

#[test]
fn events() {
    let common = json!({"conversation": "c1", "token": "t1", "cursor": "x"});
    let event = |more: Value| check::<Event>(&with(common.clone(), &more));
    for name in ["posted", "edited", "redacted", "reacted", "moved"] {
        let event = event(json!({"type": format!("message.{name}"), "message": message()}));
        assert_eq!(event.kind.message().unwrap().id, "m1");
    }
    event(json!({"type": "receipt", "user": "ben", "message": "m1"}));
    let left = event(json!({"type": "member", "user": "ben", "role": "left"}));
    assert_eq!(
        left.kind,
        EventKind::Member {
            user: "ben".to_owned(),
            role: Membership::Left
        }
    );
    event(json!({"type": "conversation"}));
    event(json!({"type": "typing", "user": "ben"}));
    check::<Event>(&json!({"type": "gap", "token": "t1"}));
    check::<Event>(&json!({"type": "behind", "token": "t1", "waiting_for": ["eu"]}));
    check::<Sync>(&json!({"events": [], "token": "t1"}));

    let later: Event =
        serde_json::from_value(with(common, &json!({"type": "pinned", "by": "ben"}))).unwrap();
    assert_eq!(later.kind, EventKind::Unknown);
    assert_eq!(later.token, "t1");
}

#[test]
fn problems() {
    let problem: Problem = check(&json!({
        "type": "urn:whimbrel:problem:not_caught_up", "title": "Not caught up", "status": 503,
        "detail": "wait", "code": "not_caught_up", "retry_after_ms": 250, "waiting_for": ["eu"],
        "available": "x",
    }));
    assert_eq!(problem.code, ProblemCode::NotCaughtUp);
    check::<Problem>(&json!({
        "type": "about:blank", "title": "", "status": 422, "detail": "", "code": "invalid",
        "errors": [{"field": "text", "message": "is empty"}],
    }));
    for (code, status) in [
        ("unauthenticated", 401),
        ("forbidden", 403),
        ("not_found", 404),
        ("method_not_allowed", 405),
        ("unsupported_media_type", 415),
        ("invalid", 400),
        ("too_large", 413),
        ("idempotency_mismatch", 409),
        ("redacted", 410),
        ("rate_limited", 429),
        ("overloaded", 503),
        ("not_caught_up", 503),
        ("store_unavailable", 503),
        ("internal", 500),
    ] {
        let read: ProblemCode = check(&json!(code));
        assert_eq!((read.as_str(), read.status()), (code, status));
    }
    let later: ProblemCode = serde_json::from_value(json!("pinned")).unwrap();
    assert_eq!(later, ProblemCode::Unknown);
}

#[test]
fn regions() {
    check::<Regions>(&json!({
        "self": "eu",
        "regions": [{"name": "eu", "url": "http://a", "urls": ["http://a"], "status": "lagging"}],
    }));
    check::<DevCluster>(&json!({
        "cluster": "k",
        "regions": [{
            "name": "eu", "pid": 7, "url": "http://127.0.0.1:1", "admin_url": "http://127.0.0.1:2",
            "quic": "127.0.0.1:3", "data_dir": "d/eu", "log": "d/eu.log",
            "nodes": [{
                "pid": 7, "url": "http://127.0.0.1:1", "admin_url": "http://127.0.0.1:2",
            }],
        }],
        "token_key": "d/token.pem",
    }));
}
