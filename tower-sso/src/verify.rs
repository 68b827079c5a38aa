use std::{net::IpAddr, sync::Arc};

use crate::{AnswerFuture, Identity, VerifyError};

/// What a [`Verify`] answers with.
pub type VerifyFuture = AnswerFuture<Result<Arc<Identity>, VerifyError>>;

/// Decides whose a token is.
///
/// Object-safe: servers choose their verifiers at run time, as `Arc<dyn Verify>`. A closure from
/// the token to a [`VerifyFuture`] is a verifier too.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use tower_sso::{Identity, Reason, Verify, VerifyError, VerifyFuture};
///
/// /// Knows one machine by a key of its own.
/// struct BuildMachine(Arc<Identity>);
///
/// impl Verify for BuildMachine {
///     fn verify(&self, token: &str) -> VerifyFuture {
///         # fn digest(token: &str) -> usize { token.len() }
///         # const EXPECTED: usize = 3;
///         // Compare digests, never the secrets themselves.
///         VerifyFuture::ready(if digest(token) == EXPECTED {
///             Ok(Arc::clone(&self.0))
///         } else {
///             Err(VerifyError::Invalid(Reason::Unknown))
///         })
///     }
/// }
///
/// let machine = Identity::builder("gateway", "build-1").build();
/// let verifier: Arc<dyn Verify> = Arc::new(BuildMachine(Arc::new(machine)));
/// # let _ = verifier.verify("abc");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot verify tokens",
    label = "this type does not implement `Verify`",
    note = "a closure `Fn(&str) -> VerifyFuture` that is `Send + Sync + 'static` is a verifier"
)]
pub trait Verify: Send + Sync + 'static {
    /// Verifies the token, as it was found in the request.
    ///
    /// # Errors
    ///
    /// The future resolves to [`VerifyError::Invalid`] if the token breaks a rule, and to
    /// [`VerifyError::Unavailable`] if what decides about it cannot be had at the moment.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time.
    fn verify(&self, token: &str) -> VerifyFuture;

    /// Verifies the token, and is told whom it came from.
    ///
    /// One that asks elsewhere about tokens that it does not know, as those for [opaque](crate::opaque) tokens do, asks no
    /// further for whom it has just been refused many; all others have the same answer for everybody, and leave this as it
    /// is. A verifier that wraps another one passes the address on.
    ///
    /// # Errors
    ///
    /// As [`verify`](Self::verify).
    ///
    /// # Cancel safety
    ///
    /// As [`verify`](Self::verify).
    fn verify_from(&self, token: &str, address: Option<IpAddr>) -> VerifyFuture {
        let _ = address;
        self.verify(token)
    }
}

// === impl Verify ===

impl<V: Verify + ?Sized> Verify for Arc<V> {
    fn verify(&self, token: &str) -> VerifyFuture {
        (**self).verify(token)
    }

    fn verify_from(&self, token: &str, address: Option<IpAddr>) -> VerifyFuture {
        (**self).verify_from(token, address)
    }
}

impl<F> Verify for F
where
    F: Fn(&str) -> VerifyFuture + Send + Sync + 'static,
{
    fn verify(&self, token: &str) -> VerifyFuture {
        self(token)
    }
}
