//! Free ports.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::error::{Error, Result};

/// A loopback address that nobody listened on a moment ago, for a program that has to be told one.
///
/// # Errors
///
/// [`Error::Connection`] when the system has no port left.
pub fn free_address() -> Result<SocketAddr> {
    // The listener is closed here. The kernel hands ephemeral ports out in turn, so the next ones
    // to ask get others.
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|error| Error::connection("a free loopback port", error))
}
