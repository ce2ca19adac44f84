//! The regional server of Whimbrel.

pub mod apply;
pub mod batcher;
pub mod clock;
pub mod command;
pub mod config;
pub mod digest;
pub mod event;
pub mod execute;
pub mod identity;
pub mod mentions;
pub mod metrics;
pub mod resume;
pub mod session;
pub mod store;
pub mod tailer;
pub mod view;
