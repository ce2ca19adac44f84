//! G17: whatever is sent, the answer is a typed problem, and the node goes on.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use whimbrel_client::api::{PROBLEM_JSON, Problem, ProblemCode, limits};
use whimbrel_client::token::{Claims, SCOPE_SERVICE, SigningKey};

use crate::harness::{Cluster, channel, group, http, say};
use crate::programs::run_ok;
use crate::wait::within;

/// A request that must be refused, and how.
struct Bad {
    name: String,
    request: reqwest::RequestBuilder,
    status: Vec<u16>,
    code: ProblemCode,
    field: Option<&'static str>,
}

/// Collects what is wrong with the answers to all of them.
struct Table {
    url: String,
    token: String,
    rows: Vec<Bad>,
}

impl Table {
    /// As ana; `path` comes after `/v1/`.
    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        http()
            .request(method, format!("{}/v1/{path}", self.url))
            .bearer_auth(&self.token)
    }

    fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.request(Method::GET, path)
    }

    fn post(&self, path: &str, body: &Value) -> reqwest::RequestBuilder {
        self.request(Method::POST, path).json(body)
    }

    fn refuse(
        &mut self,
        name: &str,
        request: reqwest::RequestBuilder,
        status: &[u16],
        code: ProblemCode,
        field: Option<&'static str>,
    ) {
        self.rows.push(Bad {
            name: name.to_owned(),
            request,
            status: status.to_vec(),
            code,
            field,
        });
    }

    /// Malformed, or against a rule, in a field.
    fn invalid(&mut self, name: &str, request: reqwest::RequestBuilder, field: &'static str) {
        let status = [400, 422];
        self.refuse(name, request, &status, ProblemCode::Invalid, Some(field));
    }

    async fn check(self) {
        let mut wrong = String::new();
        let count = self.rows.len();
        for row in self.rows {
            if let Err(what) = check(row.request, &row.status, row.code, row.field).await {
                let _ = writeln!(wrong, "{}: {what}", row.name);
            }
        }
        assert!(wrong.is_empty(), "of {count} bad requests:\n{wrong}");
    }
}

async fn check(
    request: reqwest::RequestBuilder,
    status: &[u16],
    code: ProblemCode,
    field: Option<&str>,
) -> Result<(), String> {
    let answer = request.send().await;
    let answer = answer.map_err(|error| format!("no answer: {error:?}"))?;
    let got = answer.status().as_u16();
    let kind = answer.headers().get("content-type").cloned();
    let region = answer.headers().contains_key("whimbrel-region");
    let body = answer.text().await.map_err(|error| error.to_string())?;
    let Ok(problem) = serde_json::from_str::<Problem>(&body) else {
        return Err(format!("{got} with a body that is no problem: {body}"));
    };
    if !status.contains(&got) || problem.status != got || problem.code != code {
        return Err(format!("{got}, not {status:?} {}: {body}", code.as_str()));
    }
    if kind.is_none_or(|kind| kind != PROBLEM_JSON) || !region {
        return Err(format!("{got} without its headers: {body}"));
    }
    if problem.title.is_empty() || problem.detail.is_empty() || problem.kind.is_empty() {
        return Err(format!("it does not say what to do: {body}"));
    }
    match field {
        Some(field) if !problem.errors.iter().any(|error| error.field == field) => {
            Err(format!("`{field}` is not named: {body}"))
        }
        _ => Ok(()),
    }
}

