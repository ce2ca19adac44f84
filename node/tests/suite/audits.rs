//! Audits between two stores: they find what differs, call nothing wrong that is only behind, and a
//! repair brings what was lost (G4).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use whimbrel_node::apply::remote::{self, Applied, LogPage};
use whimbrel_node::apply::shown;
use whimbrel_node::audit::{self, DigestPage, Found, Question, Shown, StatePage};
use whimbrel_node::command::Action;
use whimbrel_node::snapshot;
use whimbrel_node::store::keys::{self, Scope};
use whimbrel_node::store::{RangeOptions, RunOptions};
use whimbrel_replication::id::{ConversationId, MessageId, Position, ShardId, Stamp};
use whimbrel_replication::op::ConversationKind;

use crate::batching::{Region, SHARDS, post};

struct Pair {
    eu: Region,
    us: Region,
    scope: Scope,
    messages: Vec<MessageId>,
    /// Where they stand in the timeline.
    positions: BTreeMap<MessageId, Position>,
    /// What us has applied of eu's log.
    at: Stamp,
}

impl Pair {
    /// A conversation with something of everything, in both regions.
    async fn new() -> Self {
        let (eu, us) = (Region::start(1, None).await, Region::start(2, None).await);
        let conversation = ConversationId::created("ada", "room");
        let create = Action::Create {
            kind: ConversationKind::Group,
            title: Some("Room".to_owned()),
            topic: None,
            members: vec!["ben".to_owned()],
        };
        eu.write("ada", "room", create, conversation).await;
        let mut this = Self {
            eu,
            us,
            scope: Scope::new(conversation, SHARDS),
            messages: vec![],
            positions: BTreeMap::new(),
            at: Stamp::MIN,
        };
        for n in 0..40 {
            this.post(&format!("post {n}")).await;
        }
        let message = this.messages[5];
        let react = Action::React {
            message,
            emoji: "👍".to_owned(),
            present: true,
        };
        this.eu.write("ben", "react", react, conversation).await;
        let message = this.messages[6];
        let redact = Action::Redact { message };
        this.eu.write("ada", "redact", redact, conversation).await;
        this.pull().await;
        this.positions = this.timeline().await;
        this
    }

    async fn timeline(&self) -> BTreeMap<MessageId, Position> {
        let scope = self.scope;
        let read = self
            .eu
            .store
            .read(RunOptions::default(), move |tx| async move {
                let (begin, end) = scope.timeline_between(None, None);
                tx.range_all(&begin, &end, RangeOptions::default()).await
            });
        let rows = read.await.unwrap();
        let place = |(key, value): &(Bytes, Bytes)| {
            (
                shown(value).unwrap().0,
                scope.timeline_position(key).unwrap(),
            )
        };
        rows.iter().map(place).collect()
    }

    async fn post(&mut self, key: &str) {
        let conversation = self.scope.conversation;
        let (message, action) = post(&conversation, "ada", key, key);
        self.eu.write("ada", key, action, conversation).await;
        self.messages.push(message);
    }

    /// us applies all that eu has.
    async fn pull(&mut self) {
        let (shard, origin) = (self.scope.shard, self.eu.identity.origin);
        let page = remote::log_after(&self.eu.store, shard, origin, self.at, usize::MAX).await;
        let LogPage::Batches(batches) = page.unwrap() else {
            panic!("nothing is trimmed");
        };
        for batch in batches {
            let (store, context) = (&self.us.store, &self.us.context);
            let to = batch.0;
            let some = vec![batch];
            let applied = remote::apply(store, context, None, shard, origin, self.at, some).await;
            assert!(matches!(applied.unwrap(), Applied::At(at) if at == to));
            self.at = to;
        }
    }

    async fn shown(&self, region: &Region) -> Shown {
        let (own, scope) = (region.identity.origin, self.scope);
        let shown = audit::show(&region.store, own, scope).await;
        shown.unwrap().expect("nothing changes meanwhile")
    }

