use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use super::{
    admit::{Admit, AdmitError, Occasion},
    error::LoginError,
    exchange::{ExchangeError, Grant, Tokens, exchange},
    failure::Failure,
    id_token::{Belongs, IdTokens},
    metadata::Metadata,
    pending::Pending,
    provider::Provider,
    provider_kind::Issuer,
    registration::{Registration, Who},
};
use crate::{
    HttpClient, Identity,
    jwt::{Clock, SystemClock},
    session::IssuerTokens,
};

/// The providers people sign in with: for [`Login`](super::Login), and as the
/// [`Refresh`](crate::session::Refresh) of [`Sessions`](crate::session::Sessions).
///
/// Nothing is asked of a provider before somebody signs in with it. Cheap to clone; clones share what
/// they know of the providers.
#[derive(Clone)]
pub struct Providers {
    pub(super) client: Arc<dyn HttpClient>,
    pub(super) registrations: Arc<[Registration]>,
    pub(super) clock: Arc<dyn Clock>,
    admit: Option<Arc<dyn Admit>>,
    slots: Arc<Semaphore>,
}

/// Whom to ask, where, and until when.
pub(super) struct Ask<'a> {
    pub(super) registration: &'a Registration,
    pub(super) metadata: &'a Metadata,
    pub(super) deadline: Instant,
}

/// How many token requests may be under way at once. Those beyond wait.
const SLOTS: usize = 64;

/// When tokens are renewed if the provider does not say how long they last.
const LIFETIME: Duration = Duration::from_secs(3600);

/// The shortest time between two renewals, for providers whose tokens are over at once.
const SHORTEST: Duration = Duration::from_secs(5);

/// The longest: what becomes of a person at the provider is noticed within it.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

// === impl Providers ===

impl Providers {
    /// Signs in with these, whom the client asks.
    ///
    /// # Errors
    ///
    /// [`LoginError`] if there is none, one of them is not fully described, or two of them have one
    /// alias or one issuer, or are both primary.
    pub fn new(
        client: Arc<dyn HttpClient>,
        providers: impl IntoIterator<Item = Provider>,
    ) -> Result<Self, LoginError> {
        Self::with_clock(client, providers, Arc::new(SystemClock))
    }

    /// As [`new`](Self::new), with a clock for the times in ID tokens and logout tokens.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_clock(
        client: Arc<dyn HttpClient>,
        providers: impl IntoIterator<Item = Provider>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, LoginError> {
        let providers: Vec<Provider> = providers.into_iter().collect();
        check_distinct(&providers)?;
        let mut registrations = Vec::new();
        for provider in &providers {
            // A subject of the primary one must not look like a user id of another.
            let others = providers.iter().map(|other| &other.alias);
            let mut reserved = provider.reserved_aliases.clone();
            reserved.extend(others.filter(|alias| **alias != provider.alias).cloned());
            let registration = Registration::new(provider.clone(), reserved, &client, &clock)?;
            registrations.push(registration);
        }
        Ok(Self {
            client,
            registrations: registrations.into(),
            clock,
            admit: None,
            slots: Arc::new(Semaphore::new(SLOTS)),
        })
    }

    /// Sets who decides about people whom a provider has verified. Default: everybody is let in.
    #[must_use]
    pub fn admit(mut self, admit: Arc<dyn Admit>) -> Self {
        self.admit = Some(admit);
        self
    }

    pub(super) fn find(&self, alias: &str) -> Option<&Registration> {
        self.registrations.iter().find(|own| &*own.alias == alias)
    }

    /// The one whose tokens have this `iss`.
    pub(super) fn find_issuer(&self, issuer: &str) -> Option<(&Registration, &IdTokens)> {
        self.registrations
            .iter()
            .find_map(|own| Some((own, own.tokens_of(issuer)?)))
    }

