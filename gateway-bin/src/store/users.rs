use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::{OptionalExtension, params};
use tower_sso::Identity;

use super::database::{Store, StoreError, millis, time};
use crate::clock;

/// A person as the store has them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct User {
    /// Stable id.
    pub user_id: Arc<str>,
    /// Alias of the issuer.
    pub provider: String,
    /// E-mail address.
    pub email: Option<String>,
    /// Full name.
    pub name: Option<String>,
    /// Picture.
    pub avatar_url: Option<String>,
    /// Last sign-in.
    pub last_login_at: SystemTime,
}

// === impl Store ===

impl Store {
    /// Keeps what the issuer says of somebody now.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn put_user(&self, identity: &Arc<Identity>) -> Result<(), StoreError> {
        let identity = Arc::clone(identity);
        self.run(move |connection| {
            let now = millis(clock::now());
            connection.execute(
                "INSERT INTO oauth_users (user_id, provider, provider_user_id, email, email_verified, name, avatar_url,
                     created_at, updated_at, last_login_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, ?8)
                 ON CONFLICT (user_id) DO UPDATE SET email = excluded.email, email_verified = excluded.email_verified,
                     name = excluded.name, avatar_url = excluded.avatar_url, updated_at = excluded.updated_at,
                     last_login_at = excluded.last_login_at",
                params![
                    &**identity.user_id(),
                    identity.provider(),
                    &**identity.subject(),
                    identity.email(),
                    identity.email_verified(),
                    identity.name(),
                    identity.picture(),
                    now,
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// Keeps that somebody is disabled, or no longer; `false` if they were never here.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn set_disabled(&self, user_id: &str, disabled: bool) -> Result<bool, StoreError> {
        let user_id = user_id.to_owned();
        self.run(move |connection| {
            let changed = connection.execute(
                "UPDATE oauth_users SET disabled = ?2, updated_at = ?3 WHERE user_id = ?1",
                params![user_id, disabled, millis(clock::now())],
            )?;
            Ok(changed > 0)
        })
        .await
    }

    /// Everybody who is disabled.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn disabled_users(&self) -> Result<Vec<Arc<str>>, StoreError> {
        self.run(|connection| {
            let mut statement =
                connection.prepare("SELECT user_id FROM oauth_users WHERE disabled = 1")?;
            let rows = statement.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// Keeps that somebody has signed in, by another issuer than the one that says who they are.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn seen_user(&self, user_id: &Arc<str>) -> Result<(), StoreError> {
        let user_id = Arc::clone(user_id);
        self.run(move |connection| {
            connection.execute(
                "UPDATE oauth_users SET last_login_at = ?2 WHERE user_id = ?1",
                params![&*user_id, millis(clock::now())],
            )?;
            Ok(())
        })
        .await
    }

    /// A person.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn find_user(&self, user_id: &Arc<str>) -> Result<Option<User>, StoreError> {
        let user_id = Arc::clone(user_id);
        self.run(move |connection| {
            let found = connection.query_row(
                "SELECT provider, email, name, avatar_url, last_login_at FROM oauth_users WHERE user_id = ?1",
                [&*user_id],
                |row| {
                    Ok(User {
                        user_id: Arc::clone(&user_id),
                        provider: row.get(0)?,
                        email: row.get(1)?,
                        name: row.get(2)?,
                        avatar_url: row.get(3)?,
                        last_login_at: time(row.get(4)?),
                    })
                },
            );
            Ok(found.optional()?)
        })
        .await
    }
}
