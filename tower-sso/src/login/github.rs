use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Request, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION, USER_AGENT},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{
    error::LoginError,
    failure::Failure,
    metadata::{LIMIT, Metadata, TIMEOUT},
    provider::ClientAuth,
};
use crate::{
    HttpClient, Identity,
    jwt::{JwtConfig, identify_profile, parse_address},
};

/// Finds out at GitHub's API who somebody is ("REST API endpoints for users", version 2022-11-28).
#[derive(Debug)]
pub(super) struct GitHub {
    config: JwtConfig,
    user: Uri,
    emails: Uri,
}

/// Who an access token is of.
#[derive(Deserialize)]
struct User {
    /// Stays the same when the person is renamed.
    id: u64,
    login: String,
    name: Option<String>,
    email: Option<String>,
    avatar_url: Option<String>,
}

#[derive(Deserialize)]
struct Email {
    email: String,
    primary: bool,
    verified: bool,
}

const SERVER: &str = "https://github.com";
const API: &str = "https://api.github.com";

const API_VERSION: HeaderName = HeaderName::from_static("x-github-api-version");

/// Its addresses, which it publishes in its documentation only ("Authorizing OAuth apps"); `server` is an
/// Enterprise Server.
pub(super) fn metadata(server: Option<&str>) -> Result<Metadata, LoginError> {
    let server = server.unwrap_or(SERVER);
    let address = |path: &str| format!("{server}/login/oauth{path}");
    let (token, _) = parse_address(&address("/access_token")).ok_or(LoginError::Issuer)?;
    Ok(Metadata {
        issuer: Some(address("").into()),
        names_issuer: false,
        authorization: address("/authorize"),
        token,
        userinfo: None,
        end_session: None,
        client_auth: ClientAuth::Post,
        has_offline_access: false,
    })
}

// === impl GitHub ===

impl GitHub {
    pub(super) fn new(config: JwtConfig, server: Option<&str>) -> Result<Self, LoginError> {
        let api = server.map_or_else(|| API.to_owned(), |server| format!("{server}/api/v3"));
        let address = |path: &str| {
            let found = parse_address(&format!("{api}{path}"));
            found.map(|(address, _)| address).ok_or(LoginError::Issuer)
        };
        Ok(Self {
            config,
            user: address("/user")?,
            emails: address("/user/emails")?,
        })
    }

    /// The person an access token is of.
    pub(super) async fn identify(
        &self,
        client: &dyn HttpClient,
        access_token: &str,
    ) -> Result<Identity, Failure> {
        let (status, body) = ask(client, &self.user, access_token).await?;
        let user: User = match status {
            StatusCode::OK => {
                serde_json::from_slice(&body).map_err(|_| Failure::ProviderUnavailable)?
            }
            StatusCode::UNAUTHORIZED => return Err(Failure::Untrusted),
            _ => return Err(Failure::ProviderUnavailable),
        };
        let (status, body) = ask(client, &self.emails, access_token).await?;
        let primary = match status {
            StatusCode::OK => {
                let emails: Vec<Email> =
                    serde_json::from_slice(&body).map_err(|_| Failure::ProviderUnavailable)?;
                emails.into_iter().find(|email| email.primary)
            }
            // Without the scope `user:email` there is what the person shows everybody.
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => None,
            _ => return Err(Failure::ProviderUnavailable),
        };
        let (email, verified) = match primary {
            Some(primary) => (Some(primary.email), primary.verified),
            None => (user.email, false),
        };
        let named = user.name.filter(|name| !name.is_empty());
        let mut claims = Map::new();
        let mut say = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                claims.insert(name.to_owned(), Value::String(value));
            }
        };
        say("sub", Some(user.id.to_string()));
        say("name", named.or_else(|| Some(user.login.clone())));
        say("preferred_username", Some(user.login));
        say("picture", user.avatar_url);
        let has_email = email.is_some();
        say("email", email);
        if has_email {
            claims.insert("email_verified".to_owned(), Value::Bool(verified));
        }
        identify_profile(&self.config, claims).map_err(|_| Failure::Untrusted)
    }
}

async fn ask(
    client: &dyn HttpClient,
    address: &Uri,
    access_token: &str,
) -> Result<(StatusCode, Bytes), Failure> {
    let bearer = Zeroizing::new(format!("Bearer {access_token}"));
    let mut bearer = HeaderValue::from_str(&bearer).map_err(|_| Failure::ProviderUnavailable)?;
    bearer.set_sensitive(true);
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = address.clone();
    let headers = request.headers_mut();
    headers.insert(AUTHORIZATION, bearer);
    let json = HeaderValue::from_static("application/vnd.github+json");
    headers.insert(ACCEPT, json);
    headers.insert(API_VERSION, HeaderValue::from_static("2022-11-28"));
    // GitHub answers nobody without a name.
    headers.insert(USER_AGENT, HeaderValue::from_static("tower-sso"));
    match timeout(TIMEOUT, client.send(request, LIMIT)).await {
        Ok(Ok(response)) => Ok((response.status(), response.into_body())),
        Ok(Err(_)) | Err(_) => {
            tracing::warn!("GitHub's API does not answer");
            Err(Failure::ProviderUnavailable)
        }
    }
}
