use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{Client, Config};

use super::connection::Manager;
use crate::store::StoreError;
use crate::store::found::{COUNTERS, Found, LEDGER, SESSIONS, STATE};

/// How long it may take.
const FIND: Duration = Duration::from_secs(10);

/// What is in the database, in the first schemas of its search path that have such tables.
pub(in crate::store) async fn find(url: &str) -> Result<Found, StoreError> {
    // The URL may hold a password, so what is wrong with it is not said in its own words.
    let config: Config = url.parse().map_err(|_| StoreError::Url)?;
    let manager = Manager::new(config)?;
    let found = async {
        let connection = manager.open_patiently().await?;
        let client = &connection.client;
        Ok(Found {
            state: version(client, STATE).await?,
            ledger: version(client, LEDGER).await?,
            sessions: has(client, SESSIONS).await?,
            counters: has(client, COUNTERS).await?,
        })
    };
    let found = timeout(FIND, found).await;
    found.unwrap_or(Err(StoreError::Silent))
}

pub(super) async fn version(client: &Client, table: &str) -> Result<u32, StoreError> {
    if !has(client, table).await? {
        return Ok(0);
    }
    let latest = format!("SELECT coalesce(max(version), 0)::bigint FROM {table}");
    let latest: i64 = client.query_typed_one(&latest, &[]).await?.try_get(0)?;
    Ok(u32::try_from(latest).unwrap_or(u32::MAX))
}

async fn has(client: &Client, table: &str) -> Result<bool, StoreError> {
    let find = format!("SELECT to_regclass('{table}') IS NOT NULL");
    Ok(client.query_typed_one(&find, &[]).await?.try_get(0)?)
}
