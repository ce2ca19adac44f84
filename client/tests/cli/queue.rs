use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use whimbrel_client::api::ProblemCode;
use whimbrel_client::queue::{MessageRef, Outcome, Reason, Ticket, Write};
use whimbrel_client::{Client, OfflineQueue, QueueError, RetryPolicy};

use crate::program::{folder, run_at, stderr, stdout, whimbrel};
use crate::stub::{self, NOBODY, Reply, Stub, message, problem};

/// A folder for a queue, with nothing in it.
fn empty(name: &str) -> PathBuf {
    let path = folder("queues").join(name);
    let _ = fs::remove_dir_all(&path);
    path
}

fn client(url: &str) -> Client {
    Client::builder()
        .region("stub", url)
        .only("stub")
        .token("t")
        .retry(RetryPolicy::NEVER)
        .build()
        .unwrap()
}

fn post(text: &str) -> Write {
    Write::Post {
        conversation: "c1".to_owned(),
        text: text.to_owned(),
        reply_to: None,
    }
}

fn reply(text: &str, to: Ticket) -> Write {
    Write::Post {
        conversation: "c1".to_owned(),
        text: text.to_owned(),
        reply_to: Some(to.into()),
    }
}

fn edit(message: impl Into<MessageRef>, text: &str, base: Option<&str>) -> Write {
    Write::Edit {
        conversation: "c1".to_owned(),
        message: message.into(),
        text: text.to_owned(),
        base: base.map(str::to_owned),
    }
}

fn react(message: Ticket) -> Write {
    Write::React {
        conversation: "c1".to_owned(),
        message: message.into(),
        emoji: "x".to_owned(),
    }
}

/// A region with a memory: the text of each message, by id. Ids are `m-TEXT` of the post; each edit
/// gives the next revision.
async fn remembering() -> (Stub, Arc<Mutex<Vec<String>>>) {
    let done = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&done);
    let mut revisions: BTreeMap<String, u32> = BTreeMap::new();
    let stub = stub::start(move |request| {
        let text = request.body["text"].as_str().unwrap_or_default();
        let parts: Vec<_> = request.path.split('/').skip(4).collect();
        let mut log = log.lock().unwrap();
        match (request.method.as_str(), &parts[..]) {
            ("POST", ["messages"]) => {
                let to = request.body["reply_to"].as_str().unwrap_or("-");
                log.push(format!("post {text} to {to}"));
                revisions.insert(format!("m-{text}"), 0);
                Reply::Json(201, message(&format!("m-{text}"), text))
            }
            ("PATCH", ["messages", id]) => {
                let base = request.body["base"].as_str().unwrap();
                log.push(format!("edit {id} to {text} on {base}"));
                let revision = revisions.entry((*id).to_owned()).or_default();
                *revision += 1;
                let mut message = message(id, text);
                message["revision"] = json!(format!("r{revision}"));
                Reply::Json(200, message)
            }
            (method, rest) => {
                log.push(format!("{method} {}", rest.join("/")));
                Reply::Json(204, Value::Null)
            }
        }
    })
    .await;
    (stub, done)
}

