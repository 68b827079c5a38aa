use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use bb8::{Pool, PooledConnection, RunError};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};
use uuid::Uuid;

use super::{
    Export, Group, GroupBy, GroupTotal, LedgerError, Sum,
    connection::{self, Manager, NoConnection},
    row, schema, statements,
    value::{Moment, Text},
};
use crate::{RecordId, UsageRecord, sqlite::row::time};

/// The records of all servers, in Postgres 12 or later. See the [module documentation](super).
///
/// Connections are pooled and made when needed. One that is lost, or whose server did not answer in time, is made anew, and
/// what was asked on it is asked again. Cheap to clone; clones share the pool.
///
/// # Cancel safety
///
/// All that is asked here only reads, but for [`migrate`](Self::migrate), which happens as a whole or not at all.
#[derive(Clone)]
pub struct PostgresLedger {
    manager: Manager,
    timeout: Duration,
    /// Made when the first connection is needed.
    pool: Arc<OnceLock<Pool<Manager>>>,
}

/// A value, and the type it is sent as.
pub(crate) type Value<'a> = (&'a (dyn ToSql + Sync), Type);

/// Most connections of the pool.
const CONNECTIONS: u32 = 8;

/// In milliseconds.
const DAY: i64 = 86_400_000;

/// How long the tables may take to be made, where there are many records to be indexed anew.
const MIGRATE: Duration = Duration::from_secs(600);

// === impl PostgresLedger ===

impl PostgresLedger {
    /// The ledger in the database that the URL names (`postgres://…`). Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// [`Url`](LedgerError::Url) if it is none, [`Store`](LedgerError::Store) if there can be no TLS.
    pub fn new(url: &str) -> Result<Self, LedgerError> {
        Ok(Self {
            manager: Manager::new(url)?,
            timeout: Duration::from_secs(10),
            pool: Arc::default(),
        })
    }

