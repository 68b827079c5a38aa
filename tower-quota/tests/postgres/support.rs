//! Databases for tests.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::{Client, Config, NoTls, config::Host};
use tower_quota::{Charge, Dimension, Limit, Limits, PostgresStore, QuotaStore, Subject, Window};

/// A new database, dropped by [`end`](Self::end).
pub(crate) struct Database {
    pub(crate) url: String,
    /// In it.
    pub(crate) client: Client,
    name: String,
    server: String,
    /// Tests measure time, so they run one after the other.
    _turn: Option<MutexGuard<'static, ()>>,
}

static TURN: Mutex<()> = Mutex::const_new(());

impl Database {
    /// `None`, and the test says that it does nothing, if there is no server.
    pub(crate) async fn new() -> Option<Self> {
        let Ok(server) = std::env::var("TOWER_QUOTA_TEST_POSTGRES") else {
            println!("not tested: TOWER_QUOTA_TEST_POSTGRES is not set");
            return None;
        };
        let turn = TURN.lock().await;
        Some(Self::make(server, Some(turn)).await)
    }

    /// One more.
    pub(crate) async fn another() -> Self {
        let server = std::env::var("TOWER_QUOTA_TEST_POSTGRES").unwrap();
        Self::make(server, None).await
    }

    async fn make(server: String, turn: Option<MutexGuard<'static, ()>>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);

        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("quota_test_{}_{number}", std::process::id());
        let admin = client(&server).await;
        let make = format!("CREATE DATABASE {name}");
        admin.batch_execute(&make).await.unwrap();
        let (host, port) = address(&server);
        let url = with(&server, &host, port, &name);
        Self {
            client: client(&url).await,
            url,
            name,
            server,
            _turn: turn,
        }
    }

    pub(crate) async fn store(&self, plan: impl IntoIterator<Item = Limit>) -> PostgresStore {
        connect(&self.url, plan).await
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

    /// Ends all connections but this one.
    pub(crate) async fn terminate_others(&self) -> i64 {
        self.count(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await
    }

    /// Whether anybody may connect.
    pub(crate) async fn allow_connections(&self, allow: bool) {
        let change = format!("ALTER DATABASE {} ALLOW_CONNECTIONS {allow}", self.name);
        let admin = client(&self.server).await;
        admin.batch_execute(&change).await.unwrap();
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

pub(crate) async fn connect(url: &str, plan: impl IntoIterator<Item = Limit>) -> PostgresStore {
    let plan = Limits::new(plan).unwrap();
    PostgresStore::connect(url, plan).await.unwrap()
}

pub(crate) const ONE_A_DAY: [Limit; 1] = [Limit::at_most(Dimension::Calls, Window::Day, 1)];

pub(crate) const MANY: [Limit; 1] = [Limit::at_most(Dimension::Calls, Window::Day, 1_000_000)];

pub(crate) fn call(subject: impl Into<Subject>) -> Charge {
    Charge::new(subject).exactly(Dimension::Calls, 1)
}

/// What the subject has used and holds under its first limit.
pub(crate) async fn stands(store: &PostgresStore, subject: impl Into<Subject>) -> (u64, u64) {
    let standings = store.standings(&subject.into()).await.unwrap();
    (standings[0].used(), standings[0].reserved())
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
