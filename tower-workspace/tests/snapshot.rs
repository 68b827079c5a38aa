//! What is counted of somebody's files.
#![cfg(all(feature = "fs", unix))]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    fs::{self, File},
    os::unix::fs::{MetadataExt, symlink},
    path::PathBuf,
    process::Command,
    time::{Duration, UNIX_EPOCH},
};

use tempfile::TempDir;
use tower_workspace::fs::{Bounds, Person, ProvisionError, Provisioner, Snapshot};

fn setup() -> (TempDir, Provisioner, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let provisioner = Provisioner::new(temp.path().join("root"));
    provisioner
        .provision_blocking(&Person::new("alice"))
        .unwrap();
    let alice = provisioner.root().join("alice");
    (temp, provisioner, alice)
}

fn take(provisioner: &Provisioner, bounds: Bounds) -> Snapshot {
    provisioner
        .snapshot_blocking("alice", bounds)
        .unwrap()
        .unwrap()
}

#[test]
fn counts_each_part_and_the_whole() {
    let (_temp, provisioner, alice) = setup();
    let fresh = take(&provisioner, Bounds::new());
    assert_eq!((fresh.total.files, fresh.total.directories), (4, 5));
    assert_eq!(fresh.workspace.unwrap().files, 2);
    assert_eq!(fresh.sessions, Some(Default::default()));
    assert!(!fresh.truncated);

    fs::create_dir(alice.join("workspace/src")).unwrap();
    fs::write(alice.join("workspace/src/main.rs"), "fn main() {}").unwrap();
    fs::write(alice.join("sandbox-workspace/out"), [7; 5000]).unwrap();
    let holes = File::create(alice.join("sessions/holes")).unwrap();
    holes.set_len(1 << 40).unwrap();
    let late = UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    holes.set_modified(late).unwrap();

    let now = take(&provisioner, Bounds::new());
    let workspace = now.workspace.unwrap();
    assert_eq!((workspace.files, workspace.directories), (3, 1));
    assert_eq!(workspace.bytes - fresh.workspace.unwrap().bytes, 12);
    let sandbox = now.sandbox_workspace.unwrap();
    assert_eq!((sandbox.files, sandbox.bytes), (1, 5000));
    let sessions = now.sessions.unwrap();
    assert_eq!(sessions.bytes, 1 << 40);
    assert!(sessions.disk_bytes < 1 << 20, "a hole takes nothing");
    assert_eq!(sessions.newest, Some(late));
    assert_eq!(now.total.newest, Some(late));
    assert_eq!(now.total.files, fresh.total.files + 3);
}

#[test]
fn d4_46_a_snapshot_never_follows_a_link() {
    let (temp, provisioner, alice) = setup();
    let outside = temp.path().join("outside");
    fs::create_dir_all(outside.join("deep")).unwrap();
    fs::write(outside.join("deep/secret"), [0; 1 << 20]).unwrap();
    let before = take(&provisioner, Bounds::new());
    symlink(&outside, alice.join("workspace/dir")).unwrap();
    symlink(outside.join("deep/secret"), alice.join("workspace/file")).unwrap();
    symlink("..", alice.join("workspace/loop")).unwrap();
    let mut mkfifo = Command::new("mkfifo");
    let made = mkfifo.arg(alice.join("workspace/pipe")).status();
    assert!(made.unwrap().success());

    let after = take(&provisioner, Bounds::new());
    assert_eq!(after.total.links, 3);
    assert_eq!(after.total.others, 1);
    assert_eq!(after.total.bytes, before.total.bytes);
    assert_eq!(after.total.directories, before.total.directories);

    fs::rename(alice.join("sessions"), temp.path().join("sessions")).unwrap();
    symlink(&outside, alice.join("sessions")).unwrap();
    let after = take(&provisioner, Bounds::new());
    assert_eq!(after.sessions, None, "a link is no part");
    assert_eq!(after.total.bytes, before.total.bytes);

    fs::rename(&alice, temp.path().join("alice")).unwrap();
    symlink(temp.path().join("alice"), &alice).unwrap();
    let refused = provisioner.snapshot_blocking("alice", Bounds::new());
    assert!(matches!(refused, Err(ProvisionError::Obstructed { .. })));
}

#[test]
fn d4_46_whatever_the_tree_a_snapshot_has_an_end() {
    let (_temp, provisioner, alice) = setup();
    let mut deep = alice.join("workspace");
    for _ in 0..40 {
        deep.push("d");
        fs::create_dir(&deep).unwrap();
        fs::write(deep.join("file"), "x").unwrap();
    }
    let whole = take(&provisioner, Bounds::new());
    assert!(!whole.truncated);
    assert_eq!(whole.workspace.unwrap().directories, 40);

    let shallow = take(&provisioner, Bounds::new().depth(10));
    assert!(shallow.truncated);
    assert_eq!(shallow.workspace.unwrap().unread, 1);
    assert!(shallow.workspace.unwrap().directories < 11);

    let few = take(&provisioner, Bounds::new().entries(20));
    assert!(few.truncated);
    let total = few.total;
    assert_eq!(total.files + total.directories, 20);

    let none = take(&provisioner, Bounds::new().time(Duration::ZERO));
    assert!(none.truncated);
    assert_eq!(none.total.files, 0);
}

#[test]
fn who_has_no_directory_has_no_snapshot_and_gets_none_of_anothers() {
    let (_temp, provisioner, alice) = setup();
    let nobody = Provisioner::new(provisioner.root().join("none"));
    for (provisioner, user) in [(&provisioner, "bob"), (&nobody, "alice")] {
        let found = provisioner.snapshot_blocking(user, Bounds::new());
        assert!(found.unwrap().is_none());
    }
    assert!(!nobody.root().exists(), "looking makes nothing");
    fs::rename(&alice, provisioner.root().join("bob")).unwrap();
    let refused = provisioner.snapshot_blocking("bob", Bounds::new());
    assert!(matches!(refused, Err(ProvisionError::Claimed { .. })));
    let refused = provisioner.snapshot_blocking("", Bounds::new());
    assert!(matches!(refused, Err(ProvisionError::Name(_))));
}

#[tokio::test]
async fn a_snapshot_changes_nothing() {
    let (_temp, provisioner, alice) = setup();
    let times = || {
        let files = ["", "workspace", "workspace/AGENTS.md", ".openclaw/owner"];
        files.map(|file| {
            let meta = fs::metadata(alice.join(file)).unwrap();
            (meta.ctime(), meta.ctime_nsec(), meta.mode())
        })
    };
    let before = times();
    let snapshot = provisioner.snapshot("alice", Bounds::new()).await;
    assert!(snapshot.unwrap().is_some());
    assert_eq!(times(), before);
}
