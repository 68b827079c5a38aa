use std::{fmt, sync::Arc, time::SystemTime};

/// Who is asking, as a verified token says.
///
/// Shared as `Arc<Identity>`. `Debug` shows the issuer only: subject, e-mail and claims are personal
/// data and stay out of logs.
#[derive(Clone)]
pub struct Identity {
    issuer: Arc<str>,
    provider: Arc<str>,
    subject: Arc<str>,
    user_id: Arc<str>,
    email: Option<Box<str>>,
    email_verified: bool,
    name: Option<Box<str>>,
    picture: Option<Box<str>>,
    groups: Box<[Box<str>]>,
    roles: Box<[Box<str>]>,
    scopes: Box<[Box<str>]>,
    expires_at: Option<SystemTime>,
    session_id: Option<Box<str>>,
    credential: CredentialKind,
    credential_id: Option<Box<str>>,
    claims: Box<str>,
}

/// What an identity was verified by.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum CredentialKind {
    /// A token that is kept nowhere here: an access token of an issuer, or whatever a verifier of
    /// one's own takes.
    #[default]
    Token,
    /// A login session of a browser.
    Session,
    /// A personal access token.
    AccessToken,
}

/// Builds an [`Identity`], for verifiers of one's own. See [`Identity::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct IdentityBuilder(Identity);

// === impl Identity ===

impl Identity {
    /// Begins an identity with what each one has.
    ///
    /// Until said otherwise the user id is the subject, the provider is the issuer, the claims are
    /// an empty object, there is no expiry, and everything else is absent. A verifier answers for
    /// the subject: it must be one that cannot be taken for another user's.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_sso::Identity;
    ///
    /// let identity = Identity::builder("https://login.example.com", "bob")
    ///     .provider("corp")
    ///     .user_id("corp|bob")
    ///     .roles(["admin"])
    ///     .build();
    /// assert_eq!(&**identity.user_id(), "corp|bob");
    /// assert_eq!(identity.expires_at(), None);
    /// ```
    pub fn builder(issuer: impl Into<Arc<str>>, subject: impl Into<Arc<str>>) -> IdentityBuilder {
        let (issuer, subject) = (issuer.into(), subject.into());
        IdentityBuilder(Self {
            provider: Arc::clone(&issuer),
            issuer,
            user_id: Arc::clone(&subject),
            subject,
            email: None,
            email_verified: false,
            name: None,
            picture: None,
            groups: Box::default(),
            roles: Box::default(),
            scopes: Box::default(),
            expires_at: None,
            session_id: None,
            credential: CredentialKind::Token,
            credential_id: None,
            claims: "{}".into(),
        })
    }

    /// A builder that begins with this identity, to change something of it.
    pub fn to_builder(&self) -> IdentityBuilder {
        IdentityBuilder(self.clone())
    }

    /// Who says so: the issuer's identifier, byte for byte (`iss`).
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The short name the configuration gives the issuer.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// The user's id at the issuer (`sub`), unique only together with the issuer.
    #[must_use]
    pub fn subject(&self) -> &Arc<str> {
        &self.subject
    }

    /// The user's id here, unique over all issuers.
    #[must_use]
    pub fn user_id(&self) -> &Arc<str> {
        &self.user_id
    }

    /// The e-mail address. It names nobody: it may be absent, change, and belong to several.
    #[must_use]
    pub fn email(&self) -> Option<&str> {
        self.email.as_deref()
    }

    /// Whether the issuer says that the e-mail address was verified; `false` if it says nothing.
    #[must_use]
    pub const fn email_verified(&self) -> bool {
        self.email_verified
    }

    /// The name to show.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Where the issuer says a picture is: an address that must not be fetched unseen.
    #[must_use]
    pub fn picture(&self) -> Option<&str> {
        self.picture.as_deref()
    }

    /// The groups the issuer puts the user in.
    #[must_use]
    pub fn groups(&self) -> &[Box<str>] {
        &self.groups
    }

    /// The roles the configuration gives the user.
    #[must_use]
    pub fn roles(&self) -> &[Box<str>] {
        &self.roles
    }

    /// What the token allows.
    #[must_use]
    pub fn scopes(&self) -> &[Box<str>] {
        &self.scopes
    }

    /// When the credential ends, if it does by itself.
    #[must_use]
    pub const fn expires_at(&self) -> Option<SystemTime> {
        self.expires_at
    }

