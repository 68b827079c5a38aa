use std::{fmt, sync::Arc};

use tower_layer::Layer;

use crate::{BearerHeader, Identity, RejectHttp, Rejection, Require, Sso, Verify, VerifyError};

/// Lets only requests with a verified token through, each with its [`Identity`].
///
/// The identity is an `Arc<Identity>` in the extensions of an `http::Request`, or wherever the
/// request type's [`Carry`](crate::Carry) puts it. By default the token is the bearer token of the
/// `Authorization` header, a request without one is refused, and refusals are HTTP responses. A
/// token of more than 16 KiB is not valid, whoever verifies.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use tower_sso::{Require, SsoLayer, Verify};
///
/// # fn example(verifier: Arc<dyn Verify>) {
/// let everyone = SsoLayer::new(Arc::clone(&verifier));
/// let visitors_too = SsoLayer::new(Arc::clone(&verifier)).optional();
/// let admins = SsoLayer::new(verifier).require(Require::new().any_role(["admin"]));
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a layer does nothing until it wraps a service"]
pub struct SsoLayer<T = BearerHeader, R = RejectHttp> {
    verifier: Arc<dyn Verify>,
    pub(super) source: T,
    pub(super) reject: R,
    pub(super) admission: Admission,
}

/// Who gets in: the part of the layer that a pending request takes along.
#[derive(Clone, Debug, Default)]
pub(super) struct Admission {
    optional: bool,
    require: Option<Arc<Require>>,
}

// === impl SsoLayer ===

impl SsoLayer {
    /// Asks the verifier about the bearer token of each request.
    pub fn new(verifier: Arc<dyn Verify>) -> Self {
        Self {
            verifier,
            source: BearerHeader::new(),
            reject: RejectHttp::new(),
            admission: Admission::default(),
        }
    }
}

impl<T, R> SsoLayer<T, R> {
    /// Takes the token from elsewhere. See [`TokenSource`](crate::TokenSource).
    pub fn source<U>(self, source: U) -> SsoLayer<U, R> {
        SsoLayer {
            verifier: self.verifier,
            source,
            reject: self.reject,
            admission: self.admission,
        }
    }

    /// Refuses in another form. See [`Reject`](crate::Reject).
    pub fn reject_with<U>(self, reject: U) -> SsoLayer<T, U> {
        SsoLayer {
            verifier: self.verifier,
            source: self.source,
            reject,
            admission: self.admission,
        }
    }

    /// Lets requests without a token pass, without an identity. A bad token is still refused.
    ///
    /// Has no effect beside [`require`](Self::require): nobody has nothing that is required.
    pub fn optional(mut self) -> Self {
        self.admission.optional = true;
        self
    }

    /// Requires something of the identity, in place of an earlier requirement.
    pub fn require(mut self, require: Require) -> Self {
        self.admission.require = Some(Arc::new(require));
        self
    }

    pub(super) fn verifier(&self) -> &dyn Verify {
        &*self.verifier
    }
}

impl<T, R> fmt::Debug for SsoLayer<T, R>
where
    T: fmt::Debug,
    R: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SsoLayer")
            .field("source", &self.source)
            .field("reject", &self.reject)
            .field("admission", &self.admission)
            .finish_non_exhaustive()
    }
}

impl<S, T: Clone, R: Clone> Layer<S> for SsoLayer<T, R> {
    type Service = Sso<S, T, R>;

    fn layer(&self, inner: S) -> Self::Service {
        Sso::new(inner, self.clone())
    }
}

// === impl Admission ===

impl Admission {
    pub(super) fn admit_anonymous(&self) -> Result<(), Rejection> {
        if self.optional && self.require.is_none() {
            Ok(())
        } else {
            Err(Rejection::MissingToken)
        }
    }

    pub(super) fn admit(
        &self,
        verdict: Result<Arc<Identity>, VerifyError>,
    ) -> Result<Arc<Identity>, Rejection> {
        let identity = verdict?;
        if let Some(require) = &self.require {
            require.check(&identity)?;
        }
        Ok(identity)
    }
}
