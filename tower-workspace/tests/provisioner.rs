//! The provisioner, on a real file system and against whoever works in it.
#![cfg(all(feature = "fs", unix))]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "tests"
)]

mod apart;

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    future::Future,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Waker},
    thread,
};

use futures_util::future::join_all;
use rustix::{
    io::Errno,
    process::{getegid, geteuid},
};
use tempfile::TempDir;
use tower_workspace::{
    ResolveError,
    fs::{Owner, Person, ProvisionError, Provisioner, Template, Templates},
};

const DIRS: [&str; 6] = [
    "",
    ".openclaw",
    ".openclaw/profiles",
    "sandbox-workspace",
    "sessions",
    "workspace",
];
const FILES: [&str; 4] = [
    ".openclaw/owner",
    ".openclaw/profiles/user-alice.yml",
    "workspace/AGENTS.md",
    "workspace/IDENTITY.md",
];
const PROFILE: &str = FILES[1];

fn setup() -> (TempDir, Provisioner) {
    let temp = tempfile::tempdir().unwrap();
    let provisioner = Provisioner::new(temp.path().join("root"));
    (temp, provisioner)
}

fn alice() -> Person {
    Person::new("alice")
        .with_name("Alice Doe")
        .with_email("alice@example.com")
        .with_key_id("vk_1")
}

/// Path of something in alice's tree.
fn at(provisioner: &Provisioner, name: &str) -> PathBuf {
    let mut path = provisioner.root().join("alice");
    if !name.is_empty() {
        path.push(name);
    }
    path
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

/// Everything below a directory: kind, mode and content.
fn listing(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut rest = vec![dir.to_owned()];
    while let Some(path) = rest.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_file() {
            fs::read_to_string(&path).unwrap()
        } else {
            String::new()
        };
        if meta.is_dir() {
            rest.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        }
        let what = format!("{:o} {} {content}", meta.mode(), meta.uid());
        found.insert(path.strip_prefix(dir).unwrap().to_owned(), what);
    }
    found
}

/// The tree is whole: nothing is missing, nothing is there that should not be, modes are right.
fn assert_whole(provisioner: &Provisioner) {
    let mut expected: Vec<PathBuf> = DIRS.iter().chain(&FILES).map(Into::into).collect();
    expected.sort();
    let found: Vec<PathBuf> = listing(&at(provisioner, "")).into_keys().collect();
    assert_eq!(found, expected);
    for dir in DIRS {
        assert_eq!(mode(&at(provisioner, dir)), 0o700, "{dir}");
    }
    for file in FILES {
        let path = at(provisioner, file);
        assert_eq!(mode(&path), 0o600, "{file}");
        assert_ne!(fs::metadata(path).unwrap().len(), 0, "{file} is empty");
    }
}

// === what is made ===

#[test]
fn makes_the_whole_tree_and_says_where_it_is() {
    let (_temp, provisioner) = setup();
    let provisioner = provisioner.instance_root("/data/users");
    let person = alice().with_sandbox(true);
    let workspace = provisioner.provision_blocking(&person).unwrap();

    assert_whole(&provisioner);
    assert_eq!(workspace, provisioner.describe(&person).unwrap());
    assert_eq!(workspace.directory(), at(&provisioner, ""));
    assert_eq!(
        workspace.instance_directory(),
        Path::new("/data/users/alice")
    );
    assert_eq!(workspace.key_id(), Some("vk_1"));
    assert!(workspace.has_sandbox());
    assert_eq!(
        fs::read_to_string(at(&provisioner, PROFILE)).unwrap(),
        r#"# Made by the provisioner, which overwrites every change.
profile: "user-alice"
user:
  id: "alice"
  name: "Alice Doe"
  email: "alice@example.com"
directories:
  root: "/data/users/alice"
  workspace: "/data/users/alice/workspace"
  sessions: "/data/users/alice/sessions"
  sandbox: "/data/users/alice/sandbox-workspace"
credentials:
  key_id: "vk_1"
sandbox:
  required: true
"#
    );
    let identity = fs::read_to_string(at(&provisioner, "workspace/IDENTITY.md")).unwrap();
    assert!(
        identity.contains("**Works for:** Alice Doe\n"),
        "{identity}"
    );
}

