//! The UDP socket: who may connect, and whom we dial.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::HandshakeData;
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, EndpointConfig, Incoming, RecvStream,
    SendStream, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use quinn_proto::{HashedConnectionIdGenerator, TransportErrorCode};
use rand::Rng as _;
use rustls::pki_types::CertificateDer;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{Instrument as _, debug, info, info_span, warn};

use super::bulk::Dialler;
use super::stream::{self, End, Open, Side, read_frame};
use super::tls::{Names, Tls};
use super::{
    ADMIT_TIMEOUT, BULK_ALPN, IDLE_TIMEOUT, KEEP_ALIVE, LinkEvent, NOT_A_PEER, QuicConfig,
    QuicError, REDIAL, Shared,
};
use crate::id::RegionId;
use crate::limits::{
    LINKS_PER_PEER_MAX, PENDING_CONNECTIONS_MAX, QUIC_WINDOW_BYTES, UDP_BUFFER_BYTES,
};
use crate::link::{Frame, Role};

pub(super) fn start(
    socket: UdpSocket,
    config: QuicConfig,
    shared: &Arc<Shared>,
) -> Result<Endpoint, QuicError> {
    let tls = Tls::new(&config)?;
    let names = Arc::new(Names::new(&config)?);
    let transport = Arc::new(transport());
    let mut server = ServerConfig::with_crypto(tls.server);
    server.transport_config(Arc::clone(&transport));
    let mut client = ClientConfig::new(tls.client);
    client.transport_config(Arc::clone(&transport));
    let mut bulk = ClientConfig::new(tls.bulk_client);
    bulk.transport_config(transport);

    ask_for_buffers(&socket);
    socket.set_nonblocking(true)?;
    let mut endpoint = Endpoint::new(
        endpoint_config(&config.reset_key),
        Some(server),
        socket,
        Arc::new(TokioRuntime),
    )?;
    endpoint.set_default_client_config(client);

    let span = info_span!("accept");
    let accepting = accept_all(endpoint.clone(), names, Arc::clone(shared));
    shared.tasks.spawn(accepting.instrument(span));
    for peer in config.peers {
        for addr in peer.addrs {
            let node = PeerNode {
                region: peer.region,
                name: peer.name.clone(),
                addr,
                bulk: bulk.clone(),
            };
            let span = info_span!("dial", peer = %node.name, addr = node.addr);
            let dialling = dial_for_ever(endpoint.clone(), node, Arc::clone(shared));
            shared.tasks.spawn(dialling.instrument(span));
        }
    }
    Ok(endpoint)
}

fn transport() -> TransportConfig {
    let window = VarInt::from_u32(QUIC_WINDOW_BYTES);
    let mut transport = TransportConfig::default();
    transport
        .congestion_controller_factory(Arc::new(CubicConfig::default()))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(
            IDLE_TIMEOUT
                .try_into()
                .expect("the idle timeout is far below 2^62 ms"),
        ))
        .max_concurrent_bidi_streams(1u32.into())
        .max_concurrent_uni_streams(0u32.into())
        .datagram_receive_buffer_size(None)
        .stream_receive_window(window)
        .receive_window(window)
        .send_window(QUIC_WINDOW_BYTES.into());
    transport
}

/// Everything that a restarted endpoint needs to tell old connections that they are gone comes from
/// the one persisted key: the reset tokens, and the hash inside connection ids, without which the
/// packets of an old connection are dropped in silence.
fn endpoint_config(reset_key: &[u8; 64]) -> EndpointConfig {
    let derived = blake3::derive_key("whimbrel 2026 quic connection ids", reset_key);
    let [a, b, c, d, e, f, g, h, ..] = derived;
    let cid_key = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    let reset_key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, reset_key);
    let mut config = EndpointConfig::new(Arc::new(reset_key));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(cid_key)));
    config
}

