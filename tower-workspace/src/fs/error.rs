use std::{io, path::PathBuf};

use thiserror::Error;

use crate::{NameError, ResolveError};

/// Why a workspace could not be provisioned, looked at or removed.
///
/// Whatever was done before stays done, and the next attempt goes on from there.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProvisionError {
    /// The user id can have no directory.
    #[error("user id can have no directory")]
    Name(#[from] NameError),
    /// The root cannot be trusted: whoever else may write to it could exchange what is in it.
    #[error("workspace root {path} {reason}")]
    UnsafeRoot {
        /// The root.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Something else is where a directory or a file of the tree should be.
    #[error("{path} is {found}, not {expected}")]
    Obstructed {
        /// Where.
        path: PathBuf,
        /// What is there: `a symbolic link`, `a named pipe`, ….
        found: &'static str,
        /// What should be: `a directory` or `a regular file`.
        expected: &'static str,
    },
    /// A file of the tree has a second name, perhaps outside of it.
    #[error("{path} has more than one hard link")]
    HardLinked {
        /// The file.
        path: PathBuf,
    },
    /// A directory or file of the tree belongs to a stranger.
    #[error("{path} belongs to uid {uid}, not to uid {expected}")]
    WrongOwner {
        /// Where.
        path: PathBuf,
        /// Whom it belongs to.
        uid: u32,
        /// Whom it should belong to.
        expected: u32,
    },
    /// The directory was made for another user.
    #[error("{path} names another user")]
    Claimed {
        /// The file that names the user.
        path: PathBuf,
    },
    /// This process may not give files to the configured owner; it takes root, or `CAP_CHOWN`.
    #[error("not permitted to give {path} to uid {uid}, gid {gid}")]
    OwnerDenied {
        /// What was to be given away.
        path: PathBuf,
        /// The configured user.
        uid: u32,
        /// The configured group.
        gid: u32,
        /// The answer of the system.
        source: io::Error,
    },
    /// A path that must be written into a file is not Unicode.
    #[error("path {path:?} is not Unicode")]
    NotUnicode {
        /// The path.
        path: PathBuf,
    },
    /// Something is mounted there, which is neither looked into nor removed.
    #[error("something is mounted on {path}")]
    Mounted {
        /// Where.
        path: PathBuf,
    },
    /// The file system failed: disk full, read-only, input/output error, ….
    #[error("cannot {action} {path}")]
    Io {
        /// What was attempted, such as `create directory`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The answer of the system.
        source: io::Error,
    },
    /// The runtime shut down before the work was done.
    #[error("runtime shut down meanwhile")]
    Interrupted,
}

// === impl ProvisionError ===

impl From<ProvisionError> for ResolveError {
    /// A user id without a directory is the user's fault, everything else the server's.
    fn from(error: ProvisionError) -> Self {
        match error {
            ProvisionError::Name(error) => Self::InvalidUser(error),
            error => Self::unavailable(error),
        }
    }
}