    /// The issuer's id of the session the token came from (`sid`).
    #[must_use]
    pub fn session_id(&self) -> Option<&str> {
        self.session_id.as_deref()
    }

    /// What was presented.
    #[must_use]
    pub const fn kind(&self) -> CredentialKind {
        self.credential
    }

    /// The id of the login session or personal access token that was presented, where a store of
    /// ours keeps it. It is no secret, and ends the credential when it is revoked.
    #[must_use]
    pub fn credential_id(&self) -> Option<&str> {
        self.credential_id.as_deref()
    }

    /// All claims, as the JSON object the issuer signed.
    #[must_use]
    pub fn claims(&self) -> &str {
        &self.claims
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("issuer", &self.issuer)
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}

// === impl IdentityBuilder ===

impl IdentityBuilder {
    /// Sets the short name of the issuer.
    pub fn provider(mut self, alias: impl Into<Arc<str>>) -> Self {
        self.0.provider = alias.into();
        self
    }

    /// Sets the user's id here.
    pub fn user_id(mut self, user_id: impl Into<Arc<str>>) -> Self {
        self.0.user_id = user_id.into();
        self
    }

    /// Sets the e-mail address and whether it was verified.
    pub fn email(mut self, address: impl Into<Box<str>>, verified: bool) -> Self {
        self.0.email = Some(address.into());
        self.0.email_verified = verified;
        self
    }

    /// Sets the name to show.
    pub fn name(mut self, name: impl Into<Box<str>>) -> Self {
        self.0.name = Some(name.into());
        self
    }

    /// Sets the address of a picture.
    pub fn picture(mut self, address: impl Into<Box<str>>) -> Self {
        self.0.picture = Some(address.into());
        self
    }

    /// Sets the groups.
    pub fn groups(mut self, groups: impl IntoIterator<Item: Into<Box<str>>>) -> Self {
        self.0.groups = collect(groups);
        self
    }

    /// Sets the roles.
    pub fn roles(mut self, roles: impl IntoIterator<Item: Into<Box<str>>>) -> Self {
        self.0.roles = collect(roles);
        self
    }

    /// Sets the scopes.
    pub fn scopes(mut self, scopes: impl IntoIterator<Item: Into<Box<str>>>) -> Self {
        self.0.scopes = collect(scopes);
        self
    }

    /// Sets when the credential ends.
    pub fn expires_at(mut self, expires_at: SystemTime) -> Self {
        self.0.expires_at = Some(expires_at);
        self
    }

    /// Sets the issuer's id of the session.
    pub fn session_id(mut self, session_id: impl Into<Box<str>>) -> Self {
        self.0.session_id = Some(session_id.into());
        self
    }

    /// Sets what was presented, and its id.
    pub fn credential(mut self, kind: CredentialKind, id: impl Into<Box<str>>) -> Self {
        self.0.credential = kind;
        self.0.credential_id = Some(id.into());
        self
    }

    /// Sets the claims, a JSON object as text.
    pub fn claims(mut self, json: impl Into<Box<str>>) -> Self {
        self.0.claims = json.into();
        self
    }

    /// The identity.
    #[must_use]
    pub fn build(self) -> Identity {
        self.0
    }
}

fn collect(values: impl IntoIterator<Item: Into<Box<str>>>) -> Box<[Box<str>]> {
    values.into_iter().map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use super::Identity;

    #[test]
    fn debug_shows_nothing_personal() {
        let identity = Identity::builder("https://issuer.example", "canary-sub")
            .user_id("canary-id")
            .email("canary@example.com", true)
            .name("canary name")
            .picture("https://canary.example")
            .session_id("canary-sid")
            .claims(r#"{"secret":"canary"}"#)
            .build();

        let shown = format!("{identity:?} {:?}", Identity::builder("i", "canary"));
        assert!(!shown.contains("canary"), "{shown}");
        assert!(shown.contains("https://issuer.example"), "{shown}");
    }

    #[test]
    fn user_id_is_the_subject_until_said_otherwise() {
        let identity = Identity::builder("issuer", "subject").build();
        assert_eq!(identity.user_id(), identity.subject());
        assert_eq!(identity.provider(), "issuer");
        assert!(!identity.email_verified());
        assert_eq!(identity.claims(), "{}");
    }
}