/// Small buffers lose packets in bursts; systems clamp what one may ask for.
fn ask_for_buffers(socket: &UdpSocket) {
    let socket = socket2::SockRef::from(socket);
    let _ = socket.set_recv_buffer_size(UDP_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(UDP_BUFFER_BYTES);
    let receive = socket.recv_buffer_size().unwrap_or(0);
    let send = socket.send_buffer_size().unwrap_or(0);
    if receive.min(send) < UDP_BUFFER_BYTES {
        info!(
            receive,
            send,
            wanted = UDP_BUFFER_BYTES,
            "the system clamps the UDP buffers; raise net.core.rmem_max and net.core.wmem_max"
        );
    }
}

async fn accept_all(endpoint: Endpoint, names: Arc<Names>, shared: Arc<Shared>) {
    let pending = Arc::new(Semaphore::new(PENDING_CONNECTIONS_MAX));
    loop {
        let incoming = tokio::select! {
            () = shared.cancel.cancelled() => return,
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else {
            return;
        };
        let Ok(permit) = Arc::clone(&pending).try_acquire_owned() else {
            // Under a flood: who cannot be reached at their address is not worth a line either.
            if incoming.may_retry() {
                let _ = incoming.retry();
            } else {
                warn!(from = %incoming.remote_address(), "refused: too many unknown connections");
                incoming.refuse();
            }
            continue;
        };
        let span = info_span!("link", from = %incoming.remote_address());
        let (names, task) = (Arc::clone(&names), Arc::clone(&shared));
        let serving = async move {
            let admitted = tokio::select! {
                () = task.cancel.cancelled() => return,
                admitted = timeout(ADMIT_TIMEOUT, admit(incoming, &names, &task)) => admitted,
            };
            drop(permit);
            match admitted {
                Ok(Ok(Some((link, first)))) => serve(&task, link, first).await,
                Ok(Ok(None)) => {}
                Ok(Err(reason)) => warn!(%reason, "no link: the other side is not a peer"),
                Err(_) => warn!("no link: the other side said nothing in time"),
            }
        };
        shared.tasks.spawn(serving.instrument(span));
    }
}

/// A connection that has shown who it is, before it is a link.
struct Admitted {
    peer: RegionId,
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
}

/// Lets a connection in once its certificate names a peer and its first frame can be read. One for bulk
/// goes to its link.
async fn admit(
    incoming: Incoming,
    names: &Names,
    shared: &Shared,
) -> Result<Option<(Admitted, Frame)>, String> {
    let connection = match incoming.await {
        Ok(connection) => connection,
        Err(error) if is_given_up(&error) => {
            debug!(%error, "no link: the other side gave up");
            return Ok(None);
        }
        Err(error) => return Err(error.to_string()),
    };
    let peer = peer_of(&connection, names).inspect_err(|reason| {
        connection.close(NOT_A_PEER.into(), reason.as_bytes());
    })?;
    let shown = async {
        if is_for_bulk(&connection) {
            shared.bulk.admit(peer, connection.clone()).await?;
            return Ok(None);
        }
        let (send, recv, first) = first_frame(&connection, peer, shared).await?;
        let admitted = Admitted {
            peer,
            connection: connection.clone(),
            send,
            recv,
        };
        Ok(Some((admitted, first)))
    };
    let shown: Result<_, String> = shown.await;
    if let Err(reason) = &shown {
        connection.close(1u32.into(), reason.as_bytes());
    }
    shown
}

/// Who dials gives up where an answer comes too late, and dials anew; that it is no peer was not said.
fn is_given_up(error: &ConnectionError) -> bool {
    match error {
        ConnectionError::ConnectionClosed(close) => {
            close.error_code == TransportErrorCode::APPLICATION_ERROR
        }
        ConnectionError::ApplicationClosed(_)
        | ConnectionError::Reset
        | ConnectionError::TimedOut
        | ConnectionError::LocallyClosed => true,
        _ => false,
    }
}

/// Whether the other side closed because our certificate names no region of its cluster.
pub(super) fn is_refusal(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::ApplicationClosed(close) if close.error_code == NOT_A_PEER.into())
}

fn is_for_bulk(connection: &Connection) -> bool {
    let data = connection.handshake_data();
    let data = data.and_then(|data| data.downcast::<HandshakeData>().ok());
    data.is_some_and(|data| data.protocol.as_deref() == Some(BULK_ALPN))
}

fn peer_of(connection: &Connection, names: &Names) -> Result<RegionId, String> {
    let certs = connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
    let leaf = certs.as_ref().and_then(|certs| certs.first());
    names.region(leaf.ok_or("it has no certificate")?)
}

async fn first_frame(
    connection: &Connection,
    peer: RegionId,
    shared: &Shared,
) -> Result<(SendStream, RecvStream, Frame), String> {
    if shared.count(peer, Role::Server) >= LINKS_PER_PEER_MAX {
        return Err(format!("region {peer} has too many links"));
    }
    let (send, mut recv) = connection
        .accept_bi()
        .await
        .map_err(|error| error.to_string())?;
    match read_frame(&mut recv).await {
        Ok(first) => Ok((send, recv, first)),
        Err(End::Gone(reason) | End::Garbage(reason)) => Err(reason),
    }
}

/// One node of a peer.
struct PeerNode {
    region: RegionId,
    name: String,
    /// `host:port`.
    addr: String,
    /// For the second connection of a link.
    bulk: ClientConfig,
}

/// Keeps one link to a node. Failures are told when they change, not each time.
async fn dial_for_ever(endpoint: Endpoint, peer: PeerNode, shared: Arc<Shared>) {
    let (first_pause, longest_pause) = REDIAL;
    let mut pause = first_pause;
    let mut told = None;
    loop {
        let dialled = tokio::select! {
            () = shared.cancel.cancelled() => return,
            dialled = dial(&endpoint, &peer) => dialled,
        };
        if let Err(NoLink::Refused(_)) = &dialled {
            let peer = peer.region;
            shared.tell(LinkEvent::Refused { peer }).await;
        }
        match dialled.map_err(NoLink::into_reason) {
            Ok(admitted) => {
                told = None;
                let since = Instant::now();
                // Who hangs up at once, with a refusal or without a word, is not to be dialled in a
                // tight loop.
                let dialler = Dialler {
                    endpoint: endpoint.clone(),
                    config: peer.bulk.clone(),
                    name: peer.name.clone(),
                };
                if pull(&shared, admitted, dialler).await && since.elapsed() > longest_pause {
                    pause = first_pause;
                }
            }
            Err(reason) if told.as_ref() == Some(&reason) => debug!(%reason, "still no link"),
            Err(reason) => {
                warn!(%reason, "no link to the peer; dialling on");
                told = Some(reason);
            }
        }
        let jittered = pause.mul_f64(rand::rng().random_range(0.5..=1.0));
        tokio::select! {
            () = shared.cancel.cancelled() => return,
            () = tokio::time::sleep(jittered) => {}
        }
        pause = (pause * 2).min(longest_pause);
    }
}

/// Why no connection stands.
enum NoLink {
    /// The other side says that we are no region of its cluster.
    Refused(String),
    Failed(String),
}

impl NoLink {
    fn into_reason(self) -> String {
        match self {
            Self::Refused(reason) | Self::Failed(reason) => reason,
        }
    }
}

impl From<ConnectionError> for NoLink {
    fn from(error: ConnectionError) -> Self {
        if is_refusal(&error) {
            Self::Refused(error.to_string())
        } else {
            Self::Failed(error.to_string())
        }
    }
}

/// Tries all addresses of a node in turn.
async fn dial(endpoint: &Endpoint, peer: &PeerNode) -> Result<Admitted, NoLink> {
    let PeerNode {
        region, name, addr, ..
    } = peer;
    let resolved = tokio::net::lookup_host(addr)
        .await
        .map_err(|error| NoLink::Failed(format!("{addr}: {error}")))?;
    let mut last = NoLink::Failed(format!("{addr} has no address"));
    for to in resolved {
        match timeout(ADMIT_TIMEOUT, connect(endpoint, to, name)).await {
            Ok(Ok((connection, send, recv))) => {
                return Ok(Admitted {
                    peer: *region,
                    connection,
                    send,
                    recv,
                });
            }
            Ok(Err(NoLink::Refused(reason))) => last = NoLink::Refused(format!("{to}: {reason}")),
            Ok(Err(NoLink::Failed(reason))) => last = NoLink::Failed(format!("{to}: {reason}")),
            Err(_) => last = NoLink::Failed(format!("{to}: no answer")),
        }
    }
    Err(last)
}

/// The certificate of the other side must carry the peer's name: TLS checks it as a server name.
async fn connect(
    endpoint: &Endpoint,
    to: SocketAddr,
    name: &str,
) -> Result<(Connection, SendStream, RecvStream), NoLink> {
    let connecting = endpoint
        .connect(to, name)
        .map_err(|error| NoLink::Failed(error.to_string()))?;
    let connection = connecting.await?;
    let (send, recv) = connection.open_bi().await?;
    Ok((connection, send, recv))
}

/// Runs a link that we dialled; tells whether the peer ever said anything on it.
async fn pull(shared: &Shared, admitted: Admitted, dialler: Dialler) -> bool {
    start_link(shared, admitted, Side::Puller(dialler), None).await
}

/// Runs a link that the peer dialled; its first frame has been read.
async fn serve(shared: &Shared, admitted: Admitted, first: Frame) {
    start_link(shared, admitted, Side::Server, Some(first)).await;
}

async fn start_link(shared: &Shared, admitted: Admitted, side: Side, first: Option<Frame>) -> bool {
    let Admitted {
        peer,
        connection,
        send,
        recv,
    } = admitted;
    let role = match side {
        Side::Server => Role::Server,
        Side::Puller(_) => Role::Puller,
    };
    let (link, outbox) = shared.register(peer, role);
    shared.tell(LinkEvent::Up { link, peer, role }).await;
    if let Some(frame) = first {
        shared.tell(LinkEvent::Frame { link, frame }).await;
    }
    let open = Open {
        link,
        peer,
        connection,
        send,
        recv,
        outbox,
        side,
    };
    stream::run(shared, open).await
}
