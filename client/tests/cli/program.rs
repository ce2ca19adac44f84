use std::collections::{HashMap, HashSet};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use whimbrel_client::api::{DevCluster, DevRegion};
use whimbrel_client::token::{public_keys, verify};

use crate::stub::{self, Reply, Stub, conversation, message, problem};

// RFC 8410, section 10.
pub(crate) const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
";
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
";

/// A folder of this test alone.
pub(crate) fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

pub(crate) fn whimbrel(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_whimbrel"));
    command
        .args(args)
        .env_remove("WHIMBREL_URLS")
        .env_remove("WHIMBREL_TOKEN")
        .env_remove("WHIMBREL_GITTER_TSV")
        .current_dir(folder("empty"))
        .stdin(Stdio::null());
    command
}

pub(crate) fn run(args: &[&str]) -> Output {
    whimbrel(args).output().unwrap()
}

/// Beside the stub, which must go on answering.
pub(crate) async fn run_at(stub: &Stub, args: &[&str]) -> Output {
    let mut command = whimbrel(args);
    command
        .env("WHIMBREL_URLS", &stub.url)
        .env("WHIMBREL_TOKEN", "t");
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

pub(crate) fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

pub(crate) fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn help_teaches() {
    for args in [
        &["--help"][..],
        &["help", "send"],
        &["import", "gitter", "--help"],
    ] {
        let output = run(args);
        assert!(output.status.success());
        assert!(stdout(&output).contains("whimbrel "), "{args:?}");
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    for args in [
        &[][..],
        &["fly"],
        &["send", "c1"],
        &["history", "c1", "--limit", "201"],
        &["tail", "--from-start"],
        &["token", "--dev", "."],
        &["conversations"],
        &["conversations", "--urls", "http://127.0.0.1:1"],
        &[
            "conversations",
            "--urls",
            "http://127.0.0.1:1",
            "--user",
            "ana",
        ],
    ] {
        let output = run(args);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{args:?} {}",
            stderr(&output)
        );
        assert!(!stderr(&output).is_empty());
        assert!(stdout(&output).is_empty());
    }
}

#[test]
fn errors_say_what_to_do_and_end_with_1() {
    let check = |args: &[&str], says: &str| {
        let output = run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let text = stderr(&output);
        assert!(text.starts_with("error: ") && text.contains(says), "{text}");
        assert!(text.lines().count() <= 2, "{text}");
    };
    check(&["regions", "--dev", "nowhere"], "whimbrel-node dev");
    check(
        &[
            "regions",
            "--urls",
            "eu=http://a,us=http://b",
            "--region",
            "ap",
        ],
        "eu, us",
    );
    check(&["regions", "--urls", "nonsense"], "no URL");
    check(
        &["import", "gitter", "nowhere.tsv", "--urls", "http://a"],
        "nowhere.tsv",
    );
    check(
        &["token", "--user", "ana", "--key", "nowhere.pem"],
        "nowhere.pem",
    );
}

#[test]
fn a_token_stands_alone_on_standard_output() {
    let folder = folder("token");
    let key = folder.join("key.pem");
    std::fs::write(&key, PRIVATE).unwrap();
    let dev = DevCluster {
        cluster: "k".to_owned(),
        regions: Vec::<DevRegion>::new(),
        token_key: "key.pem".into(),
    };
    std::fs::write(folder.join("dev.json"), serde_json::to_vec(&dev).unwrap()).unwrap();
    let (key, dir) = (key.to_str().unwrap(), folder.to_str().unwrap());
    for source in [["--key", key], ["--dev", dir]] {
        let mut args = vec!["token", "--user", "ana", "--scope", "admin", "--ttl", "2h"];
        args.extend(source);
        let output = run(&args);
        assert!(output.status.success(), "{}", stderr(&output));
        let token = stdout(&output).strip_suffix('\n').unwrap();
        let claims = verify(token, &public_keys(PUBLIC.as_bytes()).unwrap()).unwrap();
        assert_eq!(claims.sub, "ana");
        assert_eq!(claims.scope.as_deref(), Some("admin"));
    }
}

#[tokio::test]
async fn calls() {
    let stub = stub::start(|request| {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        match (request.method.as_str(), path) {
            ("POST", "/v1/conversations/c1/messages") => {
                assert_eq!(request.headers["idempotency-key"], "k1");
                Reply::Json(201, message("m1", request.body["text"].as_str().unwrap()))
            }
            ("GET", "/v1/conversations/c1/messages/m1") => Reply::Json(200, message("m1", "old")),
            ("PATCH", "/v1/conversations/c1/messages/m1") => {
                assert_eq!(request.body, json!({"text": "-new", "base": "r0"}));
                Reply::Json(200, message("m1", "new"))
            }
            ("DELETE", "/v1/conversations/c1/messages/m1") => Reply::Json(204, Value::Null),
            ("PUT", "/v1/conversations/c1/read") => {
                assert_eq!(request.body, json!({"cursor": "x"}));
                Reply::Json(200, json!({"cursor": "x", "unread": 0, "mentions": 0}))
            }
            ("GET", "/v1/conversations/c1/messages") => {
                let page = |id, prev, next| {
                    let text = "two\nlines \u{1b}[2J";
                    Reply::Json(
                        200,
                        json!({"messages": [message(id, text)], "prev": prev, "next": next,
                               "cursor": "x", "unread_older": 0}),
                    )
                };
                match query {
                    "limit=200"
                    | ""
                    | "limit=1"
                    | "after=p-m1&limit=200"
                    | "limit=200&after=p-m1" => page("m2", json!("p-m2"), Value::Null),
                    "limit=200&before=p-m2" => page("m1", Value::Null, json!("p-m1")),
                    other => panic!("{other}"),
                }
            }
            _ => problem(404, "not_found"),
        }
    })
    .await;
    let check = async |args: &[&str], wanted: &str| {
        let output = run_at(&stub, args).await;
        assert!(output.status.success(), "{args:?} {}", stderr(&output));
        assert_eq!(stdout(&output), wanted, "{args:?}");
    };
    check(&["send", "c1", "hi", "--key", "k1"], "m1\n").await;
    let line = "  2026-01-02 03:04:05  ana: ";
    check(&["edit", "c1", "m1", "-new"], &format!("m1{line}new\n")).await;
    check(&["redact", "c1", "m1"], "").await;
    let written = "{\"cursor\":\"here\",\"replayed\":false}\n";
    check(&["redact", "c1", "m1", "--json"], written).await;
    check(&["read", "c1"], "0 unread, 0 mention you\n").await;
    let text = "two\n    lines \u{fffd}[2J";
    check(&["history", "c1"], &format!("m2{line}{text}\n")).await;
    check(
        &["history", "c1", "--all"],
        &format!("m1{line}{text}\nm2{line}{text}\n"),
    )
    .await;

    let output = run_at(&stub, &["export", "c1"]).await;
    let ids: Vec<_> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone())
        .collect();
    assert_eq!(ids, ["m1", "m2"]);

    let output = run_at(&stub, &["history", "c2"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("404 not_found"),
        "{}",
        stderr(&output)
    );
    let output = run_at(&stub, &["history", "c2", "--json"]).await;
    assert_eq!((output.status.code(), stdout(&output)), (Some(1), ""));
    let error: Value = serde_json::from_str(stderr(&output)).unwrap();
    assert_eq!(error["problem"]["code"], "not_found");
    assert!(error["hint"].as_str().unwrap().contains("whimbrel"));
}

#[tokio::test]
async fn an_import_run_twice_adds_nothing() {
    let mut done = HashSet::new();
    let mut busy = 0;
    let stub = stub::start(move |request| {
        // Every third call fails once.
        busy += 1;
        if busy % 3 == 0 {
            return problem(503, "store_unavailable");
        }
        let actor = &request.headers["whimbrel-act-as"];
        let key = &request.headers["idempotency-key"];
        let fresh = done.insert((actor.clone(), key.clone(), request.path.clone()));
        let reply = if fresh { Reply::Json } else { Reply::Replayed };
        match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/v1/conversations") => {
                assert_eq!(actor, "import");
                reply(
                    201,
                    conversation(&request.body["title"].as_str().unwrap().to_lowercase()),
                )
            }
            ("PUT", path) if path.ends_with(&format!("/members/{actor}")) => reply(
                200,
                json!({"user": actor, "role": "member", "since": "2026-01-02T03:04:05.678Z"}),
            ),
            ("POST", "/v1/conversations/birds/messages" | "/v1/conversations/fish/messages") => {
                if request.body["text"] == "refused" {
                    return problem(422, "invalid");
                }
                assert!(request.body["sent_at"].as_str().unwrap().ends_with('Z'));
                reply(201, message(key, "x"))
            }
            other => panic!("{other:?}"),
        }
    })
    .await;
    let file = folder("import").join("rooms.tsv");
    let row = |room: &str, user: &str, id: &str, text: &str| {
        format!("r-{room}\t{room}\t2014-11-30T23:35:14.775Z\tu\t{user}\t{id}\t{text}\n")
    };
    let rows = [
        "room_id\troom\tsent_at\tuser_id\tusername\tmessage_id\ttext\n".to_owned(),
        row("Birds", "ana", "m1", "\"two\nlines\""),
        row("Fish", "", "m2", ""),
        row("Birds", "ana", "m1", "\"two\nlines\""),
        "broken\n".to_owned(),
        row("Birds", "ben", "m3", "refused"),
        row("Birds", "ben", "m4", "last"),
    ];
    std::fs::write(&file, rows.concat()).unwrap();
    let file = file.to_str().unwrap();
    let args = ["import", "gitter", file, "--json"];

    let check = async |args: &[&str], wanted: Value| {
        let output = run_at(&stub, args).await;
        assert!(output.status.success(), "{}", stderr(&output));
        let summary: Value = serde_json::from_str(stdout(&output)).unwrap();
        for (name, value) in wanted.as_object().unwrap() {
            assert_eq!(&summary[name], value, "{name} of {summary}");
        }
        stderr(&output).to_owned()
    };
    let first = json!({"records": 6, "rooms": 2, "users": 3, "new": 3, "replayed": 1, "bad": 2});
    let said = check(&args, first).await;
    assert!(said.contains(&format!("{file}:7: ")), "{said}");
    assert!(said.contains(&format!("{file}:8: because")), "{said}");
    check(&args, json!({"new": 0, "replayed": 4, "bad": 2})).await;
    let one = [&args[..], &["--rooms", "1", "--concurrency", "1"]].concat();
    check(&one, json!({"rooms": 1, "records": 5, "users": 2})).await;
}

