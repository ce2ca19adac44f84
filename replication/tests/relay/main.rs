//! Relays over real sockets.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test just so")]

// Sockets on both sides of relays, and waiting with a deadline.
mod harness;

// Steering from another process.
mod control;
// What each fault does to datagrams.
mod faults;
