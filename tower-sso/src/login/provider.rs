use std::fmt;

use zeroize::Zeroizing;

use super::provider_kind::ProviderKind;
use crate::jwt::Algorithm;

/// A provider people sign in with, and this server's registration as its client.
///
/// The constructors know common providers; [`oidc`](Self::oidc) is any other that speaks OpenID
/// Connect. At the provider register `<origin>/auth/callback` as the redirect address,
/// `<origin>/auth/signed-out` as the address after logout, and
/// `<origin>/auth/backchannel-logout` for back-channel logout where there is such a setting.
///
/// What [`JwtConfig`](crate::jwt::JwtConfig) is told about the same issuer this must be told too, so
/// that a person is the same whether they come with a session or with an access token: `alias`,
/// `primary`, `reserved_aliases`, `roles_claim` and `role`.
///
/// `Debug` shows no secret.
///
/// # Examples
///
/// ```
/// use tower_sso::login::Provider;
///
/// let corp = Provider::keycloak("https://login.example.com", "corp")
///     .alias("corp")
///     .label("Example Corp")
///     .client("openclaw", "client secret")
///     .primary(true)
///     .role("admin", ["openclaw-admins"]);
/// let google = Provider::google().client("id.apps.googleusercontent.com", "client secret");
/// # let _ = (corp, google);
/// ```
#[derive(Clone)]
#[must_use = "a provider does nothing until `Providers` takes it"]
pub struct Provider {
    pub(super) kind: ProviderKind,
    pub(super) alias: Box<str>,
    pub(super) label: Box<str>,
    pub(super) client_id: Box<str>,
    pub(super) client_secret: Zeroizing<Box<str>>,
    pub(super) client_auth: Option<ClientAuth>,
    pub(super) scopes: Vec<Box<str>>,
    pub(super) offline: bool,
    pub(super) parameters: Vec<(Box<str>, Box<str>)>,
    pub(super) primary: bool,
    pub(super) reserved_aliases: Vec<Box<str>>,
    pub(super) roles_claim: Box<str>,
    pub(super) roles: Vec<(Box<str>, Vec<Box<str>>)>,
    pub(super) algorithms: Option<Vec<Algorithm>>,
}

/// How the client secret is sent to the token endpoint (OpenID Connect Core section 9).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ClientAuth {
    /// `client_secret_basic`: in the `Authorization` header.
    Basic,
    /// `client_secret_post`: in the body.
    Post,
}

// === impl Provider ===

impl Provider {
    /// Any provider that speaks OpenID Connect, by its issuer, which is compared byte for byte with what
    /// the provider says. Alias: `oidc`.
    pub fn oidc(issuer: &str) -> Self {
        let issuer = issuer.into();
        Self::new("oidc", "single sign-on", ProviderKind::OpenId { issuer })
    }

    /// Auth0, by the domain of the tenant, such as `example.eu.auth0.com`. Alias: `auth0`.
    pub fn auth0(domain: &str) -> Self {
        let issuer = format!("https://{domain}/").into();
        Self::new("auth0", "Auth0", ProviderKind::Auth0 { issuer })
    }

    /// Okta, by its domain, such as `example.okta.com`, and the id of the custom authorization server, such
    /// as `default`; without one the organisation's own. Alias: `okta`.
    pub fn okta(domain: &str, server: Option<&str>) -> Self {
        let issuer = match server {
            Some(server) => format!("https://{domain}/oauth2/{server}"),
            None => format!("https://{domain}"),
        };
        let issuer = issuer.into();
        Self::new("okta", "Okta", ProviderKind::OpenId { issuer })
    }

    /// Google. Alias: `google`.
    ///
    /// For refresh tokens Google wants `access_type=offline` and `prompt=consent` instead of a scope, which
    /// [`offline`](Self::offline) sends; as it asks for consent at every sign-in, it is off until said
    /// otherwise.
    pub fn google() -> Self {
        Self::new("google", "Google", ProviderKind::Google).offline(false)
    }

    /// GitHub, which has no ID tokens: the person is asked for at its API, and signing out ends only
    /// the session here. Alias: `github`.
    pub fn github() -> Self {
        Self::new("github", "GitHub", ProviderKind::GitHub { server: None })
            .scopes(["read:user", "user:email"])
    }

    /// A GitHub Enterprise Server at this address, such as `https://github.example.com`. Alias: `github`.
    pub fn github_enterprise(address: &str) -> Self {
        let server = Some(address.trim_end_matches('/').into());
        Self::new("github", "GitHub", ProviderKind::GitHub { server })
            .scopes(["read:user", "user:email"])
    }

    /// Microsoft Entra, by the id of the tenant (`00000000-…`), or `organizations`, `common` or
    /// `consumers`. Alias: `entra`.
    ///
    /// With `organizations` and `common` anybody with a Microsoft account of any tenant can sign in:
    /// see [`tenants`](Self::tenants).
    pub fn entra(tenant: &str) -> Self {
        let kind = ProviderKind::Entra {
            tenant: tenant.into(),
            allowed: None,
        };
        Self::new("entra", "Microsoft", kind)
    }

