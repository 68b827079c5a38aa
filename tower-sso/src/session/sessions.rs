use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use super::{
    Content, End, IssuerTokens, Key, Kind, Record, Refresh, SealingKeys, Store, StoreError,
    content::to_millis, random, refresh::Renewals,
};
use crate::{
    CredentialKind, Identity, Reason, Verdicts, Verify, VerifyError, VerifyFuture,
    jwt::{Clock, SystemClock},
    verdicts::{Era, TokenHash},
};

/// Sessions of browsers, kept by a store and named by a sealed cookie.
///
/// As a [`Verify`] it takes the cookie's value for a token: give it to
/// [`SsoLayer`](crate::SsoLayer) with [`SessionCookie`](super::SessionCookie) or
/// [`BearerOrCookie`](super::BearerOrCookie) as the source. A cookie that was tampered with is refused
/// without a question to the store. Cheap to clone; clones share everything.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use tower_sso::{SsoLayer, session::{MemoryStore, SealingKeys, SessionCookie, Sessions}};
///
/// # fn example(key: [u8; 32]) -> Result<(), Box<dyn std::error::Error>> {
/// let sessions = Sessions::new(Arc::new(MemoryStore::new()), SealingKeys::new([key])?);
/// let layer = SsoLayer::new(Arc::new(sessions)).source(SessionCookie::new());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "sessions do nothing until they verify"]
pub struct Sessions(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    store: Arc<dyn Store>,
    keys: SealingKeys,
    idle: Duration,
    lifetime: Duration,
    verdicts: Verdicts,
    era: Era,
    refresher: Option<Arc<dyn Refresh>>,
    renewals: Arc<Renewals>,
    clock: Arc<dyn Clock>,
}

/// A session that was opened.
#[non_exhaustive]
pub struct Opened {
    /// The cookie's value, for [`SessionCookie::set`](super::SessionCookie::set). Whoever has it is
    /// the user.
    pub cookie_value: String,
    /// Names the session.
    pub key: Key,
    /// When it ends at the latest.
    pub expires_at: SystemTime,
}

/// A session, to be shown to its owner or an administrator.
#[derive(Clone)]
pub struct Session {
    record: Record,
    label: Option<String>,
}

const COOKIE: &str = "session cookie";

/// How often it is recorded that a session is in use.
const TOUCH: Duration = Duration::from_secs(60);

/// The longest label that is kept, in bytes: user agents have some hundreds.
const MAX_LABEL: usize = 256;

// === impl Sessions ===

impl Sessions {
    /// Sessions in this store, sealed with these keys.
    pub fn new(store: Arc<dyn Store>, keys: SealingKeys) -> Self {
        Self(Arc::new(Inner {
            store,
            keys,
            idle: Duration::from_secs(12 * 3_600),
            lifetime: Duration::from_secs(7 * 86_400),
            verdicts: Verdicts::default(),
            era: Era::new(),
            refresher: None,
            renewals: Arc::default(),
            clock: Arc::new(SystemClock),
        }))
    }

    /// Sets how long a session lives that is not used. Default: 12 hours.
    pub fn idle(self, idle: Duration) -> Self {
        self.with(|inner| inner.idle = idle)
    }

    /// Sets how long a session lives at most. Default: 7 days.
    pub fn lifetime(self, lifetime: Duration) -> Self {
        self.with(|inner| inner.lifetime = lifetime)
    }

    /// Shares the verdicts of other verifiers. Default: its own.
    pub fn verdicts(self, verdicts: Verdicts) -> Self {
        self.with(|inner| inner.verdicts = verdicts)
    }

    /// Says who gets new tokens when the access token of a session is over. Default: nobody does, and
    /// the session goes on without.
    pub fn refresh_with(self, refresher: Arc<dyn Refresh>) -> Self {
        self.with(|inner| inner.refresher = Some(refresher))
    }

