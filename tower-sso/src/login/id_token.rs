use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{
    HeaderValue, Request, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION},
};
use serde_json::{Map, Value};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{
    exchange::Tokens,
    failure::Failure,
    metadata::{LIMIT, Metadata, TIMEOUT},
    proof::is_same,
    provider::Provider,
};
use crate::{
    HttpClient, Identity, Reason, VerifyError,
    jwt::{SignedToken, SignedTokens, parse_object},
};

/// Finds out from ID tokens who somebody is.
#[derive(Debug)]
pub(super) struct IdTokens {
    signed: SignedTokens,
    client_id: Box<str>,
    /// What was asked for and userinfo has, if an ID token does not.
    profile: bool,
    email: bool,
}

/// What an ID token must belong to.
#[derive(Clone, Copy)]
pub(super) enum Belongs<'a> {
    /// The sign-in with this nonce.
    Nonce(&'a str),
    /// The person of a session that is open (OpenID Connect Core section 12.2).
    Person(&'a Identity),
}

// === impl IdTokens ===

impl IdTokens {
    pub(super) fn new(signed: SignedTokens, provider: &Provider) -> Self {
        let asks_for = |scope: &str| provider.scopes.iter().any(|own| &**own == scope);
        Self {
            signed,
            client_id: provider.client_id.clone(),
            profile: asks_for("profile"),
            email: asks_for("email"),
        }
    }

    pub(super) const fn signed(&self) -> &SignedTokens {
        &self.signed
    }

    /// The person an ID token is about, with what userinfo says besides.
    pub(super) async fn identify(
        &self,
        client: &dyn HttpClient,
        metadata: &Metadata,
        tokens: &Tokens,
        belongs: Belongs<'_>,
    ) -> Result<Identity, Failure> {
        let id_token = tokens.id.as_ref().ok_or(Failure::Untrusted)?;
        let mut token = self
            .signed
            .verify(id_token)
            .await
            .map_err(|error| match error {
                VerifyError::Invalid(reason) => refuse(reason),
                VerifyError::Unavailable => Failure::ProviderUnavailable,
            })?;
        self.check(&token, &tokens.access, belongs)
            .map_err(refuse)?;
        let lacks_any = (self.email && token.text("email").is_none())
            || (self.profile && token.text("name").is_none())
            || self.signed.lacks_roles(&token);
        if let Some(address) = metadata.userinfo.as_ref().filter(|_| lacks_any) {
            let userinfo = ask(client, address, &tokens.access).await?;
            token.add_userinfo(userinfo).map_err(refuse)?;
        }
        self.signed.identify(&token).map_err(refuse)
    }

    /// The rules of OpenID Connect Core section 3.1.3.7 that are particular to ID tokens.
    fn check(
        &self,
        token: &SignedToken,
        access_token: &str,
        belongs: Belongs<'_>,
    ) -> Result<(), Reason> {
        let is_id_token = matches!(token.kind().as_deref(), None | Some("jwt"))
            && token.find("events").is_none()
            // Keycloak says what a token is in a claim.
            && matches!(
                token.find("typ").map(Value::as_str),
                None | Some(Some("ID" | "JWT"))
            );
        if !is_id_token {
            return Err(Reason::Type);
        }
        if token.find("iat").is_none() {
            return Err(Reason::Claim);
        }
        let subject = token.text("sub").ok_or(Reason::Claim)?;
        match token.text("azp") {
            Some(party) if party != &*self.client_id => return Err(Reason::AuthorizedParty),
            None if token.audiences() > 1 => return Err(Reason::AuthorizedParty),
            _ => {}
        }
        if let Some(hash) = token.text("at_hash")
            && !is_same(hash, &token.half_hash(access_token))
        {
            return Err(Reason::Claim);
        }
        match belongs {
            Belongs::Nonce(wanted) => match token.text("nonce") {
                Some(nonce) if is_same(nonce, wanted) => Ok(()),
                _ => Err(Reason::Claim),
            },
            Belongs::Person(person) => {
                let is_same =
                    subject == &**person.subject() && token.text("iss") == Some(person.issuer());
                if is_same {
                    Ok(())
                } else {
                    Err(Reason::Subject)
                }
            }
        }
    }
}

/// The claims of a token that is only looked at to choose or to compare, never believed.
pub(super) fn unverified_claims(token: &str) -> Option<Map<String, Value>> {
    let payload = token.split('.').nth(1)?;
    let bytes = URL_SAFE_NO_PAD.decode(payload).ok()?;
    parse_object(str::from_utf8(&bytes).ok()?)
}

/// Which rule was broken is for the log alone.
fn refuse(reason: Reason) -> Failure {
    tracing::warn!(
        reason = reason.as_str(),
        "an ID token or userinfo does not hold"
    );
    Failure::Untrusted
}

/// Asks the userinfo endpoint (OpenID Connect Core section 5.3).
async fn ask(
    client: &dyn HttpClient,
    address: &Uri,
    access_token: &str,
) -> Result<Map<String, Value>, Failure> {
    let bearer = Zeroizing::new(format!("Bearer {access_token}"));
    let mut bearer = HeaderValue::from_str(&bearer).map_err(|_| Failure::Untrusted)?;
    bearer.set_sensitive(true);
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = address.clone();
    let headers = request.headers_mut();
    headers.insert(AUTHORIZATION, bearer);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    match timeout(TIMEOUT, client.send(request, LIMIT)).await {
        Ok(Ok(response)) if response.status() == StatusCode::OK => {
            let text = str::from_utf8(response.body()).ok();
            text.and_then(parse_object)
                .ok_or_else(|| refuse(Reason::Malformed))
        }
        Ok(Ok(response)) => {
            tracing::warn!(
                status = response.status().as_u16(),
                "the userinfo endpoint does not say who somebody is"
            );
            Err(Failure::ProviderUnavailable)
        }
        Ok(Err(_)) | Err(_) => {
            tracing::warn!("the userinfo endpoint does not answer");
            Err(Failure::ProviderUnavailable)
        }
    }
}
