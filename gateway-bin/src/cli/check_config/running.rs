//! The gateway that runs with this configuration, if one does: what it has is not in anybody's way.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long its socket may take.
const CONNECT: Duration = Duration::from_secs(1);

/// `TCP_LISTEN` of the kernel's `net/tcp_states.h`, as `/proc/net/tcp` writes it.
const LISTEN: &str = "0A";

/// A process, and what it has open.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) process: i32,
    files: BTreeSet<PathBuf>,
    ports: BTreeSet<u16>,
}

// === impl Running ===

impl Running {
    /// Who listens on the operators' socket.
    pub(super) async fn find(socket: &Path) -> Option<Self> {
        let stream = timeout(CONNECT, UnixStream::connect(socket)).await.ok()?;
        let process = stream.ok()?.peer_cred().ok()?.pid()?;
        Some(Self::of(process))
    }

    fn of(process: i32) -> Self {
        let entries = fs::read_dir(format!("/proc/{process}/fd"));
        let entries = entries.into_iter().flatten().flatten();
        let files: BTreeSet<PathBuf> = entries
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .collect();
        let mut ports = BTreeSet::new();
        for table in ["tcp", "tcp6"] {
            let text = fs::read_to_string(format!("/proc/{process}/net/{table}"));
            let text = text.unwrap_or_default();
            let own = text
                .lines()
                .filter_map(listening)
                .filter(|(_, inode)| files.contains(Path::new(&format!("socket:[{inode}]"))));
            ports.extend(own.map(|(port, _)| port));
        }
        Self {
            process,
            files,
            ports,
        }
    }

    /// Whether it listens on this port.
    pub(super) fn listens_on(&self, address: SocketAddr) -> bool {
        self.ports.contains(&address.port())
    }

    /// Whether it has this file open.
    pub(super) fn has(&self, file: &Path) -> bool {
        let file = file.canonicalize();
        file.is_ok_and(|file| self.files.contains(&file))
    }
}

/// Port and inode of a socket that somebody listens on, of a line of `/proc/net/tcp` (proc(5)).
fn listening(line: &str) -> Option<(u16, &str)> {
    let mut fields = line.split_whitespace();
    let (_, port) = fields.nth(1)?.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?;
    (state == LISTEN).then_some((port, inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_that_are_listened_on_are_read_from_the_kernels_table() {
        let line = "   0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 \
                    0000000000000000 100 0 0 10 0";
        assert_eq!(listening(line), Some((3000, "12345")));
        assert_eq!(listening(&line.replace(" 0A ", " 01 ")), None);
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
        assert_eq!(listening(head), None);
        assert_eq!(listening(""), None);
    }

    #[tokio::test]
    async fn the_process_behind_a_socket_is_known_with_what_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.sock");
        assert!(Running::find(&path).await.is_none());
        let _socket = tokio::net::UnixListener::bind(&path).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let lock = dir.path().join("gateway.db.lock");
        let _file = fs::File::create(&lock).unwrap();
        let running = Running::find(&path).await.unwrap();
        assert_eq!(running.process.unsigned_abs(), std::process::id());
        assert!(running.listens_on(address) && running.has(&lock));
        assert!(!running.has(dir.path()));
        drop(listener);
        assert!(!Running::find(&path).await.unwrap().listens_on(address));
    }
}
