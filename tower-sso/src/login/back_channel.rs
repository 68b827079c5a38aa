//! `POST backchannel-logout`: a provider says that somebody signed out.

use std::{pin::pin, time::Duration};

use bytes::{Buf as _, BufMut as _};
use http::{
    StatusCode,
    header::{CONTENT_TYPE, HeaderMap},
    request::Parts,
};
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::time::{sleep, timeout};

use super::{
    failure::Failure,
    form::Form,
    id_token::unverified_claims,
    login::Login,
    logout_token::{self, LogoutOf},
    page::{Answer, empty, json},
    registration::{Registration, Who},
};
use crate::{
    VerifyError,
    session::{End, Key},
};

/// The most bytes of a request: one token and its name.
const MAX_BODY: usize = 20 * 1024;

/// How long a request may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// For how long after its end a token is remembered as used, on top of the leeway for clocks.
const MARGIN: Duration = Duration::from_secs(300);

/// A logout token that lives longer is none: two minutes are recommended (section 2.4), and each one is
/// remembered until it is over.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How often an end is tried. A token is good for one time, so the provider cannot try again.
const TRIES: u32 = 3;

// === impl Login ===

impl Login {
    /// OpenID Connect Back-Channel Logout 1.0 sections 2.5 to 2.8.
    pub(super) async fn back_channel<B: Body>(&self, parts: &Parts, body: B) -> Answer {
        let ended = async {
            let token = read(&parts.headers, body).await?;
            self.end_by(&token).await
        };
        match ended.await {
            Ok(()) => empty(StatusCode::OK),
            Err(failure) => {
                let code = match failure.status() {
                    StatusCode::BAD_REQUEST => "invalid_request",
                    _ => failure.code(),
                };
                json(failure.status(), format!(r#"{{"error":"{code}"}}"#))
            }
        }
    }

    async fn end_by(&self, text: &str) -> Result<(), Failure> {
        // Read without trust, only to find out who is to verify it.
        let claims = unverified_claims(text).ok_or(Failure::Malformed)?;
        let issuer = claims.get("iss").and_then(|issuer| issuer.as_str());
        let (registration, tokens) = issuer
            .and_then(|issuer| self.providers.find_issuer(issuer))
            .ok_or(Failure::Malformed)?;
        let refuse = |reason: crate::Reason| {
            tracing::warn!(
                provider = &*registration.alias,
                reason = reason.as_str(),
                "a logout token does not hold"
            );
            Failure::Untrusted
        };
        let token = tokens
            .signed()
            .verify(text)
            .await
            .map_err(|error| match error {
                VerifyError::Invalid(reason) => refuse(reason),
                VerifyError::Unavailable => Failure::ProviderUnavailable,
            })?;
        let (what, id) = logout_token::check(&token).map_err(refuse)?;
        let now = self.providers.clock.now();
        let until = token.expires_at().checked_add(MARGIN);
        let until = until.filter(|_| {
            let ahead = token.expires_at().duration_since(now);
            ahead.unwrap_or_default() <= LONGEST
        });
        let until = until.ok_or_else(|| refuse(crate::Reason::Claim))?;

        let name = format!("logout token {} {id}", registration.alias);
        let claim = self
            .sessions
            .store()
            .claim(Key::of_secret(name.as_bytes()), until);
        match claim.await {
            Ok(true) => {}
            Ok(false) => return Err(Failure::Malformed),
            Err(error) => return Err(Failure::of_store(&error)),
        }
        self.end_surely(registration, what).await
    }

    async fn end_surely(&self, registration: &Registration, what: LogoutOf) -> Result<(), Failure> {
        let provider = registration.alias.clone();
        let end = match what {
            LogoutOf::Session(session_id) => End::IssuerSession {
                provider,
                session_id: session_id.into(),
            },
            LogoutOf::Subject(subject) => End::Subject {
                provider,
                subject: subject.into(),
            },
        };
        let mut tries = 0;
        loop {
            tries += 1;
            match self.sessions.end(end.clone()).await {
                Ok(count) => {
                    tracing::info!(
                        provider = &*registration.alias,
                        sessions = count,
                        "the provider ended sessions"
                    );
                    return Ok(());
                }
                Err(error) if tries == TRIES => return Err(Failure::of_store(&error)),
                Err(_) => sleep(Duration::from_millis(200) * tries).await,
            }
        }
    }
}

/// The logout token of a request.
async fn read<B: Body>(headers: &HeaderMap, body: B) -> Result<String, Failure> {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind
        .and_then(|kind| kind.split(';').next())
        .unwrap_or_default();
    if !kind
        .trim()
        .eq_ignore_ascii_case("application/x-www-form-urlencoded")
    {
        return Err(Failure::Malformed);
    }
    let body = timeout(PATIENCE, collect(body)).await;
    let body = body.map_err(|_| Failure::Malformed)??;
    let form = str::from_utf8(&body).ok().and_then(Form::parse);
    let form = form.ok_or(Failure::Malformed)?;
    let token = form.one("logout_token").map_err(|_| Failure::Malformed)?;
    token.map(str::to_owned).ok_or(Failure::Malformed)
}

async fn collect<B: Body>(body: B) -> Result<Vec<u8>, Failure> {
    let mut body = pin!(body);
    let mut bytes = Vec::new();
    while let Some(frame) = body.as_mut().frame().await {
        let frame = frame.map_err(|_| Failure::Malformed)?;
        if let Ok(data) = frame.into_data() {
            if data.remaining() > MAX_BODY - bytes.len() {
                return Err(Failure::TooLarge);
            }
            bytes.put(data);
        }
    }
    Ok(bytes)
}

// === impl Registration ===

impl Registration {
    /// Its ID tokens, if tokens of this `iss` are its.
    pub(super) fn tokens_of(&self, issuer: &str) -> Option<&super::id_token::IdTokens> {
        match &self.who {
            Who::IdToken(tokens) if tokens.signed().is_issuer(issuer) => Some(tokens),
            _ => None,
        }
    }
}
