//! End-to-end tests of Whimbrel on real processes.
//!
//! `cargo test --workspace` builds the programs that these tests start; alone, they need a
//! `cargo build --workspace` before. Promises G1 to G18 are those of the design; a test names the
//! ones that it checks. Random tests print their seed; `WHIMBREL_SEED` replays one.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test just so")]
#![allow(clippy::large_futures, reason = "a test is one future")]

// Starting and stopping clusters.
mod dev_cluster;
mod foundationdb;
mod harness;
mod load;
mod node;
mod programs;
mod wait;

// What users do, in one region and in several.
mod edits;
mod exactly_once;
mod messaging;
mod receipts;
mod streams;

// What regions owe each other.
mod causality;
mod chaos;
mod clocks;
mod convergence;
mod kills;
mod lag;
mod lives;
mod nodes;
mod outages;
mod partition;
mod retention;
mod servers;
mod slow_links;
mod versions;

// Who must not get in, and what must not get through.
mod hostile_peers;
mod input;

// What outside clients are written against.
mod openapi;

// What apps see of it: the SDK over regions that die.
mod sdk;

// What operators see: alert rules, dashboards and traces, and the proxy before a node.
mod eyes;
mod proxy;
mod traces;

// The programs as people use them.
mod bench;
mod config;
mod dev;
mod import;
