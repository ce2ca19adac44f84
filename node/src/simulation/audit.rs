//! Regions audit each other all the time: whatever goes wrong, none may ever call the other's state wrong.

use std::time::Duration;

use bytes::Bytes;
use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use whimbrel_replication::id::{RegionId, ShardId};
use whimbrel_replication::link::{Event, LinkId};

use super::Violation;
use super::region::{REGIONS, SHARDS};
use super::world::{Step, World};
use crate::audit::{self, DigestPage, Found, Question};

impl World {
    /// Asks some peer for the digests of some shard.
    pub(super) fn ask(&mut self, region: u16) -> Step {
        let others: Vec<u16> = (1..=REGIONS).filter(|other| *other != region).collect();
        let peer = *others.choose(&mut self.rng).expect("there are others");
        let shard = ShardId(self.rng.random_range(0..SHARDS));
        let id = self.next_question;
        self.next_question += 1;
        self.asked.insert(id, shard);
        let after = None;
        let question = Question::Digests { shard, after }.encode();
        let peer = RegionId(peer);
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

    pub(super) async fn compare(
        &mut self,
        region: u16,
        peer: RegionId,
        id: u64,
        answer: Option<Bytes>,
    ) -> Step {
        let (Some(shard), Some(answer)) = (self.asked.remove(&id), answer) else {
            return Ok(());
        };
        let page = DigestPage::decode(shard, &answer)
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
                    return Err(Violation::new("G4", what));
                }
                Err(error) => return self.failed(region, &error),
            }
        }
        Ok(())
    }
}
