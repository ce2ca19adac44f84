//! Who this node is, in which cluster: fixed from the start of the process to its end.

use std::collections::BTreeMap;

use whimbrel_replication::id::{ClusterId, ConversationId, NodeId, Origin, RegionId};

use crate::store::keys::Scope;

/// Identity of a node, and the cluster's facts that never change while it runs.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// Number of shards of the cluster.
    pub shards: u16,
    /// The region and the incarnation of its store.
    pub origin: Origin,
    /// This process; allocated at its start, never used before.
    pub node: NodeId,
    /// Names of all regions.
    pub regions: BTreeMap<RegionId, String>,
}

impl Identity {
    /// Keys of a conversation.
    pub fn scope(&self, conversation: ConversationId) -> Scope {
        Scope::new(conversation, self.shards)
    }

    /// Name of a region; one that the config does not know shows its number.
    pub fn region_name(&self, region: RegionId) -> String {
        self.regions
            .get(&region)
            .cloned()
            .unwrap_or_else(|| format!("region-{region}"))
    }

    /// Name of the own region.
    pub fn own_name(&self) -> String {
        self.region_name(self.origin.region)
    }
}
