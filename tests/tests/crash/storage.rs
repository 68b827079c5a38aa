//! The disk of these tests does lose what was not synced.

use std::{
    env, fs,
    io::Write,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Command,
};

use gateway_tests::{
    error::Result,
    storage::{Cut, Fault, Storage},
};
use rusqlite::Connection;
use rustix::process::{Signal, getpid, kill_process};

/// Where the program that is killed keeps things, and how.
const DIR: &str = "CRASH_TEST_DIR";
const SYNCHRONOUS: &str = "CRASH_TEST_SYNCHRONOUS";

const COMMITS: usize = 50;

/// The program: this one, killed by itself.
#[test]
#[ignore = "it is run by the other tests here"]
fn commits_and_is_killed() {
    let dir = PathBuf::from(env::var_os(DIR).expect("run by a test"));
    let synchronous = env::var(SYNCHRONOUS).expect("run by a test");
    for (name, is_synced) in [("synced", true), ("unsynced", false)] {
        let mut file = fs::File::create(dir.join(name)).expect("a file");
        file.write_all(b"old").expect("written");
        file.sync_all().expect("synced");
        fs::File::open(&dir)
            .and_then(|dir| dir.sync_all())
            .expect("synced");
        file.write_all(b" and new").expect("written");
        file.set_len(5).expect("shortened");
        if is_synced {
            file.sync_all().expect("synced");
        }
    }
    let store = Connection::open(dir.join("store.db")).expect("a store");
    store
        .pragma_update(None, "journal_mode", "WAL")
        .expect("WAL");
    store
        .pragma_update(None, "synchronous", &synchronous)
        .expect("a mode");
    let created = store.execute_batch("CREATE TABLE rows (n INTEGER)");
    created.expect("a table");
    for n in 0..COMMITS {
        store
            .execute("INSERT INTO rows VALUES (?1)", [n as i64])
            .expect("a row");
    }
    fs::write(dir.join("nameless"), "of nothing").expect("a file");
    // It has them.
    assert_eq!(count(&store), COMMITS);
    kill_process(getpid(), Signal::KILL).expect("killed");
}

fn count(store: &Connection) -> usize {
    let count = store.query_row("SELECT count(*) FROM rows", [], |row| row.get::<_, i64>(0));
    count.map_or(0, |count| usize::try_from(count).unwrap_or(0))
}

fn run(storage: &Storage, dir: &Path, synchronous: &str) {
    let program = env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command
        .args(["--exact", "storage::commits_and_is_killed", "--ignored"])
        .envs(storage.env())
        .env(DIR, dir)
        .env(SYNCHRONOUS, synchronous);
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        output.status.signal(),
        Some(Signal::KILL.as_raw()),
        "{said}"
    );
}

/// What is left after a cut.
fn left(synchronous: &str, keeps: impl FnMut() -> bool) -> Result<(usize, [String; 3], Cut)> {
    let (dir, scratch) = (tempfile::tempdir(), tempfile::tempdir());
    let dir = dir.expect("a temporary directory");
    let scratch = scratch.expect("a temporary directory");
    let storage = Storage::new(dir.path(), scratch.path())?;
    run(&storage, dir.path(), synchronous);
    let cut = storage.cut(keeps)?;
    let files = ["synced", "unsynced", "nameless"]
        .map(|name| fs::read_to_string(dir.path().join(name)).unwrap_or_default());
    let store = Connection::open(dir.path().join("store.db")).expect("a store");
    Ok((count(&store), files, cut))
}

#[test]
fn a_cut_takes_what_was_not_synced_and_nothing_else() -> Result<()> {
    let (rows, files, cut) = left("FULL", || false)?;
    println!("FULL: {rows} rows, {cut:?}");
    assert_eq!(rows, COMMITS);
    assert_eq!(files, ["old a", "old", ""]);
    for synchronous in ["NORMAL", "OFF"] {
        let (rows, _, cut) = left(synchronous, || false)?;
        println!("{synchronous}: {rows} rows, {cut:?}");
        assert!(rows < COMMITS, "{synchronous} does not sync each commit");
        assert!(cut.lost > 0);
    }
    let (rows, files, _) = left("OFF", || true)?;
    // Its name was lost, or it has what was written.
    assert!(rows == COMMITS || rows == 0);
    assert_eq!(files, ["old a", "old a", ""]);
    Ok(())
}

#[test]
fn a_full_disk_takes_nothing() -> Result<()> {
    let (dir, scratch) = (tempfile::tempdir(), tempfile::tempdir());
    let dir = dir.expect("a temporary directory");
    let scratch = scratch.expect("a temporary directory");
    let storage = Storage::new(dir.path(), scratch.path())?;
    for (fault, error) in [
        (Fault::Full, "No space left on device"),
        (Fault::ReadOnly, "Read-only file system"),
    ] {
        storage.set(Some(fault))?;
        let file = dir.path().join("file");
        let mut dd = Command::new("dd");
        dd.args(["if=/dev/zero", "count=1"])
            .arg(format!("of={}", file.display()));
        let output = dd.envs(storage.env()).output().expect("dd runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(error), "{said}");
        assert!(!file.exists());
        storage.set(None)?;
        let mut dd = Command::new("dd");
        dd.args(["if=/dev/zero", "count=1"])
            .arg(format!("of={}", file.display()));
        let output = dd.envs(storage.env()).output().expect("dd runs");
        assert!(output.status.success());
        fs::remove_file(file).expect("it is there");
    }
    Ok(())
}