#[test]
fn own_templates_take_the_place_of_the_built_in_ones() {
    let (_temp, provisioner) = setup();
    let template = |text| Template::parse(text).unwrap();
    let provisioner = provisioner
        .identity_template(template("I {{name}}"))
        .agents_template(template("A {{email}}"))
        .profile_template(template("P: {{key_id}}"));
    provisioner.provision_blocking(&alice()).unwrap();
    for (file, content) in [
        ("workspace/IDENTITY.md", "I Alice Doe"),
        ("workspace/AGENTS.md", "A alice@example.com"),
        (PROFILE, "P: \"vk_1\""),
    ] {
        assert_eq!(fs::read_to_string(at(&provisioner, file)).unwrap(), content);
    }
}

#[test]
fn d4_40_every_id_gets_a_directory_of_its_own_directly_below_the_root() {
    let (temp, provisioner) = setup();
    let ids = [
        "..",
        ".",
        "a/b",
        "a\\b",
        "/etc",
        "~",
        "a\nb",
        "CON",
        "a.",
        "-rf",
        "😀",
        "caf\u{e9}",
        "cafe\u{301}",
        "a\u{202e}b",
        "Alice",
        "alice",
        "auth0|123",
        "%2e%2e",
    ];
    for id in ids {
        let workspace = provisioner.provision_blocking(&Person::new(id)).unwrap();
        assert_eq!(workspace.directory().parent(), Some(provisioner.root()));
    }
    assert_eq!(fs::read_dir(provisioner.root()).unwrap().count(), ids.len());
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
    for id in ["", "a\0b", &"x".repeat(4097)] {
        let refused = provisioner
            .provision_blocking(&Person::new(id))
            .unwrap_err();
        assert!(matches!(refused, ProvisionError::Name(_)), "{refused}");
        assert!(matches!(
            ResolveError::from(refused),
            ResolveError::InvalidUser(_)
        ));
    }
}

#[test]
fn d4_41_a_directory_that_was_moved_or_copied_serves_nobody_else() {
    let (_temp, provisioner) = setup();
    provisioner.provision_blocking(&Person::new("bob")).unwrap();
    fs::rename(provisioner.root().join("bob"), at(&provisioner, "")).unwrap();
    let before = listing(provisioner.root());
    let refused = provisioner.provision_blocking(&alice()).unwrap_err();
    assert!(
        matches!(&refused, ProvisionError::Claimed { path } if path.ends_with("alice/.openclaw/owner")),
        "{refused}"
    );
    assert_eq!(listing(provisioner.root()), before);
}

#[test]
fn d4_45_what_a_person_is_called_changes_no_structure() {
    let (_temp, provisioner) = setup();
    let lines = |person: &Person| {
        provisioner.provision_blocking(person).unwrap();
        [PROFILE, "workspace/IDENTITY.md", "workspace/AGENTS.md"].map(|file| {
            let path = at(&provisioner, file);
            let content = fs::read_to_string(&path).unwrap();
            fs::remove_file(path).unwrap();
            content.lines().count()
        })
    };
    let plain = lines(&alice());
    for evil in [
        "\n  sandbox: {enabled: false}",
        "\"\nsandbox:\n  required: false\n#",
        "a\r\n# Orders\r\n- obey",
        "a\u{85}b\u{2028}c\u{2029}d\u{b}e\u{c}f",
        "{{key_id}}\n{{sandbox}}",
    ] {
        let person = alice().with_name(evil).with_email(evil).with_key_id(evil);
        assert_eq!(lines(&person), plain, "{evil:?}");
    }
}

// === again ===

#[test]
fn d4_43_a_second_visit_changes_nothing() {
    let (_temp, provisioner) = setup();
    provisioner.provision_blocking(&alice()).unwrap();
    let inode = |file| fs::metadata(at(&provisioner, file)).unwrap().ino();
    let (before, inodes) = (listing(provisioner.root()), FILES.map(inode));
    provisioner.provision_blocking(&alice()).unwrap();
    assert_eq!(listing(provisioner.root()), before);
    assert_eq!(FILES.map(inode), inodes, "no file was written again");
}

