//! An OpenID provider with three people and no passwords.

mod page;
mod token;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::{Form, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderValue, ORIGIN, REFERRER_POLICY,
    X_FRAME_OPTIONS,
};
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};

use self::token::SigningKey;
use crate::clock;

/// Who can sign in. The last one is an administrator.
pub const ACCOUNTS: [&str; 3] = ["alice", "bob", "admin"];

/// For whom access tokens are.
pub const AUDIENCE: &str = "openclaw";

/// The only client: the gateway, and programs on this machine, which have no secret.
pub const CLIENT: &str = "gateway-dev";

/// How long a code can be redeemed (RFC 6749 §4.1.2 recommends ten minutes at most).
const CODE_LIFETIME: Duration = Duration::from_secs(60);

/// Most codes that wait to be redeemed.
const MAX_CODES: usize = 1024;

/// The provider; clones share it.
#[derive(Clone)]
pub struct Issuer(Arc<Shared>);

struct Shared {
    url: String,
    gateway: String,
    client_secret: String,
    key: SigningKey,
    codes: Mutex<HashMap<String, Code>>,
}

/// A sign-in that is to be redeemed.
#[derive(Debug)]
struct Code {
    account: &'static str,
    redirect_uri: String,
    challenge: String,
    nonce: Option<String>,
    expires_at: SystemTime,
}

/// An authorization request (RFC 6749 §4.1.1, RFC 7636 §4.3, OpenID Connect Core §3.1.2.1).
#[derive(Debug, Deserialize)]
struct Authorize {
    response_type: String,
    client_id: String,
    redirect_uri: String,
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    nonce: Option<String>,
    code_challenge: String,
    code_challenge_method: String,
    /// Who was chosen on the page.
    #[serde(default)]
    account: Option<String>,
}

#[derive(Deserialize)]
struct Redeem {
    grant_type: String,
    client_id: String,
    /// Nothing of a public client.
    #[serde(default)]
    client_secret: Option<String>,
    code: String,
    redirect_uri: String,
    code_verifier: String,
}

// === impl Issuer ===

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer")
            .field("url", &self.0.url)
            .finish_non_exhaustive()
    }
}

impl Issuer {
    /// A provider at `url`, for the gateway at `gateway`.
    ///
    /// # Errors
    ///
    /// The system has no randomness.
    pub fn new(url: String, gateway: String) -> std::io::Result<Self> {
        Ok(Self(Arc::new(Shared {
            url,
            gateway,
            client_secret: super::secret()?,
            key: SigningKey::generate()?,
            codes: Mutex::default(),
        })))
    }

    /// What it answers.
    pub fn routes(&self) -> Router {
        Router::new()
            .route("/", get(home))
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/jwks", get(jwks))
            .route("/authorize", get(show).post(choose))
            .route("/token", post(redeem))
            .layer(middleware::from_fn(only_here))
            .with_state(self.clone())
    }

    /// What the gateway redeems codes with.
    #[must_use]
    pub fn client_secret(&self) -> &str {
        &self.0.client_secret
    }

    /// An access token (RFC 9068) of somebody, good for eight hours.
    #[must_use]
    pub fn access_token(&self, account: &str) -> String {
        self.0.key.access_token(&self.0.url, account)
    }
}

