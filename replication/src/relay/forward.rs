//! One relay: a UDP socket that is dialled instead of a region, and one towards the region for each
//! address that dials.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::direction::{Cause, Direction, Fate};
use super::faults::{Change, Faults, FaultsError};
use crate::limits::{
    RELAY_ANSWERS_MAX, RELAY_CLIENTS_MAX, RELAY_HELD_BYTES_MAX, RELAY_HELD_OVERHEAD_BYTES,
    UDP_BUFFER_BYTES,
};

/// More than any datagram.
const BUFFER_BYTES: usize = 64 * 1024;
/// Who has sent nothing for so long is forgotten; links give up much sooner.
const IDLE: Duration = Duration::from_secs(60);
const IDLE_CHECK: Duration = Duration::from_secs(10);
/// After an error of a socket, so that one that stays does not take a whole core.
const ERROR_PAUSE: Duration = Duration::from_millis(5);

/// A way through a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// From who dials to who is dialled.
    Forth,
    /// The answers.
    Back,
}

/// What a direction has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Datagrams handed on, copies too.
    pub passed: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those among the passed that were held first.
    pub delayed: u64,
    /// Those among the passed that were second copies.
    pub duplicated: u64,
    /// Datagrams that were held back for others to overtake.
    pub reordered: u64,
    /// Datagrams that did not get through.
    pub dropped: Dropped,
}

/// Datagrams that did not get through, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// The direction was cut.
    pub cut: u64,
    /// By chance.
    pub loss: u64,
    /// The queue before the narrow place was full.
    pub bandwidth: u64,
    /// The relay had no room: a limit of the relay, not a fault that was asked for.
    pub room: u64,
}

impl Counters {
    /// The sum of two.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let (a, b) = (&self.dropped, &other.dropped);
        Self {
            passed: self.passed + other.passed,
            bytes: self.bytes + other.bytes,
            delayed: self.delayed + other.delayed,
            duplicated: self.duplicated + other.duplicated,
            reordered: self.reordered + other.reordered,
            dropped: Dropped {
                cut: a.cut + b.cut,
                loss: a.loss + b.loss,
                bandwidth: a.bandwidth + b.bandwidth,
                room: a.room + b.room,
            },
        }
    }

    fn drop(&mut self, cause: Cause) {
        match cause {
            Cause::Cut => self.dropped.cut += 1,
            Cause::Loss => self.dropped.loss += 1,
            Cause::Bandwidth => self.dropped.bandwidth += 1,
            Cause::Room => self.dropped.room += 1,
        }
    }
}

/// Something for each way.
#[derive(Clone, Debug, Default)]
struct Both<T> {
    forth: T,
    back: T,
}

impl<T> Both<T> {
    fn of(&self, way: Way) -> &T {
        match way {
            Way::Forth => &self.forth,
            Way::Back => &self.back,
        }
    }

    fn of_mut(&mut self, way: Way) -> &mut T {
        match way {
            Way::Forth => &mut self.forth,
            Way::Back => &mut self.back,
        }
    }
}

/// A running relay; dropped, it stops.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    faults: watch::Sender<Both<Faults>>,
    counters: watch::Receiver<Both<Counters>>,
    _task: AbortOnDropHandle<()>,
}

