use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// The answer of a [`QuotaStore`](crate::QuotaStore), there already or still to come.
///
/// A store in memory answers with [`ready`](Self::ready), which allocates nothing; one over a network with
/// [`boxed`](Self::boxed). Like any future it must not be polled again after it has answered; one that was there
/// already then stays pending.
#[must_use = "futures do nothing unless polled"]
pub struct StoreFuture<T>(State<T>);

enum State<T> {
    Ready(Option<T>),
    Boxed(Pin<Box<dyn Future<Output = T> + Send>>),
}

// === impl StoreFuture ===

impl<T> StoreFuture<T> {
    /// An answer that is there already.
    pub const fn ready(value: T) -> Self {
        Self(State::Ready(Some(value)))
    }

    /// An answer that is still to come.
    pub fn boxed(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(State::Boxed(Box::pin(future)))
    }

    /// The answer if it is there already, so that a store around another one needs no future of its own.
    ///
    /// # Errors
    ///
    /// The future, if the answer is still to come.
    pub fn try_ready(self) -> Result<T, Self> {
        match self.0 {
            State::Ready(Some(value)) => Ok(value),
            waiting => Err(Self(waiting)),
        }
    }
}

// The value is never pinned: it is moved out whole, and the box is `Unpin` by itself.
impl<T> Unpin for StoreFuture<T> {}

impl<T> Future for StoreFuture<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match &mut self.0 {
            State::Ready(value) => value.take().map_or(Poll::Pending, Poll::Ready),
            State::Boxed(future) => future.as_mut().poll(cx),
        }
    }
}

impl<T> fmt::Debug for StoreFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.0 {
            State::Ready(_) => "ready",
            State::Boxed(_) => "boxed",
        };
        f.debug_tuple("StoreFuture").field(&state).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        task::Waker,
    };

    use super::*;

    fn poll(future: &mut StoreFuture<u8>) -> Poll<u8> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn an_answer_that_is_there_is_given_once_and_then_stays_pending() {
        let mut future = StoreFuture::ready(7);
        assert!(poll(&mut future).is_ready());
        assert!(poll(&mut future).is_pending());
        assert!(future.try_ready().is_err());
    }

    #[test]
    fn only_an_answer_that_is_there_can_be_had_at_once() {
        assert!(StoreFuture::ready(7).try_ready().is_ok());
        let waiting = StoreFuture::boxed(pending()).try_ready();
        assert!(poll(&mut waiting.unwrap_err()).is_pending());
        let mut coming = StoreFuture::boxed(ready(7));
        assert!(poll(&mut coming).is_ready());
    }
}
