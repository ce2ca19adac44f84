//! From command to timeline over a store whose commits fail at random: a command that was answered
//! took effect exactly once (G1, G7), also where the outcome of its commit was unknown and it ran
//! again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::Rng as _;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use whimbrel_node::apply::remote::{self, Applied};
use whimbrel_node::apply::shown;
use whimbrel_node::batcher::{Batchers, WriteError, Written, commit};
use whimbrel_node::clock::unix_ms;
use whimbrel_node::command::{Action, Answer, Command, Refusal};
use whimbrel_node::config::Limits;
use whimbrel_node::digest::Digests;
use whimbrel_node::execute::Context;
use whimbrel_node::gate::WriteGate;
use whimbrel_node::identity::Identity;
use whimbrel_node::metrics::Metrics;
use whimbrel_node::store::embedded::Options;
use whimbrel_node::store::faulty::Faults;
use whimbrel_node::store::{Embedded, Faulty, RangeOptions, RunOptions, Store, keys};
use whimbrel_node::tailer::{TailerContext, Tailers};
use whimbrel_replication::clock::Clock;
use whimbrel_replication::id::{
    ClusterId, ConversationId, MessageId, NodeId, Origin, RegionId, ShardId, Stamp,
};
use whimbrel_replication::op::{Batch, ConversationKind, FORMAT, FORMAT_MIN};

pub(crate) const SHARDS: u16 = 2;
const USERS: usize = 8;
const POSTS_PER_USER: usize = 30;

