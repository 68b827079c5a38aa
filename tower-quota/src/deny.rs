use crate::Denied;

/// How a protocol says no.
///
/// A refusal is an answer, not an error: the inner service's error type stays as it is. Both ways of answering end in one
/// response type, so that a protocol whose responses are generic can wrap what passes. Over HTTP that is a response of
/// [`ResponseBody`](crate::ResponseBody).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot refuse a `{Req}` that is answered by a `{Res}`",
    note = "`tower_quota::DenyHttp` refuses HTTP requests; implement `tower_quota::Deny<{Req}, {Res}>` for another protocol, and give it to `QuotaLayer::deny_with`"
)]
pub trait Deny<Req, Res> {
    /// The answer, passed or refused.
    type Response;

    /// The inner service's answer to a request that was admitted.
    fn pass(&self, res: Res) -> Self::Response;

    /// The answer to `req`, which is refused.
    fn deny(&self, req: Req, refusal: Refusal) -> Self::Response;
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Refusal {
    /// A limit does not leave enough.
    Denied(Denied),
    /// The store could not answer, and the layer is [closed](crate::OnStoreFailure::Closed) then.
    StoreUnavailable,
}
