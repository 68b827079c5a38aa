//! Databases for tests.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::{Client, NoTls};

use super::PostgresLedger;

/// A new database, dropped by [`end`](Self::end).
pub(super) struct Database {
    /// In it.
    pub(super) client: Client,
    url: String,
    name: String,
    admin: Client,
}

// === impl Database ===

impl Database {
    /// `None`, and the test says that it does nothing, if there is no server.
    pub(super) async fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);

        let Ok(server) = std::env::var("TOWER_USAGE_TEST_POSTGRES") else {
            println!("not tested: TOWER_USAGE_TEST_POSTGRES is not set");
            return None;
        };
        let admin = client(&server).await;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("usage_within_{}_{number}", std::process::id());
        let make = format!("CREATE DATABASE {name}");
        admin.batch_execute(&make).await.unwrap();
        let (before, _) = server.rsplit_once('/').unwrap();
        let url = format!("{before}/{name}");
        Some(Self {
            client: client(&url).await,
            url,
            name,
            admin,
        })
    }

    pub(super) fn ledger(&self) -> PostgresLedger {
        PostgresLedger::new(&self.url).unwrap()
    }

    pub(super) async fn end(self) {
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        self.admin.batch_execute(&drop).await.unwrap();
    }
}

async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
