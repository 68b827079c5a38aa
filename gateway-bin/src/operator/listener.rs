use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;
use tokio::net::{UnixListener, UnixSocket, UnixStream};

/// Longest path of a socket, in bytes: `sun_path` has 108 with the NUL at its end (unix(7)).
pub const MAX_PATH: usize = 107;

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 128;

/// A Unix socket that only its owner may connect to. Its file is removed when it is dropped.
#[derive(Debug)]
pub struct OperatorListener {
    pub(super) listener: UnixListener,
    _file: SocketFile,
}

/// Why there is no socket; the message names its path.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SocketError {
    /// What is there is not a socket. It is left alone.
    #[error("{} is there and is not a socket; move it away or name another path", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Somebody listens there.
    #[error("{} is in use by another process; name another path", path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// The socket cannot be made.
    #[error("cannot listen on {}: {source}", path.display())]
    Bind {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The file of a socket of ours.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode, which tell it from one that somebody else has put there since.
    id: (u64, u64),
}

// === impl OperatorListener ===

impl OperatorListener {
    /// Listens on `path`, in place of a socket that nobody listens on any more. Nobody but us and root can connect at
    /// any moment.
    ///
    /// # Errors
    ///
    /// [`SocketError`].
    ///
    /// # Cancel safety
    ///
    /// Dropped, the future leaves no socket, or what was there.
    pub async fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Bind {
            path: path.to_owned(),
            source,
        };
        remove_stale(path).await?;
        let socket = UnixSocket::new_stream().map_err(failed)?;
        socket.bind(path).map_err(failed)?;
        let file = SocketFile::of(path).map_err(failed)?;
        // Until it listens, every connection is refused, whatever mode the umask gave it.
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
        let listener = socket.listen(BACKLOG).map_err(failed)?;
        Ok(Self {
            listener,
            _file: file,
        })
    }
}

/// Removes what a gateway has left that was killed.
async fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::Bind {
        path: path.to_owned(),
        source,
    };
    match fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => {}
        Ok(_) => {
            return Err(SocketError::NotASocket {
                path: path.to_owned(),
            });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        // Nothing but a full queue makes it wait: somebody listens there too.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(failed(error)),
        _ => Err(SocketError::InUse {
            path: path.to_owned(),
        }),
    }
}

// === impl SocketFile ===

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            id: id(path)?,
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if id(&self.path).is_ok_and(|id| id == self.id) {
            // What is left is replaced at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn id(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.sock");
        (dir, path)
    }

    #[tokio::test]
    async fn only_its_owner_may_connect_and_it_goes_with_the_listener() {
        let (_dir, path) = path();
        let listener = OperatorListener::bind(&path).await.unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert!(UnixStream::connect(&path).await.is_ok());
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_that_nobody_listens_on_is_replaced() {
        let (_dir, path) = path();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "as a killed process leaves it");
        let _listener = OperatorListener::bind(&path).await.unwrap();
        assert!(UnixStream::connect(&path).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_in_use_or_not_a_socket_is_left_alone() {
        let (dir, path) = path();
        let listener = OperatorListener::bind(&path).await.unwrap();
        let second = OperatorListener::bind(&path).await;
        assert!(matches!(second, Err(SocketError::InUse { .. })));
        assert!(UnixStream::connect(&path).await.is_ok());
        drop(listener);
        fs::write(&path, "a note").unwrap();
        let refused = OperatorListener::bind(&path).await;
        assert!(matches!(refused, Err(SocketError::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "a note");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let refused = OperatorListener::bind(&link).await;
        assert!(matches!(refused, Err(SocketError::NotASocket { .. })));
    }

    #[tokio::test]
    async fn a_socket_that_somebody_else_has_put_there_is_not_removed() {
        let (_dir, path) = path();
        let listener = OperatorListener::bind(&path).await.unwrap();
        fs::rename(&path, path.with_extension("old")).unwrap();
        let _other = OperatorListener::bind(&path).await.unwrap();
        drop(listener);
        assert!(UnixStream::connect(&path).await.is_ok());
    }
}
