use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, Uri, header::RETRY_AFTER};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{json, value::RawValue};

use super::{
    ask::{Ask, basic, bearer},
    pace::Failure,
    verifier::{Issuer, Verifier},
};
use crate::{
    HttpClient, Identity, Reason, Verdicts, Verify, VerifyFuture,
    jwt::{ConfigError, JwtConfig, parse_address, user_id},
};

/// GitHub's opaque access tokens, of one OAuth application.
///
/// GitHub is asked three things about a token: whether it was given to this application (anybody's token
/// of another one, or a personal one, names a user just as well), whose it is, and their primary e-mail
/// address, also where it is private; for that the token needs the scope `user:email`, without which the
/// identity has no address. The subject is the number of the account, which stays when its name changes. The
/// [module](crate::opaque) says how often GitHub is asked.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use tower_sso::{
///     HttpClient, SsoLayer, Verdicts,
///     jwt::{ConfigError, JwtConfig},
///     opaque::GitHub,
/// };
///
/// fn sso(client: Arc<dyn HttpClient>, secret: &str) -> Result<SsoLayer, ConfigError> {
///     let config = JwtConfig::new(GitHub::ISSUER, "Iv1.8a61f9b3a7aba766").alias("github");
///     let verifier = GitHub::new(config, secret, client, Verdicts::default())?;
///     Ok(SsoLayer::new(Arc::new(verifier)))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct GitHub(Verifier<Api>);

struct Api {
    config: JwtConfig,
    check: Uri,
    user: Uri,
    emails: Uri,
    client: HeaderValue,
    ask: Ask,
}

/// `POST /applications/{client_id}/token` (REST API, "Check a token").
#[derive(Deserialize)]
struct Checked {
    user: CheckedUser,
    #[serde(default)]
    scopes: Option<Vec<Box<str>>>,
}

#[derive(Deserialize)]
struct CheckedUser {
    id: u64,
}

/// `GET /user` (REST API, "Get the authenticated user").
#[derive(Deserialize)]
struct User {
    id: u64,
    login: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    avatar_url: Option<String>,
}

/// `GET /user/emails` (REST API, "List email addresses for the authenticated user").
#[derive(Deserialize)]
struct Email {
    email: String,
    primary: bool,
    verified: bool,
}

// === impl GitHub ===

impl GitHub {
    /// Tokens of the application with this id and secret, at `github.com`. `config` says what its users
    /// are called here: alias, primary or not, roles; its issuer is [`GitHub::ISSUER`], its audience the
    /// client id.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the configuration contradicts itself.
    pub fn new(
        config: JwtConfig,
        secret: &str,
        client: Arc<dyn HttpClient>,
        verdicts: Verdicts,
    ) -> Result<Self, ConfigError> {
        Self::at(Self::API, config, secret, client, verdicts)
    }

    /// The same at a GitHub Enterprise Server, whose API lies below `api`, such as
    /// `https://github.example.com/api/v3`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the configuration contradicts itself, or `api` is neither an `https` address nor an
    /// `http` one of this machine.
    pub fn at(
        api: &str,
        config: JwtConfig,
        secret: &str,
        client: Arc<dyn HttpClient>,
        verdicts: Verdicts,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        let id = config.audience_name();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if !id.bytes().all(is_plain) {
            return Err(ConfigError::Audience);
        }
        let authorization = basic(id, secret).map_err(|_| ConfigError::Audience)?;
        let address = |path: &str| {
            let found = parse_address(&format!("{api}{path}"));
            found.map(|(address, _)| address).ok_or(ConfigError::Issuer)
        };
        let api = Api {
            check: address(&format!("/applications/{id}/token"))?,
            user: address("/user")?,
            emails: address("/user/emails")?,
            client: authorization,
            config,
            ask: Ask::new(client),
        };
        Ok(Self(Verifier::new(api, verdicts)))
    }

    /// What users of `github.com` are said to be named by.
    pub const ISSUER: &str = "https://github.com/login/oauth";

    /// Below which the API of `github.com` lies.
    pub const API: &str = "https://api.github.com";
}

impl Verify for GitHub {
    fn verify(&self, token: &str) -> VerifyFuture {
        self.0.verify(token)
    }
}

// === impl Api ===

impl Issuer for Api {
    fn config(&self) -> &JwtConfig {
        &self.config
    }

    async fn find(&self, token: &str) -> Result<Identity, Failure> {
        let question = json!({ "access_token": token }).to_string();
        let checked = self
            .ask
            .post_json(&self.check, self.client.clone(), question)
            .await?;
        let checked: Checked = match checked.status() {
            StatusCode::OK => read(&checked)?,
            // Another application's, or nobody's.
            StatusCode::NOT_FOUND | StatusCode::UNPROCESSABLE_ENTITY => {
                return Err(Failure::Refused(Reason::Unknown));
            }
            _ => return Err(Failure::Down),
        };
        let identity = self.profile(token).await?;
        if **identity.subject() != *checked.user.id.to_string() {
            return Err(Failure::Withheld);
        }
        let scopes = checked.scopes.unwrap_or_default();
        Ok(identity.to_builder().scopes(scopes).build())
    }
}

impl Api {
    /// Whose a token is, as GitHub says it to whoever has it.
    async fn profile(&self, token: &str) -> Result<Identity, Failure> {
        let bearer = bearer(token).map_err(|_| Failure::Refused(Reason::Unknown))?;
        let answer = self.ask.get(&self.user, Some(bearer.clone())).await?;
        let user: User = match answer.status() {
            StatusCode::OK => read(&answer)?,
            // Revoked since it was checked.
            StatusCode::UNAUTHORIZED => return Err(Failure::Refused(Reason::Unknown)),
            // Its owner is suspended, or has asked too much with it.
            _ => return Err(Failure::Withheld),
        };
        let claims: Box<RawValue> = read(&answer)?;
        let answer = self.ask.get(&self.emails, Some(bearer)).await?;
        let emails: Vec<Email> = match answer.status() {
            StatusCode::OK => read(&answer)?,
            StatusCode::UNAUTHORIZED => return Err(Failure::Refused(Reason::Unknown)),
            StatusCode::FORBIDDEN if is_limited(&answer) => return Err(Failure::Withheld),
            // It does not have the scope.
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Vec::new(),
            _ => return Err(Failure::Withheld),
        };

        let subject = user.id.to_string();
        let named = user.name.filter(|name| !name.is_empty());
        let mut identity = Identity::builder(self.config.name(), subject.as_str())
            .provider(self.config.short_name())
            .name(named.unwrap_or(user.login))
            .claims(claims.get());
        if let Some(id) = user_id(&subject, &self.config).map_err(Failure::Refused)? {
            identity = identity.user_id(id);
        }
        if let Some(primary) = emails.into_iter().find(|email| email.primary) {
            identity = identity.email(primary.email, primary.verified);
        }
        if let Some(picture) = user.avatar_url {
            identity = identity.picture(picture);
        }
        Ok(identity.build())
    }
}

fn read<T: DeserializeOwned>(answer: &Response<Bytes>) -> Result<T, Failure> {
    serde_json::from_slice(answer.body()).map_err(|_| Failure::Down)
}

/// Whether the owner of the token has asked too much with it ("Rate limits for the REST API").
fn is_limited(answer: &Response<Bytes>) -> bool {
    let headers = answer.headers();
    let remaining = headers.get("x-ratelimit-remaining");
    headers.contains_key(RETRY_AFTER) || remaining.is_some_and(|number| number == "0")
}
