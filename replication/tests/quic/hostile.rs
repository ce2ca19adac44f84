//! G17: who is not a peer gets no link and one line in the log.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::timeout;
use whimbrel_replication::limits::FRAME_BYTES_MAX;
use whimbrel_replication::quic::{ADMIT_TIMEOUT, ALPN, BULK_ALPN};

use crate::harness::{Ca, Identity, Side, Warnings, config, frame, peer, socket};

/// A client that does as it likes.
fn client(trusts: &Ca, identity: Option<&Identity>, alpn: &[u8]) -> Endpoint {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(trusts.pem().as_bytes()).expect("a CA");
    roots.add(ca).expect("a CA");
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots);
    let mut tls = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let cert = CertificateDer::from_pem_slice(identity.cert.as_bytes()).expect("PEM");
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("PEM");
            builder
                .with_client_auth_cert(vec![cert], key)
                .expect("a pair")
        }
    };
    tls.alpn_protocols = vec![alpn.to_vec()];
    let crypto = QuicClientConfig::try_from(tls).expect("TLS 1.3");
    let mut endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    endpoint.set_default_client_config(ClientConfig::new(Arc::new(crypto)));
    endpoint
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    let mut out = (bytes.len() as u32).to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

/// Connects to region `us`, whose only peer is `eu`, and says `says`; expects one warning that
/// contains `expected`, and no link.
async fn check(
    ca: &Ca,
    identity: Option<&Identity>,
    alpn: &[u8],
    says: Option<&[u8]>,
    expected: &str,
) {
    let warnings = Warnings::default();
    let _recording = warnings.record();
    let mut us = Side::start(socket(), config(ca, "us", vec![peer(1, "eu", &[])]));
    let endpoint = client(ca, identity, alpn);
    if let Ok(connection) = endpoint.connect(us.addr(), "us").expect("a name").await {
        let stream = match says {
            None => None,
            Some(says) => {
                let mut stream = connection.open_bi().await.expect("one stream");
                let _ = stream.0.write_all(says).await;
                Some(stream)
            }
        };
        let _ = timeout(Duration::from_secs(9), connection.closed()).await;
        drop(stream);
    }
    let event = timeout(Duration::from_millis(300), us.events.recv()).await;
    assert!(event.is_err(), "a link came up: {event:?}");
    let lines = warnings.lines();
    assert!(
        matches!(lines.as_slice(), [line] if line.contains(expected)),
        "expected one line with {expected:?}: {lines:#?}"
    );
    us.transport.shutdown().await;
}

#[tokio::test]
async fn g17_without_a_certificate() {
    check(&Ca::new(), None, ALPN, None, "sent no certificates").await;
}

#[tokio::test]
async fn g17_with_a_certificate_of_another_ca() {
    let eu = Ca::new().issue(&["eu"]);
    check(
        &Ca::new(),
        Some(&eu),
        ALPN,
        None,
        "invalid peer certificate",
    )
    .await;
}

#[tokio::test]
async fn g17_as_a_region_that_is_not_configured() {
    let ca = Ca::new();
    let mars = ca.issue(&["mars"]);
    check(&ca, Some(&mars), ALPN, None, "names no region of ours").await;
}

#[tokio::test]
async fn g17_as_our_own_region() {
    let ca = Ca::new();
    let us = ca.issue(&["us"]);
    check(&ca, Some(&us), ALPN, None, "our own region").await;
}

#[tokio::test]
async fn g17_as_several_regions() {
    let ca = Ca::new();
    let both = ca.issue(&["eu", "us"]);
    check(&ca, Some(&both), ALPN, None, "several regions").await;
}

#[tokio::test]
async fn g17_with_another_protocol() {
    let ca = Ca::new();
    let eu = ca.issue(&["eu"]);
    check(&ca, Some(&eu), b"h3", None, "no link").await;
}

#[tokio::test]
async fn g17_with_garbage_for_a_frame() {
    let ca = Ca::new();
    let eu = ca.issue(&["eu"]);
    let says = framed(b"\xff\xff\xff");
    check(&ca, Some(&eu), ALPN, Some(&says), "protobuf").await;
}

#[tokio::test]
async fn g17_with_a_frame_that_is_too_long() {
    let ca = Ca::new();
    let eu = ca.issue(&["eu"]);
    let says = (FRAME_BYTES_MAX as u32 + 1).to_be_bytes();
    check(&ca, Some(&eu), ALPN, Some(&says), "a frame of").await;
}

#[tokio::test]
async fn g17_without_ever_saying_anything() {
    let ca = Ca::new();
    let eu = ca.issue(&["eu"]);
    let start = std::time::Instant::now();
    check(&ca, Some(&eu), ALPN, None, "said nothing in time").await;
    assert!(start.elapsed() < ADMIT_TIMEOUT + Duration::from_secs(2));
}

#[tokio::test]
async fn g17_with_half_a_frame() {
    let ca = Ca::new();
    let eu = ca.issue(&["eu"]);
    let says = [0, 0, 1, 0, 7];
    check(&ca, Some(&eu), ALPN, Some(&says), "said nothing in time").await;
}

/// Garbage after a good start: the link is lost, with one line.
#[tokio::test]
async fn g17_garbage_on_a_link_ends_it() {
    let warnings = Warnings::default();
    let _recording = warnings.record();
    let ca = Ca::new();
    let mut us = Side::start(socket(), config(&ca, "us", vec![peer(1, "eu", &[])]));
    let eu = ca.issue(&["eu"]);
    let endpoint = client(&ca, Some(&eu), ALPN);
    let connecting = endpoint.connect(us.addr(), "us").expect("a name");
    let connection = connecting.await.expect("it is trusted");
    let (mut send, _recv) = connection.open_bi().await.expect("one stream");
    let mut says = framed(&frame(1).encode());
    says.extend(framed(b"\xff\xff\xff"));
    send.write_all(&says).await.expect("it is taken");
    let link = us.up(whimbrel_replication::link::Role::Server).await;
    assert_eq!(us.frame(link).await, frame(1));
    assert!(us.down(link).await.contains("protobuf"));
    assert_eq!(warnings.lines().len(), 1, "{:#?}", warnings.lines());
}

/// A server that only claims to be the peer is not believed, and gets no link.
#[tokio::test]
async fn g17_a_dialled_server_must_be_the_peer() {
    let warnings = Warnings::default();
    let _recording = warnings.record();
    let ca = Ca::new();
    let mars = Side::start(socket(), config(&ca, "mars", vec![peer(2, "us", &[])]));
    let peers = vec![peer(1, "eu", &[mars.addr()])];
    let mut us = Side::start(socket(), config(&ca, "us", peers));
    let event = timeout(Duration::from_secs(1), us.events.recv()).await;
    assert!(event.is_err(), "a link came up: {event:?}");
    let ours: Vec<String> = warnings
        .lines()
        .into_iter()
        .filter(|line| line.contains("dial"))
        .collect();
    assert_eq!(ours.len(), 1, "{ours:#?}");
}

/// A connection for bulk belongs to a link of its own two ends, or to none.
#[tokio::test]
async fn g17_a_connection_for_bulk_without_its_link_is_refused() {
    let ca = Ca::new();
    let eu = ca.issue(&["eu"]);
    let says = [7; 32];
    check(&ca, Some(&eu), BULK_ALPN, Some(&says), "belongs to no link").await;
    check(&ca, Some(&eu), BULK_ALPN, None, "said nothing in time").await;
}
