//! What is somebody's own, as an archive that others can read.
#![cfg(all(feature = "fs", unix))]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod apart;

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt, chown, symlink},
    },
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::process::geteuid;
use tempfile::TempDir;
use tower_workspace::fs::{
    Archive, Bounds, ExportError, Exported, OmissionReason, Person, ProvisionError, Provisioner,
};

fn setup() -> (TempDir, Provisioner, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let provisioner = Provisioner::new(temp.path().join("root"));
    for person in ["alice", "bob"] {
        provisioner
            .provision_blocking(&Person::new(person))
            .unwrap();
    }
    let workspace = provisioner.root().join("alice/workspace");
    (temp, provisioner, workspace)
}

fn export(provisioner: &Provisioner, bounds: Bounds) -> (Exported, Vec<u8>) {
    let mut archive = Archive::new(Vec::new());
    let exported = provisioner.export("alice", bounds, &mut archive);
    (exported.unwrap().unwrap(), archive.finish().unwrap())
}

/// What `tar` makes of an archive.
fn unpack(archive: &[u8], into: &Path) {
    fs::create_dir(into).unwrap();
    let file = into.with_extension("tar");
    fs::write(&file, archive).unwrap();
    let mut tar = Command::new("tar");
    let output = tar.arg("-xf").arg(file).arg("-C").arg(into).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

fn omissions(exported: &Exported) -> Vec<(&str, OmissionReason)> {
    let mut omissions: Vec<_> = exported
        .omissions
        .iter()
        .map(|omission| (omission.path.to_str().unwrap(), omission.reason))
        .collect();
    omissions.sort_by_key(|omission| omission.0);
    assert_eq!(omissions.len() as u64, exported.omitted);
    omissions
}

#[test]
fn what_is_somebodys_own_comes_out_as_it_is() {
    let (temp, provisioner, workspace) = setup();
    let long = "long-".repeat(40);
    let odd = OsStr::from_bytes(b"-odd \xff\n*");
    let files = workspace.join(&long).join(&long);
    fs::create_dir_all(&files).unwrap();
    fs::create_dir(workspace.join("empty")).unwrap();
    for (name, content) in [
        ("none", &b""[..]),
        ("block", &[1; 512]),
        ("more", &[2; 200_000]),
    ] {
        fs::write(files.join(name), content).unwrap();
    }
    fs::write(workspace.join(odd), "odd").unwrap();
    fs::set_permissions(workspace.join(odd), Permissions::from_mode(0o6755)).unwrap();
    let then = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    File::open(files.join("more"))
        .unwrap()
        .set_modified(then)
        .unwrap();
    symlink(&long, workspace.join("short-link")).unwrap();
    symlink(files.join("none"), workspace.join("long-link")).unwrap();

    let (exported, archive) = export(&provisioner, Bounds::new());
    assert_eq!(exported.omitted, 0, "{exported:?}");
    assert!(!exported.truncated);
    assert_eq!((exported.files, exported.links), (7, 2));
    let out = temp.path().join("out");
    unpack(&archive, &out);
    let diff = Command::new("diff")
        .args(["-r", "--no-dereference"])
        .args([&workspace, &out.join("workspace")])
        .output()
        .unwrap();
    assert!(
        diff.status.success(),
        "{}",
        String::from_utf8_lossy(&diff.stdout)
    );
    assert_eq!(
        fs::read_link(out.join("workspace/long-link")).unwrap(),
        files.join("none")
    );
    let odd = fs::metadata(out.join("workspace").join(odd)).unwrap();
    assert_eq!(odd.mode() & 0o7777, 0o700, "nothing that could hurt");
    let more = fs::metadata(out.join("workspace").join(&long).join(&long).join("more"));
    assert_eq!(more.unwrap().modified().unwrap(), then);
    assert!(out.join(".openclaw/profiles/user-alice.yml").is_file());
    assert!(!out.join(".openclaw/owner").exists());
}

#[test]
fn d4_47_nothing_of_anybody_else_is_exported() {
    let (temp, provisioner, workspace) = setup();
    let outside = temp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "canary").unwrap();
    fs::write(provisioner.root().join("bob/workspace/notes"), "canary").unwrap();
    let at = |name: &str| workspace.join(name);
    symlink(&outside, at("dir")).unwrap();
    symlink(outside.join("secret"), at("file")).unwrap();
    symlink("../../bob/workspace", at("bob")).unwrap();
    fs::hard_link(provisioner.root().join("bob/workspace/notes"), at("hard")).unwrap();
    fs::write(at(".draft-0123456789abcdef0123456789abcdef"), "canary").unwrap();
    let mut mkfifo = Command::new("mkfifo");
    assert!(mkfifo.arg(at("pipe")).status().unwrap().success());
    let mut expected = vec![
        ("workspace/hard", OmissionReason::HardLinked),
        ("workspace/pipe", OmissionReason::Special),
    ];
    if geteuid().is_root() {
        fs::write(at("stranger"), "canary").unwrap();
        chown(at("stranger"), Some(4242), None).unwrap();
        expected.push(("workspace/stranger", OmissionReason::Stranger));
    }
    let sessions = provisioner.root().join("alice/sessions");
    fs::remove_dir(&sessions).unwrap();
    symlink(&outside, sessions).unwrap();
    expected.insert(0, ("sessions", OmissionReason::Special));

    let (exported, archive) = export(&provisioner, Bounds::new());
    assert_eq!(omissions(&exported), expected);
    assert_eq!(exported.links, 3);
    let text = String::from_utf8_lossy(&archive);
    assert!(!text.contains("canary"));

    fs::rename(
        provisioner.root().join("bob"),
        provisioner.root().join("carol"),
    )
    .unwrap();
    let mut archive = Archive::new(Vec::new());
    let refused = provisioner.export("carol", Bounds::new(), &mut archive);
    assert!(matches!(
        refused,
        Err(ExportError::Workspace(ProvisionError::Claimed { .. }))
    ));
    let nobody = provisioner.export("bob", Bounds::new(), &mut archive);
    assert_eq!(nobody.unwrap(), None);
    assert_eq!(archive.finish().unwrap(), [0; 1024]);
}

