//! How a person gets an access token: authorization code with PKCE (RFC 6749, RFC 7636), through
//! the issuer's own pages.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http::{Request, StatusCode, header};
use serde_json::Value;

use super::RegisteredClient;
use crate::{
    browser::Browser,
    error::{Error, Result},
    http::{self as client, Response},
    secret,
};

/// The audience that access tokens have unless asked for another.
pub const AUDIENCE: &str = "openclaw";

/// The confidential client, whose redirect URI is `http://127.0.0.1:<any port>/auth/callback`.
pub const CLIENT_ID: &str = "gateway";

/// Its secret.
pub const CLIENT_SECRET: &str = "gateway-secret";

/// The public client, and a redirect URI at which nobody has to listen: the browser stops there.
const CLI_ID: &str = "gateway-cli";
const CLI_REDIRECT: &str = "http://127.0.0.1:1/callback";

const SCOPE: &str = "openid%20profile%20email%20openclaw";

/// Gets tokens from a running issuer.
#[derive(Clone, Debug)]
pub struct IssuerClient {
    pub(super) url: String,
}

impl IssuerClient {
    /// For the issuer at a base URL.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into() }
    }

    /// An access token of `alice`, `admin` or whoever else is named in lower case, for [`AUDIENCE`], good for an hour. Each call
    /// is a sign-in of its own.
    ///
    /// # Errors
    ///
    /// What [`Browser::sign_in`] says, and [`Error::Unexpected`] with an answer without a token.
    pub async fn token(&self, account: &str) -> Result<String> {
        self.token_for(account, AUDIENCE, Duration::from_secs(3600))
            .await
    }

    /// As [`token`](Self::token), for another audience (of `a-z`, `0-9` and `-`) or another
    /// lifetime in whole seconds.
    ///
    /// # Errors
    ///
    /// As [`token`](Self::token).
    pub async fn token_for(
        &self,
        account: &str,
        audience: &str,
        lifetime: Duration,
    ) -> Result<String> {
        let resource = format!("urn:{audience}:ttl:{}", lifetime.as_secs());
        let cli = RegisteredClient {
            id: CLI_ID.to_owned(),
            secret: String::new(),
        };
        let tokens = self
            .grant(&mut Browser::new(), &cli, CLI_REDIRECT, account, &resource)
            .await?;
        let token = tokens["access_token"].as_str().map(str::to_owned);
        token.ok_or_else(|| Error::unexpected("answer", tokens.to_string()))
    }

    /// All that a client gets for `account`, who signs in with `browser`: the answer to its token request.
    /// Nobody has to listen at `redirect`, which is one of the client's.
    ///
    /// # Errors
    ///
    /// As [`token`](Self::token).
    pub async fn tokens(
        &self,
        browser: &mut Browser,
        client: &RegisteredClient,
        redirect: &str,
        account: &str,
    ) -> Result<Value> {
        self.grant(browser, client, redirect, account, "").await
    }

    /// A client's request with a refresh token, whatever the answer.
    ///
    /// # Errors
    ///
    /// No answer.
    pub async fn refresh(&self, client: &RegisteredClient, token: &str) -> Result<Response> {
        self.post(
            "/token",
            client,
            format!("grant_type=refresh_token&refresh_token={token}"),
        )
        .await
    }

    /// A client's question what a token is worth (RFC 7662), whatever the answer.
    ///
    /// # Errors
    ///
    /// No answer.
    pub async fn introspect(&self, client: &RegisteredClient, token: &str) -> Result<Response> {
        self.post("/token/introspection", client, format!("token={token}"))
            .await
    }

    async fn grant(
        &self,
        browser: &mut Browser,
        client: &RegisteredClient,
        redirect: &str,
        account: &str,
        resource: &str,
    ) -> Result<Value> {
        let id = &client.id;
        let verifier = secret::random()?;
        let state = secret::random()?;
        let challenge =
            URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()));
        let resource = match resource {
            "" => String::new(),
            resource => format!("&resource={resource}"),
        };
        let start = format!(
            "{}/auth?response_type=code&client_id={id}&redirect_uri={redirect}&scope={SCOPE}&state={state}\
             &code_challenge={challenge}&code_challenge_method=S256{resource}",
            self.url,
        );
        let end = browser.sign_in(&start, account, redirect).await?;
        let parameter = |name| {
            let query = end.split_once('?').map_or("", |(_, query)| query);
            query
                .split('&')
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        };
        let code = match (parameter("code"), parameter("state")) {
            (Some(code), Some(returned)) if returned == state => code,
            _ => return Err(Error::unexpected("redirect", &end)),
        };
        let form = format!(
            "grant_type=authorization_code&redirect_uri={redirect}&code={code}\
             &code_verifier={verifier}{resource}",
        );
        let answer = self.post("/token", client, form).await?;
        answer.expect_status(StatusCode::OK)?.json()
    }

    /// A form that a client sends, with its secret if it has one.
    async fn post(&self, path: &str, client: &RegisteredClient, form: String) -> Result<Response> {
        let mut request = Request::post(format!("{}{path}", self.url))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if client.secret.is_empty() {
            return client::send(request, format!("{form}&client_id={}", client.id)).await;
        }
        let credentials = STANDARD.encode(format!("{}:{}", client.id, client.secret));
        request = request.header(header::AUTHORIZATION, format!("Basic {credentials}"));
        client::send(request, form).await
    }
}
