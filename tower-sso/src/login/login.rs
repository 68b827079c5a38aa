use std::fmt;

use super::{
    error::LoginError, form::encode, origin::Origin, providers::Providers,
    redirect::RedirectToSignIn, return_to::ReturnTo, service::LoginService,
};
use crate::session::{SealingKeys, Sessions};

/// Signs people in and out in a browser. The [module](crate::login) says how.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use tower_sso::{
///     HttpClient,
///     login::{Login, LoginError, LoginService, Provider, Providers},
///     session::{MemoryStore, SealingKeys, Sessions},
/// };
///
/// fn sign_in(client: Arc<dyn HttpClient>, keys: SealingKeys) -> Result<LoginService, LoginError> {
///     let corp = Provider::keycloak("https://login.example.com", "corp").client("openclaw", "secret");
///     let providers = Providers::new(client, [corp])?;
///     let sessions = Sessions::new(Arc::new(MemoryStore::new()), keys.clone())
///         .refresh_with(Arc::new(providers.clone()));
///     Ok(Login::new(sessions, keys, providers, "https://app.example.com")?.service())
/// }
/// ```
#[derive(Clone)]
#[must_use = "nobody can sign in before `service` is called"]
pub struct Login {
    pub(super) sessions: Sessions,
    pub(super) keys: SealingKeys,
    pub(super) providers: Providers,
    pub(super) origin: Origin,
    /// Ours first, then those of other applications that people come from.
    pub(super) origins: Vec<Origin>,
    pub(super) base: Box<str>,
    pub(super) after_sign_in: ReturnTo,
    /// `None`: the page that says so.
    pub(super) after_sign_out: Option<ReturnTo>,
}

// === impl Login ===

impl Login {
    /// Signs in with these providers, at the origin people see, such as `https://app.example.com`.
    ///
    /// The keys seal what a browser keeps of a sign-in under way; all servers behind the origin need
    /// the same ones.
    ///
    /// # Errors
    ///
    /// [`LoginError::Origin`] if the origin is not `https`, or `http` on this machine, in the spelling of
    /// browsers: in lower case, without a path, and without a port that the scheme has anyway.
    pub fn new(
        sessions: Sessions,
        keys: SealingKeys,
        providers: Providers,
        origin: &str,
    ) -> Result<Self, LoginError> {
        let origin = Origin::parse(origin).ok_or(LoginError::Origin)?;
        let origins = vec![origin.clone()];
        Ok(Self {
            sessions,
            keys,
            providers,
            after_sign_in: ReturnTo::parse("/", &origins).ok_or(LoginError::Target)?,
            after_sign_out: None,
            origin,
            origins,
            base: "/auth".into(),
        })
    }

    /// Sets the path below which sign-in is served, without a slash at the end. Default: `/auth`.
    ///
    /// # Errors
    ///
    /// [`LoginError::Base`] if it does not begin with `/`, ends with one, or has other characters than
    /// letters, digits, `-`, `_` and `/`.
    pub fn base(mut self, path: &str) -> Result<Self, LoginError> {
        let is_plain = path
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_/".contains(&byte));
        if !path.starts_with('/') || path.ends_with('/') || path.contains("//") || !is_plain {
            return Err(LoginError::Base);
        }
        self.base = path.into();
        Ok(self)
    }

    /// Lets people return to another origin too, such as that of a single-page application, and lets
    /// it sign them out.
    ///
    /// # Errors
    ///
    /// [`LoginError::Origin`], as from [`new`](Self::new).
    pub fn allow_origin(mut self, origin: &str) -> Result<Self, LoginError> {
        let origin = Origin::parse(origin).ok_or(LoginError::Origin)?;
        if !self.origins.contains(&origin) {
            self.origins.push(origin);
        }
        Ok(self)
    }

    /// Sets where people go who did not say where they want to return to: a path, or an address on an
    /// allowed origin. Default: `/`.
    ///
    /// # Errors
    ///
    /// [`LoginError::Target`] if it is neither.
    pub fn after_sign_in(mut self, target: &str) -> Result<Self, LoginError> {
        self.after_sign_in = ReturnTo::parse(target, &self.origins).ok_or(LoginError::Target)?;
        Ok(self)
    }

    /// Sets where people go after they have signed out: a path, or an address on an allowed origin,
    /// which must be registered at the providers. Default: the page `signed-out`.
    ///
    /// # Errors
    ///
    /// [`LoginError::Target`] if it is neither.
    pub fn after_sign_out(mut self, target: &str) -> Result<Self, LoginError> {
        let target = ReturnTo::parse(target, &self.origins).ok_or(LoginError::Target)?;
        self.after_sign_out = Some(target);
        Ok(self)
    }

    /// The service that does it.
    #[must_use]
    pub fn service(self) -> LoginService {
        LoginService::new(self)
    }

    /// What sends browsers that are not signed in to the service.
    #[must_use]
    pub fn redirect_to_sign_in(&self) -> RedirectToSignIn {
        RedirectToSignIn::new(&self.base)
    }

    /// Where a browser begins to sign in.
    pub(super) fn login_path(&self, provider: Option<&str>, return_to: Option<&str>) -> String {
        let provider = provider.map(|alias| ("provider", alias));
        let return_to = return_to.map(|target| ("return_to", target));
        let query = encode(provider.into_iter().chain(return_to));
        let joint = if query.is_empty() { "" } else { "?" };
        format!("{}/login{joint}{query}", self.base)
    }

    pub(super) fn redirect_uri(&self) -> String {
        format!("{}{}/callback", self.origin, self.base)
    }

    /// Where a browser goes after it has signed out.
    pub(super) fn signed_out(&self) -> String {
        match &self.after_sign_out {
            Some(target) => target.to_string(),
            None => format!("{}{}/signed-out", self.origin, self.base),
        }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("origins", &self.origins)
            .field("base", &self.base)
            .field("providers", &self.providers)
            .finish_non_exhaustive()
    }
}
