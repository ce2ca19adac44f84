//! G17: who is not a peer gets no link, a line in the log, and the node goes on.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use whimbrel_client::api::ProblemCode;

use crate::harness::{Cluster, cluster_id, group, make_pki, say, text};
use crate::node::{Config, Listed, Node, Ports};
use crate::programs::run_ok;
use crate::wait::{ensure, until, within};

/// Where eu takes links.
fn quic_of(cluster: &Cluster) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], cluster.node("eu").config.ports.quic))
}

/// Lines of eu's log that hold all of `words`.
fn lines(cluster: &Cluster, words: &[&str]) -> Vec<String> {
    let log = cluster.node("eu").log();
    let holds = |line: &&str| words.iter().all(|word| line.contains(word));
    log.lines().filter(holds).map(str::to_owned).collect()
}

async fn told(cluster: &Cluster, words: &[&str]) {
    until(&format!("a line in the log with {words:?}"), async || {
        ensure(!lines(cluster, words).is_empty(), "none so far")
    })
    .await;
}

/// What eu and us tell each other still arrives.
async fn still_linked(cluster: &Cluster) {
    let (eu, us) = (cluster.client("eu", "ana"), cluster.client("us", "ana"));
    let id = group(&eu, &[]).await;
    until("the group in us", async || us.conversation(&id).await).await;
    let answer = say(&us, &id, "still here").await.message;
    until("the answer in eu", async || {
        eu.message(&id, &answer.id).await
    })
    .await;
    let log = cluster.node("eu").log();
    assert!(!log.contains("panicked"), "{log}");
}

/// G17: nodes whose config is wrong, or who belong to others.
#[tokio::test(flavor = "multi_thread")]
async fn g17_foreign_nodes_get_no_link() {
    let cluster = Cluster::of(&["eu", "us"]).await;
    let us = &cluster.node("us").config;
    let others_pki = cluster.folder().join("others-pki");
    make_pki(&others_pki, &["eu", "us"]);
    // They take the same tokens, so that one can post through them.
    for name in ["token.pub.pem", "token.key.pem"] {
        std::fs::copy(us.pki.join(name), others_pki.join(name)).unwrap();
    }
    let mars_pki = issue(&cluster, "mars");
    let foreign = |region: &str| {
        let ports = Ports::free();
        let listed = |name: &str, number, http, quic| Listed {
            name: name.to_owned(),
            number,
            http,
            quic,
        };
        let own = SocketAddr::from(([127, 0, 0, 1], ports.quic));
        let eu = cluster.node("eu").config.ports.http;
        Config {
            region: region.to_owned(),
            regions: vec![
                listed("eu", 1, eu, quic_of(&cluster)),
                listed(region, 2, ports.http, own),
            ],
            ports,
            store: crate::foundationdb::section(&us.cluster, region),
            ..us.clone()
        }
    };
    let through = |node: &Node| {
        let theirs = whimbrel_client::Client::builder()
            .url(node.url())
            .discover(false)
            .token(cluster.token("eve", None));
        theirs.build().unwrap()
    };
    for (what, words, config) in [
        (
            "another cluster",
            ["a link was closed", "cluster"],
            Config {
                cluster: cluster_id(),
                ..foreign("us")
            },
        ),
        (
            "another number of shards",
            ["a link was closed", "shards"],
            Config {
                shards: 8,
                ..foreign("us")
            },
        ),
        (
            "another authority",
            ["no link", "certificate"],
            Config {
                pki: others_pki,
                ..foreign("us")
            },
        ),
    ] {
        println!("{what}");
        let mut node = Node::new(&cluster.folder().join(what.replace(' ', "-")), config);
        node.start();
        node.ready().await;
        let theirs = through(&node);
        let bait = group(&theirs, &["ana"]).await;
        told(&cluster, &words).await;
        for region in ["eu", "us"] {
            let hidden = cluster.client(region, "ana").conversation(&bait).await;
            assert_eq!(
                hidden.unwrap_err().code(),
                Some(ProblemCode::NotFound),
                "{what}"
            );
        }
        // Nor do they get anything out of us.
        let secret = group(&cluster.client("eu", "ana"), &["eve"]).await;
        let hidden = theirs.conversation(&secret).await;
        assert_eq!(
            hidden.unwrap_err().code(),
            Some(ProblemCode::NotFound),
            "{what}"
        );
        node.stop().await;
    }
    let unknown = Config {
        pki: mars_pki,
        ..foreign("mars")
    };
    let mut node = Node::new(&cluster.folder().join("an-unknown-region"), unknown);
    node.start();
    told(&cluster, &["no link", "names no region of ours"]).await;
    // It hears so, takes nothing, and has nothing of ours.
    node.unready("know no region by its certificate").await;
    let theirs = through(&node);
    let secret = group(&cluster.client("eu", "ana"), &["eve"]).await;
    theirs.post(&secret, &text("bait")).await.unwrap_err();
    theirs.conversation(&secret).await.unwrap_err();
    node.stop().await;
    still_linked(&cluster).await;
}

