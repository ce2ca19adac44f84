//! The regional server of Whimbrel.
#![warn(missing_docs)]

pub mod apply;
pub mod batcher;
pub mod ca;
pub mod certificate;
pub mod clock;
pub mod command;
pub mod config;
pub mod dev;
pub mod digest;
pub mod event;
pub mod execute;
mod files;
pub mod gate;
pub mod http;
pub mod identity;
pub mod keys;
pub mod mentions;
pub mod metrics;
pub mod migrate;
pub mod nodes;
pub mod open;
pub mod origin;
pub mod replicator;
pub mod restored;
pub mod resume;
pub mod session;
pub mod simulation;
pub mod store;
pub mod tailer;
pub mod telemetry;
pub mod touch;
pub mod view;
pub mod vitals;
pub mod wiring;