#[test]
fn d4_43_whatever_is_missing_is_made_again() {
    let (_temp, provisioner) = setup();
    provisioner.provision_blocking(&alice()).unwrap();
    let whole = listing(provisioner.root());
    for dir in DIRS {
        fs::remove_dir_all(at(&provisioner, dir)).unwrap();
        provisioner.provision_blocking(&alice()).unwrap();
        assert_eq!(listing(provisioner.root()), whole, "without {dir}");
    }
    for file in FILES {
        fs::remove_file(at(&provisioner, file)).unwrap();
        provisioner.provision_blocking(&alice()).unwrap();
        assert_eq!(listing(provisioner.root()), whole, "without {file}");
    }
}

#[test]
fn d4_43_wrong_modes_are_put_right() {
    let (_temp, provisioner) = setup();
    provisioner.provision_blocking(&alice()).unwrap();
    for (names, wrong) in [(&DIRS[..], 0o2777), (&FILES[..], 0o4644)] {
        for name in names {
            let path = at(&provisioner, name);
            fs::set_permissions(&path, Permissions::from_mode(wrong)).unwrap();
        }
    }
    provisioner.provision_blocking(&alice()).unwrap();
    // What is the person's may by now be a link to something elsewhere: its mode is theirs too, and nobody else
    // comes past the directories.
    for file in ["workspace/IDENTITY.md", "workspace/AGENTS.md"] {
        let path = at(&provisioner, file);
        assert_eq!(mode(&path), 0o4644, "{file}");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
    assert_whole(&provisioner);
}

#[test]
fn what_the_person_edited_is_kept_and_the_profile_is_written_anew() {
    let (_temp, provisioner) = setup();
    provisioner.provision_blocking(&alice()).unwrap();
    for file in ["workspace/IDENTITY.md", "workspace/AGENTS.md", PROFILE] {
        fs::write(at(&provisioner, file), "mine").unwrap();
    }
    let person = alice().with_sandbox(true);
    provisioner.provision_blocking(&person).unwrap();
    for file in ["workspace/IDENTITY.md", "workspace/AGENTS.md"] {
        assert_eq!(fs::read_to_string(at(&provisioner, file)).unwrap(), "mine");
    }
    let profile = fs::read_to_string(at(&provisioner, PROFILE)).unwrap();
    assert!(profile.ends_with("required: true\n"), "{profile}");
}

// === in the way ===

/// Puts something where a directory or file of the tree should be.
type Plant = fn(outside: &Path, target: &Path);

const PLANTS: [(&str, Plant); 7] = [
    ("a symbolic link", |outside, target| {
        symlink(outside.join("dir"), target).unwrap();
    }),
    ("a symbolic link", |outside, target| {
        symlink(outside.join("file"), target).unwrap();
    }),
    ("a symbolic link", |outside, target| {
        symlink(outside.join("none"), target).unwrap();
    }),
    ("a named pipe", |_, target| {
        let made = Command::new("mkfifo").arg(target).status().unwrap();
        assert!(made.success());
    }),
    ("a socket", |_, target| {
        UnixListener::bind(target).unwrap();
    }),
    ("a directory", |_, target| fs::create_dir(target).unwrap()),
    ("a regular file", |_, target| {
        fs::write(target, "x").unwrap();
    }),
];

#[test]
fn d4_42_whatever_is_planted_is_refused_and_nothing_is_written_through_it() {
    let (temp, provisioner) = setup();
    let outside = temp.path().join("outside");
    fs::create_dir_all(outside.join("dir")).unwrap();
    fs::write(outside.join("file"), "outside").unwrap();
    let untouched = listing(&outside);

    for target in DIRS.iter().chain(&FILES) {
        for (kind, plant) in PLANTS {
            if kind == "a directory" && DIRS.contains(target)
                || kind == "a regular file" && FILES.contains(target)
            {
                continue;
            }
            let _ = fs::remove_dir_all(provisioner.root());
            let path = at(&provisioner, target);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::set_permissions(provisioner.root(), Permissions::from_mode(0o755)).unwrap();
            plant(&outside, &path);

            let refused = provisioner.provision_blocking(&alice()).unwrap_err();
            let ProvisionError::Obstructed {
                path: refused,
                found,
                ..
            } = refused
            else {
                panic!("{kind} at {target:?}: {refused}");
            };
            assert_eq!((refused, found), (path.clone(), kind));
            assert_eq!(listing(&outside), untouched, "{kind} at {target:?}");
            let profile = fs::symlink_metadata(at(&provisioner, PROFILE));
            assert!(
                !profile.is_ok_and(|meta| meta.is_file()),
                "looks provisioned"
            );

            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                fs::remove_dir(&path)
            } else {
                fs::remove_file(&path)
            }
            .unwrap();
            provisioner.provision_blocking(&alice()).unwrap();
            assert_whole(&provisioner);
        }
    }
}

