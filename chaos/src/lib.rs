//! Chaos experiments against a Whimbrel cluster.
