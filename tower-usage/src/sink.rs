use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use crate::{RecordId, UsageRecord};

/// Where records go.
///
/// A sink says at admission whether it has room, so that recording at the end cannot fail for want of it. Every
/// [`admit`](Self::admit) is ended by exactly one `record` or `forgo`; [`Place`] sees to that. In between comes at most
/// one [`begin`](Self::begin), with which a sink that outlives the process keeps a call that the process does not
/// outlive. None of the four may wait or panic: they are called on the request path and while a value is dropped.
///
/// # Examples
///
/// A sink into a channel, with room for so many records until they are received:
///
/// ```
/// use std::sync::{
///     atomic::{AtomicUsize, Ordering::Relaxed},
///     mpsc::Sender,
/// };
///
/// use tower_usage::{Full, RecordId, Sink, UsageRecord};
///
/// struct Channel {
///     /// Given back by whoever receives a record.
///     places: AtomicUsize,
///     sender: Sender<UsageRecord>,
/// }
///
/// impl Sink for Channel {
///     fn admit(&self) -> Result<(), Full> {
///         let took = self.places.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
///         took.map(drop).map_err(|_| Full::new())
///     }
///
///     fn record(&self, record: UsageRecord) {
///         if self.sender.send(record).is_err() {
///             eprintln!("a usage record is lost: nobody receives any more");
///         }
///     }
///
///     fn forgo(&self, _: Option<RecordId>) {
///         self.places.fetch_add(1, Relaxed);
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not take usage records",
    label = "no `Sink`",
    note = "`tower_usage::sqlite::SqliteLedger` is a sink; implement `tower_usage::Sink` for another, which is `Send`, `Sync` and `'static`"
)]
pub trait Sink: Send + Sync + 'static {
    /// Takes a place for one record.
    ///
    /// # Errors
    ///
    /// [`Full`] if there is none left; the call must be refused.
    fn admit(&self) -> Result<(), Full>;

    /// Keeps `record` as it stands when its call goes inward, for the case that nobody will be there to end it; the
    /// call goes inward when the future is ready. Ended by a [`record`](Self::record) or [`forgo`](Self::forgo) of the
    /// same id. A sink that does not outlive the process leaves it at the default, which is ready at once.
    fn begin(&self, record: &UsageRecord) -> Begun {
        let _ = record;
        Begun::ready(Ok(()))
    }

    /// Records into a place taken before.
    fn record(&self, record: UsageRecord);

    /// Gives a place back, for a call that turned out not to be metered; `begun` is what was kept of it.
    fn forgo(&self, begun: Option<RecordId>);
}

/// What [`Sink::begin`] returns: that a call is kept, or a future of it.
///
/// # Errors
///
/// [`Full`] if it cannot be kept; the call must be refused.
#[must_use = "a call goes inward when it is kept"]
pub struct Begun {
    state: State,
}

enum State {
    Ready(Option<Result<(), Full>>),
    Boxed(Pin<Box<dyn Future<Output = Result<(), Full>> + Send>>),
}

/// There is no place left for another record.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no place left for another usage record")]
#[non_exhaustive]
pub struct Full;

/// A place for one record in a sink. Dropping it gives it back.
pub struct Place {
    sink: Option<Arc<dyn Sink>>,
    begun: Option<RecordId>,
}

// === impl Full ===

impl Full {
    /// The refusal of a sink.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "being full is not a default")]
    pub const fn new() -> Self {
        Self
    }
}

// === impl Begun ===

impl Begun {
    /// It is kept, or cannot be.
    pub const fn ready(result: Result<(), Full>) -> Self {
        Self {
            state: State::Ready(Some(result)),
        }
    }

    /// It will be.
    pub fn boxed(future: impl Future<Output = Result<(), Full>> + Send + 'static) -> Self {
        Self {
            state: State::Boxed(Box::pin(future)),
        }
    }

    /// The result, if it is there.
    pub(crate) fn now(self) -> Result<Result<(), Full>, Self> {
        match self.state {
            State::Ready(Some(result)) => Ok(result),
            state => Err(Self { state }),
        }
    }
}

impl Future for Begun {
    type Output = Result<(), Full>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            // A future must not be polled again once it was ready.
            State::Ready(result) => result.take().map_or(Poll::Pending, Poll::Ready),
            State::Boxed(future) => future.as_mut().poll(cx),
        }
    }
}

impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Begun").finish_non_exhaustive()
    }
}

// === impl Place ===

impl Place {
    /// Takes a place.
    ///
    /// # Errors
    ///
    /// [`Full`] if the sink has none left.
    pub fn take(sink: Arc<dyn Sink>) -> Result<Self, Full> {
        sink.admit()?;
        Ok(Self {
            sink: Some(sink),
            begun: None,
        })
    }

    /// Keeps `record` as it stands, until a record of the same id is recorded into this place or the place is dropped.
    pub fn begin(&mut self, record: &UsageRecord) -> Begun {
        self.begun = Some(record.id);
        let sink = self.sink.as_ref();
        sink.map_or_else(|| Begun::ready(Ok(())), |sink| sink.begin(record))
    }

    /// Records into the place.
    pub fn record(mut self, record: UsageRecord) {
        if let Some(sink) = self.sink.take() {
            sink.record(record);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(sink) = self.sink.take() {
            sink.forgo(self.begun);
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::Operation;

    #[derive(Default)]
    struct Two {
        taken: AtomicUsize,
        recorded: AtomicUsize,
    }

    impl Sink for Two {
        fn admit(&self) -> Result<(), Full> {
            let took = self
                .taken
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                    (n < 2).then_some(n + 1)
                });
            took.map(drop).map_err(|_| Full::new())
        }

        fn record(&self, _: UsageRecord) {
            self.recorded.fetch_add(1, Ordering::Relaxed);
        }

        fn forgo(&self, _: Option<RecordId>) {
            self.taken.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_dropped_place_is_free_again_and_a_recorded_one_is_not() {
        let sink = Arc::new(Two::default());
        let first = Place::take(sink.clone()).unwrap();
        let second = Place::take(sink.clone()).unwrap();
        assert_eq!(Place::take(sink.clone()).unwrap_err(), Full::new());
        drop(first);
        let first = Place::take(sink.clone()).unwrap();
        first.record(UsageRecord::new("u".into(), Operation::Run));
        second.record(UsageRecord::new("u".into(), Operation::Run));
        assert_eq!(Place::take(sink.clone()).unwrap_err(), Full::new());
        assert_eq!(sink.recorded.load(Ordering::Relaxed), 2);
    }
}
