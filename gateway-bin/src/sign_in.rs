//! Everything that says who somebody is: the issuers' tokens, sessions of browsers, personal access tokens, and what ends
//! them.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tower_sso::client::HyperClient;
use tower_sso::jwt::JwtConfig;
use tower_sso::login::{
    Admit, AdmitError, Login, LoginService, Occasion, Provider, Providers, RedirectToSignIn,
};
use tower_sso::opaque::{GitHub, Introspection};
use tower_sso::session::{
    AccessTokens, End, Endings, Key, PostgresStore, RedisStore, SealingKeys, Sessions, SqliteStore,
    Store as SessionStore, StoreError,
};
use tower_sso::{AnswerFuture, CredentialKind, HttpClient, Identity, Issuers, Verdicts, Verify};

use crate::config::{self, Config, IssuerKind};
use crate::people::{Linked, People};
use crate::store::Store;
use crate::telemetry::{RecentPeople, TimedSessions, Verifications};

/// How long a store of sessions knows a gateway.
const KNOWN: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How many verdicts are remembered: people who are at work, with a token or two each.
const VERDICTS: usize = 50_000;

/// How every personal access token begins.
const ACCESS_TOKEN: &str = "ocg_pat_";

/// How tokens begin that GitHub gives its applications for a user ("Behind GitHub's new authentication token formats").
const GITHUB_TOKENS: [&str; 2] = ["gho_", "ghu_"];

/// How every session cookie begins: the first version of sealed texts.
const COOKIE: &str = "v1.";

/// What personal access tokens may be for.
pub mod scope {
    /// Sockets and conversations.
    pub const CHAT: &str = "chat";

    /// Reading one's own environment, quota and usage.
    pub const READ: &str = "read";

    /// All of them.
    pub const ALL: [&str; 2] = [CHAT, READ];
}

/// Who may sign in, and who is; clones share it.
#[derive(Clone, Debug)]
pub struct SignIn(Arc<Inner>);

struct Inner {
    store: Arc<dyn SessionStore>,
    sessions: Sessions,
    access_tokens: AccessTokens,
    endings: Endings,
    people: People,
    recent: RecentPeople,
    verdicts: Verdicts,
    tokens: Arc<dyn Verify>,
    login: Option<(RedirectToSignIn, LoginService)>,
    /// Aliases of the issuers after the first.
    secondary: Vec<String>,
}

/// Why nobody can sign in.
#[derive(Debug, Error)]
#[error("{what}: {cause}")]
pub struct SignInError {
    what: String,
    cause: String,
}

fn failed<E: std::error::Error>(what: impl Into<String>) -> impl FnOnce(E) -> SignInError {
    move |error| {
        let mut cause = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            cause = format!("{cause}: {error}");
            source = error.source();
        }
        SignInError {
            what: what.into(),
            cause,
        }
    }
}

// === impl SignIn ===

