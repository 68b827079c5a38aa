//! `gateway migrate`: the tables, without a gateway. `serve` does the same when it starts.

use std::fmt::Write;
use std::path::Path;

use clap::Args;
use serde_json::{Value, json};
use tower_quota::PostgresStore as Counters;
use tower_sso::session::{PostgresStore as Sessions, SqliteStore as SessionsInFile};
use tower_usage::postgres::PostgresLedger;
use tower_usage::sqlite::{LedgerError, LedgerOptions, SqliteLedger};

use super::ConfigFile;
use super::serve::{ServeError, failed};
use crate::config::{Config, Secret};
use crate::plan;
use crate::store::{
    FileLock, Found, MIGRATIONS, Store, StoreError, find_in_database, find_in_file,
};

/// Brings the tables of the store up to date and ends, where `gateway serve` would go on.
#[derive(Debug, Args)]
pub(super) struct Migrate {
    #[command(flatten)]
    file: ConfigFile,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Answer with JSON.
    #[arg(long)]
    json: bool,
}

/// Tables of one kind in one place.
struct Tables {
    place: String,
    kind: &'static str,
    /// The version that there is; zero: none.
    from: u32,
    /// What each version added.
    versions: &'static [&'static str],
}

/// What has no versions: it is there, or it is made.
const SESSIONS: &[&str] = &["sessions and personal access tokens"];
const COUNTERS: &[&str] = &["counters and reservations"];

// === impl Migrate ===

impl Migrate {
    pub(super) const fn file(&self) -> &ConfigFile {
        &self.file
    }

    /// Does it, and prints what was missing.
    pub(super) async fn run(&self, config: &Config) -> Result<(), ServeError> {
        let path = config.store.path.as_deref();
        let path = path.unwrap_or(Path::new("gateway.db"));
        let is_taken = FileLock::is_taken(path);
        let tables = find(config, path).await?;
        if !self.dry_run {
            migrate(config, path).await?;
        }
        match self.json {
            true => println!("{}", as_json(&tables, self.dry_run, is_taken)),
            false => print!("{}", as_text(&tables, self.dry_run)),
        }
        if self.dry_run && is_taken {
            eprintln!(
                "gateway: a running gateway has {}; stop it before you migrate",
                path.display()
            );
        }
        Ok(())
    }
}

/// The tables that this configuration uses, as they are.
async fn find(config: &Config, path: &Path) -> Result<Vec<Tables>, ServeError> {
    let in_file = find_in_file(path).map_err(failed("store.path"))?;
    let file = || path.display().to_string();
    let mut tables = Vec::new();
    let mut put = |place, kind, from, versions| -> Result<(), StoreError> {
        let tables_of = Tables {
            place,
            kind,
            from,
            versions,
        };
        if tables_of.from as usize > versions.len() {
            return Err(StoreError::Newer { version: from });
        }
        tables.push(tables_of);
        Ok(())
    };
    let in_database = match &config.store.database_url {
        Some(url) => Some(look(url, "store.database_url").await?),
        None => None,
    };
    let state = match in_database {
        Some(found) => put(postgres("store"), "state", found.state, &MIGRATIONS),
        None => put(file(), "state", in_file.state, &MIGRATIONS),
    };
    state.map_err(failed("store"))?;
    for (place, from, versions) in [
        (
            file(),
            Some(in_file.ledger),
            &tower_usage::sqlite::SCHEMA[..],
        ),
        (
            postgres("store"),
            in_database.map(|found| found.ledger),
            &tower_usage::postgres::SCHEMA[..],
        ),
    ] {
        let Some(from) = from else { continue };
        put(place, "ledger", from, versions).map_err(failed("ledger"))?;
    }
    let sessions = match config.session_store() {
        None => put(file(), "sessions", u32::from(in_file.sessions), SESSIONS),
        Some((_, url)) if is_redis(url) => Ok(()),
        Some((key, url)) => {
            let found = look(url, key).await?;
            let place = key.split('.').next().unwrap_or(key);
            put(
                postgres(place),
                "sessions",
                u32::from(found.sessions),
                SESSIONS,
            )
        }
    };
    sessions.map_err(failed("session"))?;
    if let (Some(found), None) = (in_database, &config.store.redis_url) {
        let counters = u32::from(found.counters);
        put(postgres("store"), "counters", counters, COUNTERS).map_err(failed("quota"))?;
    }
    Ok(tables)
}

/// Where tables are that are not in the file. The URL may hold a password.
fn postgres(section: &str) -> String {
    format!("Postgres of [{section}]")
}

