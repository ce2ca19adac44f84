//! The regional server of Whimbrel.
#![warn(missing_docs)]

pub mod ca;
pub mod config;
pub mod dev;
mod files;
pub mod keys;
pub mod telemetry;
pub mod wiring;