#[tokio::test]
async fn the_real_export_is_imported_whole() {
    let Some(file) = std::env::var("WHIMBREL_GITTER_TSV").ok() else {
        println!("skipped: the_real_export_is_imported_whole (set WHIMBREL_GITTER_TSV)");
        return;
    };
    let mut done = HashSet::new();
    // Channel to the times of its new messages, in order of arrival.
    let mut times: HashMap<String, Vec<String>> = HashMap::new();
    let stub = stub::start(move |request| {
        let actor = &request.headers["whimbrel-act-as"];
        let key = &request.headers["idempotency-key"];
        let parts: Vec<_> = request.path.split('/').collect();
        match parts[3..] {
            [] => Reply::Json(201, conversation(&key.replace("gitter:", ""))),
            [_, "members", user] => {
                assert_eq!(user, actor);
                let since = "2026-01-02T03:04:05.678Z";
                Reply::Json(200, json!({"user": user, "role": "member", "since": since}))
            }
            [channel, "messages"] => {
                let message = message(key, "x");
                if !done.insert((channel.to_owned(), key.clone())) {
                    return Reply::Replayed(201, message);
                }
                let times = times.entry(channel.to_owned()).or_default();
                let time = request.body["sent_at"].as_str().unwrap().to_owned();
                assert!(
                    times.last().is_none_or(|last| *last <= time),
                    "{channel} {time}"
                );
                times.push(time);
                Reply::Json(201, message)
            }
            _ => panic!("{}", request.path),
        }
    })
    .await;
    let output = run_at(&stub, &["import", "gitter", &file, "--json"]).await;
    assert!(output.status.success(), "{}", stderr(&output));
    println!("{}", stdout(&output));
    let summary: Value = serde_json::from_str(stdout(&output)).unwrap();
    for (name, value) in [
        ("records", 59_000),
        ("rooms", 79),
        ("users", 3_409),
        ("new", 58_549),
        ("replayed", 451),
        ("bad", 0),
    ] {
        assert_eq!(summary[name], value, "{name} of {summary}");
    }
}

