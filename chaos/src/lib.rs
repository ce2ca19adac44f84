//! Chaos experiments against a Whimbrel cluster: bad links, what clients do and see meanwhile, and
//! whether it is what was promised.

pub mod check;
pub mod history;
pub mod link;
pub mod workload;

pub use check::check;
