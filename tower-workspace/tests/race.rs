//! An adversary who may do in a person's directory whatever its owner may, and does it all the time.
#![cfg(all(feature = "fs", target_os = "linux"))]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::BTreeMap,
    fs::{self, File, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use tempfile::TempDir;
use tower_workspace::fs::{
    Archive, Bounds, ExportError, Person, ProvisionError, Provisioner, Templates,
};

/// Rounds of each kind; 10,000 together.
const ROUNDS: u64 = 2_500;

/// What is outside: bob's tree, and what belongs to nobody of them.
struct Outside {
    temp: TempDir,
    provisioner: Provisioner,
    before: BTreeMap<PathBuf, (u32, u32, u64, Vec<u8>)>,
}

/// Names that the adversary plays with, below alice's directory.
const NAMES: [&str; 12] = [
    "workspace",
    "workspace/skills",
    "workspace/AGENTS.md",
    "workspace/skills/SKILL.md",
    "sessions",
    "sandbox-workspace",
    ".openclaw",
    ".openclaw/owner",
    ".openclaw/profiles",
    ".openclaw/profiles/user-alice.yml",
    "workspace/deep",
    "workspace/deep/er",
];

// === impl Outside ===

impl Outside {
    fn new() -> Self {
        let temp = match fs::metadata("/dev/shm") {
            Ok(_) => tempfile::tempdir_in("/dev/shm"),
            Err(_) => tempfile::tempdir(),
        };
        let temp = temp.unwrap();
        let folder = temp.path().join("templates");
        fs::create_dir_all(folder.join("skills")).unwrap();
        fs::write(folder.join("skills/SKILL.md"), "of {{name}}").unwrap();
        let provisioner =
            Provisioner::new(temp.path().join("root")).templates(Templates::read(&folder).unwrap());
        provisioner.provision_blocking(&Person::new("bob")).unwrap();
        let outside = temp.path().join("outside");
        fs::create_dir_all(outside.join("dir/er")).unwrap();
        for file in ["file", "dir/AGENTS.md", "dir/owner", "dir/er/SKILL.md"] {
            fs::write(outside.join(file), "canary").unwrap();
            fs::set_permissions(outside.join(file), Permissions::from_mode(0o640)).unwrap();
        }
        let mut new = Self {
            temp,
            provisioner,
            before: BTreeMap::new(),
        };
        new.before = new.now();
        new
    }

    fn outside(&self) -> PathBuf {
        self.temp.path().join("outside")
    }

    fn now(&self) -> BTreeMap<PathBuf, (u32, u32, u64, Vec<u8>)> {
        let mut found = BTreeMap::new();
        let mut rest = vec![
            self.outside(),
            self.temp.path().join("templates"),
            self.provisioner.root().join("bob"),
        ];
        while let Some(path) = rest.pop() {
            let meta = fs::symlink_metadata(&path).unwrap();
            let mut content = Vec::new();
            if meta.is_dir() {
                rest.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            } else if meta.is_file() {
                content = fs::read(&path).unwrap();
            }
            let links = if meta.is_file() { 1 } else { meta.nlink() };
            found.insert(path, (meta.mode(), meta.uid(), links, content));
        }
        found
    }

    /// Does `work` over and over, while the adversary does everything they can think of.
    fn race(self, rounds: u64, work: impl Fn(&Provisioner, u64)) {
        let done = AtomicBool::new(false);
        let tricks = AtomicU64::new(0);
        thread::scope(|scope| {
            let alice = self.provisioner.root().join("alice");
            let (done, tricks, outside) = (&done, &tricks, self.outside());
            let aside = self.temp.path().join("aside");
            fs::create_dir_all(&aside).unwrap();
            scope.spawn(move || {
                let mut dice = Dice(88_172_645_463_325_252);
                while !done.load(Ordering::Relaxed) {
                    trick(&mut dice, &alice, &outside, &aside);
                    tricks.fetch_add(1, Ordering::Relaxed);
                }
            });
            let _stop = Stop(done);
            for round in 0..rounds {
                work(&self.provisioner, round);
            }
        });
        assert!(tricks.load(Ordering::Relaxed) > rounds / 10);
        println!("{} tricks", tricks.load(Ordering::Relaxed));
        let now = self.now();
        for (path, before) in &self.before {
            assert_eq!(now.get(path), Some(before), "{path:?}");
        }
        assert_eq!(now.len(), self.before.len());

        // When the adversary is gone, everything is as ever.
        let _ = fs::remove_dir_all(self.provisioner.root().join("alice"));
        self.provisioner
            .provision_blocking(&Person::new("alice"))
            .unwrap();
        assert!(self.provisioner.remove_blocking("alice").unwrap());
        self.provisioner.finish_removals().unwrap();
        assert_eq!(fs::read_dir(self.provisioner.root()).unwrap().count(), 1);
        assert_eq!(self.now(), self.before);
    }
}

/// Lets the adversary end, whatever becomes of the test.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Marsaglia's xorshift: a seed, and always the same game.
struct Dice(u64);

impl Dice {
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let at = self.roll(from.len());
        *from.get(at).unwrap()
    }

    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

/// One thing that the owner of a directory may do there. What does not work does not matter.
fn trick(dice: &mut Dice, alice: &Path, outside: &Path, aside: &Path) {
    let name = alice.join(dice.pick(&NAMES));
    let other = alice.join(dice.pick(&NAMES));
    // Not to be led outside by tricks of their own.
    for path in [&name, &other] {
        let above = path.ancestors().skip(1);
        let above = above.take_while(|path| path.starts_with(alice));
        for link in above.filter(|path| path.is_symlink()) {
            let _ = fs::remove_file(link);
        }
    }
    let leads = [
        "",
        "dir",
        "file",
        "dir/er",
        "none",
        "../root/bob",
        "../root/bob/workspace",
    ];
    let target = outside.join(dice.pick(&leads));
    let link = aside.join(format!("link-{}", dice.roll(4)));
    match dice.roll(10) {
        0 => drop(fs::remove_file(&name).and_then(|()| symlink(&target, &name))),
        1 | 2 => {
            // The directory is there, and is a link, and is there again.
            let name = match dice.roll(8) {
                0 => alice,
                _ => &name,
            };
            let _ = symlink(&target, &link);
            let _ = renameat_with(CWD, name, CWD, &link, RenameFlags::EXCHANGE);
            let _ = renameat_with(CWD, name, CWD, &link, RenameFlags::EXCHANGE);
            let _ = fs::remove_file(&link);
        }
        3 => drop(fs::rename(&name, &other)),
        4 => {
            let away = aside.join(format!("dir-{}", dice.roll(4)));
            let _ = fs::rename(&name, &away);
            let _ = symlink(&target, &name);
            let _ = fs::remove_file(&name);
            let _ = fs::rename(&away, &name);
            let _ = fs::remove_dir_all(away);
        }
        5 => {
            let file = dice.pick(&["file", "../root/bob/.openclaw/owner"]);
            let _ = fs::remove_file(&name);
            let _ = fs::hard_link(outside.join(file), &name);
        }
        6 if !name.is_symlink() => {
            let _ = fs::create_dir_all(&name);
            let _ = File::create_new(name.join("more"));
            let _ = symlink(&target, name.join("link"));
        }
        7 | 8 => drop(fs::remove_file(&name).and_then(|()| File::create_new(&name))),
        _ => drop(fs::remove_file(&name).or_else(|_| fs::remove_dir(&name))),
    }
}

/// Refusals are well; what must not be is work done elsewhere, a panic, or a run without end.
fn refused_or<T>(done: Result<T, ProvisionError>) -> Option<T> {
    done.ok()
}

#[test]
fn d4_42_provisioning_under_attack_touches_nothing_outside() {
    let made = AtomicU64::new(0);
    Outside::new().race(ROUNDS, |provisioner, round| {
        let person = Person::new("alice").with_sandbox(round % 2 == 0);
        if refused_or(provisioner.provision_blocking(&person)).is_some() {
            made.fetch_add(1, Ordering::Relaxed);
        }
        if round % 2 == 0 {
            let _ = fs::remove_dir_all(provisioner.root().join("alice"));
        }
    });
    println!("made {} times", made.load(Ordering::Relaxed));
    assert_ne!(made.load(Ordering::Relaxed), 0);
}

#[test]
fn d4_47_removal_under_attack_touches_nothing_outside() {
    let removed = AtomicU64::new(0);
    Outside::new().race(ROUNDS, |provisioner, _| {
        let _ = provisioner.provision_blocking(&Person::new("alice"));
        if refused_or(provisioner.remove_blocking("alice")).unwrap_or(false) {
            removed.fetch_add(1, Ordering::Relaxed);
        }
    });
    println!("removed {} times", removed.load(Ordering::Relaxed));
    assert_ne!(removed.load(Ordering::Relaxed), 0);
}

#[test]
fn d4_46_a_snapshot_under_attack_counts_nothing_outside() {
    let outside = Outside::new();
    fs::write(outside.outside().join("dir/huge"), vec![0; 1 << 20]).unwrap();
    let outside = Outside {
        before: outside.now(),
        ..outside
    };
    let taken = AtomicU64::new(0);
    outside.race(ROUNDS, |provisioner, round| {
        if round % 4 == 0 {
            let _ = provisioner.provision_blocking(&Person::new("alice"));
        }
        let bounds = Bounds::new().time(Duration::from_secs(5));
        let snapshot = refused_or(provisioner.snapshot_blocking("alice", bounds)).flatten();
        if let Some(snapshot) = snapshot {
            taken.fetch_add(1, Ordering::Relaxed);
            assert!(snapshot.total.bytes < 1 << 20, "{snapshot:?}");
            assert!(!snapshot.truncated);
        }
    });
    println!("taken {} times", taken.load(Ordering::Relaxed));
    assert_ne!(taken.load(Ordering::Relaxed), 0);
}

#[test]
fn d4_46_an_export_under_attack_has_nothing_from_outside() {
    let taken = AtomicU64::new(0);
    Outside::new().race(ROUNDS, |provisioner, round| {
        if round % 4 == 0 {
            let _ = provisioner.provision_blocking(&Person::new("alice"));
        }
        let mut archive = Archive::new(Vec::new());
        match provisioner.export("alice", Bounds::new(), &mut archive) {
            Ok(Some(_)) => drop(taken.fetch_add(1, Ordering::Relaxed)),
            Ok(None) | Err(ExportError::Workspace(_)) => {}
            Err(error) => panic!("{error}"),
        }
        let bytes = archive.finish().unwrap();
        let found = bytes.windows(6).any(|window| window == b"canary");
        assert!(!found, "something from outside");
    });
    println!("taken {} times", taken.load(Ordering::Relaxed));
    assert_ne!(taken.load(Ordering::Relaxed), 0);
}
