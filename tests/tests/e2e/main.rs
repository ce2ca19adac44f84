//! End-to-end tests of Whimbrel on real processes.
