//! `GET callback`: where a provider sends the browser back.

use std::{sync::Arc, time::Duration};

use http::{
    HeaderMap,
    header::{SET_COOKIE, USER_AGENT},
    request::Parts,
};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout_at},
};

use super::{
    admit::Occasion,
    failure::Failure,
    form::Form,
    login::Login,
    metadata::{Metadata, TIMEOUT},
    page::{Answer, fail, redirect},
    pending::Pending,
    proof::is_random,
    provider_error::ProviderError,
    providers::Ask,
    registration::Registration,
};
use crate::session::{End, Key, SessionCookie};

/// What a provider sends along (RFC 6749 section 4.1.2, RFC 9207 section 2).
struct Callback {
    state: String,
    issuer: Option<String>,
    outcome: Result<String, ProviderError>,
}

/// What is needed to go on with a sign-in that is now this request's alone.
struct Claimed {
    metadata: Arc<Metadata>,
    deadline: Instant,
    slot: OwnedSemaphorePermit,
}

/// How much time there must be for the provider to answer when a sign-in is claimed.
const LEAST: Duration = Duration::from_secs(3);

/// The longest code in bytes; Entra's have about two thousand.
const MAX_CODE: usize = 8 * 1024;

/// What other flows put into a callback. Whoever sends one wants something else to happen than was
/// begun.
const FOREIGN: [&str; 4] = ["access_token", "id_token", "token_type", "response"];

// === impl Login ===

impl Login {
    pub(super) async fn call_back(&self, parts: &Parts) -> Answer {
        let headers = &parts.headers;
        let (callback, pending) = match self.find_pending(parts) {
            Ok(found) => found,
            Err(failure) => return fail(failure, headers, self.login_path(None, None)),
        };
        let again = || self.login_path(Some(&pending.provider), Some(&pending.return_to));
        let Some(registration) = self.providers.find(&pending.provider) else {
            let again = self.login_path(None, Some(&pending.return_to));
            return fail(Failure::NotPending, headers, again);
        };
        let claimed = match self.claim(registration, &pending).await {
            Ok(claimed) => claimed,
            // Nothing has become of it yet: it can be tried again as it is.
            Err(failure) => return fail(failure, headers, again()),
        };
        let ended = self.end_sign_in(registration, &pending, &callback, claimed, headers);
        let mut answer = match ended.await {
            Ok(answer) => answer,
            Err(failure) => fail(failure, headers, again()),
        };
        if let Ok(cookie) = pending.clear() {
            answer.headers_mut().append(SET_COOKIE, cookie);
        }
        answer
    }

    /// The sign-in that a callback is to end, if it was begun in this browser.
    fn find_pending(&self, parts: &Parts) -> Result<(Callback, Pending), Failure> {
        let form = Form::parse(parts.uri.query().unwrap_or_default());
        let callback = Callback::parse(&form.ok_or(Failure::Malformed)?)?;
        let now = self.providers.clock.now();
        let pending = Pending::find(&callback.state, &parts.headers, &self.keys, now);
        Ok((callback, pending.ok_or(Failure::NotPending)?))
    }

    /// Makes a sign-in this request's alone, once the provider can be asked: from then on its `state` is
    /// spent, whatever becomes of it.
    async fn claim(
        &self,
        registration: &Registration,
        pending: &Pending,
    ) -> Result<Claimed, Failure> {
        let deadline = Instant::now() + TIMEOUT;
        let metadata = timeout_at(deadline, registration.endpoints.find()).await;
        let metadata = metadata.unwrap_or(Err(Failure::ProviderUnavailable))?;
        let slot = self.providers.slot(deadline).await?;
        // With less the code would only be lost.
        if deadline.saturating_duration_since(Instant::now()) < LEAST {
            return Err(Failure::ProviderUnavailable);
        }
        let name = Key::of_secret(format!("login state {}", pending.state).as_bytes());
        let claim = self.sessions.store().claim(name, pending.is_over_at());
        match claim.await {
            Ok(true) => Ok(Claimed {
                metadata,
                deadline,
                slot,
            }),
            Ok(false) => Err(Failure::NotPending),
            Err(error) => Err(Failure::of_store(&error)),
        }
    }

    async fn end_sign_in(
        &self,
        registration: &Registration,
        pending: &Pending,
        callback: &Callback,
        claimed: Claimed,
        headers: &HeaderMap,
    ) -> Result<Answer, Failure> {
        let Claimed {
            metadata,
            deadline,
            slot,
        } = claimed;
        callback.check_issuer(registration, &metadata)?;
        let code = callback.outcome.as_deref().map_err(|error| {
            tracing::info!(
                provider = &*registration.alias,
                error = error.code(),
                "the provider refused a sign-in"
            );
            Failure::Provider(*error)
        })?;
        let ask = Ask {
            registration,
            metadata: &metadata,
            deadline,
        };
        let redirect_uri = self.redirect_uri();
        let asked = self.providers.redeem(&ask, pending, code, &redirect_uri);
        let (identity, tokens) = asked.await?;
        drop(slot);
        let identity = self.providers.decide(identity, Occasion::SignIn).await?;

        let opened = self
            .sessions
            .open(&identity, Some(tokens), label(headers))
            .await
            .map_err(|error| Failure::of_store(&error))?;
        // The browser had another one: whoever knows that one must not share in what comes now.
        self.end_earlier(headers, opened.key).await;

        let mut answer = redirect(&pending.return_to)?;
        let cookie = SessionCookie::set(&opened.cookie_value, Some(self.sessions.longest()));
        answer.headers_mut().append(SET_COOKIE, cookie);
        Ok(answer)
    }

    async fn end_earlier(&self, headers: &HeaderMap, own: Key) {
        let earlier = self.session_key(headers).filter(|earlier| *earlier != own);
        let Some(earlier) = earlier else {
            return;
        };
        if let Err(error) = self.sessions.end(End::Key(earlier)).await {
            tracing::warn!(
                error = &error as &(dyn std::error::Error + 'static),
                "the earlier session of a browser could not be ended"
            );
        }
    }
}

// === impl Callback ===

impl Callback {
    fn parse(form: &Form) -> Result<Self, Failure> {
        let one = |name| form.one(name).map_err(|_| Failure::Malformed);
        if FOREIGN.iter().any(|name| form.contains(name)) {
            return Err(Failure::Malformed);
        }
        let state = one("state")?.filter(|state| is_random(state));
        let outcome = match (one("code")?, one("error")?) {
            (Some(code), None) if code.len() <= MAX_CODE => Ok(code.to_owned()),
            (None, Some(error)) => Err(ProviderError::parse(error)),
            _ => return Err(Failure::Malformed),
        };
        Ok(Self {
            state: state.ok_or(Failure::Malformed)?.to_owned(),
            issuer: one("iss")?.map(str::to_owned),
            outcome,
        })
    }

    /// RFC 9207 section 2.4: what another provider sends must not go to this one.
    fn check_issuer(
        &self,
        registration: &Registration,
        metadata: &Metadata,
    ) -> Result<(), Failure> {
        let holds = match &self.issuer {
            Some(issuer) => registration.is_issuer(issuer, metadata),
            None => !metadata.names_issuer,
        };
        if holds {
            return Ok(());
        }
        tracing::warn!(
            provider = &*registration.alias,
            "a callback does not name the provider that was asked"
        );
        Err(Failure::Untrusted)
    }
}

/// What people tell their sessions apart by.
fn label(headers: &HeaderMap) -> Option<&str> {
    headers.get(USER_AGENT)?.to_str().ok()
}
