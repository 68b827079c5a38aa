use std::future::Future;
use std::path::Path;
use std::time::{Instant, SystemTime};

use super::postgres::Server;
use super::row::Row;
use super::sqlite::SqliteFile;
use super::statement::Statement;
use super::{StoreError, sqlite};

/// The store; clones share its connections.
///
/// # Cancel safety
///
/// What it was asked to do it may do even if the future is dropped.
#[derive(Clone, Debug)]
pub struct Store(pub(super) Database);

#[derive(Clone, Debug)]
pub(super) enum Database {
    Sqlite(SqliteFile),
    Postgres(Server),
}

/// Several statements that are done together, as a label.
pub(super) const TRANSACTION: &str = "transaction";

/// Times what is asked of the store.
pub(super) async fn timed<T>(operation: &'static str, asked: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let answer = asked.await;
    metrics::histogram!("gateway_store_seconds", "store" => "state", "operation" => operation)
        .record(begun.elapsed());
    answer
}

// === impl Store ===

impl Store {
    /// Opens the file, made and readable by us only if it is new, and brings its tables up to date. No other gateway can
    /// have it at the same time.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        SqliteFile::open(path).map(|file| Self(Database::Sqlite(file)))
    }

    /// Connects to the Postgres that `url` names (`postgres://…`), and brings its tables up to date, in the first schema of
    /// the search path. Any number of gateways may share it.
    ///
    /// Whether there is TLS `sslmode` of the URL says: `disable`, `prefer`, the default, or `require`. Where there is, the
    /// server's certificate is verified for the name in the URL and against the certificates that this machine trusts. From
    /// then on everything that is asked of the store is answered within two seconds, or fails.
    ///
    /// # Errors
    ///
    /// See [`StoreError`]; at the latest after ten seconds.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let server = Server::connect(url).await?;
        Ok(Self(Database::Postgres(server)))
    }

    /// Whether other gateways may use it, too, so that what is known of it here grows old.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        matches!(self.0, Database::Postgres(_))
    }

    /// The secret of that name, made by `make` and kept the first time.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn key(
        &self,
        name: &str,
        make: impl FnOnce() -> Vec<u8>,
    ) -> Result<Vec<u8>, StoreError> {
        let secret = |row: &Row<'_>| row.get::<Vec<u8>>(0);
        let find = Statement::new("SELECT secret FROM gateway_keys WHERE name = $1").with(name);
        if let Some(kept) = self.query_one(find, secret).await? {
            return Ok(kept);
        }
        // Of two gateways that start at once both answer the one that was kept.
        let keep = Statement::new(
            "INSERT INTO gateway_keys (name, secret) VALUES ($1, $2)
             ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING secret",
        );
        let keep = keep.with(name).with(&*make());
        let kept = self.query_one(keep, secret).await?;
        kept.ok_or(StoreError::Unreadable)
    }

    /// Whether the database answers.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.time().await.map(drop)
    }

    /// What time it is there.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn time(&self) -> Result<SystemTime, StoreError> {
        let time = self.query_one(Statement::new("SELECT now_ms()"), |row| row.time(0));
        time.await?.ok_or(StoreError::Unreadable)
    }

    /// What `read` makes of the rows that a statement answers.
    pub(super) async fn query<T: Send + 'static>(
        &self,
        statement: Statement,
        read: fn(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        timed(statement.operation(), async {
            match &self.0 {
                Database::Sqlite(file) => {
                    let asked =
                        file.run(move |connection| sqlite::query(connection, &statement, read));
                    asked.await
                }
                Database::Postgres(server) => {
                    let rows = server.query(statement).await?;
                    rows.iter().map(|row| read(&Row::Postgres(row))).collect()
                }
            }
        })
        .await
    }

    /// What `read` makes of the first row, if there is one.
    pub(super) async fn query_one<T: Send + 'static>(
        &self,
        statement: Statement,
        read: fn(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        Ok(self.query(statement, read).await?.into_iter().next())
    }

    /// Does one thing.
    pub(super) async fn run(&self, statement: Statement) -> Result<(), StoreError> {
        self.query(statement, |_| Ok(())).await.map(drop)
    }

    /// Does one thing; whether it found something to do: the statement is `RETURNING 1`.
    pub(super) async fn does(&self, statement: Statement) -> Result<bool, StoreError> {
        let done = self.query_one(statement, |_| Ok(())).await?;
        Ok(done.is_some())
    }

    /// Does all of it, or nothing. Of two who do something about one `subject` the second waits for the first.
    pub(super) async fn apply(
        &self,
        subject: &str,
        statements: Vec<Statement>,
    ) -> Result<(), StoreError> {
        timed(TRANSACTION, async {
            match &self.0 {
                // One connection: everybody waits for everybody.
                Database::Sqlite(file) => {
                    let applied =
                        file.run(move |connection| sqlite::apply(connection, &statements));
                    applied.await
                }
                Database::Postgres(server) => server.apply(subject, statements).await,
            }
        })
        .await
    }

    /// The words of the database that it is.
    pub(super) const fn words(&self, sqlite: &'static str, postgres: &'static str) -> &'static str {
        match self.0 {
            Database::Sqlite(_) => sqlite,
            Database::Postgres(_) => postgres,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::on_each_store;

    #[tokio::test]
    async fn a_key_is_made_once() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            assert_eq!(store.key("device", || vec![1]).await.unwrap(), [1]);
            drop(store);
            let store = stores.open().await;
            let again = store.key("device", || vec![2]).await.unwrap();
            assert_eq!(again, [1], "a restart keeps it");
        })
        .await;
    }

    #[tokio::test]
    async fn the_time_goes_on() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            let (earlier, later) = (store.time().await.unwrap(), store.time().await.unwrap());
            assert!(std::time::UNIX_EPOCH < earlier && earlier <= later);
            store.ping().await.unwrap();
        })
        .await;
    }
}
