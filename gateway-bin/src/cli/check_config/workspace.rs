//! Where people's workspaces are.

use std::error::Error;
use std::io;

use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::process::geteuid;
use tower_workspace::fs::{Owner, Provisioner};

use super::files::{Place, place_of_new};
use super::report::Check;
use crate::config::Workspace;

const ROOT: &str = "workspace.root";

/// Looks at the root, and at who is to have what is in it.
pub(super) fn check(workspace: &Workspace) -> Vec<Check> {
    let mut provisioner = Provisioner::new(&workspace.root);
    let mut checks = Vec::new();
    if let Some(name) = &workspace.owner {
        match Owner::of_user(name) {
            Ok(owner) => {
                let own = geteuid();
                if owner.uid() != own.as_raw() && !own.is_root() {
                    checks.push(Check::wrong(
                        "workspace.owner",
                        format!(
                            "only root can give files to {name}: run the gateway as root, or as {name} and without this key"
                        ),
                    ));
                }
                provisioner = provisioner.owner(owner);
            }
            Err(error) => checks.push(Check::wrong(
                "workspace.owner",
                format!("{error}: name whom OpenClaw runs as"),
            )),
        }
    }
    checks.push(root(workspace, &provisioner));
    checks
}

fn root(workspace: &Workspace, provisioner: &Provisioner) -> Check {
    let path = &workspace.root;
    let shown = path.display();
    match provisioner.find_root() {
        Ok(true) => {}
        Ok(false) => {
            return match place_of_new(path) {
                Place::Good => Check::ok(ROOT, format!("{shown} is made when somebody comes")),
                Place::Bad(why) => Check::wrong(ROOT, format!("{shown} cannot be made: {why}")),
            };
        }
        Err(error) => {
            let cause = error.source().map(|cause| format!(": {cause}"));
            return Check::wrong(ROOT, format!("{error}{}", cause.unwrap_or_default()));
        }
    }
    if let Err(errno) = access(path, Access::WRITE_OK | Access::EXEC_OK) {
        return Check::wrong(
            ROOT,
            format!(
                "{shown} cannot be written: {}; give it to whoever the gateway runs as (`chown`), or run this as them",
                io::Error::from(errno)
            ),
        );
    }
    match opens_beneath(workspace) {
        Ok(()) => Check::ok(ROOT, format!("{shown} is there and can be written")),
        Err(Errno::NOSYS | Errno::PERM) => Check::note(
            ROOT,
            format!(
                "{shown} can be written; the system has no openat2(2) for us, by an old kernel (before Linux 5.6) or a container \
                 engine's seccomp profile, so links are refused by slower ways"
            ),
        ),
        Err(errno) => Check::wrong(
            ROOT,
            format!("{shown} cannot be looked into: {}", io::Error::from(errno)),
        ),
    }
}

/// Opens it as every workspace is: beneath a directory, and through no link.
#[cfg(target_os = "linux")]
fn opens_beneath(workspace: &Workspace) -> Result<(), Errno> {
    use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

    let root = std::fs::File::open(&workspace.root).map_err(|error| {
        let code = error.raw_os_error();
        code.map_or(Errno::IO, Errno::from_raw_os_error)
    })?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    openat2(&root, ".", flags, Mode::empty(), resolve).map(drop)
}

#[cfg(not(target_os = "linux"))]
fn opens_beneath(_: &Workspace) -> Result<(), Errno> {
    Err(Errno::NOSYS)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::super::report::State;
    use super::*;

    #[test]
    fn the_root_is_there_or_can_be_made_or_it_is_said_why_not() {
        let dir = tempfile::tempdir().unwrap();
        let of = |root: &std::path::Path, owner: &str| {
            let text = format!("root = {root:?}\n{owner}");
            check(&toml::from_str(&text).unwrap())
        };
        let root = dir.path().join("users");
        let new = of(&root, "");
        assert_eq!(new[0].state, State::Ok, "{new:?}");
        assert!(!root.exists(), "nothing is made");
        let nowhere = of(&dir.path().join("a/users"), "");
        assert_eq!(nowhere[0].state, State::Wrong, "{nowhere:?}");
        fs::create_dir(&root).unwrap();
        let there = of(&root, "");
        assert_ne!(there[0].state, State::Wrong, "{there:?}");
        fs::set_permissions(&root, Permissions::from_mode(0o777)).unwrap();
        let unsafe_root = of(&root, "");
        assert!(
            unsafe_root[0].says.contains("writable by everybody"),
            "{unsafe_root:?}"
        );
        let nobody = of(&root, "owner = \"no-such-user-anywhere\"");
        assert_eq!(nobody[0].about, "workspace.owner");
        assert_eq!(nobody[0].state, State::Wrong);
    }
}
