//! G1, G7 to G10: regions are killed at random moments, and clients go on in others.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::Rng as _;
use rand::seq::IndexedRandom as _;

use crate::harness::{Cluster, REGIONS, chance};
use crate::load::{Load, plan};

/// G1, G4, G6 to G11, G13: twenty kills under load, at most two regions down at once.
#[tokio::test(flavor = "multi_thread")]
async fn g1_what_clients_saw_holds_over_twenty_kills() {
    const KILLS: usize = 20;
    let mut cluster = Cluster::start().await;
    let mut chance = chance("g1_what_clients_saw_holds_over_twenty_kills");
    let load = Load::start(&cluster, plan(chance.random())).await;
    load.acks(30).await;
    let mut kills = 0;
    let mut down: BTreeSet<&str> = BTreeSet::new();
    let mut alone = 0;
    while kills < KILLS || !down.is_empty() {
        tokio::time::sleep(Duration::from_millis(chance.random_range(0..1_200))).await;
        let kill = kills < KILLS && (down.is_empty() || down.len() == 1 && chance.random_bool(0.4));
        if kill {
            let up = REGIONS.iter().filter(|region| !down.contains(*region));
            let region = *up.collect::<Vec<_>>().choose(&mut chance).unwrap();
            cluster.kill(region).await;
            kills += 1;
            down.insert(region);
            alone += usize::from(down.len() == 2);
        } else {
            let region = *down.iter().collect::<Vec<_>>().choose(&mut chance).unwrap();
            let region = *region;
            cluster.restart(region).await;
            down.remove(region);
        }
    }
    load.acks(30).await;
    let counts = load.judge(&cluster).await;
    println!("{kills} kills, {alone} times one region was alone");
    assert!(kills >= KILLS && alone > 0);
    assert!(counts.posts > 300 && counts.edits > 30, "{counts:?}");
    assert!(
        counts.unknown > 20 && counts.retried_elsewhere > 10,
        "{counts:?}"
    );
    assert!(counts.hops > 100 && counts.resumptions > 20, "{counts:?}");
}
