//! The server, asked one thing at a time within a bound.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use bb8::{Pool, PooledConnection, RunError};
use serde_json::Value;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};
use tokio_postgres::Config;

use super::{
    answer::Answer,
    connection::{Connection, Manager, NoConnection},
    exchange::{AskError, Operation, exchange},
    lanes::Lanes,
    question::{Text, moment},
    server_time::ServerTime,
    tables::make,
};
use crate::StoreError;

#[derive(Clone)]
pub(super) struct Server {
    manager: Manager,
    connections: u32,
    pub(super) timeout: Duration,
    /// Made when the first connection is needed, and not before all this is settled.
    pool: Arc<OnceLock<Pool<Manager>>>,
    /// That by which everything was made, for the pool.
    first: Arc<Mutex<Option<Connection>>>,
    places: Arc<Semaphore>,
    lanes: Arc<Lanes>,
    pub(super) time: Arc<ServerTime>,
}

/// How long the tables may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// Most who wait at once: so many memory has room for, and no server so many answers for within any bound.
const PLACES: usize = 8_192;

/// How often a question is asked anew that was lost or gave way to another.
const REPETITIONS: u32 = 3;

/// How long the pool tries on its own to make a connection, each attempt after a pause of half of it at most.
const POOL: Duration = Duration::from_secs(2);

// === impl Server ===

impl Server {
    /// The server that `url` names, with everything made that is needed, and which database it is.
    pub(super) async fn connect(url: &str) -> Result<(Self, u32), StoreError> {
        // The URL may hold a password, so what is wrong with it is not said in its own words.
        let config: Config = url.parse().map_err(|_| {
            StoreError::new(
                "the URL is not Postgres's, or has a parameter that is not known (sslmode is disable, prefer or require)",
            )
        })?;
        let manager = Manager::new(config)?;
        // Not by the pool, which would not say what is wrong.
        let opened = async {
            let connection = manager.open().await.map_err(StoreError::new)?;
            let (database, time) = make(&connection).await.map_err(StoreError::new)?;
            Ok((connection, database, time))
        };
        let (connection, database, time) = match timeout(CONNECT, opened).await {
            Ok(opened) => opened?,
            Err(elapsed) => return Err(StoreError::new(elapsed)),
        };
        let server = Self {
            manager,
            connections: 8,
            timeout: Duration::from_millis(250),
            pool: Arc::default(),
            first: Arc::new(Mutex::new(Some(connection))),
            places: Arc::new(Semaphore::new(PLACES)),
            lanes: Arc::new(Lanes::new()),
            time: Arc::new(time),
        };
        Ok((server, database))
    }

    pub(super) fn with_connections(self, connections: u32) -> Self {
        Self {
            connections: connections.max(1),
            pool: Arc::default(),
            ..self
        }
    }

    pub(super) fn with_timeout(self, timeout: Duration) -> Self {
        Self {
            timeout,
            pool: Arc::default(),
            ..self
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        let now = Instant::now();
        let day = Duration::from_secs(24 * 60 * 60);
        now + self.timeout.min(day)
    }

    pub(super) fn open_connections(&self) -> u32 {
        self.pool.get().map_or(0, |pool| pool.state().connections)
    }

    /// Asks until there is an answer, or `deadline`.
    pub(super) async fn ask(
        &self,
        operation: Operation,
        deadline: Instant,
        mut question: Text,
    ) -> Result<Answer, StoreError> {
        let Ok(_place) = self.places.try_acquire() else {
            return Err(StoreError::new(AskError::Crowd));
        };
        let mut repetitions = 0;
        question.insert("again".into(), false.into());
        let root = question.get("root").and_then(Value::as_str);
        let lane = self.lanes.wait(root.unwrap_or_default());
        let _lane = timeout_at(deadline, lane)
            .await
            .map_err(|elapsed| StoreError::new(AskError::Late(elapsed)))?;
        loop {
            let connection = self.connection(deadline).await?;
            let sent = Instant::now();
            let left = deadline.saturating_duration_since(sent);
            // Who waits for a lock hears that it took too long before giving up, and can keep the connection.
            let wait = (left.as_millis() * 9 / 10).max(1);
            question.insert("wait".into(), format!("{wait}ms").into());
            question.insert("until".into(), moment(self.time.at(deadline)));
            let text = serde_json::to_string(&question).map_err(StoreError::new)?;
            let error = match exchange(connection, operation, text, deadline).await {
                Ok(answer) => {
                    self.time.learn(sent, Instant::now(), answer.server);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            repetitions += 1;
            match error {
                AskError::Lost(_) if operation.is_repeatable && repetitions <= REPETITIONS => {
                    question.insert("again".into(), true.into());
                }
                // Nothing was done.
                AskError::GaveWay(_) if repetitions <= REPETITIONS => {}
                error => return Err(StoreError::new(error)),
            }
        }
    }

    fn make_pool(&self) -> Pool<Manager> {
        let pool = Pool::builder()
            .max_size(self.connections)
            .connection_timeout(self.timeout.clamp(Duration::from_millis(1), POOL))
            // A question before each question: what is lost shows itself.
            .test_on_check_out(false)
            .build_unchecked(self.manager.clone());
        let first = self
            .first
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(first) = first {
            // There is room for it, unless it is closed already.
            drop(pool.add(first));
        }
        pool
    }

    async fn connection(
        &self,
        deadline: Instant,
    ) -> Result<PooledConnection<'static, Manager>, StoreError> {
        let pool = self.pool.get_or_init(|| self.make_pool());
        loop {
            match timeout_at(deadline, pool.get_owned()).await {
                // Such as those from before the server was started anew. It is not given back.
                Ok(Ok(connection)) if connection.client.is_closed() => {}
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(RunError::TimedOut)) if Instant::now() < deadline => {}
                Ok(Err(RunError::User(error))) => return Err(StoreError::new(error)),
                Ok(Err(RunError::TimedOut)) | Err(_) => {
                    let why = self.manager.last_error().get();
                    return Err(StoreError::new(NoConnection(why)));
                }
            }
        }
    }
}
