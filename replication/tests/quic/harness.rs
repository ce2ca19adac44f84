//! Certificates, transports and what they logged.

use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::sync::mpsc;
use tokio::time::timeout;
use whimbrel_replication::id::RegionId;
use whimbrel_replication::link::{Frame, Have, LinkId, Role};
use whimbrel_replication::quic::{LinkEvent, PeerAddress, QuicConfig, Transport};

pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

/// PEM of a certificate and its key.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a CA"))
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn issue(&self, names: &[&str]) -> Identity {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let cert = CertificateParams::new(names)
            .expect("names")
            .signed_by(&key, &self.0)
            .expect("a certificate");
        Identity {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }
}

pub(crate) fn config(ca: &Ca, name: &str, peers: Vec<PeerAddress>) -> QuicConfig {
    let identity = ca.issue(&[name]);
    QuicConfig {
        region_name: name.into(),
        ca_pem: ca.pem().into(),
        cert_pem: identity.cert.into(),
        key_pem: identity.key.into(),
        reset_key: [name.as_bytes()[0]; 64],
        peers,
    }
}

pub(crate) fn peer(region: u16, name: &str, addrs: &[SocketAddr]) -> PeerAddress {
    PeerAddress {
        region: RegionId(region),
        name: name.into(),
        addrs: addrs.iter().map(ToString::to_string).collect(),
    }
}

pub(crate) fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").expect("a port")
}

/// A transport and what it told.
pub(crate) struct Side {
    pub(crate) transport: Transport,
    pub(crate) events: mpsc::Receiver<LinkEvent>,
}

impl Side {
    pub(crate) fn start(socket: UdpSocket, config: QuicConfig) -> Self {
        let (sender, events) = mpsc::channel(64);
        let transport = Transport::start(socket, config, sender).expect("it starts");
        Self { transport, events }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.transport.local_addr().expect("it is bound")
    }

    pub(crate) async fn next(&mut self) -> LinkEvent {
        self.find(Some).await
    }

    pub(crate) async fn up(&mut self, role: Role) -> LinkId {
        self.find(|event| match event {
            LinkEvent::Up { link, role: r, .. } if r == role => Some(link),
            _ => None,
        })
        .await
    }

    /// Waits until a link has a lane for bulk.
    pub(crate) async fn bulk(&mut self, link: LinkId) {
        self.find(|event| matches!(event, LinkEvent::Bulk { link: l } if l == link).then_some(()))
            .await;
    }

    pub(crate) async fn frame(&mut self, link: LinkId) -> Frame {
        self.find(|event| match event {
            LinkEvent::Frame { link: l, frame } if l == link => Some(frame),
            _ => None,
        })
        .await
    }

    pub(crate) async fn down(&mut self, link: LinkId) -> String {
        self.find(|event| match event {
            LinkEvent::Down { link: l, reason } if l == link => Some(reason),
            _ => None,
        })
        .await
    }

    /// The first event that fits; others are passed over, but not for ever.
    pub(crate) async fn find<T>(&mut self, fits: impl Fn(LinkEvent) -> Option<T>) -> T {
        let search = async {
            loop {
                let event = self.events.recv().await.expect("the transport lives");
                if let Some(found) = fits(event) {
                    return found;
                }
            }
        };
        timeout(Duration::from_secs(12), search)
            .await
            .expect("it happens in time")
    }
}

/// A frame that can be told from others.
pub(crate) fn frame(n: i64) -> Frame {
    Frame::Have(Have {
        unix_ms: Some(n),
        ..Have::default()
    })
}

/// Warnings of the current thread.
#[derive(Clone, Default)]
pub(crate) struct Warnings(Arc<Mutex<Vec<u8>>>);

impl Warnings {
    pub(crate) fn record(&self) -> tracing::subscriber::DefaultGuard {
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().expect("no writer panics").clone();
        let text = String::from_utf8(bytes).expect("log lines are text");
        text.lines().map(ToOwned::to_owned).collect()
    }
}

impl Write for Warnings {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no writer panics").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
