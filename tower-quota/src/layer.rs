use std::{fmt, sync::Arc};

use tower_layer::Layer;

use crate::{DenyHttp, Quota, QuotaStore};

/// Reserves quota before a request runs, or refuses it.
///
/// The reservation travels inward [in the request](crate::Carry), for whoever settles it. One layer value serves
/// every request type that its policy and its denier know.
///
/// A request carries one reservation. Of two such layers in a row the inner one's replaces the outer one's, which is
/// given back: put all that a request is to be charged into one [`Charge`](crate::Charge).
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "memory")] {
/// use std::sync::Arc;
/// use tower_quota::{Charge, Dimension, Limits, MemoryStore, QuotaLayer};
///
/// let store = Arc::new(MemoryStore::new(Limits::default()));
/// let layer = QuotaLayer::new(
///     |_: &http::Request<()>| Some(Charge::new("everyone").exactly(Dimension::Calls, 1)),
///     store,
/// );
/// # let _ = layer;
/// # }
/// ```
#[derive(Clone)]
pub struct QuotaLayer<P, D = DenyHttp> {
    policy: P,
    store: Arc<dyn QuotaStore>,
    deny: D,
    on_store_failure: OnStoreFailure,
}

/// What to do with a request when the store cannot answer.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum OnStoreFailure {
    /// Refuse it. The default, since what cannot be counted cannot be limited.
    #[default]
    Closed,
    /// Let it pass, without a reservation. The failure goes to [`Deny::pass_unmetered`](crate::Deny::pass_unmetered).
    Open,
}

// === impl QuotaLayer ===

impl<P> QuotaLayer<P> {
    /// Charges by `policy` to `store`, refuses over HTTP, and is closed when the store cannot answer.
    pub fn new(policy: P, store: Arc<dyn QuotaStore>) -> Self {
        Self {
            policy,
            store,
            deny: DenyHttp::new(),
            on_store_failure: OnStoreFailure::default(),
        }
    }
}

impl<P, D> QuotaLayer<P, D> {
    /// The same layer, which refuses by `deny`.
    pub fn deny_with<T>(self, deny: T) -> QuotaLayer<P, T> {
        QuotaLayer {
            policy: self.policy,
            store: self.store,
            deny,
            on_store_failure: self.on_store_failure,
        }
    }

    /// The same layer, which does this when the store cannot answer.
    #[must_use]
    pub fn on_store_failure(mut self, on_store_failure: OnStoreFailure) -> Self {
        self.on_store_failure = on_store_failure;
        self
    }
}

impl<S, P: Clone, D: Clone> Layer<S> for QuotaLayer<P, D> {
    type Service = Quota<S, P, D>;

    fn layer(&self, inner: S) -> Self::Service {
        Quota::new(
            inner,
            self.policy.clone(),
            self.store.clone(),
            self.deny.clone(),
            self.on_store_failure,
        )
    }
}

impl<P, D> fmt::Debug for QuotaLayer<P, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuotaLayer")
            .field("on_store_failure", &self.on_store_failure)
            .finish_non_exhaustive()
    }
}
