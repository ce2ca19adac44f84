//! Merges: commutative, associative and idempotent. Ops arrive in any order, any number of times.

pub mod text;
