//! Whether a cell answers, and whether it is the cell that answers.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::timeout;

use super::process::ProcessId;

/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(3);

/// Asks cells; clones share nothing that is kept open.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    client: Client<HttpConnector, Empty<Bytes>>,
}

// === impl Probe ===

impl Probe {
    pub(super) fn new() -> Self {
        let mut client = Client::builder(TokioExecutor::new());
        // A cell that is stopped is not held by a connection.
        client.pool_max_idle_per_host(0);
        Self {
            client: client.build_http(),
        }
    }

    /// Whether what listens on a port says that it is ready; `None`: it says nothing.
    pub(super) async fn is_ready(&self, port: u16) -> Option<bool> {
        let request = Request::get(format!("http://127.0.0.1:{port}/readyz"));
        let request = request.body(Empty::new()).ok()?;
        let answer = timeout(ANSWER, self.client.request(request)).await;
        Some(answer.ok()?.ok()?.status() == StatusCode::OK)
    }
}

/// Whether one of these processes listens on a port of loopback: whoever else does there would be told the password.
pub(super) fn listens(processes: &BTreeSet<ProcessId>, port: u16) -> bool {
    let tables = [
        ("/proc/net/tcp", "0100007F"),
        ("/proc/net/tcp", "00000000"),
        ("/proc/net/tcp6", "00000000000000000000000000000000"),
    ];
    let sockets: HashSet<String> = tables
        .into_iter()
        .filter_map(|(table, address)| {
            let table = fs::read_to_string(table).ok()?;
            listener(&table, address, port)
        })
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let mut files = processes
        .iter()
        .filter_map(|process| fs::read_dir(format!("/proc/{}/fd", process.pid)).ok())
        .flatten()
        .filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    files.any(|file| file.to_str().is_some_and(|file| sockets.contains(file)))
}

/// The inode of the socket that listens there, by such a table: see proc_net_tcp(5).
fn listener<'a>(table: &'a str, address: &str, port: u16) -> Option<String> {
    const LISTENS: &str = "0A";

    let local = format!("{address}:{port:04X}");
    table.lines().find_map(|line: &'a str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it = fields.get(1) == Some(&&*local) && fields.get(3) == Some(&LISTENS);
        is_it.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
    })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn whose_port_it_is_can_be_seen() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let own = ProcessId::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(listens(&BTreeSet::from([own]), port));
        assert!(!listens(&BTreeSet::new(), port));
        let parent = ProcessId::of(rustix::process::getppid().unwrap().as_raw_nonzero().get());
        assert!(!listens(&parent.into_iter().collect(), port));
        drop(listener);
        assert!(!listens(&BTreeSet::from([own]), port));
    }

    #[tokio::test]
    async fn what_says_nothing_is_not_ready() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        assert_eq!(Probe::new().is_ready(port).await, None);
    }
}
