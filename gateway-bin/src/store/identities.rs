use std::sync::Arc;

use rusqlite::params;
use tower_sso::Identity;

use super::database::{Store, StoreError, millis};
use crate::clock;

/// Who somebody at another issuer is here.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Link {
    /// Alias of the issuer.
    pub provider: Arc<str>,
    /// The id there.
    pub subject: Arc<str>,
    /// The id here.
    pub user_id: Arc<str>,
}

// === impl Link ===

impl Link {
    /// Somebody at another issuer is this user here.
    pub fn new(
        provider: impl Into<Arc<str>>,
        subject: impl Into<Arc<str>>,
        user_id: impl Into<Arc<str>>,
    ) -> Self {
        Self {
            provider: provider.into(),
            subject: subject.into(),
            user_id: user_id.into(),
        }
    }
}

// === impl Store ===

impl Store {
    /// All links.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn links(&self) -> Result<Vec<Link>, StoreError> {
        self.run(|connection| {
            let mut statement =
                connection.prepare("SELECT provider, subject, user_id FROM identities")?;
            let rows = statement.query_map([], |row| {
                Ok(Link {
                    provider: row.get(0)?,
                    subject: row.get(1)?,
                    user_id: row.get(2)?,
                })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// Says who somebody at another issuer is here, in place of what was said before. `linked_by` is the administrator's
    /// user id, or `verified-email`. `false` if there is no such user here.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn link(&self, link: Link, linked_by: &str) -> Result<bool, StoreError> {
        let linked_by = linked_by.to_owned();
        self.run(move |connection| {
            let changed = connection.execute(
                "INSERT INTO identities (provider, subject, user_id, linked_by, created_at)
                 SELECT ?1, ?2, user_id, ?4, ?5 FROM oauth_users WHERE user_id = ?3
                 ON CONFLICT (provider, subject) DO UPDATE SET user_id = excluded.user_id,
                     linked_by = excluded.linked_by, created_at = excluded.created_at",
                params![
                    &*link.provider,
                    &*link.subject,
                    &*link.user_id,
                    linked_by,
                    millis(clock::now())
                ],
            )?;
            Ok(changed > 0)
        })
        .await
    }

    /// The one user of `provider` whose e-mail address, verified there, is this identity's, verified too; `None` if there
    /// is none or more than one, or if the identity was a user of its own here before: their workspace stays theirs.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn find_by_verified_email(
        &self,
        identity: &Arc<Identity>,
        provider: &Arc<str>,
    ) -> Result<Option<Arc<str>>, StoreError> {
        let (identity, provider) = (Arc::clone(identity), Arc::clone(provider));
        self.run(move |connection| {
            let Some(email) = identity.email().filter(|_| identity.email_verified()) else {
                return Ok(None);
            };
            let mut statement = connection.prepare(
                "SELECT user_id FROM oauth_users WHERE email = ?1 COLLATE NOCASE AND email_verified = 1 AND provider = ?2
                     AND NOT EXISTS (SELECT 1 FROM oauth_users WHERE user_id = ?3) LIMIT 2",
            )?;
            let found = statement.query_map(
                params![email, &*provider, &**identity.user_id()],
                |row| row.get::<_, Arc<str>>(0),
            )?;
            let found = found.collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(match found.as_slice() {
                [one] => Some(Arc::clone(one)),
                _ => None,
            })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(
        provider: &str,
        subject: &str,
        user_id: &str,
        email: &str,
        verified: bool,
    ) -> Arc<Identity> {
        let identity = Identity::builder("https://issuer.example", subject)
            .provider(provider)
            .user_id(user_id)
            .email(email, verified);
        Arc::new(identity.build())
    }

    #[tokio::test]
    async fn a_verified_address_names_the_one_user_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("gateway.db")).unwrap();
        let corp: Arc<str> = "corp".into();
        for (user, email, verified) in [
            ("alice", "Alice@example.com", true),
            ("carol", "carol@example.com", false),
            ("dave", "shared@example.com", true),
            ("erin", "shared@example.com", true),
        ] {
            store
                .put_user(&person("corp", user, user, email, verified))
                .await
                .unwrap();
        }
        for (email, verified, found) in [
            ("alice@example.com", true, Some("alice")),
            ("alice@example.com", false, None),
            ("carol@example.com", true, None),
            ("shared@example.com", true, None),
            ("nobody@example.com", true, None),
            ("%", true, None),
        ] {
            let guest = person("github", "7", "github|7", email, verified);
            let who = store.find_by_verified_email(&guest, &corp).await.unwrap();
            assert_eq!(who.as_deref(), found, "{email} {verified}");
        }
        let guest = person("github", "7", "github|7", "alice@example.com", true);
        store.put_user(&guest).await.unwrap();
        let who = store.find_by_verified_email(&guest, &corp).await.unwrap();
        assert_eq!(who, None, "who has a workspace here keeps it");
    }

    #[tokio::test]
    async fn a_link_is_to_a_user_that_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("gateway.db")).unwrap();
        let link = Link {
            provider: "github".into(),
            subject: "7".into(),
            user_id: "alice".into(),
        };
        assert!(!store.link(link.clone(), "admin").await.unwrap());
        store
            .put_user(&person("corp", "alice", "alice", "a@example.com", true))
            .await
            .unwrap();
        assert!(store.link(link.clone(), "admin").await.unwrap());
        assert_eq!(store.links().await.unwrap(), [link]);
    }
}
