use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use thiserror::Error;
use zeroize::Zeroizing;

use super::{
    Content, End, Key, Kind, Record, SealingKeys, Store, StoreError, content::to_millis, random,
    seal::CHECK_LEN, sessions::shorten, turns::Turns,
};
use crate::{
    CredentialKind, Identity, Reason, Verdicts, Verify, VerifyError, VerifyFuture,
    jwt::{Clock, SystemClock},
    verdicts::{Era, TokenHash},
};

/// Personal access tokens: for programs of a user, shown once, named, scoped, and ended by time or at
/// will.
///
/// A token is the prefix and 36 bytes in base64url: 32 random ones, and 4 that tell a mistyped or made-up token
/// without a question to the store, by a key of the sealing keys'. The store has its SHA-256. An identity that a token gives has the
/// scopes of the token, and neither groups nor roles. A user has 50 at most, however many are asked for at
/// once. Cheap to clone; clones share everything.
#[derive(Clone)]
#[must_use = "access tokens do nothing until they verify"]
pub struct AccessTokens(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    store: Arc<dyn Store>,
    keys: SealingKeys,
    prefix: Box<str>,
    verdicts: Verdicts,
    era: Era,
    clock: Arc<dyn Clock>,
    turns: Turns,
}

/// A personal access token, without its secret.
#[derive(Clone)]
pub struct AccessToken {
    record: Record,
    name: String,
    scopes: Vec<Box<str>>,
}

/// Why no token is issued.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The name is empty.
    #[error("the name is empty")]
    Name,
    /// The lifetime is not one day to 365 days.
    #[error("the lifetime is not one day to 365 days")]
    Lifetime,
    /// The user has 50 tokens.
    #[error("there are 50 tokens already")]
    TooMany,
    /// The store cannot keep it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Most tokens of one user.
const MAX_TOKENS: usize = 50;

/// How long a token may live.
const LIFETIMES: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(86_400)..=Duration::from_secs(365 * 86_400);

/// How often it is recorded that a token is in use.
const TOUCH: Duration = Duration::from_secs(60);

/// What the check of a token is for.
const CHECKED: &str = "access token";

// === impl AccessTokens ===

impl AccessTokens {
    /// Tokens in this store, sealed with these keys.
    pub fn new(store: Arc<dyn Store>, keys: SealingKeys) -> Self {
        Self(Arc::new(Inner {
            store,
            keys,
            prefix: "pat_".into(),
            verdicts: Verdicts::default(),
            era: Era::new(),
            clock: Arc::new(SystemClock),
            turns: Turns::new(),
        }))
    }

    /// Sets how every token begins, so that people and secret scanners know one when they see it.
    /// Default: `pat_`.
    pub fn prefix(self, prefix: &str) -> Self {
        self.with(|inner| inner.prefix = prefix.into())
    }

    /// Shares the verdicts of other verifiers. Default: its own.
    pub fn verdicts(self, verdicts: Verdicts) -> Self {
        self.with(|inner| inner.verdicts = verdicts)
    }

    /// Sets the clock. Default: the system's.
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        self.with(|inner| inner.clock = clock)
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Issues a token for a user. The secret is in this answer and nowhere else.
    ///
    /// # Errors
    ///
    /// Any [`IssueError`]; nothing is issued then.
    pub async fn issue(
        &self,
        identity: &Identity,
        name: &str,
        scopes: &[String],
        lifetime: Duration,
    ) -> Result<(Zeroizing<String>, AccessToken), IssueError> {
        let name = shorten(name.trim());
        if name.is_empty() {
            return Err(IssueError::Name);
        }
        if !LIFETIMES.contains(&lifetime) {
            return Err(IssueError::Lifetime);
        }
        let keys = &self.0.keys;
        let secret = self.0.token(&Zeroizing::new(random::<32>()?));
        let key = Key::of_secret(secret.as_bytes());
        let now = to_millis(self.0.clock.now());
        let stripped = identity
            .to_builder()
            .scopes(scopes.iter().map(String::as_str))
            .groups([] as [&str; 0])
            .roles([] as [&str; 0])
            .claims("{}")
            .build();
        let content = Content::new(&stripped, Some(name.clone()));
        let mut record = Record {
            key,
            kind: Kind::AccessToken,
            user_id: Arc::clone(identity.user_id()),
            provider: identity.provider().into(),
            subject: Arc::clone(identity.subject()),
            session_id: None,
            created_at: now,
            seen_at: now,
            expires_at: now.checked_add(lifetime).ok_or(IssueError::Lifetime)?,
            version: 0,
            data: Bytes::new(),
        };
        record.data = content.seal(keys, &record)?;
        self.insert(&record).await?;
        let scopes = content.scopes().to_vec();
        let token = AccessToken {
            record,
            name,
            scopes,
        };
        Ok((secret, token))
    }