#[tokio::test]
async fn entries_keep_their_order_and_dependents_follow_their_message() {
    let folder = empty("order");
    let (stub, done) = remembering().await;
    {
        let queue = client(NOBODY).queue(&folder).unwrap();
        let one = queue.enqueue(post("one")).await.unwrap();
        queue.enqueue(edit(one, "two", None)).await.unwrap();
        queue.enqueue(edit(one, "three", None)).await.unwrap();
        queue
            .enqueue(edit("m-old", "new", Some("r7")))
            .await
            .unwrap();
        queue
            .enqueue(edit("m-old", "newer", Some("r7")))
            .await
            .unwrap();
        queue.enqueue(reply("answer", one)).await.unwrap();
        queue.enqueue(react(one)).await.unwrap();
        let flushed = queue.flush().await.unwrap();
        assert!(flushed.finished.is_empty() && flushed.stopped.is_some());
        assert_eq!(queue.waiting().len(), 7);
    }
    // Later, in another process.
    let queue = client(&stub.url).queue(&folder).unwrap();
    let one = queue.waiting()[0].0;
    let redact = Write::Redact {
        conversation: "c1".to_owned(),
        message: one.into(),
    };
    queue.enqueue(redact).await.unwrap();
    let flushed = queue.flush().await.unwrap();
    assert!(flushed.stopped.is_none(), "{:?}", flushed.stopped);
    assert!(queue.waiting().is_empty());
    let wanted = [
        "post one to -",
        "edit m-one to two on r0",
        "edit m-one to three on r1",
        "edit m-old to new on r7",
        "edit m-old to newer on r1",
        "post answer to m-one",
        "PUT messages/m-one/reactions/x",
        "DELETE messages/m-one",
    ];
    assert_eq!(*done.lock().unwrap(), wanted);
    assert_eq!(flushed.finished.len(), wanted.len());
    let Some(Outcome::Sent(sent)) = queue.outcome(one) else {
        panic!("it was sent");
    };
    assert_eq!(sent.message.as_deref(), Some("m-one"));
    // Its ticket still names the message; no other entry ever gets it.
    let next = queue.enqueue(react(one)).await.unwrap();
    assert_eq!(next.to_string(), "9");
}

#[tokio::test]
async fn an_edit_is_made_on_the_one_before_it_and_not_on_what_merged_with_that() {
    let folder = empty("merged");
    let bases = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&bases);
    let stub = stub::start(move |request| {
        if request.path.ends_with("/history") {
            let version = |revision: &str, text: &str| {
                json!({"revision": revision, "text": text, "author": "ana",
                       "at": "2026-01-02T03:04:05.678Z", "parents": []})
            };
            let versions = [
                version("r0", "x"),
                version("own", "first"),
                version("other", "y"),
            ];
            return Reply::Json(200, json!({"versions": versions, "merged": true}));
        }
        let mut message = message("m1", "first, merged with another");
        message["revision"] = json!("own-other");
        seen.lock().unwrap().push(request.body["base"].clone());
        Reply::Json(200, message)
    })
    .await;
    let queue = client(&stub.url).queue(&folder).unwrap();
    queue
        .enqueue(edit("m1", "first", Some("r0")))
        .await
        .unwrap();
    queue
        .enqueue(edit("m1", "second", Some("r0")))
        .await
        .unwrap();
    assert!(queue.flush().await.unwrap().stopped.is_none());
    assert_eq!(*bases.lock().unwrap(), ["r0", "own"]);
}

#[tokio::test]
async fn what_is_refused_fails_with_its_dependents_and_the_rest_goes_on() {
    let folder = empty("refused");
    let stub = stub::start(|request| match request.body["text"].as_str() {
        Some("refused") => problem(422, "invalid"),
        _ => Reply::Json(201, message("m1", "hi")),
    })
    .await;
    let failed = {
        let queue = client(&stub.url).queue(&folder).unwrap();
        let refused = queue.enqueue(post("refused")).await.unwrap();
        let reply = queue.enqueue(reply("answer", refused)).await.unwrap();
        let on_reply = queue.enqueue(edit(reply, "more", None)).await.unwrap();
        let fine = queue.enqueue(post("hi")).await.unwrap();
        let flushed = queue.flush().await.unwrap();
        let tickets: Vec<_> = flushed.finished.iter().map(|(ticket, _)| *ticket).collect();
        assert_eq!(tickets, [refused, reply, on_reply, fine]);
        assert!(matches!(queue.outcome(fine), Some(Outcome::Sent(_))));
        let failed = queue.failed();
        let Reason::Refused(problem) = &failed[0].reason else {
            panic!("{failed:?}");
        };
        assert_eq!(problem.code, ProblemCode::Invalid);
        assert_eq!(failed[1].reason, Reason::Dependent(refused));
        assert_eq!(failed[2].reason, Reason::Dependent(reply));
        assert_eq!(failed[0].write, post("refused"));
        failed
    };
    assert_eq!(stub.asked.lock().unwrap().len(), 2);
    let queue = client(&stub.url).queue(&folder).unwrap();
    assert_eq!(queue.failed(), failed);
    for failed in &failed {
        queue.clear(failed.ticket).await.unwrap();
    }
    drop(queue);
    assert!(
        client(&stub.url)
            .queue(&folder)
            .unwrap()
            .failed()
            .is_empty()
    );
}

