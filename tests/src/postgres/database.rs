//! A database for one test.

use tokio_postgres::NoTls;

use crate::{
    error::{Error, Result},
    secret,
};

/// Makes a new, empty database on the server at `url`, and answers its URL. It goes with the server.
///
/// # Errors
///
/// [`Error::Connection`] with what the server said.
pub async fn create_database(url: &str) -> Result<String> {
    // A URL that is printed would show the password.
    let failed = |error| Error::connection("Postgres", error);
    let (server, _) = url
        .rsplit_once('/')
        .ok_or_else(|| Error::unexpected("URL of a database", "one without a path"))?;
    let name = secret::mark()?.replace('-', "_");
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.map_err(failed)?;
    let driver = tokio::spawn(connection);
    let created = client
        .batch_execute(&format!("CREATE DATABASE {name}"))
        .await;
    drop(client);
    let _ = driver.await;
    created.map_err(failed)?;
    Ok(format!("{server}/{name}"))
}
