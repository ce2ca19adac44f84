//! Batches of a peer on their way into a node's store: each is applied as a whole, or refused with
//! a reason, and what is stored can be read again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use whimbrel_node::apply::remote::{self, Applied, LogPage};
use whimbrel_node::config::Limits;
use whimbrel_node::digest::Digests;
use whimbrel_node::execute::Context;
use whimbrel_node::identity::Identity;
use whimbrel_node::store::embedded::{Options, SimulatedDisk};
use whimbrel_node::store::{Embedded, Store};
use whimbrel_replication::clock::Clock;
use whimbrel_replication::id::{Hlc, NodeId, OpStamp, RegionId, Stamp};
use whimbrel_replication::limits::BATCH_BYTES_MAX;
use whimbrel_replication::op::{Batch, FORMAT_MIN, OpKind, Standing};

use super::input::{join, parts};
use super::sample;

/// Each part is a batch.
pub(crate) fn run(input: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without I/O");
    runtime.block_on(apply(input));
}

async fn apply(input: &[u8]) {
    let store = store();
    let shard = sample::conversation().shard(sample::SHARDS);
    let (context, origin) = (context(), sample::origin(2));
    let mut at = Stamp::MIN;
    for (number, part) in (1..).zip(parts(input)) {
        if part.len() > BATCH_BYTES_MAX {
            continue;
        }
        let Ok(mut batch) = Batch::decode(part) else {
            continue;
        };
        // A link takes batches of the log's origin only.
        batch.origin = origin;
        let stamp = Stamp::new(number, 0);
        let batches = vec![(stamp, batch.encode(FORMAT_MIN))];
        remote::observe(&context, &batches, sample::NOW_UNIX_MS);
        let applied = remote::apply(&store, &context, None, shard, origin, at, batches).await;
        match applied {
            Ok(Applied::At(to)) => {
                assert_eq!(to, stamp);
                at = to;
            }
            Ok(Applied::Stopped { at, reason }) => {
                assert_eq!(at, stamp);
                assert!(!reason.is_empty());
            }
            Err(error) => panic!("neither applied nor refused: {error}"),
        }
    }
    let log = remote::log_after(&store, shard, origin, Stamp::MIN, usize::MAX).await;
    let LogPage::Batches(log) = log.expect("the log is read") else {
        panic!("nobody has trimmed it");
    };
    assert_eq!(log.last().map_or(Stamp::MIN, |(stamp, _)| *stamp), at);
    let digests = Digests::default();
    let digests = digests.all(&store, &context.identity).await;
    digests.expect("what was stored is read");
}

/// A new one, in memory.
pub(super) fn store() -> Store {
    let disk = SimulatedDisk::default();
    let store = Embedded::simulated(&disk, Options::default());
    Store::Embedded(store.expect("a new store"))
}

pub(super) fn context() -> Context {
    let identity = Identity {
        cluster: sample::cluster(),
        shards: sample::SHARDS,
        origin: sample::origin(1),
        node: NodeId(1),
        regions: BTreeMap::from([1, 2].map(|n| (RegionId(n), format!("r{n}")))),
    };
    let now = Hlc::from_unix_ms(sample::NOW_UNIX_MS);
    let clock = Clock::new(Some(now), Duration::from_millis(500));
    Context {
        identity: Arc::new(identity),
        clock: Arc::new(Mutex::new(clock.expect("a drift bound"))),
        limits: Limits::default(),
        edited_lately: Arc::default(),
        level: Arc::default(),
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let kinds = sample::kinds();
    let one_by_one = (0..).zip(&kinds).map(|(number, kind)| {
        let batch = sample::batch(number, std::slice::from_ref(kind));
        batch.encode(FORMAT_MIN)
    });
    let posted = |message, text: &str| OpKind::Posted {
        message,
        text: text.to_owned(),
        reply_to: Some(message),
        sent_at_unix_ms: None,
    };
    let member = |user: String| OpKind::MemberSet {
        user,
        standing: Standing::Owner,
    };
    let (message, long) = (sample::message(), "x".repeat(60_000));
    let edited = OpKind::Edited {
        message,
        change: sample::edit("b", "the slow fox"),
    };
    let garbage = OpKind::Edited {
        message,
        change: Bytes::from_static(b"no change"),
    };
    let emoji = OpKind::Reacted {
        message,
        emoji: long.clone(),
        present: true,
    };
    let title = OpKind::ConversationChanged {
        title: Some(long.clone()),
        topic: None,
    };
    let marker = OpKind::Read {
        user: String::new(),
        marker: [(sample::origin(9), OpStamp::whole(Stamp::MAX))]
            .into_iter()
            .collect(),
    };
    let twice = [kinds.clone(), kinds.clone()].concat();
    let hostile = [
        // Edits before their post; posts of one message with two texts.
        vec![edited.clone(), posted(message, "a"), posted(message, &long)],
        vec![posted(message, "a"), garbage, edited],
        vec![member(long.clone())],
        vec![member("a\0b".to_owned()), marker],
        vec![posted(message, "a"), emoji],
        vec![title],
        vec![member(String::new()); 500],
        twice,
    ];
    let mut seeds = vec![
        join([sample::batch(0, &kinds).encode(FORMAT_MIN)]),
        join(one_by_one),
        join(
            kinds
                .iter()
                .rev()
                .map(|kind| sample::batch(0, std::slice::from_ref(kind)).encode(FORMAT_MIN)),
        ),
    ];
    let whole = |kinds: &Vec<OpKind>| join([sample::batch(0, kinds).encode(FORMAT_MIN)]);
    seeds.extend(hostile.iter().map(whole));
    seeds
}
