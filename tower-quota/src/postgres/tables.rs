use tokio::time::Instant;

use super::{
    connection::Connection,
    server_time::ServerTime,
    statements::{IS_MADE, MAKE, WHICH},
};

/// Makes what is missing. Which database it is, and the time there.
pub(super) async fn make(
    connection: &Connection,
) -> Result<(u32, ServerTime), tokio_postgres::Error> {
    let client = &connection.client;
    // To ask whether a table may be made takes the right to make it.
    let is_made: bool = client.query_typed_one(IS_MADE, &[]).await?.try_get(0)?;
    if !is_made {
        client.batch_execute(MAKE).await?;
    }
    let time = ServerTime::new();
    let sent = Instant::now();
    let row = client.query_typed_one(WHICH, &[]).await?;
    let (database, server_ms): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    time.learn(sent, Instant::now(), server_ms);
    // It has 32 bits.
    let database = u32::try_from(database.cast_unsigned() & u64::from(u32::MAX));
    Ok((database.unwrap_or_default(), time))
}
