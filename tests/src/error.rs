//! What can go wrong around a test.

use std::{io, path::PathBuf, time::Duration};

use http::StatusCode;

/// The result of everything in the kit.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the kit could not do its part. A test that meets one has failed, except where it asked for
/// a refusal ([`Refused`](Self::Refused), [`Closed`](Self::Closed)).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The shared servers are not running.
    #[error("the servers of the test kit are not running: start the tests with `tests/run` ({0})")]
    NoKit(String),
    /// A file could not be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program could not be started or signalled.
    #[error("cannot run {program}")]
    Run {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program ended, or said nothing in time, before it was ready.
    #[error("{program} {what}; the end of its log:\n{log}")]
    NotReady {
        /// The program.
        program: String,
        /// What happened instead.
        what: String,
        /// The last lines it wrote.
        log: String,
    },
    /// A connection could not be made or broke.
    #[error("no connection to {peer}")]
    Connection {
        /// Where to.
        peer: String,
        /// What the client library said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A WebSocket upgrade was answered with something else than 101.
    #[error("the upgrade was refused with {0}")]
    Refused(StatusCode),
    /// The peer closed the WebSocket.
    #[error("closed by the peer with {code}: {reason}")]
    Closed {
        /// The close code; 1006 where the connection ended without a close frame.
        code: u16,
        /// The reason in the close frame.
        reason: String,
    },
    /// Nothing came in time.
    #[error("waited {0:?} for {1}")]
    Late(Duration, String),
    /// So many secrets are where they must not be.
    #[error("{0} secrets are where they must not be")]
    Leaked(usize),
    /// Something came that is not what it should be.
    #[error("unexpected {what}: {got}")]
    Unexpected {
        /// What it should have been.
        what: &'static str,
        /// What it was.
        got: String,
    },
}

impl Error {
    pub(crate) fn unexpected(what: &'static str, got: impl Into<String>) -> Self {
        Self::Unexpected {
            what,
            got: got.into(),
        }
    }

    pub(crate) fn connection(
        peer: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Connection {
            peer: peer.into(),
            source: source.into(),
        }
    }
}
