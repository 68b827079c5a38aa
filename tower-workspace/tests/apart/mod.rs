//! Tests in a process of their own: under another umask, another limit, other mounts, another user.

#![allow(dead_code, reason = "no file of tests uses all of it")]

use std::{
    env,
    fs::{self, Permissions},
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Output},
};

use rustix::process::geteuid;
use tower_workspace::fs::Provisioner;

/// Runs the ignored test `name` of this program after `script`, with `ROOT` for the root.
pub(crate) fn run(mut shell: Command, script: &str, name: &str, root: &Path) {
    let output = shell
        .args(["sh", "-c", &format!("{script}; exec \"$0\" \"$@\"")])
        .arg(env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env("ROOT", root)
        .output()
        .unwrap();
    assert_passed(&output);
}

/// Runs the ignored test `name` of this program with mounts of its own. `false` if this system
/// lets nobody mount.
pub(crate) fn run_with_mounts(name: &str, root: &Path) -> bool {
    let shell = || {
        let mut shell = Command::new("unshare");
        shell.args(if geteuid().is_root() {
            ["-m", "--"]
        } else {
            ["-rm", "--"]
        });
        shell
    };
    let mounts = "mount -t tmpfs none \"$0\" && umount \"$0\"";
    let can_mount = shell().args(["sh", "-c", mounts]).arg(root).status();
    if !can_mount.is_ok_and(|status| status.success()) {
        eprintln!("not checked: this system lets nobody mount a small file system");
        return false;
    }
    run(shell(), "true", name, root);
    true
}

/// Runs the ignored test `name` of this program as another user, in a directory of theirs.
pub(crate) fn run_as_another(name: &str) {
    // Another user must be able to reach the root and to run this program.
    let temp = tempfile::tempdir().unwrap();
    fs::set_permissions(temp.path(), Permissions::from_mode(0o755)).unwrap();
    let program = temp.path().join("program");
    // Not by this process: a child of another test would hold it open for writing.
    let mut cp = Command::new("cp");
    cp.arg(env::current_exe().unwrap()).arg(&program);
    assert!(cp.status().unwrap().success());
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let home = temp.path().join("home");
    fs::create_dir(&home).unwrap();
    chown(&home, Some(65_534), Some(65_534)).unwrap();
    let output = Command::new(program)
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env("ROOT", home.join("root"))
        .current_dir(&home)
        .uid(65_534)
        .gid(65_534)
        .output()
        .unwrap();
    assert_passed(&output);
}

/// The root that the process was given by the test that runs it.
pub(crate) fn root() -> PathBuf {
    env::var_os("ROOT").expect("run by another test").into()
}

pub(crate) fn provisioner() -> Provisioner {
    Provisioner::new(root())
}

pub(crate) fn mount(arguments: &[&str], at: &Path) {
    let mounted = Command::new("mount").args(arguments).arg(at).status();
    assert!(mounted.unwrap().success(), "mount {arguments:?}");
}

fn assert_passed(output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
