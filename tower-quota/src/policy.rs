use crate::Charge;

/// What to charge to whom, by the request.
///
/// Any `Fn(&Req) -> Option<Charge>` is a policy.
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
///     let User(id) = request.extensions().get()?;
///     Some(Charge::new(id.clone()).exactly(Dimension::Calls, 1))
/// };
/// # fn is_policy(_: impl tower_quota::QuotaPolicy<http::Request<()>>) {}
/// # is_policy(policy);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what a `{Req}` is charged",
    note = "a policy is a `Fn(&{Req}) -> Option<tower_quota::Charge>` or implements `tower_quota::QuotaPolicy<{Req}>`"
)]
pub trait QuotaPolicy<Req> {
    /// The charge for `req`, or `None` if it passes without one.
    fn charge(&self, req: &Req) -> Option<Charge>;
}

impl<F, Req> QuotaPolicy<Req> for F
where
    F: Fn(&Req) -> Option<Charge>,
{
    fn charge(&self, req: &Req) -> Option<Charge> {
        self(req)
    }
}
