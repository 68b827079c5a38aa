use std::{fmt, sync::Arc};

use tower_layer::Layer;

use crate::{BindWorkspace, WorkspaceResolver};

/// Layer that applies [`BindWorkspace`]: no request goes inward without its user's workspace.
///
/// One layer value serves every request type that its `B` can [`Bind`](crate::Bind). See the
/// [crate documentation](crate) for an example.
#[derive(Clone)]
pub struct WorkspaceLayer<B> {
    resolver: Arc<dyn WorkspaceResolver>,
    bind: B,
}

// === impl WorkspaceLayer ===

impl<B> WorkspaceLayer<B> {
    /// A layer that asks `resolver` for the workspace and lets `bind` put it into the request.
    pub fn new(resolver: Arc<dyn WorkspaceResolver>, bind: B) -> Self {
        Self { resolver, bind }
    }
}

impl<S, B: Clone> Layer<S> for WorkspaceLayer<B> {
    type Service = BindWorkspace<S, B>;

    fn layer(&self, inner: S) -> Self::Service {
        BindWorkspace::new(inner, Arc::clone(&self.resolver), self.bind.clone())
    }
}

impl<B> fmt::Debug for WorkspaceLayer<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkspaceLayer").finish_non_exhaustive()
    }
}
