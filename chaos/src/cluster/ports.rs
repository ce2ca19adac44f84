//! Ports of this machine.

use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

/// A port that is free for TCP and UDP. Below the range from which systems give ports to whoever
/// asks for any, and no port twice, so that clusters beside each other don't take each other's.
///
/// # Panics
///
/// Where no port is free.
pub fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two processes beside each other start in different places, far apart although their pids are
    // not.
    let spread = std::process::id().wrapping_mul(997) % u32::from(COUNT);
    let start = u16::try_from(spread).expect("it is below 2^16");
    for _ in 0..COUNT {
        let offset = (start + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        let address = ("127.0.0.1", FIRST + offset);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return address.1;
        }
    }
    panic!("no port is free");
}
