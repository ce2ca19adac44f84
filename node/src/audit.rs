//! The audit: do other regions show the same? It walks through all conversations in the background,
//! compares digests where both regions have taken in the same ops (G4), and where they differ fetches
//! what the other one knows. Each region audits against each other, so a repair goes both ways.

mod answer;
mod repair;
mod standpoint;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use whimbrel_replication::error::DecodeError;
use whimbrel_replication::id::{ConversationId, RegionId, ShardId};

pub use answer::{ANSWER_TIME, answer, show};
pub use repair::{end, merge};
pub use standpoint::{Standing, Standpoint};
pub use wire::{DigestPage, Question, Shown, StatePage};

use crate::clock::unix_ms;
use crate::execute::Context;
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::snapshot::MergeError;
use crate::store::{Store, StoreError};

/// A peer that does not answer for so long is asked again in the next walk.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// After each page it rests so many times as long as the page took: the audit takes a tenth of what
/// one task can.
const REST: u32 = 9;
/// At least so long.
const REST_MIN: Duration = Duration::from_millis(20);
/// A conversation that looks different is compared once more after so long, before it is called so.
const AGAIN: Duration = Duration::from_millis(500);
/// How often a page of a repair is tried that this region has not caught up with, each time after
/// [`AGAIN`].
const REPAIR_TRIES: u32 = 20;

/// A question for the link engine, and where the answer goes.
#[derive(Debug)]
pub struct Asked {
    /// Whom.
    pub peer: RegionId,
    /// What.
    pub question: Bytes,
    /// Dropped, or `None`, where nobody answers.
    pub answer: oneshot::Sender<Option<Bytes>>,
}

/// Compares this region with all others.
pub struct Audit {
    /// The store.
    pub store: Store,
    /// Identity and clock.
    pub context: Context,
    /// Which shards are pulled, and so audited, here.
    pub nodes: Nodes,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Takes questions.
    pub asks: mpsc::Sender<Asked>,
    /// Between the begins of two walks.
    pub interval: Duration,
}

/// What a comparison found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Both show the same.
    Equal,
    /// They cannot be compared now.
    Apart,
    /// They differ, and must not.
    Mismatch,
}

/// Compares how a peer shows a conversation with how it is shown here.
///
/// # Errors
///
/// Those of the store.
pub async fn compare(
    store: &Store,
    context: &Context,
    theirs: &Shown,
) -> Result<Found, StoreError> {
    let identity = &context.identity;
    let scope = identity.scope(theirs.conversation);
    let Some(ours) = show(store, identity.origin, scope).await? else {
        // What was begun is to be ended, from whomever.
        let begun = repair::is_open(store, scope).await?;
        return Ok(if begun { Found::Mismatch } else { Found::Apart });
    };
    Ok(match ours.standpoint.compare(&theirs.standpoint) {
        Standing::Apart => Found::Apart,
        Standing::Lacking => Found::Mismatch,
        Standing::Same if ours.digest == theirs.digest => Found::Equal,
        Standing::Same => Found::Mismatch,
    })
}

