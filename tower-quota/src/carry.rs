/// A request that can carry a value inward, to the services behind a layer.
///
/// An [`http::Request`] carries it in its [extensions](http::Extensions).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot carry a `{T}` inward",
    note = "implement `tower_quota::Carry<{T}>` for your request type; `http::Request` has it"
)]
pub trait Carry<T> {
    /// Puts `value` into the request, in place of an earlier one.
    fn carry(&mut self, value: T);
}

// === impl Carry ===

impl<B, T: Clone + Send + Sync + 'static> Carry<T> for http::Request<B> {
    fn carry(&mut self, value: T) {
        self.extensions_mut().insert(value);
    }
}
