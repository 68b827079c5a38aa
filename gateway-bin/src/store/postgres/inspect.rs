use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{Client, Config, SimpleQueryMessage};

use super::connection::Manager;
use super::found::version;
use crate::store::found::STATE;
use crate::store::{Inspected, StoreError};

/// How long it may take to answer, once it is connected to.
const ANSWER: Duration = Duration::from_secs(3);

/// All that it is asked, as texts: in a schema that there is not nothing can be made.
const ASKED: &str = "SELECT current_setting('server_version'),
    (SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl),
    pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on',
    coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)";

/// See [`inspect_server`](crate::store::inspect_server).
pub(in crate::store) async fn inspect(url: &str) -> Result<Inspected, StoreError> {
    let config: Config = url.parse().map_err(|_| StoreError::Url)?;
    let connection = Manager::new(config)?.open().await?;
    let asked = timeout(ANSWER, ask(&connection.client)).await;
    asked.unwrap_or(Err(StoreError::Silent))
}

async fn ask(client: &Client) -> Result<Inspected, StoreError> {
    let row = one(client, ASKED).await?;
    let text = |n: usize| row.get(n).cloned().flatten();
    let is = |n: usize| text(n).as_deref() == Some("t");
    Ok(Inspected {
        version: text(0).ok_or(StoreError::Unreadable)?,
        tls: text(1),
        is_read_only: is(2),
        may_create: is(3),
        tables: version(client, STATE).await?,
    })
}

/// The columns of the one row that a query answers.
async fn one(client: &Client, query: &str) -> Result<Vec<Option<String>>, StoreError> {
    let answer = client.simple_query(query).await?;
    let row = answer.into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row.ok_or(StoreError::Unreadable)?;
    Ok((0..row.len())
        .map(|n| row.get(n).map(str::to_owned))
        .collect())
}
