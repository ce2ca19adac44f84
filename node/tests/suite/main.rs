//! Integration tests of the node's parts, in one binary.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test just so")]

/// The store: one suite for all engines, and what only the embedded one has.
mod store;