    /// Keycloak, by its address, such as `https://login.example.com`, and the realm. Alias: `keycloak`.
    pub fn keycloak(base: &str, realm: &str) -> Self {
        let issuer = format!("{}/realms/{realm}", base.trim_end_matches('/')).into();
        Self::new("keycloak", "Keycloak", ProviderKind::OpenId { issuer })
    }

    fn new(alias: &str, label: &str, kind: ProviderKind) -> Self {
        Self {
            kind,
            alias: alias.into(),
            label: label.into(),
            client_id: Box::default(),
            client_secret: Zeroizing::default(),
            client_auth: None,
            scopes: ["openid", "profile", "email"].map(Into::into).into(),
            offline: true,
            parameters: Vec::new(),
            primary: false,
            reserved_aliases: Vec::new(),
            roles_claim: "groups".into(),
            roles: Vec::new(),
            algorithms: None,
        }
    }

    /// Sets the short name, which stands before the subject in the user ids of people who are not the
    /// primary provider's.
    pub fn alias(mut self, alias: &str) -> Self {
        self.alias = alias.into();
        self
    }

    /// Sets the name that people are shown.
    pub fn label(mut self, label: &str) -> Self {
        self.label = label.into();
        self
    }

    /// Sets the client id and secret that the provider gave this server.
    pub fn client(mut self, id: &str, secret: &str) -> Self {
        self.client_id = id.into();
        self.client_secret = Zeroizing::new(secret.into());
        self
    }

    /// Sets how the secret is sent. Default: in the body where the provider lists that, else in the
    /// header.
    ///
    /// Providers disagree on how a secret with special characters is escaped in the header; in the body
    /// there is one way.
    pub fn client_auth(mut self, client_auth: ClientAuth) -> Self {
        self.client_auth = Some(client_auth);
        self
    }

    /// Sets what is asked for. Default: `openid profile email`. `openid` is added where it is needed, and
    /// `offline_access` by [`offline`](Self::offline).
    pub fn scopes(mut self, scopes: impl IntoIterator<Item: Into<Box<str>>>) -> Self {
        self.scopes = scopes.into_iter().map(Into::into).collect();
        self
    }

    /// Says whether to ask for a refresh token, with which sessions follow what becomes of the person at
    /// the provider. Default: yes, where the provider lists the scope `offline_access`; for Google no.
    pub fn offline(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }

    /// Sets the API that access tokens are for, for providers with a parameter `audience`, such as Auth0.
    pub fn audience(self, audience: &str) -> Self {
        self.parameter("audience", audience)
    }

    /// Adds a parameter to the authorization request, such as `hd`, `organization` or `prompt`.
    pub fn parameter(mut self, name: &str, value: &str) -> Self {
        self.parameters.retain(|(own, _)| &**own != name);
        self.parameters.push((name.into(), value.into()));
        self
    }

    /// Sets whose people of Entra may sign in, by the ids of their tenants. Has no effect on other providers.
    pub fn tenants(mut self, ids: impl IntoIterator<Item: Into<Box<str>>>) -> Self {
        if let ProviderKind::Entra { allowed, .. } = &mut self.kind {
            *allowed = Some(ids.into_iter().map(Into::into).collect());
        }
        self
    }

    /// Says whether this is the provider whose subjects are user ids as they are. Default: no, then a
    /// user id is `<alias>|<subject>`.
    pub fn primary(mut self, primary: bool) -> Self {
        self.primary = primary;
        self
    }

    /// Adds aliases of issuers that are not among the providers: a subject of the primary provider that
    /// looks like a user id of theirs cannot sign in.
    pub fn reserved_aliases(mut self, aliases: impl IntoIterator<Item: Into<Box<str>>>) -> Self {
        self.reserved_aliases
            .extend(aliases.into_iter().map(Into::into));
        self
    }

    /// Sets the claim that roles are mapped from, as in
    /// [`JwtConfig::roles_claim`](crate::jwt::JwtConfig::roles_claim). Default: `groups`.
    pub fn roles_claim(mut self, claim: &str) -> Self {
        self.roles_claim = claim.into();
        self
    }

    /// Gives a role to whom the roles claim has one of these values. Without any, nobody has a role.
    pub fn role(mut self, role: &str, values: impl IntoIterator<Item: Into<Box<str>>>) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        self.roles.push((role.into(), values));
        self
    }

    /// Sets the algorithms ID tokens and logout tokens may be signed with. Default: those of
    /// [`JwtConfig`](crate::jwt::JwtConfig).
    pub fn algorithms(mut self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        self.algorithms = Some(algorithms.into_iter().collect());
        self
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("kind", &self.kind)
            .field("alias", &self.alias)
            .field("client_id", &self.client_id)
            .field("primary", &self.primary)
            .finish_non_exhaustive()
    }
}
