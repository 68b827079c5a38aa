use std::sync::Arc;

use super::{
    error::LoginError,
    github::{self, GitHub},
    id_token::IdTokens,
    metadata::{Endpoints, Metadata, TENANTS_ISSUER},
    provider::Provider,
    provider_kind::{Issuer, ProviderKind},
};
use crate::{
    HttpClient,
    jwt::{Clock, ConfigError, JwtConfig, SignedTokens, Tenants},
};

/// A provider, and all that is needed to sign people in with it.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) provider: Provider,
    pub(super) alias: Arc<str>,
    pub(super) endpoints: Endpoints,
    pub(super) who: Who,
}

/// How it is found out who somebody is.
#[derive(Debug)]
pub(super) enum Who {
    IdToken(IdTokens),
    GitHub(Box<GitHub>),
}

// === impl Registration ===

impl Registration {
    pub(super) fn new(
        provider: Provider,
        reserved_aliases: Vec<Box<str>>,
        client: &Arc<dyn HttpClient>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, LoginError> {
        let is_sendable = |text: &str| !text.is_empty() && !text.contains(char::is_control);
        if !is_sendable(&provider.client_id) || !is_sendable(&provider.client_secret) {
            return Err(LoginError::Client);
        }
        let is_set = |name: &str| PARAMETERS.contains(&name);
        if provider.parameters.iter().any(|(name, _)| is_set(name)) {
            return Err(LoginError::Parameter);
        }
        let issuer = provider.kind.issuer()?;
        let config = config(&provider, &issuer, reserved_aliases, clock);
        let (endpoints, who) = match &provider.kind {
            ProviderKind::GitHub { server } => {
                let server = server.as_deref();
                let metadata = github::metadata(server)?;
                (
                    Endpoints::Fixed(Arc::new(metadata)),
                    Who::GitHub(Box::new(GitHub::new(config, server)?)),
                )
            }
            _ => {
                let tenants = match &issuer {
                    Issuer::One(_) => None,
                    Issuer::Tenants { allowed, .. } => Some(Tenants {
                        template: TENANTS_ISSUER.into(),
                        allowed: allowed.clone(),
                    }),
                };
                let signed = SignedTokens::new(config, tenants, Arc::clone(client))?;
                let tokens = IdTokens::new(signed, &provider);
                let endpoints = Endpoints::discovered(issuer, Arc::clone(client));
                (endpoints.ok_or(LoginError::Issuer)?, Who::IdToken(tokens))
            }
        };
        Ok(Self {
            alias: (&*provider.alias).into(),
            provider,
            endpoints,
            who,
        })
    }

    /// Whether a callback that names this issuer is of this provider.
    pub(super) fn is_issuer(&self, issuer: &str, metadata: &Metadata) -> bool {
        match (&metadata.issuer, &self.who) {
            (Some(own), _) => **own == *issuer,
            (None, Who::IdToken(tokens)) => tokens.signed().is_issuer(issuer),
            (None, Who::GitHub(_)) => false,
        }
    }

    /// The scopes to ask for, joined by spaces.
    pub(super) fn scopes(&self, metadata: &Metadata) -> String {
        let mut scopes: Vec<&str> = self.provider.scopes.iter().map(|scope| &**scope).collect();
        let mut ensure = |scope, is_wanted: bool| {
            if is_wanted && !scopes.contains(&scope) {
                scopes.push(scope);
            }
        };
        ensure("openid", matches!(self.who, Who::IdToken(_)));
        ensure(
            "offline_access",
            self.provider.offline && metadata.has_offline_access,
        );
        scopes.join(" ")
    }
}

/// Parameters of the authorization request that bind it to its answer (RFC 6749 section 4.1.1, RFC 7636
/// section 4.3, OpenID Connect Core section 3.1.2.1).
const PARAMETERS: [&str; 12] = [
    "response_type",
    "response_mode",
    "client_id",
    "client_secret",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "request",
    "request_uri",
];

fn config(
    provider: &Provider,
    issuer: &Issuer,
    reserved_aliases: Vec<Box<str>>,
    clock: &Arc<dyn Clock>,
) -> JwtConfig {
    let issuer = match issuer {
        Issuer::One(issuer) => issuer,
        Issuer::Tenants { base, .. } => base,
    };
    let mut config = JwtConfig::new(issuer, &provider.client_id)
        .alias(&provider.alias)
        .primary(provider.primary)
        .reserved_aliases(reserved_aliases)
        .roles_claim(&provider.roles_claim)
        .clock(Arc::clone(clock));
    for (role, values) in &provider.roles {
        config = config.role(role, values.iter().cloned());
    }
    if let Some(algorithms) = &provider.algorithms {
        config = config.algorithms(algorithms.iter().copied());
    }
    config
}

impl From<ConfigError> for LoginError {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::Issuer => Self::Issuer,
            ConfigError::Audience => Self::Client,
            ConfigError::Alias => Self::Alias,
            _ => Self::Settings,
        }
    }
}
