//! A person's directory is removed, and nothing else.
#![cfg(all(feature = "fs", unix))]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod apart;

use std::{
    fs::{self, Permissions},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{MetadataExt, PermissionsExt, symlink},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use futures_util::future::join_all;
use rustix::{
    fs::{Mode, OFlags, mkdirat, openat},
    process::geteuid,
};
use tempfile::TempDir;
use tower_workspace::fs::{Person, ProvisionError, Provisioner};

const TOMBSTONE: &str = ".removed-alice-0123456789abcdef0123456789abcdef";

fn setup() -> (TempDir, Provisioner) {
    let temp = tempfile::tempdir().unwrap();
    let provisioner = Provisioner::new(temp.path().join("root"));
    for person in ["alice", "bob"] {
        provisioner
            .provision_blocking(&Person::new(person))
            .unwrap();
    }
    (temp, provisioner)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn workspace(provisioner: &Provisioner) -> PathBuf {
    provisioner.root().join("alice/workspace")
}

#[test]
fn d4_47_who_comes_again_gets_a_fresh_directory_and_others_keep_theirs() {
    let (_temp, provisioner) = setup();
    let bobs = provisioner.root().join("bob/workspace/notes");
    fs::write(&bobs, "bob's").unwrap();
    fs::write(workspace(&provisioner).join("notes"), "alice's").unwrap();
    let bob = fs::metadata(&bobs).unwrap();

    assert!(provisioner.remove_blocking("alice").unwrap());
    assert_eq!(names(provisioner.root()), ["bob"]);
    assert!(!provisioner.remove_blocking("alice").unwrap());

    provisioner
        .provision_blocking(&Person::new("alice"))
        .unwrap();
    assert_eq!(
        names(&workspace(&provisioner)),
        ["AGENTS.md", "IDENTITY.md"]
    );
    let after = fs::metadata(&bobs).unwrap();
    assert_eq!(
        (after.ino(), after.ctime(), after.ctime_nsec()),
        (bob.ino(), bob.ctime(), bob.ctime_nsec())
    );
}

#[test]
fn d4_47_whatever_is_in_it_goes_and_what_it_leads_to_stays() {
    let (temp, provisioner) = setup();
    let outside = temp.path().join("outside");
    fs::create_dir_all(outside.join("dir")).unwrap();
    for file in ["file", "dir/file", "linked"] {
        fs::write(outside.join(file), "outside").unwrap();
        fs::set_permissions(outside.join(file), Permissions::from_mode(0o440)).unwrap();
    }
    let at = |name: &str| workspace(&provisioner).join(name);
    symlink(&outside, at("dir")).unwrap();
    symlink(outside.join("file"), at("file")).unwrap();
    symlink("none", at("dangling")).unwrap();
    fs::hard_link(outside.join("linked"), at("linked")).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    assert!(
        { Command::new("mkfifo").arg(at("pipe")).status() }
            .unwrap()
            .success()
    );
    fs::create_dir(at("closed")).unwrap();
    fs::write(at("closed/file"), "").unwrap();
    symlink(&outside, at("closed/dir")).unwrap();
    for name in ["closed/file", "closed"] {
        fs::set_permissions(at(name), Permissions::from_mode(0o000)).unwrap();
    }
    let odd = String::from_utf8_lossy(b"-rf \n*").into_owned();
    fs::create_dir_all(at(&odd).join(".removed-bob-x")).unwrap();

    assert!(provisioner.remove_blocking("alice").unwrap());

    assert_eq!(names(provisioner.root()), ["bob"]);
    for file in ["file", "dir/file", "linked"] {
        assert_eq!(fs::read_to_string(outside.join(file)).unwrap(), "outside");
        let meta = fs::metadata(outside.join(file)).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.nlink()), (0o440, 1));
    }
}

