//! Lives of cells, with a program in OpenClaw's place that can be made to fail.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::geteuid;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep};

use super::members::below;
use super::process::ProcessId;
use super::record::Record;
use super::registry::Limits;
use super::*;
use crate::config::{self, Instance, OsUsers};
use crate::store::Store;

/// How long something may take that takes a moment.
const PATIENCE: Duration = Duration::from_secs(30);

/// Not a test: what the others start in place of OpenClaw. It says that it is ready, for as long as it lives.
#[test]
#[ignore = "it is the program that tests start"]
fn program() {
    let Some(port) = std::env::var("PORT")
        .ok()
        .and_then(|port| port.parse().ok())
    else {
        return;
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    for connection in listener.incoming() {
        let mut connection = connection.unwrap();
        let _ = connection.read(&mut [0; 1_024]);
        let _ = connection
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
}

/// A directory with a program, and what cells of it have.
struct Place {
    dir: tempfile::TempDir,
    settings: Settings,
}

/// Writes down who joined and left.
#[derive(Clone, Default)]
struct Noted(Arc<Mutex<Vec<String>>>);

/// A gateway, as far as cells are concerned, which can be killed.
struct Gateway {
    cells: Cells,
    noted: Noted,
    runtime: Option<Runtime>,
}

impl Place {
    /// `script` is what the program does before it listens.
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let open = |mode| Permissions::from_mode(mode);
        fs::set_permissions(dir.path(), open(0o711)).unwrap();
        let place = Self {
            settings: Settings {
                command: dir.path().join("openclaw"),
                dir: dir.path().join("cells"),
                idle_after: Duration::from_secs(3_600),
                max: 3,
                os_users: None,
                workspaces: dir.path().join("users"),
                template: json!({}),
            },
            dir,
        };
        place.write(script);
        place
    }

    fn write(&self, script: &str) {
        let program = std::env::current_exe().unwrap();
        let mut text = format!("#!/bin/sh\n{script}\n");
        let _ = writeln!(
            text,
            "PORT=$4 exec '{}' --ignored --exact cells::tests::program --nocapture",
            program.display()
        );
        // Whole at once: it may be started meanwhile.
        let new = self.dir.path().join("new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, Permissions::from_mode(0o755)).unwrap();
        fs::rename(&new, &self.settings.command).unwrap();
    }

    fn start(&self) -> Gateway {
        self.try_start(Duration::from_secs(20)).unwrap()
    }

    fn try_start(&self, drain: Duration) -> Result<Gateway, CellsError> {
        let runtime = Runtime::new().unwrap();
        let noted = Noted::default();
        let limits = Limits {
            ready: Duration::from_secs(20),
            ask: Duration::from_millis(500),
            drain,
        };
        let store = Store::open(&self.dir.path().join("gateway.db")).unwrap();
        let cells = runtime.block_on(Cells::start_with(
            self.settings.clone(),
            store,
            noted.clone(),
            limits,
        ))?;
        Ok(Gateway {
            cells,
            noted,
            runtime: Some(runtime),
        })
    }

    fn record(&self, user: &str) -> Option<Record> {
        let text = fs::read_to_string(self.settings.dir.join(user).join("cell.json")).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Processes of its cells, whoever knows of them.
    fn processes(&self) -> BTreeSet<ProcessId> {
        let Ok(dir) = self.settings.dir.canonicalize() else {
            return BTreeSet::new();
        };
        let entries = fs::read_dir(&dir).into_iter().flatten();
        let owners = entries.filter_map(|entry| {
            let state = entry.unwrap().path().join("state");
            Some(state.metadata().ok()?.uid()).filter(|owner| *owner != geteuid().as_raw())
        });
        below(&dir, &owners.collect()).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = super::members::kill(self.processes());
    }
}

impl Roster for Noted {
    fn join(&self, cell: &Instance) -> Result<(), String> {
        self.note(format!("+{}", cell.name));
        Ok(())
    }

    fn leave(&self, name: &str) {
        self.note(format!("-{name}"));
    }
}

impl Noted {
    fn note(&self, what: String) {
        self.all().push(what);
    }

    fn all(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gateway {
    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.as_ref().unwrap().block_on(future)
    }

    fn pause(&self, pause: Duration) {
        self.run(async { sleep(pause).await });
    }

    fn wake(&self, user: &str) -> Result<Instance, CellError> {
        self.run(async { self.cells.wake(&user.into()) })
    }

    fn listed(&self, user: &str) -> Option<ListedCell> {
        let mut listed = self.cells.list().into_iter();
        listed.find(|cell| &*cell.user_id == user)
    }

    /// Asks for somebody's cell until it runs.
    fn running(&self, user: &str) -> (Instance, i32) {
        self.until(|| match self.wake(user) {
            Ok(instance) => self.listed(user)?.pid.map(|pid| (instance, pid)),
            Err(_) => None,
        })
    }

    fn until<T>(&self, what: impl Fn() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(it) = what() {
                return it;
            }
            assert!(Instant::now() < deadline, "{:?}", self.cells.list());
            self.pause(Duration::from_millis(50));
        }
    }

    fn kill(mut self) {
        // Its tasks go as those of a process do that is killed.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(PATIENCE);
        }
    }
}

#[test]
fn a_cell_is_started_once_for_many_who_come_and_stopped_when_nobody_uses_it() {
    let mut place = Place::new("setsid sleep 600 &");
    place.settings.idle_after = Duration::from_secs(2);
    let gateway = place.start();
    for _ in 0..50 {
        let error = gateway.wake("alice").unwrap_err();
        assert!(matches!(error, CellError::Starting { .. }), "{error}");
    }
    let (instance, pid) = gateway.running("alice");
    assert_eq!(instance.name, "cell.alice");
    let in_use = gateway.cells.enter(&"alice".into()).unwrap();
    gateway.pause(place.settings.idle_after * 2);
    assert_eq!(gateway.running("alice").1, pid, "somebody is connected");
    let record = place.record("alice").unwrap();
    assert_eq!(instance.url, format!("http://127.0.0.1:{}", record.port));
    assert_eq!(
        place.processes().len(),
        2,
        "with what it has started itself"
    );
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let environment = String::from_utf8_lossy(&environment).into_owned();
    let names: BTreeSet<_> = environment
        .split('\0')
        .filter_map(|variable| variable.split_once('='))
        .map(|(name, _)| name)
        .filter(|name| !["PORT", "PWD", "OLDPWD", "SHLVL", "_"].contains(name))
        .collect();
    let known = |name: &&str| {
        ["PATH", "HOME", "NO_COLOR", "DO_NOT_TRACK"].contains(name) || name.starts_with("OPENCLAW_")
    };
    assert!(names.iter().all(known), "{names:?}");
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let arguments = String::from_utf8_lossy(&arguments).into_owned();
    assert!(!arguments.contains(&record.password));

    drop(in_use);
    gateway.until(|| (gateway.listed("alice")?.status == "off").then_some(()));
    assert!(place.processes().is_empty(), "nothing of it is left");
    let (again, new_pid) = gateway.running("alice");
    assert_ne!(new_pid, pid);
    assert_eq!(again.url, instance.url, "it has its port again");
    assert_ne!(again.auth, instance.auth, "and another password");
    assert_eq!(
        *gateway.noted.all(),
        ["+cell.alice", "-cell.alice", "+cell.alice"]
    );
    gateway.kill();
}

#[test]
fn a_gateway_that_is_killed_leaves_cells_that_the_next_one_goes_on_with() {
    let place = Place::new("setsid sleep 600 &");
    let gateway = place.start();
    let before = [gateway.running("alice"), gateway.running("bob")];
    let processes = place.processes();
    gateway.kill();
    assert_eq!(place.processes(), processes, "they go on");
    let gateway = place.start();
    let after = [gateway.running("alice"), gateway.running("bob")];
    assert_eq!(after, before, "the same processes, ports and passwords");
    assert_eq!(place.processes(), processes);

    // What it has adopted it sees the end of.
    let alice = ProcessId::of(before[0].1).unwrap();
    alice.signal(rustix::process::Signal::KILL).unwrap();
    gateway.until(|| (gateway.listed("alice")?.pid != Some(alice.pid)).then_some(()));
    let (_, pid) = gateway.running("alice");
    assert_ne!(pid, alice.pid);
    assert_eq!(
        place.processes().len(),
        4,
        "one of each, and what they started"
    );
    gateway.kill();
}

#[test]
fn what_is_nobodys_is_ended_and_no_other_process_is_taken_for_it() {
    let place = Place::new("setsid sleep 600 &");
    let gateway = place.start();
    let (_, pid) = gateway.running("alice");
    let (_, bobs) = gateway.running("bob");
    gateway.kill();
    // Alice's record was lost; bob's names a process that is not his any more.
    let dir = place.settings.dir.canonicalize().unwrap();
    fs::remove_file(dir.join("alice/cell.json")).unwrap();
    let mut other = Command::new("sleep")
        .arg("600")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let text = fs::read_to_string(dir.join("bob/cell.json")).unwrap();
    let mut record: Record = serde_json::from_str(&text).unwrap();
    record.process = ProcessId::of(i32::try_from(other.id()).unwrap());
    let text = serde_json::to_string(&record).unwrap();
    fs::write(dir.join("bob/cell.json"), text).unwrap();

    let gateway = place.start();
    assert!(place.processes().is_empty());
    assert!(ProcessId::of(pid).is_none() && ProcessId::of(bobs).is_none());
    assert!(other.try_wait().unwrap().is_none(), "it is no cell");
    assert!(gateway.cells.list().is_empty());
    let (_, again) = gateway.running("alice");
    assert_ne!(again, pid);
    gateway.kill();
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn one_that_fails_is_left_alone_for_a_while_and_says_what_it_said_last() {
    let place = Place::new("echo starting; echo 'config is bad: sk-canary' >&2; exit 78");
    let gateway = place.start();
    assert!(matches!(
        gateway.wake("alice"),
        Err(CellError::Starting { .. })
    ));
    let failure = gateway.until(|| gateway.listed("alice")?.failure);
    assert!(failure.contains("exit status: 78"), "{failure}");
    assert!(failure.contains("config is bad: …"), "{failure}");
    let failures = gateway.until(|| match gateway.wake("alice") {
        Err(CellError::Failing { failures, .. }) => failures,
        other => {
            assert!(
                matches!(other, Err(CellError::Starting { .. })),
                "{other:?}"
            );
            None
        }
    });
    assert_eq!(failures, 3);
    let told = gateway.wake("alice").unwrap_err().to_string();
    assert!(told.contains("again and again"), "{told}");
    assert!(!told.contains("config"), "{told}");
    // Once it works it is as if nothing had been.
    place.write("");
    let (_, _) = gateway.running("alice");
    gateway.kill();
}

#[test]
fn a_program_that_is_not_there_and_a_directory_that_cannot_be_are_named() {
    let mut place = Place::new("");
    let gateway = place.start();
    fs::remove_file(&place.settings.command).unwrap();
    let _ = gateway.wake("alice");
    let failure = gateway.until(|| gateway.listed("alice")?.failure);
    assert!(
        failure.contains("openclaw` cannot be started: No such file"),
        "{failure}"
    );
    // A file where the directory of somebody would be.
    fs::write(place.settings.dir.join("bob"), "").unwrap();
    let _ = gateway.wake("bob");
    let failure = gateway.until(|| gateway.listed("bob")?.failure);
    assert!(failure.contains("not a directory"), "{failure}");
    gateway.kill();

    let refused = place.try_start(PATIENCE).err().unwrap().to_string();
    assert!(refused.contains("cells.command"), "{refused}");
    place.write("");
    place.settings.dir = place.settings.command.clone();
    let refused = place.try_start(PATIENCE).err().unwrap().to_string();
    assert!(refused.contains("cells.dir"), "{refused}");
}

#[test]
fn whatever_else_listens_on_its_port_is_not_taken_for_it() {
    let place = Place::new("sleep 600");
    let gateway = place.start();
    let _ = gateway.wake("alice");
    let port = gateway.until(|| {
        place
            .record("alice")?
            .process
            .and(Some(place.record("alice")?.port))
    });
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    std::thread::spawn(move || {
        for connection in other.incoming() {
            let mut connection = connection.unwrap();
            let _ = connection.read(&mut [0; 1_024]);
            let _ = connection
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    let failure = gateway.until(|| gateway.listed("alice")?.failure);
    assert!(failure.contains(&format!("port {port}")), "{failure}");
    assert!(gateway.noted.all().is_empty(), "nobody was told of it");
    assert!(place.processes().is_empty());
    place.write("");
    let (instance, _) = gateway.running("alice");
    assert_ne!(instance.url, format!("http://127.0.0.1:{port}"));
    gateway.kill();
}

#[test]
fn who_is_unused_makes_room_and_who_is_used_does_not() {
    let mut place = Place::new("");
    place.settings.max = 1;
    place.settings.idle_after = Duration::from_secs(5);
    let gateway = place.start();
    gateway.running("alice");
    let in_use = gateway.cells.enter(&"alice".into()).unwrap();
    let refused = gateway.wake("bob").unwrap_err();
    assert!(matches!(refused, CellError::Full { .. }), "{refused}");
    assert!(refused.retry_after().is_some());
    drop(in_use);
    let (_, _) = gateway.running("bob");
    assert_eq!(gateway.listed("alice").unwrap().status, "off");
    assert_eq!(place.processes().len(), 1);
    gateway.kill();
}

#[test]
fn one_that_does_not_stop_is_ended_and_who_comes_meanwhile_gets_it_again() {
    let mut place = Place::new("trap '' TERM");
    place.settings.idle_after = Duration::from_secs(1);
    let gateway = place.try_start(Duration::from_secs(3)).unwrap();
    let (_, pid) = gateway.running("alice");
    gateway.until(|| (gateway.listed("alice")?.status == "stopping").then_some(()));
    let error = gateway.wake("alice").unwrap_err();
    assert!(matches!(error, CellError::Starting { .. }), "{error}");
    assert!(ProcessId::of(pid).is_some(), "it may finish what it does");
    gateway.until(|| ProcessId::of(pid).is_none().then_some(()));
    let (_, again) = gateway.until(|| {
        let listed = gateway.listed("alice")?;
        Some((listed.status, listed.pid?))
    });
    assert_ne!(again, pid, "unasked");
    gateway.kill();
}

#[test]
fn who_is_deleted_leaves_nothing_and_others_are_as_they_were() {
    let place = Place::new("trap '' TERM; setsid sleep 600 &");
    let gateway = place.start();
    gateway.running("alice");
    let (_, bobs) = gateway.running("bob");
    let (alice, dir) = (Arc::from("alice"), place.settings.dir.join("alice"));
    let outside = place.dir.path().join("outside");
    fs::write(&outside, "").unwrap();
    std::os::unix::fs::symlink(place.dir.path(), dir.join("state/link")).unwrap();
    let begun = Instant::now();
    gateway.run(gateway.cells.remove(&alice)).unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "it has nothing to finish"
    );
    assert!(!dir.exists() && outside.exists());
    assert_eq!(place.processes().len(), 2, "bob's");
    assert_eq!(gateway.running("bob").1, bobs);
    gateway.run(gateway.cells.remove(&alice)).unwrap();
    assert!(gateway.listed("alice").is_none());
    gateway.running("alice");
    gateway.kill();
}

#[test]
fn who_is_deleted_while_theirs_starts_or_waits_for_that_does_not_wait() {
    let place = Place::new("sleep 600");
    let gateway = place.start();
    let people = ["alice", "bob", "carol"];
    for user in people {
        let _ = gateway.wake(user);
    }
    gateway.until(|| place.record("alice")?.process);
    let begun = Instant::now();
    for user in people {
        gateway.run(gateway.cells.remove(&user.into())).unwrap();
        assert!(gateway.listed(user).is_none());
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{begun:?}");
    assert!(place.processes().is_empty());
    place.write("");
    gateway.running("alice");
    gateway.kill();
}

#[test]
fn one_that_says_nothing_any_more_is_ended_and_started_again() {
    let place = Place::new("setsid sleep 600 &");
    let gateway = place.start();
    let (_, pid) = gateway.running("alice");
    let (_, bobs) = gateway.running("bob");
    let _in_use = gateway.cells.enter(&"alice".into()).unwrap();
    let hangs = ProcessId::of(pid).unwrap();
    hangs.signal(rustix::process::Signal::STOP).unwrap();
    let again = gateway.until(|| gateway.listed("alice")?.pid.filter(|new| *new != pid));
    assert!(!hangs.is_alive() && again != pid);
    let failure = gateway.listed("alice").unwrap().failure.unwrap();
    assert!(failure.contains("does not answer"), "{failure}");
    let noted = gateway.noted.all().clone();
    let of_alice: Vec<_> = noted.iter().filter(|it| it.ends_with("alice")).collect();
    assert_eq!(of_alice, ["+cell.alice", "-cell.alice", "+cell.alice"]);
    assert_eq!(gateway.running("bob").1, bobs, "it was alice's");
    assert_eq!(place.processes().len(), 4);
    gateway.kill();
}

#[test]
fn one_that_dies_while_it_is_used_is_started_again() {
    let place = Place::new("");
    let gateway = place.start();
    let (_, pid) = gateway.running("alice");
    let _in_use = gateway.cells.enter(&"alice".into()).unwrap();
    ProcessId::of(pid)
        .unwrap()
        .signal(rustix::process::Signal::KILL)
        .unwrap();
    let again = gateway.until(|| gateway.listed("alice")?.pid.filter(|new| *new != pid));
    assert_ne!(again, pid);
    let failure = gateway.listed("alice").unwrap().failure.unwrap();
    assert!(failure.contains("for want of memory"), "{failure}");
    gateway.kill();
}

#[test]
fn each_cell_is_a_user_of_the_system() {
    let mut place = Place::new("id -u; setsid env -i sleep 600 &");
    let os_users = "os_users = \"1912340000-1912340009\"";
    let cells: config::Cells = toml::from_str(os_users).unwrap();
    let users: OsUsers = cells.os_users.unwrap();
    place.settings.os_users = Some(users);
    let program = std::env::current_exe().unwrap();
    let is_within_reach = super::settings::open_to_others("the test", &program, true);
    if let (false, _) | (_, Err(_)) = (geteuid().is_root(), &is_within_reach) {
        println!("not tested: {is_within_reach:?}, or this is not root");
        return;
    }
    let gateway = place.start();
    let pids = [gateway.running("alice").1, gateway.running("bob").1];
    let os_users = ["alice", "bob"].map(|user| gateway.listed(user).unwrap().os_user.unwrap());
    assert_ne!(os_users[0], os_users[1]);
    for (pid, os_user) in pids.into_iter().zip(os_users) {
        assert!(users.contains(os_user));
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = |name: &str| {
            let mut lines = status.lines();
            lines
                .find_map(|line| line.strip_prefix(name))
                .unwrap()
                .trim()
                .to_owned()
        };
        let four_times = format!("{os_user}\t{os_user}\t{os_user}\t{os_user}");
        assert_eq!(line("Uid:"), four_times);
        assert_eq!(line("Gid:"), four_times);
        assert_eq!(line("Groups:"), "", "and in no group beside");
    }
    assert_eq!(
        place.processes().len(),
        4,
        "one has hidden where it belongs"
    );
    gateway.kill();
    let gateway = place.start();
    assert_eq!(gateway.running("alice").1, pids[0]);
    ProcessId::of(pids[1])
        .unwrap()
        .signal(rustix::process::Signal::KILL)
        .unwrap();
    gateway.until(|| (gateway.listed("bob")?.status == "off").then_some(()));
    assert_eq!(
        place.processes().len(),
        2,
        "what bob's had started is gone, too"
    );
    gateway.kill();
}
