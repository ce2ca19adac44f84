//! Questions to a peer that are no part of replication, as an audit asks them: each goes to the peer on
//! the link that we pull on, and is answered on it once. What they mean is for the nodes at both ends.

use std::time::Duration;

use bytes::Bytes;

use super::{Effect, Engine, Frame, LinkId, QUESTION_TIMEOUT};
use crate::id::RegionId;
use crate::limits::LINK_QUESTIONS_MAX;

/// The first protocol that has questions.
pub(super) const PROTOCOL: u32 = 3;

impl Engine {
    pub(super) fn on_ask(&mut self, peer: RegionId, id: u64, question: Bytes) {
        let source = self.peers.get(&peer).and_then(|peer| peer.source);
        if let Some(link) = source {
            self.give_up_old(link);
        }
        let link = source.filter(|link| {
            let state = self.links.get(link);
            state.is_some_and(|state| {
                state.protocol >= PROTOCOL && state.asked.len() < LINK_QUESTIONS_MAX
            })
        });
        let Some(link) = link else {
            return self.unanswered(peer, id);
        };
        if let Some(state) = self.links.get_mut(&link) {
            state.asked.insert(id, self.now);
        }
        self.send(link, Frame::Question { id, question });
    }

    pub(super) fn on_question(
        &mut self,
        link: LinkId,
        id: u64,
        question: Bytes,
    ) -> Result<(), String> {
        let Some(state) = self.links.get_mut(&link) else {
            return Ok(());
        };
        if state.questions.contains(&id) {
            return Ok(());
        }
        if state.questions.len() >= LINK_QUESTIONS_MAX {
            return Err(format!("more than {LINK_QUESTIONS_MAX} questions at once"));
        }
        state.questions.insert(id);
        self.effects.push(Effect::Question { link, id, question });
        Ok(())
    }

    pub(super) fn on_answer_known(&mut self, link: LinkId, id: u64, answer: Option<Bytes>) {
        let state = self.links.get_mut(&link);
        if state.is_some_and(|state| state.questions.remove(&id)) {
            self.send_bulk(link, Frame::Answer { id, answer });
        }
    }

    pub(super) fn on_answer(&mut self, link: LinkId, id: u64, answer: Option<Bytes>) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let peer = state.peer;
        if state.asked.remove(&id).is_some() {
            self.effects.push(Effect::Answered { peer, id, answer });
        }
    }

    /// A peer that took a question and forgot it must not keep us from asking on.
    fn give_up_old(&mut self, link: LinkId) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let (peer, now) = (state.peer, self.now);
        let is_old = |_: &u64, at: &mut Duration| *at + QUESTION_TIMEOUT <= now;
        let old: Vec<u64> = state
            .asked
            .extract_if(.., is_old)
            .map(|(id, _)| id)
            .collect();
        for id in old {
            self.unanswered(peer, id);
        }
    }

    pub(super) fn unanswered(&mut self, peer: RegionId, id: u64) {
        let answer = None;
        self.effects.push(Effect::Answered { peer, id, answer });
    }
}
