use thiserror::Error;

use crate::{AnswerFuture, Identity};

/// Decides about a person whom a provider has verified: before their session is opened, and again
/// whenever the provider says anew who they are.
///
/// This is the place to write down that somebody signed in, to turn people away, and to add roles of
/// one's own. The identity it gives back is the one the session has; its user id must stay what the
/// verifiers of access tokens make of the same person. A closure is one too.
///
/// # Examples
///
/// ```
/// use tower_sso::{AnswerFuture, Identity};
/// use tower_sso::login::{AdmitError, Occasion};
///
/// let employees = |identity: Identity, _: Occasion| {
///     let is_one = identity.email_verified()
///         && identity.email().is_some_and(|email| email.ends_with("@example.com"));
///     AnswerFuture::ready(if is_one { Ok(identity) } else { Err(AdmitError::Refused) })
/// };
/// # fn is_admit(_: impl tower_sso::login::Admit) {}
/// # is_admit(employees);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot decide who may sign in",
    note = "a closure `Fn(Identity, Occasion) -> AnswerFuture<Result<Identity, AdmitError>>` that is \
            `Send + Sync + 'static` can"
)]
pub trait Admit: Send + Sync + 'static {
    /// The identity to go on with.
    ///
    /// # Errors
    ///
    /// The future resolves to [`AdmitError::Refused`] if the person may not sign in, and to
    /// [`AdmitError::Unavailable`] if that cannot be found out at the moment.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time.
    fn admit(
        &self,
        identity: Identity,
        occasion: Occasion,
    ) -> AnswerFuture<Result<Identity, AdmitError>>;
}

/// When somebody is decided about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Occasion {
    /// They have just signed in; no session is open yet.
    SignIn,
    /// The provider says anew who the person of an open session is.
    Refresh,
}

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum AdmitError {
    /// They may not sign in.
    #[error("this person may not sign in")]
    Refused,
    /// Whether they may cannot be found out at the moment.
    #[error("whether this person may sign in cannot be found out at the moment")]
    Unavailable,
}

// === impl Admit ===

impl<F> Admit for F
where
    F: Fn(Identity, Occasion) -> AnswerFuture<Result<Identity, AdmitError>> + Send + Sync + 'static,
{
    fn admit(
        &self,
        identity: Identity,
        occasion: Occasion,
    ) -> AnswerFuture<Result<Identity, AdmitError>> {
        self(identity, occasion)
    }
}
