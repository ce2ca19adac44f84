//! End-to-end tests of Whimbrel; see `tests/e2e`.
