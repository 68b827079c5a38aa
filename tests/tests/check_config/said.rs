//! Runs a check, and looks at what it said and whether it changed anything.

use std::{
    collections::BTreeMap,
    env, fs,
    path::Path,
    time::{Duration, Instant},
};

use gateway_tests::kit::Kit;
use tokio::process::Command;
use tokio_postgres::NoTls;

/// How long a check may take, whoever is silent.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

/// What a check has said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) text: String,
}

impl Said {
    /// Whether one line says all of it.
    pub(crate) fn has(&self, state: &str, about: &str, says: &str) -> bool {
        let start = format!("{state:<5}  {about}: ");
        let mut lines = self.text.lines();
        lines.any(|line| line.starts_with(&start) && line.contains(says))
    }
}

/// Checks a configuration that is written to a directory of its own, so that what the gateway keeps stays as it is.
pub(crate) async fn check(text: &str, arguments: &[&str]) -> Said {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("checked.toml");
    fs::write(&path, text).expect("a configuration");
    let binary = env::var_os("GATEWAY_BIN").expect("tests/run says which binary");
    let mut command = Command::new(binary);
    command
        .env_clear()
        .envs(env::vars_os().filter(|(name, _)| name == "PATH"))
        .args(["check-config", "--config"])
        .arg(&path)
        .args(arguments);
    let begun = Instant::now();
    let output = command.output().await.expect("it runs");
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    let text = [output.stdout, output.stderr].concat();
    Said {
        code: output.status.code(),
        text: String::from_utf8_lossy(&text).into_owned(),
    }
}

/// Every file below a directory, with what is in it.
pub(crate) fn content(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let kind = path.symlink_metadata().expect("an entry").file_type();
        if kind.is_dir() {
            all.extend(content(&path));
        } else {
            // Of a socket that somebody has left there is only that it is there.
            let text = match kind.is_file() {
                true => fs::read(&path).expect("a file"),
                false => Vec::new(),
            };
            all.insert(path.display().to_string(), text);
        }
    }
    all
}

/// The files that are not as they were.
pub(crate) fn changes(
    before: &BTreeMap<String, Vec<u8>>,
    after: &BTreeMap<String, Vec<u8>>,
) -> Vec<String> {
    let names = before.keys().chain(after.keys());
    let changed = names.filter(|name| before.get(*name) != after.get(*name));
    changed.cloned().collect()
}

/// Has Postgres do something, by the URL of a database.
pub(crate) async fn postgres(url: &str, statements: &str) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("Postgres");
    let driver = tokio::spawn(connection);
    client.batch_execute(statements).await.expect(statements);
    drop(client);
    driver.await.expect("a task").expect("a connection");
}

/// How many tables there are in a database.
pub(crate) async fn tables(url: &str) -> i64 {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("Postgres");
    tokio::spawn(connection);
    let counted = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
    let row = client.query_one(counted, &[]).await.expect("a row");
    row.get(0)
}

/// The line of the file that begins so, in another way.
pub(crate) fn with_line(text: &str, start: &str, line: &str) -> String {
    let lines = text.lines().map(|old| match old.starts_with(start) {
        true => line,
        false => old,
    });
    let changed: String = lines.flat_map(|line| [line, "\n"]).collect();
    assert_ne!(changed, text, "there is no line `{start}`");
    changed
}

/// What must not be shown.
pub(crate) fn secrets(kit: &Kit, database: &str, redis: &str) -> Vec<String> {
    let of_url = |url: &str| {
        let (before, _) = url.rsplit_once('@').expect("a password");
        let (_, password) = before.rsplit_once(':').expect("a password");
        password.to_owned()
    };
    vec![
        of_url(database),
        of_url(redis),
        kit.openclaw_password.clone(),
        kit.provider_key.clone(),
    ]
}