    /// What each finds that audits the other, by what it answers over the wire.
    async fn audit(&self) -> (Found, Found) {
        let mut found = vec![];
        for (asks, answers) in [(&self.eu, &self.us), (&self.us, &self.eu)] {
            let shard = self.scope.shard;
            let question = Question::Digests { shard, after: None };
            let page = DigestPage::decode(shard, &ask(answers, &question).await.unwrap()).unwrap();
            assert_eq!(page.next, None);
            let [theirs] = &page.shown[..] else {
                panic!("{page:?}");
            };
            assert_eq!(*theirs, self.shown(answers).await);
            let compared = audit::compare(&asks.store, &asks.context, theirs).await;
            found.push(compared.unwrap());
        }
        (found[0], found[1])
    }

    /// Loses something of us.
    async fn lose(&self, key: Vec<u8>) {
        let lost = self.us.store.run(RunOptions::default(), move |tx| {
            let key = key.clone();
            async move {
                assert!(tx.get(&key, false).await?.is_some(), "it is there");
                tx.clear(&key);
                Ok(())
            }
        });
        lost.await.unwrap();
    }

    /// us fetches all that eu knows; whether it could merge it.
    async fn repair(&self) -> bool {
        let last = self.shown(&self.eu).await.standpoint.last;
        let (store, context) = (&self.us.store, &self.us.context);
        self.merge().await
            && audit::end(store, context, None, self.scope, last)
                .await
                .unwrap()
    }

    /// Of that the merging alone.
    async fn merge(&self) -> bool {
        let (conversation, mut after) = (self.scope.conversation, None);
        loop {
            let question = Question::State {
                conversation,
                after: after.clone(),
            };
            let answer = ask(&self.eu, &question).await.unwrap();
            let page = StatePage::decode(self.scope.shard, &answer).unwrap();
            after.clone_from(&page.next);
            let (store, context) = (&self.us.store, &self.us.context);
            if !audit::merge(store, context, None, self.scope, page)
                .await
                .unwrap()
            {
                return false;
            }
            if after.is_none() {
                return true;
            }
        }
    }
}

async fn ask(region: &Region, question: &Question) -> Option<Bytes> {
    let (store, identity) = (&region.store, &region.identity);
    let answer = audit::answer(store, identity, &question.encode(), Duration::MAX).await;
    answer.unwrap()
}

#[tokio::test]
async fn g4_who_is_behind_differs_in_nothing() {
    let mut pair = Pair::new().await;
    assert_eq!(pair.audit().await, (Found::Equal, Found::Equal));
    pair.post("late").await;
    assert_eq!(pair.audit().await, (Found::Apart, Found::Apart));
    assert!(
        !pair.repair().await,
        "the state would run ahead of the cursor"
    );
    pair.pull().await;
    assert_eq!(pair.audit().await, (Found::Equal, Found::Equal));
}

/// G4: what a store has silently lost, or an apply left out, is found and comes back.
#[tokio::test]
async fn g4_what_was_lost_is_found_and_comes_back() {
    let lost: [fn(&Pair) -> Vec<u8>; 6] = [
        |pair| pair.scope.conversation(),
        |pair| pair.scope.message(&pair.messages[3]),
        |pair| pair.scope.member("ben"),
        |pair| pair.scope.reaction(&pair.messages[5], "👍", "ben"),
        // Derived: nothing new comes for it, and it is written all the same.
        |pair| pair.scope.timeline(&pair.positions[&pair.messages[4]]),
        // The redacted message: its text must not be what comes back.
        |pair| pair.scope.message(&pair.messages[6]),
    ];
    for (nth, lost) in lost.iter().enumerate() {
        let pair = Pair::new().await;
        let before = pair.shown(&pair.us).await.digest;
        let key = lost(&pair);
        if nth == 1 || nth == 5 {
            // Its row in the timeline, which is what users see, goes with it.
            let nth = if nth == 1 { 3 } else { 6 };
            let position = pair.positions[&pair.messages[nth]];
            pair.lose(pair.scope.timeline(&position)).await;
        }
        pair.lose(key).await;
        assert_eq!(
            pair.audit().await,
            (Found::Mismatch, Found::Mismatch),
            "{nth}"
        );
        assert!(pair.repair().await);
        assert_eq!(pair.audit().await, (Found::Equal, Found::Equal), "{nth}");
        assert_eq!(pair.shown(&pair.us).await.digest, before, "{nth}");
    }
}