#[test]
fn d4_46_whatever_the_tree_an_export_has_an_end() {
    let (temp, provisioner, workspace) = setup();
    let holes = File::create(workspace.join("holes")).unwrap();
    holes.set_len(1 << 40).unwrap();
    fs::create_dir_all(workspace.join("a/b/c")).unwrap();
    fs::write(workspace.join("a/b/c/file"), "").unwrap();
    let (exported, archive) = export(&provisioner, Bounds::new().bytes(1 << 20).depth(3));
    assert_eq!(
        omissions(&exported),
        [
            ("workspace/a/b/c", OmissionReason::TooDeep),
            ("workspace/holes", OmissionReason::TooLarge),
        ]
    );
    assert!(exported.truncated);
    assert!(archive.len() < 1 << 20);
    unpack(&archive, &temp.path().join("out"));

    for number in 0..1_100 {
        symlink("x", workspace.join(format!("link-{number}"))).unwrap();
        fs::hard_link(
            workspace.join("AGENTS.md"),
            workspace.join(format!("hard-{number}")),
        )
        .unwrap();
    }
    let (exported, _) = export(&provisioner, Bounds::new().bytes(1 << 20));
    assert_eq!(exported.omissions.len(), 1_000, "and no more are kept");
    assert_eq!(exported.omitted, 1_100 + 1 + 1);
    let (exported, archive) = export(&provisioner, Bounds::new().entries(100));
    assert!(exported.truncated);
    unpack(&archive, &temp.path().join("few"));
}

#[test]
fn d4_42_files_that_change_meanwhile_do_not_spoil_it() {
    let (temp, provisioner, workspace) = setup();
    let files: Vec<_> = (0..8)
        .map(|n| workspace.join(format!("file-{n}")))
        .collect();
    for file in &files {
        fs::write(file, [7; 300_000]).unwrap();
    }
    let done = AtomicBool::new(false);
    let mut damaged = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut round: u64 = 0;
            while !done.load(Ordering::Relaxed) {
                for file in &files {
                    round += 1;
                    let file = OpenOptions::new().write(true).open(file).unwrap();
                    file.set_len(round.wrapping_mul(7919) % 400_000).unwrap();
                }
            }
        });
        for round in 0..100 {
            let (exported, archive) = export(&provisioner, Bounds::new());
            assert_eq!(exported.files, 2 + 8 + 1);
            damaged += exported.omitted;
            if round % 10 == 0 {
                unpack(&archive, &temp.path().join(format!("out-{round}")));
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    println!("{damaged} files were cut short");
}

#[test]
fn a_writer_that_fails_ends_it() {
    struct Full(u64);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let length = bytes.len() as u64;
            self.0 = self
                .0
                .checked_sub(length)
                .ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (_temp, provisioner, _) = setup();
    for room in [0, 100, 511, 600, 2_000] {
        let mut archive = Archive::new(Full(room));
        let failed = provisioner.export("alice", Bounds::new(), &mut archive);
        assert!(matches!(failed, Err(ExportError::Write(_))), "{room}");
    }
}

#[test]
fn an_export_holds_little_of_it_at_once() {
    /// Counts, and takes nothing longer than a buffer.
    struct Count<'a>(&'a AtomicU64);
    impl Write for Count<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            assert!(bytes.len() <= 64 * 1024);
            self.0.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (_temp, provisioner, workspace) = setup();
    let file = File::create(workspace.join("holes")).unwrap();
    file.set_len(256 << 20).unwrap();
    let written = AtomicU64::new(0);
    let mut archive = Archive::new(Count(&written));
    archive
        .append("about.json", SystemTime::UNIX_EPOCH, b"{}")
        .unwrap();
    let exported = provisioner.export("alice", Bounds::new(), &mut archive);
    assert_eq!(exported.unwrap().unwrap().omitted, 0);
    assert!(written.load(Ordering::Relaxed) > 256 << 20);
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_mounted_is_not_exported() {
    let temp = tempfile::tempdir().unwrap();
    apart::run_with_mounts("apart_mounted", temp.path());
}

#[test]
#[ignore = "run by another test, where it may mount"]
fn apart_mounted() {
    let temp = apart::root();
    let provisioner = Provisioner::new(temp.join("root"));
    provisioner
        .provision_blocking(&Person::new("alice"))
        .unwrap();
    let outside = temp.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "canary").unwrap();
    let workspace = provisioner.root().join("alice/workspace");
    fs::create_dir(workspace.join("dir")).unwrap();
    fs::write(workspace.join("file"), "").unwrap();
    for (outside, at) in [(outside.clone(), "dir"), (outside.join("file"), "file")] {
        apart::mount(&["--bind", outside.to_str().unwrap()], &workspace.join(at));
    }
    let (exported, archive) = export(&provisioner, Bounds::new());
    assert_eq!(
        omissions(&exported),
        [
            ("workspace/dir", OmissionReason::Mount),
            ("workspace/file", OmissionReason::Mount)
        ]
    );
    assert!(!String::from_utf8_lossy(&archive).contains("canary"));
}