/// A region answers 503 also where its store does not tell whether it has committed.
#[tokio::test]
async fn a_send_that_may_have_been_taken_says_how_to_repeat_it() {
    let stub = stub::start(|_| problem(503, "store_unavailable")).await;
    let output = run_at(&stub, &["send", "c1", "hi", "--key", "k1", "--json"]).await;
    assert_eq!(output.status.code(), Some(1));
    let error: Value = serde_json::from_str(stderr(&output)).unwrap();
    assert!(
        error["hint"].as_str().unwrap().contains("--key k1"),
        "{error}"
    );
}

#[tokio::test]
async fn an_import_stops_where_all_would_fail() {
    let stub = stub::start(|_| problem(403, "forbidden")).await;
    let file = folder("import").join("one.tsv");
    let rows = "room_id\troom\tsent_at\tuser_id\tusername\tmessage_id\ttext\n\
                r\tBirds\t2014-11-30T23:35:14.775Z\tu\tana\tm1\thi\n";
    std::fs::write(&file, rows).unwrap();
    let output = run_at(&stub, &["import", "gitter", file.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("403 forbidden"),
        "{}",
        stderr(&output)
    );
}

#[tokio::test]
async fn an_import_makes_a_room_again_where_it_is_not_known() {
    let (mut created, mut joined, mut posted) = (0, 0, 0);
    let stub = stub::start(move |request| {
        let parts: Vec<_> = request.path.split('/').collect();
        match parts[3..] {
            [] => {
                created += 1;
                Reply::Json(201, conversation("c1"))
            }
            // As a region that took over would answer.
            ["c1", "members", _] if joined == 0 => {
                joined += 1;
                problem(404, "not_found")
            }
            ["c1", "members", user] => {
                let since = "2026-01-02T03:04:05.678Z";
                Reply::Json(200, json!({"user": user, "role": "member", "since": since}))
            }
            ["c1", "messages"] => {
                posted += 1;
                match posted {
                    2 => problem(404, "not_found"),
                    3 if created < 3 => panic!("it was not made again"),
                    _ => Reply::Json(201, message("m1", "x")),
                }
            }
            _ => panic!("{}", request.path),
        }
    })
    .await;
    let file = folder("import").join("two.tsv");
    let rows = "room_id\troom\tsent_at\tuser_id\tusername\tmessage_id\ttext\n\
                r\tBirds\t2014-11-30T23:35:14.775Z\tu\tana\tm1\thi\n\
                r\tBirds\t2014-11-30T23:35:15.775Z\tu\tana\tm2\tho\n";
    std::fs::write(&file, rows).unwrap();
    let output = run_at(
        &stub,
        &["import", "gitter", file.to_str().unwrap(), "--json"],
    )
    .await;
    assert!(output.status.success(), "{}", stderr(&output));
    let summary: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!((&summary["new"], &summary["bad"]), (&json!(2), &json!(0)));
}

#[tokio::test]
async fn failover_and_what_is_missing_are_said_on_standard_error() {
    let us = stub::start(|request| {
        let carried = request.headers.get("whimbrel-after").map(String::as_str);
        let page = |next: Value| {
            json!({"messages": [message("m1", "hi")], "prev": null, "next": next, "cursor": "x",
                   "unread_older": 0})
        };
        let region = ("whimbrel-region", "us".to_owned());
        match carried {
            None => {
                let cursor = ("whimbrel-cursor", "a1".to_owned());
                Reply::With(200, vec![region, cursor], page(json!("p-m1")))
            }
            Some("a1") => {
                let problem = json!({
                    "type": "t", "title": "t", "status": 503, "detail": "wait",
                    "code": "not_caught_up", "waiting_for": ["ap"], "available": "a0",
                });
                Reply::With(503, vec![region], problem)
            }
            Some(_) => Reply::With(200, vec![region], page(Value::Null)),
        }
    })
    .await;
    let urls = format!("eu={},us={}", stub::NOBODY, us.url);
    let check = async |args: &'static [&str], said: &[&str]| {
        let mut command = whimbrel(args);
        command.args(["--urls", &urls, "--token", "t"]);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let lines: Vec<_> = stderr(&output).lines().collect();
        assert_eq!(lines.len(), said.len(), "{lines:?}");
        for (line, said) in lines.iter().zip(said) {
            assert!(line.contains(said), "{line}");
        }
    };
    let failover = "eu could not do it: no answer (";
    let stale = "stale: us lacks what ap has";
    check(&["history", "c1", "--all"], &[failover, stale]).await;
    check(&["history", "c1", "--all", "--json"], &[failover, stale]).await;
    check(
        &["history", "c1", "--limit", "1", "--region", "us", "--json"],
        &[],
    )
    .await;
}

