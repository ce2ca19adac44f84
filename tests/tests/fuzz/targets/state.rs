//! What a peer answers to an audit: the state of a conversation, which is merged into what is here, and
//! digests. Rows are merged or refused with a reason, and what is stored can be read again.

use std::time::Duration;

use whimbrel_node::apply::remote::{self, Applied};
use whimbrel_node::audit::{self, DigestPage, Question, StatePage};
use whimbrel_node::digest::Digests;
use whimbrel_node::snapshot::MergeError;
use whimbrel_node::store::Store;
use whimbrel_replication::id::Stamp;
use whimbrel_replication::op::{FORMAT, OpKind};

use super::apply::{context, store};
use super::sample;

pub(crate) fn run(input: &[u8]) {
    runtime().block_on(take(input));
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().build();
    runtime.expect("a runtime without I/O")
}

async fn take(input: &[u8]) {
    let shard = sample::conversation().shard(sample::SHARDS);
    // What can be read comes out as it went in.
    if let Ok(page) = DigestPage::decode(shard, input) {
        assert_eq!(DigestPage::decode(shard, &page.encode(shard)), Ok(page));
    }
    let (store, context) = (store(), context());
    // A question may be anything as well.
    let identity = &context.identity;
    let answer = audit::answer(&store, identity, input, Duration::MAX).await;
    answer.expect("a store that works");

    let Ok(mut page) = StatePage::decode(shard, input) else {
        return;
    };
    apply(&store, &sample::kinds()[..2]).await;
    // A state that is ahead is refused at once.
    page.reaches = Default::default();
    let scope = identity.scope(sample::conversation());
    match audit::merge(&store, &context, None, scope, page).await {
        Ok(merged) => assert!(merged, "nothing is ahead"),
        Err(MergeError::Page(reason)) => assert!(!reason.is_empty()),
        Err(MergeError::Store(error)) => panic!("neither merged nor refused: {error}"),
    }
    let digests = Digests::default();
    let digests = digests.all(&store, identity).await;
    digests.expect("what was stored is read");
}

/// One batch of region 2 in which all of this happened.
async fn apply(store: &Store, kinds: &[OpKind]) {
    let (context, origin) = (context(), sample::origin(2));
    let shard = sample::conversation().shard(sample::SHARDS);
    let mut batch = sample::batch(0, kinds);
    batch.origin = origin;
    let batches = vec![(Stamp::new(1, 0), batch.encode(FORMAT))];
    let applied = remote::apply(store, &context, None, shard, origin, Stamp::MIN, batches).await;
    assert!(matches!(applied, Ok(Applied::At(_))), "{applied:?}");
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let conversation = sample::conversation();
    let shard = conversation.shard(sample::SHARDS);
    let questions = [
        Question::Digests { shard, after: None },
        Question::State {
            conversation,
            after: None,
        },
    ];
    let mut seeds: Vec<Vec<u8>> = questions.iter().map(|q| q.encode().to_vec()).collect();
    let answers = runtime().block_on(async {
        let (store, context) = (store(), context());
        apply(&store, &sample::kinds()).await;
        let mut answers = vec![];
        for question in &seeds {
            let answer = audit::answer(&store, &context.identity, question, Duration::MAX).await;
            answers.push(
                answer
                    .expect("a store that works")
                    .expect("an answer")
                    .to_vec(),
            );
        }
        answers
    });
    // Each row alone, too: what is changed in it is then half of the input.
    let page = StatePage::decode(shard, &answers[1]).expect("our own");
    assert!(page.rows.len() > 4, "{} rows", page.rows.len());
    for row in &page.rows {
        let rows = vec![row.clone()];
        seeds.push(
            StatePage {
                rows,
                ..page.clone()
            }
            .encode(shard)
            .to_vec(),
        );
    }
    seeds.extend(answers);
    seeds
}