    /// Sets the clock. Default: the system's.
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        self.with(|inner| inner.clock = clock)
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Opens a session for whom an issuer has just named. `label` is shown to who lists their sessions,
    /// such as the user agent.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot keep it, or there is no randomness to be had.
    pub async fn open(
        &self,
        identity: &Identity,
        tokens: Option<IssuerTokens>,
        label: Option<&str>,
    ) -> Result<Opened, StoreError> {
        let secret: [u8; 32] = random()?;
        let key = Key::of_secret(&secret);
        let mut content = Content::new(identity, label.map(shorten));
        content.tokens = tokens;
        let now = to_millis(self.now());
        let expires_at = self.end_of(now)?;
        let mut record = Record {
            key,
            kind: Kind::Session,
            user_id: Arc::clone(identity.user_id()),
            provider: identity.provider().into(),
            subject: Arc::clone(identity.subject()),
            session_id: identity.session_id().map(Into::into),
            created_at: now,
            seen_at: now,
            expires_at: self.idle_end(now, now)?,
            version: 0,
            data: Bytes::new(),
        };
        record.data = content.seal(self.keys(), &record)?;
        let cookie_value = self.keys().seal(COOKIE, &secret);
        if cookie_value.is_empty() {
            return Err(StoreError::new("the cookie cannot be sealed"));
        }
        self.store().insert(record).await?;
        Ok(Opened {
            cookie_value,
            key,
            expires_at,
        })
    }

    /// The sessions of a user, the newest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store does not answer.
    pub async fn list(&self, user_id: &str) -> Result<Vec<Session>, StoreError> {
        let records = self.store().list(user_id, Kind::Session).await?;
        let labelled = records.into_iter().filter_map(|record| {
            let label = Content::open(self.keys(), &record)?.label;
            Some(Session { record, label })
        });
        Ok(labelled.collect())
    }

    /// Ends sessions, here at once and at every server that shares the store as soon as its
    /// [`Endings`](super::Endings) hear of it. The number of records that were ended.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store does not answer: nothing may have ended.
    pub async fn end(&self, what: End) -> Result<u64, StoreError> {
        let ended = self.store().end(what.clone()).await?;
        self.0
            .verdicts
            .forget(|identity| what.ends_identity(identity));
        Ok(ended)
    }

    /// The tokens of the issuer that a session was opened with, if it still is.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store does not answer.
    pub async fn tokens(&self, identity: &Identity) -> Result<Option<IssuerTokens>, StoreError> {
        match key_of(identity) {
            Some(key) => Ok(self.tokens_of(key).await?.and_then(|(_, tokens)| tokens)),
            None => Ok(None),
        }
    }

    /// The alias of the issuer that a session is of, and its tokens, if the session still is.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store does not answer.
    pub async fn tokens_of(
        &self,
        key: Key,
    ) -> Result<Option<(Arc<str>, Option<IssuerTokens>)>, StoreError> {
        let record = self.store().find(key).await?;
        let record = record.filter(|record| record.kind == Kind::Session);
        Ok(record.and_then(|record| {
            let tokens = Content::open(self.keys(), &record)?.tokens;
            Some((record.provider, tokens))
        }))
    }

    /// Says whether the session of an identity still is, for connections that outlive a request. `used`
    /// says that something was done since the last time: it keeps the session from ending for want of
    /// use. An identity without a session is not asked about.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store does not answer.
    pub async fn still_is(&self, identity: &Identity, used: bool) -> Result<bool, StoreError> {
        match key_of(identity) {
            Some(key) => Ok(self.look_up(key, used).await?.is_some()),
            None => Ok(true),
        }
    }

