use std::{
    error::Error,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use super::record::{Key, Kind, Record};
use crate::{AnswerFuture, CredentialKind, Identity};

/// What a [`Store`] answers with.
pub type StoreFuture<T> = AnswerFuture<Result<T, StoreError>>;

/// Keeps sessions and personal access tokens, for one server or for many that share it.
///
/// Object-safe: servers choose their store at run time. Every operation is atomic and is one round
/// trip. The `laws` module tests a store of one's own by the rules that are written here.
///
/// # Cancel safety
///
/// A future that is dropped may or may not have taken effect; never by half.
pub trait Store: Send + Sync + 'static {
    /// Keeps a new record.
    ///
    /// # Errors
    ///
    /// As all operations, [`StoreError`] if the store cannot do it; here also if the key is taken.
    fn insert(&self, record: Record) -> StoreFuture<()>;

    /// The record, unless it has expired or was ended.
    fn find(&self, key: Key) -> StoreFuture<Option<Record>>;

    /// Records that a credential is in use and until when it then lives. Both times only ever move
    /// forward. `false` if there is no such record.
    fn touch(&self, key: Key, seen_at: SystemTime, expires_at: SystemTime) -> StoreFuture<bool>;

    /// Replaces `data`, if its version is still `version`, adds one to the version, and ends the lease.
    /// `false` if it was replaced already, or there is no such record.
    fn replace(&self, key: Key, version: u64, data: Bytes) -> StoreFuture<bool>;

    /// Takes the lease on a record for `holder`, or renews it, for so long from now by the store's
    /// clock.
    fn lease(&self, key: Key, holder: u128, length: Duration) -> StoreFuture<Lease>;

    /// Gives the lease back if `holder` has it.
    fn release(&self, key: Key, holder: u128) -> StoreFuture<()>;

    /// The records of a user that have not expired, of one kind, the newest first, at most 1,000.
    fn list(&self, user_id: &str, kind: Kind) -> StoreFuture<Vec<Record>>;

    /// Forgets the records that this ends, and tells so to all who ask [`ended`](Self::ended). The
    /// number of records that were forgotten; that none was is no error: a token that no store has
    /// may be ended too.
    fn end(&self, what: End) -> StoreFuture<u64>;

    /// What was ended within the last `within`, by the store's clock, in any order; at least an hour
    /// is kept.
    fn ended(&self, within: Duration) -> StoreFuture<Vec<Ended>>;

    /// Says whether a user is disabled, and tells so as [`end`](Self::end) does. Disabling ends all
    /// their records.
    fn set_disabled(&self, user_id: &str, disabled: bool) -> StoreFuture<()>;

    /// All users that are disabled.
    fn disabled(&self) -> StoreFuture<Vec<Arc<str>>>;

    /// Marks something as used, until it would be of no use anyhow. `true` for the first who does.
    fn claim(&self, what: Key, until: SystemTime) -> StoreFuture<bool>;
}

/// What becomes of asking for the lease on a record. These three are all there are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lease {
    /// Nobody else had it.
    Granted,
    /// Another holder had it and let it run out: it has died, or is late, and what it began may not be over.
    TakenOver,
    /// Another holder has it, or there is no such record.
    Refused,
}

/// Something that was ended, as a [`Store`] tells it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Ended {
    /// Tells it from all else that was ended within the time that a store keeps it.
    pub id: u64,
    /// What.
    pub what: End,
}

/// What is ended.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum End {
    /// One credential: somebody signed out, or revoked a token.
    Key(Key),
    /// Everything of a user: sessions, personal access tokens, and connections, whatever they were opened
    /// with. A token of the issuer opens new ones as long as it is good.
    User(Arc<str>),
    /// A user was disabled: everything of theirs ends, and nothing new begins.
    Disabled(Arc<str>),
    /// A user was enabled again.
    Enabled(Arc<str>),
    /// The sessions that come from this one of the issuer (`sid`).
    IssuerSession {
        /// Short name of the issuer.
        provider: Arc<str>,
        /// The issuer's id of the session.
        session_id: Arc<str>,
    },
    /// All sessions of this user of the issuer (`sub`). Their personal access tokens stay.
    Subject {
        /// Short name of the issuer.
        provider: Arc<str>,
        /// The user's id there.
        subject: Arc<str>,
    },
}

