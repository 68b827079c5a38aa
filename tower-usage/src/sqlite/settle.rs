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
///
/// Any `Fn(&UsageRecord) -> SettleFuture` is one.
///
/// # Examples
///
/// By way of a client of some store, which takes time and may fail. The [crate documentation](crate) has one with
/// counters in memory, that are filled from the ledger at start.
///
/// ```
/// # use std::{io, sync::Arc};
/// # use tower_usage::{UsageRecord, sqlite::{LedgerError, SettleError, SettleFuture, SqliteLedger}};
/// # struct Client;
/// # impl Client { async fn settle(&self, _: u128, _: u64) -> io::Result<bool> { Ok(true) } }
/// # fn start(ledger: &SqliteLedger, client: Arc<Client>) -> Result<(), LedgerError> {
/// let settle = move |record: &UsageRecord| {
///     let Some(Ok(ticket)) = record.settle_ref.as_deref().map(str::parse::<u128>) else {
///         return SettleFuture::ready(Err(SettleError::refused("not a ticket")));
///     };
///     let (client, tokens) = (Arc::clone(&client), record.tokens.total());
///     SettleFuture::boxed(async move {
///         // False if it was settled before, which is as good.
///         let _first = client.settle(ticket, tokens).await.map_err(SettleError::unavailable)?;
///         Ok(())
///     })
/// };
/// ledger.start_settling(Arc::new(settle))
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not settle usage records",
    label = "no `Settle`",
    note = "a settler is a `Fn(&UsageRecord) -> SettleFuture` or implements `tower_usage::sqlite::Settle`, and is `Send`, `Sync` and `'static`"
)]
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

/// What [`Settle::settle`] returns: a result that is there, or a future of one.
#[must_use = "futures do nothing unless polled"]
pub struct SettleFuture {
    state: State,
}

enum State {
    Ready(Option<Result<(), SettleError>>),
    Boxed(Pin<Box<dyn Future<Output = Result<(), SettleError>> + Send>>),
}

// === impl Settle ===

impl<F> Settle for F
where
    F: Fn(&UsageRecord) -> SettleFuture + Send + Sync + 'static,
{
    fn settle(&self, record: &UsageRecord) -> SettleFuture {
        self(record)
    }
}

// === impl SettleError ===

impl SettleError {
    /// It may succeed another time.
    pub fn unavailable(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable(error.into())
    }

    /// It will never succeed.
    pub fn refused(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Refused(error.into())
    }
}

// === impl SettleFuture ===

impl SettleFuture {
    /// A settling that is over.
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
