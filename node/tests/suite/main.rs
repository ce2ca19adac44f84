//! Integration tests of the node's parts, in one binary.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test just so")]

/// Audits between two stores.
mod audits;
/// Commands over a faulty store, and batches of another region.
mod batching;
/// The config: what is read from where, and that all errors come at once.
mod config;
/// The program: clusters on one machine start, lose a region, go on and stop.
mod dev;
/// Documents of edited messages that stay in memory between transactions.
mod edits;
/// A store that takes a new life: moved into another one, or come back from a backup.
mod lives;
/// The OpenAPI document: it is whole, its examples hold, and the copy in `docs` is up to date.
mod openapi;
/// Token keys and certificates: round trips, permissions, nothing overwritten.
mod pki;
/// One reader of the stream.
mod session;
/// Whole regions in virtual time.
mod simulation;
/// Snapshots between two stores.
mod snapshots;
/// The store: one suite for all engines, and what only the embedded one has.
mod store;
/// The key by which nodes of a region wake each other.
mod touch;
/// The tour: it holds, and it says so when it does not.
mod tour;
