use tower_layer::Layer;

use crate::Usage;

/// Meters every call that goes through. See the [crate documentation](crate).
#[derive(Clone, Debug)]
pub struct UsageLayer<M> {
    meter: M,
}

// === impl UsageLayer ===

impl<M> UsageLayer<M> {
    /// A layer that meters with `meter`.
    pub const fn new(meter: M) -> Self {
        Self { meter }
    }
}

impl<S, M: Clone> Layer<S> for UsageLayer<M> {
    type Service = Usage<S, M>;

    fn layer(&self, inner: S) -> Usage<S, M> {
        Usage::new(inner, self.meter.clone())
    }
}
