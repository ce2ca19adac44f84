use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use whimbrel_replication::limits::{RELAY_BURST_BYTES, RELAY_CLIENTS_MAX, RELAY_QUEUE_BYTES};
use whimbrel_replication::relay::Change;

use crate::harness::{Pair, Peer};

const DATAGRAMS: u32 = 500;

/// Sends so many datagrams from eu to us, slowly enough for the buffers of all sockets.
async fn send_all(pair: &Pair, count: u32) {
    let relay = pair.relay("eu", "us");
    for number in 0..count {
        pair.eu.send(number, relay).await;
        if number % 32 == 31 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test]
async fn datagrams_flow_both_ways_through_each_relay() {
    let pair = Pair::start().await;
    for (from, to, a, b) in [
        ("eu", "us", &pair.eu, &pair.us),
        ("us", "eu", &pair.us, &pair.eu),
    ] {
        a.send(1, pair.relay(from, to)).await;
        let (number, back) = b.next().await;
        assert_eq!(number, 1);
        b.send(2, back).await;
        assert_eq!(a.next().await, (2, pair.relay(from, to)));
    }
    // One forth on the relay that was dialled, one back on the other.
    let report = pair.counted("eu", "us", |r| r.counters.passed == 2).await;
    assert_eq!(report.counters.bytes, 8);
    assert_eq!(report.counters.delayed, 0);
}

#[tokio::test]
async fn two_clients_are_kept_apart() {
    let pair = Pair::start().await;
    let relay = pair.relay("eu", "us");
    let clients = [Peer::new().await, Peer::new().await];
    for (number, client) in (1..).zip(&clients) {
        client.send(number, relay).await;
    }
    let mut backs = BTreeSet::new();
    for _ in &clients {
        let (number, back) = pair.us.next().await;
        assert!(backs.insert(back), "each has a socket of its own");
        pair.us.send(10 * number, back).await;
    }
    for (number, client) in (1..).zip(&clients) {
        assert_eq!(client.next().await, (10 * number, relay));
    }
}

#[tokio::test]
async fn more_clients_than_there_is_room_for_push_out_the_most_silent() {
    let pair = Pair::start().await;
    let relay = pair.relay("eu", "us");
    let mut clients = Vec::new();
    for number in 0..=u32::try_from(RELAY_CLIENTS_MAX).unwrap() {
        let client = Peer::new().await;
        client.send(number, relay).await;
        let (seen, back) = pair.us.next().await;
        assert_eq!(seen, number);
        clients.push((client, back));
    }
    // The first one was pushed out and gets another socket; the last one has kept its own.
    for (index, kept) in [(clients.len() - 1, true), (0, false)] {
        let (client, before) = &clients[index];
        client.send(1_000, relay).await;
        assert_eq!(pair.us.next().await.1 == *before, kept, "client {index}");
    }
}

#[tokio::test]
async fn a_one_way_cut_stops_one_direction_on_both_relays() {
    let pair = Pair::start().await;
    let (eu_us, us_eu) = (pair.relay("eu", "us"), pair.relay("us", "eu"));
    pair.eu.send(1, eu_us).await;
    let (_, back_to_eu) = pair.us.next().await;
    pair.us.send(2, us_eu).await;
    let (_, back_to_us) = pair.eu.next().await;

    pair.links.change("eu", "us", Change::Cut).unwrap();
    pair.eu.send(3, eu_us).await;
    pair.eu.send(4, back_to_us).await;
    pair.counted("eu", "us", |r| r.counters.dropped.cut == 2)
        .await;
    pair.us.send(5, us_eu).await;
    assert_eq!(pair.eu.next().await.0, 5);
    pair.us.send(6, back_to_eu).await;
    assert_eq!(pair.eu.next().await.0, 6);
    assert!(pair.report("us", "eu").faults.is_none());

    pair.links.change_all(Change::Heal).unwrap();
    pair.eu.send(7, eu_us).await;
    assert_eq!(pair.us.next().await.0, 7, "3 and 4 are lost for good");
}

#[tokio::test]
async fn delays_are_kept_and_so_is_the_order() {
    let pair = Pair::start().await;
    let delay = Change::Delay {
        ms: 120,
        jitter_ms: 40,
    };
    pair.links.change("eu", "us", delay).unwrap();
    let started = Instant::now();
    send_all(&pair, DATAGRAMS).await;
    let mut took = Vec::new();
    for number in 0..DATAGRAMS {
        assert_eq!(pair.us.next().await.0, number);
        took.push(started.elapsed());
    }
    assert!(took[0] >= Duration::from_millis(80), "{:?}", took[0]);
    // What is sent back is not slowed down.
    pair.us.send(1, pair.relay("us", "eu")).await;
    assert_eq!(pair.eu.next().await.0, 1);
    assert_eq!(pair.report("us", "eu").counters.delayed, 0);
    let all = u64::from(DATAGRAMS);
    pair.counted("eu", "us", |r| r.counters.delayed == all)
        .await;
}

#[tokio::test]
async fn what_is_under_way_keeps_its_time_when_a_delay_is_healed() {
    let pair = Pair::start().await;
    let delay = Change::Delay {
        ms: 300,
        jitter_ms: 0,
    };
    pair.links.change("eu", "us", delay).unwrap();
    let relay = pair.relay("eu", "us");
    let started = Instant::now();
    pair.eu.send(1, relay).await;
    // The relay has it once it has dropped one behind it.
    pair.links.change("eu", "us", Change::Cut).unwrap();
    pair.eu.send(2, relay).await;
    pair.counted("eu", "us", |r| r.counters.dropped.cut >= 1)
        .await;
    pair.links.change("eu", "us", Change::Heal).unwrap();
    pair.eu.send(3, relay).await;
    let first = pair.us.next().await.0;
    assert_eq!(first, 3, "it does not wait behind what was delayed");
    if pair.report("eu", "us").counters.dropped.cut == 1 {
        assert_eq!(pair.us.next().await.0, 1);
        assert!(started.elapsed() >= Duration::from_millis(300));
    }
}

#[tokio::test]
async fn loss_loses_its_share() {
    let pair = Pair::start().await;
    pair.links.change("eu", "us", Change::Loss(0.3)).unwrap();
    send_all(&pair, DATAGRAMS).await;
    let all = u64::from(DATAGRAMS);
    let report = pair
        .counted("eu", "us", |r| {
            r.counters.passed + r.counters.dropped.loss == all
        })
        .await;
    // 150 of 500 plus or minus seven sigma of ten each.
    assert!(
        (80..220).contains(&report.counters.dropped.loss),
        "{report:?}"
    );
    let seen = pair.us.take(report.counters.passed).await;
    assert!(seen.is_sorted(), "the others keep their order");
}

#[tokio::test]
async fn duplication_doubles() {
    let pair = Pair::start().await;
    pair.links
        .change("eu", "us", Change::Duplicate(1.0))
        .unwrap();
    send_all(&pair, 20).await;
    let seen = pair.us.take(40).await;
    let twice: Vec<u32> = (0..20).flat_map(|number| [number, number]).collect();
    assert_eq!(seen, twice);
    assert_eq!(pair.report("eu", "us").counters.duplicated, 20);
}

#[tokio::test]
async fn reordering_reorders() {
    let pair = Pair::start().await;
    pair.links.change("eu", "us", Change::Reorder(0.2)).unwrap();
    send_all(&pair, DATAGRAMS).await;
    let mut seen = pair.us.take(DATAGRAMS.into()).await;
    assert!(!seen.is_sorted(), "nothing was overtaken");
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..DATAGRAMS), "all came, each once");
    assert!(pair.report("eu", "us").counters.reordered > 0);
}