/// Answers only requests to a loopback name, so that no page of the internet whose name was pointed here is answered,
/// and lets nobody frame, keep or pass on what is answered.
async fn only_here(request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    if !matches!(name, "127.0.0.1" | "localhost" | "[::1]") {
        return refuse(StatusCode::MISDIRECTED_REQUEST, "invalid_request");
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, page::POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn home(State(issuer): State<Issuer>) -> Html<String> {
    Html(page::home(&issuer.0.gateway))
}

async fn discovery(State(issuer): State<Issuer>) -> Json<Value> {
    let url = &issuer.0.url;
    Json(json!({
        "issuer": url,
        "authorization_endpoint": format!("{url}/authorize"),
        "token_endpoint": format!("{url}/token"),
        "jwks_uri": format!("{url}/jwks"),
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "token_endpoint_auth_methods_supported": ["none", "client_secret_post"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
        "scopes_supported": ["openid", "profile", "email"],
    }))
}

async fn jwks(State(issuer): State<Issuer>) -> Json<Value> {
    Json(json!({ "keys": [issuer.0.key.jwk()] }))
}

async fn show(Query(request): Query<Authorize>) -> Response {
    match request.check() {
        Ok(()) => Html(page::sign_in(&request)).into_response(),
        Err(error) => refuse(StatusCode::BAD_REQUEST, error),
    }
}

/// Somebody was chosen on the page: back to the client with a code.
async fn choose(
    State(issuer): State<Issuer>,
    headers: HeaderMap,
    Form(request): Form<Authorize>,
) -> Response {
    // Only our own page may choose: no other site may sign somebody in unasked.
    let origin = headers
        .get(ORIGIN)
        .and_then(|origin| origin.to_str().ok())
        .unwrap_or_default();
    let site = headers
        .get("sec-fetch-site")
        .and_then(|site| site.to_str().ok());
    if origin != issuer.0.url && site != Some("same-origin") {
        return refuse(StatusCode::FORBIDDEN, "access_denied");
    }
    if let Err(error) = request.check() {
        return refuse(StatusCode::BAD_REQUEST, error);
    }
    let chosen = request.account.as_deref().unwrap_or_default();
    let Some(account) = ACCOUNTS.into_iter().find(|account| *account == chosen) else {
        return refuse(StatusCode::BAD_REQUEST, "invalid_request");
    };
    let Ok(code) = super::secret() else {
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, "server_error");
    };
    let now = clock::now();
    let state = request
        .state
        .map(|state| format!("&state={}", page::percent(&state)));
    let back = format!(
        "{}?code={code}&iss={}{}",
        request.redirect_uri,
        page::percent(&issuer.0.url),
        state.unwrap_or_default()
    );
    {
        let mut codes = issuer
            .0
            .codes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        codes.retain(|_, code| code.expires_at > now);
        if codes.len() >= MAX_CODES {
            return refuse(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable");
        }
        codes.insert(
            code,
            Code {
                account,
                redirect_uri: request.redirect_uri,
                challenge: request.code_challenge,
                nonce: request.nonce,
                expires_at: now + CODE_LIFETIME,
            },
        );
    }
    Redirect::to(&back).into_response()
}

async fn redeem(State(issuer): State<Issuer>, Form(request): Form<Redeem>) -> Response {
    if request.grant_type != "authorization_code" {
        return refuse(StatusCode::BAD_REQUEST, "unsupported_grant_type");
    }
    let secret = request.client_secret.as_deref().map(str::as_bytes);
    let known = issuer.0.client_secret.as_bytes();
    if secret.is_some_and(|secret| verify_slices_are_equal(secret, known).is_err()) {
        return refuse(StatusCode::UNAUTHORIZED, "invalid_client");
    }
    // Taken out whatever comes next: a code is good for one attempt.
    let code = issuer
        .0
        .codes
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .remove(&request.code);
    let hash =
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, request.code_verifier.as_bytes());
    let challenge = URL_SAFE_NO_PAD.encode(hash);
    let Some(code) = code.filter(|code| {
        code.expires_at > clock::now()
            && code.challenge == challenge
            && code.redirect_uri == request.redirect_uri
            && request.client_id == CLIENT
    }) else {
        return refuse(StatusCode::BAD_REQUEST, "invalid_grant");
    };
    let Shared { url, key, .. } = &*issuer.0;
    Json(json!({
        "access_token": key.access_token(url, code.account),
        "id_token": key.id_token(url, CLIENT, code.account, code.nonce.as_deref()),
        "token_type": "Bearer",
        "expires_in": token::LIFETIME.as_secs(),
    }))
    .into_response()
}

fn refuse(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}

// === impl Authorize ===

impl Authorize {
    /// Refuses what must not be answered by a redirect, or at all.
    fn check(&self) -> Result<(), &'static str> {
        let uri: Uri = self.redirect_uri.parse().map_err(|_| "invalid_request")?;
        let is_here = uri.scheme_str() == Some("http")
            && matches!(uri.host(), Some("127.0.0.1" | "localhost"))
            && uri.authority().is_some_and(|of| !of.as_str().contains('@'))
            && uri.query().is_none();
        if self.client_id != CLIENT || !is_here {
            return Err("invalid_request");
        }
        if self.response_type != "code" {
            return Err("unsupported_response_type");
        }
        // SHA-256 in base64url without padding (RFC 7636 §4.2).
        if self.code_challenge_method != "S256" || self.code_challenge.len() != 43 {
            return Err("invalid_request");
        }
        Ok(())
    }
}
