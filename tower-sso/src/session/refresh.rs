use std::{
    collections::HashMap,
    error::Error,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Instant, interval_at, sleep, timeout},
};

use super::{Content, End, IssuerTokens, Key, Lease, Record, Sessions, StoreError, random};
use crate::{AnswerFuture, Identity};

/// What a [`Refresh`] answers with.
pub type RefreshFuture = AnswerFuture<Result<Refreshed, RefreshError>>;

/// Gets new tokens of an issuer for a session whose access token is over.
///
/// However many requests need it, it is asked once for each session, over all servers that share the
/// store. Requests wait three seconds for it at most and go on with what there is then.
pub trait Refresh: Send + Sync + 'static {
    /// Gets new tokens. `identity` is whom the session is of.
    ///
    /// # Errors
    ///
    /// The future resolves to [`RefreshError::Refused`] if the issuer says that the session is over, and
    /// to [`RefreshError::Unavailable`] if it cannot be asked.
    fn refresh(&self, identity: &Identity, tokens: &IssuerTokens) -> RefreshFuture;
}

/// New tokens.
#[derive(Debug)]
#[non_exhaustive]
pub struct Refreshed {
    /// What the issuer says of the user now, if it says anything. Whose session it is cannot change.
    pub identity: Option<Identity>,
    /// The tokens. Without a refresh token or an ID token the earlier one stays.
    pub tokens: IssuerTokens,
}

/// Why there are no new tokens.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshError {
    /// The issuer refuses: the user has signed out there, or may do nothing any more.
    #[error("the issuer refuses to go on with the session")]
    Refused,
    /// The issuer does not answer, or answers nonsense. The session goes on.
    #[error("the issuer does not answer")]
    Unavailable,
}

/// Which sessions are being refreshed by this server; of each, whether that has ended.
#[derive(Debug, Default)]
pub(super) struct Renewals(Mutex<HashMap<Key, watch::Receiver<()>>>);

/// A refresh under way. However it ends, it ends in `drop`: who waits goes on even if the task is cancelled or
/// panics.
struct Renewal {
    renewals: Arc<Renewals>,
    key: Key,
    /// Its receivers see that it is dropped.
    _ended: watch::Sender<()>,
}

/// What has become of a record.
enum Change {
    None(Record, Content),
    Replaced(Record, Content),
    Gone,
}

/// How long a request waits for a refresh, before it goes on with what there is.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a lease lasts if its holder dies.
const LEASE: Duration = Duration::from_secs(10);

/// How often it is renewed while the issuer is asked.
const RENEW: Duration = Duration::from_secs(3);

/// How long is waited for another server's refresh: a lease, and some.
const OTHERS: Duration = Duration::from_secs(15);

/// How often is looked whether it is done.
const LOOK: Duration = Duration::from_millis(100);

/// When an issuer that did not answer is asked again.
const RETRY: Duration = Duration::from_secs(30);

/// How long new tokens are tried to be kept, and the pauses between, which double.
const KEEP: Duration = Duration::from_secs(60);
const KEEP_PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long another server may take to keep what it has, once the store is back: its longest pause, and some.
const OTHERS_KEEP: Duration = Duration::from_secs(7);

// === impl Refreshed ===

impl Refreshed {
    /// New tokens, and nothing new about the user.
    #[must_use]
    pub const fn new(tokens: IssuerTokens) -> Self {
        Self {
            identity: None,
            tokens,
        }
    }

    /// Adds what the issuer says of the user now.
    #[must_use]
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }
}

// === impl Sessions ===

impl Sessions {
    /// The record with tokens that are not over, if they can be had soon, or else as it is; `None` if the
    /// session is over.
    pub(super) async fn renewed(
        &self,
        record: Record,
        content: Content,
    ) -> Result<Option<(Record, Content)>, StoreError> {
        if !self.is_due(&content) {
            return Ok(Some((record, content)));
        }
        let (key, version) = (record.key, record.version);
        let mut ended = self.renewal(key, version);
        // An error says that the sender is gone: then it has ended.
        let _ = timeout(PATIENCE, ended.changed()).await;
        Ok(match self.changed(key, version).await? {
            Change::None(record, content) | Change::Replaced(record, content) => {
                Some((record, content))
            }
            Change::Gone => None,
        })
    }

    fn is_due(&self, content: &Content) -> bool {
        let refreshable = |tokens: &&IssuerTokens| tokens.refresh_token().is_some();
        let tokens = content.tokens.as_ref().filter(refreshable);
        let due = tokens.and_then(IssuerTokens::refresh_at);
        self.refresher().is_some() && due.is_some_and(|at| at <= self.now())
    }