/// A store cannot do what it was asked. The message is logged, so it must hold no secret.
#[derive(Debug)]
pub struct StoreError(Box<dyn Error + Send + Sync>);

// === impl Store ===

macro_rules! forward {
    ($($(#[$attribute:meta])* fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        impl<S: Store + ?Sized> Store for Arc<S> {
            $(fn $name(&self, $($argument: $type),*) -> StoreFuture<$answer> {
                (**self).$name($($argument),*)
            })*
        }
    };
}

forward! {
    fn insert(record: Record) -> ();
    fn find(key: Key) -> Option<Record>;
    fn touch(key: Key, seen_at: SystemTime, expires_at: SystemTime) -> bool;
    fn replace(key: Key, version: u64, data: Bytes) -> bool;
    fn lease(key: Key, holder: u128, length: Duration) -> Lease;
    fn release(key: Key, holder: u128) -> ();
    fn list(user_id: &str, kind: Kind) -> Vec<Record>;
    fn end(what: End) -> u64;
    fn ended(within: Duration) -> Vec<Ended>;
    fn set_disabled(user_id: &str, disabled: bool) -> ();
    fn disabled() -> Vec<Arc<str>>;
    fn claim(what: Key, until: SystemTime) -> bool;
}

// === impl Lease ===

impl Lease {
    /// Whether the holder that asked has the lease now.
    #[must_use]
    pub fn is_held(self) -> bool {
        self != Self::Refused
    }
}

// === impl End ===

impl End {
    /// Whether it ends this record. [`User`](Self::User) and [`Disabled`](Self::Disabled) end
    /// everything of the user, what is of an issuer ends sessions only.
    #[must_use]
    pub fn ends(&self, record: &Record) -> bool {
        let is_session = record.kind == Kind::Session;
        match self {
            Self::Key(key) => record.key == *key,
            Self::User(user_id) | Self::Disabled(user_id) => record.user_id == *user_id,
            Self::Enabled(_) => false,
            Self::IssuerSession {
                provider,
                session_id,
            } => {
                is_session
                    && record.provider == *provider
                    && record.session_id.as_ref() == Some(session_id)
            }
            Self::Subject { provider, subject } => {
                is_session && record.provider == *provider && record.subject == *subject
            }
        }
    }

    /// Whether it ends what this identity was verified by.
    #[must_use]
    pub fn ends_identity(&self, identity: &Identity) -> bool {
        match self {
            Self::Key(key) => {
                let id = identity.credential_id();
                id.and_then(Key::parse).is_some_and(|id| id == *key)
            }
            Self::User(user_id) | Self::Disabled(user_id) => identity.user_id() == user_id,
            Self::Enabled(_) => false,
            Self::IssuerSession {
                provider,
                session_id,
            } => identity.provider() == &**provider && identity.session_id() == Some(&**session_id),
            Self::Subject { provider, subject } => {
                let is_theirs = identity.provider() == &**provider && identity.subject() == subject;
                is_theirs && identity.kind() != CredentialKind::AccessToken
            }
        }
    }
}

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
impl End {
    /// As a table has it: what kind of end, and up to two names.
    pub(super) fn to_parts(&self) -> (&'static str, String, &str) {
        match self {
            Self::Key(key) => ("key", key.to_string(), ""),
            Self::User(user_id) => ("user", String::from(&**user_id), ""),
            Self::Disabled(user_id) => ("disabled", String::from(&**user_id), ""),
            Self::Enabled(user_id) => ("enabled", String::from(&**user_id), ""),
            Self::IssuerSession {
                provider,
                session_id,
            } => ("issuer_session", String::from(&**provider), session_id),
            Self::Subject { provider, subject } => ("subject", String::from(&**provider), subject),
        }
    }

    /// `None` if a later version has written something that this one does not know.
    pub(super) fn from_parts(kind: &str, a: Arc<str>, b: Arc<str>) -> Option<Self> {
        Some(match kind {
            "key" => Self::Key(Key::parse(&a)?),
            "user" => Self::User(a),
            "disabled" => Self::Disabled(a),
            "enabled" => Self::Enabled(a),
            "issuer_session" => Self::IssuerSession {
                provider: a,
                session_id: b,
            },
            "subject" => Self::Subject {
                provider: a,
                subject: b,
            },
            _ => return None,
        })
    }
}

// === impl StoreError ===

impl StoreError {
    /// An error with this cause.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the session store does not answer")
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}