/// G17: connections that are no node's at all.
#[tokio::test(flavor = "multi_thread")]
async fn g17_strangers_get_no_link() {
    let cluster = Cluster::of(&["eu", "us"]).await;
    let eu = quic_of(&cluster);
    let pki = cluster.node("us").config.pki.clone();

    let nobody = connect(eu, &pki, None, b"whimbrel/1").await;
    assert!(
        !gets_an_answer(nobody, b"hello").await,
        "without a certificate"
    );
    told(&cluster, &["no link", "certificate"]).await;

    let other = TempDir::with_prefix("whimbrel-e2e-").unwrap();
    make_pki(other.path(), &["us"]);
    let forged = connect(eu, &pki, Some((other.path(), "us")), b"whimbrel/1").await;
    assert!(
        !gets_an_answer(forged, b"hello").await,
        "a certificate of another authority"
    );

    let twin = connect(eu, &pki, Some((&pki, "eu")), b"whimbrel/1").await;
    assert!(
        !gets_an_answer(twin, b"\x00\x00\x00\x01x").await,
        "the node's own certificate"
    );
    told(&cluster, &["no link", "our own region"]).await;

    let known = Some((pki.as_path(), "us"));
    let other_protocol = connect(eu, &pki, known, b"h3").await;
    assert!(
        !gets_an_answer(other_protocol, b"hello").await,
        "another protocol"
    );

    let long = vec![0xff; 1024 * 1024];
    for (what, bytes) in [
        ("a frame longer than any", &long[..]),
        ("a frame of nothing", b"\x00\x00\x00\x00"),
        ("a frame of garbage", b"\x00\x00\x00\x08garbage!"),
        ("half a frame", b"\x00\x00\x10\x00half"),
        ("not even a length", b"\x00"),
    ] {
        let before = lines(&cluster, &["no link"]).len();
        let connection = connect(eu, &pki, known, b"whimbrel/1").await;
        assert!(!gets_an_answer(connection, bytes).await, "{what}");
        until(&format!("a line about {what}"), async || {
            let now = lines(&cluster, &["no link"]).len();
            ensure(now > before, "none so far")
        })
        .await;
    }
    // Says nothing at all, and keeps a place that others may need.
    let silent = connect(eu, &pki, known, b"whimbrel/1").await.unwrap();
    within("the node to hang up", silent.closed()).await;
    told(&cluster, &["no link", "said nothing"]).await;

    // Not even QUIC.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in [0, 1, 20, 1200, 9000, 65_000] {
        socket.send_to(&vec![0xc3; length], eu).unwrap();
    }
    still_linked(&cluster).await;
}

/// A certificate of the cluster's authority for a region that is none of the cluster's.
fn issue(cluster: &Cluster, region: &str) -> std::path::PathBuf {
    let pki = &cluster.node("eu").config.pki;
    let path = pki.to_str().unwrap();
    let args = [
        "ca", "issue", "--ca", path, "--region", region, "--out", path,
    ];
    run_ok("whimbrel-node", args);
    pki.clone()
}

/// Connects as nobody, or with the certificate of a region that stands in a folder.
async fn connect(
    to: SocketAddr,
    ca: &Path,
    identity: Option<(&Path, &str)>,
    protocol: &[u8],
) -> Result<Connection, String> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(ca.join("ca.pem")).unwrap();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut tls = match identity {
        None => tls.with_no_client_auth(),
        Some((folder, region)) => {
            let cert = CertificateDer::from_pem_file(folder.join(format!("{region}.pem")));
            let key = PrivateKeyDer::from_pem_file(folder.join(format!("{region}.key.pem")));
            let chain = vec![cert.unwrap()];
            tls.with_client_auth_cert(chain, key.unwrap()).unwrap()
        }
    };
    tls.alpn_protocols = vec![protocol.to_vec()];
    let config = QuicClientConfig::try_from(tls).unwrap();
    let mut endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    endpoint.set_default_client_config(ClientConfig::new(Arc::new(config)));
    let connecting = endpoint.connect(to, "eu").unwrap();
    let connection = within("an answer", connecting).await;
    connection.map_err(|error| error.to_string())
}

/// Whether the other side says a word of the protocol before it hangs up.
async fn gets_an_answer(connection: Result<Connection, String>, say: &[u8]) -> bool {
    let Ok(connection) = connection else {
        return false;
    };
    let Ok((mut send, mut recv)) = connection.open_bi().await else {
        return false;
    };
    // It may hang up while we speak.
    let _ = send.write_all(say).await;
    let _ = send.finish();
    let heard = within("the end of the stream", recv.read_to_end(1024)).await;
    within("the node to hang up", connection.closed()).await;
    heard.is_ok_and(|heard| !heard.is_empty())
}
