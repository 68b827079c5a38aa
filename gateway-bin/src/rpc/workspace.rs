use std::sync::Arc;

use tower_workspace::{Bind, ResolveError, Workspace};

use super::message::{RpcRequest, RpcResponse};
use crate::protocol::ErrorShape;

/// Puts the workspace of a socket's user into its frames.
#[derive(Clone, Copy, Debug)]
pub struct BindFrame;

impl Bind<RpcRequest, RpcResponse> for BindFrame {
    type Response = RpcResponse;

    fn user_id(&self, req: &RpcRequest) -> Option<Arc<str>> {
        Some(Arc::clone(req.identity.user_id()))
    }

    fn bind(&self, workspace: Arc<Workspace>, req: &mut RpcRequest) {
        req.workspace = Some(workspace);
    }

    fn pass(&self, res: RpcResponse) -> RpcResponse {
        res
    }

    fn reject(&self, req: RpcRequest, error: ResolveError) -> RpcResponse {
        let wait = error
            .retry_after()
            .map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        let error = match (&error, wait) {
            (ResolveError::Starting { .. } | ResolveError::Unavailable { .. }, wait) => {
                ErrorShape::unavailable(
                    "your workspace is not available right now",
                    wait.unwrap_or(2_000),
                )
            }
            _ => ErrorShape::new("FORBIDDEN", "you have no workspace here yet")
                .detail("WORKSPACE_MISSING"),
        };
        req.refuse(&error)
    }
}
