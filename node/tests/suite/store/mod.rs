mod compaction;
mod conformance;
mod durability;
mod embedded;
pub(crate) mod foundationdb;
mod measure;
mod model;
mod random;
mod simulated;