    /// The same ledger, which answers within `timeout` or with an error, and ships a page within it or a smaller one. The
    /// default is ten seconds.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self {
            timeout,
            pool: Arc::default(),
            ..self
        }
    }

    /// Makes the tables that are missing. A [`Shipper`](super::Shipper) does so by itself.
    ///
    /// Several servers may do so at once. Once everything is there, it takes only the right to read.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](LedgerError::Unavailable) if the server cannot be connected to, [`Store`](LedgerError::Store) if the
    /// tables cannot be made, [`NewerSchema`](LedgerError::NewerSchema) if a later version made them,
    /// [`Encoding`](LedgerError::Encoding) if the database's is not UTF-8.
    pub async fn migrate(&self) -> Result<(), LedgerError> {
        let mut connection = self
            .manager
            .open(MIGRATE)
            .await
            .map_err(LedgerError::unavailable)?;
        connection.give_up();
        timeout(MIGRATE, schema::migrate(&mut connection.client))
            .await
            .map_err(LedgerError::unavailable)?
    }

    /// The sum of a user's records, or of everybody's.
    ///
    /// Times are those of admission, from `from` until before `to`. `user` is whose records they are of: `"alice"`, or an
    /// `Option<&str>` of which `None` is everybody's.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](LedgerError::Unavailable) if the server cannot be asked, [`Store`](LedgerError::Store) if it says
    /// no: there are no tables, or no right to read them. So do all that follow.
    pub async fn sum(
        &self,
        user: impl Into<Option<&str>>,
        from: SystemTime,
        to: SystemTime,
    ) -> Result<Sum, LedgerError> {
        let user = user.into().map(Text);
        let statement = statements::sum(user.is_some());
        let (from, to) = (Moment(from), Moment(to));
        let values = scope(&from, &to, &user);
        let rows = self.query(&statement, &values).await?;
        rows.first().map_or_else(|| Ok(Sum::default()), row::sum)
    }

    /// The sums of a user's records, or of everybody's, by day, model, conversation or user, in that order.
    ///
    /// # Errors
    ///
    /// As [`sum`](Self::sum).
    pub async fn totals(
        &self,
        user: impl Into<Option<&str>>,
        from: SystemTime,
        to: SystemTime,
        group_by: GroupBy,
    ) -> Result<Vec<GroupTotal>, LedgerError> {
        let user = user.into().map(Text);
        let statement = statements::totals(user.is_some(), group_by);
        let (from, to) = (Moment(from), Moment(to));
        let values = scope(&from, &to, &user);
        let rows = self.query(&statement, &values).await?;
        let total = |row| {
            let group = match group_by {
                GroupBy::Day => Group::Day(time(row::get::<i64>(row, "key")?.saturating_mul(DAY))),
                GroupBy::Model => Group::Model(row::text(row, "key")?),
                GroupBy::Session => Group::Session(row::text(row, "key")?),
                GroupBy::User => Group::User(row::get::<&str>(row, "key")?.into()),
            };
            Ok(GroupTotal {
                group,
                sum: row::sum(row)?,
            })
        };
        rows.iter().map(total).collect()
    }

    /// A user's records, or everybody's, latest first, at most `limit`, and from `before` on backwards if it is given.
    ///
    /// # Errors
    ///
    /// As [`sum`](Self::sum).
    pub async fn records(
        &self,
        user: impl Into<Option<&str>>,
        from: SystemTime,
        to: SystemTime,
        limit: usize,
        before: Option<RecordId>,
    ) -> Result<Vec<UsageRecord>, LedgerError> {
        let user = user.into().map(Text);
        let before = match before {
            None => None,
            Some(id) => match self.find_time(id, &user).await? {
                None => return Ok(Vec::new()),
                Some(at) => Some((at, Uuid::from_u128(id.as_u128()))),
            },
        };
        let statement = statements::records(user.is_some(), before.is_some());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let (at, id) = before.unzip();
        let values = [
            (&Moment(from) as &(dyn ToSql + Sync), Type::TIMESTAMPTZ),
            (&Moment(to), Type::TIMESTAMPTZ),
            (&user, Type::TEXT),
            (&limit, Type::INT8),
            (&at, Type::TIMESTAMPTZ),
            (&id, Type::UUID),
        ];
        let rows = self.query(&statement, &values).await?;
        rows.iter().map(row::read).collect()
    }

    /// The records of an answer, by the provider's id of it: the latest ones first, 100 at most. There is one, unless the
    /// provider gives an id to several answers.
    ///
    /// # Errors
    ///
    /// As [`sum`](Self::sum).
    pub async fn find_by_response(
        &self,
        response_id: &str,
    ) -> Result<Vec<UsageRecord>, LedgerError> {
        let statement = statements::by_response();
        let response_id = Text(response_id);
        let rows = self
            .query(&statement, &[(&response_id, Type::TEXT)])
            .await?;
        rows.iter().map(row::read).collect()
    }

    /// All records of a user, or everybody's, in the order of their admission, a page at a time.
    ///
    /// Nothing is held of the database between two pages. A record that is shipped after the page it belongs to was read
    /// is not in it.
    pub fn export<'a>(
        &self,
        user: impl Into<Option<&'a str>>,
        from: SystemTime,
        to: SystemTime,
    ) -> Export {
        Export::new(self.clone(), user.into(), from, to)
    }

    async fn find_time(
        &self,
        id: RecordId,
        user: &Option<Text<'_>>,
    ) -> Result<Option<Moment>, LedgerError> {
        let id = Uuid::from_u128(id.as_u128());
        let values = [(&id as &(dyn ToSql + Sync), Type::UUID), (user, Type::TEXT)];
        let rows = self.query(statements::FIND_TIME, &values).await?;
        rows.first()
            .map(|row| row::get(row, "admitted_at"))
            .transpose()
    }

    /// One statement in one round trip, without a name of its own at the server, so that poolers between can be used, and
    /// planned for these values.
    pub(crate) async fn query(
        &self,
        statement: &str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, LedgerError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let mut connection = self.connection(deadline).await?;
            // Nobody else waits for an answer that this one does not wait for any more.
            connection.give_up();
            let asked = connection.client.query_typed(statement, values);
            match timeout_at(deadline, asked).await {
                Ok(Ok(rows)) => {
                    connection.keep();
                    return Ok(rows);
                }
                Ok(Err(error)) if connection::is_lost(&error) => {
                    if Instant::now() >= deadline {
                        return Err(LedgerError::unavailable(error));
                    }
                }
                Ok(Err(error)) => {
                    connection.keep();
                    return Err(LedgerError::postgres(error));
                }
                Err(elapsed) => return Err(LedgerError::unavailable(elapsed)),
            }
        }
    }

    async fn connection(
        &self,
        deadline: Instant,
    ) -> Result<PooledConnection<'static, Manager>, LedgerError> {
        let pool = self.pool.get_or_init(|| {
            Pool::builder()
                .max_size(CONNECTIONS)
                .connection_timeout(self.timeout.max(Duration::from_millis(1)))
                // A question before each question: what is lost shows itself.
                .test_on_check_out(false)
                .build_unchecked(self.manager.with_statement_timeout(self.timeout))
        });
        loop {
            match timeout_at(deadline, pool.get_owned()).await {
                // Such as those from before the server was started anew. It is not given back.
                Ok(Ok(connection)) if connection.client.is_closed() => {}
                Ok(Ok(connection)) => return Ok(connection),
                Err(_) | Ok(Err(RunError::TimedOut)) => {
                    let why = self.manager.last_error().get();
                    return Err(LedgerError::unavailable(NoConnection(why)));
                }
                Ok(Err(RunError::User(error))) => return Err(LedgerError::unavailable(error)),
            }
        }
    }

    pub(super) const fn manager(&self) -> &Manager {
        &self.manager
    }

    pub(super) const fn within(&self) -> Duration {
        self.timeout
    }
}

impl fmt::Debug for PostgresLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connections = self.pool.get().map_or(0, |pool| pool.state().connections);
        f.debug_struct("PostgresLedger")
            .field("timeout", &self.timeout)
            .field("connections", &connections)
            .finish_non_exhaustive()
    }
}

/// The values that every statement begins with.
fn scope<'a>(from: &'a Moment, to: &'a Moment, user: &'a Option<Text<'_>>) -> [Value<'a>; 3] {
    [
        (from, Type::TIMESTAMPTZ),
        (to, Type::TIMESTAMPTZ),
        (user, Type::TEXT),
    ]
}
