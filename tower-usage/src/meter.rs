use crate::{Begun, Full};

/// Meters the calls of one protocol: the strategy of a [`UsageLayer`](crate::UsageLayer).
///
/// `Req` and `Res` are the request and response of the service inside, an `http::Request` or any other type.
///
/// # Examples
///
/// A meter of questions that are not HTTP, each recorded as one run whatever its end:
///
/// ```
/// use std::sync::Arc;
///
/// use tower_usage::{Full, Opened, Operation, Place, Sink, UsageMeter, UsageRecord};
///
/// struct Question {
///     user: Arc<str>,
/// }
///
/// enum Answer {
///     Given(String),
///     Busy,
/// }
///
/// #[derive(Clone)]
/// struct Runs {
///     sink: Arc<dyn Sink>,
/// }
///
/// /// Records its run when it is dropped: with the answer, with an error, or when the one who asked has left.
/// struct Run(Option<(Place, UsageRecord)>);
///
/// impl Drop for Run {
///     fn drop(&mut self) {
///         if let Some((place, record)) = self.0.take() {
///             place.record(record);
///         }
///     }
/// }
///
/// impl UsageMeter<Question, String> for Runs {
///     type Tap = Run;
///     type Response = Answer;
///
///     fn open(&self, req: &Question) -> Opened<Run> {
///         let place = match Place::take(Arc::clone(&self.sink)) {
///             Ok(place) => place,
///             Err(full) => return Opened::Full(full),
///         };
///         let record = UsageRecord::new(Arc::clone(&req.user), Operation::Run);
///         Opened::Metered(Run(Some((place, record))))
///     }
///
///     fn observe(&self, _: Option<Run>, res: String) -> Answer {
///         Answer::Given(res)
///     }
///
///     fn refuse(&self, _: Question, _: Full) -> Answer {
///         Answer::Busy
///     }
/// }
/// ```
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
    ///
    /// A meter that hands something over to its tap takes the place first, since a call without one is refused. It then
    /// refuses for want of a place also what it would not have metered.
    fn open(&self, req: &Req) -> Opened<Self::Tap>;

    /// What must be ready before the call goes inward: that its sink keeps it. Ready at once unless implemented.
    fn begin(&self, tap: &mut Self::Tap) -> Begun {
        let _ = tap;
        Begun::ready(Ok(()))
    }

    /// Takes the tap of a call that did not go inward: it could not be kept, or its caller left before it was. Drops it
    /// unless implemented.
    fn withdraw(&self, tap: Self::Tap) {
        drop(tap);
    }

    /// Takes the response of a call; `tap` is `None` for one that is not metered.
    fn observe(&self, tap: Option<Self::Tap>, res: Res) -> Self::Response;

    /// Takes the tap of a call that the inner service ended with an error. Drops it unless implemented.
    fn fail(&self, tap: Self::Tap) {
        drop(tap);
    }

    /// Refuses a request for which there is no place, or which cannot be kept.
    fn refuse(&self, req: Req, full: Full) -> Self::Response;
}

/// What a meter makes of a request. Complete: a call is one of these three.
#[derive(Debug)]
pub enum Opened<T> {
    /// It is not metered and goes inward.
    Unmetered,
    /// It is metered by this tap and goes inward.
    Metered(T),
    /// There is no place for its record, should it be metered: it is refused.
    Full(Full),
}
