//! The regional server of Whimbrel.

pub mod store;
