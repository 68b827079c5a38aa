//! What an operator can do about a directory that cannot be made.

use std::io;

use rustix::io::Errno;
use tower_workspace::fs::ProvisionError;

/// One sentence for the log.
pub(super) fn remedy(error: &ProvisionError) -> &'static str {
    match error {
        ProvisionError::Io { source, .. } => remedy_of(source),
        ProvisionError::UnsafeRoot { .. } => {
            "let nobody but root and the gateway write to workspace.root"
        }
        ProvisionError::OwnerDenied { .. } => {
            "run the gateway as root or with CAP_CHOWN, or set workspace.owner to the user that it runs as"
        }
        ProvisionError::NotUnicode { .. } => "let workspace.root be a path in Unicode",
        ProvisionError::Obstructed { .. }
        | ProvisionError::HardLinked { .. }
        | ProvisionError::WrongOwner { .. }
        | ProvisionError::Claimed { .. }
        | ProvisionError::Mounted { .. } => {
            "see what is there, and move it away; the gateway has left it as it was"
        }
        _ => "what stands in the log beside this says why",
    }
}

fn remedy_of(source: &io::Error) -> &'static str {
    // Without a kind of its own.
    if source.raw_os_error() == Some(Errno::IO.raw_os_error()) {
        return "the disk below workspace.root fails: see the kernel's log, and replace it";
    }
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room below workspace.root: blocks (df) or inodes (df -i) are used up"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "mount the file system of workspace.root read-write; one that became read-only by itself has a bad disk: see \
             the kernel's log"
        }
        io::ErrorKind::PermissionDenied => {
            "let the user that the gateway runs as read, write and enter workspace.root and everything below it; lsattr \
             shows what is immutable"
        }
        io::ErrorKind::NotFound => {
            "is something not mounted? Only the last directory of workspace.root is made"
        }
        _ => "see the kernel's log about the file system of workspace.root",
    }
}
