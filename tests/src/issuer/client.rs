//! How a person gets an access token: authorization code with PKCE (RFC 6749, RFC 7636), through
//! the issuer's own pages.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Request, StatusCode, header};

use crate::{
    browser::Browser,
    error::{Error, Result},
    http as client, secret,
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
    url: String,
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
        let verifier = secret::random()?;
        let state = secret::random()?;
        let challenge =
            URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()));
        let resource = format!("urn:{audience}:ttl:{}", lifetime.as_secs());
        let start = format!(
            "{}/auth?response_type=code&client_id={CLI_ID}&redirect_uri={CLI_REDIRECT}&scope={SCOPE}\
             &state={state}&code_challenge={challenge}&code_challenge_method=S256&resource={resource}",
            self.url,
        );
        let end = Browser::new()
            .sign_in(&start, account, CLI_REDIRECT)
            .await?;
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
            "grant_type=authorization_code&client_id={CLI_ID}&redirect_uri={CLI_REDIRECT}\
             &code={code}&code_verifier={verifier}&resource={resource}",
        );
        let request = Request::post(format!("{}/token", self.url))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let answer = client::send(request, form)
            .await?
            .expect_status(StatusCode::OK)?;
        let token = answer.json()?["access_token"].as_str().map(str::to_owned);
        token.ok_or_else(|| Error::unexpected("answer", answer.text()))
    }
}
