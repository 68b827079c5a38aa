use crate::Full;

/// Meters the calls of one protocol: the strategy of a [`UsageLayer`](crate::UsageLayer).
///
/// `Req` and `Res` are the request and response of the service inside, an `http::Request` or any other type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not meter `{Req}` answered by `{Res}`",
    label = "no `UsageMeter` for this request and response",
    note = "implement `tower_usage::UsageMeter<{Req}, {Res}>` for it"
)]
pub trait UsageMeter<Req, Res> {
    /// What follows one call from admission to its end.
    ///
    /// The future of the call is dropped when its caller leaves, and the tap with it: a tap that must account for its
    /// call does so when it is dropped.
    type Tap;

    /// The response that goes outward, with the tap inside if its end comes later than the response.
    type Response;

    /// Looks at a request before it goes inward.
    fn open(&self, req: &Req) -> Opened<Self::Tap>;

    /// Takes the response of a call; `tap` is `None` for one that is not metered.
    fn observe(&self, tap: Option<Self::Tap>, res: Res) -> Self::Response;

    /// Takes the tap of a call that the inner service ended with an error. Drops it unless implemented.
    fn fail(&self, tap: Self::Tap) {
        drop(tap);
    }

    /// Refuses a request for which there is no place.
    fn refuse(&self, req: Req, full: Full) -> Self::Response;
}

/// What a meter makes of a request. Complete: a call is one of these three.
#[derive(Debug)]
pub enum Opened<T> {
    /// It is not metered and goes inward.
    Unmetered,
    /// It is metered by this tap and goes inward.
    Metered(T),
    /// It would be metered, but there is no place for its record: it is refused.
    Full(Full),
}
