//! The link engine over a simulated network and modelled stores.
//!
//! A failing random run prints its seed; `WHIMBREL_SEED=<seed>` runs that one alone, and
//! `WHIMBREL_RUNS=<n>` sets how many random runs there are.

/// One engine by hand: each rule of the protocol on its own.
mod engine;
/// The feature level.
mod formats;
/// Frames: round trips, and bytes that are none.
mod frames;
/// An engine and what it is told by hand.
mod hand;
/// The handshake, and who gets none.
mod handshake;
/// What goes over which lane.
mod lanes;
/// Several nodes in a region.
mod nodes;
/// Questions that are no part of replication.
mod questions;
/// Whole clusters under random faults.
mod random;
/// Whole clusters in chosen situations.
mod scenarios;
/// The simulated network, clock and stores.
mod sim;
/// State where logs are gone.
mod snapshots;
/// What a region keeps over restarts; it panics where a promise is broken.
mod store;
