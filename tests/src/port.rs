//! Free ports.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use aws_lc_rs::rand;

use crate::error::{Error, Result};

/// Ports that the system does not give to connections of its own (Linux: from 32768): one that is free now is not taken
/// by the next outgoing connection before whoever is told it listens there.
const PORTS: std::ops::Range<u16> = 10_240..32_000;

/// How many are tried.
const ATTEMPTS: usize = 100;

/// A loopback address that nobody listened on a moment ago, for a program that has to be told one.
///
/// # Errors
///
/// [`Error::Connection`] when no port is free.
pub fn free_address() -> Result<SocketAddr> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let mut random = [0; 2];
        rand::fill(&mut random).map_err(|error| Error::connection("random numbers", error))?;
        let port = PORTS.start + u16::from_be_bytes(random) % (PORTS.end - PORTS.start);
        // The listener is closed here.
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => {
                let address = listener.local_addr();
                return address.map_err(|error| Error::connection("a loopback port", error));
            }
            Err(error) => last = Some(error),
        }
    }
    let last = last.unwrap_or_else(|| std::io::Error::other("none was tried"));
    Err(Error::connection("a free loopback port", last))
}
