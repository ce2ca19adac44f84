//! The feature level: which format of batches every region of the cluster reads.
//!
//! What one region writes all others must apply. So a new format, or a new kind of op, is written only
//! once each of them has said that it knows it, and a region that was never heard knows the oldest.

use super::{Engine, LinkId};
use crate::id::RegionId;
use crate::op::{FORMAT, FORMAT_MIN};

impl Engine {
    /// The newest format that all configured regions read, as far as they were heard.
    pub fn level(&self) -> u32 {
        let others = self.config.regions.keys();
        let others = others.filter(|region| **region != self.config.region);
        let known = others.map(|region| self.format_of(*region).unwrap_or(FORMAT_MIN));
        let newest = self.format.min(FORMAT);
        known.min().unwrap_or(newest).clamp(FORMAT_MIN, newest)
    }

    /// The newest format that all nodes of a region read that were last linked; `None` if it was
    /// never heard.
    pub fn format_of(&self, region: RegionId) -> Option<u32> {
        self.peers.get(&region)?.format
    }

    /// Tells what all nodes of our own region read, or what this one reads where that is older. Peers hear of it
    /// with the next heartbeat.
    pub fn set_region_format(&mut self, format: u32) {
        self.format = format.clamp(FORMAT_MIN, self.config.format);
    }

    /// What a region had said before this engine was made.
    pub fn remember_format(&mut self, region: RegionId, format: u32) {
        self.peers.entry(region).or_default().format = Some(format);
    }

    /// A link has opened or gone: while a region's nodes are replaced, the oldest of them counts.
    pub(super) fn note_formats(&mut self, region: RegionId) {
        let open = self.links_of(region);
        let said = open.filter_map(|link: LinkId| self.links.get(&link)?.format);
        if let Some(format) = said.min() {
            self.peers.entry(region).or_default().format = Some(format);
        }
    }
}