#[test]
fn d4_47_however_deep_or_wide_it_is_it_goes() {
    let (_temp, provisioner) = setup();
    let mut dir: OwnedFd = fs::File::open(workspace(&provisioner)).unwrap().into();
    for _ in 0..2_000 {
        mkdirat(&dir, "d", Mode::RWXU).unwrap();
        dir = openat(&dir, "d", OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    for number in 0..2_000 {
        let path = workspace(&provisioner).join(format!("wide/{number}/x"));
        fs::create_dir_all(path).unwrap();
    }
    assert!(provisioner.remove_blocking("alice").unwrap());
    assert_eq!(names(provisioner.root()), ["bob"]);
}

#[test]
fn d4_47_what_a_crash_left_is_removed_by_the_next_attempt() {
    let (_temp, provisioner) = setup();
    let root = provisioner.root();
    let of_bob = TOMBSTONE.replace("alice", "bob");
    for tombstone in [TOMBSTONE, &of_bob] {
        fs::create_dir_all(root.join(tombstone).join("workspace/src")).unwrap();
    }
    fs::rename(root.join("alice"), root.join(TOMBSTONE).join("alice")).unwrap();

    assert!(provisioner.remove_blocking("alice").unwrap());
    assert_eq!(names(root), [of_bob.as_str(), "bob"]);
    assert!(!provisioner.remove_blocking("alice").unwrap());
    provisioner.finish_removals().unwrap();
    assert_eq!(names(root), ["bob"]);
    Provisioner::new(root.join("none"))
        .finish_removals()
        .unwrap();
}

#[test]
fn d4_47_a_tombstone_that_is_a_link_leads_nowhere() {
    let (temp, provisioner) = setup();
    let outside = temp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "").unwrap();
    symlink(&outside, provisioner.root().join(TOMBSTONE)).unwrap();
    provisioner.finish_removals().unwrap();
    assert_eq!(names(provisioner.root()), ["alice", "bob"]);
    assert_eq!(names(&outside), ["file"]);
}

#[test]
fn d4_47_anothers_directory_and_what_is_none_are_left_alone() {
    let (temp, provisioner) = setup();
    let root = provisioner.root();
    fs::rename(root.join("alice"), temp.path().join("alice")).unwrap();

    fs::rename(root.join("bob"), root.join("alice")).unwrap();
    let refused = provisioner.remove_blocking("alice").unwrap_err();
    assert!(matches!(refused, ProvisionError::Claimed { .. }));
    assert_eq!(names(&workspace(&provisioner)).len(), 2);
    fs::rename(root.join("alice"), root.join("bob")).unwrap();

    symlink("bob", root.join("alice")).unwrap();
    let refused = provisioner.remove_blocking("alice").unwrap_err();
    assert!(matches!(
        refused,
        ProvisionError::Obstructed {
            found: "a symbolic link",
            ..
        }
    ));
    assert_eq!(names(root), ["alice", "bob"]);
    assert_eq!(names(&root.join("bob/workspace")).len(), 2);

    for id in ["..", ".", "bob/../bob", "BOB", TOMBSTONE] {
        assert!(!provisioner.remove_blocking(id).unwrap(), "{id}");
    }
    assert!(matches!(
        provisioner.remove_blocking("a\0"),
        Err(ProvisionError::Name(_))
    ));
    assert_eq!(names(root), ["alice", "bob"]);
}

#[test]
fn a_half_made_directory_goes_too() {
    let (_temp, provisioner) = setup();
    fs::remove_dir_all(provisioner.root().join("alice/.openclaw")).unwrap();
    symlink(
        "../bob/.openclaw",
        provisioner.root().join("alice/.openclaw"),
    )
    .unwrap();
    assert!(provisioner.remove_blocking("alice").unwrap());
    assert_eq!(names(provisioner.root()), ["bob"]);
    assert!(provisioner.root().join("bob/.openclaw/owner").is_file());
}

#[test]
fn several_that_remove_and_make_at_once_leave_a_whole_directory_or_none() {
    let (_temp, provisioner) = setup();
    thread::scope(|scope| {
        for remover in 0..6 {
            // Each as if in a process of its own.
            let provisioner = Provisioner::new(provisioner.root());
            scope.spawn(move || {
                for _ in 0..20 {
                    match remover % 2 {
                        0 => drop(provisioner.remove_blocking("alice").unwrap()),
                        // What is taken away while it is made is made by the next visit.
                        _ => drop(provisioner.provision_blocking(&Person::new("alice"))),
                    }
                }
            });
        }
    });
    provisioner
        .provision_blocking(&Person::new("alice"))
        .unwrap();
    assert_eq!(
        names(&workspace(&provisioner)),
        ["AGENTS.md", "IDENTITY.md"]
    );
    provisioner.remove_blocking("alice").unwrap();
    assert_eq!(names(provisioner.root()), ["bob"]);
}

#[tokio::test]
async fn removals_and_visits_of_one_process_take_turns() {
    let (_temp, provisioner) = setup();
    let person = Person::new("alice");
    for _ in 0..20 {
        let visits = join_all((0..10).map(|_| provisioner.provision(&person)));
        let (made, removed) = tokio::join!(visits, provisioner.remove("alice"));
        removed.unwrap();
        for workspace in made {
            workspace.unwrap();
        }
    }
}

#[test]
fn d4_44_without_root_what_its_owner_has_closed_goes_too() {
    match geteuid().is_root() {
        true => apart::run_as_another("apart_closed"),
        false => closed(&setup().1),
    }
}

#[test]
#[ignore = "run by another test, as another user"]
fn apart_closed() {
    let provisioner = apart::provisioner();
    let person = Person::new("alice");
    provisioner.provision_blocking(&person).unwrap();
    provisioner.provision_blocking(&Person::new("bob")).unwrap();
    closed(&provisioner);
}

fn closed(provisioner: &Provisioner) {
    let outside = provisioner.root().with_file_name("outside");
    fs::create_dir_all(&outside).unwrap();
    fs::set_permissions(&outside, Permissions::from_mode(0o500)).unwrap();
    let deep = workspace(provisioner).join("a/b/c");
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "").unwrap();
    symlink(&outside, workspace(provisioner).join("a/link")).unwrap();
    for dir in ["a/b/c", "a/b", "a", ""] {
        let dir = workspace(provisioner).join(dir);
        fs::set_permissions(dir, Permissions::from_mode(0o000)).unwrap();
    }
    let alice = provisioner.root().join("alice");
    fs::set_permissions(alice, Permissions::from_mode(0o000)).unwrap();

    assert!(provisioner.remove_blocking("alice").unwrap());

    assert_eq!(names(provisioner.root()), ["bob"]);
    let mode = fs::metadata(outside).unwrap().mode() & 0o7777;
    assert_eq!(mode, 0o500, "permission is taken on no other directory");

    let root = provisioner.root();
    fs::set_permissions(root, Permissions::from_mode(0o500)).unwrap();
    let refused = provisioner.remove_blocking("bob").unwrap_err();
    assert!(
        matches!(&refused, ProvisionError::Io { action: "rename", path, source }
            if path.ends_with("bob") && source.kind() == std::io::ErrorKind::PermissionDenied),
        "{refused:?}"
    );
    fs::set_permissions(root, Permissions::from_mode(0o700)).unwrap();
    assert!(provisioner.remove_blocking("bob").unwrap());
}

