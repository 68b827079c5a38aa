//! Ports of cells.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::rand;

/// Ports that the system does not give to connections of its own (Linux: from 32768), so that one that is free now is free
/// when OpenClaw listens there.
const PORTS: Range<u16> = 20_000..32_000;

/// Which ports cells have; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Ports {
    taken: Arc<Mutex<BTreeSet<u16>>>,
}

/// A port that no other cell has, as long as this is held.
#[derive(Debug)]
pub(super) struct Port {
    number: u16,
    ports: Ports,
}

// === impl Ports ===

impl Ports {
    /// A port that nobody listens on: `preferred`, if that is one.
    pub(super) fn take(&self, preferred: Option<u16>) -> io::Result<Port> {
        let mut random = [0; 2];
        rand::fill(&mut random).map_err(|_| io::Error::other("no randomness"))?;
        let count = PORTS.end - PORTS.start;
        let first = u16::from_be_bytes(random) % count;
        let all = (first..count).chain(0..first).map(|n| PORTS.start + n);
        let preferred = preferred.filter(|port| PORTS.contains(port));
        let mut ports = preferred.into_iter().chain(all);
        let port = ports.find_map(|port| self.reserve(port).filter(|_| is_free(port)));
        port.ok_or_else(|| {
            let (first, last) = (PORTS.start, PORTS.end - 1);
            io::Error::other(format!("none of the ports from {first} to {last} is free"))
        })
    }

    /// The port of a cell that runs; `None` if another one has it.
    pub(super) fn reserve(&self, number: u16) -> Option<Port> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.insert(number).then(|| Port {
            number,
            ports: self.clone(),
        })
    }
}

/// Finds a port that a cell could have.
///
/// # Errors
///
/// There is none.
pub(crate) fn find_free_port() -> io::Result<u16> {
    Ports::default().take(None).map(|port| port.number())
}

/// OpenClaw listens on both of loopback's addresses, where there are two.
fn is_free(port: u16) -> bool {
    let is_taken = |address: SocketAddr| {
        let failed = TcpListener::bind(address).err();
        failed.is_some_and(|error| error.kind() != io::ErrorKind::AddrNotAvailable)
    };
    let has_v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let v6 = has_v6.then(|| SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
    let mut addresses = std::iter::once((Ipv4Addr::LOCALHOST, port).into()).chain(v6);
    !addresses.any(is_taken)
}

// === impl Port ===

impl Port {
    pub(super) const fn number(&self) -> u16 {
        self.number
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let taken = self.ports.taken.lock();
        let mut taken = taken.unwrap_or_else(PoisonError::into_inner);
        taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_cells_have_one_port() {
        let ports = Ports::default();
        let taken: Vec<_> = (0..50).map(|_| ports.take(None).unwrap()).collect();
        let numbers: BTreeSet<_> = taken.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), taken.len());
        let first = taken[0].number();
        assert_ne!(ports.take(Some(first)).unwrap().number(), first);
        assert!(ports.reserve(first).is_none());
        drop(taken);
        assert_eq!(ports.take(Some(first)).unwrap().number(), first);
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_not_taken() {
        let ports = Ports::default();
        let free = ports.take(None).unwrap().number();
        for address in [
            SocketAddr::from((Ipv4Addr::LOCALHOST, free)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, free)),
        ] {
            // Where there is no such address, nobody listens there.
            let Ok(_listener) = TcpListener::bind(address) else {
                continue;
            };
            assert_ne!(ports.take(Some(free)).unwrap().number(), free, "{address}");
        }
        assert_ne!(ports.take(Some(80)).unwrap().number(), 80);
    }
}
