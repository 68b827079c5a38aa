//! People whom no gateway has signed in, in its store.

use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use rusqlite::Connection;
use tokio_postgres::NoTls;

use super::config::STORE;
use crate::{
    error::{Error, Result},
    secret,
};

/// Puts somebody into the store of a gateway that does not run, which has everything it keeps in `dir`, and answers
/// their virtual key.
///
/// # Errors
///
/// [`Error::Connection`] for the store, [`Error::Unexpected`] when the system has no random numbers.
pub fn person_with_key(dir: &Path, name: &str) -> Result<String> {
    let path = dir.join(STORE);
    let key = format!("ocg-vk-{}", secret::random()?);
    let inserted = insert(&path, name, &key);
    inserted.map_err(|error| Error::connection(path.display().to_string(), error))?;
    Ok(key)
}

/// The same in a database that gateways share, also while they run.
///
/// # Errors
///
/// As [`person_with_key`].
pub async fn person_with_shared_key(database_url: &str, name: &str) -> Result<String> {
    let key = format!("ocg-vk-{}", secret::random()?);
    let connected = tokio_postgres::connect(database_url, NoTls).await;
    let failed = |error| Error::connection("Postgres", error);
    let (client, connection) = connected.map_err(failed)?;
    tokio::spawn(connection);
    let hash = digest(&SHA256, key.as_bytes());
    let user = "INSERT INTO oauth_users (user_id, provider, provider_user_id, created_at, updated_at, last_login_at)
                VALUES ($1, 'corp', $1, 0, 0, 0)";
    client.execute(user, &[&name]).await.map_err(failed)?;
    let environment = "INSERT INTO user_openclaw_environments (user_id, workspace_dir, profile_name, auth_profile_id,
                           instance, agent_id, agent_spec, agent_ready_at, created_at, updated_at)
                       VALUES ($1, '/nowhere', $1, $1, 'pool-1', $1, '', 0, 0, 0)";
    client
        .execute(environment, &[&name])
        .await
        .map_err(failed)?;
    let virtual_key =
        "INSERT INTO virtual_keys (key_id, user_id, hash, created_at) VALUES ($1, $1, $2, 0)";
    let inserted = client.execute(virtual_key, &[&name, &hash.as_ref()]).await;
    inserted.map_err(failed)?;
    Ok(key)
}

fn insert(path: &Path, name: &str, key: &str) -> rusqlite::Result<()> {
    let store = Connection::open(path)?;
    let user = "INSERT INTO oauth_users (user_id, provider, provider_user_id, created_at, updated_at, last_login_at)
                VALUES (?1, 'corp', ?1, 0, 0, 0)";
    store.execute(user, [name])?;
    let environment = "INSERT INTO user_openclaw_environments (user_id, workspace_dir, profile_name, auth_profile_id,
                           instance, agent_id, agent_spec, agent_ready_at, created_at, updated_at)
                       VALUES (?1, '/nowhere', ?1, ?1, 'pool-1', ?1, '', 0, 0, 0)";
    store.execute(environment, [name])?;
    let hash = digest(&SHA256, key.as_bytes());
    let virtual_key =
        "INSERT INTO virtual_keys (key_id, user_id, hash, created_at) VALUES (?1, ?1, ?2, 0)";
    store.execute(virtual_key, (name, hash.as_ref()))?;
    Ok(())
}
