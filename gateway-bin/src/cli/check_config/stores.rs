//! Where the gateway keeps what it has: a file, Postgres, Redis.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::files::{Place, place_of_new, writable};
use super::redis;
use super::report::Check;
use super::running::Running;
use crate::config::{Config, Secret};
use crate::store::{Inspected, StoreError, TABLES, find_in_file, inspect_server};

const FILE: &str = "store.path";

/// File systems over a network, by the numbers of `linux/magic.h`: NFS, SMB, SMB2, CIFS, Ceph, 9P.
const NETWORK: [u64; 6] = [
    0x6969,
    0x517b,
    0xfe53_4d42,
    0xff53_4d42,
    0x00c3_6400,
    0x0102_1997,
];

/// The first Postgres with all that is asked of it.
const OLDEST: u32 = 13;

/// What is gone with the power.
const TMPFS: u64 = 0x0102_1994;

/// Looks at the SQLite file, which every gateway has.
pub(super) fn file(config: &Config, running: Option<&Running>) -> Vec<Check> {
    let path = config.store.path.clone();
    let path = path.unwrap_or_else(|| PathBuf::from("gateway.db"));
    let shown = path.display();
    if let Place::Bad(why) = writable(&path) {
        return vec![Check::wrong(
            FILE,
            format!("{shown} cannot be written: {why}"),
        )];
    }
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    // The file's journals are made beside it.
    if let Place::Bad(why) = place_of_new(&path) {
        return vec![Check::wrong(
            FILE,
            format!("nothing can be made beside {shown}: {why}"),
        )];
    }
    if let Err(error) = File::open(dir).and_then(|dir| dir.sync_all()) {
        let says = format!(
            "{} cannot be synced to its disk ({error}), so that records could be lost with the power: name a path on another disk",
            dir.display()
        );
        return vec![Check::wrong(FILE, says)];
    }
    let mut checks = vec![kept(&path, running)];
    match file_system(dir) {
        kind if NETWORK.contains(&kind) => checks.push(Check::note(
            FILE,
            format!(
                "{} is on a file system over a network, where SQLite's locks may not hold: name a path on a disk of this host",
                dir.display()
            ),
        )),
        TMPFS => checks.push(Check::note(
            FILE,
            format!(
                "{} is in memory (tmpfs): records are gone with the power; name a path on a disk",
                dir.display()
            ),
        )),
        _ => {}
    }
    checks
}

/// Which one a directory is on, by its number.
#[cfg(target_os = "linux")]
fn file_system(dir: &Path) -> u64 {
    let kind = rustix::fs::statfs(dir).map(|is| u64::try_from(is.f_type).unwrap_or_default());
    kind.unwrap_or_default()
}

/// The numbers are Linux's.
#[cfg(not(target_os = "linux"))]
fn file_system(_: &Path) -> u64 {
    0
}

/// Who has the file, and of which version its tables are.
fn kept(path: &Path, running: Option<&Running>) -> Check {
    let shown = path.display();
    if !path.exists() {
        return Check::ok(FILE, format!("{shown} is made at the start"));
    }
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    let lock = Path::new(&lock);
    let own = running.filter(|running| running.has(lock));
    if own.is_none() && is_locked(lock) {
        return Check::wrong(
            FILE,
            format!(
                "{shown} is another gateway's, which runs: each needs a file of its own, so name another path"
            ),
        );
    }
    let had = match own {
        Some(running) => format!(
            "{shown} is the file of the gateway that runs, process {}",
            running.process
        ),
        None => format!("{shown} can be opened"),
    };
    match find_in_file(path) {
        Ok(found) => tables_check(FILE, &had, version(found.state)),
        Err(error) => Check::wrong(FILE, format!("{shown} cannot be read: {}", said(&error))),
    }
}

/// Whether somebody has locked it. It is only asked: a lock that is got is given back at once, and shared with others
/// who ask.
fn is_locked(lock: &Path) -> bool {
    let Ok(file) = File::open(lock) else {
        return false;
    };
    let tried = flock(&file, FlockOperation::NonBlockingLockShared);
    tried == Err(rustix::io::Errno::WOULDBLOCK)
}