    /// How long a session lives at most.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.0.lifetime
    }

    /// The session that a cookie's value names, whether there is one or not; `None` if it was not sealed
    /// here.
    #[must_use]
    pub fn key_of(&self, cookie_value: &str) -> Option<Key> {
        let secret = self.keys().open(COOKIE, cookie_value)?;
        Some(Key::of_secret(&secret))
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.0.store
    }

    pub(super) fn keys(&self) -> &SealingKeys {
        &self.0.keys
    }

    pub(super) fn refresher(&self) -> Option<&dyn Refresh> {
        self.0.refresher.as_deref()
    }

    pub(super) fn renewals(&self) -> &Arc<Renewals> {
        &self.0.renewals
    }

    pub(super) fn now(&self) -> SystemTime {
        self.0.clock.now()
    }

    async fn look_up(&self, key: Key, used: bool) -> Result<Option<Arc<Identity>>, StoreError> {
        let Some(record) = self.store().find(key).await? else {
            return Ok(None);
        };
        let now = self.now();
        let end = self.end_of(record.created_at)?;
        if now >= end || record.kind != Kind::Session {
            return Ok(None);
        }
        let Some(content) = Content::open(self.keys(), &record) else {
            return Ok(None);
        };
        let age = now.duration_since(record.seen_at).unwrap_or_default();
        if used && age >= TOUCH {
            let seen_at = to_millis(now);
            let expires_at = self.idle_end(record.created_at, seen_at)?;
            match self.store().touch(key, seen_at, expires_at).await {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                // The session is there; a store that can only be read for a while signs nobody out.
                Err(error) => tracing::warn!(
                    error = &error as &(dyn std::error::Error + 'static),
                    "it was not kept that a session is in use"
                ),
            }
        }
        let Some((record, content)) = self.renewed(record, content).await? else {
            return Ok(None);
        };
        let identity = content
            .identity(&record)
            .credential(CredentialKind::Session, key.to_string())
            .expires_at(end);
        Ok(Some(Arc::new(identity.build())))
    }

    /// When a session that was opened then ends at the latest.
    fn end_of(&self, created_at: SystemTime) -> Result<SystemTime, StoreError> {
        created_at
            .checked_add(self.0.lifetime)
            .ok_or_else(|| StoreError::new("the lifetime is beyond all times"))
    }

    /// When it ends if it is not used again.
    fn idle_end(
        &self,
        created_at: SystemTime,
        seen_at: SystemTime,
    ) -> Result<SystemTime, StoreError> {
        let end = self.end_of(created_at)?;
        Ok(seen_at
            .checked_add(self.0.idle)
            .map_or(end, |idle| idle.min(end)))
    }
}

impl Verify for Sessions {
    fn verify(&self, token: &str) -> VerifyFuture {
        let Inner { verdicts, era, .. } = &*self.0;
        let sessions = self.clone();
        let ask = || {
            let key = sessions.key_of(token).ok_or(Reason::Malformed)?;
            Ok(async move {
                match sessions.look_up(key, true).await {
                    Ok(Some(identity)) => Ok(identity),
                    Ok(None) => Err(VerifyError::Invalid(Reason::Unknown)),
                    Err(error) => {
                        tracing::warn!(
                            error = &error as &(dyn std::error::Error + 'static),
                            "a session could not be looked up"
                        );
                        Err(VerifyError::Unavailable)
                    }
                }
            })
        };
        verdicts.get_or_ask(TokenHash::new(token), era, self.now(), Duration::ZERO, ask)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("keys", &self.0.keys)
            .field("idle", &self.0.idle)
            .field("lifetime", &self.0.lifetime)
            .finish_non_exhaustive()
    }
}

/// The session that an identity was verified by.
fn key_of(identity: &Identity) -> Option<Key> {
    let id = identity.credential_id()?;
    Key::parse(id).filter(|_| identity.kind() == CredentialKind::Session)
}

/// At most [`MAX_LABEL`] bytes, and no control characters: it is shown to people.
pub(super) fn shorten(label: &str) -> String {
    let mut short = String::new();
    for c in label.chars().filter(|c| !c.is_control()) {
        if short.len() + c.len_utf8() > MAX_LABEL {
            break;
        }
        short.push(c);
    }
    short
}

// === impl Opened ===

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

// === impl Session ===

impl Session {
    /// Its id, which ends it: [`Key::parse`] and [`End::Key`]. No secret.
    #[must_use]
    pub fn id(&self) -> String {
        self.record.key.to_string()
    }

    /// Names it.
    #[must_use]
    pub const fn key(&self) -> Key {
        self.record.key
    }

    /// The short name of the issuer that signed the user in.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.record.provider
    }

    /// What it was labelled with.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// When it was opened.
    #[must_use]
    pub const fn created_at(&self) -> SystemTime {
        self.record.created_at
    }

    /// When it was last used, to the minute.
    #[must_use]
    pub const fn seen_at(&self) -> SystemTime {
        self.record.seen_at
    }

    /// When it ends if it is not used again.
    #[must_use]
    pub const fn expires_at(&self) -> SystemTime {
        self.record.expires_at
    }
}

/// `Debug` shows no personal data.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("key", &self.record.key)
            .finish_non_exhaustive()
    }
}
