//! Free ports on loopback.

use crate::exit::{Failure, UNAVAILABLE};
use rustix::rand::{GetRandomFlags, getrandom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Below the range from which the system takes ports for outgoing connections, so that a node that
/// is started again finds its port free.
const FIRST: u16 = 18_000;
const LAST: u16 = 31_999;

/// So many addresses that nobody listens on at the moment.
pub(super) fn free(count: usize) -> Result<Vec<SocketAddr>, Failure> {
    let mut random = [0; 2];
    getrandom(&mut random, GetRandomFlags::empty()).map_err(std::io::Error::from)?;
    let span = LAST - FIRST + 1;
    let offset = u16::from_ne_bytes(random) % span;
    // Kept until all are found, so that none is found twice.
    let mut held = Vec::new();
    let mut found = Vec::new();
    for step in 0..span {
        if found.len() == count {
            break;
        }
        let port = FIRST + (offset + step) % span;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if let Ok(listener) = TcpListener::bind(address) {
            held.push(listener);
            found.push(address);
        }
    }
    if found.len() < count {
        return Err(Failure::new(
            UNAVAILABLE,
            format!(
                "only {} of {count} ports between {FIRST} and {LAST} are free",
                found.len()
            ),
        ));
    }
    Ok(found)
}