/// How the tables' version is to this gateway.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Tables {
    /// There are none yet.
    New,
    Current,
    Older(u32),
    Newer(u32),
}

fn version(tables: u32) -> Tables {
    match tables {
        0 => Tables::New,
        tables if tables < TABLES => Tables::Older(tables),
        TABLES => Tables::Current,
        tables => Tables::Newer(tables),
    }
}

fn tables_check(key: &str, had: &str, tables: Tables) -> Check {
    match tables {
        Tables::New => Check::ok(key, format!("{had}; its tables are made at the start")),
        Tables::Current => Check::ok(key, format!("{had}, with tables of this version")),
        Tables::Older(tables) => Check::note(
            key,
            format!(
                "{had}; its tables are of version {tables} and would be migrated to {TABLES} at the start: have a backup"
            ),
        ),
        Tables::Newer(tables) => Check::wrong(
            key,
            format!(
                "{had}; its tables are of version {tables}, which this gateway ({TABLES}) does not know: use the newer gateway"
            ),
        ),
    }
}

/// Which servers there are, by the keys that name them; each once.
pub(super) fn urls(config: &Config) -> Vec<(&'static str, &Secret)> {
    let all = [
        ("store.database_url", &config.store.database_url),
        ("store.redis_url", &config.store.redis_url),
        ("session.store_url", &config.session.store_url),
    ];
    let mut urls: Vec<(&'static str, &Secret)> = Vec::new();
    for (key, url) in all {
        let Some(url) = url else { continue };
        if !urls.iter().any(|(_, known)| *known == url) {
            urls.push((key, url));
        }
    }
    urls
}

/// Connects to one of them.
pub(super) async fn check(key: &'static str, url: &Secret) -> Vec<Check> {
    let url = url.expose();
    let server = address(url);
    if url.starts_with("redis") {
        return redis::check(key, url, &server).await;
    }
    match inspect_server(url).await {
        Ok(found) => postgres(key, &server, &found),
        Err(error) => vec![Check::wrong(
            key,
            format!("Postgres at {server}: {}", refused(&said(&error))),
        )],
    }
}

fn postgres(key: &'static str, server: &str, found: &Inspected) -> Vec<Check> {
    let tls = match &found.tls {
        Some(version) => format!("by {version}"),
        None => "without TLS".to_owned(),
    };
    let had = format!("Postgres {} at {server} answers {tls}", found.version);
    if is_too_old(&found.version) {
        let says = format!("{had}, but is too old: it must be {OLDEST} or later");
        return vec![Check::wrong(key, says)];
    }
    if found.is_read_only {
        let says = format!("{had}, but is read-only: name the primary server");
        return vec![Check::wrong(key, says)];
    }
    if !found.may_create {
        return vec![Check::wrong(
            key,
            format!(
                "{had}, but this user may make no tables in the first schema of its search path: `GRANT CREATE ON SCHEMA public TO …`, \
                 or make the user owner of the database"
            ),
        )];
    }
    // Sessions alone have tables that have one version only.
    if key == "session.store_url" {
        return vec![Check::ok(key, had)];
    }
    vec![tables_check(key, &had, version(found.tables))]
}

/// Versions are like `17.2 (Debian 17.2-1)`.
fn is_too_old(version: &str) -> bool {
    let major = version.split(|c: char| !c.is_ascii_digit()).next();
    let major = major.and_then(|major| major.parse::<u32>().ok());
    major.is_some_and(|major| major < OLDEST)
}

/// What to do about a server that does not let us in.
fn refused(why: &str) -> String {
    let then = if why.contains("password") || why.contains("role") {
        "look at user and password in the URL"
    } else if why.contains("does not exist") {
        "make the database (`createdb`), or name another"
    } else if why.contains("certificate") || why.contains("TLS") {
        return why.to_owned();
    } else {
        "is it running there, and may this host connect?"
    };
    format!("{why}; {then}")
}

/// An error and what is behind it, in one line.
fn said(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

/// Host, port and database of a URL, and never what is before the `@`.
pub(super) fn address(url: &str) -> String {
    let hidden = || "its address".to_owned();
    let Some((_, rest)) = url.split_once("://") else {
        return hidden();
    };
    let server = match rest.rsplit_once('@') {
        // An `@` behind a `?` may be in a password there.
        Some((before, _)) if before.contains('?') => return hidden(),
        Some((_, server)) => server,
        None => rest,
    };
    let server = server.split(['?', '#']).next().unwrap_or_default();
    match server.is_empty() {
        true => hidden(),
        false => server.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::State;
    use super::*;
    use crate::store::Store;

    #[test]
    fn an_address_never_shows_a_password() {
        for (url, shown) in [
            ("postgres://a:canary@db:5432/gateway", "db:5432/gateway"),
            ("postgres://a:can@ary@db/gateway", "db/gateway"),
            ("postgres://a:can?ary@db/gateway", "its address"),
            ("postgres://db/gateway?password=canary", "db/gateway"),
            ("postgres://db/gateway?password=can@ary", "its address"),
            ("redis://:canary@127.0.0.1:6379/0", "127.0.0.1:6379/0"),
            ("redis://:can#ary@redis:6379", "redis:6379"),
            ("redis-cluster://redis:6379?node=other:6379", "redis:6379"),
            ("canary", "its address"),
        ] {
            assert_eq!(address(url), shown, "{url}");
        }
    }

    fn of(path: &Path) -> Vec<Check> {
        let text = format!(
            "server = {{ public = \"127.0.0.1:1\", public_url = \"http://127.0.0.1:1\" }}\nworkspace = {{ root = \"/srv\" }}\n\
             store = {{ path = {path:?} }}\n"
        );
        file(&toml::from_str(&text).unwrap(), None)
    }

    #[test]
    fn a_file_is_looked_at_and_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.db");
        let names = || {
            let entries = std::fs::read_dir(dir.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let new = &of(&path)[0];
        assert_eq!(new.state, State::Ok);
        assert!(new.says.contains("is made at the start"), "{}", new.says);
        assert!(names().is_empty());

        let store = Store::open(&path).unwrap();
        let before = names();
        let taken = &of(&path)[0];
        assert_eq!(taken.state, State::Wrong);
        assert!(taken.says.contains("another gateway's"), "{}", taken.says);
        assert_eq!(names(), before);
        drop(store);
        let before = (names(), std::fs::read(&path).unwrap());
        let current = &of(&path)[0];
        assert_eq!(current.state, State::Ok);
        assert!(
            current.says.contains("tables of this version"),
            "{}",
            current.says
        );
        assert_eq!((names(), std::fs::read(&path).unwrap()), before);

        let connection = rusqlite::Connection::open(&path).unwrap();
        let newer = "INSERT INTO gateway_schema (version) VALUES (999)";
        connection.execute_batch(newer).unwrap();
        drop(connection);
        let newer = &of(&path)[0];
        assert_eq!(newer.state, State::Wrong);
        assert!(
            newer.says.contains("use the newer gateway"),
            "{}",
            newer.says
        );

        std::fs::write(
            &path,
            "no database, but long enough to be read as one, which it is not",
        )
        .unwrap();
        assert_eq!(of(&path)[0].state, State::Wrong);
        let nowhere = of(&dir.path().join("none/gateway.db"));
        assert!(nowhere[0].says.contains("mkdir -p"), "{nowhere:?}");
    }

    #[test]
    fn a_postgres_can_be_too_old() {
        for (version, old) in [
            ("12.22", true),
            ("13.0", false),
            ("17.2 (Debian 17.2-1)", false),
            ("?", false),
        ] {
            assert_eq!(is_too_old(version), old, "{version}");
        }
    }

    #[test]
    fn older_tables_are_migrated_and_newer_ones_refused() {
        assert_eq!(version(0), Tables::New);
        assert_eq!(version(TABLES), Tables::Current);
        let older = tables_check(FILE, "it is there", version(TABLES - 1));
        assert_eq!(older.state, State::Note);
        assert!(older.says.contains("would be migrated"), "{}", older.says);
        assert_eq!(
            tables_check(FILE, "", version(TABLES + 1)).state,
            State::Wrong
        );
    }
}
