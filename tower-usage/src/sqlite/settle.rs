use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use crate::UsageRecord;

/// Settles what was stored: corrects whatever was set aside for a call to what it truly took.
///
/// Called after the record is committed, for records with a `settle_ref`. It must be idempotent: a crash between
/// settling and noting so settles again. It should end within ten seconds; what does not is tried again.
pub trait Settle: Send + Sync + 'static {
    /// Settles one record.
    fn settle(&self, record: &UsageRecord) -> SettleFuture;
}

/// Why a record was not settled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettleError {
    /// It may succeed another time: it is tried again.
    #[error("settling failed")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// It will never succeed: the row is marked and left alone.
    #[error("settling was refused for good")]
    Refused(#[source] Box<dyn Error + Send + Sync>),
}

/// What [`Settle::settle`] returns.
pub struct SettleFuture {
    state: State,
}

enum State {
    Ready(Option<Result<(), SettleError>>),
    Boxed(Pin<Box<dyn Future<Output = Result<(), SettleError>> + Send>>),
}

// === impl SettleFuture ===

impl SettleFuture {
    /// A settling that is over.
    #[must_use]
    pub const fn ready(result: Result<(), SettleError>) -> Self {
        Self {
            state: State::Ready(Some(result)),
        }
    }

    /// A settling that takes time.
    pub fn boxed(future: impl Future<Output = Result<(), SettleError>> + Send + 'static) -> Self {
        Self {
            state: State::Boxed(Box::pin(future)),
        }
    }
}

impl Future for SettleFuture {
    type Output = Result<(), SettleError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            // A future must not be polled again once it was ready.
            State::Ready(result) => result.take().map_or(Poll::Pending, Poll::Ready),
            State::Boxed(future) => future.as_mut().poll(cx),
        }
    }
}

impl fmt::Debug for SettleFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SettleFuture").finish_non_exhaustive()
    }
}
