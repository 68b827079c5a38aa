//! The gateway's own state in an SQLite file.

mod schema;

use std::fs::{File, Permissions};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, Row, params};
use rustix::fs::{FlockOperation, flock};
use thiserror::Error;
use tower_quota::{Allowance, Dimension, Limit, Window};
use tower_sso::Identity;

use crate::clock;

/// How long a statement waits for another writer of the file.
const BUSY: Duration = Duration::from_secs(5);

/// The store; clones share one connection.
#[derive(Clone, Debug)]
pub struct Store {
    connection: Arc<Mutex<Connection>>,
    // Held for the life of the process: one `serve` for each file.
    _lock: Arc<File>,
}

/// Why the store did not do it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another gateway has the file.
    #[error("{} is in use by another gateway; one `serve` for each file", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be opened or locked.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The tables are of a newer version of the gateway.
    #[error(
        "the store has tables of version {version}, which this gateway does not know; use the newer gateway"
    )]
    Newer {
        /// Version of the tables.
        version: u32,
    },
    /// The gateway stops.
    #[error("the store is closed")]
    Stopped,
    /// SQLite failed.
    #[error("store failed")]
    Sqlite(#[from] rusqlite::Error),
}

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

/// Somebody's environment as the store has it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EnvironmentRow {
    /// Whose it is.
    pub user_id: Arc<str>,
    /// Instance it lies on.
    pub instance: String,
    /// Agent on that instance.
    pub agent_id: String,
    /// Fingerprint of what the agent was made from.
    pub agent_spec: String,
    /// Directory on this host.
    pub workspace_dir: String,
    /// Profile name.
    pub profile_name: String,
    /// Auth profile id.
    pub auth_profile_id: String,
    /// Whether the instance has the agent with the current virtual key.
    pub agent_ready: bool,
}

/// A virtual key as the store has it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VirtualKeyRow {
    /// Public name of the key.
    pub key_id: String,
    /// Who pays.
    pub user_id: Arc<str>,
    /// SHA-256 of the whole key.
    pub hash: [u8; 32],
}

// === impl Store ===

