use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{IssuerTokens, Kind, Record, SealingKeys, StoreError};
use crate::Identity;

/// What is in the sealed part of a record.
#[derive(Deserialize, Serialize)]
pub(super) struct Content {
    identity: Person,
    /// The user agent of a session, the name of a personal access token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) label: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tokens: Option<IssuerTokens>,
}

/// An identity, without what the record says anyhow.
#[derive(Deserialize, Serialize)]
struct Person {
    issuer: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    email: Option<Box<str>>,
    #[serde(default)]
    email_verified: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    picture: Option<Box<str>>,
    #[serde(default)]
    groups: Vec<Box<str>>,
    #[serde(default)]
    roles: Vec<Box<str>>,
    #[serde(default)]
    scopes: Vec<Box<str>>,
    claims: Box<str>,
}

// === impl Content ===

impl Content {
    pub(super) fn new(identity: &Identity, label: Option<String>) -> Self {
        Self {
            identity: Person::new(identity),
            label,
            tokens: None,
        }
    }

    pub(super) fn set_identity(&mut self, identity: &Identity) {
        self.identity = Person::new(identity);
    }

    /// Seals it for this record: it opens in no other, nor in one that was made another user's.
    pub(super) fn seal(&self, keys: &SealingKeys, record: &Record) -> Result<Bytes, StoreError> {
        let plain = serde_json::to_vec(self).map(Zeroizing::new);
        let plain = plain.map_err(|_| StoreError::new("the record cannot be written"))?;
        let sealed = keys.seal(&purpose(record), &plain);
        if sealed.is_empty() {
            return Err(StoreError::new("the record cannot be sealed"));
        }
        Ok(sealed.into())
    }

    /// `None` if none of the keys has sealed it for this record.
    pub(super) fn open(keys: &SealingKeys, record: &Record) -> Option<Self> {
        let text = str::from_utf8(&record.data).ok()?;
        let plain = keys.open(&purpose(record), text).map(Zeroizing::new)?;
        serde_json::from_slice(&plain).ok()
    }

    pub(super) fn scopes(&self) -> &[Box<str>] {
        &self.identity.scopes
    }

    /// Begins the identity of a record's user.
    pub(super) fn identity(&self, record: &Record) -> crate::IdentityBuilder {
        let person = &self.identity;
        let mut identity =
            Identity::builder(Arc::clone(&person.issuer), Arc::clone(&record.subject))
                .provider(Arc::clone(&record.provider))
                .user_id(Arc::clone(&record.user_id))
                .groups(person.groups.iter().cloned())
                .roles(person.roles.iter().cloned())
                .scopes(person.scopes.iter().cloned())
                .claims(person.claims.clone());
        if let Some(email) = &person.email {
            identity = identity.email(email.clone(), person.email_verified);
        }
        if let Some(name) = &person.name {
            identity = identity.name(name.clone());
        }
        if let Some(picture) = &person.picture {
            identity = identity.picture(picture.clone());
        }
        if let Some(session_id) = &record.session_id {
            identity = identity.session_id(&**session_id);
        }
        identity
    }
}

/// All that a record says of whom it is. Each name has its length in front, so that no two records have one
/// purpose.
fn purpose(record: &Record) -> String {
    let kind = match record.kind {
        Kind::Session => "session",
        Kind::AccessToken => "access token",
    };
    let mut purpose = format!("record {} {kind}", record.key);
    let names = [
        Some(&record.user_id),
        Some(&record.provider),
        Some(&record.subject),
        record.session_id.as_ref(),
    ];
    for name in names {
        match name {
            Some(name) => purpose.push_str(&format!(" {}:{name}", name.len())),
            None => purpose.push_str(" -"),
        }
    }
    purpose
}

// === impl Person ===

impl Person {
    fn new(identity: &Identity) -> Self {
        Self {
            issuer: identity.issuer().into(),
            email: identity.email().map(Into::into),
            email_verified: identity.email_verified(),
            name: identity.name().map(Into::into),
            picture: identity.picture().map(Into::into),
            groups: identity.groups().to_vec(),
            roles: identity.roles().to_vec(),
            scopes: identity.scopes().to_vec(),
            claims: identity.claims().into(),
        }
    }
}

/// Times as whole seconds since 1970.
pub(super) mod seconds {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(
        at: &Option<SystemTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        at.map(|at| {
            at.duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs())
        })
        .serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        let seconds = Option::<u64>::deserialize(deserializer)?;
        Ok(seconds.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds))))
    }
}

/// A time as stores keep it: whole milliseconds.
pub(super) fn to_millis(at: SystemTime) -> SystemTime {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let rest = std::time::Duration::from_nanos(u64::from(since.subsec_nanos() % 1_000_000));
    at.checked_sub(rest).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::session::Key;

    fn record(kind: Kind, names: [&str; 3], session_id: Option<&str>) -> Record {
        Record {
            key: Key::from_bytes([1; 32]),
            kind,
            user_id: names[0].into(),
            provider: names[1].into(),
            subject: names[2].into(),
            session_id: session_id.map(Arc::from),
            created_at: SystemTime::UNIX_EPOCH,
            seen_at: SystemTime::UNIX_EPOCH,
            expires_at: SystemTime::UNIX_EPOCH,
            version: 0,
            data: Bytes::new(),
        }
    }

    #[test]
    fn d7_64_no_two_records_have_one_purpose() {
        let names = ["", "-", " -", "a", "a b", "1:a", "a 1:b", "b 0: -", "\0"];
        let mut purposes = HashSet::new();
        let mut made = 0;
        for kind in [Kind::Session, Kind::AccessToken] {
            for user in names {
                for provider in names {
                    for subject in names {
                        for session_id in names.map(Some).into_iter().chain([None]) {
                            let record = record(kind, [user, provider, subject], session_id);
                            purposes.insert(purpose(&record));
                            made += 1;
                        }
                    }
                }
            }
        }
        assert_eq!(purposes.len(), made);
    }
}
