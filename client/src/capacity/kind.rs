//! The three kinds of writes, and where their costs stand.

use super::CostName::{
    MarkerApply, MarkerFdb, MarkerKept, MarkerKeys, MarkerLogged, MarkerNode, MarkerWan, PostApply,
    PostFdb, PostKept, PostKeys, PostLogged, PostNode, PostText, PostWan, ReactionApply,
    ReactionFdb, ReactionKept, ReactionKeys, ReactionLogged, ReactionNode, ReactionWan,
};
use super::plan::Rates;
use super::{CostName, Inputs};

/// A text stands in the message's row and in that of the timeline.
const TEXTS_KEPT: f64 = 2.0;

/// A kind of write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Post,
    Marker,
    Reaction,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Post, Self::Marker, Self::Reaction];

    fn one_of<T>(self, post: T, marker: T, reaction: T) -> T {
        match self {
            Self::Post => post,
            Self::Marker => marker,
            Self::Reaction => reaction,
        }
    }

    /// How many a second at the peak.
    pub(super) fn of(self, rates: &Rates) -> f64 {
        self.one_of(rates.posts, rates.markers, rates.reactions)
    }

    pub(super) fn node(self) -> CostName {
        self.one_of(PostNode, MarkerNode, ReactionNode)
    }

    pub(super) fn apply(self) -> CostName {
        self.one_of(PostApply, MarkerApply, ReactionApply)
    }

    pub(super) fn fdb(self) -> CostName {
        self.one_of(PostFdb, MarkerFdb, ReactionFdb)
    }

    pub(super) fn keys(self) -> CostName {
        self.one_of(PostKeys, MarkerKeys, ReactionKeys)
    }

    /// Bytes of keys and values that stay.
    pub(super) fn kept_bytes(self, inputs: &Inputs) -> f64 {
        let name = self.one_of(PostKept, MarkerKept, ReactionKept);
        (inputs.costs.of(name) + TEXTS_KEPT * self.longer_text(inputs)).max(0.0)
    }

    /// Bytes of keys and values that are trimmed with the logs.
    pub(super) fn logged_bytes(self, inputs: &Inputs) -> f64 {
        let name = self.one_of(PostLogged, MarkerLogged, ReactionLogged);
        (inputs.costs.of(name) + self.longer_text(inputs)).max(0.0)
    }

    /// Bytes to each other region.
    pub(super) fn wan_bytes(self, inputs: &Inputs) -> f64 {
        let name = self.one_of(PostWan, MarkerWan, ReactionWan);
        (inputs.costs.of(name) + self.longer_text(inputs)).max(0.0)
    }

    /// Bytes of text above those of the messages that were measured.
    fn longer_text(self, inputs: &Inputs) -> f64 {
        let longer = inputs.load.text_bytes - inputs.costs.of(PostText);
        self.one_of(longer, 0.0, 0.0)
    }
}