impl SignIn {
    /// Opens the store of sessions and begins to listen to what ends. Issuers are asked when somebody comes.
    ///
    /// # Errors
    ///
    /// What cannot be used, and why.
    pub async fn start(config: &Config, path: &Path, store: &Store) -> Result<Self, SignInError> {
        let keys = sealing_keys(config, store).await?;
        let kept = session_store(config, path).await?;
        let verdicts = Verdicts::new(VERDICTS);
        keep_disabled(&kept, store).await?;
        let endings = Endings::start(Arc::clone(&kept), verdicts.clone());
        let endings = endings.await.map_err(failed("the session store"))?;
        let client = HyperClient::new().map_err(failed("certificates of this host"))?;
        let client: Arc<dyn HttpClient> = Arc::new(client);

        let primary = config.issuer.first().map_or("", |issuer| &issuer.alias);
        let by_email = config
            .issuer
            .iter()
            .filter(|issuer| issuer.link_verified_email);
        let by_email = by_email.map(|issuer| issuer.alias.clone()).collect();
        let people = People::load(store.clone(), primary, by_email).await;
        let people = people.map_err(failed("the store"))?;

        let mut sessions = Sessions::new(Arc::clone(&kept), keys.clone())
            .idle(config.session.idle)
            .lifetime(config.session.lifetime)
            .verdicts(verdicts.clone());
        let offered: Vec<Provider> = providers(config).collect();
        let mut login = None;
        if !offered.is_empty() {
            let admit = Arc::new(admit(people.clone(), endings.clone()));
            let offered = Providers::new(Arc::clone(&client), offered);
            let offered = offered.map_err(failed("issuer"))?.admit(admit);
            sessions = sessions.refresh_with(Arc::new(offered.clone()));
            let url = &config.server.public_url;
            let mut service = Login::new(sessions.clone(), keys.clone(), offered, url)
                .map_err(failed("server.public_url"))?;
            for origin in &config.server.allowed_origins {
                service = service
                    .allow_origin(origin)
                    .map_err(failed("server.allowed_origins"))?;
            }
            login = Some((service.redirect_to_sign_in(), service.service()));
        }
        let access_tokens = AccessTokens::new(Arc::clone(&kept), keys)
            .prefix(ACCESS_TOKEN)
            .verdicts(verdicts.clone());

        let issuers = issuers(config, &client, &verdicts)?
            .prefixed(ACCESS_TOKEN, Arc::new(access_tokens.clone()))
            .prefixed(COOKIE, Arc::new(sessions.clone()))
            .build()
            .map_err(failed("issuer"))?;
        let tokens = endings.guard(Linked::new(people.clone(), issuers));
        let recent = RecentPeople::new();
        let tokens = Verifications::new("people", tokens).telling(recent.clone());
        Ok(Self(Arc::new(Inner {
            login,
            store: kept,
            sessions,
            access_tokens,
            endings,
            people,
            recent,
            verdicts,
            tokens: Arc::new(tokens),
            secondary: config
                .issuer
                .iter()
                .skip(1)
                .map(|issuer| issuer.alias.clone())
                .collect(),
        })))
    }

    /// Verifies all that may stand in a header or in the session cookie.
    #[must_use]
    pub fn tokens(&self) -> Arc<dyn Verify> {
        Arc::clone(&self.0.tokens)
    }

    /// Signs people in and out in a browser, where an issuer has a client for that, and what sends browsers there.
    #[must_use]
    pub fn login(&self) -> Option<&(RedirectToSignIn, LoginService)> {
        self.0.login.as_ref()
    }

    /// Sessions of browsers.
    pub fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    /// Personal access tokens.
    pub fn access_tokens(&self) -> &AccessTokens {
        &self.0.access_tokens
    }

    /// Who people of other issuers are here.
    #[must_use]
    pub fn people(&self) -> &People {
        &self.0.people
    }

    /// Who has come lately.
    #[must_use]
    pub fn recent_people(&self) -> &RecentPeople {
        &self.0.recent
    }

    /// How often a credential was known from before.
    #[must_use]
    pub fn verdict_hits(&self) -> u64 {
        self.0.verdicts.hits()
    }

    /// Whether this is the alias of an issuer after the first.
    #[must_use]
    pub fn is_secondary(&self, alias: &str) -> bool {
        self.0.secondary.iter().any(|own| own == alias)
    }

    /// Whether a user is disabled.
    #[must_use]
    pub fn is_disabled(&self, user_id: &str) -> bool {
        self.0.endings.is_disabled(user_id)
    }

    /// Whether a credential is good for this: a personal access token if it was made for it, all others always.
    #[must_use]
    pub fn allows(&self, identity: &Identity, scope: &str) -> bool {
        identity.kind() != CredentialKind::AccessToken
            || identity.scopes().iter().any(|own| **own == *scope)
    }

    /// Ends credentials, here and at every gateway that shares the store.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store does not answer.
    pub async fn end(&self, what: End) -> Result<u64, StoreError> {
        self.0.sessions.end(what).await
    }

    /// Disables a user, or enables them again.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store does not answer.
    pub async fn set_disabled(&self, user_id: &str, disabled: bool) -> Result<(), StoreError> {
        self.0.store.set_disabled(user_id, disabled).await
    }

    /// Resolves when what an identity was verified by was revoked.
    pub fn ended(&self, identity: &Arc<Identity>) -> impl Future<Output = ()> + Send + use<> {
        self.0.endings.ended(identity)
    }

    /// Whether the session or the personal access token of an identity still is; other credentials always are. `used`
    /// says that something was done since it was last asked.
    ///
    /// # Errors
    ///
    /// The future answers [`StoreError`] if the store does not.
    pub fn is_in_force(
        &self,
        identity: &Arc<Identity>,
        used: bool,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send + use<> {
        let (inner, identity) = (Arc::clone(&self.0), Arc::clone(identity));
        async move {
            match identity.kind() {
                CredentialKind::AccessToken => inner.access_tokens.still_is(&identity).await,
                _ => inner.sessions.still_is(&identity, used).await,
            }
        }
    }

    /// Whether the store of sessions answers.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.0.store.ended(Duration::ZERO).await.map(drop)
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignIn")
            .field("sessions", &self.sessions)
            .finish_non_exhaustive()
    }
}