/// G17.
#[tokio::test(flavor = "multi_thread")]
async fn g17_bad_requests_are_refused_with_typed_problems() {
    let cluster = Cluster::of(&["eu"]).await;
    let (ana, cleo) = (cluster.client("eu", "ana"), cluster.client("eu", "cleo"));
    let ben = cluster.client("eu", "ben");
    let id = group(&ana, &["ben"]).await;
    let own = say(&ana, &id, "mine").await.message;
    let others = say(&ben, &id, "not mine").await.message;
    let redacted = say(&ana, &id, "gone").await.message;
    ana.redact(&id, &redacted.id).await.unwrap();
    let foreign = group(&cleo, &[]).await;
    let secret = say(&cleo, &foreign, "secret").await.message;
    let open = channel(&cleo).await;

    let mut table = Table {
        url: cluster.node("eu").url(),
        token: cluster.token("ana", None),
        rows: Vec::new(),
    };
    tokens(&cluster, &mut table);
    bodies(&mut table, &id, &own);
    parameters(&mut table, &id, &own);
    rights(&cluster, &mut table, &id);

    let t = &mut table;
    let edit = json!({"text": "x", "base": own.revision});
    for (name, conversation, message, status, code) in [
        (
            "edit of another's message",
            &id,
            &others.id,
            403,
            ProblemCode::Forbidden,
        ),
        (
            "edit of a redacted message",
            &id,
            &redacted.id,
            410,
            ProblemCode::Redacted,
        ),
        (
            "edit in a foreign conversation",
            &foreign,
            &secret.id,
            404,
            ProblemCode::NotFound,
        ),
        (
            "edit of a message of another conversation",
            &id,
            &secret.id,
            404,
            ProblemCode::NotFound,
        ),
    ] {
        let path = format!("conversations/{conversation}/messages/{message}");
        let request = t.request(Method::PATCH, &path).json(&edit);
        t.refuse(name, request, &[status], code, None);
    }
    let path = format!("conversations/{id}/messages/{}/reactions/x", redacted.id);
    let request = t.request(Method::PUT, &path);
    t.refuse(
        "reaction to a redacted message",
        request,
        &[410],
        ProblemCode::Redacted,
        None,
    );
    let gone = ProblemCode::NotFound;
    for (method, path, body) in [
        (Method::GET, String::new(), None),
        (Method::PATCH, String::new(), Some(json!({"title": "x"}))),
        (Method::GET, "/members".to_owned(), None),
        (
            Method::PUT,
            "/members/ana".to_owned(),
            Some(json!({"role": "member"})),
        ),
        (Method::DELETE, "/members/cleo".to_owned(), None),
        (Method::GET, "/messages".to_owned(), None),
        (
            Method::POST,
            "/messages".to_owned(),
            Some(json!({"text": "x"})),
        ),
        (Method::GET, format!("/messages/{}", secret.id), None),
        (Method::DELETE, format!("/messages/{}", secret.id), None),
        (
            Method::GET,
            format!("/messages/{}/history", secret.id),
            None,
        ),
        (
            Method::PUT,
            format!("/messages/{}/reactions/x", secret.id),
            None,
        ),
        (Method::GET, "/receipts".to_owned(), None),
        (Method::POST, "/typing".to_owned(), None),
    ] {
        let name = format!("{method} {path} of a foreign conversation");
        let mut request = t.request(method, &format!("conversations/{foreign}{path}"));
        if let Some(body) = body {
            request = request.json(&body);
        }
        t.refuse(&name, request, &[404], gone, None);
    }
    let not_yet = [403];
    let post = t.post(
        &format!("conversations/{open}/messages"),
        &json!({"text": "x"}),
    );
    t.refuse(
        "a post before joining",
        post,
        &not_yet,
        ProblemCode::Forbidden,
        None,
    );
    let ban = t.request(
        Method::DELETE,
        &format!("conversations/{open}/members/cleo"),
    );
    t.refuse(
        "removing the owner",
        ban,
        &not_yet,
        ProblemCode::Forbidden,
        None,
    );

    table.check().await;
    garbage_on_the_wire(cluster.node("eu").config.ports.http).await;
    let page = ana.messages(&id).await.unwrap();
    assert_eq!(page.messages.len(), 3, "nothing of it was done");
    let log = cluster.node("eu").log();
    assert!(!log.contains("panicked"), "{log}");
}