    /// However many come at once, at however many servers, there are not too many.
    async fn insert(&self, record: &Record) -> Result<(), IssueError> {
        let Inner { store, turns, .. } = &*self.0;
        // Most of those who have too many are told so without a turn.
        self.have_room(record).await?;
        let turn = turns.take(&**store, &record.user_id).await?;
        let inserted = async {
            self.have_room(record).await?;
            if !turn.is_good() {
                return Err(StoreError::new("the store is too slow").into());
            }
            Ok(store.insert(record.clone()).await?)
        };
        let inserted = inserted.await;
        turn.end(&**store).await;
        inserted
    }

    async fn have_room(&self, record: &Record) -> Result<(), IssueError> {
        let held = self.0.store.list(&record.user_id, record.kind).await?;
        match held.len() {
            ..MAX_TOKENS => Ok(()),
            _ => Err(IssueError::TooMany),
        }
    }

    /// The tokens of a user that have not expired, the newest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store does not answer.
    pub async fn list(&self, user_id: &str) -> Result<Vec<AccessToken>, StoreError> {
        let Inner { store, keys, .. } = &*self.0;
        let records = store.list(user_id, Kind::AccessToken).await?;
        let tokens = records.into_iter().filter_map(|record| {
            let content = Content::open(keys, &record)?;
            Some(AccessToken {
                name: content.label.clone().unwrap_or_default(),
                scopes: content.scopes().to_vec(),
                record,
            })
        });
        Ok(tokens.collect())
    }

    /// Says whether the token of an identity still is, for connections that outlive a request. An identity without one
    /// is not asked about.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store does not answer.
    pub async fn still_is(&self, identity: &Identity) -> Result<bool, StoreError> {
        let key = identity.credential_id().and_then(Key::parse);
        let key = key.filter(|_| identity.kind() == CredentialKind::AccessToken);
        let Some(key) = key else {
            return Ok(true);
        };
        let record = self.0.store.find(key).await?;
        let now = self.0.clock.now();
        Ok(record.is_some_and(|is| is.kind == Kind::AccessToken && now < is.expires_at))
    }

    /// Revokes a token of this user's own. `false` if there is none of that id.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store does not answer: it may be in force still.
    pub async fn revoke(&self, user_id: &str, id: &str) -> Result<bool, StoreError> {
        let Some(key) = Key::parse(id) else {
            return Ok(false);
        };
        let Inner {
            store, verdicts, ..
        } = &*self.0;
        let record = store.find(key).await?;
        let is_own =
            |record: &Record| record.kind == Kind::AccessToken && *record.user_id == *user_id;
        if !record.as_ref().is_some_and(is_own) {
            return Ok(false);
        }
        let what = End::Key(key);
        store.end(what.clone()).await?;
        verdicts.forget(|identity| what.ends_identity(identity));
        Ok(true)
    }
}

