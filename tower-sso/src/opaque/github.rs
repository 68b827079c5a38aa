use std::{net::IpAddr, sync::Arc};

use http::{HeaderValue, StatusCode, Uri};
use serde::Deserialize;
use serde_json::json;

use super::{
    ask::{basic, read},
    pace::Failure,
    profiles::{Profiles, github},
    timestamp::Timestamp,
    verifier::{Issuer, Verifier},
};
use crate::{
    HttpClient, Identity, Reason, Verdicts, Verify, VerifyFuture,
    jwt::{ConfigError, JwtConfig, identify_profile, parse_address},
};

/// GitHub's opaque access tokens, of one OAuth application.
///
/// GitHub is asked three things about a token: whether it was given to this application (anybody's token
/// of another one, or a personal one, names a user just as well), whose it is, and their primary e-mail
/// address, also where it is private; for that the token needs the scope `user:email`, without which the
/// identity has no address. The subject is the number of the account, which stays when its name changes.
/// GitHub names nobody's groups; a role can be given by `sub` or `preferred_username`
/// ([`JwtConfig::roles_claim`]). The [module](crate::opaque) says how often GitHub is asked.
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
    authorization: HeaderValue,
    profiles: Profiles,
    client: Arc<dyn HttpClient>,
}

/// `POST /applications/{client_id}/token` (REST API, "Check a token").
#[derive(Deserialize)]
struct Checked {
    user: CheckedUser,
    #[serde(default)]
    scopes: Option<Vec<Box<str>>>,
    #[serde(default)]
    expires_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct CheckedUser {
    id: u64,
}

// === impl GitHub ===

impl GitHub {
    /// Tokens of the application with this id and secret, at `github.com`. `config` says what its users
    /// are called here: alias, primary or not, roles; its issuer is [`GitHub::ISSUER`], its audience the client id.
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
        if api.contains('?') {
            return Err(ConfigError::Issuer);
        }
        let api = api.strip_suffix('/').unwrap_or(api);
        let authorization = basic(id, secret).map_err(|_| ConfigError::Audience)?;
        let check = parse_address(&format!("{api}/applications/{id}/token"));
        let (check, _) = check.ok_or(ConfigError::Issuer)?;
        let profiles = Profiles::new(api).ok_or(ConfigError::Issuer)?;
        let api = Api {
            config,
            check,
            authorization,
            profiles,
            client,
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

    fn verify_from(&self, token: &str, address: Option<IpAddr>) -> VerifyFuture {
        self.0.verify_from(token, address)
    }
}

// === impl Api ===

impl Issuer for Api {
    fn config(&self) -> &JwtConfig {
        &self.config
    }

    async fn find(&self, token: &str) -> Result<Identity, Failure> {
        let question = json!({ "access_token": token }).to_string();
        let checked = github(&*self.client)
            .post_json(&self.check, self.authorization.clone(), question)
            .await?;
        let checked: Checked = match checked.status() {
            StatusCode::OK => read(&checked)?,
            // Another application's, nobody's, or none that can be asked about.
            StatusCode::NOT_FOUND
            | StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY => return Err(Failure::Refused(Reason::Unknown)),
            _ => return Err(Failure::Down),
        };
        let ends = checked.expires_at.map(|Timestamp(at)| at);
        if ends.is_some_and(|at| at <= self.config.now()) {
            return Err(Failure::Refused(Reason::Expired));
        }
        let profile = self.profiles.find(&*self.client, token).await?;
        if profile.subject != checked.user.id.to_string() {
            return Err(Failure::Withheld);
        }
        let identity = identify_profile(&self.config, profile.claims());
        let mut identity = identity
            .map_err(Failure::Refused)?
            .to_builder()
            .scopes(checked.scopes.unwrap_or_default());
        if let Some(at) = ends {
            identity = identity.expires_at(at);
        }
        Ok(identity.build())
    }
}