fn seed() -> u64 {
    let given = std::env::var("WHIMBREL_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| rand::rng().random());
    println!("WHIMBREL_SEED={seed}");
    seed
}

/// One node of a region, without its listeners and links.
pub(crate) struct Region {
    pub(crate) store: Store,
    pub(crate) context: Context,
    pub(crate) identity: Arc<Identity>,
    pub(crate) batchers: Batchers,
    pub(crate) tailers: Tailers,
    pub(crate) stop: CancellationToken,
    /// Removed with it.
    dir: Option<TempDir>,
}

impl Region {
    /// With a store of its own that does not fail.
    pub(crate) async fn alone() -> Self {
        Self::start(1, None).await
    }

    pub(crate) async fn start(number: u16, faults: Option<(Faults, u64)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let embedded = Embedded::open(dir.path(), Options::default()).unwrap();
        let mut store = Store::Embedded(embedded);
        if let Some((faults, seed)) = faults {
            store = Store::Faulty(Faulty::new(store, faults, seed));
        }
        let mut region = Self::over(store, number, NodeId(1)).await;
        region.dir = Some(dir);
        region
    }

    /// A node of a region on a store that others may use too.
    pub(crate) async fn over(store: Store, number: u16, node: NodeId) -> Self {
        let names = [
            (RegionId(1), "eu".to_owned()),
            (RegionId(2), "us".to_owned()),
        ];
        let identity = Identity {
            cluster: ClusterId::from_bytes([7; 16]),
            shards: SHARDS,
            origin: Origin {
                region: RegionId(number),
                incarnation: 1,
            },
            node,
            regions: names.into(),
        };
        Self::of(store, identity).await
    }

    /// A node with an identity that it was given.
    pub(crate) async fn of(store: Store, identity: Identity) -> Self {
        // As at the start of a node, unless that has done it.
        let life = identity.origin.incarnation;
        loop {
            let begun = store.run(RunOptions::default(), move |tx| async move {
                tx.set(&keys::meta("incarnation"), &life.to_be_bytes());
                Ok(())
            });
            match begun.await {
                Ok(_) => break,
                Err(error) => assert!(error.to_string().contains("unknown"), "{error}"),
            }
        }
        let identity = Arc::new(identity);
        let context = Context {
            identity: identity.clone(),
            clock: Arc::new(Mutex::new(
                Clock::new(None, Duration::from_millis(500)).unwrap(),
            )),
            limits: Limits::default(),
            edited_lately: Arc::default(),
            level: Arc::default(),
        };
        let metrics = Arc::new(Metrics::new("test", &store).unwrap());
        let (appended, mut received) = mpsc::channel(16);
        tokio::spawn(async move { while received.recv().await.is_some() {} });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let tailer_context = TailerContext {
            store: store.clone(),
            identity: identity.clone(),
            digests: Arc::new(Digests::default()),
            metrics: metrics.clone(),
            appended,
            shutdown: stop.clone(),
        };
        let tailers = Tailers::start(&tailer_context, &tasks).await.unwrap();
        let gate = Arc::new(WriteGate::default());
        assert!(gate.open());
        let batchers = Batchers::start(&store, &context, &tailers, &metrics, gate, &tasks);
        Self {
            store,
            context,
            identity,
            batchers,
            tailers,
            stop,
            dir: None,
        }
    }

    /// A commit whose outcome stays unknown is no answer: the caller asks again, with its key.
    pub(crate) async fn write(
        &self,
        user: &str,
        key: &str,
        action: Action,
        at: ConversationId,
    ) -> Written {
        loop {
            match self.try_write(user, key, action.clone(), at).await {
                Ok(written) => return written,
                Err(error) => assert!(error.to_string().contains("unknown"), "{error}"),
            }
        }
    }

    pub(crate) async fn try_write(
        &self,
        user: &str,
        key: &str,
        action: Action,
        at: ConversationId,
    ) -> Result<Written, WriteError> {
        let command = Command {
            actor: user.to_owned(),
            is_admin: false,
            key: key.to_owned(),
            conversation: at,
            action,
            trace: None,
        };
        self.batchers.write(SHARDS, command).await
    }

    pub(crate) async fn timeline(&self, conversation: ConversationId) -> Vec<MessageId> {
        let scope = self.identity.scope(conversation);
        let read = |tx: Arc<whimbrel_node::store::Transaction>| async move {
            let (begin, end) = scope.timeline_between(None, None);
            tx.range_all(&begin, &end, RangeOptions::default()).await
        };
        let rows = self.store.read(RunOptions::default(), read).await.unwrap();
        rows.iter()
            .map(|(_, value)| shown(value).unwrap().0)
            .collect()
    }

    pub(crate) async fn log(&self, shard: ShardId) -> Vec<(Stamp, bytes::Bytes)> {
        let (begin, end) = keys::log_all(shard, self.identity.origin);
        let read = |tx: Arc<whimbrel_node::store::Transaction>| {
            let (begin, end) = (begin.clone(), end.clone());
            async move { tx.range_all(&begin, &end, RangeOptions::default()).await }
        };
        let rows = self.store.read(RunOptions::default(), read).await.unwrap();
        rows.into_iter()
            .map(|(key, value)| (keys::stamp_of(&key).unwrap().stamp, value))
            .collect()
    }
}

impl Region {
    /// No batch was appended twice: every post stands in the log once.
    pub(crate) async fn posts_stand_in_the_log_once(&self, conversation: ConversationId) {
        let mut posted: BTreeMap<MessageId, usize> = BTreeMap::new();
        for (_, bytes) in self.log(conversation.shard(SHARDS)).await {
            for op in whimbrel_replication::op::Batch::decode(&bytes).unwrap().ops {
                if let whimbrel_replication::op::OpKind::Posted { message, .. } = op.kind {
                    *posted.entry(message).or_default() += 1;
                }
            }
        }
        assert!(!posted.is_empty());
        assert!(
            posted.values().all(|times| *times == 1),
            "a post stands in the log twice"
        );
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) fn post(
    conversation: &ConversationId,
    user: &str,
    key: &str,
    text: &str,
) -> (MessageId, Action) {
    let message = MessageId::derive(conversation, user, key, text, None, None);
    let (text, reply_to, sent_at_unix_ms) = (text.to_owned(), None, None);
    (
        message,
        Action::Post {
            message,
            text,
            reply_to,
            sent_at_unix_ms,
        },
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn g1_g7_answered_commands_took_effect_once_over_a_faulty_store() {
    let faults = Faults {
        conflict: 0.1,
        too_old: 0.05,
        unknown_committed: 0.15,
        unknown_lost: 0.15,
    };
    let region = Arc::new(Region::start(1, Some((faults, seed()))).await);
    let conversation = ConversationId::created("user0", "room");
    let users: Vec<String> = (0..USERS).map(|n| format!("user{n}")).collect();
    let create = Action::Create {
        kind: ConversationKind::Group,
        title: None,
        topic: None,
        members: users[1..].to_vec(),
    };
    region.write("user0", "room", create, conversation).await;

    let mut writers = tokio::task::JoinSet::new();
    for user in users {
        let region = region.clone();
        writers.spawn(async move {
            let mut acked = Vec::new();
            for n in 0..POSTS_PER_USER {
                let (key, text) = (format!("key{n}"), format!("{user} says {n}"));
                let (message, action) = post(&conversation, &user, &key, &text);
                let written = region.write(&user, &key, action, conversation).await;
                let Answer::Message(shown) = &written.done.answer else {
                    panic!("a post was answered by {:?}", written.done.answer);
                };
                assert_eq!(shown.id, message.to_string());
                assert_eq!(
                    shown.text.as_deref(),
                    Some(text.as_str()),
                    "another one's answer"
                );
                acked.push(message);
            }
            acked
        });
    }
    let acked: Vec<MessageId> = writers.join_all().await.into_iter().flatten().collect();

    let timeline = region.timeline(conversation).await;
    let once: BTreeSet<&MessageId> = timeline.iter().collect();
    assert_eq!(once.len(), timeline.len(), "a message stands twice");
    assert_eq!(
        once,
        acked.iter().collect(),
        "the timeline is what was acked"
    );

    region.posts_stand_in_the_log_once(conversation).await;
}

#[tokio::test]
async fn one_refused_command_does_not_fail_its_batch() {
    let region = Region::start(1, None).await;
    let conversation = ConversationId::created("ada", "room");
    let create = Action::Create {
        kind: ConversationKind::Group,
        title: None,
        topic: None,
        members: vec!["bob".to_owned()],
    };
    region.write("ada", "room", create, conversation).await;
    let command = |user: &str, key: &str| Command {
        actor: user.to_owned(),
        is_admin: false,
        key: key.to_owned(),
        conversation,
        action: post(&conversation, user, key, "hi").1,
        trace: None,
    };
    // All are queued before the batcher's task runs: they share a batch.
    let (good, stranger, also_good) = tokio::join!(
        region.batchers.write(SHARDS, command("ada", "1")),
        region.batchers.write(SHARDS, command("eve", "2")),
        region.batchers.write(SHARDS, command("bob", "3")),
    );
    let stamp = |written: Written| written.done.places[0].at.stamp;
    assert_eq!(stamp(good.unwrap()), stamp(also_good.unwrap()), "one batch");
    assert!(
        stranger
            .unwrap_err()
            .to_string()
            .contains("no such conversation")
    );
    assert_eq!(region.timeline(conversation).await.len(), 2);
}

#[tokio::test]
async fn g1_batches_of_another_region_apply_once_and_in_order() {
    let (eu, us) = (Region::start(1, None).await, Region::start(2, None).await);
    let conversation = ConversationId::created("ada", "room");
    let create = Action::Create {
        kind: ConversationKind::Channel,
        title: None,
        topic: None,
        members: vec![],
    };
    eu.write("ada", "room", create, conversation).await;
    for n in 0..3 {
        let (key, text) = (format!("{n}"), format!("text {n}"));
        let action = post(&conversation, "ada", &key, &text).1;
        eu.write("ada", &key, action, conversation).await;
    }
    let shard = conversation.shard(SHARDS);
    let log = eu.log(shard).await;
    let (first, rest) = log.split_at(2);
    let origin = eu.identity.origin;
    let apply = async |from: Stamp, batches: &[(Stamp, bytes::Bytes)]| {
        let batches = batches.to_vec();
        let applied =
            remote::apply(&us.store, &us.context, None, shard, origin, from, batches).await;
        match applied.unwrap() {
            Applied::At(at) => at,
            Applied::Stopped { reason, .. } => panic!("{reason}"),
        }
    };
    // Too early, then right, then again: only the one at the cursor takes effect.
    assert_eq!(apply(first[1].0, rest).await, Stamp::MIN);
    assert_eq!(apply(Stamp::MIN, first).await, first[1].0);
    assert_eq!(apply(Stamp::MIN, first).await, first[1].0);
    assert_eq!(apply(first[1].0, rest).await, log.last().unwrap().0);
    assert_eq!(
        us.timeline(conversation).await,
        eu.timeline(conversation).await
    );

    us.tailers.wake(shard, None);
    let wanted = eu.tailers.held_all();
    us.tailers
        .wait_for(&wanted, Duration::from_secs(10))
        .await
        .unwrap();
    let digest = async |region: &Region| {
        let scope = region.identity.scope(conversation);
        Digests::default()
            .conversation(&region.store, scope)
            .await
            .unwrap()
    };
    assert_eq!(digest(&eu).await, digest(&us).await, "G4");
}

/// What a batch reads before its commands must not hide what an earlier one of them wrote.
#[tokio::test]
async fn g7_commands_of_one_batch_see_each_other() {
    let eu = Region::start(1, None).await;
    let conversation = ConversationId::created("ada", "room");
    let create = Action::Create {
        kind: ConversationKind::Channel,
        title: None,
        topic: None,
        members: vec![],
    };
    eu.write("ada", "room", create, conversation).await;
    let command = |key: &str, text: &str| Command {
        actor: "ada".to_owned(),
        is_admin: false,
        key: key.to_owned(),
        conversation,
        action: post(&conversation, "ada", key, text).1,
        trace: None,
    };
    let commands = [
        command("one", "text"),
        command("one", "text"),
        command("one", "other text"),
        command("two", "text"),
    ];
    let batch = commit::Batch {
        shard: conversation.shard(SHARDS),
        number: 1_000,
        commands: commands.into(),
    };
    let committed = commit::commit(&eu.store, &eu.context, batch, unix_ms, |_| None).await;
    let ends: Vec<_> = committed
        .unwrap()
        .written
        .into_iter()
        .map(|end| end.map(|written| written.done.replayed))
        .collect();
    assert_eq!(
        ends,
        [Ok(false), Ok(true), Err(Refusal::Mismatch), Ok(false)]
    );
    assert_eq!(eu.timeline(conversation).await.len(), 2);
}

/// G19: what some region may not know is refused as a whole, and tried again it is taken once all do;
/// batches are written in the format that all read.
#[tokio::test]
async fn g19_nothing_is_written_that_a_region_may_not_know() {
    let region = Region::start(1, None).await;
    let conversation = ConversationId::created("ada", "room");
    let level = region.context.level.clone();
    let create = Action::Create {
        kind: ConversationKind::Group,
        title: None,
        topic: None,
        members: vec![],
    };
    level.set(FORMAT_MIN - 1);
    let refused = region.try_write("ada", "room", create.clone(), conversation);
    let error = refused.await.unwrap_err();
    assert!(error.to_string().contains("not all regions"), "{error}");
    let shard = conversation.shard(SHARDS);
    assert_eq!(region.log(shard).await, []);
    assert_eq!(region.timeline(conversation).await, []);

    let mut expected = Vec::new();
    for format in FORMAT_MIN..=FORMAT {
        level.set(format);
        let action = if expected.is_empty() {
            create.clone()
        } else {
            post(&conversation, "ada", "post", "hi").1
        };
        let key = format!("key {format}");
        region
            .try_write("ada", &key, action, conversation)
            .await
            .unwrap();
        expected.push(format);
    }
    let log = region.log(shard).await;
    let formats = log
        .iter()
        .map(|(_, bytes)| Batch::format_of(bytes).unwrap());
    assert_eq!(formats.collect::<Vec<_>>(), expected);
}