/// Keeps who has signed in, and says who that is here.
fn admit(people: People, endings: Endings) -> impl Admit {
    move |identity: Identity, occasion: Occasion| {
        let (people, endings) = (people.clone(), endings.clone());
        AnswerFuture::boxed(async move {
            let identity = Arc::new(identity);
            let known = match occasion {
                Occasion::SignIn => people.sign_in(identity).await.map_err(|error| {
                    tracing::error!(%error, "somebody who signed in was not kept");
                    signed_in(occasion, "unavailable");
                    AdmitError::Unavailable
                })?,
                _ => people.known(identity),
            };
            if endings.is_disabled(known.user_id()) {
                signed_in(occasion, "refused");
                return Err(AdmitError::Refused);
            }
            signed_in(occasion, "admitted");
            Ok(Identity::clone(&known))
        })
    }
}

/// Counts whoever signs in, and not who is kept signed in.
fn signed_in(occasion: Occasion, outcome: &'static str) {
    if occasion == Occasion::SignIn {
        metrics::counter!("gateway_sign_ins_total", "outcome" => outcome).increment(1);
    }
}

/// Tells the store of sessions who is disabled, if it does not know this gateway: it is new, or has lost everything.
///
/// A store that knows this gateway is right: since then others may have enabled somebody.
async fn keep_disabled(kept: &Arc<dyn SessionStore>, store: &Store) -> Result<(), SignInError> {
    let own = store.key("session-store", || {
        let mut fresh = vec![0; 32];
        // Without randomness nothing else starts either.
        let _ = aws_lc_rs::rand::fill(&mut fresh);
        fresh
    });
    let own = own.await.map_err(failed("the store"))?;
    let disabled = store.disabled_users().await;
    let disabled = disabled.map_err(failed("the store"))?;
    let sure = failed("the session store");
    let known_until = crate::clock::now() + KNOWN;
    let is_new = kept.claim(Key::of_secret(&own), known_until).await;
    if is_new.map_err(sure)? {
        for user_id in disabled {
            let set = kept.set_disabled(&user_id, true).await;
            set.map_err(failed("the session store"))?;
        }
    }
    Ok(())
}

async fn sealing_keys(config: &Config, store: &Store) -> Result<SealingKeys, SignInError> {
    let mut keys = config.session.keys().map_err(failed("session.key"))?;
    if keys.is_empty() {
        let mut fresh = [0; 32];
        aws_lc_rs::rand::fill(&mut fresh).map_err(failed("randomness"))?;
        let kept = store.key("sessions", || fresh.to_vec()).await;
        let kept = kept.map_err(failed("the store"))?;
        keys.extend(<[u8; 32]>::try_from(kept.as_slice()));
    }
    SealingKeys::new(keys).map_err(failed("session.key"))
}

async fn session_store(config: &Config, path: &Path) -> Result<Arc<dyn SessionStore>, SignInError> {
    let Some((key, url)) = config.session_store() else {
        let store = SqliteStore::open(path).map_err(failed("the store"))?;
        return Ok(Arc::new(TimedSessions::new(store)));
    };
    let url = url.expose();
    if url.starts_with("redis") {
        let store = RedisStore::connect(url).await;
        return Ok(Arc::new(TimedSessions::new(store.map_err(failed(key))?)));
    }
    let store = PostgresStore::connect(url).await;
    Ok(Arc::new(TimedSessions::new(store.map_err(failed(key))?)))
}

