//! Chaos experiments against a Whimbrel cluster: bad links, what clients do and see meanwhile, and
//! whether it is what was promised.

pub mod check;
pub mod cluster;
pub mod experiment;
pub mod history;
mod inject;
pub mod journal;
pub mod link;
pub mod report;
pub mod run;
pub mod workload;

pub use check::check;
