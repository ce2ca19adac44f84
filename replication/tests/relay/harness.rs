//! Two regions that are bare sockets, and the relays between them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use whimbrel_replication::relay::{Dial, LinkReport, Links};

/// Long enough for a slow machine that runs other things beside.
const DEADLINE: Duration = Duration::from_secs(20);

/// Any free port.
pub(crate) const ANY: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A region: sends numbered datagrams, and sees those of others.
pub(crate) struct Peer {
    pub(crate) socket: Arc<UdpSocket>,
    /// Read all the time: the socket's own buffer holds some hundred only.
    seen: Mutex<mpsc::UnboundedReceiver<(u32, SocketAddr)>>,
    _reader: AbortOnDropHandle<()>,
}

impl Peer {
    pub(crate) async fn new() -> Self {
        let socket = Arc::new(UdpSocket::bind(ANY).await.unwrap());
        let (sender, seen) = mpsc::unbounded_channel();
        let reading = Arc::clone(&socket);
        let reader = async move {
            let mut buffer = [0; 2_000];
            loop {
                let (_, from) = reading.recv_from(&mut buffer).await.unwrap();
                let number = u32::from_be_bytes(buffer[..4].try_into().unwrap());
                let _ = sender.send((number, from));
            }
        };
        Self {
            socket,
            seen: Mutex::new(seen),
            _reader: AbortOnDropHandle::new(tokio::spawn(reader)),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    pub(crate) async fn send(&self, number: u32, to: SocketAddr) {
        let bytes = number.to_be_bytes();
        assert_eq!(self.socket.send_to(&bytes, to).await.unwrap(), 4);
    }

    /// The next datagram, and from where.
    pub(crate) async fn next(&self) -> (u32, SocketAddr) {
        let mut seen = self.seen.lock().await;
        let next = timeout(DEADLINE, seen.recv()).await;
        next.expect("a datagram in time").unwrap()
    }

    /// The numbers of the next datagrams.
    pub(crate) async fn take(&self, count: u64) -> Vec<u32> {
        let mut numbers = Vec::new();
        for _ in 0..count {
            numbers.push(self.next().await.0);
        }
        numbers
    }
}

/// eu and us, which dial each other through relays.
pub(crate) struct Pair {
    pub(crate) eu: Peer,
    pub(crate) us: Peer,
    pub(crate) links: Links,
}

impl Pair {
    pub(crate) async fn start() -> Self {
        let seed = std::env::var("WHIMBREL_SEED")
            .map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
        println!("WHIMBREL_SEED={seed}");
        let (eu, us) = (Peer::new().await, Peer::new().await);
        let dial = |from: &str, to: &str, target: &Peer| Dial {
            from: from.to_owned(),
            to: to.to_owned(),
            listen: ANY,
            target: target.address(),
        };
        let dials = [dial("eu", "us", &us), dial("us", "eu", &eu)];
        let links = Links::start(seed, dials).await.unwrap();
        Self { eu, us, links }
    }

    /// The relay that `from` dials to reach `to`.
    pub(crate) fn relay(&self, from: &str, to: &str) -> SocketAddr {
        self.links.address(from, to).unwrap()
    }

    pub(crate) fn report(&self, from: &str, to: &str) -> LinkReport {
        let all = self.links.report();
        let mut of_pair = all.into_iter().filter(|r| r.from == from && r.to == to);
        of_pair.next().unwrap()
    }

    /// Waits until what travels from `from` to `to` has been counted so.
    pub(crate) async fn counted(
        &self,
        from: &str,
        to: &str,
        is: impl Fn(&LinkReport) -> bool,
    ) -> LinkReport {
        let started = Instant::now();
        loop {
            let report = self.report(from, to);
            if is(&report) {
                return report;
            }
            assert!(started.elapsed() < DEADLINE, "{report:?}");
            sleep(Duration::from_millis(5)).await;
        }
    }
}
