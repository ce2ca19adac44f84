//! Chaos experiments against a Whimbrel cluster.

pub mod link;
