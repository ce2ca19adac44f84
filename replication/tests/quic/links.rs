//! Links come up, carry frames, and come back.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use bytes::Bytes;
use whimbrel_replication::id::{Origin, RegionId, ShardId, Stamp};
use whimbrel_replication::limits::FRAME_BATCHES_BYTES_MAX;
use whimbrel_replication::link::{Batches, Frame, Lane, Role};
use whimbrel_replication::quic::{LinkEvent, SendError};

use crate::harness::{Ca, Side, config, frame, peer, socket};

/// Region 1 dials region 2, which dials nobody.
fn one_way(ca: &Ca) -> (Side, Side) {
    let server = Side::start(socket(), config(ca, "us", vec![peer(1, "eu", &[])]));
    let peers = vec![peer(2, "us", &[server.addr()])];
    let puller = Side::start(socket(), config(ca, "eu", peers));
    (puller, server)
}

#[tokio::test]
async fn regions_dial_each_other_and_exchange_frames() {
    let ca = Ca::new();
    let (eu, us) = (socket(), socket());
    let addr = |socket: &UdpSocket| socket.local_addr().expect("it is bound");
    let (eu_addr, us_addr) = (addr(&eu), addr(&us));
    let mut eu = Side::start(eu, config(&ca, "eu", vec![peer(2, "us", &[us_addr])]));
    let mut us = Side::start(us, config(&ca, "us", vec![peer(1, "eu", &[eu_addr])]));
    for (puller, server) in [(&mut eu, &mut us)] {
        let up = puller.up(Role::Puller).await;
        puller
            .transport
            .send(up, Lane::Live, &frame(1))
            .expect("it is up");
        puller
            .transport
            .send(up, Lane::Live, &frame(2))
            .expect("it is up");
        let down = server.up(Role::Server).await;
        assert_eq!(server.frame(down).await, frame(1));
        assert_eq!(server.frame(down).await, frame(2));
        server
            .transport
            .send(down, Lane::Live, &frame(3))
            .expect("it is up");
        assert_eq!(puller.frame(up).await, frame(3));
    }
    let other = us.transport;
    eu.transport.shutdown().await;
    other.shutdown().await;
}

#[tokio::test]
async fn the_certificate_says_which_region_it_is() {
    let ca = Ca::new();
    let (mut puller, mut server) = one_way(&ca);
    let link = puller.up(Role::Puller).await;
    puller
        .transport
        .send(link, Lane::Live, &frame(1))
        .expect("it is up");
    let LinkEvent::Up { peer, role, .. } = server.next().await else {
        panic!("a link comes up first");
    };
    assert_eq!((peer, role), (RegionId(1), Role::Server));
}

#[tokio::test]
async fn who_is_no_peer_of_the_other_side_hears_of_it() {
    let ca = Ca::new();
    let us = Side::start(socket(), config(&ca, "us", vec![peer(1, "eu", &[])]));
    let peers = vec![peer(2, "us", &[us.addr()])];
    let mut mars = Side::start(socket(), config(&ca, "mars", peers));
    let refusing = mars.find(|event| match event {
        LinkEvent::Refused { peer } => Some(peer),
        _ => None,
    });
    assert_eq!(refusing.await, RegionId(2));
}

#[tokio::test]
async fn what_was_said_before_a_close_arrives() {
    let ca = Ca::new();
    let (mut puller, mut server) = one_way(&ca);
    let link = puller.up(Role::Puller).await;
    puller
        .transport
        .send(link, Lane::Live, &frame(1))
        .expect("it is up");
    let served = server.up(Role::Server).await;
    let reason = || Frame::Refused {
        reason: "another cluster".into(),
    };
    server
        .transport
        .send(served, Lane::Live, &reason())
        .expect("it is up");
    server.transport.close(served, "another cluster");
    assert_eq!(puller.frame(link).await, reason());
    puller.down(link).await;
    assert_eq!(server.down(served).await, "another cluster");
    assert_eq!(
        server.transport.send(served, Lane::Live, &frame(2)),
        Err(SendError::Gone)
    );
}

