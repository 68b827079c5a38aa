//! Free ports.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        OnceLock,
        atomic::{AtomicU16, Ordering},
    },
};

use aws_lc_rs::rand;

use crate::error::{Error, Result};

/// Ports that the system does not give to connections of its own (Linux: from 32768): one that is free now is not taken
/// by the next outgoing connection before whoever is told it listens there.
const PORTS: std::ops::Range<u16> = 10_240..32_000;

/// How many are tried.
const ATTEMPTS: usize = 100;

/// A loopback address that nobody listened on a moment ago, for a program that has to be told one. No address is
/// given twice by one process: what was told the first may not listen on it yet.
///
/// # Errors
///
/// [`Error::Connection`] when no port is free.
pub fn free_address() -> Result<SocketAddr> {
    static LAST: OnceLock<AtomicU16> = OnceLock::new();

    let mut random = [0; 2];
    rand::fill(&mut random).map_err(|error| Error::connection("random numbers", error))?;
    // Processes that ask at the same time begin at different places.
    let last = LAST.get_or_init(|| AtomicU16::new(u16::from_be_bytes(random)));
    let mut failed = None;
    for _ in 0..ATTEMPTS {
        let next = last.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + next % (PORTS.end - PORTS.start);
        // The listener is closed here.
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => {
                let address = listener.local_addr();
                return address.map_err(|error| Error::connection("a loopback port", error));
            }
            Err(error) => failed = Some(error),
        }
    }
    let failed = failed.unwrap_or_else(|| std::io::Error::other("none was tried"));
    Err(Error::connection("a free loopback port", failed))
}
