//! Workspaces as directory trees, made by a [`Provisioner`].
//!
//! ```text
//! <root>/<directory>/               0700
//!     .openclaw/                    0700
//!         owner                     0600  the user id; ties the directory to one user
//!         profiles/                 0700
//!             user-<directory>.yml  0600  rewritten when its content should change
//!     sandbox-workspace/            0700
//!     sessions/                     0700
//!     workspace/                    0700
//!         AGENTS.md                 0600  written once, then the person's
//!         IDENTITY.md               0600  written once, then the person's
//!         …                         0600  further files of yours ([`Templates`]), likewise
//! ```
//!
//! # What may stand in the way
//!
//! Everybody who works in a tree may plant something in it, while the provisioner often runs as
//! root. So every step goes from an open directory to one name in it, never through a path, and
//! never through a link (`openat2` with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`; where the
//! kernel has none or forbids it, `openat` with `O_NOFOLLOW`, one component at a time). Whatever
//! is not the directory or file it should be, has a second name (a hard link), or belongs to
//! somebody else is refused with a [`ProvisionError`] that names it, and left as it is. Mount
//! points are followed: only an administrator can make one. Of a file that is the person's nothing is
//! changed, its mode neither: a link that is removed at the right moment makes it a file elsewhere.
//!
//! The root directory itself is trusted by its path. It must belong to this process's user, to
//! root, or to the configured [`Owner`]; and unless it is sticky it must not be writable by everybody,
//! nor by a group that is neither this process's, nor root's, nor the owner's. Whoever is in such a
//! group is trusted. A root that does not exist is created with mode 0711.
//!
//! # Several at once
//!
//! Within one process visits of one user are one after the other, and those that ask for the same
//! share one run. Between processes no lock is needed, nor one that a tenant could hold: each step
//! is idempotent, and a file appears whole or not at all. What a crash or a full disk
//! interrupted is completed by the next visit; the profile is written last. Names that begin with
//! `.draft-` are the provisioner's: files half written, which the next visit that writes in that
//! directory removes unless somebody is still writing them.
//!
//! # What is done later
//!
//! [`Provisioner::remove`] first takes the name away from a directory: it becomes
//! `.removed-<directory>-<random>`, which is nobody's, and whoever comes from then on gets a new one. Then
//! it is emptied, name by name: a link goes and what it leads to stays, and so does whatever
//! has another name elsewhere or is mounted there. What a crash interrupts is taken up by the next removal of
//! the same person, or by [`Provisioner::finish_removals`].
//!
//! [`Provisioner::snapshot`] counts what somebody has. It walks from directory to directory as above,
//! stays on the file system that the person's directory is on, and stops where its [`Bounds`] say.
//! [`Provisioner::export`] writes what is somebody's own into an [`Archive`] in the same way: `workspace`,
//! `sessions`, `sandbox-workspace` and the profiles. Links are in it as links. A file with a second name, or
//! that belongs to a stranger, may be another person's, and is left out and told.

mod archive;
mod bounds;
mod dir;
mod draft;
mod error;
mod escape;
mod export;
mod flight;
mod open;
mod owner;
mod person;
mod provisioner;
mod removal;
mod snapshot;
mod template;
mod templates;
mod walk;

pub use self::{
    archive::Archive,
    bounds::Bounds,
    error::ProvisionError,
    export::{ExportError, Exported, Omission, OmissionReason},
    owner::{Owner, OwnerError},
    person::Person,
    provisioner::Provisioner,
    snapshot::{Snapshot, Tally},
    template::{Template, TemplateError},
    templates::{Templates, TemplatesError},
};
