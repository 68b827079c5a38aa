use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderValue, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use http_body_util::{Either, Full};
use tower_sso::Identity;
use tower_workspace::{Bind, ResolveError, Workspace};
use tracing::warn;

use super::refusal::refusal;
use crate::config::ProviderKind;

/// Puts the workspace of whose key it is into a model call; a key of somebody who has none is refused, in the form of
/// such a provider.
#[derive(Clone, Copy, Debug)]
pub struct BindModelCall(pub ProviderKind);

// === impl BindModelCall ===

impl<B, R> Bind<Request<B>, Response<R>> for BindModelCall {
    type Response = Response<Either<R, Full<Bytes>>>;

    fn user_id(&self, req: &Request<B>) -> Option<Arc<str>> {
        let identity: &Arc<Identity> = req.extensions().get()?;
        Some(Arc::clone(identity.user_id()))
    }

    fn bind(&self, workspace: Arc<Workspace>, req: &mut Request<B>) {
        req.extensions_mut().insert(workspace);
    }

    fn pass(&self, res: Response<R>) -> Self::Response {
        res.map(Either::Left)
    }

    fn reject(&self, _: Request<B>, error: ResolveError) -> Self::Response {
        metrics::counter!("gateway_refusals_total", "plane" => "egress", "reason" => "workspace")
            .increment(1);
        match error {
            ResolveError::Unavailable { .. } => {
                let error = &error as &(dyn std::error::Error + 'static);
                warn!(error, "workspace of a model call is not known");
                let message = "It cannot be looked up right now whose agent this is.";
                let status = StatusCode::SERVICE_UNAVAILABLE;
                let mut refused = refusal(self.0, status, "workspace_unavailable", message);
                let after = HeaderValue::from_static("2");
                refused.headers_mut().insert(RETRY_AFTER, after);
                refused
            }
            _ => {
                let message = "Whoever this virtual key is of has no workspace here.";
                refusal(self.0, StatusCode::FORBIDDEN, "workspace_missing", message)
            }
        }
    }
}