    /// Room for one token request.
    pub(super) async fn slot(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Failure> {
        let slot = timeout_at(deadline, Arc::clone(&self.slots).acquire_owned()).await;
        slot.ok()
            .and_then(Result::ok)
            .ok_or(Failure::ProviderUnavailable)
    }

    /// Gets the tokens for the code of a sign-in, and the person they are of.
    pub(super) async fn redeem(
        &self,
        ask: &Ask<'_>,
        pending: &Pending,
        code: &str,
        redirect_uri: &str,
    ) -> Result<(Identity, IssuerTokens), Failure> {
        let grant = Grant::Code {
            code,
            verifier: &pending.verifier,
            redirect_uri,
        };
        let tokens = self.exchange(ask, &grant).await?;
        let belongs = Belongs::Nonce(&pending.nonce);
        let identity = self.identify(ask, &tokens, belongs).await?;
        Ok((identity, self.keep(&tokens, None)))
    }

    /// Asks the token endpoint.
    pub(super) async fn exchange(
        &self,
        ask: &Ask<'_>,
        grant: &Grant<'_>,
    ) -> Result<Tokens, ExchangeError> {
        let provider = &ask.registration.provider;
        timeout_at(
            ask.deadline,
            exchange(&*self.client, provider, ask.metadata, grant),
        )
        .await
        .unwrap_or(Err(ExchangeError::Unavailable))
    }

    /// The person that tokens are of.
    pub(super) async fn identify(
        &self,
        ask: &Ask<'_>,
        tokens: &Tokens,
        belongs: Belongs<'_>,
    ) -> Result<Identity, Failure> {
        let identified = async {
            match &ask.registration.who {
                Who::IdToken(own) => {
                    own.identify(&*self.client, ask.metadata, tokens, belongs)
                        .await
                }
                Who::GitHub(github) => {
                    let identity = github.identify(&*self.client, &tokens.access).await?;
                    match belongs {
                        Belongs::Person(person) if person.subject() != identity.subject() => {
                            Err(Failure::Untrusted)
                        }
                        _ => Ok(identity),
                    }
                }
            }
        };
        timeout_at(ask.deadline, identified)
            .await
            .unwrap_or(Err(Failure::ProviderUnavailable))
    }

    /// Asks whoever decides about people.
    pub(super) async fn decide(
        &self,
        identity: Identity,
        occasion: Occasion,
    ) -> Result<Identity, Failure> {
        match &self.admit {
            None => Ok(identity),
            Some(admit) => admit
                .admit(identity, occasion)
                .await
                .map_err(|error| match error {
                    AdmitError::Refused => Failure::Refused,
                    AdmitError::Unavailable => Failure::StoreUnavailable,
                }),
        }
    }

    /// What a session keeps of tokens. What a provider does not give anew stays.
    pub(super) fn keep(&self, tokens: &Tokens, previous: Option<&IssuerTokens>) -> IssuerTokens {
        let mut kept = IssuerTokens::new(tokens.access.as_str());
        let new = tokens.refresh.as_ref().map(|token| token.as_str());
        if let Some(token) = new.or_else(|| previous?.refresh_token()) {
            let lasts = tokens.expires_in.unwrap_or(LIFETIME);
            let refresh_in = lasts.mul_f32(0.75).clamp(SHORTEST, LONGEST);
            kept = kept.with_refresh_token(token);
            if let Some(at) = self.clock.now().checked_add(refresh_in) {
                kept = kept.with_refresh_at(at);
            }
        }
        let new = tokens.id.as_ref().map(|token| token.as_str());
        match new.or_else(|| previous?.id_token()) {
            Some(token) => kept.with_id_token(token),
            None => kept,
        }
    }
}

impl fmt::Debug for Providers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let aliases = self.registrations.iter().map(|own| &own.alias);
        f.debug_list().entries(aliases).finish()
    }
}

fn check_distinct(providers: &[Provider]) -> Result<(), LoginError> {
    if providers.is_empty() {
        return Err(LoginError::NoProvider);
    }
    if providers.iter().filter(|own| own.primary).count() > 1 {
        return Err(LoginError::Ambiguous);
    }
    let mut seen = Vec::new();
    for provider in providers {
        let issuer = match provider.kind.issuer()? {
            Issuer::One(issuer) => issuer,
            Issuer::Tenants { base, .. } => base,
        };
        let is_repeated =
            |(alias, other): &(&str, Box<str>)| *alias == &*provider.alias || *other == issuer;
        if seen.iter().any(is_repeated) {
            return Err(LoginError::Ambiguous);
        }
        seen.push((&*provider.alias, issuer));
    }
    Ok(())
}

// === impl Failure ===

impl From<ExchangeError> for Failure {
    fn from(error: ExchangeError) -> Self {
        match error {
            // A code that was used already, another client's, or without its verifier.
            ExchangeError::InvalidGrant => Self::Untrusted,
            ExchangeError::Misconfigured => Self::Misconfigured,
            ExchangeError::Unavailable => Self::ProviderUnavailable,
        }
    }
}