fn tokens(cluster: &Cluster, t: &mut Table) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let hour = Duration::from_secs(60 * 60);
    let claims = |sub: &str, exp: Duration| Claims {
        sub: sub.to_owned(),
        exp: exp.as_secs(),
        scope: None,
    };
    let expired = cluster.key.sign(&claims("ana", now - hour)).unwrap();
    let nameless = cluster.key.sign(&claims("", now + hour)).unwrap();
    let endless = cluster
        .key
        .sign(&claims(&"x".repeat(129), now + hour))
        .unwrap();
    let folder = cluster.folder().join("other");
    run_ok(
        "whimbrel-node",
        ["keys".as_ref(), "--out".as_ref(), folder.as_os_str()],
    );
    let other = SigningKey::from_pem_file(&folder.join("token.key.pem")).unwrap();
    let forged = other.sign(&claims("ana", now + hour)).unwrap();
    let good = cluster.token("ana", None);
    let cut = &good[..good.len() - 4];
    // {"alg":"none","typ":"JWT"} and {"sub":"ana","exp":99999999999}
    let unsigned =
        "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJhbmEiLCJleHAiOjk5OTk5OTk5OTk5fQ.";
    let long = "x".repeat(8 * 1024);
    for (name, value) in [
        ("no token", None),
        ("an empty token", Some("Bearer ".to_owned())),
        ("another scheme", Some("Basic YW5hOmFuYQ==".to_owned())),
        ("garbage for a token", Some("Bearer garbage".to_owned())),
        ("a very long token", Some(format!("Bearer {long}"))),
        ("a cut token", Some(format!("Bearer {cut}"))),
        ("an expired token", Some(format!("Bearer {expired}"))),
        ("a token of another key", Some(format!("Bearer {forged}"))),
        ("alg=none", Some(format!("Bearer {unsigned}"))),
        ("a token without a user", Some(format!("Bearer {nameless}"))),
        (
            "a token with a very long user",
            Some(format!("Bearer {endless}")),
        ),
    ] {
        for path in ["conversations", "sync", "stream"] {
            let mut request = http().get(format!("{}/v1/{path}", t.url));
            if let Some(value) = &value {
                request = request.header("authorization", value);
            }
            let name = format!("{name}, {path}");
            t.refuse(&name, request, &[401], ProblemCode::Unauthenticated, None);
        }
    }
}

