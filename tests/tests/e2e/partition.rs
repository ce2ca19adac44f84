//! G5 to G11: regions that cannot hear each other, in both directions or in one, under load.

use rand::Rng as _;
use whimbrel_chaos::link::Change;

use crate::harness::{Cluster, chance};
use crate::load::{Load, plan};

/// G1, G4 to G11, G13: each region alone, all of them written; then they hear of each other.
#[tokio::test(flavor = "multi_thread")]
async fn g5_to_g10_hold_over_a_full_partition() {
    let cluster = Cluster::start().await;
    let mut chance = chance("g5_to_g10_hold_over_a_full_partition");
    let load = Load::start(&cluster, plan(chance.random())).await;
    load.acks(40).await;
    cluster.cut_all();
    load.acks(100).await;
    cluster.heal_all();
    load.acks(40).await;
    let counts = load.judge(&cluster).await;
    assert!(counts.posts > 80 && counts.edits > 5, "{counts:?}");
    // Who goes from region to region meanwhile is told what is missing.
    assert!(counts.stale > 0 && counts.behind > 0, "{counts:?}");
}

/// G1, G2, G4 to G11: what eu sends to us is lost, what us sends to eu is not. All of it arrives
/// through ap, while it is so.
#[tokio::test(flavor = "multi_thread")]
async fn g1_g10_hold_over_a_one_way_cut() {
    let cluster = Cluster::start().await;
    let mut chance = chance("g1_g10_hold_over_a_one_way_cut");
    let load = Load::start(&cluster, plan(chance.random())).await;
    load.acks(40).await;
    cluster.change("eu", "us", Change::Cut);
    load.acks(150).await;
    let counts = load.judge(&cluster).await;
    assert!(counts.posts > 80 && counts.edits > 5, "{counts:?}");
    let cut = cluster.links.report();
    let cut = cut.iter().find(|link| link.from == "eu" && link.to == "us");
    let dropped = cut.expect("there is a link").counters.dropped;
    println!("eu to us: {dropped:?}");
    assert!(dropped.cut > 0, "{dropped:?}");
}