impl Relay {
    /// Listens on `listen`, where port 0 is any free one, and forwards to `target` from the same IP
    /// address. `forth` and `back` are the chances of each way.
    pub async fn start(
        listen: SocketAddr,
        target: SocketAddr,
        forth: StdRng,
        back: StdRng,
    ) -> io::Result<Self> {
        let socket = bind(listen).await?;
        let address = socket.local_addr()?;
        let (faults, faults_seen) = watch::channel(Both::default());
        let (counters, counters_seen) = watch::channel(Both::default());
        let (answer, answers) = mpsc::channel(RELAY_ANSWERS_MAX);
        let forwarder = Forwarder {
            socket,
            target,
            started: Instant::now(),
            clients: BTreeMap::new(),
            answer,
            held: BinaryHeap::new(),
            held_bytes: 0,
            admitted: 0,
            faults: faults_seen,
            directions: Both::default(),
            chances: Both { forth, back },
            counters,
        };
        Ok(Self {
            address,
            faults,
            counters: counters_seen,
            _task: AbortOnDropHandle::new(tokio::spawn(forwarder.run(answers))),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the faults of a way, for datagrams that are sent after this.
    pub fn change(&self, way: Way, change: &Change) -> Result<(), FaultsError> {
        let mut result = Ok(());
        self.faults.send_if_modified(|both| {
            let faults = both.of_mut(way);
            match faults.changed(change) {
                Ok(changed) => *faults = changed,
                Err(error) => result = Err(error),
            }
            result.is_ok()
        });
        result
    }

    /// The faults of a way.
    pub fn faults(&self, way: Way) -> Faults {
        *self.faults.borrow().of(way)
    }

    /// What a way has done so far.
    pub fn counters(&self, way: Way) -> Counters {
        *self.counters.borrow().of(way)
    }
}

/// A datagram that is not due yet.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    due: Duration,
    /// Datagrams that are due together keep their order.
    number: u64,
    datagram: Datagram,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Datagram {
    way: Way,
    client: SocketAddr,
    bytes: Vec<u8>,
    is_copy: bool,
}

impl Datagram {
    fn room(&self) -> usize {
        self.bytes.len() + RELAY_HELD_OVERHEAD_BYTES
    }
}

/// An address that dials, as the region sees it.
struct Dialler {
    socket: Arc<UdpSocket>,
    last: Instant,
    _reader: AbortOnDropHandle<()>,
}

/// The one owner of a relay's state.
struct Forwarder {
    socket: UdpSocket,
    target: SocketAddr,
    started: Instant,
    clients: BTreeMap<SocketAddr, Dialler>,
    answer: mpsc::Sender<Datagram>,
    held: BinaryHeap<Reverse<Held>>,
    held_bytes: usize,
    admitted: u64,
    faults: watch::Receiver<Both<Faults>>,
    directions: Both<Direction>,
    chances: Both<StdRng>,
    counters: watch::Sender<Both<Counters>>,
}

impl Forwarder {
    async fn run(mut self, mut answers: mpsc::Receiver<Datagram>) {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut idle_check = interval(IDLE_CHECK);
        idle_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.held.peek().map(|Reverse(held)| held.due);
            tokio::select! {
                () = sleep_until(self.started + due.unwrap_or_default()), if due.is_some() => {
                    self.release().await;
                }
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok((length, client)) => {
                        self.admit(Datagram {
                            way: Way::Forth,
                            client,
                            bytes: buffer[..length].to_vec(),
                            is_copy: false,
                        })
                        .await;
                    }
                    // It is about a datagram sent before, e.g. to a client that is gone.
                    Err(_) => sleep(ERROR_PAUSE).await,
                },
                // We hold a sender, so there is always another answer to wait for.
                Some(answer) = answers.recv() => self.admit(answer).await,
                now = idle_check.tick() => {
                    self.clients.retain(|_, client| now - client.last < IDLE);
                }
            }
        }
    }

    /// Takes what has just been sent.
    async fn admit(&mut self, datagram: Datagram) {
        if self.faults.has_changed().unwrap_or(false) {
            let faults = self.faults.borrow_and_update();
            for way in [Way::Forth, Way::Back] {
                self.directions.of_mut(way).change(*faults.of(way));
            }
        }
        let now = self.started.elapsed();
        let way = datagram.way;
        let direction = self.directions.of_mut(way);
        let fate = direction.admit(now, datagram.bytes.len(), self.chances.of_mut(way));
        let (at, twice) = match fate {
            Fate::Leaves {
                at,
                twice,
                overtaken,
            } => {
                if overtaken {
                    self.count(way, |counters| counters.reordered += 1);
                }
                (at, twice)
            }
            Fate::Dropped(cause) => return self.count(way, |counters| counters.drop(cause)),
        };
        let copy = twice.then(|| Datagram {
            is_copy: true,
            ..datagram.clone()
        });
        for datagram in std::iter::once(datagram).chain(copy) {
            if at > now {
                self.hold(at, datagram);
            } else {
                self.send(datagram).await;
            }
        }
    }

    fn hold(&mut self, due: Duration, datagram: Datagram) {
        let room = datagram.room();
        if self.held_bytes + room > RELAY_HELD_BYTES_MAX {
            return self.count(datagram.way, |counters| counters.drop(Cause::Room));
        }
        self.held_bytes += room;
        self.admitted += 1;
        self.held.push(Reverse(Held {
            due,
            number: self.admitted,
            datagram,
        }));
    }

    /// Sends all that is due.
    async fn release(&mut self) {
        let now = self.started.elapsed();
        while let Some(Reverse(next)) = self.held.peek()
            && next.due <= now
        {
            let Some(Reverse(Held { datagram, .. })) = self.held.pop() else {
                return;
            };
            self.held_bytes -= datagram.room();
            self.count(datagram.way, |counters| counters.delayed += 1);
            self.send(datagram).await;
        }
    }

    async fn send(&mut self, datagram: Datagram) {
        let Datagram {
            way,
            client,
            bytes,
            is_copy,
        } = datagram;
        let sent = match way {
            Way::Back => self.socket.send_to(&bytes, client).await,
            Way::Forth => match self.client(client).await {
                Ok(client) => {
                    client.last = Instant::now();
                    client.socket.send(&bytes).await
                }
                Err(error) => {
                    warn!(%client, %error, "no socket for a client of the relay");
                    return self.count(way, |counters| counters.drop(Cause::Room));
                }
            },
        };
        // An error says that nobody listened there before; somebody may again.
        if sent.is_ok() {
            self.count(way, |counters| {
                counters.passed += 1;
                counters.bytes += bytes.len() as u64;
                counters.duplicated += u64::from(is_copy);
            });
        }
    }

    async fn client(&mut self, address: SocketAddr) -> io::Result<&mut Dialler> {
        if !self.clients.contains_key(&address) {
            if self.clients.len() >= RELAY_CLIENTS_MAX {
                let longest_silent = self.clients.iter().min_by_key(|(_, client)| client.last);
                let longest_silent = longest_silent.map(|(address, _)| *address);
                longest_silent.and_then(|address| self.clients.remove(&address));
            }
            let client = self.connect(address).await?;
            self.clients.insert(address, client);
        }
        Ok(self
            .clients
            .get_mut(&address)
            .expect("it was there or has just been put there"))
    }

    async fn connect(&self, client: SocketAddr) -> io::Result<Dialler> {
        let from = SocketAddr::new(self.socket.local_addr()?.ip(), 0);
        let socket = Arc::new(bind(from).await?);
        socket.connect(self.target).await?;
        let reader = read_answers(Arc::clone(&socket), client, self.answer.clone());
        Ok(Dialler {
            socket,
            last: Instant::now(),
            _reader: AbortOnDropHandle::new(tokio::spawn(reader)),
        })
    }

    fn count(&self, way: Way, count: impl FnOnce(&mut Counters)) {
        self.counters.send_modify(|both| count(both.of_mut(way)));
    }
}

async fn read_answers(socket: Arc<UdpSocket>, client: SocketAddr, answer: mpsc::Sender<Datagram>) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let Ok(length) = socket.recv(&mut buffer).await else {
            sleep(ERROR_PAUSE).await;
            continue;
        };
        let datagram = Datagram {
            way: Way::Back,
            client,
            bytes: buffer[..length].to_vec(),
            is_copy: false,
        };
        if answer.send(datagram).await.is_err() {
            return;
        }
    }
}

/// With large buffers: what the system drops there is no fault that was asked for.
async fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address).await?;
    let options = socket2::SockRef::from(&socket);
    let _ = options.set_recv_buffer_size(UDP_BUFFER_BYTES);
    let _ = options.set_send_buffer_size(UDP_BUFFER_BYTES);
    Ok(socket)
}
