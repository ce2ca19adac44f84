//! What regions tell each other of third ones.
//!
//! With the link between two regions cut, the log of the one reaches the other over a third. The third
//! also tells how far it got: else the writer would call the other behind, and a write that waits for
//! it would wait in vain. It goes one hop, and with heartbeats only.

use super::held::Held;
use super::{Engine, Frame, Have, Heard, LinkId, LogKey};
use crate::cursor::Cursor;
use crate::id::{RegionId, ShardId};

impl Engine {
    /// Tells a peer what others hold of its logs.
    pub(super) fn send_heard(&mut self, link: LinkId) {
        let Some(region) = self.links.get(&link).map(|state| state.peer) else {
            return;
        };
        let Some(origin) = self.peers.get(&region).and_then(|peer| peer.origin) else {
            return;
        };
        let shards = (0..self.config.shards).map(ShardId);
        let logs: Vec<LogKey> = shards.map(|shard| LogKey::new(shard, origin)).collect();
        let others = self.peers.iter().filter(|(other, _)| **other != region);
        let heard = others.filter_map(|(_, other)| {
            let cursor = other.has.cursor_of(logs.iter().copied());
            let holder = other.origin.filter(|_| cursor != Cursor::new())?;
            Some(Heard { holder, cursor })
        });
        // A frame each: together they could be too long.
        for heard in heard.collect::<Vec<_>>() {
            let have = Have {
                heard: Some(heard),
                ..Have::default()
            };
            self.send(link, Frame::Have(have));
        }
    }

    /// Takes what a peer tells of another region. Of that region's lives the later one counts, and while
    /// it is linked only what it says itself tells which one that is.
    pub(super) fn on_heard(&mut self, teller: RegionId, heard: &Heard) -> Result<(), String> {
        let (holder, own) = (heard.holder, self.config.origin);
        let is_third = holder.region != own.region && holder.region != teller;
        // While regions are added or removed not all configs name the same ones.
        if !is_third || !self.config.regions.contains_key(&holder.region) {
            return Ok(());
        }
        let is_linked = self.links_of(holder.region).next().is_some();
        let peer = self.peers.entry(holder.region).or_default();
        if peer.origin != Some(holder) {
            let is_later = peer
                .origin
                .is_none_or(|known| known.incarnation < holder.incarnation);
            if is_linked || !is_later {
                return Ok(());
            }
            peer.origin = Some(holder);
            peer.has = Held::default();
        }
        for (shard, part) in heard.cursor.iter() {
            self.check_shard(shard)?;
            if let Some(at) = part.get(&own) {
                self.note_peer_holds(holder.region, LogKey::new(shard, own), at.stamp)?;
            }
        }
        Ok(())
    }
}