/// An op that counts as taken in, and is not there: both sides see that, also where what users see is
/// the same.
#[tokio::test]
async fn g4_an_op_that_was_left_out_is_found() {
    let mut pair = Pair::new().await;
    let last = pair.shown(&pair.us).await.standpoint.last;
    let origin = pair.eu.identity.origin;
    let at = last.get(&origin).unwrap();
    pair.lose(pair.scope.feed(origin, at).bytes).await;
    assert_eq!(pair.audit().await, (Found::Mismatch, Found::Mismatch));
    // Once it is repaired nobody asks again.
    assert!(pair.repair().await);
    assert_eq!(pair.audit().await, (Found::Equal, Found::Equal));
    pair.post("later").await;
    pair.pull().await;
    assert_eq!(pair.audit().await, (Found::Equal, Found::Equal));
    // What is lost later is found as before.
    let message = pair.messages[3];
    pair.lose(pair.scope.message(&message)).await;
    pair.lose(pair.scope.timeline(&pair.positions[&message]))
        .await;
    assert_eq!(pair.audit().await, (Found::Mismatch, Found::Mismatch));
}

/// A region that stops amid a repair begins it anew, and shows nobody the half of it.
#[tokio::test]
async fn g4_a_repair_that_was_not_ended_is_begun_anew() {
    let pair = Pair::new().await;
    pair.lose(pair.scope.member("ben")).await;
    let version = async || {
        let shard = pair.scope.shard;
        let read = pair
            .us
            .store
            .read(RunOptions::default(), move |tx| async move {
                Ok(snapshot::row(&tx, shard, true).await?.version)
            });
        read.await.unwrap()
    };
    let before = version().await;
    assert!(pair.merge().await);
    assert_eq!(
        version().await,
        before,
        "sessions begin anew once, at the end"
    );
    let own = pair.us.identity.origin;
    let half = audit::show(&pair.us.store, own, pair.scope).await;
    assert_eq!(half.unwrap(), None);
    let theirs = pair.shown(&pair.eu).await;
    let found = audit::compare(&pair.us.store, &pair.us.context, &theirs).await;
    assert_eq!(found.unwrap(), Found::Mismatch);
    assert!(pair.repair().await);
    assert_eq!(version().await, before + 1);
    assert_eq!(pair.audit().await, (Found::Equal, Found::Equal));
}

#[tokio::test]
async fn g17_rows_of_other_conversations_are_refused() {
    let pair = Pair::new().await;
    let mut page = {
        let conversation = pair.scope.conversation;
        let question = Question::State {
            conversation,
            after: None,
        };
        let answer = ask(&pair.eu, &question).await.unwrap();
        StatePage::decode(pair.scope.shard, &answer).unwrap()
    };
    let other = (0..)
        .map(|n| Scope::new(ConversationId::created("eve", &n.to_string()), SHARDS))
        .find(|other| other.shard == pair.scope.shard)
        .unwrap();
    let prefix = keys::shard_prefix(other.shard).len();
    page.rows[0].0 = Bytes::copy_from_slice(&other.conversation()[prefix..]);
    let (store, context) = (&pair.us.store, &pair.us.context);
    let merged = audit::merge(store, context, None, pair.scope, page).await;
    let error = merged.unwrap_err().to_string();
    assert!(error.contains("another conversation"), "{error}");
    assert_eq!(pair.audit().await, (Found::Equal, Found::Equal));
    // Nor is anything told of a shard that is none.
    let question = Question::Digests {
        shard: ShardId(SHARDS),
        after: None,
    };
    assert_eq!(ask(&pair.us, &question).await, None);
}
