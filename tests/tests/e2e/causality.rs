//! G9, G10: what refers to something never shows before it, and one reads what one wrote.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use whimbrel_client::api::{EventKind, Message, PostMessage, ProblemCode};

use crate::harness::{Cluster, REGIONS, group, http, next, say, text};
use crate::wait::{ensure, until, within};

/// G9: a cursor from one region makes the answer of another include what was written.
#[tokio::test(flavor = "multi_thread")]
async fn g9_one_reads_what_one_wrote_elsewhere() {
    let cluster = Cluster::start().await;
    let ana = cluster.everywhere("ana");
    let id = group(&ana[0], &[]).await;
    cluster.converged().await;
    for round in 0..30 {
        let (from, to) = (round % 3, (round + 1 + round / 3 % 2) % 3);
        let posted = ana[from]
            .post(&id, &text(format!("round {round}")))
            .await
            .unwrap();
        let cursor = posted.cursor.clone().expect("a write answers its cursor");
        let message = &posted.value.message;
        let page = ana[to].messages(&id).after(&cursor).await.unwrap();
        assert!(page.messages.contains(message), "round {round}");
        let covers = page.value.cursor;
        let one = ana[to]
            .message(&id, &message.id)
            .after(&cursor)
            .await
            .unwrap();
        assert_eq!(one.value, *message);
        let list = ana[from].conversations().after(&covers).await.unwrap();
        let last = list.conversations[0].last_message.as_ref().unwrap();
        assert_eq!(last.id, message.id);
    }
}

/// G9: several cursors go with one call, and one comes back for all of them, from writes too.
#[tokio::test(flavor = "multi_thread")]
async fn g9_cursors_are_joined_by_whoever_answers() {
    let cluster = Cluster::start().await;
    let ana = cluster.everywhere("ana");
    // In different shards, mostly; nothing gets from region to region.
    cluster.cut_all();
    let mut posts = Vec::new();
    for round in 0..6 {
        let client = &ana[round % 3];
        let id = group(client, &[]).await;
        let posted = client.post(&id, &text("hi")).await.unwrap();
        posts.push((id, posted.cursor.clone().unwrap(), posted.value.message.id));
    }
    let all: Vec<&str> = posts.iter().map(|(_, cursor, _)| cursor.as_str()).collect();
    let token = cluster.token("ana", None);
    let call = async |region: &str, method: reqwest::Method, path: &str, after: &str| {
        let url = format!("{}/v1/{path}", cluster.node(region).url());
        let mut request = http().request(method, url).bearer_auth(&token);
        if !after.is_empty() {
            request = request.header("whimbrel-after", after);
        }
        let answer = request
            .json(&serde_json::json!({"text": "ho"}))
            .send()
            .await;
        let answer = answer.unwrap().error_for_status().unwrap();
        let joined = answer.headers().get("whimbrel-joined");
        joined.map(|joined| joined.to_str().unwrap().to_owned())
    };
    // It was made in us.
    let reads = format!("conversations/{}/messages", posts[1].0);
    assert_eq!(call("us", reqwest::Method::GET, &reads, "").await, None);
    // A write waits for nothing, and gives one cursor for all.
    let joined = call("us", reqwest::Method::POST, &reads, &all.join(",")).await;
    let joined = joined.expect("it carried some");
    let read = ana[2].messages(&posts[2].0);
    let error = read.after(&joined).await.unwrap_err();
    let problem = error.problem().unwrap_or_else(|| panic!("{error}"));
    assert_eq!(problem.waiting_for, ["eu", "us"]);
    cluster.heal_all();
    cluster.converged().await;
    for (region, client) in REGIONS.iter().zip(&ana) {
        for after in [joined.clone(), all.join(", ")] {
            let again = call(region, reqwest::Method::GET, &reads, &after).await;
            assert!(again.is_some());
            for (id, _, message) in &posts {
                let page = client.messages(id).after(&after).await.unwrap();
                assert!(page.messages.iter().any(|m| m.id == *message), "{region}");
            }
        }
    }
}

