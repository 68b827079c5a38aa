use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// The answer of a [`QuotaStore`](crate::QuotaStore), there already or still to come.
///
/// A store in memory answers with [`ready`](Self::ready), which allocates nothing; one over a network with
/// [`boxed`](Self::boxed).
#[must_use = "futures do nothing unless polled"]
pub struct StoreFuture<T>(Answer<T>);

enum Answer<T> {
    Ready(Option<T>),
    Boxed(Pin<Box<dyn Future<Output = T> + Send>>),
}

// A ready value is moved out, never pinned.
impl<T> Unpin for StoreFuture<T> {}

impl<T> StoreFuture<T> {
    /// An answer that is there already.
    pub const fn ready(value: T) -> Self {
        Self(Answer::Ready(Some(value)))
    }

    /// An answer that is still to come.
    pub fn boxed(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Answer::Boxed(Box::pin(future)))
    }
}

impl<T> Future for StoreFuture<T> {
    type Output = T;

    /// # Panics
    ///
    /// If it is polled again after it was ready.
    #[expect(
        clippy::expect_used,
        reason = "the contract of Future, as in std::future::Ready"
    )]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match &mut self.0 {
            Answer::Ready(value) => Poll::Ready(value.take().expect("polled after completion")),
            Answer::Boxed(future) => future.as_mut().poll(cx),
        }
    }
}

impl<T> fmt::Debug for StoreFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreFuture").finish_non_exhaustive()
    }
}
