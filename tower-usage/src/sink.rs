use std::{fmt, sync::Arc};

use crate::UsageRecord;

/// Where records go.
///
/// A sink says at admission whether it has room, so that recording at the end cannot fail for want of it. Every
/// [`admit`](Self::admit) is ended by exactly one `record` or `forgo`; [`Place`] sees to that. None of the three may
/// wait or panic: they are called on the request path and while a value is dropped.
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
/// use tower_usage::{Full, Sink, UsageRecord};
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
///     fn forgo(&self) {
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

    /// Records into a place taken before.
    fn record(&self, record: UsageRecord);

    /// Gives a place back, for a call that turned out not to be metered.
    fn forgo(&self);
}

/// There is no place left for another record.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no place left for another usage record")]
#[non_exhaustive]
pub struct Full;

/// A place for one record in a sink. Dropping it gives it back.
pub struct Place {
    sink: Option<Arc<dyn Sink>>,
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

// === impl Place ===

impl Place {
    /// Takes a place.
    ///
    /// # Errors
    ///
    /// [`Full`] if the sink has none left.
    pub fn take(sink: Arc<dyn Sink>) -> Result<Self, Full> {
        sink.admit()?;
        Ok(Self { sink: Some(sink) })
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
            sink.forgo();
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

        fn forgo(&self) {
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