impl Audit {
    /// Walks until shutdown.
    pub async fn run(self, shutdown: CancellationToken) {
        self.show_nothing_found();
        let mut walks = tokio::time::interval(self.interval);
        walks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = walks.tick() => {}
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.walk() => {}
            }
        }
    }

    /// A count that first appears as 1 is no increase to who watches it, and a walk that never ends is late since
    /// the start.
    fn show_nothing_found(&self) {
        let identity = &self.context.identity;
        let metrics = &self.metrics;
        let all = identity.regions.iter();
        for (_, name) in all.filter(|(id, _)| **id != identity.origin.region) {
            for counter in [
                &metrics.audit_compared,
                &metrics.audit_mismatches,
                &metrics.audit_repaired,
            ] {
                counter.with_label_values(&[name]);
            }
            let walked = metrics.audit_walked.with_label_values(&[name]);
            walked.set(unix_ms() / 1_000);
        }
    }

    async fn walk(&self) {
        let identity = self.context.identity.clone();
        let own = identity.origin.region;
        for (peer, name) in identity.regions.iter().filter(|(id, _)| **id != own) {
            let mut whole = true;
            for shard in self.nodes.pulled(identity.shards) {
                whole &= self.walk_shard(*peer, name, shard).await;
            }
            if whole {
                let walked = self.metrics.audit_walked.with_label_values(&[name]);
                walked.set(unix_ms() / 1_000);
            }
        }
    }

    /// Whether it came to the end.
    async fn walk_shard(&self, peer: RegionId, name: &str, shard: ShardId) -> bool {
        let mut after = None;
        loop {
            let begun = tokio::time::Instant::now();
            let page = match self.digests(peer, shard, after).await {
                Ok(Some(page)) => page,
                Ok(None) => return false,
                Err(error) => {
                    tracing::warn!(peer = name, %shard, %error, "a peer's digests cannot be read");
                    return false;
                }
            };
            for theirs in &page.shown {
                match self.look(peer, name, theirs).await {
                    Ok(()) => {}
                    Err(MergeError::Store(error)) if error.is_outage() => return false,
                    Err(error) => {
                        let conversation = theirs.conversation;
                        tracing::warn!(peer = name, %conversation, %error, "it was not audited");
                    }
                }
            }
            // The next page begins further on, or a peer could keep us here.
            after = match page.next {
                Some(next) if after.is_none_or(|after| next > after) => Some(next),
                _ => return page.next.is_none(),
            };
            tokio::time::sleep((begun.elapsed() * REST).max(REST_MIN)).await;
        }
    }

    async fn look(&self, peer: RegionId, name: &str, theirs: &Shown) -> Result<(), MergeError> {
        let counted =
            |counter: &prometheus::IntCounterVec| counter.with_label_values(&[name]).inc();
        match compare(&self.store, &self.context, theirs).await? {
            Found::Apart => return Ok(()),
            Found::Equal => {
                counted(&self.metrics.audit_compared);
                return Ok(());
            }
            Found::Mismatch => {}
        }
        // Two transactions of a page, a restart of the peer, a repair that is under way: a second look
        // costs little.
        tokio::time::sleep(AGAIN).await;
        let conversation = theirs.conversation;
        let scope = self.context.identity.scope(conversation);
        let Some(theirs) = self.shown(peer, conversation).await else {
            return Ok(());
        };
        if compare(&self.store, &self.context, &theirs).await? != Found::Mismatch {
            return Ok(());
        }
        counted(&self.metrics.audit_compared);
        counted(&self.metrics.audit_mismatches);
        tracing::error!(
            peer = name, %conversation, shard = %scope.shard,
            "this region and a peer do not show the same; what the peer knows is fetched"
        );
        if self.repair(peer, theirs).await? {
            counted(&self.metrics.audit_repaired);
            tracing::warn!(peer = name, %conversation, "all that the peer knows of it is merged");
        } else {
            tracing::warn!(peer = name, %conversation, "it was not repaired; the next walk tries again");
        }
        Ok(())
    }

    /// Asks for a single conversation: the first after the one before it.
    async fn shown(&self, peer: RegionId, conversation: ConversationId) -> Option<Shown> {
        let shard = self.context.identity.scope(conversation).shard;
        let page = self.digests(peer, shard, before(conversation)).await;
        let shown = page.ok().flatten()?.shown;
        shown
            .into_iter()
            .find(|shown| shown.conversation == conversation)
    }

    async fn digests(
        &self,
        peer: RegionId,
        shard: ShardId,
        after: Option<ConversationId>,
    ) -> Result<Option<DigestPage>, DecodeError> {
        let answer = self.ask(peer, &Question::Digests { shard, after }).await;
        answer
            .map(|bytes| DigestPage::decode(shard, &bytes))
            .transpose()
    }

    async fn repair(&self, peer: RegionId, theirs: Shown) -> Result<bool, MergeError> {
        let conversation = theirs.conversation;
        let scope = self.context.identity.scope(conversation);
        let mut after = None;
        loop {
            let question = Question::State {
                conversation,
                after: after.clone(),
            };
            let Some(answer) = self.ask(peer, &question).await else {
                return Ok(false);
            };
            let page = StatePage::decode(scope.shard, &answer)?;
            let mut tries = 0;
            loop {
                let fence = self.nodes.fence(scope.shard);
                let page = page.clone();
                if merge(&self.store, &self.context, fence, scope, page).await? {
                    break;
                }
                tries += 1;
                if tries == REPAIR_TRIES {
                    return Ok(false);
                }
                tokio::time::sleep(AGAIN).await;
            }
            after = match page.next {
                Some(next) if after.is_none_or(|after| next > after) => Some(next),
                Some(_) => return Ok(false),
                None => break,
            };
        }
        let (fence, last) = (self.nodes.fence(scope.shard), theirs.standpoint.last);
        Ok(repair::end(&self.store, &self.context, fence, scope, last).await?)
    }

    async fn ask(&self, peer: RegionId, question: &Question) -> Option<Bytes> {
        let (answer, answered) = oneshot::channel();
        let asked = Asked {
            peer,
            question: question.encode(),
            answer,
        };
        // Closed only when the node stops.
        self.asks.send(asked).await.ok()?;
        tokio::time::timeout(ANSWER_MAX, answered)
            .await
            .ok()?
            .ok()?
    }
}

/// The id right before one.
fn before(conversation: ConversationId) -> Option<ConversationId> {
    let number = u128::from_be_bytes(*conversation.as_bytes());
    Some(ConversationId::from_bytes(
        number.checked_sub(1)?.to_be_bytes(),
    ))
}
