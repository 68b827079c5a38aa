//! Who the people of the issuers are here.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use futures_util::FutureExt;
use tower_sso::{Identity, Verify, VerifyFuture};

use crate::follow::{Hearing, follow};
use crate::store::{Link, Store, StoreError};

/// What a link made by an e-mail address is said to be made by.
const BY_EMAIL: &str = "verified-email";

/// Links between people of other issuers and users here; clones share them.
#[derive(Clone, Debug)]
pub struct People(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    /// The primary issuer's alias: its people are who they are.
    primary: Arc<str>,
    /// Issuers whose word on an e-mail address counts.
    by_email: Vec<String>,
    links: RwLock<Links>,
}

/// User ids here, by alias of the issuer and id there.
type Links = HashMap<(Arc<str>, Arc<str>), Arc<str>>;

/// Verifies tokens, and says who their people are here.
#[derive(Debug)]
pub struct Linked<V> {
    people: People,
    verifier: V,
}

/// Whether an identity is the user's own, and not that of another issuer that is linked to them: only then what it says
/// describes the user.
#[must_use]
pub fn describes_user(identity: &Identity) -> bool {
    let user_id = identity.user_id();
    user_id == identity.subject()
        || user_id
            .strip_prefix(identity.provider())
            .and_then(|rest| rest.strip_prefix('|'))
            == Some(&**identity.subject())
}

// === impl People ===

impl People {
    /// The links that the store has. `by_email` are the issuers whose people are linked by their verified address. If the
    /// store is shared, the links that others make are heard as long as these are used, in a task of the current runtime.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn load(
        store: Store,
        primary: &str,
        by_email: Vec<String>,
    ) -> Result<Self, StoreError> {
        let since = store.time().await?;
        let links = store.links().await?;
        let people = Self(Arc::new(Inner {
            store: store.clone(),
            primary: primary.into(),
            by_email,
            links: RwLock::default(),
        }));
        people.0.learn(links);
        if store.is_shared() {
            let known = Arc::downgrade(&people.0);
            tokio::spawn(follow(store, since, known, hear));
        }
        Ok(people)
    }

    /// Links somebody of another issuer to a user here. `false` if there is no such user.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn link(&self, link: Link, linked_by: &str) -> Result<bool, StoreError> {
        if !self.0.store.link(link.clone(), linked_by).await? {
            return Ok(false);
        }
        self.0.learn([link]);
        Ok(true)
    }

    /// The user that somebody of another issuer is linked to.
    #[must_use]
    pub fn linked(&self, provider: &Arc<str>, subject: &Arc<str>) -> Option<Arc<str>> {
        let links = self.0.links.read().unwrap_or_else(PoisonError::into_inner);
        links
            .get(&(Arc::clone(provider), Arc::clone(subject)))
            .cloned()
    }

    /// Forgets who of other issuers is this user, whom the store has forgotten.
    pub fn forget(&self, user_id: &str) {
        let mut links = self.0.links.write().unwrap_or_else(PoisonError::into_inner);
        links.retain(|_, linked| **linked != *user_id);
    }

    /// Who somebody is here who has just signed in: linked before, or now by their e-mail address, or a user of their
    /// own. It is kept that they were here.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn sign_in(&self, identity: Arc<Identity>) -> Result<Arc<Identity>, StoreError> {
        let known = self.known(Arc::clone(&identity));
        let may_link = known.user_id() == identity.user_id()
            && self
                .0
                .by_email
                .iter()
                .any(|alias| alias == identity.provider());
        let mut found = None;
        if may_link {
            let store = &self.0.store;
            found = store
                .find_by_verified_email(&identity, &self.0.primary)
                .await?;
        }
        let Some(user_id) = found else {
            match describes_user(&known) {
                true => self.0.store.put_user(&known).await?,
                false => self.0.store.seen_user(known.user_id()).await?,
            }
            return Ok(known);
        };
        let link = Link::new(identity.provider(), Arc::clone(identity.subject()), user_id);
        self.0.store.seen_user(&link.user_id).await?;
        self.link(link, BY_EMAIL).await?;
        Ok(self.known(identity))
    }

    /// Who somebody is here, as far as it is known.
    #[must_use]
    pub fn known(&self, identity: Arc<Identity>) -> Arc<Identity> {
        if identity.provider() == &*self.0.primary {
            return identity;
        }
        let links = self.0.links.read().unwrap_or_else(PoisonError::into_inner);
        if links.is_empty() {
            return identity;
        }
        let of = (identity.provider().into(), Arc::clone(identity.subject()));
        match links.get(&of) {
            Some(user_id) => Arc::new(identity.to_builder().user_id(Arc::clone(user_id)).build()),
            None => identity,
        }
    }
}

// === impl Inner ===

impl Inner {
    fn learn(&self, new: impl IntoIterator<Item = Link>) {
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        links.extend(
            new.into_iter()
                .map(|link| ((link.provider, link.subject), link.user_id)),
        );
    }
}

/// Learns what other gateways have linked.
fn hear(store: Store, since: SystemTime, known: Arc<Inner>) -> Hearing {
    async move {
        known.learn(store.links_since(since).await?);
        Ok(())
    }
    .boxed()
}

// === impl Linked ===

impl<V: Verify> Linked<V> {
    /// A verifier that asks `verifier`.
    pub fn new(people: People, verifier: V) -> Self {
        Self { people, verifier }
    }
}

impl<V: Verify> Verify for Linked<V> {
    fn verify(&self, token: &str) -> VerifyFuture {
        self.verify_from(token, None)
    }

    fn verify_from(&self, token: &str, address: Option<IpAddr>) -> VerifyFuture {
        let people = self.people.clone();
        self.verifier
            .verify_from(token, address)
            .map(move |verdict| verdict.map(|identity| people.known(identity)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::store::testing::{Database, person};

    #[tokio::test]
    async fn a_link_that_another_gateway_makes_is_heard_of() {
        let Some(database) = Database::new().await else {
            return;
        };
        let (here, there) = (database.store().await, database.store().await);
        let people = People::load(here.clone(), "corp", Vec::new());
        let people = people.await.unwrap();
        there.put_user(&person("alice")).await.unwrap();
        let link = Link::new("github", "7", "alice");
        assert!(there.link(link, "admin").await.unwrap());
        let guest = Identity::builder("https://github.example", "7").provider("github");
        let guest = Arc::new(guest.user_id("github|7").build());
        hear(here, UNIX_EPOCH, Arc::clone(&people.0)).await.unwrap();
        assert_eq!(&**people.known(guest).user_id(), "alice");
        database.end().await;
    }
}
