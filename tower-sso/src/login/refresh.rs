use tokio::time::{Instant, timeout_at};

use super::{
    admit::Occasion,
    exchange::{ExchangeError, Grant},
    failure::Failure,
    id_token::Belongs,
    metadata::TIMEOUT,
    providers::{Ask, Providers},
    registration::Who,
};
use crate::{
    Identity,
    session::{IssuerTokens, Refresh, RefreshError, RefreshFuture, Refreshed},
};

/// Asks the provider whether a session goes on, and for what is new about its person.
impl Refresh for Providers {
    fn refresh(&self, identity: &Identity, tokens: &IssuerTokens) -> RefreshFuture {
        let (own, identity, tokens) = (self.clone(), identity.clone(), tokens.clone());
        RefreshFuture::boxed(async move { own.renew(&identity, &tokens).await })
    }
}

// === impl Providers ===

impl Providers {
    async fn renew(
        &self,
        person: &Identity,
        previous: &IssuerTokens,
    ) -> Result<Refreshed, RefreshError> {
        // Without a way to ask the session goes on until its own end.
        let registration = self
            .find(person.provider())
            .ok_or(RefreshError::Unavailable)?;
        let token = previous.refresh_token();
        let token = token.ok_or(RefreshError::Unavailable)?;
        let deadline = Instant::now() + TIMEOUT;
        let slot = self.slot(deadline).await.map_err(refuse)?;
        let metadata = timeout_at(deadline, registration.endpoints.find()).await;
        let metadata = metadata.map_err(|_| RefreshError::Unavailable)?;
        let metadata = metadata.map_err(refuse)?;
        let ask = Ask {
            registration,
            metadata: &metadata,
            deadline,
        };
        let tokens = self
            .exchange(&ask, &Grant::Refresh { token })
            .await
            .map_err(|error| match error {
                ExchangeError::InvalidGrant => RefreshError::Refused,
                // That this server is not accepted is not the person's fault.
                ExchangeError::Misconfigured | ExchangeError::Unavailable => {
                    RefreshError::Unavailable
                }
            })?;
        // The refresh token may be spent now: what was given in its place must not be lost, even if who
        // the person is cannot be found out.
        let identity = match &registration.who {
            Who::IdToken(_) if tokens.id.is_none() => None,
            _ => match self.identify(&ask, &tokens, Belongs::Person(person)).await {
                Ok(identity) => Some(identity),
                Err(Failure::ProviderUnavailable) => None,
                Err(failure) => return Err(refuse(failure)),
            },
        };
        drop(slot);
        let identity = match identity {
            Some(identity) => match self.decide(identity, Occasion::Refresh).await {
                Ok(identity) => Some(identity),
                Err(Failure::Refused) => return Err(RefreshError::Refused),
                Err(_) => None,
            },
            None => None,
        };
        let refreshed = Refreshed::new(self.keep(&tokens, Some(previous)));
        Ok(match identity {
            Some(identity) => refreshed.with_identity(identity),
            None => refreshed,
        })
    }
}

/// What does not hold ends nothing by itself: a session ends when its provider says so.
fn refuse(failure: Failure) -> RefreshError {
    match failure {
        Failure::Untrusted | Failure::Refused => RefreshError::Refused,
        _ => RefreshError::Unavailable,
    }
}
