//! The real `whimbrel` program and the SDK, against a stub that speaks HTTP and WebSocket.

#![allow(clippy::unwrap_used)] // Clippy knows tests by `#[test]`, not what they call.

// A region that answers what a test tells it to.
mod stub;

// The load generator.
mod bench;
// Plans, and the page that shows one.
mod capacity;
// The program: help, usage, tokens, output, import.
mod program;
// The SDK: retries and the stream of events in one region.
mod sdk;
// From region to region: calls, streams, the breaker, the budget, discovery.
mod failover;
// What calls carry, and what is said where a part is missing.
mod session;
// Writes that wait on disk.
mod queue;