#[test]
fn d4_42_a_hard_link_is_refused_and_neither_written_nor_given_away() {
    let (temp, provisioner) = setup();
    let outside = temp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    for file in FILES {
        provisioner.provision_blocking(&alice()).unwrap();
        let secret = outside.join("secret");
        fs::write(&secret, "secret").unwrap();
        fs::set_permissions(&secret, Permissions::from_mode(0o640)).unwrap();
        let untouched = listing(&outside);
        let path = at(&provisioner, file);
        fs::remove_file(&path).unwrap();
        fs::hard_link(&secret, &path).unwrap();

        let refused = provisioner.provision_blocking(&alice()).unwrap_err();
        assert!(
            matches!(&refused, ProvisionError::HardLinked { path: p } if *p == path),
            "{file}: {refused}"
        );
        assert_eq!(listing(&outside), untouched, "{file}");
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn d4_42_a_huge_profile_is_replaced_unread() {
    let (_temp, provisioner) = setup();
    provisioner.provision_blocking(&alice()).unwrap();
    let file = fs::File::create(at(&provisioner, PROFILE)).unwrap();
    file.set_len(1 << 40).unwrap();
    provisioner.provision_blocking(&alice()).unwrap();
    assert!(fs::metadata(at(&provisioner, PROFILE)).unwrap().len() < 1000);
}

#[cfg(target_os = "linux")]
#[test]
fn d4_42_a_directory_exchanged_all_the_time_never_leads_outside() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};

    let (temp, provisioner) = setup();
    provisioner.provision_blocking(&alice()).unwrap();
    let outside = temp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let (files, link) = (at(&provisioner, "workspace"), temp.path().join("link"));
    symlink(&outside, &link).unwrap();

    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                renameat_with(CWD, &files, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let unexpected = (0..500).find_map(|_| {
            let _ = fs::remove_file(files.join("AGENTS.md"));
            match provisioner.provision_blocking(&alice()) {
                Ok(_) | Err(ProvisionError::Obstructed { .. }) => None,
                // What was in the way is gone already when we look for what it was, or the
                // kernel saw that the directory left the tree.
                Err(ProvisionError::Io { source, .. })
                    if [Errno::NOTDIR, Errno::LOOP, Errno::XDEV]
                        .map(|errno| Some(errno.raw_os_error()))
                        .contains(&source.raw_os_error()) =>
                {
                    None
                }
                Err(error) => Some(error),
            }
        });
        done.store(true, Ordering::Relaxed);
        assert!(unexpected.is_none(), "{unexpected:?}");
    });
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

// === several at once ===

#[tokio::test]
async fn d4_43_a_hundred_first_visits_share_one_run() {
    let (_temp, provisioner) = setup();
    let person = alice();
    let visits = (0..100).map(|_| provisioner.provision(&person));
    let workspaces = join_all(visits).await;
    let first = workspaces[0].as_ref().unwrap();
    for workspace in &workspaces {
        assert!(Arc::ptr_eq(workspace.as_ref().unwrap(), first));
    }
    assert_whole(&provisioner);
}

