use std::collections::HashSet;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::program::{PRIVATE, folder, run, run_at, stderr, stdout, whimbrel};
use crate::stub::{self, Reply, Request, Stub, conversation, message};

/// Written once: other tests read it meanwhile.
fn key() -> PathBuf {
    static KEY: LazyLock<PathBuf> = LazyLock::new(|| {
        let path = folder("bench").join("key.pem");
        std::fs::write(&path, PRIVATE).unwrap();
        path
    });
    KEY.clone()
}

async fn bench(stub: &Stub, args: &[&str]) -> (Output, Value) {
    let key = key();
    let all = [
        &["bench"],
        args,
        &["--json", "--key", key.to_str().unwrap()],
    ]
    .concat();
    let output = run_at(stub, &all).await;
    let told = serde_json::from_str(stdout(&output)).unwrap_or(Value::Null);
    (output, told)
}

/// The id of the message that a key asks for: that of its number in the run.
fn nth(request: &Request) -> u64 {
    let key = &request.headers["idempotency-key"];
    key.rsplit('-').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn sent_is_accepted_and_refused() {
    let made = Arc::new(Mutex::new(Vec::new()));
    let (keys, bearers) = (
        Mutex::new(HashSet::new()),
        Arc::new(Mutex::new(HashSet::new())),
    );
    let (noted, seen) = (Arc::clone(&made), Arc::clone(&bearers));
    let stub = stub::start(move |request| {
        if request.path == "/v1/conversations" {
            let mut made = noted.lock().unwrap();
            made.push(request.body["members"].as_array().unwrap().len());
            return Reply::Json(201, conversation(&format!("c{}", made.len())));
        }
        assert!(request.path.ends_with("/messages"), "{}", request.path);
        let text = request.body["text"].as_str().unwrap();
        assert!((80..=200).contains(&text.len()), "{text}");
        let key = request.headers["idempotency-key"].clone();
        assert!(keys.lock().unwrap().insert(key), "no key comes twice");
        let bearer = request.headers["authorization"].clone();
        seen.lock().unwrap().insert(bearer);
        match nth(request) % 3 {
            0 => Reply::Json(
                429,
                json!({"type": "t", "title": "t", "status": 429, "code": "rate_limited",
                       "detail": "more than 50 writes a second", "retry_after_ms": 1}),
            ),
            _ => Reply::Json(201, message("m", text)),
        }
    })
    .await;
    let load = ["--users", "10", "--conversations", "4", "--clients", "8"];
    let counts = |told: &Value| ["sent", "accepted"].map(|name| told[name].as_u64().unwrap());

    let closed = ["accept", "--messages", "60", "--warmup", "0s"];
    let (output, told) = bench(&stub, &[&closed[..], &load].concat()).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(counts(&told), [60, 40], "{told}");
    assert_eq!(told["refused"], json!({"429 rate_limited": 20}));
    assert_eq!(told["latency"]["count"], 40);
    assert_eq!(told["load"], "closed");
    assert_eq!(told["send_lag"], Value::Null);
    assert_eq!(told["texts"]["source"], "generated");
    assert_eq!(*made.lock().unwrap(), [3, 3, 2, 2], "members");
    assert_eq!(bearers.lock().unwrap().len(), 10, "users");

    // Twelve warm up, and are not counted.
    let open = [
        "accept",
        "--messages",
        "30",
        "--warmup",
        "40ms",
        "--rate",
        "300",
    ];
    let (output, told) = bench(&stub, &[&open[..], &load].concat()).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(counts(&told), [30, 20], "{told}");
    assert_eq!(told["send_lag"]["count"], 30);

    // For people: why something was refused, and what it cost.
    let key = key();
    let args = [
        "bench",
        "accept",
        "--messages",
        "3",
        "--warmup",
        "0s",
        "--clients",
        "1",
    ];
    let output = run_at(
        &stub,
        &[&args[..], &["--key", key.to_str().unwrap()]].concat(),
    )
    .await;
    let shown = stdout(&output);
    assert!(shown.contains("accepted 2 of 3"), "{shown}");
    let why = "refused 1: 429 rate_limited: more than 50 writes a second";
    assert!(shown.contains(why), "{shown}");
    assert!(shown.contains("cpu us/message: client"), "{shown}");
}

/// Coordinated omission: a slow region keeps messages from being sent, and these waited too.
#[tokio::test]
async fn an_open_loop_counts_from_the_intended_time() {
    let stub = stub::start(|request| match request.path.as_str() {
        "/v1/conversations" => Reply::Json(201, conversation("c")),
        _ => {
            std::thread::sleep(Duration::from_millis(50));
            Reply::Json(201, message("m", "text"))
        }
    })
    .await;
    let args = [
        "accept",
        "--messages",
        "20",
        "--warmup",
        "0s",
        "--rate",
        "100",
        "--clients",
        "1",
    ];
    let (output, told) = bench(&stub, &args).await;
    assert!(output.status.success(), "{}", stderr(&output));
    // The last one was due after 190 ms, and answered after 20 times 50 ms at the earliest.
    let longest = told["latency"]["max_us"].as_u64().unwrap();
    assert!(longest >= 800_000, "{told}");
    let latest = told["send_lag"]["max_us"].as_u64().unwrap();
    assert!((750_000..longest).contains(&latest), "{told}");
}

#[tokio::test]
async fn texts_of_an_export_are_posted() {
    let file = folder("bench").join("rooms.tsv");
    let text = "a whimbrel is a wader that crosses oceans and flies straight through hurricanes";
    let rows = [
        "room_id\troom\tsent_at\tuser_id\tusername\tmessage_id\ttext\n".to_owned(),
        format!("r\tR\t2014-11-30T23:35:14.775Z\tu\tana\tm1\t{text}!\n"),
        "r\tR\t2014-11-30T23:35:14.775Z\tu\tana\tm2\ttoo short\n".to_owned(),
    ];
    std::fs::write(&file, rows.concat()).unwrap();
    let file = file.to_str().unwrap().to_owned();
    let stub = stub::start(move |request| match request.path.as_str() {
        "/v1/conversations" => Reply::Json(201, conversation("c")),
        _ => {
            assert_eq!(request.body["text"], format!("{text}!"));
            Reply::Json(201, message("m", text))
        }
    })
    .await;
    let args = [
        "accept",
        "--messages",
        "5",
        "--warmup",
        "0s",
        "--texts",
        &file,
    ];
    let (output, told) = bench(&stub, &args).await;
    assert!(output.status.success(), "{}", stderr(&output));
    let texts = json!({"source": "export", "count": 1, "mean_bytes": 80.0});
    assert_eq!((&told["texts"], &told["accepted"]), (&texts, &json!(5)));
}

/// A region whose stream shows each message twice, beside one that accepts them.
#[tokio::test]
async fn what_is_seen_twice_fails_the_run() {
    let accepts = stub::start(|request| match request.path.as_str() {
        "/v1/conversations" => Reply::Json(201, conversation("c")),
        _ => Reply::Json(201, message(&format!("m{}", nth(request)), "text")),
    })
    .await;
    let shows = stub::start(|request| {
        if request.path.starts_with("/v1/sync") {
            return Reply::Json(200, json!({"events": [], "token": "t"}));
        }
        let posted = |n: u64| {
            json!({"type": "message.posted", "message": message(&format!("m{n}"), "text"),
                   "conversation": "c", "token": "t", "cursor": "x"})
        };
        Reply::Events((0..6).flat_map(|n| [posted(n), posted(n)]).collect())
    })
    .await;
    let urls = format!("eu={},us={}", accepts.url, shows.url);
    let args = [
        "visibility",
        "--urls",
        &urls,
        "--messages",
        "6",
        "--warmup",
        "0s",
        "--rate",
        "100",
    ];
    let (output, told) = bench(&accepts, &args).await;
    assert_eq!(output.status.code(), Some(1), "{told}");
    let why = stderr(&output);
    assert!(why.contains("exactly once in every region"), "{why}");
    let us = &told["regions"][0];
    assert_eq!(
        (&us["region"], &us["seen"], &us["missing"]),
        (&json!("us"), &json!(6), &json!(0))
    );
    assert!(us["seen_twice"].as_u64().unwrap() >= 6, "{us}");
}

#[tokio::test]
async fn ctrl_c_tells_what_was_measured() {
    let stub = stub::start(|request| match request.path.as_str() {
        "/v1/conversations" => Reply::Json(201, conversation("c")),
        _ => Reply::Json(201, message("m", "text")),
    })
    .await;
    let key = key();
    for rate in [&[][..], &["--rate", "200"]] {
        let mut command = whimbrel(&["bench", "accept", "--json", "--duration", "1h"]);
        command
            .args(["--warmup", "0s", "--key", key.to_str().unwrap()])
            .args(rate)
            .env("WHIMBREL_URLS", &stub.url)
            .stdout(Stdio::piped());
        let asked = Arc::clone(&stub.asked);
        let output = tokio::task::spawn_blocking(move || {
            let child = command.spawn().unwrap();
            let deadline = Instant::now() + Duration::from_secs(60);
            let enough = asked.lock().unwrap().len() + 100;
            while asked.lock().unwrap().len() < enough {
                assert!(Instant::now() < deadline, "it posts");
                std::thread::sleep(Duration::from_millis(10));
            }
            let pid = child.id().to_string();
            let interrupt = Command::new("kill").args(["-INT", &pid]).status();
            assert!(interrupt.unwrap().success());
            child.wait_with_output().unwrap()
        })
        .await
        .unwrap();
        assert_eq!(output.status.code(), Some(0), "{rate:?}");
        let told: Value = serde_json::from_str(stdout(&output)).unwrap();
        assert!(told["accepted"].as_u64().unwrap() > 50, "{told}");
        assert_eq!(
            told["accepted"], told["sent"],
            "what was under way is answered"
        );
    }
}

#[tokio::test]
async fn nothing_accepted_is_no_figure() {
    let stub = stub::start(|request| match request.path.as_str() {
        "/v1/conversations" => Reply::Json(201, conversation("c")),
        _ => Reply::Hangup,
    })
    .await;
    let args = [
        "accept",
        "--messages",
        "4",
        "--warmup",
        "0s",
        "--clients",
        "2",
    ];
    let (output, told) = bench(&stub, &args).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(told["refused"], json!({"connection": 4}));
    assert!(stderr(&output).contains("no message was accepted: connection"));
}

#[test]
fn wrong_usage_says_what_to_do() {
    let key = key();
    let key = ["--key", key.to_str().unwrap()];
    let check = |args: &[&str], code: i32, words: &str| {
        let output = run(&[&["bench"], args].concat());
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert!(
            stderr(&output).contains(words),
            "{args:?} {}",
            stderr(&output)
        );
    };
    let at = ["--urls", "http://127.0.0.1:1"];
    check(&["accept"], 2, "--dev DIR");
    check(
        &[&["accept", "--user", "ana"], &at[..]].concat(),
        2,
        "leave --user out",
    );
    check(&[&["catch-up"], &at[..], &key].concat(), 2, "--dev DIR");
    check(&["edits", "--earlier", "999"], 2, "999 is not in 1..=998");
    check(&["accept", "--duration", "5"], 2, "10s");
    check(
        &["accept", "--duration", "5s", "--messages", "5"],
        2,
        "cannot be used with",
    );
    let crowd = ["--users", "9000", "--conversations", "2"];
    let crowd = [&["accept"], &at[..], &key, &crowd].concat();
    check(&crowd, 1, "at most 2000 may");
    let many = [
        &["streams", "--streams", "201", "--users", "1"],
        &at[..],
        &key,
    ]
    .concat();
    check(&many, 1, "cannot be read");
    check(
        &[&["visibility"], &at[..], &key].concat(),
        1,
        "second region",
    );
    let https = ["accept", "--urls", "https://127.0.0.1:1"];
    check(&[&https[..], &key].concat(), 1, "plain http");
    let away = [&["accept"], &at[..], &key].concat();
    check(&away, 1, "no answer from http://127.0.0.1:1");
}