impl Store {
    /// Opens the file, made and readable by us only if it is new, and brings its tables up to date.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |source: std::io::Error| StoreError::Open {
            path: path.to_owned(),
            source,
        };
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock = private_file(Path::new(&lock_path)).map_err(failed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
            rustix::io::Errno::WOULDBLOCK => StoreError::InUse {
                path: path.to_owned(),
            },
            errno => failed(errno.into()),
        })?;
        private_file(path).map_err(failed)?;
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        schema::migrate(&mut connection)?;
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
            _lock: Arc::new(lock),
        })
    }

    /// Runs `work` on the connection, away from the runtime's own threads.
    ///
    /// # Errors
    ///
    /// What `work` answers.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop `work`.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let connection = Arc::clone(&self.connection);
        let done = tokio::task::spawn_blocking(move || {
            work(&mut connection.lock().unwrap_or_else(PoisonError::into_inner))
        });
        done.await.unwrap_or(Err(StoreError::Stopped))
    }

    /// The secret of that name, made by `make` and kept the first time.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub fn key(&self, name: &str, make: impl FnOnce() -> Vec<u8>) -> Result<Vec<u8>, StoreError> {
        let connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let kept = connection
            .query_row(
                "SELECT secret FROM gateway_keys WHERE name = ?1",
                [name],
                |row| row.get(0),
            )
            .optional()?;
        if let Some(secret) = kept {
            return Ok(secret);
        }
        let secret = make();
        connection.execute(
            "INSERT INTO gateway_keys (name, secret) VALUES (?1, ?2)",
            params![name, secret],
        )?;
        Ok(secret)
    }

    /// Whether the file answers.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.run(|connection| Ok(connection.query_row("SELECT 1", [], |_| Ok(()))?))
            .await
    }

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

    /// Somebody's environment.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn find_environment(
        &self,
        user_id: &Arc<str>,
    ) -> Result<Option<EnvironmentRow>, StoreError> {
        let user_id = Arc::clone(user_id);
        self.run(move |connection| {
            let found = connection.query_row(
                "SELECT instance, agent_id, workspace_dir, profile_name, auth_profile_id, agent_ready_at IS NOT NULL,
                     agent_spec
                 FROM user_openclaw_environments WHERE user_id = ?1",
                [&*user_id],
                |row| {
                    Ok(EnvironmentRow {
                        user_id: Arc::clone(&user_id),
                        instance: row.get(0)?,
                        agent_id: row.get(1)?,
                        workspace_dir: row.get(2)?,
                        profile_name: row.get(3)?,
                        auth_profile_id: row.get(4)?,
                        agent_ready: row.get(5)?,
                        agent_spec: row.get(6)?,
                    })
                },
            );
            Ok(found.optional()?)
        })
        .await
    }

    /// Keeps somebody's environment and a new virtual key for it, before the instance gets either: whatever happens
    /// then, no agent has a key that is not known here.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn put_environment(
        &self,
        row: EnvironmentRow,
        key: VirtualKeyRow,
    ) -> Result<(), StoreError> {
        self.run(move |connection| {
            let now = millis(clock::now());
            let transaction = connection.transaction()?;
            transaction.execute(
                "INSERT INTO user_openclaw_environments (user_id, workspace_dir, profile_name, auth_profile_id, instance,
                     agent_id, agent_spec, created_at, updated_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)
                 ON CONFLICT (user_id) DO UPDATE SET workspace_dir = excluded.workspace_dir,
                     profile_name = excluded.profile_name, auth_profile_id = excluded.auth_profile_id,
                     instance = excluded.instance, agent_id = excluded.agent_id,
                     agent_spec = excluded.agent_spec, agent_ready_at = NULL,
                     updated_at = excluded.updated_at",
                params![
                    &*row.user_id,
                    row.workspace_dir,
                    row.profile_name,
                    row.auth_profile_id,
                    row.instance,
                    row.agent_id,
                    row.agent_spec,
                    now,
                ],
            )?;
            transaction.execute(
                "INSERT INTO virtual_keys (key_id, user_id, hash, created_at) VALUES (?1, ?2, ?3, ?4)",
                params![key.key_id, &*key.user_id, key.hash, now],
            )?;
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    /// Notes that the instance has somebody's agent, with the key `key_id`, and ends all older keys.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn agent_ready(&self, user_id: &Arc<str>, key_id: String) -> Result<(), StoreError> {
        let user_id = Arc::clone(user_id);
        self.run(move |connection| {
            let now = millis(clock::now());
            let transaction = connection.transaction()?;
            transaction.execute(
                "UPDATE user_openclaw_environments SET agent_ready_at = ?2, updated_at = ?2 WHERE user_id = ?1",
                params![&*user_id, now],
            )?;
            transaction.execute(
                "UPDATE virtual_keys SET revoked_at = ?3 WHERE user_id = ?1 AND key_id <> ?2 AND revoked_at IS NULL",
                params![&*user_id, key_id, now],
            )?;
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    /// All virtual keys that are in force.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub fn virtual_keys(&self) -> Result<Vec<VirtualKeyRow>, StoreError> {
        let connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut statement = connection
            .prepare("SELECT key_id, user_id, hash FROM virtual_keys WHERE revoked_at IS NULL")?;
        let rows = statement.query_map([], |row| {
            Ok(VirtualKeyRow {
                key_id: row.get(0)?,
                user_id: row.get::<_, String>(1)?.into(),
                hash: row.get(2)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Everybody's limits of their own, by user.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub fn user_limits(&self) -> Result<Vec<(Arc<str>, Limit)>, StoreError> {
        let connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut statement = connection.prepare(
            "SELECT subject, dimension, period, amount FROM user_quotas ORDER BY subject, rowid",
        )?;
        let rows = statement.query_map([], |row| {
            Ok((Arc::from(row.get::<_, String>(0)?), own_limit(row)?))
        })?;
        rows.filter_map(|row| {
            row.map(|(user, limit)| limit.map(|limit| (user, limit)))
                .transpose()
        })
        .collect::<Result<_, _>>()
        .map_err(StoreError::from)
    }

    /// Sets limits of somebody's own, and answers all that they have; others of theirs stay.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn put_user_limits(
        &self,
        user_id: &Arc<str>,
        limits: Vec<Limit>,
    ) -> Result<Vec<Limit>, StoreError> {
        let user_id = Arc::clone(user_id);
        self.run(move |connection| {
            let now = millis(clock::now());
            let transaction = connection.transaction()?;
            for limit in &limits {
                let amount = match limit.allowance() {
                    Allowance::AtMost(amount) => Some(i64::try_from(amount).unwrap_or(i64::MAX)),
                    Allowance::Unlimited => None,
                };
                transaction.execute(
                    "INSERT INTO user_quotas (subject, dimension, period, amount, updated_at)
                     VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (subject, dimension, period)
                         DO UPDATE SET amount = excluded.amount, updated_at = excluded.updated_at",
                    params![
                        &*user_id,
                        limit.dimension().as_str(),
                        window_name(limit.window()),
                        amount,
                        now
                    ],
                )?;
            }
            let own = transaction
                .prepare("SELECT subject, dimension, period, amount FROM user_quotas WHERE subject = ?1 ORDER BY rowid")?
                .query_map([&*user_id], own_limit)?
                .filter_map(Result::transpose)
                .collect::<Result<_, _>>()?;
            transaction.commit()?;
            Ok(own)
        })
        .await
    }
}

/// A row of `user_quotas`; none if a newer version wrote it.
fn own_limit(row: &Row<'_>) -> rusqlite::Result<Option<Limit>> {
    let (dimension, window): (String, String) = (row.get(1)?, row.get(2)?);
    let allowance = match row.get::<_, Option<i64>>(3)? {
        None => Allowance::Unlimited,
        Some(amount) => Allowance::AtMost(u64::try_from(amount).unwrap_or(0)),
    };
    let dimension = Dimension::ALL
        .into_iter()
        .find(|known| known.as_str() == dimension);
    let window = [Window::Day, Window::Month]
        .into_iter()
        .find(|&known| window_name(known) == window);
    Ok(dimension
        .zip(window)
        .map(|(dimension, window)| Limit::new(dimension, window, allowance)))
}

/// Opens a file for us alone, made if it is not there.
fn private_file(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    // One that was there before, under another umask.
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// The word for a window in the store and in answers.
#[must_use]
pub fn window_name(window: Window) -> &'static str {
    match window {
        Window::Month => "month",
        _ => "day",
    }
}

fn millis(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}

fn time(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("gateway.db")).unwrap();
        (dir, store)
    }

    fn person(user_id: &str) -> Arc<Identity> {
        Arc::new(
            Identity::builder("https://issuer.example", user_id)
                .email("a@example.com", true)
                .build(),
        )
    }

    fn environment(user_id: &str) -> EnvironmentRow {
        EnvironmentRow {
            user_id: user_id.into(),
            instance: "one".to_owned(),
            agent_id: format!("user-{user_id}"),
            agent_spec: String::new(),
            workspace_dir: "/w".to_owned(),
            profile_name: format!("user-{user_id}"),
            auth_profile_id: format!("user-{user_id}-p"),
            agent_ready: false,
        }
    }

    #[test]
    fn one_gateway_has_the_file() {
        let (dir, _store) = open();
        assert!(matches!(
            Store::open(&dir.path().join("gateway.db")),
            Err(StoreError::InUse { .. })
        ));
    }

    #[test]
    fn a_key_is_made_once() {
        let (dir, store) = open();
        assert_eq!(store.key("device", || vec![1]).unwrap(), [1]);
        drop(store);
        let store = Store::open(&dir.path().join("gateway.db")).unwrap();
        assert_eq!(
            store.key("device", || vec![2]).unwrap(),
            [1],
            "a restart keeps it"
        );
    }

    #[tokio::test]
    async fn an_agent_is_ready_with_its_newest_key_only() {
        let (_dir, store) = open();
        store.put_user(&person("alice")).await.unwrap();
        for (key_id, byte) in [("k1", 1), ("k2", 2)] {
            let key = VirtualKeyRow {
                key_id: key_id.to_owned(),
                user_id: "alice".into(),
                hash: [byte; 32],
            };
            store
                .put_environment(environment("alice"), key)
                .await
                .unwrap();
            assert!(
                !store
                    .find_environment(&"alice".into())
                    .await
                    .unwrap()
                    .unwrap()
                    .agent_ready
            );
        }
        assert_eq!(
            store.virtual_keys().unwrap().len(),
            2,
            "until the instance has the new one, the old one stays"
        );
        store
            .agent_ready(&"alice".into(), "k2".to_owned())
            .await
            .unwrap();
        assert!(
            store
                .find_environment(&"alice".into())
                .await
                .unwrap()
                .unwrap()
                .agent_ready
        );
        let keys = store.virtual_keys().unwrap();
        assert_eq!(
            keys.iter().map(|key| &*key.key_id).collect::<Vec<_>>(),
            ["k2"]
        );
    }

    #[tokio::test]
    async fn limits_of_somebodys_own_come_back_as_they_were() {
        let (_dir, store) = open();
        let none = Limit::at_most(Dimension::Tokens, Window::Day, 0);
        let unlimited = Limit::unlimited(Dimension::Cost, Window::Month);
        store
            .put_user_limits(&"alice".into(), vec![none])
            .await
            .unwrap();
        let own = store
            .put_user_limits(&"alice".into(), vec![unlimited])
            .await
            .unwrap();
        assert_eq!(own, [none, unlimited], "setting one leaves the other");
        let raised = Limit::at_most(Dimension::Tokens, Window::Day, 7);
        let own = store
            .put_user_limits(&"alice".into(), vec![raised])
            .await
            .unwrap();
        assert_eq!(own, [raised, unlimited]);
        let kept: Vec<Limit> = store
            .user_limits()
            .unwrap()
            .into_iter()
            .map(|(_, limit)| limit)
            .collect();
        assert_eq!(kept, own);
    }
}
