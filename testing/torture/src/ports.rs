//! Free ports.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

/// Below the range from which the system takes ports for outgoing connections, so that a node that
/// is started again finds its port free.
const FIRST: u16 = 10_000;
const LAST: u16 = 17_999;

/// Addresses on loopback on which nobody listens at present, each given once by this process until
/// all have been.
///
/// # Panics
/// If there are not so many.
pub fn free(count: usize) -> Vec<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = LAST - FIRST + 1;
    // Processes begin apart.
    let start = u16::try_from(std::process::id().wrapping_mul(61) % u32::from(span)).unwrap_or(0);
    let mut found = Vec::new();
    for _ in 0..span {
        if found.len() == count {
            break;
        }
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % span;
        let port = FIRST + (start + step) % span;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            found.push(address);
        }
    }
    assert_eq!(found.len(), count, "not enough free ports on loopback");
    found
}
