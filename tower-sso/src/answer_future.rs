use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// The answer of a [`Verify`], of an HTTP client or of a store: there already, or to be waited for.
///
/// One concrete type for both, so that the traits stay object-safe: [`ready`](Self::ready) allocates
/// nothing, [`boxed`](Self::boxed) once. Like any future it must not be polled again after it has
/// answered; one that was there already then stays pending.
///
/// [`Verify`]: crate::Verify
#[must_use = "futures do nothing unless polled"]
pub struct AnswerFuture<T>(State<T>);

enum State<T> {
    Ready(Option<T>),
    Boxed(Pin<Box<dyn Future<Output = T> + Send>>),
}

// === impl AnswerFuture ===

impl<T> AnswerFuture<T> {
    /// An answer that is there already.
    pub const fn ready(value: T) -> Self {
        Self(State::Ready(Some(value)))
    }

    /// An answer that is still to come.
    pub fn boxed(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(State::Boxed(Box::pin(future)))
    }

    /// Changes the answer: at once if it is there already, without a box, else when it comes.
    pub fn map<U>(self, change: impl FnOnce(T) -> U + Send + 'static) -> AnswerFuture<U>
    where
        T: Send + 'static,
    {
        match self.try_ready() {
            Ok(value) => AnswerFuture::ready(change(value)),
            Err(waiting) => AnswerFuture::boxed(async move { change(waiting.await) }),
        }
    }

    /// The answer if it is there already, else the future back.
    pub(crate) fn try_ready(self) -> Result<T, Self> {
        match self.0 {
            State::Ready(Some(value)) => Ok(value),
            waiting => Err(Self(waiting)),
        }
    }
}

// The value is never pinned: it is moved out whole, and the box is `Unpin` by itself.
impl<T> Unpin for AnswerFuture<T> {}

impl<T> Future for AnswerFuture<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match &mut self.0 {
            State::Ready(value) => value.take().map_or(Poll::Pending, Poll::Ready),
            State::Boxed(future) => future.as_mut().poll(cx),
        }
    }
}

impl<T> fmt::Debug for AnswerFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.0 {
            State::Ready(_) => "ready",
            State::Boxed(_) => "boxed",
        };
        f.debug_tuple("AnswerFuture").field(&state).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        task::Waker,
    };

    use super::*;

    fn poll(future: &mut AnswerFuture<u8>) -> Poll<u8> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn an_answer_that_is_there_is_given_once_and_then_stays_pending() {
        let mut future = AnswerFuture::ready(7);
        assert!(poll(&mut future).is_ready());
        assert!(poll(&mut future).is_pending());
        assert!(future.try_ready().is_err());
    }

    #[test]
    fn only_an_answer_that_is_there_can_be_had_at_once() {
        assert!(AnswerFuture::ready(7).try_ready().is_ok());
        let waiting = AnswerFuture::boxed(pending()).try_ready();
        assert!(poll(&mut waiting.unwrap_err()).is_pending());
        let mut coming = AnswerFuture::boxed(ready(7));
        assert!(poll(&mut coming).is_ready());
    }
}