#[tokio::test]
async fn a_closed_pipe_is_no_error() {
    let stub = stub::start(|request| {
        let messages: Vec<_> = (0..200).map(|n| message(&format!("m{n}"), "text")).collect();
        assert!(request.path.starts_with("/v1/conversations/c1/messages"));
        Reply::Json(
            200,
            json!({"messages": messages, "prev": null, "next": null, "cursor": "x", "unread_older": 0}),
        )
    })
    .await;
    let mut command = whimbrel(&["export", "c1"]);
    command
        .env("WHIMBREL_URLS", &stub.url)
        .env("WHIMBREL_TOKEN", "t")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        child.wait_with_output().unwrap()
    })
    .await
    .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
}

#[tokio::test]
async fn tail_follows_and_ctrl_c_ends_it_well() {
    let stub = stub::start(move |request| {
        let posted = |id: &str, token: &str| {
            json!({"type": "message.posted", "message": message(id, "hi"), "conversation": "c1",
                   "token": token, "cursor": "x"})
        };
        match request.path.as_str() {
            "/v1/stream?since=t0" => Reply::Events(vec![posted("m1", "t1"), posted("m2", "t2")]),
            "/v1/stream?since=t2" => Reply::Events(vec![posted("m3", "t3")]),
            _ => problem(503, "overloaded"),
        }
    })
    .await;
    let mut command = whimbrel(&["tail", "c1", "--since", "t0"]);
    command
        .env("WHIMBREL_URLS", &stub.url)
        .env("WHIMBREL_TOKEN", "t")
        .stdout(Stdio::piped());
    let (lines, status) = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let lines: Vec<_> = stdout.lines().take(3).map(Result::unwrap).collect();
        let interrupt = Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status();
        assert!(interrupt.unwrap().success());
        (lines, child.wait().unwrap())
    })
    .await
    .unwrap();
    for (line, id) in lines.iter().zip(["m1", "m2", "m3"]) {
        assert_eq!(*line, format!("{id}  2026-01-02 03:04:05  ana: hi"));
    }
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_region_that_is_built_says_itself_how_far_it_is() {
    let told =
        |this: &str, all: &[Value]| Reply::With(200, vec![], json!({"self": this, "regions": all}));
    let built = |url: &str, progress: Option<u8>| {
        let mut region = json!({"name": "ap", "url": url, "urls": [url], "status": "lagging"});
        if let Some(percent) = progress {
            region["progress_percent"] = json!(percent);
        }
        region
    };
    let ap = stub::start(move |_| told("ap", &[built("http://127.0.0.1:1", Some(41))])).await;
    let eu = |ap_url: String| {
        stub::start(move |_| {
            let eu = json!({"name": "eu", "url": "http://e", "urls": [], "status": "up"});
            told("eu", &[eu, built(&ap_url, None)])
        })
    };
    let beside = eu(ap.url.clone()).await;
    let shown = run_at(&beside, &["regions"]).await;
    let line = stdout(&shown).lines().nth(1).unwrap();
    assert!(
        line.contains("lagging") && line.ends_with("(being built: 41%)"),
        "{line}"
    );
    let json = run_at(&beside, &["regions", "--json"]).await;
    let json: Value = serde_json::from_str(stdout(&json)).unwrap();
    assert_eq!(json["regions"][1]["progress_percent"], 41);
    assert!(json["regions"][0].get("progress_percent").is_none());

    // One that others see as up says itself that it takes no writes.
    let sick = stub::start(move |_| told("ap", &[built("http://127.0.0.1:1", None)])).await;
    let beside = stub::start(move |_| {
        let eu = json!({"name": "eu", "url": "http://e", "urls": [], "status": "up"});
        let mut ap = built(&sick.url, None);
        ap["status"] = json!("up");
        told("eu", &[eu, ap])
    })
    .await;
    let shown = run_at(&beside, &["regions"]).await;
    assert!(stdout(&shown).lines().nth(1).unwrap().contains("lagging"));

    // One that cannot be asked is shown all the same.
    let alone = eu(stub::NOBODY.to_owned()).await;
    let shown = run_at(&alone, &["regions"]).await;
    let line = stdout(&shown).lines().nth(1).unwrap();
    assert!(
        shown.status.success() && line.contains("lagging") && !line.contains('%'),
        "{line}"
    );
}
