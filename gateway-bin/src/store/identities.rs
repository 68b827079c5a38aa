use std::sync::Arc;
use std::time::SystemTime;

use tower_sso::Identity;

use super::StoreError;
use super::database::Store;
use super::row::Row;
use super::statement::Statement;

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

macro_rules! find_by_email {
    ($is_theirs:literal) => {
        concat!(
            "SELECT user_id FROM oauth_users WHERE ",
            $is_theirs,
            " AND email_verified AND provider = $2
                 AND NOT EXISTS (SELECT 1 FROM oauth_users WHERE user_id = $3) LIMIT 2"
        )
    };
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
        let list = Statement::new("SELECT provider, subject, user_id FROM identities");
        self.query(list, link).await
    }

    /// The links that were made since then, by the store's [`time`](Self::time).
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn links_since(&self, since: SystemTime) -> Result<Vec<Link>, StoreError> {
        let list = Statement::new(
            "SELECT provider, subject, user_id FROM identities WHERE created_at >= $1 ORDER BY created_at",
        );
        self.query(list.with(since), link).await
    }

    /// Says who somebody at another issuer is here, in place of what was said before. `linked_by` is the administrator's
    /// user id, or `verified-email`. `false` if there is no such user here.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn link(&self, link: Link, linked_by: &str) -> Result<bool, StoreError> {
        let put = Statement::new(
            "INSERT INTO identities (provider, subject, user_id, linked_by, created_at)
             SELECT $1, $2, user_id, $4, now_ms() FROM oauth_users WHERE user_id = $3
             ON CONFLICT (provider, subject) DO UPDATE SET user_id = excluded.user_id,
                 linked_by = excluded.linked_by, created_at = excluded.created_at
             RETURNING 1",
        );
        let put = put
            .with(&link.provider)
            .with(&link.subject)
            .with(&link.user_id)
            .with(linked_by);
        self.does(put).await
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
        let Some(email) = identity.email().filter(|_| identity.email_verified()) else {
            return Ok(None);
        };
        // Capital ASCII letters are small ones, and no others: what else looks alike is somebody else's address.
        let find = self.words(
            find_by_email!("email = $1 COLLATE NOCASE"),
            find_by_email!(r#"lower(email COLLATE "C") = lower($1 COLLATE "C")"#),
        );
        let find = Statement::new(find)
            .with(email)
            .with(provider)
            .with(identity.user_id());
        let found = self.query(find, |row| row.text(0)).await?;
        Ok(match found.as_slice() {
            [one] => Some(Arc::clone(one)),
            _ => None,
        })
    }
}

fn link(row: &Row<'_>) -> Result<Link, StoreError> {
    Ok(Link {
        provider: row.text(0)?,
        subject: row.text(1)?,
        user_id: row.text(2)?,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::on_each_store;
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
        on_each_store(|stores| async move {
            let store = stores.open().await;
            let corp: Arc<str> = "corp".into();
            for (user, email, verified) in [
                ("alice", "Alice@example.com", true),
                ("carol", "carol@example.com", false),
                ("dave", "shared@example.com", true),
                ("erin", "shared@example.com", true),
                ("kate", "kate@example.com", true),
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
                // A Kelvin sign is no k.
                ("\u{212a}ate@example.com", true, None),
            ] {
                let guest = person("github", "7", "github|7", email, verified);
                let who = store.find_by_verified_email(&guest, &corp).await.unwrap();
                assert_eq!(who.as_deref(), found, "{email} {verified}");
            }
            let guest = person("github", "7", "github|7", "alice@example.com", true);
            store.put_user(&guest).await.unwrap();
            let who = store.find_by_verified_email(&guest, &corp).await.unwrap();
            assert_eq!(who, None, "who has a workspace here keeps it");
        })
        .await;
    }

    #[tokio::test]
    async fn a_link_is_to_a_user_that_there_is() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
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
            assert_eq!(store.links().await.unwrap(), std::slice::from_ref(&link));
            let now = store.time().await.unwrap();
            let later = now + Duration::from_secs(60);
            let links_since = |since| {
                let store = store.clone();
                async move { store.links_since(since).await.unwrap() }
            };
            assert_eq!(links_since(now - Duration::from_secs(60)).await, [link]);
            assert_eq!(links_since(later).await, []);
        })
        .await;
    }
}
