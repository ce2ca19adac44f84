//! A link between two regions that can be cut: forwards UDP datagrams to one address.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::UdpSocket;
use tokio::task::{JoinHandle, JoinSet};

/// More than any datagram.
const BUFFER_BYTES: usize = 64 * 1024;

/// Forwards until dropped. One socket per client, so that answers find their way back.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    open: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Listens on a port of its own and forwards to `to`.
    pub(crate) async fn start(to: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("it is bound");
        let open = Arc::new(AtomicBool::new(true));
        let task = tokio::spawn(forward(Arc::new(socket), to, Arc::clone(&open)));
        Self {
            address,
            open,
            task,
        }
    }

    /// What is sent from now on is lost, in both directions.
    pub(crate) fn cut(&self) {
        self.open.store(false, Ordering::SeqCst);
    }

    /// What is sent from now on gets through again.
    pub(crate) fn heal(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(socket: Arc<UdpSocket>, to: SocketAddr, open: Arc<AtomicBool>) {
    let mut upstream: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
    let mut answers = JoinSet::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        // Errors are about datagrams sent before, e.g. to a client that is gone.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        if !open.load(Ordering::SeqCst) {
            continue;
        }
        let out = match upstream.get(&from) {
            Some(out) => Arc::clone(out),
            None => {
                let out = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
                out.connect(to).await.expect("loopback is there");
                let out = Arc::new(out);
                upstream.insert(from, Arc::clone(&out));
                let (back, open) = (Arc::clone(&socket), Arc::clone(&open));
                answers.spawn(answer(Arc::clone(&out), back, from, open));
                out
            }
        };
        let _ = out.send(&buffer[..length]).await;
    }
}

async fn answer(
    from: Arc<UdpSocket>,
    socket: Arc<UdpSocket>,
    client: SocketAddr,
    open: Arc<AtomicBool>,
) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        // An error says that nobody listens there now; somebody may again.
        if let Ok(length) = from.recv(&mut buffer).await
            && open.load(Ordering::SeqCst)
        {
            let _ = socket.send_to(&buffer[..length], client).await;
        }
    }
}