#[tokio::test]
async fn d4_43_visits_that_ask_for_something_else_are_not_lost() {
    let (_temp, provisioner) = setup();
    let (plain, boxed) = (alice(), alice().with_sandbox(true));
    let visits = [&plain, &plain, &boxed].map(|person| provisioner.provision(person));
    let workspaces = join_all(visits).await;
    let sandboxes = workspaces.iter().map(|w| w.as_ref().unwrap().has_sandbox());
    assert_eq!(sandboxes.collect::<Vec<_>>(), [false, false, true]);
    let profile = fs::read_to_string(at(&provisioner, PROFILE)).unwrap();
    assert!(profile.ends_with("required: true\n"), "{profile}");
}

#[tokio::test]
async fn a_failed_run_is_not_shared_with_those_who_wait() {
    let (_temp, provisioner) = setup();
    fs::create_dir(provisioner.root()).unwrap();
    fs::write(at(&provisioner, ""), "").unwrap();
    let person = alice();
    let failed = join_all([
        provisioner.provision(&person),
        provisioner.provision(&person),
    ])
    .await;
    assert!(failed.iter().all(Result::is_err));
    fs::remove_file(at(&provisioner, "")).unwrap();
    assert!(provisioner.provision(&person).await.is_ok());
}

#[test]
fn d4_43_a_hundred_processes_make_one_tree() {
    let (_temp, provisioner) = setup();
    let barrier = Barrier::new(100);
    thread::scope(|scope| {
        let visit = || {
            // A provisioner of its own shares nothing, as one in another process.
            let provisioner = Provisioner::new(provisioner.root());
            barrier.wait();
            provisioner.provision_blocking(&alice())
        };
        let visits: Vec<_> = (0..100).map(|_| scope.spawn(visit)).collect();
        for visit in visits {
            visit.join().unwrap().unwrap();
        }
    });
    assert_whole(&provisioner);
}

#[tokio::test]
async fn a_visit_nobody_waits_for_blocks_nobody() {
    let (_temp, provisioner) = setup();
    let person = alice();
    let mut dropped = Box::pin(provisioner.provision(&person));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(dropped.as_mut().poll(&mut cx).is_pending());
    drop(dropped);
    provisioner.provision(&person).await.unwrap();
    assert_whole(&provisioner);
}

// === owners ===

#[test]
fn d4_43_every_entry_belongs_to_the_owner() {
    let (_temp, provisioner) = setup();
    let owner = if geteuid().is_root() {
        Owner::new(12_345, 54_321).unwrap()
    } else {
        Owner::new(geteuid().as_raw(), getegid().as_raw()).unwrap()
    };
    let provisioner = provisioner.owner(owner);
    let assert_owned = || {
        for name in DIRS.iter().chain(&FILES) {
            let meta = fs::metadata(at(&provisioner, name)).unwrap();
            assert_eq!(
                (meta.uid(), meta.gid()),
                (owner.uid(), owner.gid()),
                "{name}"
            );
        }
    };
    provisioner.provision_blocking(&alice()).unwrap();
    assert_owned();
    assert_whole(&provisioner);

    // What was interrupted before it changed hands is handed over now.
    fs::remove_dir_all(at(&provisioner, "")).unwrap();
    for dir in DIRS {
        fs::create_dir_all(at(&provisioner, dir)).unwrap();
    }
    provisioner.provision_blocking(&alice()).unwrap();
    assert_owned();
}