/// The issuers that people sign in at, by a client of ours.
fn providers(config: &Config) -> impl Iterator<Item = Provider> {
    let all = config.issuer.iter().enumerate();
    all.filter_map(|(n, issuer)| {
        let (id, secret) = issuer
            .client_id
            .as_ref()
            .zip(issuer.client_secret.as_ref())?;
        let url = issuer.url.as_str();
        let mut provider = match issuer.kind {
            IssuerKind::Github if url.is_empty() => Provider::github(),
            IssuerKind::Github => Provider::github_enterprise(url),
            IssuerKind::Google => Provider::google(),
            IssuerKind::Auth0 => {
                let domain = url.trim_start_matches("https://").trim_end_matches('/');
                Provider::auth0(domain).audience(&issuer.audience)
            }
            _ => Provider::oidc(url),
        };
        provider = provider
            .alias(&issuer.alias)
            .primary(n == 0)
            .client(id, secret.expose());
        // Of several that have no name people can tell at least the aliases.
        match (&issuer.name, issuer.kind) {
            (Some(name), _) => provider = provider.label(name),
            (None, IssuerKind::Oidc) => provider = provider.label(&issuer.alias),
            (None, _) => {}
        }
        if !issuer.scopes.is_empty() {
            provider = provider.scopes(issuer.scopes.iter().map(String::as_str));
        }
        if n == 0 {
            let others = config.issuer.iter().skip(1);
            provider = provider.reserved_aliases(others.map(|other| other.alias.as_str()));
        }
        if let Some(claim) = &issuer.roles_claim {
            provider = provider.roles_claim(claim);
            for (role, values) in &config.roles {
                provider = provider.role(role, values.iter().map(String::as_str));
            }
        }
        Some(provider)
    })
}

/// What verifies the issuers' access tokens.
fn issuers(
    config: &Config,
    client: &Arc<dyn HttpClient>,
    verdicts: &Verdicts,
) -> Result<tower_sso::IssuersBuilder, SignInError> {
    let mut issuers = Issuers::builder(verdicts.clone(), Arc::clone(client));
    for (n, issuer) in config.issuer.iter().enumerate() {
        let key = || format!("issuer.{}", issuer.alias);
        let (client, verdicts) = (Arc::clone(client), verdicts.clone());
        let ids = issuer.client_id.as_ref().zip(issuer.client_secret.as_ref());
        match (issuer.kind, ids) {
            (IssuerKind::Github, Some((id, secret))) => {
                let (name, api) = match issuer.url.as_str() {
                    "" => (GitHub::ISSUER, github_api_of(issuer)),
                    url => (url, github_api_of(issuer)),
                };
                let users = access_tokens_of(config, issuer, n, name, id);
                let github = GitHub::at(&api, users, secret.expose(), client, verdicts);
                let github: Arc<dyn Verify> = Arc::new(github.map_err(failed(key()))?);
                // Only its own tokens are shown to it, and to nobody else.
                for prefix in GITHUB_TOKENS {
                    issuers = issuers.prefixed(prefix, Arc::clone(&github));
                }
            }
            // Without a client nobody can be asked whose tokens these are.
            (IssuerKind::Github, None) => {}
            (_, Some((id, secret))) if issuer.introspection => {
                let users = access_tokens_of(config, issuer, n, &issuer.url, &issuer.audience);
                let opaque = Introspection::new(users, id, secret.expose(), client, verdicts);
                issuers = issuers.opaque(Arc::new(opaque.map_err(failed(key()))?));
            }
            _ => {
                let users = access_tokens_of(config, issuer, n, &issuer.url, &issuer.audience);
                issuers = issuers.issuer(users);
            }
        }
    }
    Ok(issuers)
}

fn access_tokens_of(
    config: &Config,
    issuer: &config::Issuer,
    n: usize,
    name: &str,
    audience: &str,
) -> JwtConfig {
    let mut jwt = JwtConfig::new(name, audience)
        .alias(&issuer.alias)
        .primary(n == 0);
    if n == 0 {
        let others = config.issuer.iter().skip(1);
        jwt = jwt.reserved_aliases(others.map(|other| other.alias.as_str()));
    }
    if let Some(kind) = &issuer.token_type {
        jwt = jwt.required_type(kind);
    }
    if let Some(claim) = &issuer.roles_claim {
        jwt = jwt.roles_claim(claim);
        for (role, values) in &config.roles {
            jwt = jwt.role(role, values.iter().map(String::as_str));
        }
    }
    jwt
}

/// Where GitHub's API is, or that of a GitHub Enterprise Server.
pub(crate) fn github_api_of(issuer: &config::Issuer) -> String {
    match issuer.url.is_empty() {
        true => GitHub::API.to_owned(),
        false => github_api(issuer),
    }
}

/// Where the API of a GitHub Enterprise Server is (its REST API documentation, "Getting started").
fn github_api(issuer: &config::Issuer) -> String {
    format!("{}/api/v3", issuer.url.trim_end_matches('/'))
}
