use std::sync::Arc;
use std::time::SystemTime;

use tower_sso::Identity;

use super::StoreError;
use super::database::Store;
use super::statement::Statement;

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
        let put = Statement::new(
            "INSERT INTO oauth_users (user_id, provider, provider_user_id, email, email_verified, name, avatar_url,
                 created_at, updated_at, last_login_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, now_ms(), now_ms(), now_ms())
             ON CONFLICT (user_id) DO UPDATE SET email = excluded.email, email_verified = excluded.email_verified,
                 name = excluded.name, avatar_url = excluded.avatar_url, updated_at = excluded.updated_at,
                 last_login_at = excluded.last_login_at, deleted_at = NULL",
        );
        let put = put
            .with(identity.user_id())
            .with(identity.provider())
            .with(identity.subject())
            .with(identity.email())
            .with(identity.email_verified())
            .with(identity.name())
            .with(identity.picture());
        self.run(put).await
    }

    /// Keeps that somebody is disabled, or no longer; `false` if they were never here.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn set_disabled(&self, user_id: &str, disabled: bool) -> Result<bool, StoreError> {
        let set = Statement::new(
            "UPDATE oauth_users SET disabled = $2, updated_at = now_ms() WHERE user_id = $1 RETURNING 1",
        );
        self.does(set.with(user_id).with(disabled)).await
    }

    /// Everybody who is disabled.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn disabled_users(&self) -> Result<Vec<Arc<str>>, StoreError> {
        let list = Statement::new("SELECT user_id FROM oauth_users WHERE disabled");
        self.query(list, |row| row.text(0)).await
    }

    /// Keeps that somebody has signed in, by another issuer than the one that says who they are.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn seen_user(&self, user_id: &Arc<str>) -> Result<(), StoreError> {
        let seen =
            Statement::new("UPDATE oauth_users SET last_login_at = now_ms() WHERE user_id = $1");
        self.run(seen.with(user_id)).await
    }

    /// A person.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn find_user(&self, user_id: &Arc<str>) -> Result<Option<User>, StoreError> {
        let find = Statement::new(
            "SELECT user_id, provider, email, name, avatar_url, last_login_at FROM oauth_users WHERE user_id = $1",
        );
        let found = self.query_one(find.with(user_id), |row| {
            Ok(User {
                user_id: row.text(0)?,
                provider: row.get(1)?,
                email: row.get(2)?,
                name: row.get(3)?,
                avatar_url: row.get(4)?,
                last_login_at: row.time(5)?,
            })
        });
        found.await
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{on_each_store, person};
    use super::*;

    #[tokio::test]
    async fn a_user_is_as_the_issuer_says_now() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            let alice: Arc<str> = "alice".into();
            assert!(store.find_user(&alice).await.unwrap().is_none());
            store.put_user(&person("alice")).await.unwrap();
            let named = person("alice").to_builder().name("Alice").build();
            store.put_user(&Arc::new(named)).await.unwrap();
            store.seen_user(&alice).await.unwrap();
            let user = store.find_user(&alice).await.unwrap().unwrap();
            assert_eq!(user.name.as_deref(), Some("Alice"));
            assert_eq!(user.email.as_deref(), Some("a@example.com"));
            assert_eq!(user.avatar_url, None);
            assert!(user.last_login_at <= store.time().await.unwrap());
        })
        .await;
    }

    #[tokio::test]
    async fn who_is_disabled_is_known() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            assert!(!store.set_disabled("alice", true).await.unwrap());
            store.put_user(&person("alice")).await.unwrap();
            assert!(store.set_disabled("alice", true).await.unwrap());
            assert_eq!(store.disabled_users().await.unwrap(), ["alice".into()]);
            assert!(store.set_disabled("alice", false).await.unwrap());
            assert!(store.disabled_users().await.unwrap().is_empty());
        })
        .await;
    }
}