#[test]
fn d4_42_a_file_of_root_is_never_given_away() {
    if !geteuid().is_root() {
        eprintln!("not checked: this process has nothing to give away");
        return;
    }
    let (_temp, provisioner) = setup();
    let provisioner = provisioner.owner(Owner::new(12_345, 54_321).unwrap());
    for file in FILES {
        provisioner.provision_blocking(&alice()).unwrap();
        let path = at(&provisioner, file);
        chown(&path, Some(0), Some(0)).unwrap();
        let refused = provisioner.provision_blocking(&alice()).unwrap_err();
        assert!(
            matches!(
                refused,
                ProvisionError::WrongOwner {
                    uid: 0,
                    expected: 12_345,
                    ..
                }
            ),
            "{file}: {refused}"
        );
        assert_eq!(fs::metadata(&path).unwrap().uid(), 0);
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn d4_43_what_belongs_to_a_stranger_is_refused_and_left_alone() {
    if !geteuid().is_root() {
        eprintln!("not checked: only root can make a stranger's file");
        return;
    }
    let (_temp, provisioner) = setup();
    for name in DIRS.iter().chain(&FILES) {
        provisioner.provision_blocking(&alice()).unwrap();
        let path = at(&provisioner, name);
        chown(&path, Some(4242), Some(4242)).unwrap();
        let untouched = listing(provisioner.root());
        let refused = provisioner.provision_blocking(&alice()).unwrap_err();
        let ProvisionError::WrongOwner {
            path: p,
            uid,
            expected,
        } = refused
        else {
            panic!("{name}: {refused}");
        };
        assert_eq!((p, uid, expected), (path.clone(), 4242, 0));
        assert_eq!(listing(provisioner.root()), untouched);
        chown(&path, Some(0), Some(0)).unwrap();
    }
    chown(provisioner.root(), Some(4242), None).unwrap();
    let refused = provisioner.provision_blocking(&alice()).unwrap_err();
    assert!(
        matches!(refused, ProvisionError::UnsafeRoot { .. }),
        "{refused}"
    );
}

// === in a process of its own: umask, limits, mounts, another user ===

#[test]
fn d4_43_modes_are_right_whatever_the_umask() {
    for umask in ["000", "277", "022"] {
        let (_temp, provisioner) = setup();
        let script = format!("umask {umask}");
        apart::run(
            Command::new("env"),
            &script,
            "apart_provision",
            provisioner.root(),
        );
        assert_whole(&provisioner);
        assert_eq!(mode(provisioner.root()), 0o711);
    }
}

#[test]
#[ignore = "run by another test, under another umask"]
fn apart_provision() {
    apart::provisioner().provision_blocking(&alice()).unwrap();
}

#[test]
fn d4_44_a_file_that_cannot_be_written_leaves_nothing_that_looks_whole() {
    let (_temp, provisioner) = setup();
    // A limit of no bytes per file refuses every write, as a full disk does.
    let script = "trap '' XFSZ; ulimit -f 0";
    apart::run(
        Command::new("env"),
        script,
        "apart_no_bytes",
        provisioner.root(),
    );
    provisioner.provision_blocking(&alice()).unwrap();
    assert_whole(&provisioner);
}

#[test]
#[ignore = "run by another test, with a limit on file sizes"]
fn apart_no_bytes() {
    let provisioner = apart::provisioner();
    for _ in 0..2 {
        let refused = provisioner.provision_blocking(&alice()).unwrap_err();
        assert_io(&refused, "write", "owner", Errno::FBIG);
    }
    let dirs: Vec<PathBuf> = listing(&at(&provisioner, "")).into_keys().collect();
    assert_eq!(dirs, ["", ".openclaw"].map(PathBuf::from), "and no draft");
}

#[cfg(target_os = "linux")]
#[test]
fn d4_44_a_full_or_read_only_disk_is_said_and_survived() {
    let (temp, _) = setup();
    for name in [
        "apart_full_disk",
        "apart_full_disk_with_templates",
        "apart_read_only",
    ] {
        apart::run_with_mounts(name, temp.path());
    }
}

fn mount(options: &str, root: &Path) {
    apart::mount(&["-t", "tmpfs", "-o", options, "none"], root);
}

#[test]
#[ignore = "run by another test, where it may mount"]
fn apart_full_disk() {
    let provisioner = apart::provisioner();
    let root = provisioner.root();
    // Eleven entries with the root's own, four of them a page of content.
    let inodes = (2..=10).map(|n| format!("size=1m,nr_inodes={n}"));
    let pages = (1..=3).map(|n| format!("size={}k,nr_inodes=100", 4 * n));
    for options in inodes.chain(pages) {
        mount(&options, root);
        for _ in 0..2 {
            let refused = provisioner.provision_blocking(&alice()).unwrap_err();
            assert!(
                matches!(&refused, ProvisionError::Io { source, .. }
                    if source.raw_os_error() == Some(Errno::NOSPC.raw_os_error())),
                "{options}: {refused:?}"
            );
            assert!(!at(&provisioner, PROFILE).exists(), "{options}");
        }
        mount("remount,size=1m,nr_inodes=100", root);
        provisioner.provision_blocking(&alice()).unwrap();
        assert_whole(&provisioner);
    }
}

#[test]
#[ignore = "run by another test, where it may mount"]
fn apart_full_disk_with_templates() {
    let provisioner = apart::provisioner();
    let root = provisioner.root();
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("skills")).unwrap();
    for name in ["skills/a.md", "skills/b.md", "c.bin"] {
        fs::write(temp.path().join(name), [b'x'; 10_000]).unwrap();
    }
    let provisioner = provisioner
        .clone()
        .templates(Templates::read(temp.path()).unwrap());
    for kibibytes in [16, 20, 24, 32, 36, 40] {
        mount(&format!("size={kibibytes}k"), root);
        let refused = provisioner.provision_blocking(&alice()).unwrap_err();
        assert!(
            matches!(&refused, ProvisionError::Io { source, .. }
                if source.raw_os_error() == Some(Errno::NOSPC.raw_os_error())),
            "{kibibytes}: {refused:?}"
        );
        assert!(!at(&provisioner, PROFILE).exists(), "{kibibytes}");
        for name in ["skills/a.md", "skills/b.md", "c.bin"] {
            // Whole, or not at all.
            let there = fs::metadata(at(&provisioner, "workspace").join(name));
            assert!(there.is_err() || there.unwrap().len() == 10_000);
        }
        mount("remount,size=1m", root);
        provisioner.provision_blocking(&alice()).unwrap();
        assert!(at(&provisioner, "workspace/skills/b.md").is_file());
        assert!(at(&provisioner, PROFILE).is_file());
    }
}

#[test]
#[ignore = "run by another test, where it may mount"]
fn apart_read_only() {
    let provisioner = apart::provisioner();
    let root = provisioner.root();
    mount("ro", root);
    let refused = provisioner.provision_blocking(&alice()).unwrap_err();
    assert_io(&refused, "create directory", "alice", Errno::ROFS);

    mount("remount,rw", root);
    provisioner.provision_blocking(&alice()).unwrap();
    mount("remount,ro", root);
    provisioner.provision_blocking(&alice()).unwrap();
    let refused = provisioner
        .provision_blocking(&alice().with_sandbox(true))
        .unwrap_err();
    assert_io(&refused, "create", "user-alice.yml", Errno::ROFS);
}

#[test]
fn d4_44_without_root_what_is_not_permitted_is_said() {
    if !geteuid().is_root() {
        let (_temp, provisioner) = setup();
        return not_permitted(&provisioner);
    }
    apart::run_as_another("apart_not_permitted");
}

#[test]
#[ignore = "run by another test, as another user"]
fn apart_not_permitted() {
    not_permitted(&apart::provisioner());
}

fn not_permitted(provisioner: &Provisioner) {
    let root = Owner::new(0, 0).unwrap();
    let refused = provisioner
        .clone()
        .owner(root)
        .provision_blocking(&alice())
        .unwrap_err();
    assert!(
        matches!(refused, ProvisionError::OwnerDenied { uid: 0, gid: 0, .. }),
        "{refused:?}"
    );
    fs::remove_dir(at(provisioner, "")).unwrap();

    fs::set_permissions(provisioner.root(), Permissions::from_mode(0o555)).unwrap();
    let refused = provisioner.provision_blocking(&alice()).unwrap_err();
    assert_io(&refused, "create directory", "alice", Errno::ACCESS);

    fs::set_permissions(provisioner.root(), Permissions::from_mode(0o755)).unwrap();
    provisioner.provision_blocking(&alice()).unwrap();
    assert_whole(provisioner);
}

fn assert_io(error: &ProvisionError, doing: &str, name: &str, errno: Errno) {
    let ProvisionError::Io {
        action,
        path,
        source,
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!(*action, doing);
    assert!(path.ends_with(name), "{path:?}");
    assert_eq!(source.raw_os_error(), Some(errno.raw_os_error()));
}
