use crate::Charge;

/// What to charge to whom, by the request.
///
/// Any `Fn(&Req) -> Option<Charge>` is a policy.
///
/// `None` is no charge at all: the request passes unlimited and uncounted. So a request of nobody known must not get
/// it. Either a layer outside refuses such requests, or they are charged to a subject that all of them share, as below.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use tower_quota::{Charge, Dimension};
///
/// #[derive(Clone)]
/// struct User(Arc<str>);
///
/// let policy = |request: &http::Request<()>| {
///     if request.uri().path() == "/healthz" {
///         return None; // whoever asks, and however often
///     }
///     let user = request.extensions().get().map_or("nobody".into(), |User(id)| Arc::clone(id));
///     Some(Charge::new(user).exactly(Dimension::Calls, 1))
/// };
/// # fn is_policy(_: impl tower_quota::QuotaPolicy<http::Request<()>>) {}
/// # is_policy(policy);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what a `{Req}` is charged",
    note = "a policy is a `Fn(&{Req}) -> Option<tower_quota::Charge>` or implements `tower_quota::QuotaPolicy<{Req}>`"
)]
pub trait QuotaPolicy<Req> {
    /// The charge for `req`, or `None` if it is free: it then passes without a limit and without being counted.
    fn charge(&self, req: &Req) -> Option<Charge>;
}

// === impl QuotaPolicy ===

impl<F, Req> QuotaPolicy<Req> for F
where
    F: Fn(&Req) -> Option<Charge>,
{
    fn charge(&self, req: &Req) -> Option<Charge> {
        self(req)
    }
}
