//! Who environments are for.

use std::sync::Arc;

use tower_sso::Identity;
use tower_workspace::fs::Person;

use super::error::{EnvironmentError, unavailable};
use super::shared::Shared;
use crate::password;
use crate::people::describes_user;

// === impl Shared ===

impl Shared {
    /// Who the environment is for, as the issuer says now or, where the credential is one of ours, has said at the sign-in
    /// behind it.
    pub(super) async fn person(
        &self,
        identity: &Arc<Identity>,
    ) -> Result<Person, EnvironmentError> {
        let is_fresh = identity.credential_id().is_none()
            && identity.issuer() != password::ISSUER
            && describes_user(identity);
        let mut known = None;
        if !is_fresh {
            let user = self.store.find_user(identity.user_id()).await;
            known = user.map_err(|error| unavailable("store", error))?;
        }
        let (name, email) = match known {
            Some(user) => (user.name, user.email),
            None => {
                let put = self.store.put_user(identity).await;
                put.map_err(|error| unavailable("store", error))?;
                (
                    identity.name().map(str::to_owned),
                    identity.email().map(str::to_owned),
                )
            }
        };
        Ok(described_person(identity.user_id(), name, email))
    }
}

pub(super) fn described_person(
    user_id: &Arc<str>,
    name: Option<String>,
    email: Option<String>,
) -> Person {
    let mut person = Person::new(Arc::clone(user_id));
    if let Some(name) = name {
        person = person.with_name(name);
    }
    if let Some(email) = email {
        person = person.with_email(email);
    }
    person
}
