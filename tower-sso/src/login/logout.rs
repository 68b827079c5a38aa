//! `POST logout`: signs out, here and at the provider.

use std::time::Duration;

use http::{
    HeaderMap, HeaderValue, Request, StatusCode,
    header::{ORIGIN, SET_COOKIE},
    request::Parts,
};
use serde_json::json;
use tokio::time::timeout;

use super::{
    failure::Failure,
    form::with_query,
    login::Login,
    navigation::{FETCH_SITE, wants_json},
    page::{self, Answer, fail, redirect},
    provider_kind::ProviderKind,
    registration::Registration,
};
use crate::{
    TokenSource as _,
    session::{End, IssuerTokens, Key, SessionCookie},
};

/// How long signing out waits for the addresses of a provider, which are known as a rule. Without them it is
/// signed out here alone.
const PATIENCE: Duration = Duration::from_secs(3);

/// The longest ID token that is put into an address, in bytes. Without one the provider asks the person.
const MAX_HINT: usize = 4 * 1024;

// === impl Login ===

impl Login {
    pub(super) async fn log_out(&self, parts: &Parts) -> Answer {
        let headers = &parts.headers;
        match self.try_log_out(headers).await {
            Ok(answer) => answer,
            Err(failure) => fail(failure, headers, self.login_path(None, None)),
        }
    }

    /// The session the browser's cookie is of, if it is one of ours.
    pub(super) fn session_key(&self, headers: &HeaderMap) -> Option<Key> {
        let mut request = Request::new(());
        request.headers_mut().clone_from(headers);
        let cookie = SessionCookie::new().token(&request).ok()??;
        self.sessions.key_of(cookie)
    }

    async fn try_log_out(&self, headers: &HeaderMap) -> Result<Answer, Failure> {
        if !self.is_from_here(headers) {
            return Err(Failure::CrossOrigin);
        }
        let mut target = self.signed_out();
        if let Some(key) = self.session_key(headers) {
            // First what is needed of it, then the end of it.
            let found = self.sessions.tokens_of(key).await;
            let found = found.map_err(|error| Failure::of_store(&error))?;
            let ended = self.sessions.end(End::Key(key)).await;
            ended.map_err(|error| Failure::of_store(&error))?;
            if let Some((provider, tokens)) = found
                && let Some(registration) = self.providers.find(&provider)
            {
                let hint = tokens.as_ref().and_then(IssuerTokens::id_token);
                if let Some(elsewhere) = end_session(registration, hint, &target).await {
                    target = elsewhere;
                }
            }
        }
        let mut answer = if wants_json(headers) {
            let text = json!({ "redirect": target }).to_string();
            page::json(StatusCode::OK, text)
        } else {
            redirect(&target)?
        };
        answer
            .headers_mut()
            .append(SET_COOKIE, SessionCookie::clear());
        Ok(answer)
    }

    /// Whether a request comes from a page of an allowed origin, as the browser says. Scripts can set
    /// neither header.
    fn is_from_here(&self, headers: &HeaderMap) -> bool {
        let site = headers.get(FETCH_SITE).map(HeaderValue::as_bytes);
        let mut origins = headers.get_all(ORIGIN).iter();
        let origin = origins.next();
        if origins.next().is_some() {
            return false;
        }
        match origin {
            // A page that wants no `Referer` sent says `null` even to its own origin.
            None => site == Some(b"same-origin"),
            Some(origin) if origin == "null" => site == Some(b"same-origin"),
            Some(origin) => {
                self.origins.iter().any(|own| own.is(origin)) && site != Some(b"cross-site")
            }
        }
    }
}

/// Where the browser ends the session at the provider too (OpenID Connect RP-Initiated Logout 1.0
/// section 2).
async fn end_session(
    registration: &Registration,
    hint: Option<&str>,
    target: &str,
) -> Option<String> {
    let found = timeout(PATIENCE, registration.endpoints.find()).await;
    let metadata = found.ok()?.ok()?;
    let client_id = &*registration.provider.client_id;
    if let Some(address) = &metadata.end_session {
        let hint = hint.filter(|hint| hint.len() <= MAX_HINT);
        let hint = hint.map(|hint| ("id_token_hint", hint));
        let pairs = [
            ("client_id", client_id),
            ("post_logout_redirect_uri", target),
        ];
        return Some(with_query(address, hint.into_iter().chain(pairs)));
    }
    match &registration.provider.kind {
        // "Log Users Out of Auth0": tenants from before 14 November 2023 list no endpoint.
        ProviderKind::Auth0 { issuer } => {
            let pairs = [("client_id", client_id), ("returnTo", target)];
            Some(with_query(&format!("{issuer}v2/logout"), pairs))
        }
        _ => None,
    }
}
