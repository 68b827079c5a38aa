use crate::{Denied, StoreError};

/// How a protocol says no.
///
/// A refusal is an answer, not an error: the inner service's error type stays as it is. Both ways of answering end in one
/// response type, so that a protocol whose responses are generic can wrap what passes. Over HTTP that is a response of
/// [`ResponseBody`](crate::ResponseBody).
///
/// # Examples
///
/// ```
/// use tower_quota::{Deny, Refusal};
///
/// struct Call {
///     id: u64,
/// }
///
/// enum Reply {
///     Done { id: u64 },
///     Refused { id: u64, code: &'static str },
/// }
///
/// #[derive(Clone)]
/// struct DenyCall;
///
/// impl Deny<Call, Reply> for DenyCall {
///     type Response = Reply;
///
///     fn pass(&self, reply: Reply) -> Reply {
///         reply
///     }
///
///     fn deny(&self, call: Call, refusal: Refusal) -> Reply {
///         let code = match refusal {
///             Refusal::Denied(denied) => denied.code(),
///             _ => "unavailable",
///         };
///         Reply::Refused { id: call.id, code }
///     }
/// }
/// ```
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

    /// The inner service's answer to a request that ran without a reservation, since the store could not answer and
    /// the layer is [open](crate::OnStoreFailure::Open).
    ///
    /// This is where the failure shows, for a log or a metric. The default forgets it and [passes](Self::pass).
    fn pass_unmetered(&self, res: Res, error: StoreError) -> Self::Response {
        let _ = error;
        self.pass(res)
    }
}

/// Why a request is refused.
#[derive(Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// A limit does not leave enough.
    Denied(Denied),
    /// The store could not answer, and the layer is [closed](crate::OnStoreFailure::Closed) then.
    ///
    /// What failed is for the log, and nothing to tell a client.
    StoreUnavailable(StoreError),
}