/// Bulk comes on a connection of its own, compressed, and in order; the link is one all the same.
#[tokio::test]
async fn bulk_takes_a_connection_of_its_own() {
    let ca = Ca::new();
    let (mut puller, mut server) = one_way(&ca);
    let link = puller.up(Role::Puller).await;
    puller
        .transport
        .send(link, Lane::Live, &frame(1))
        .expect("it is up");
    let served = server.up(Role::Server).await;
    server.bulk(served).await;
    let large = |n: u64, byte: u8| {
        let bytes =
            (0..FRAME_BATCHES_BYTES_MAX).map(|i| byte.wrapping_mul(i as u8 ^ (i >> 9) as u8));
        Frame::Batches(Batches {
            shard: ShardId(0),
            origin: Origin::from([0; 6]),
            from: Stamp::new(n, 0),
            to: Stamp::new(n + 1, 0),
            batches: vec![(Stamp::new(n + 1, 0), bytes.collect::<Vec<u8>>().into())],
        })
    };
    // Some of it cannot be made smaller.
    let random: Vec<u8> = (0..FRAME_BATCHES_BYTES_MAX)
        .map(|_| rand::random())
        .collect();
    let mut sent: Vec<Frame> = (0..40).map(|n| large(n, n as u8)).collect();
    sent.push(Frame::Answer {
        id: 1,
        answer: Some(random.into()),
    });
    for frame in &sent {
        server
            .transport
            .send(served, Lane::Bulk, frame)
            .expect("it is up");
    }
    server
        .transport
        .send(served, Lane::Live, &frame(2))
        .expect("it is up");
    let (mut bulk, mut live) = (vec![], vec![]);
    while bulk.len() < sent.len() || live.is_empty() {
        match puller.frame(link).await {
            frame @ Frame::Have(_) => live.push(frame),
            frame => bulk.push(frame),
        }
    }
    assert!(bulk == sent, "in order, and as they were sent");
    assert_eq!(live, [frame(2)]);
    server.transport.close(served, "enough");
    puller.down(link).await;
    assert_eq!(server.down(served).await, "enough");
}

#[tokio::test]
async fn a_peer_that_takes_nothing_loses_its_link() {
    let ca = Ca::new();
    let (mut puller, mut server) = one_way(&ca);
    let link = puller.up(Role::Puller).await;
    puller
        .transport
        .send(link, Lane::Live, &frame(1))
        .expect("it is up");
    let served = server.up(Role::Server).await;
    // Nobody takes the puller's events any more.
    let large = Frame::Batches(Batches {
        shard: ShardId(0),
        origin: Origin::from([0; 6]),
        from: Stamp::MIN,
        to: Stamp::MAX,
        batches: vec![(Stamp::MAX, vec![0; FRAME_BATCHES_BYTES_MAX].into())],
    });
    let refused = loop {
        tokio::task::yield_now().await;
        if let Err(error) = server.transport.send(served, Lane::Live, &large) {
            break error;
        }
    };
    assert_eq!(refused, SendError::Full);
    server.down(served).await;
    // And neither side hangs when it is told to stop.
    puller.transport.shutdown().await;
    server.transport.shutdown().await;
}

#[tokio::test]
async fn a_frame_that_no_peer_takes_is_not_sent() {
    let ca = Ca::new();
    let (mut puller, _server) = one_way(&ca);
    let link = puller.up(Role::Puller).await;
    let batch = Bytes::from(vec![0; 1 << 20]);
    let long = Frame::Batches(Batches {
        shard: ShardId(0),
        origin: Origin::from([0; 6]),
        from: Stamp::MIN,
        to: Stamp::MAX,
        batches: vec![(Stamp::MAX, batch)],
    });
    assert_eq!(
        puller.transport.send(link, Lane::Live, &long),
        Err(SendError::TooLong)
    );
    puller.down(link).await;
}

/// G1: a peer that was killed without a goodbye and comes back on its port is linked again within
/// three seconds, well before the idle timeout.
#[test]
fn g1_a_peer_that_was_killed_is_linked_again_soon() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime")
    };
    let ca = Ca::new();
    let life = runtime();
    let server_config = config(&ca, "us", vec![peer(1, "eu", &[])]);
    let server_socket = socket();
    let addr = server_socket.local_addr().expect("it is bound");
    let mut server = {
        let _inside = life.enter();
        Side::start(server_socket, server_config.clone())
    };
    let ours = runtime();
    let (mut puller, link) = ours.block_on(async {
        let peers = vec![peer(2, "us", &[addr])];
        let mut puller = Side::start(socket(), config(&ca, "eu", peers));
        let link = puller.up(Role::Puller).await;
        puller
            .transport
            .send(link, Lane::Live, &frame(1))
            .expect("it is up");
        let served = server.up(Role::Server).await;
        server
            .transport
            .send(served, Lane::Live, &frame(2))
            .expect("it is up");
        assert_eq!(puller.frame(link).await, frame(2));
        // A connection that is being made would be told in other words.
        server.bulk(served).await;
        (puller, link)
    });

    // Its tasks are gone at once, so no goodbye can be sent.
    life.shutdown_timeout(Duration::from_millis(100));
    drop(server);
    let again = runtime();
    let start = Instant::now();
    let server_socket = UdpSocket::bind(addr).expect("the port is free again");
    let _server = {
        let _inside = again.enter();
        Side::start(server_socket, server_config)
    };
    ours.block_on(async {
        let reason = puller.down(link).await;
        assert!(reason.contains("reset"), "{reason}");
        puller.up(Role::Puller).await;
    });
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
}