impl Verify for AccessTokens {
    fn verify(&self, token: &str) -> VerifyFuture {
        let Inner {
            verdicts,
            era,
            clock,
            ..
        } = &*self.0;
        let tokens = Arc::clone(&self.0);
        let ask = || {
            tokens.check(token)?;
            let key = Key::of_secret(token.as_bytes());
            Ok(async move {
                match tokens.look_up(key).await {
                    Ok(Some(identity)) => Ok(identity),
                    Ok(None) => Err(VerifyError::Invalid(Reason::Unknown)),
                    Err(error) => {
                        tracing::warn!(
                            error = &error as &(dyn std::error::Error + 'static),
                            "an access token could not be looked up"
                        );
                        Err(VerifyError::Unavailable)
                    }
                }
            })
        };
        let hash = TokenHash::new(token);
        verdicts.get_or_ask(hash, era, clock.now(), Duration::ZERO, ask)
    }
}

impl fmt::Debug for AccessTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessTokens")
            .field("prefix", &self.0.prefix)
            .finish_non_exhaustive()
    }
}

// === impl Inner ===

impl Inner {
    fn token(&self, secret: &[u8; 32]) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(secret.to_vec());
        bytes.extend_from_slice(&self.keys.check(CHECKED, secret));
        let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(&*bytes));
        Zeroizing::new(format!("{}{}", self.prefix, *text))
    }

    /// Refuses what cannot be a token of ours.
    fn check(&self, token: &str) -> Result<(), Reason> {
        let text = token.strip_prefix(&*self.prefix).ok_or(Reason::Malformed)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map(Zeroizing::new);
        let bytes = bytes.map_err(|_| Reason::Malformed)?;
        let parts = bytes.split_last_chunk::<CHECK_LEN>();
        let (secret, check) = parts.ok_or(Reason::Malformed)?;
        let secret: &[u8; 32] = secret.try_into().map_err(|_| Reason::Malformed)?;
        self.keys
            .is_check(CHECKED, secret, check)
            .then_some(())
            .ok_or(Reason::Malformed)
    }

    async fn look_up(&self, key: Key) -> Result<Option<Arc<Identity>>, StoreError> {
        let Some(record) = self.store.find(key).await? else {
            return Ok(None);
        };
        let now = self.clock.now();
        if record.kind != Kind::AccessToken || now >= record.expires_at {
            return Ok(None);
        }
        let Some(content) = Content::open(&self.keys, &record) else {
            return Ok(None);
        };
        let age = now.duration_since(record.seen_at).unwrap_or_default();
        let first = record.seen_at == record.created_at;
        if first || age >= TOUCH {
            // Another time than that of its making says that it was used.
            let used_at = record.created_at.checked_add(Duration::from_millis(1));
            let seen_at = to_millis(now).max(used_at.unwrap_or(now));
            match self.store.touch(key, seen_at, record.expires_at).await {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                // The token is there, and its life does not depend on this.
                Err(error) => tracing::warn!(
                    error = &error as &(dyn std::error::Error + 'static),
                    "it was not kept that an access token is in use"
                ),
            }
        }
        let identity = content
            .identity(&record)
            .credential(CredentialKind::AccessToken, key.to_string())
            .expires_at(record.expires_at);
        Ok(Some(Arc::new(identity.build())))
    }
}

// === impl AccessToken ===

impl AccessToken {
    /// Its id, which revokes it. No secret.
    #[must_use]
    pub fn id(&self) -> String {
        self.record.key.to_string()
    }

    /// What the user calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it allows.
    #[must_use]
    pub fn scopes(&self) -> &[Box<str>] {
        &self.scopes
    }

    /// When it was issued.
    #[must_use]
    pub const fn created_at(&self) -> SystemTime {
        self.record.created_at
    }

    /// When it was last used, to the minute; `None`: never.
    #[must_use]
    pub fn last_used_at(&self) -> Option<SystemTime> {
        let Record {
            seen_at,
            created_at,
            ..
        } = self.record;
        (seen_at != created_at).then_some(seen_at)
    }

    /// When it ends.
    #[must_use]
    pub const fn expires_at(&self) -> SystemTime {
        self.record.expires_at
    }
}

/// `Debug` shows no personal data.
impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("key", &self.record.key)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}
