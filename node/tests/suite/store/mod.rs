mod conformance;
mod durability;
mod embedded;
mod measure;
mod model;
mod random;
