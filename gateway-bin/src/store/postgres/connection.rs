//! Connections to the server, and what keeps them from being.

use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bb8::ManageConnection;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Makes connections for the pool.
pub(super) struct Manager {
    config: Config,
    tls: MakeRustlsConnect,
    last_error: LastError,
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
    #[error("{}", innermost(.0))]
    Refused(tokio_postgres::Error),
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    #[error("the server does not answer")]
    Silent,
    #[error("all are in use")]
    Crowd,
}

/// How long a new connection may take. A pool that waits for one for ever makes no other.
const CONNECT: Duration = Duration::from_secs(2);

/// What was decided before is seen, whatever the database's default is; and who is gone holds up nobody for long.
const SETTINGS: &str =
    "SET default_transaction_isolation TO 'read committed'; SET statement_timeout TO '2s';
    SET idle_in_transaction_session_timeout TO '5s'";

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

/// Whether nothing was done because somebody else did something at the same moment. Of two who make the same row the
/// second may be told that it is there, although the statement says what to do then.
pub(super) fn gave_way(error: &tokio_postgres::Error) -> bool {
    let ways = [
        &SqlState::T_R_SERIALIZATION_FAILURE,
        &SqlState::T_R_DEADLOCK_DETECTED,
        &SqlState::UNIQUE_VIOLATION,
    ];
    error.code().is_some_and(|code| ways.contains(&code))
}

// === impl Manager ===

impl Manager {
    /// TLS by the certificates that this machine trusts.
    pub(super) fn new(config: Config) -> Result<Self, ConnectError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            config,
            tls: MakeRustlsConnect::new(tls),
            last_error: LastError::default(),
        })
    }

    pub(super) async fn open(&self) -> Result<Connection, ConnectError> {
        let opened = async {
            let (client, connection) = self.config.connect(self.tls.clone()).await?;
            // What ends it is told to who asks something on it.
            let task = tokio::spawn(async move { drop(connection.await) });
            let mut connection = Connection {
                client,
                task: task.abort_handle(),
                is_given_up: true,
            };
            connection.client.batch_execute(SETTINGS).await?;
            connection.is_given_up = false;
            Ok(connection)
        };
        let opened = timeout(CONNECT, opened).await;
        opened.unwrap_or(Err(ConnectError::Silent))
    }

    /// The same, again and again while the server does not answer, for as long as the caller waits: it has much to do when
    /// a gateway was started again whose people all come back.
    pub(super) async fn open_patiently(&self) -> Result<Connection, ConnectError> {
        loop {
            match self.open().await {
                Err(ConnectError::Silent) => {}
                opened => return opened,
            }
        }
    }

    pub(super) const fn last_error(&self) -> &LastError {
        &self.last_error
    }
}

impl ManageConnection for Manager {
    type Connection = Connection;
    type Error = Arc<ConnectError>;

    async fn connect(&self) -> Result<Connection, Arc<ConnectError>> {
        let opened = self.open().await.map_err(Arc::new);
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
    pub(super) fn get(&self) -> Arc<ConnectError> {
        let error = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        error.clone().unwrap_or(Arc::new(ConnectError::Crowd))
    }

    fn set(&self, error: Option<Arc<ConnectError>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }
}

// === impl Connection ===

impl Connection {
    /// It is not used again, and not waited for.
    pub(super) const fn give_up(&mut self) {
        self.is_given_up = true;
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

/// What the driver says on top is only that there is no connection.
fn innermost<'a>(mut error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    while let Some(source) = error.source() {
        error = source;
    }
    error
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
