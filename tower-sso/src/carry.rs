/// A request that takes a value along to the services inside.
///
/// The layer hands the verified identity inward with it. [`http::Request`] keeps the value in its
/// extensions; a request type of another protocol implements this in a line.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use tower_sso::{Carry, Identity};
///
/// struct Frame {
///     identity: Option<Arc<Identity>>,
/// }
///
/// impl Carry<Arc<Identity>> for Frame {
///     fn carry(&mut self, identity: Arc<Identity>) {
///         self.identity = Some(identity);
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot carry a `{T}` inward",
    label = "this request type does not implement `Carry`",
    note = "implement `tower_sso::Carry<{T}>` for the request type; `http::Request` has it already"
)]
pub trait Carry<T> {
    /// Puts the value into the request, in place of an earlier one of the same type.
    fn carry(&mut self, value: T);
}

// === impl Carry ===

impl<B, T> Carry<T> for http::Request<B>
where
    T: Clone + Send + Sync + 'static,
{
    fn carry(&mut self, value: T) {
        self.extensions_mut().insert(value);
    }
}
