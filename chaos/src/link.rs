//! Links between regions that can be made bad: relays of one's own, and steering of those that
//! `whimbrel-node dev --relay` runs.

pub use whimbrel_replication::relay::control::{Client, ControlError, Report, Request, SOCKET};
pub use whimbrel_replication::relay::{
    Change, Counters, Dial, Dropped, Faults, FaultsError, LinkReport, Links, LinksError, Order,
};