#[tokio::test]
async fn what_may_pass_stops_the_queue_and_fails_nothing() {
    let folder = empty("stopped");
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let stub = stub::start(move |request| {
        let is_reaction = request.path.ends_with("/reactions/x");
        match counted.fetch_add(1, Ordering::SeqCst) {
            0 => problem(401, "unauthenticated"),
            1 => problem(429, "rate_limited"),
            2 => problem(503, "overloaded"),
            3 => Reply::Hangup,
            // The message is posted, and unknown where the next call goes.
            5 => problem(404, "not_found"),
            _ if is_reaction => Reply::Json(204, Value::Null),
            _ => Reply::Json(201, message("m1", "hi")),
        }
    })
    .await;
    let queue = client(&stub.url).queue(&folder).unwrap();
    let posted = queue.enqueue(post("hi")).await.unwrap();
    queue.enqueue(react(posted)).await.unwrap();
    for _ in 0..4 {
        let flushed = queue.flush().await.unwrap();
        assert!(flushed.finished.is_empty() && flushed.stopped.is_some());
    }
    let flushed = queue.flush().await.unwrap();
    assert_eq!((flushed.finished.len(), queue.waiting().len()), (1, 1));
    assert!(queue.flush().await.unwrap().stopped.is_none());
    assert!(queue.failed().is_empty());
    let asked = stub.asked.lock().unwrap();
    let keys: BTreeSet<_> = asked.iter().map(|call| call.2.clone().unwrap()).collect();
    assert_eq!((asked.len(), keys.len()), (7, 2));
}

