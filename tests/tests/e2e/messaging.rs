//! What users do with conversations and messages.

use std::future::IntoFuture as _;
use std::time::Duration;

use whimbrel_client::Ack;
use whimbrel_client::api::{
    ChangeConversation, ConversationKind, CreateConversation, Event, EventKind, Membership,
    PostMessage, ProblemCode, Role,
};

use crate::harness::{
    Cluster, channel, events_until, group, http, say, text, texts, unread, walk_back, walk_forward,
};
use crate::wait::{ensure, until, within};

#[tokio::test(flavor = "multi_thread")]
async fn messages_from_post_to_redaction() {
    let cluster = Cluster::of(&["eu"]).await;
    let (ana, ben) = (cluster.client("eu", "ana"), cluster.client("eu", "ben"));
    let id = group(&ana, &["ben"]).await;

    let first = say(&ana, &id, "Hello @ben").await;
    assert_eq!(first.acked_by, ["eu"]);
    let first = first.message;
    assert_eq!(
        (first.sender.as_str(), first.region.as_str()),
        ("ana", "eu")
    );
    assert_eq!(first.mentions, ["ben"]);
    assert!(!first.edited && !first.merged && !first.redacted);

    let reply = PostMessage {
        reply_to: Some(first.id.clone()),
        ..text("Hello ana")
    };
    let reply = ben.post(&id, &reply).await.unwrap().value.message;
    assert_eq!(reply.reply_to.as_deref(), Some(first.id.as_str()));
    assert!(first.position < reply.position);

    ben.react(&id, &first.id, "👍").await.unwrap();
    ana.react(&id, &first.id, "👍").await.unwrap();
    ana.react(&id, &first.id, "👀").await.unwrap();
    ana.unreact(&id, &first.id, "👀").await.unwrap();
    let seen = |client: &whimbrel_client::Client| {
        let call = client.message(&id, &first.id);
        async move { call.await.unwrap().value }
    };
    assert_eq!(seen(&ana).await.reactions["👍"].count, 2);
    assert_eq!(seen(&ana).await.reactions.len(), 1);
    ana.unreact(&id, &first.id, "👍").await.unwrap();
    assert!(!seen(&ana).await.reactions["👍"].me);
    assert!(seen(&ben).await.reactions["👍"].me);

    let edited = ana.edit(&id, &first.id, "Good morning", &first.revision);
    let edited = edited.await.unwrap().value;
    assert!(edited.edited && !edited.merged);
    assert_ne!(edited.revision, first.revision);
    assert!(edited.mentions.is_empty());
    let history = ben.history(&id, &first.id).await.unwrap();
    let versions = &history.versions;
    assert_eq!(versions.len(), 2);
    assert_eq!(versions[0].text, "Hello @ben");
    assert_eq!(versions[1].text, "Good morning");
    assert_eq!(versions[1].revision, edited.revision);
    assert_eq!(versions[1].parents, [versions[0].revision.clone()]);

    ana.redact(&id, &first.id).await.unwrap();
    ana.redact(&id, &first.id).await.unwrap();
    let tombstone = seen(&ben).await;
    assert!(tombstone.redacted && tombstone.text.is_none() && tombstone.reactions.is_empty());
    let page = ben.messages(&id).await.unwrap();
    assert_eq!(texts(&page.messages), ["Hello ana"]);
    assert_eq!(page.messages.len(), 2);
    let late = ana
        .edit(&id, &first.id, "Back again", &edited.revision)
        .await;
    assert_eq!(late.unwrap_err().code(), Some(ProblemCode::Redacted));
    let gone = ben.history(&id, &first.id).await;
    if let Ok(history) = gone {
        let left = history.versions.iter().find(|v| !v.text.is_empty());
        assert!(left.is_none(), "a redacted text is gone: {left:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_and_their_members() {
    let cluster = Cluster::of(&["eu"]).await;
    let [ana, ben, cleo] = ["ana", "ben", "cleo"].map(|user| cluster.client("eu", user));
    let code =
        |result: Result<_, whimbrel_client::Error>| result.map(|_: ()| ()).unwrap_err().code();

    let id = group(&ana, &["ben"]).await;
    let shown = ana.conversation(&id).await.unwrap().value;
    assert_eq!(
        (shown.role, shown.creator.as_str()),
        (Some(Role::Owner), "ana")
    );
    let hidden = cleo.conversation(&id).await.map(drop);
    assert_eq!(code(hidden), Some(ProblemCode::NotFound));
    let refused = ben.set_member(&id, "cleo", Role::Member).await.map(drop);
    assert_eq!(code(refused), Some(ProblemCode::Forbidden));
    ana.set_member(&id, "cleo", Role::Admin).await.unwrap();
    let title = ChangeConversation {
        title: Some("Plovers".to_owned()),
        topic: Some("What flew by".to_owned()),
    };
    cleo.change(&id, &title).await.unwrap();
    let shown = ben.conversation(&id).await.unwrap().value;
    assert_eq!(shown.title.as_deref(), Some("Plovers"));
    let refused = cleo.set_member(&id, "ben", Role::Admin).await.map(drop);
    assert_eq!(
        code(refused),
        Some(ProblemCode::Forbidden),
        "owners alone name admins"
    );

    // The last owner leaves only after naming another.
    let refused = ana.remove_member(&id, "ana").await.map(drop).unwrap_err();
    assert_eq!(refused.status(), Some(422), "{refused}");
    ana.set_member(&id, "cleo", Role::Owner).await.unwrap();
    ana.remove_member(&id, "ana").await.unwrap();
    assert_eq!(
        code(ana.conversation(&id).await.map(drop)),
        Some(ProblemCode::NotFound)
    );
    let members = cleo.members(&id).await.unwrap().value.members;
    let mut members: Vec<_> = members.iter().map(|m| (m.user.as_str(), m.role)).collect();
    members.sort_unstable_by_key(|(user, _)| user.to_owned());
    assert_eq!(members, [("ben", Role::Member), ("cleo", Role::Owner)]);

    // A channel is open, until one is banned.
    let open = channel(&ana).await;
    say(&ana, &open, "Welcome").await;
    assert_eq!(ben.conversation(&open).await.unwrap().role, None);
    assert_eq!(ben.messages(&open).await.unwrap().messages.len(), 1);
    let refused = ben.post(&open, &text("Too early")).await.map(drop);
    assert_eq!(code(refused), Some(ProblemCode::Forbidden));
    ben.set_member(&open, "ben", Role::Member).await.unwrap();
    say(&ben, &open, "Here I am").await;
    ben.remove_member(&open, "ben").await.unwrap();
    ben.set_member(&open, "ben", Role::Member).await.unwrap();
    ana.ban_member(&open, "ben").await.unwrap();
    let refused = ben.set_member(&open, "ben", Role::Member).await.map(drop);
    assert!(refused.is_err(), "who is banned does not come back alone");

    // There is one direct conversation of two users.
    let direct = |other: &str| CreateConversation {
        kind: ConversationKind::Direct,
        title: None,
        topic: None,
        members: vec![other.to_owned()],
    };
    let one = ana.create(&direct("ben")).await.unwrap().value.id;
    let two = ben.create(&direct("ana")).await.unwrap().value.id;
    assert_eq!(one, two);
    let refused = ana
        .set_member(&one, "cleo", Role::Member)
        .await
        .unwrap_err();
    assert_eq!(refused.status(), Some(422), "{refused}");

    // Newest activity first.
    say(&ana, &open, "Later").await;
    say(&ben, &one, "Latest").await;
    let list = ana.conversations().await.unwrap().value.conversations;
    let ids: Vec<&str> = list.iter().map(|c| c.conversation.id.as_str()).collect();
    assert_eq!(
        ids,
        [one.as_str(), open.as_str()],
        "left conversations are not listed"
    );
    let last = list[0].last_message.as_ref().unwrap();
    assert_eq!(last.text.as_deref(), Some("Latest"));
    let mut paged = Vec::new();
    let mut page: Option<String> = None;
    loop {
        let call = ana.conversations().limit(1);
        let call = match &page {
            Some(page) => call.page(page),
            None => call,
        };
        let list = call.await.unwrap().value;
        paged.extend(list.conversations.into_iter().map(|c| c.conversation.id));
        page = list.next;
        if page.is_none() {
            break;
        }
    }
    assert_eq!(paged, ids);
}

/// G11 in one region: pages join without gap and overlap, both ways.
#[tokio::test(flavor = "multi_thread")]
async fn g11_pages_join() {
    let cluster = Cluster::of(&["eu"]).await;
    let (ana, ben) = (cluster.client("eu", "ana"), cluster.client("eu", "ben"));
    let id = group(&ana, &["ben"]).await;
    assert!(walk_back(&ana, &id, 7).await.unwrap().is_empty());
    let mut posted = Vec::new();
    for i in 0..23 {
        posted.push(say(&ana, &id, &format!("message {i}")).await.message.id);
    }
    for limit in [1, 7, 23, 50] {
        for walked in [
            walk_back(&ana, &id, limit).await.unwrap(),
            walk_forward(&ana, &id, limit).await.unwrap(),
        ] {
            let ids: Vec<_> = walked.into_iter().map(|message| message.id).collect();
            assert_eq!(ids, posted, "pages of {limit}");
        }
    }
    // What stands above the page is not forgotten.
    let page = ben.messages(&id).limit(3).await.unwrap().value;
    assert_eq!(page.unread_older, 20);
    assert_eq!(ben.messages(&id).await.unwrap().unread_older, 0);
    assert_eq!(unread(&ben, &id).await, Ok(23));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_everything_that_happens() {
    let cluster = Cluster::of(&["eu"]).await;
    let [ana, ben] = ["ana", "ben"].map(|user| cluster.client("eu", user));
    let start = ben.sync(None).await.unwrap().value;
    assert!(start.events.is_empty());
    let mut stream = ben.stream(None).await.unwrap();

    let id = group(&ana, &["ben"]).await;
    let posted = say(&ana, &id, "one").await.message;
    ana.edit(&id, &posted.id, "two", &posted.revision)
        .await
        .unwrap();
    ana.react(&id, &posted.id, "👍").await.unwrap();
    let cursor = ana.messages(&id).await.unwrap().value.cursor;
    ana.mark_read(&id, &cursor).await.unwrap();
    let title = ChangeConversation {
        title: Some("Curlews".to_owned()),
        topic: None,
    };
    ana.change(&id, &title).await.unwrap();
    ana.redact(&id, &posted.id).await.unwrap();

    let redacted = |event: &Event| matches!(&event.kind, EventKind::MessageRedacted { .. });
    let events = events_until(&mut stream, redacted).await;
    let kinds: Vec<String> = events
        .iter()
        .filter(|event| event.conversation.as_deref() == Some(id.as_str()))
        .map(|event| {
            let json = serde_json::to_value(event).unwrap();
            json["type"].as_str().unwrap().to_owned()
        })
        .collect();
    for kind in [
        "member",
        "message.posted",
        "message.edited",
        "message.reacted",
        "receipt",
        "conversation",
        "message.redacted",
    ] {
        assert!(kinds.iter().any(|k| k == kind), "no {kind} in {kinds:?}");
    }

    // The long poll tells the same, and waits for what is to come.
    let mut token = start.token.clone();
    let mut polled = Vec::new();
    until("the same events by long poll", async || {
        let sync = ben.sync(Some(&token)).wait(Duration::from_secs(1)).await;
        let sync = sync.unwrap().value;
        token = sync.token;
        polled.extend(sync.events);
        ensure(polled.iter().any(redacted), format!("{polled:?}"))
    })
    .await;
    let tell = |events: &[Event]| -> Vec<_> {
        let of_group = |e: &&Event| e.conversation.as_deref() == Some(&id);
        let of_group = events.iter().filter(of_group);
        of_group.map(|e| e.cursor.clone()).collect()
    };
    assert_eq!(tell(&polled), tell(&events));

    // One's removal is the last event, and all that one is told who comes back later.
    ana.remove_member(&id, "ben").await.unwrap();
    say(&ana, &id, "Nobody hears me").await;
    let removed = |event: &Event| matches!(&event.kind, EventKind::Member { user, role: Membership::Left } if user == "ben");
    events_until(&mut stream, removed).await;
    let late = ben.sync(Some(&start.token)).await.unwrap().value.events;
    assert!(late.len() == 1 && removed(&late[0]), "{late:#?}");

    // Typing is told to those who listen, and to nobody later.
    let both = group(&ana, &["ben"]).await;
    let typing = tokio::spawn({
        let ana = ana.clone();
        let both = both.clone();
        async move {
            loop {
                ana.typing(&both).await.unwrap();
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    });
    let is_typing =
        |event: &Event| matches!(&event.kind, EventKind::Typing { user } if user == "ana");
    let events = events_until(&mut stream, is_typing).await;
    typing.abort();
    let after: Vec<_> = events
        .iter()
        .filter(|e| e.conversation.as_deref() == Some(&id))
        .collect();
    assert!(
        after.is_empty(),
        "one's removal is the last event: {after:?}"
    );
}

/// G14: a post may wait for more regions.
#[tokio::test(flavor = "multi_thread")]
async fn g14_posts_acked_by_more_regions() {
    let cluster = Cluster::start().await;
    let ana = cluster.client("eu", "ana");
    let id = group(&ana, &[]).await;
    for count in [2, 3] {
        let call = ana
            .post(&id, &text(format!("to {count}")))
            .ack(Ack::Regions(count));
        let mut acked = within("the ack", call.into_future())
            .await
            .unwrap()
            .value
            .acked_by;
        acked.sort_unstable();
        assert!(acked.len() >= usize::from(count), "{acked:?}");
        assert!(acked.iter().any(|region| region == "eu"), "{acked:?}");
    }
    for count in [0, 4] {
        let call = ana.post(&id, &text("to nobody")).ack(Ack::Regions(count));
        let refused = call.await.unwrap_err();
        assert_eq!(refused.status(), Some(422), "{refused}");
    }
    // With a link cut, what goes over the third region is known to have come.
    cluster.cut("eu", "us");
    let call = ana.post(&id, &text("to all")).ack(Ack::Regions(3));
    let acked = within("the ack", call.into_future()).await.unwrap();
    assert_eq!(acked.value.acked_by.len(), 3);
    until("little lag over the third region", async || {
        let lag = cluster
            .metric("eu", "whimbrel_replication_lag_batches")
            .await?;
        ensure(lag == 0.0, lag)
    })
    .await;
}

/// G14: who lacks a post is named, and what no other region has is listed until one has it.
#[tokio::test(flavor = "multi_thread")]
async fn g14_what_only_one_region_has_is_listed() {
    let cluster = Cluster::start().await;
    let ana = cluster.client("eu", "ana");
    let id = group(&ana, &[]).await;
    cluster.converged().await;
    let url = format!("{}/admin/v1/replication", cluster.node("eu").admin_url());
    let unreplicated = async || -> Result<serde_json::Value, reqwest::Error> {
        let answer = http().get(&url).send().await?.error_for_status()?;
        let mut all: serde_json::Value = answer.json().await?;
        Ok(all["unreplicated"].take())
    };
    until("everything to be held elsewhere", async || {
        let all = unreplicated().await.map_err(|error| error.to_string())?;
        ensure(all["ops"] == 0, all)
    })
    .await;

    cluster.cut_all();
    for nth in 0..3 {
        say(&ana, &id, &format!("alone {nth}")).await;
    }
    let body = text("to two");
    let post = || ana.post(&id, &body).ack(Ack::Regions(2)).key("one key");
    let refused = within("the refusal", post().into_future())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Some(ProblemCode::NotCaughtUp), "{refused}");
    let problem = refused.problem().expect("it has a code");
    assert_eq!(problem.acked_by, ["eu"]);
    assert_eq!(problem.waiting_for, ["us", "ap"]);
    let words = refused.to_string();
    assert!(
        words.contains("eu") && words.contains("2 regions"),
        "{words}"
    );
    let tail = unreplicated().await.unwrap();
    assert_eq!(tail["ops"], 4, "{tail}");
    assert_eq!(tail["complete"], true, "{tail}");
    assert!(tail["bytes"].as_u64() > Some(200), "{tail}");
    assert!(tail["oldest_seconds"].as_f64() > Some(4.0), "{tail}");
    let shards = tail["shards"].as_array().unwrap();
    assert_eq!(shards.len(), 1, "one conversation is in one shard: {tail}");
    assert!(
        shards[0]["after"].as_str() < shards[0]["to"].as_str(),
        "{tail}"
    );

    cluster.heal_all();
    let acked = until("the ack", async || post().await).await.value;
    assert!(acked.acked_by.len() > 1, "{acked:?}");
    until("nothing to be listed", async || {
        let all = unreplicated().await.map_err(|error| error.to_string())?;
        ensure(all["ops"] == 0, all)
    })
    .await;
}
