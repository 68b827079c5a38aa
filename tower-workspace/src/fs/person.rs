use std::sync::Arc;

/// For whom a workspace is provisioned, and what its files say about them.
///
/// The user id alone decides which directory it is. The rest comes from elsewhere and may be
/// anything: it is escaped wherever it is written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Person {
    pub(super) user_id: Arc<str>,
    pub(super) name: Option<Arc<str>>,
    pub(super) email: Option<Arc<str>>,
    pub(super) key_id: Option<Arc<str>>,
    pub(super) sandbox: bool,
}

// === impl Person ===

impl Person {
    /// A person of whom only the user id is known, without key and sandbox.
    pub fn new(user_id: impl Into<Arc<str>>) -> Self {
        Self {
            user_id: user_id.into(),
            name: None,
            email: None,
            key_id: None,
            sandbox: false,
        }
    }

    /// Sets what the person is called.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the person's e-mail address.
    #[must_use]
    pub fn with_email(mut self, email: impl Into<Arc<str>>) -> Self {
        self.email = Some(email.into());
        self
    }

    /// Sets the id of the key used on the person's behalf: an id, never the key.
    #[must_use]
    pub fn with_key_id(mut self, key_id: impl Into<Arc<str>>) -> Self {
        self.key_id = Some(key_id.into());
        self
    }

    /// Sets whether the person's tools must run in a sandbox.
    #[must_use]
    pub fn with_sandbox(mut self, sandbox: bool) -> Self {
        self.sandbox = sandbox;
        self
    }
}