/// G9: what cannot come is said, with what one can have instead; writes go on.
#[tokio::test(flavor = "multi_thread")]
async fn g9_what_is_missing_is_said() {
    let cluster = Cluster::start().await;
    let ana = cluster.everywhere("ana");
    let id = group(&ana[0], &[]).await;
    cluster.converged().await;
    let known = say(&ana[1], &id, "known").await.message.id;
    cluster.converged().await;
    cluster.cut_all();
    let posted = ana[0].post(&id, &text("only in eu")).await.unwrap();
    let cursor = posted.cursor.clone().unwrap();
    let read = ana[1].messages(&id);
    let error = read.clone().after(&cursor).await.unwrap_err();
    let problem = error.problem().unwrap_or_else(|| panic!("{error}"));
    assert_eq!(
        (problem.status, problem.code),
        (503, ProblemCode::NotCaughtUp)
    );
    assert_eq!(problem.waiting_for, ["eu"]);
    assert!(problem.retry_after_ms.is_some());
    let available = problem.available.clone().expect("a cursor to go on with");
    let page = read.clone().after(&available).await.unwrap();
    assert!(page.messages.iter().any(|message| message.id == known));

    // A write does not wait for what cannot come.
    let write = ana[1]
        .post(&id, &text("in us"))
        .after(&cursor)
        .await
        .unwrap();
    let own = read
        .clone()
        .after(write.cursor.as_ref().unwrap())
        .await
        .unwrap();
    assert!(own.messages.contains(&write.value.message));

    cluster.heal_all();
    let page = until("the missing part", async || {
        read.clone().after(&cursor).await
    })
    .await;
    assert!(page.messages.contains(&posted.value.message));
}

/// Whether everything that a message refers to is on the page, too.
fn check_page(messages: &[Message]) {
    let ids: BTreeSet<&str> = messages.iter().map(|message| message.id.as_str()).collect();
    for message in messages {
        if let Some(parent) = message.reply_to.as_deref() {
            assert!(
                ids.contains(parent),
                "a reply shows, and not what it answers"
            );
        }
    }
}

/// G10: eu and ap don't see each other; what us answers to eu reaches ap after what it answers.
#[tokio::test(flavor = "multi_thread")]
async fn g10_nothing_shows_before_what_it_refers_to() {
    const ROUNDS: usize = 15;
    let cluster = Cluster::start().await;
    let [ana, ana_us, _] = cluster.everywhere("ana");
    let (ben, cleo) = (cluster.client("us", "ben"), cluster.client("ap", "cleo"));
    let id = group(&ana, &["ben", "cleo"]).await;
    cluster.converged().await;
    cluster.cut("eu", "ap");
    let mut stream = cleo.stream(None).await.unwrap();

    let done = AtomicBool::new(false);
    let write = async {
        let mut last = None;
        for round in 0..ROUNDS {
            let parent = ana
                .post(&id, &text(format!("parent {round}")))
                .await
                .unwrap();
            let cursor = parent.cursor.clone().unwrap();
            let parent = parent.value.message;
            let there = ben.message(&id, &parent.id);
            until("the parent in us", async || {
                there.clone().after(&cursor).await
            })
            .await;
            let reply = PostMessage {
                reply_to: Some(parent.id.clone()),
                ..text(format!("reply {round}"))
            };
            ben.post(&id, &reply).await.unwrap();
            ben.react(&id, &parent.id, "👍").await.unwrap();
            let edited = format!("edited {round}");
            let edit = ana_us.edit(&id, &parent.id, &edited, &parent.revision);
            edit.await.unwrap();
            let page = ben.messages(&id).await.unwrap().value;
            ben.mark_read(&id, &page.cursor).await.unwrap();
            last = Some(
                ben.post(&id, &text(format!("end {round}")))
                    .await
                    .unwrap()
                    .value,
            );
        }
        done.store(true, Ordering::SeqCst);
        last.unwrap().message.id
    };
    let poll = async {
        let mut polls = 0;
        while !done.load(Ordering::SeqCst) {
            let page = cleo.messages(&id).limit(200).await.unwrap().value;
            check_page(&page.messages);
            polls += 1;
        }
        polls
    };
    let listen = async {
        let mut shown = BTreeSet::new();
        let mut ends = 0;
        while ends < ROUNDS {
            let event = next(&mut stream).await;
            match &event.kind {
                EventKind::MessagePosted { message } => {
                    if let Some(parent) = &message.reply_to {
                        assert!(shown.contains(parent), "a reply is told before its parent");
                    }
                    let text = message.text.as_deref().unwrap_or_default();
                    ends += usize::from(text.starts_with("end"));
                    shown.insert(message.id.clone());
                }
                EventKind::MessageEdited { message } | EventKind::MessageReacted { message } => {
                    assert!(
                        shown.contains(&message.id),
                        "told before its message: {message:?}"
                    );
                }
                EventKind::Receipt {
                    message: Some(message),
                    ..
                } => {
                    assert!(
                        shown.contains(message),
                        "a receipt is told before its message"
                    );
                }
                _ => {}
            }
        }
    };
    let all = Box::pin(async { tokio::join!(write, poll, listen) });
    let (last, polls, ()) = within("the rounds", all).await;
    println!("{polls} pages were read in ap");
    until("the last message in ap", async || {
        let page = cleo.messages(&id).limit(200).await.unwrap().value;
        check_page(&page.messages);
        ensure(page.messages.iter().any(|m| m.id == last), "not there yet")
    })
    .await;
    // All of it came over us.
    cluster.converged().await;
}
