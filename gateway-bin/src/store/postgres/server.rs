use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bb8::{Pool, PooledConnection};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::{Client, Config, GenericClient, Row};

use super::connection::{ConnectError, LastError, Manager, gave_way, is_lost};
use super::{query, schema};
use crate::store::StoreError;
use crate::store::statement::Statement;

/// The server, asked one thing at a time within a bound; clones share its connections.
#[derive(Clone)]
pub(in crate::store) struct Server {
    pool: Pool<Manager>,
    last_error: LastError,
}

/// How long anything may take, from the wait for a connection on.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How long the pool is waited for at a time: who waits for a connection that another has begun to make does not hear
/// that it failed.
const POOL: Duration = Duration::from_millis(500);

/// How long the tables may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// Most connections.
const CONNECTIONS: u32 = 8;

/// How often something is asked anew that was lost or gave way to another.
const REPETITIONS: usize = 3;

/// Waits until nobody else does something about this subject, until the transaction ends.
pub(in crate::store) async fn lock(
    transaction: &impl GenericClient,
    subject: &str,
) -> Result<(), StoreError> {
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended($1, 7305792613150093))";
    let locked = query(transaction, &Statement::new(lock).with(subject)).await;
    locked.map(drop)
}

// === impl Server ===

impl Server {
    pub(in crate::store) async fn connect(url: &str) -> Result<Self, StoreError> {
        // The URL may hold a password, so what is wrong with it is not said in its own words.
        let config: Config = url.parse().map_err(|_| StoreError::Url)?;
        let manager = Manager::new(config)?;
        // Not by the pool, which would not say what is wrong.
        let made = async {
            let mut connection = manager.open_patiently().await?;
            schema::migrate(&mut connection.client).await
        };
        timeout(CONNECT, made)
            .await
            .unwrap_or(Err(StoreError::Silent))?;
        let last_error = manager.last_error().clone();
        let pool = Pool::builder()
            .max_size(CONNECTIONS)
            .connection_timeout(POOL)
            // A question before each question: what is lost shows itself.
            .test_on_check_out(false)
            .build_unchecked(manager);
        Ok(Self { pool, last_error })
    }

    /// Asks one statement.
    pub(in crate::store) async fn query(
        &self,
        statement: Statement,
    ) -> Result<Vec<Row>, StoreError> {
        let statement = Arc::new(statement);
        let asked = self.run(move |client| {
            let statement = Arc::clone(&statement);
            async move { query(client, &statement).await }.boxed()
        });
        asked.await
    }

    /// Does all of it, or nothing, while nobody else does something about this subject.
    pub(in crate::store) async fn apply(
        &self,
        subject: &str,
        statements: Vec<Statement>,
    ) -> Result<(), StoreError> {
        let (subject, statements) = (Arc::<str>::from(subject), Arc::new(statements));
        let applied = self.run(move |client| {
            let (subject, statements) = (Arc::clone(&subject), Arc::clone(&statements));
            async move {
                let transaction = client.transaction().await?;
                lock(&transaction, &subject).await?;
                for statement in statements.iter() {
                    query(&transaction, statement).await?;
                }
                Ok(transaction.commit().await?)
            }
            .boxed()
        });
        applied.await
    }

    /// Does `work` on a connection. It is done again if the connection is lost meanwhile, although it may have been done
    /// before: everything that the store does comes to the same then.
    pub(in crate::store) async fn run<T: Send + 'static>(
        &self,
        work: impl Fn(&mut Client) -> BoxFuture<'_, Result<T, StoreError>> + Send + Sync + 'static,
    ) -> Result<T, StoreError> {
        let deadline = Instant::now() + TIMEOUT;
        let work = Arc::new(work);
        let mut repetitions = 0;
        loop {
            let mut connection = self.connection(deadline).await?;
            let work = Arc::clone(&work);
            // Not in the way of whoever has the connection next if this future is dropped.
            let done = tokio::spawn(async move {
                let done = timeout_at(deadline, work(&mut connection.client)).await;
                let done = done.unwrap_or(Err(StoreError::Silent));
                if is_end(&done) {
                    connection.give_up();
                }
                done
            });
            let done = done.await.unwrap_or(Err(StoreError::Stopped));
            let again = match &done {
                Err(StoreError::Postgres(error)) => is_lost(error) || gave_way(error),
                _ => false,
            };
            if !again || repetitions == REPETITIONS {
                return done;
            }
            repetitions += 1;
        }
    }

    async fn connection(
        &self,
        deadline: Instant,
    ) -> Result<PooledConnection<'static, Manager>, StoreError> {
        loop {
            match timeout_at(deadline, self.pool.get_owned()).await {
                // Such as those from before the server was started anew. It is not given back.
                Ok(Ok(connection)) if connection.client.is_closed() => {}
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(_)) if Instant::now() < deadline => {}
                Ok(Err(_)) | Err(_) => {
                    let source = self.last_error.get().into();
                    return Err(StoreError::NoConnection { source });
                }
            }
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("connections", &self.pool.state().connections)
            .finish_non_exhaustive()
    }
}

/// Whether nothing can follow on the connection.
fn is_end<T>(done: &Result<T, StoreError>) -> bool {
    match done {
        Err(StoreError::Postgres(error)) => is_lost(error),
        Err(StoreError::Silent) => true,
        _ => false,
    }
}

// === impl StoreError ===

impl From<ConnectError> for StoreError {
    fn from(error: ConnectError) -> Self {
        Self::NoConnection {
            source: error.into(),
        }
    }
}
