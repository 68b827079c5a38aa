use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use crate::{ResolveError, Workspace};

/// The answer of a [`WorkspaceResolver`](crate::WorkspaceResolver), there already or still to come.
///
/// A resolver that has the workspace in memory answers with [`ready`](Self::ready), which allocates
/// nothing; one that has to ask with [`boxed`](Self::boxed). Like any future it must not be polled
/// again after it has answered; one that was there already then stays pending.
#[must_use = "futures do nothing unless polled"]
pub struct ResolveFuture(State<Result<Arc<Workspace>, ResolveError>>);

enum State<T> {
    Ready(Option<T>),
    Boxed(Pin<Box<dyn Future<Output = T> + Send>>),
}

// === impl ResolveFuture ===

impl ResolveFuture {
    /// An answer that is there already.
    pub const fn ready(result: Result<Arc<Workspace>, ResolveError>) -> Self {
        Self(State::Ready(Some(result)))
    }

    /// An answer that is still to come.
    pub fn boxed(
        future: impl Future<Output = Result<Arc<Workspace>, ResolveError>> + Send + 'static,
    ) -> Self {
        Self(State::Boxed(Box::pin(future)))
    }

    /// The answer if it is there already, else the future back.
    pub(crate) fn try_ready(self) -> Result<Result<Arc<Workspace>, ResolveError>, Self> {
        match self.0 {
            State::Ready(Some(result)) => Ok(result),
            waiting => Err(Self(waiting)),
        }
    }
}

impl Future for ResolveFuture {
    type Output = Result<Arc<Workspace>, ResolveError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Ready(result) => result.take().map_or(Poll::Pending, Poll::Ready),
            State::Boxed(future) => future.as_mut().poll(cx),
        }
    }
}

impl fmt::Debug for ResolveFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.0 {
            State::Ready(_) => "ready",
            State::Boxed(_) => "boxed",
        };
        f.debug_tuple("ResolveFuture").field(&state).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        task::Waker,
    };

    use super::*;

    fn poll(future: &mut ResolveFuture) -> Poll<Result<Arc<Workspace>, ResolveError>> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn an_answer_that_is_there_is_given_once_and_then_stays_pending() {
        let mut future = ResolveFuture::ready(Err(ResolveError::NotProvisioned));
        assert!(poll(&mut future).is_ready());
        assert!(poll(&mut future).is_pending());
        assert!(future.try_ready().is_err());
    }

    #[test]
    fn only_an_answer_that_is_there_can_be_had_at_once() {
        assert!(
            ResolveFuture::ready(Err(ResolveError::NotProvisioned))
                .try_ready()
                .is_ok()
        );
        let waiting = ResolveFuture::boxed(pending()).try_ready();
        assert!(poll(&mut waiting.unwrap_err()).is_pending());
        let mut coming = ResolveFuture::boxed(ready(Err(ResolveError::NotProvisioned)));
        assert!(poll(&mut coming).is_ready());
    }
}