    /// Begins to refresh the session, or joins the refresh under way at this server.
    ///
    /// It is a task of its own: most refresh tokens are good for one use, so what was begun has to be brought to
    /// an end, also when whoever waits for it leaves.
    fn renewal(&self, key: Key, version: u64) -> watch::Receiver<()> {
        let renewals = self.renewals();
        let mut under_way = renewals.lock();
        if let Some(ended) = under_way.get(&key) {
            return ended.clone();
        }
        let (sender, ended) = watch::channel(());
        under_way.insert(key, ended.clone());
        drop(under_way);
        let renewal = Renewal {
            renewals: Arc::clone(renewals),
            key,
            _ended: sender,
        };
        // Outside of a Tokio runtime nothing is refreshed.
        let Ok(runtime) = Handle::try_current() else {
            return ended;
        };
        let sessions = self.clone();
        runtime.spawn(async move {
            if let Err(error) = sessions.renew(key, version).await {
                tracing::warn!(
                    error = &error as &(dyn Error + 'static),
                    "a session was not refreshed"
                );
            }
            drop(renewal);
        });
        ended
    }

    /// Who has the lease asks the issuer. Who has it not waits until the record has changed or the lease is free,
    /// and ends nothing, whatever comes of it.
    async fn renew(&self, key: Key, version: u64) -> Result<(), StoreError> {
        let holder = u128::from_be_bytes(random()?);
        let patience = Instant::now() + OTHERS;
        let mut lease = self.store().lease(key, holder, LEASE).await?;
        while !lease.is_held() {
            sleep(LOOK).await;
            let is_as_it_was = matches!(self.changed(key, version).await?, Change::None(..));
            if !is_as_it_was || Instant::now() >= patience {
                return Ok(());
            }
            lease = self.store().lease(key, holder, LEASE).await?;
        }
        // Somebody may have been faster, and done already.
        match self.changed(key, version).await? {
            Change::None(record, content) => self.refresh(record, content, holder, lease).await,
            Change::Replaced(..) => self.store().release(key, holder).await,
            Change::Gone => Ok(()),
        }
    }

    /// Asks the issuer, under the lease.
    async fn refresh(
        &self,
        record: Record,
        mut content: Content,
        holder: u128,
        lease: Lease,
    ) -> Result<(), StoreError> {
        let (Some(refresher), Some(earlier)) = (self.refresher(), content.tokens.take()) else {
            return Ok(());
        };
        let key = record.key;
        let identity = content.identity(&record).build();
        let mut asked = pin!(refresher.refresh(&identity, &earlier));
        let mut renew = interval_at(Instant::now() + RENEW, RENEW);
        let answer = loop {
            tokio::select! {
                answer = &mut asked => break answer,
                _ = renew.tick() => {
                    // What is asked already cannot be taken back; a store that is slow for a moment is no reason to.
                    let _ = self.store().lease(key, holder, LEASE).await;
                }
            }
        };
        match answer {
            Ok(refreshed) => {
                if let Some(identity) = &refreshed.identity {
                    content.set_identity(identity);
                }
                content.tokens = Some(refreshed.tokens.or(&earlier));
                self.keep(&record, &content, holder).await
            }
            Err(RefreshError::Refused) => self.end_unless_kept(&record, lease).await,
            Err(RefreshError::Unavailable) => {
                tracing::warn!(
                    provider = &*record.provider,
                    "the issuer does not say whether a session goes on"
                );
                let later = self.now().checked_add(RETRY);
                content.tokens = Some(match later {
                    Some(later) => earlier.with_refresh_at(later),
                    None => earlier,
                });
                let data = content.seal(self.keys(), &record)?;
                self.store().replace(key, record.version, data).await?;
                Ok(())
            }
        }
    }

    /// Ends a session that the issuer refuses to go on with.
    ///
    /// A server that let the lease run out, because the store was away, may have new tokens that it could not keep yet,
    /// and then these are refused: it is given time to keep them.
    async fn end_unless_kept(&self, record: &Record, lease: Lease) -> Result<(), StoreError> {
        let patience = match lease {
            Lease::TakenOver => OTHERS_KEEP,
            Lease::Granted | Lease::Refused => Duration::ZERO,
        };
        let give_up = Instant::now() + patience;
        while let Change::None(..) = self.changed(record.key, record.version).await? {
            if Instant::now() >= give_up {
                return self.end(End::Key(record.key)).await.map(drop);
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Keeps new tokens, and does not give up at once if the store does not answer: the earlier ones are worth
    /// nothing any more.
    async fn keep(
        &self,
        record: &Record,
        content: &Content,
        holder: u128,
    ) -> Result<(), StoreError> {
        let data = content.seal(self.keys(), record)?;
        let give_up = Instant::now() + KEEP;
        let mut pause = KEEP_PAUSES.0;
        loop {
            let replaced = self
                .store()
                .replace(record.key, record.version, data.clone());
            match replaced.await {
                // Or it was replaced by somebody who took the lease for lost, or ended.
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= give_up => return Err(error),
                Err(_) => sleep(pause).await,
            }
            pause = KEEP_PAUSES.1.min(pause * 2);
            let _ = self.store().lease(record.key, holder, LEASE).await;
        }
    }

    async fn changed(&self, key: Key, version: u64) -> Result<Change, StoreError> {
        let Some(record) = self.store().find(key).await? else {
            return Ok(Change::Gone);
        };
        let Some(content) = Content::open(self.keys(), &record) else {
            return Ok(Change::Gone);
        };
        Ok(if record.version == version {
            Change::None(record, content)
        } else {
            Change::Replaced(record, content)
        })
    }
}

// === impl Renewals ===

impl Renewals {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, watch::Receiver<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Renewal ===

impl Drop for Renewal {
    fn drop(&mut self) {
        self.renewals.lock().remove(&self.key);
    }
}