#[tokio::test]
async fn bandwidth_drops_what_its_queue_does_not_hold() {
    const BYTES: usize = 1_000;
    let pair = Pair::start().await;
    let rate = 1_000_000;
    pair.links
        .change("eu", "us", Change::Bandwidth(Some(rate)))
        .unwrap();
    let relay = pair.relay("eu", "us");
    let sent = 2 * (RELAY_BURST_BYTES + RELAY_QUEUE_BYTES) / BYTES;
    let started = Instant::now();
    for _ in 0..sent {
        pair.eu.socket.send_to(&[0; BYTES], relay).await.unwrap();
    }
    let report = pair
        .counted("eu", "us", |r| {
            r.counters.passed + r.counters.dropped.bandwidth == sent as u64
        })
        .await;
    let took = started.elapsed();
    assert!(report.counters.dropped.bandwidth > 0, "{report:?}");
    assert!(report.counters.delayed > 0, "{report:?}");
    // No more than the burst and what the rate gave in that time; the last one may be on its way.
    let most = RELAY_BURST_BYTES as f64 + rate as f64 / 8.0 * took.as_secs_f64() + BYTES as f64;
    assert!(
        report.counters.bytes as f64 <= most,
        "{report:?} in {took:?}"
    );
}

#[tokio::test]
async fn impossible_orders_change_nothing() {
    let pair = Pair::start().await;
    let check = |from: &str, to: &str, change, words: &str| {
        let error = pair.links.change(from, to, change).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    check("eu", "ap", Change::Cut, "no region `ap`; there are eu, us");
    check("eu", "eu", Change::Cut, "`eu` is named twice");
    check("eu", "us", Change::Loss(2.0), "loss is 2");
    assert!(pair.links.report().iter().all(|link| link.faults.is_none()));
}
