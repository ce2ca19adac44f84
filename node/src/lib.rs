//! The regional server of Whimbrel.
