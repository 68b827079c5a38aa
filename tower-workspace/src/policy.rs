use std::sync::Arc;

use crate::{ResolveError, Workspace};

/// How a protocol names its user, carries a workspace, and refuses.
///
/// [`BindHttp`](crate::BindHttp) is the implementation for HTTP. A new protocol is a new
/// implementation, not a new middleware.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use tower_workspace::{Bind, ResolveError, Workspace};
///
/// struct Call {
///     id: u64,
///     user_id: Option<Arc<str>>,
///     workspace: Option<Arc<Workspace>>,
/// }
///
/// struct Reply {
///     id: u64,
///     error: Option<&'static str>,
/// }
///
/// #[derive(Clone)]
/// struct BindCall;
///
/// impl Bind<Call, Reply> for BindCall {
///     type Response = Reply;
///
///     fn user_id(&self, call: &Call) -> Option<Arc<str>> {
///         call.user_id.clone()
///     }
///
///     fn bind(&self, workspace: Arc<Workspace>, call: &mut Call) {
///         call.workspace = Some(workspace);
///     }
///
///     fn pass(&self, reply: Reply) -> Reply {
///         reply
///     }
///
///     fn reject(&self, call: Call, error: ResolveError) -> Reply {
///         Reply { id: call.id, error: Some(error.code()) }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot bind a workspace to `{Req}` or refuse it",
    note = "implement `Bind<{Req}, {Res}>`; for `http::Request` there is `BindHttp`"
)]
pub trait Bind<Req, Res> {
    /// What the service answers: the inner answer or a refusal.
    type Response;

    /// Who is asking, as verified by an outer layer. `None` refuses the request with
    /// [`ResolveError::NoUser`].
    fn user_id(&self, req: &Req) -> Option<Arc<str>>;

    /// Puts the workspace into the request.
    fn bind(&self, workspace: Arc<Workspace>, req: &mut Req);

    /// Passes the inner service's answer on.
    fn pass(&self, res: Res) -> Self::Response;

    /// Refuses the request in the protocol's own form.
    fn reject(&self, req: Req, error: ResolveError) -> Self::Response;
}
