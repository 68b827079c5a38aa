//! Databases for tests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use tokio_postgres::{Client, Config, NoTls, config::Host};
use tower_usage::{
    NanoUsd, Operation, Place, UsageRecord,
    postgres::PostgresLedger,
    sqlite::{LedgerOptions, SqliteLedger},
};

/// A new database, dropped by [`end`](Self::end).
pub(crate) struct Database {
    pub(crate) url: String,
    /// In it.
    pub(crate) client: Client,
    name: String,
    server: String,
}

impl Database {
    /// `None`, and the test says that it does nothing, if there is no server.
    pub(crate) async fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);

        let Ok(server) = std::env::var("TOWER_USAGE_TEST_POSTGRES") else {
            println!("not tested: TOWER_USAGE_TEST_POSTGRES is not set");
            return None;
        };
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("usage_test_{}_{number}", std::process::id());
        let admin = client(&server).await;
        let make = format!("CREATE DATABASE {name}");
        admin.batch_execute(&make).await.unwrap();
        let (host, port) = address(&server);
        let url = with(&server, &host, port, &name);
        Some(Self {
            client: client(&url).await,
            url,
            name,
            server,
        })
    }

    pub(crate) fn ledger(&self) -> PostgresLedger {
        PostgresLedger::new(&self.url).unwrap()
    }

    /// The URL of the same database, on another port of this machine.
    pub(crate) fn url_by(&self, port: u16) -> String {
        format!(
            "{}?sslmode=disable",
            with(&self.url, "127.0.0.1", port, &self.name)
        )
    }

    pub(crate) fn address(&self) -> (String, u16) {
        address(&self.url)
    }

    pub(crate) async fn count(&self, what: &str) -> i64 {
        let row = self.client.query_one(what, &[]).await.unwrap();
        row.get(0)
    }

    pub(crate) async fn run(&self, what: &str) {
        self.client.batch_execute(what).await.unwrap();
    }

    /// Ends all connections but this one.
    pub(crate) async fn terminate_others(&self) -> i64 {
        self.count(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await
    }

    pub(crate) async fn end(self) {
        let admin = client(&self.server).await;
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        admin.batch_execute(&drop).await.unwrap();
    }
}

pub(crate) async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

pub(crate) fn open(directory: &TempDir) -> Arc<SqliteLedger> {
    SqliteLedger::open(directory.path().join("ledger.db"), LedgerOptions::new()).unwrap()
}

pub(crate) fn time(secs: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
}

/// In a month that can be made.
pub(crate) const DAY: u64 = 1_760_000_000 / 86_400 * 86_400;

/// Since and until which there is everything.
pub(crate) fn always() -> (SystemTime, SystemTime) {
    (time(0), time(1 << 35))
}

pub(crate) fn model_call(user: &str, at: SystemTime, tokens: u64) -> UsageRecord {
    let mut record = UsageRecord::new(user.into(), Operation::ModelCall);
    record.admitted_at = at;
    record.ended_at = at + Duration::from_millis(1_500);
    record.tokens.input = Some(tokens);
    record.cost = Some(NanoUsd::from_nanos(i64::try_from(tokens).unwrap() * 10));
    record
}

/// Records it, waiting for a place.
pub(crate) async fn record(ledger: &Arc<SqliteLedger>, record: UsageRecord) {
    loop {
        if let Ok(place) = Place::take(ledger.clone()) {
            return place.record(record);
        }
        tokio::task::yield_now().await;
    }
}

fn address(url: &str) -> (String, u16) {
    let config: Config = url.parse().unwrap();
    let [Host::Tcp(host)] = config.get_hosts() else {
        panic!("the tests are for one server by TCP");
    };
    let port = config.get_ports().first().copied();
    (host.clone(), port.unwrap_or(5432))
}

fn with(url: &str, host: &str, port: u16, database: &str) -> String {
    let config: Config = url.parse().unwrap();
    let password = String::from_utf8_lossy(config.get_password().unwrap_or_default());
    let user = config.get_user().unwrap_or("postgres");
    format!("postgres://{user}:{password}@{host}:{port}/{database}")
}
