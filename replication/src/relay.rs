//! Bad links in user space: relays between regions that cut, delay, lose, duplicate and reorder.
//!
//! ```text
//!   eu dials us:   eu <---> relay eu-us <---> us       One relay per directed pair. Datagrams of a
//!   us dials eu:   us <---> relay us-eu <---> eu       connection flow both ways through its relay.
//! ```
//!
//! Faults belong to a direction of travel: what eu sends to us passes forth through the relay eu-us
//! and back through the relay us-eu, so [`Links`] sets both. Each direction takes its chances from a
//! seed: the same seed and the same datagrams at the same times give the same fates.

pub mod control;
mod direction;
mod faults;
mod forward;
mod links;

pub use direction::{Cause, Direction, Fate};
pub use faults::{Change, Faults, FaultsError};
pub use forward::{Counters, Dropped, Relay, Way};
pub use links::{Dial, LinkReport, Links, LinksError, Order};
