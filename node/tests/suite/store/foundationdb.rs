//! The FoundationDB engine on real servers, which the tests start themselves. Where there is none to
//! start, or the program was built without the engine, each says that it is skipped.

#[cfg(not(feature = "foundationdb"))]
#[test]
fn the_engine() {
    println!("skipped: FoundationDB (built without the feature `foundationdb`)");
}

#[cfg(feature = "foundationdb")]
pub(crate) mod server;

#[cfg(feature = "foundationdb")]
mod engine;

#[cfg(feature = "foundationdb")]
mod region;
