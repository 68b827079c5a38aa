//! Connections to the server, and what keeps them from being.

use std::{
    error::Error,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bb8::ManageConnection;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use thiserror::Error;
use tokio::{task::AbortHandle, time::timeout};
use tokio_postgres::{Client, Config, error::Severity};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::sqlite::LedgerError;

/// Makes connections, for the pool and for who ships.
#[derive(Clone)]
pub(super) struct Manager {
    config: Config,
    tls: MakeRustlsConnect,
    last_error: LastError,
    statement: Duration,
}

/// Why the latest connection was not made: the pool says only that it took too long.
#[derive(Clone, Default)]
pub(super) struct LastError(Arc<Mutex<Option<Arc<ConnectError>>>>);

/// A connection, and the task that has its socket.
pub(super) struct Connection {
    pub(super) client: Client,
    task: AbortHandle,
    is_given_up: bool,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub(super) enum ConnectError {
    #[error(
        "the server's certificate does not verify: have this machine trust its CA, name the server as the \
         certificate does, or say sslmode=disable in a network that is trusted"
    )]
    Certificate(#[source] tokio_postgres::Error),
    #[error("the server cannot be connected to")]
    Refused(#[source] tokio_postgres::Error),
    #[error("the server does not answer")]
    Silent,
}

/// There was no connection in time.
#[derive(Debug, Error)]
#[error("there is no connection")]
pub(super) struct NoConnection(#[source] pub(super) Option<Arc<ConnectError>>);

/// What was done and is asked is read as it is committed, whatever the database's default is. A process that hangs amid a
/// transaction keeps others from nothing for long.
const SETTINGS: &str = "SET default_transaction_isolation TO 'read committed'; \
    SET idle_in_transaction_session_timeout TO '60s'";

/// How long a new connection may take. A pool that waits for one for ever makes no other.
const CONNECT: Duration = Duration::from_secs(5);

/// Whether no statement can follow on the connection of this error.
pub(super) fn is_lost(error: &tokio_postgres::Error) -> bool {
    match error.as_db_error() {
        Some(error) => matches!(
            error.parsed_severity(),
            Some(Severity::Fatal | Severity::Panic)
        ),
        None => error.is_closed() || find::<io::Error>(error).is_some(),
    }
}

// === impl Manager ===

impl Manager {
    /// TLS by the certificates that this machine trusts.
    pub(super) fn new(url: &str) -> Result<Self, LedgerError> {
        let config = url.parse().map_err(|_| LedgerError::Url)?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(LedgerError::postgres)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            config,
            tls: MakeRustlsConnect::new(tls),
            last_error: LastError::default(),
            statement: CONNECT,
        })
    }

    /// The same, for connections of the pool whose statements end by themselves after so long.
    pub(super) fn with_statement_timeout(&self, statement: Duration) -> Self {
        Self {
            statement,
            ..self.clone()
        }
    }

    /// A connection whose statements end by themselves after so long.
    pub(super) async fn open(&self, statement: Duration) -> Result<Connection, ConnectError> {
        let opened = async {
            let (client, connection) = self.config.connect(self.tls.clone()).await?;
            // What ends it is told to who asks something on it.
            let task = tokio::spawn(async move { drop(connection.await) });
            let mut connection = Connection {
                client,
                task: task.abort_handle(),
                is_given_up: true,
            };
            let within = statement
                .as_millis()
                .clamp(1, i32::MAX.unsigned_abs().into());
            let settings = format!("{SETTINGS}; SET statement_timeout TO {within}");
            connection.client.batch_execute(&settings).await?;
            connection.is_given_up = false;
            Ok(connection)
        };
        let opened = timeout(CONNECT, opened).await;
        opened.unwrap_or(Err(ConnectError::Silent))
    }

    pub(super) const fn last_error(&self) -> &LastError {
        &self.last_error
    }
}

impl ManageConnection for Manager {
    type Connection = Connection;
    type Error = Arc<ConnectError>;

    async fn connect(&self) -> Result<Connection, Arc<ConnectError>> {
        let opened = self.open(self.statement).await.map_err(Arc::new);
        self.last_error.set(opened.as_ref().err().map(Arc::clone));
        opened
    }

    async fn is_valid(&self, _: &mut Connection) -> Result<(), Arc<ConnectError>> {
        Ok(())
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        connection.is_given_up || connection.client.is_closed()
    }
}

// === impl LastError ===

impl LastError {
    pub(super) fn get(&self) -> Option<Arc<ConnectError>> {
        let error = self.0.lock();
        error.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, error: Option<Arc<ConnectError>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }
}

// === impl Connection ===

impl Connection {
    /// It is not used again, and not waited for, unless it is kept.
    pub(super) const fn give_up(&mut self) {
        self.is_given_up = true;
    }

    /// What was asked on it is answered.
    pub(super) const fn keep(&mut self) {
        self.is_given_up = false;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A server that hangs would keep the task and its socket.
        if self.is_given_up {
            self.task.abort();
        }
    }
}

// === impl ConnectError ===

impl From<tokio_postgres::Error> for ConnectError {
    fn from(error: tokio_postgres::Error) -> Self {
        match find::<rustls::Error>(&error) {
            Some(rustls::Error::InvalidCertificate(_)) => Self::Certificate(error),
            _ => Self::Refused(error),
        }
    }
}

fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    // What is within an I/O error is not always its source.
    let within = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    match within {
        Some(within) => find(within),
        None => find(error.source()?),
    }
}
