//! Who the people of the issuers are here.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use tower_sso::{Identity, Verify, VerifyFuture};

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
    /// The links that the store has. `by_email` are the issuers whose people are linked by their verified address.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn load(
        store: Store,
        primary: &str,
        by_email: Vec<String>,
    ) -> Result<Self, StoreError> {
        let links = store.links().await?;
        let links = links
            .into_iter()
            .map(|link| ((link.provider, link.subject), link.user_id))
            .collect();
        Ok(Self(Arc::new(Inner {
            store,
            primary: primary.into(),
            by_email,
            links: RwLock::new(links),
        })))
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
        let mut links = self.0.links.write().unwrap_or_else(PoisonError::into_inner);
        links.insert((link.provider, link.subject), link.user_id);
        Ok(true)
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

// === impl Linked ===

impl<V: Verify> Linked<V> {
    /// A verifier that asks `verifier`.
    pub fn new(people: People, verifier: V) -> Self {
        Self { people, verifier }
    }
}

impl<V: Verify> Verify for Linked<V> {
    fn verify(&self, token: &str) -> VerifyFuture {
        let people = self.people.clone();
        self.verifier
            .verify(token)
            .map(move |verdict| verdict.map(|identity| people.known(identity)))
    }
}