fn is_redis(url: &Secret) -> bool {
    url.expose().starts_with("redis")
}

async fn look(url: &Secret, key: &'static str) -> Result<Found, ServeError> {
    find_in_database(url.expose()).await.map_err(failed(key))
}

/// Makes what is missing, in the order in which `serve` does.
async fn migrate(config: &Config, path: &Path) -> Result<(), ServeError> {
    let (_store, _lock) = match &config.store.database_url {
        Some(url) => {
            let lock = FileLock::take(path).map_err(failed("store.path"))?;
            let store = Store::connect(url.expose()).await;
            (store.map_err(failed("store.database_url"))?, Some(lock))
        }
        None => (Store::open(path).map_err(failed("store"))?, None),
    };
    let ledger = SqliteLedger::open(path, LedgerOptions::new()).map_err(failed("ledger"))?;
    ledger.close().await.map_err(failed("ledger"))?;
    if let Some(url) = &config.store.database_url {
        let made = async { PostgresLedger::new(url.expose())?.migrate().await };
        made.await.map_err(failed::<LedgerError>("ledger"))?;
    }
    match config.session_store() {
        None => {
            SessionsInFile::open(path).map_err(failed("session"))?;
        }
        Some((_, url)) if is_redis(url) => {}
        Some((key, url)) => {
            let sessions = Sessions::connect(url.expose()).await;
            sessions.map_err(failed(key))?;
        }
    }
    if let (Some(url), None) = (&config.store.database_url, &config.store.redis_url) {
        let plans = plan::plans(&config.plan).map_err(failed("plan"))?;
        let counters = Counters::connect(url.expose(), plans).await;
        counters.map_err(failed("quota"))?;
    }
    Ok(())
}

// === impl Tables ===

impl Tables {
    fn to(&self) -> u32 {
        u32::try_from(self.versions.len()).unwrap_or(u32::MAX)
    }

    /// The versions that are missing, and what each adds.
    fn missing(&self) -> impl Iterator<Item = (u32, &'static str)> {
        let versions = (1..).zip(self.versions.iter().copied());
        versions.filter(|(version, _)| *version > self.from)
    }
}

fn as_text(tables: &[Tables], dry_run: bool) -> String {
    let (done, is) = match dry_run {
        true => ("would be made", "would become"),
        false => ("were made", "are now"),
    };
    let mut text = String::new();
    for one in tables {
        let (from, to) = (one.from, one.to());
        let what = match from {
            _ if from == to => format!("up to date (version {to})"),
            0 => format!("{done} (version {to})"),
            _ => format!("of version {from}, {is} of version {to}"),
        };
        // Writing to a String does not fail.
        let _ = writeln!(text, "{:<9} in {}: {what}", one.kind, one.place);
        for (version, name) in one.missing() {
            let _ = writeln!(text, "  {version:>3}  {name}");
        }
    }
    text
}

fn as_json(tables: &[Tables], dry_run: bool, is_taken: bool) -> Value {
    let tables = tables.iter().map(|one| {
        let missing = one
            .missing()
            .map(|(version, name)| json!({"version": version, "name": name}));
        json!({
            "tables": one.kind, "place": one.place, "from": one.from, "to": one.to(),
            "migrations": missing.collect::<Vec<_>>(),
        })
    });
    json!({"dryRun": dry_run, "inUse": is_taken, "tables": tables.collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(from: u32) -> [Tables; 1] {
        let versions = &["one", "two", "three"];
        [Tables {
            place: "gateway.db".to_owned(),
            kind: "state",
            from,
            versions,
        }]
    }

    #[test]
    fn it_says_what_is_missing_by_name() {
        for (from, dry_run, said) in [
            (
                0,
                true,
                "state     in gateway.db: would be made (version 3)\n    1  one\n    2  two\n    3  three\n",
            ),
            (
                2,
                true,
                "state     in gateway.db: of version 2, would become of version 3\n    3  three\n",
            ),
            (
                2,
                false,
                "state     in gateway.db: of version 2, are now of version 3\n    3  three\n",
            ),
            (
                3,
                false,
                "state     in gateway.db: up to date (version 3)\n",
            ),
        ] {
            assert_eq!(as_text(&tables(from), dry_run), said);
        }
        let said = as_json(&tables(2), true, false);
        let tables = json!([{
            "tables": "state", "place": "gateway.db", "from": 2, "to": 3,
            "migrations": [{"version": 3, "name": "three"}],
        }]);
        assert_eq!(
            said,
            json!({"dryRun": true, "inUse": false, "tables": tables})
        );
    }
}