#[tokio::test]
async fn a_torn_line_is_cut_off_and_the_queue_goes_on() {
    let folder = empty("torn");
    let queue = client(NOBODY).queue(&folder).unwrap();
    queue.enqueue(post("one")).await.unwrap();
    queue.enqueue(post("two")).await.unwrap();
    drop(queue);
    let file = folder.join("queue.jsonl");
    let whole = fs::read(&file).unwrap();
    for torn in 1..60 {
        fs::write(&file, &whole[..whole.len() - torn]).unwrap();
        let queue = client(NOBODY).queue(&folder).unwrap();
        assert_eq!(queue.waiting().len(), 1, "{torn}");
        queue.enqueue(post("three")).await.unwrap();
        drop(queue);
        let queue = client(NOBODY).queue(&folder).unwrap();
        assert_eq!(queue.waiting()[1].1, post("three"), "{torn}");
    }
    let damaged = String::from_utf8(whole).unwrap().replacen("one", "\"", 1);
    fs::write(&file, damaged).unwrap();
    let error = client(NOBODY).queue(&folder).unwrap_err();
    assert!(
        matches!(error, QueueError::Damaged { line: 2, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn one_at_a_time() {
    let folder = empty("locked");
    let queue = client(NOBODY).queue(&folder).unwrap();
    let error = OfflineQueue::open(&folder, client(NOBODY)).unwrap_err();
    assert!(matches!(error, QueueError::InUse { .. }), "{error}");
    let mut command = whimbrel(&[
        "flush",
        folder.to_str().unwrap(),
        "--urls",
        NOBODY,
        "--token",
        "t",
    ]);
    // The program waits for its turn.
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = told.next().unwrap().unwrap();
    assert!(line.contains("waiting for it"), "{line}");
    drop(queue);
    let line = told.next().unwrap().unwrap();
    assert!(line.contains("nothing waits"), "{line}");
    assert!(child.wait().unwrap().success());
    OfflineQueue::open(&folder, client(NOBODY)).unwrap();
}

#[tokio::test]
async fn the_file_does_not_grow_for_ever() {
    let folder = empty("long");
    let stub = stub::start(|_| problem(422, "invalid")).await;
    let queue = client(&stub.url).queue(&folder).unwrap();
    let mark = || Write::MarkRead {
        conversation: "c1".to_owned(),
        cursor: "x".to_owned(),
    };
    let lines = || {
        let text = fs::read_to_string(folder.join("queue.jsonl")).unwrap();
        text.lines().count()
    };
    let mut most = 0;
    for _ in 0..1_000 {
        // Nothing of it stays once it is cleared.
        let ticket = queue.enqueue(mark()).await.unwrap();
        queue.flush().await.unwrap();
        queue.clear(ticket).await.unwrap();
        most = most.max(lines());
    }
    assert!((200..400).contains(&most), "{most} lines");
}

#[tokio::test]
async fn a_crash_between_sending_and_taking_note_doubles_nothing() {
    const ENTRIES: usize = 5;
    let folder = empty("killed");
    let (is_slow, reached) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(AtomicBool::new(false)),
    );
    let (slow, reach) = (Arc::clone(&is_slow), Arc::clone(&reached));
    let posted = Arc::new(Mutex::new(BTreeMap::new()));
    let (posts, mut calls) = (Arc::clone(&posted), 0);
    let stub = stub::start(move |request| {
        let key = request.headers["idempotency-key"].clone();
        let text = request.body["text"].as_str().unwrap().to_owned();
        calls += 1;
        let is_new = posts.lock().unwrap().insert(key, text.clone()).is_none();
        if calls == 3 && slow.load(Ordering::SeqCst) {
            // It is done here, and the client never hears of it.
            reach.store(true, Ordering::SeqCst);
            return Reply::Silence;
        }
        let reply = if is_new { Reply::Json } else { Reply::Replayed };
        reply(201, message(&format!("m-{text}"), &text))
    })
    .await;
    {
        let queue = client(NOBODY).queue(&folder).unwrap();
        for n in 0..ENTRIES {
            queue.enqueue(post(&n.to_string())).await.unwrap();
        }
    }
    let name = folder.to_str().unwrap().to_owned();
    let mut flush = whimbrel(&["flush", &name, "--urls", &stub.url, "--token", "t"]);
    flush.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = flush.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !reached.load(Ordering::SeqCst) {
        assert!(Instant::now() < deadline, "the third post never came");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(posted.lock().unwrap().len(), 3);
    is_slow.store(false, Ordering::SeqCst);

    let output = run_at(&stub, &["flush", &name]).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output), "3  m-2\n4  m-3\n5  m-4\n");
    let texts: Vec<_> = {
        let posted = posted.lock().unwrap();
        posted.values().cloned().collect()
    };
    let distinct: BTreeSet<_> = texts.iter().collect();
    assert_eq!((texts.len(), distinct.len()), (ENTRIES, ENTRIES));
}

#[tokio::test]
async fn the_program_keeps_what_it_cannot_send() {
    let folder = empty("program");
    let name = folder.to_str().unwrap().to_owned();
    let offline = |args: &[&str]| -> Command {
        let mut command = whimbrel(args);
        command.args(["--queue", &name, "--urls", NOBODY, "--token", "t"]);
        command
    };
    let output = offline(&["send", "c1", "one"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
    assert!(
        stderr(&output).contains("whimbrel flush"),
        "{}",
        stderr(&output)
    );

    let stub = stub::start(|request| match request.body["text"].as_str().unwrap() {
        "refused" => problem(422, "invalid"),
        text => Reply::Json(201, message(&format!("m-{text}"), text)),
    })
    .await;
    let output = run_at(&stub, &["send", "c1", "two", "--queue", &name]).await;
    assert_eq!(stdout(&output), "m-two\n", "{}", stderr(&output));
    let texts: Vec<_> = stub
        .asked
        .lock()
        .unwrap()
        .iter()
        .map(|call| call.1.clone())
        .collect();
    assert_eq!(texts.len(), 2, "the first went before it");

    let output = run_at(&stub, &["send", "c1", "refused", "--queue", &name]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("422 invalid"),
        "{}",
        stderr(&output)
    );
    let output = run_at(&stub, &["flush", &name, "--clear"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stdout(&output).starts_with("3  failed: because"),
        "{}",
        stdout(&output)
    );
    let output = run_at(&stub, &["flush", &name, "--json"]).await;
    assert!(output.status.success());
    let wanted = "{\"failed\":[],\"finished\":[],\"waiting\":0}\n";
    assert_eq!(stdout(&output), wanted);
}