fn bodies(t: &mut Table, id: &str, own: &whimbrel_client::api::Message) {
    let json = |t: &Table, body: &[u8]| {
        let request = t.request(Method::POST, "conversations");
        let request = request.header("content-type", "application/json");
        request.body(body.to_vec())
    };
    let nested = [vec![b'['; 20_000], vec![b']'; 20_000]].concat();
    for (name, body) in [
        ("half an object", b"{".as_slice()),
        ("more after the object", br#"{"kind":"group"} x"#),
        ("no JSON", b"kind=group"),
        ("not UTF-8", b"{\"kind\":\"group\",\"title\":\"\xff\"}"),
        (
            "half a surrogate pair",
            br#"{"kind":"group","title":"\ud800"}"#,
        ),
        ("nested very deep", &nested),
    ] {
        let request = json(t, body);
        t.refuse(name, request, &[400, 422], ProblemCode::Invalid, None);
    }
    let long_title = "x".repeat(limits::TITLE_BYTES_MAX + 1);
    for (name, body, field) in [
        (
            "an unknown field",
            json!({"kind": "group", "colour": "red"}),
            "colour",
        ),
        ("an unknown kind", json!({"kind": "herd"}), "kind"),
        ("no kind", json!({"title": "x"}), "kind"),
        (
            "a long title",
            json!({"kind": "group", "title": long_title}),
            "title",
        ),
        ("direct with nobody", json!({"kind": "direct"}), "members"),
        (
            "direct with two",
            json!({"kind": "direct", "members": ["b", "c"]}),
            "members",
        ),
        (
            "direct with oneself",
            json!({"kind": "direct", "members": ["ana"]}),
            "members",
        ),
        (
            "a member without a name",
            json!({"kind": "group", "members": [""]}),
            "members",
        ),
    ] {
        let request = t.post("conversations", &body);
        t.invalid(name, request, field);
    }
    let members: Vec<String> = (0..limits::MEMBERS_MAX / 2)
        .map(|i| format!("u{i}"))
        .collect();
    let request = t.post(
        "conversations",
        &json!({"kind": "group", "members": members}),
    );
    t.invalid("very many first members", request, "members");

    let messages = format!("conversations/{id}/messages");
    let message = format!("{messages}/{}", own.id);
    let long = "x".repeat(limits::TEXT_BYTES_MAX + 1);
    for (name, body, field) in [
        ("an empty text", json!({"text": ""}), "text"),
        ("no text", json!({}), "text"),
        ("a text that is none", json!({"text": 5}), "text"),
        ("a long text", json!({"text": long}), "text"),
        (
            "a wrong reply_to",
            json!({"text": "x", "reply_to": "!"}),
            "reply_to",
        ),
        (
            "an unknown field of a post",
            json!({"text": "x", "colour": "red"}),
            "colour",
        ),
    ] {
        let request = t.post(&messages, &body);
        t.invalid(name, request, field);
    }
    // Well-formed, and of no message of this conversation.
    let unknown = unknown(&own.id);
    let request = t.post(&messages, &json!({"text": "x", "reply_to": unknown}));
    t.invalid("a reply to nothing", request, "reply_to");
    for (name, body, field) in [
        ("an edit without base", json!({"text": "x"}), "base"),
        (
            "an edit on garbage",
            json!({"text": "x", "base": "!"}),
            "base",
        ),
        (
            "an empty edit",
            json!({"text": "", "base": own.revision}),
            "text",
        ),
        (
            "a long edit",
            json!({"text": long, "base": own.revision}),
            "text",
        ),
    ] {
        let request = t.request(Method::PATCH, &message).json(&body);
        t.invalid(name, request, field);
    }
    for bytes in [limits::BODY_BYTES_MAX + 1, 1024 * 1024, 6 * 1024 * 1024] {
        let request = t.post(&messages, &json!({"text": "x".repeat(bytes)}));
        let name = format!("a body of {bytes} bytes");
        t.refuse(&name, request, &[413], ProblemCode::TooLarge, None);
    }
    let request = t.request(Method::PATCH, &format!("conversations/{id}"));
    let request = request.json(&json!({"title": "x", "kind": "channel"}));
    t.invalid("changing the kind", request, "kind");
    let request = t.request(Method::PUT, &format!("conversations/{id}/members/dora"));
    let request = request.json(&json!({"role": "king"}));
    t.invalid("an unknown role", request, "role");
    for cursor in ["", "!", "AAAA", "x"] {
        let request = t.request(Method::PUT, &format!("conversations/{id}/read"));
        let request = request.json(&json!({"cursor": cursor}));
        t.invalid(&format!("marking `{cursor}` as read"), request, "cursor");
    }
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonp",
    ] {
        let request = t
            .request(Method::POST, &messages)
            .header("content-type", kind);
        let request = request.body(r#"{"text":"x"}"#);
        let code = ProblemCode::UnsupportedMediaType;
        t.refuse(&format!("a body of {kind}"), request, &[415], code, None);
    }
}

fn parameters(t: &mut Table, id: &str, own: &whimbrel_client::api::Message) {
    let position = &own.position;
    for (path, field) in [
        ("conversations?colour=red".to_owned(), "colour"),
        ("conversations?limit=0".to_owned(), "limit"),
        ("conversations?limit=201".to_owned(), "limit"),
        ("conversations?limit=-1".to_owned(), "limit"),
        ("conversations?limit=many".to_owned(), "limit"),
        ("conversations?limit=1&limit=2".to_owned(), "limit"),
        ("conversations?page=!".to_owned(), "page"),
        (format!("conversations/{id}?colour=red"), "colour"),
        (format!("conversations/{id}/members?colour=red"), "colour"),
        (format!("conversations/{id}/messages?colour=red"), "colour"),
        (format!("conversations/{id}/messages?limit=0"), "limit"),
        (format!("conversations/{id}/messages?limit=201"), "limit"),
        (format!("conversations/{id}/messages?before=!"), "before"),
        (format!("conversations/{id}/messages?after=AAAA"), "after"),
        (
            format!("conversations/{id}/messages?before={position}&after={position}"),
            "after",
        ),
        (
            format!("conversations/{id}/messages/{}?colour=red", own.id),
            "colour",
        ),
        (format!("conversations/{id}/receipts?colour=red"), "colour"),
        ("regions?colour=red".to_owned(), "colour"),
        ("sync?since=!".to_owned(), "since"),
        ("sync?since=AAAA".to_owned(), "since"),
        ("sync?wait=-1".to_owned(), "wait"),
        ("sync?wait=30001".to_owned(), "wait"),
        ("sync?colour=red".to_owned(), "colour"),
    ] {
        let request = t.get(&path);
        t.invalid(&format!("GET {path}"), request, field);
    }
    for path in [
        "conversations/!".to_owned(),
        "conversations/AAAA".to_owned(),
        format!("conversations/{id}x"),
        "conversations/%ff".to_owned(),
        format!("conversations/{id}/messages/!"),
        format!("conversations/{id}/messages/AAAA/history"),
        "stream".to_owned(),
    ] {
        let request = t.get(&path);
        t.refuse(
            &format!("GET {path}"),
            request,
            &[400],
            ProblemCode::Invalid,
            None,
        );
    }
    for path in [format!("conversations/{}", unknown(id)), "birds".to_owned()] {
        let request = t.get(&path);
        t.refuse(
            &format!("GET {path}"),
            request,
            &[404],
            ProblemCode::NotFound,
            None,
        );
    }
    for (method, path) in [
        (Method::DELETE, "conversations".to_owned()),
        (Method::POST, format!("conversations/{id}")),
        (Method::POST, format!("conversations/{id}/members")),
        (Method::PUT, format!("conversations/{id}/messages")),
        (Method::DELETE, "regions".to_owned()),
        (Method::POST, "sync".to_owned()),
    ] {
        let request = t.request(method.clone(), &path);
        let code = ProblemCode::MethodNotAllowed;
        t.refuse(&format!("{method} {path}"), request, &[405], code, None);
    }
    for (name, value) in [
        ("whimbrel-after", "!"),
        ("whimbrel-after", "AAAA"),
        ("whimbrel-after", ""),
        ("whimbrel-after", "AQAA,"),
        (
            "whimbrel-after",
            &"AQAA,".repeat(limits::AFTER_BYTES_MAX / 5 + 1),
        ),
        ("idempotency-key", ""),
        ("idempotency-key", "gr\u{fc}n"),
        ("idempotency-key", &"x".repeat(129)),
    ] {
        let messages = format!("conversations/{id}/messages");
        let request = match name {
            "whimbrel-after" => t.get(&messages),
            _ => t.post(&messages, &json!({"text": "x"})),
        };
        let request = request.header(name, value.as_bytes());
        let status = [400];
        t.refuse(
            &format!("{name}: {value}"),
            request,
            &status,
            ProblemCode::Invalid,
            None,
        );
    }
    for (ack, status) in [
        ("regions:9", 422),
        ("regions:0", 422),
        ("all", 400),
        ("regions:x", 400),
    ] {
        let path = format!("conversations/{id}/messages?ack={ack}");
        let request = t.post(&path, &json!({"text": "x"}));
        t.refuse(
            &format!("ack={ack}"),
            request,
            &[status],
            ProblemCode::Invalid,
            Some("ack"),
        );
    }
    let long = "x".repeat(limits::USER_BYTES_MAX + 1);
    let request = t.request(Method::PUT, &format!("conversations/{id}/members/{long}"));
    let request = request.json(&json!({"role": "member"}));
    t.refuse(
        "a very long user",
        request,
        &[400, 422],
        ProblemCode::Invalid,
        None,
    );
    let long = "x".repeat(limits::EMOJI_BYTES_MAX + 1);
    let path = format!("conversations/{id}/messages/{}/reactions/{long}", own.id);
    let request = t.request(Method::PUT, &path);
    t.invalid("a very long emoji", request, "emoji");
    let request = t.request(
        Method::DELETE,
        &format!("conversations/{id}/members/ben?ban=maybe"),
    );
    t.invalid("ban=maybe", request, "ban");
}

fn rights(cluster: &Cluster, t: &mut Table, id: &str) {
    let messages = format!("conversations/{id}/messages");
    let sent_at = json!({"text": "x", "sent_at": "2014-11-30T23:35:14.775Z"});
    let request = t.post(&messages, &sent_at);
    t.refuse(
        "sent_at of a user",
        request,
        &[403],
        ProblemCode::Forbidden,
        None,
    );
    let request = t.get("conversations").header("whimbrel-act-as", "ben");
    t.refuse(
        "acting without scope",
        request,
        &[403],
        ProblemCode::Forbidden,
        None,
    );
    let service = cluster.token("import", Some(SCOPE_SERVICE));
    let acting = |method: Method, path: &str, user: &str| {
        let request = http().request(method, format!("{}/v1/{path}", t.url));
        request
            .bearer_auth(&service)
            .header("whimbrel-act-as", user)
    };
    let late = acting(Method::POST, &messages, "ana");
    let late = late.json(&json!({"text": "x", "sent_at": "yesterday"}));
    let nobody = acting(Method::GET, "conversations", "");
    let stranger = acting(Method::POST, &messages, "dora").json(&json!({"text": "x"}));
    t.invalid("a time that is none", late, "sent_at");
    t.refuse(
        "acting for nobody",
        nobody,
        &[400],
        ProblemCode::Invalid,
        None,
    );
    // Who may act for users may do what they may, no more.
    t.refuse(
        "acting for a stranger",
        stranger,
        &[404],
        ProblemCode::NotFound,
        None,
    );
    let ben = cluster.token("ben", None);
    let as_ben = |method: Method, path: &str| {
        let request = http().request(method, format!("{}/v1/conversations/{id}{path}", t.url));
        request.bearer_auth(&ben)
    };
    let change = as_ben(Method::PATCH, "").json(&json!({"title": "x"}));
    let promote = as_ben(Method::PUT, "/members/ben").json(&json!({"role": "owner"}));
    let remove = as_ben(Method::DELETE, "/members/ana");
    for (name, request) in [
        ("a member's change", change),
        ("a member's promotion", promote),
        ("a member's removal of the owner", remove),
    ] {
        t.refuse(name, request, &[403], ProblemCode::Forbidden, None);
    }
}

/// An id of nothing, with another first character.
fn unknown(id: &str) -> String {
    let first = if id.starts_with('a') { 'b' } else { 'a' };
    id.chars().skip(1).fold(first.to_string(), |mut id, c| {
        id.push(c);
        id
    })
}

/// Not even HTTP.
async fn garbage_on_the_wire(port: u16) {
    let long = [
        b"GET /v1/regions HTTP/1.1\r\nx: ".as_slice(),
        &vec![b'x'; 1024 * 1024],
    ]
    .concat();
    for bytes in [
        b"\r\n\r\n\r\n".as_slice(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /v1/regions HTTP/9.9\r\n\r\n",
        b"POST /v1/conversations HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999\r\n\r\n",
        b"POST /v1/conversations HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x09\x09\x09\x09\x09\x09",
        &long,
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        // The other side may hang up before it has read all.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = within("the node to hang up", stream.read_to_end(&mut answer)).await;
    }
}