#[cfg(target_os = "linux")]
#[test]
fn d4_44_d4_47_mounts_and_full_or_read_only_disks_are_survived() {
    let temp = tempfile::tempdir().unwrap();
    for name in ["apart_mounted", "apart_read_only", "apart_full_disk"] {
        apart::run_with_mounts(name, temp.path());
    }
}

#[test]
#[ignore = "run by another test, where it may mount"]
fn apart_mounted() {
    let temp = apart::root();
    let provisioner = Provisioner::new(temp.join("root"));
    let outside = temp.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "outside").unwrap();
    // A mount of the same file system, which has the same device number.
    let bind = ["--bind", outside.to_str().unwrap()];
    let tmpfs = ["-t", "tmpfs", "none"];
    for arguments in [&bind[..], &tmpfs] {
        for at in ["workspace/mounted", "workspace/a/b/c/mounted", ""] {
            provisioner
                .provision_blocking(&Person::new("alice"))
                .unwrap();
            let at = provisioner.root().join("alice").join(at);
            fs::create_dir_all(&at).unwrap();
            if at.ends_with("mounted") {
                apart::mount(arguments, &at);
                fs::write(at.join("file"), "outside").unwrap();
                let counted = provisioner.snapshot_blocking("alice", Default::default());
                assert_eq!(counted.unwrap().unwrap().workspace.unwrap().unread, 1);

                let refused = provisioner.remove_blocking("alice").unwrap_err();
                let ProvisionError::Mounted { path } = refused else {
                    panic!("{refused:?}");
                };
                assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "outside");
                assert!(!provisioner.root().join("alice").exists());
                let unmounted = Command::new("umount").arg(&path).status();
                assert!(unmounted.unwrap().success());
            }
            assert!(provisioner.remove_blocking("alice").unwrap());
            assert!(names(provisioner.root()).is_empty());
            assert_eq!(names(&outside), ["file"]);
        }
    }
}

#[test]
#[ignore = "run by another test, where it may mount"]
fn apart_read_only() {
    let root = apart::root();
    let mount = |options: &str| apart::mount(&["-t", "tmpfs", "-o", options, "none"], &root);
    mount("size=1m,mode=755");
    let provisioner = Provisioner::new(&root);
    provisioner
        .provision_blocking(&Person::new("alice"))
        .unwrap();
    mount("remount,ro");
    for _ in 0..2 {
        let refused = provisioner.remove_blocking("alice").unwrap_err();
        assert!(
            matches!(&refused, ProvisionError::Io { action: "rename", source, .. }
                if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem),
            "{refused:?}"
        );
        assert_eq!(names(&root), ["alice"]);
    }
    mount("remount,rw");
    assert!(provisioner.remove_blocking("alice").unwrap());
    assert!(names(&root).is_empty());
}

#[test]
#[ignore = "run by another test, where it may mount"]
fn apart_full_disk() {
    let root = apart::root();
    let options = "size=1m,nr_inodes=200,mode=755";
    apart::mount(&["-t", "tmpfs", "-o", options, "none"], &root);
    let provisioner = Provisioner::new(&root);
    provisioner
        .provision_blocking(&Person::new("alice"))
        .unwrap();
    let full = |error: &std::io::Error| error.kind() == std::io::ErrorKind::StorageFull;
    let mut deep = workspace(&provisioner);
    let made = (0..200).find_map(|_| {
        deep.push("d");
        fs::create_dir(&deep).err()
    });
    assert!(made.as_ref().is_some_and(full), "no inode is left");
    let notes = workspace(&provisioner).join("AGENTS.md");
    let written = fs::write(notes, vec![0; 1 << 20]);
    assert!(written.is_err_and(|error| full(&error)));

    let refused = provisioner.provision_blocking(&Person::new("bob"));
    assert!(matches!(refused, Err(ProvisionError::Io { ref source, .. }) if full(source)));
    assert!(provisioner.remove_blocking("alice").unwrap());
    assert!(!provisioner.remove_blocking("bob").unwrap());
    provisioner.provision_blocking(&Person::new("bob")).unwrap();
    assert_eq!(names(&root), ["bob"]);
}
