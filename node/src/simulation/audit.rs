//! Regions audit each other all the time: whatever goes wrong, none may ever call the other's state wrong.
//! But for one case: a disk that is destroyed while another region takes a snapshot from it may leave
//! there what nobody else has. That is found, and repaired.

use std::time::Duration;

use bytes::Bytes;
use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use whimbrel_replication::id::{RegionId, ShardId};
use whimbrel_replication::link::{Event, LinkId};

use super::Violation;
use super::region::{REGIONS, SHARDS};
use super::world::{Step, World};
use crate::audit::{self, DigestPage, Found, Question, Shown, StatePage};
use crate::snapshot::MergeError;
use crate::store::keys::Scope;

/// What a region has asked a peer for.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    /// How it shows the conversations of a shard.
    Digests(ShardId),
    /// All that it knows of a conversation, which it showed so.
    State(Shown),
}

impl World {
    /// Asks some peer for the digests of some shard.
    pub(super) fn ask(&mut self, region: u16) -> Step {
        let others: Vec<u16> = (1..=REGIONS).filter(|other| *other != region).collect();
        let peer = *others.choose(&mut self.rng).expect("there are others");
        let shard = ShardId(self.rng.random_range(0..SHARDS));
        self.ask_for(region, RegionId(peer), Asked::Digests(shard), None)
    }

    /// The page of it that begins after a key.
    fn ask_for(&mut self, region: u16, peer: RegionId, what: Asked, after: Option<Bytes>) -> Step {
        let id = self.next_question;
        self.next_question += 1;
        let question = match &what {
            Asked::Digests(shard) => Question::Digests {
                shard: *shard,
                after: None,
            },
            Asked::State(shown) => Question::State {
                conversation: shown.conversation,
                after,
            },
        };
        self.asked.insert(id, what);
        let question = question.encode();
        self.tell(region, Event::Ask { peer, id, question })
    }

    pub(super) async fn answer(
        &mut self,
        region: u16,
        (link, id): (LinkId, u64),
        question: Bytes,
    ) -> Step {
        let Some(running) = &self.regions[&region].running else {
            return Ok(());
        };
        let identity = &running.context.identity;
        let answer = audit::answer(&running.store, identity, &question, Duration::MAX).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.failed(region, &error)?;
                None
            }
        };
        self.tell(region, Event::Answer { link, id, answer })
    }

    /// What a peer has answered.
    pub(super) async fn answered(
        &mut self,
        region: u16,
        peer: RegionId,
        id: u64,
        answer: Option<Bytes>,
    ) -> Step {
        let (Some(asked), Some(answer)) = (self.asked.remove(&id), answer) else {
            return Ok(());
        };
        match asked {
            Asked::Digests(shard) => self.compare(region, peer, shard, &answer).await,
            Asked::State(shown) => self.repair(region, peer, shown, &answer).await,
        }
    }

    async fn compare(
        &mut self,
        region: u16,
        peer: RegionId,
        shard: ShardId,
        answer: &[u8],
    ) -> Step {
        let page = DigestPage::decode(shard, answer)
            .map_err(|error| Violation::new("G4", format!("our own digests: {error}")))?;
        for theirs in &page.shown {
            let Some(running) = &self.regions[&region].running else {
                return Ok(());
            };
            match audit::compare(&running.store, &running.context, theirs).await {
                Ok(Found::Equal) => self.counts.compared += 1,
                Ok(Found::Apart) => {}
                Ok(Found::Mismatch) => {
                    let what = format!(
                        "r{region} finds that r{peer} shows {} otherwise: {:?}",
                        theirs.conversation, theirs.standpoint
                    );
                    if !self.is_torn {
                        return Err(Violation::new("G4", what));
                    }
                    self.note(format_args!("{what}; repair"));
                    let state = Asked::State(theirs.clone());
                    self.ask_for(region, peer, state, None)?;
                }
                Err(error) => return self.failed(region, &error),
            }
        }
        Ok(())
    }

    async fn repair(&mut self, region: u16, peer: RegionId, shown: Shown, answer: &[u8]) -> Step {
        let Some(running) = &self.regions[&region].running else {
            return Ok(());
        };
        let conversation = shown.conversation;
        let scope = Scope::new(conversation, SHARDS);
        let page = StatePage::decode(scope.shard, answer)
            .map_err(|error| Violation::new("G4", format!("our own state: {error}")))?;
        let (store, context) = (&running.store, &running.context);
        let next = page.next.clone();
        match audit::merge(store, context, None, scope, page).await {
            Ok(true) => {}
            // Before it has caught up; a later audit finds it again.
            Ok(false) => return Ok(()),
            Err(MergeError::Page(reason)) => {
                return Err(Violation::new("G16", format!("r{region}: {reason}")));
            }
            Err(MergeError::Store(error)) => return self.failed(region, &error),
        }
        if next.is_some() {
            return self.ask_for(region, peer, Asked::State(shown), next);
        }
        match audit::end(store, context, None, scope, shown.standpoint.last).await {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => return self.failed(region, &error),
        }
        self.counts.repaired += 1;
        self.note(format_args!(
            "r{region} has merged what r{peer} knows of {conversation}"
        ));
        Ok(())
    }
}
