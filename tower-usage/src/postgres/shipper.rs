use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    task::AbortHandle,
};

use super::{PostgresLedger, Unshipped, shipping::Shipping};
use crate::sqlite::{LedgerError, SqliteLedger, outbox::Outbox};

/// Ships what is stored in an [`SqliteLedger`] to a [`PostgresLedger`], as a task. See the [module documentation](super).
///
/// What is stored is there about a second later. While the database is away it is tried again, after 100 milliseconds at
/// first and up to half a minute; nothing else waits for it. Each server ships its own file, to one database.
///
/// Dropping it ends shipping, soon; [`stop`](Self::stop) waits for the end.
pub struct Shipper {
    outbox: Arc<Outbox>,
    flushes: mpsc::UnboundedSender<oneshot::Sender<()>>,
    healthy: Arc<AtomicBool>,
    task: AbortHandle,
}

// === impl Shipper ===

impl Shipper {
    /// Begins to ship: first what the file has from before. The database need not be there yet.
    ///
    /// Runs as a task of the current tokio runtime, whose time and I/O drivers must be enabled.
    ///
    /// From the first time on the file keeps note of each change, until that is shipped; one whose shipping is given up for
    /// good grows by some bytes for each.
    ///
    /// # Errors
    ///
    /// [`AlreadyShipping`](LedgerError::AlreadyShipping) while another one ships the ledger,
    /// [`NoRuntime`](LedgerError::NoRuntime) outside of a runtime,
    /// [`Store`](LedgerError::Store) if its file cannot be read, [`Closed`](LedgerError::Closed) after it was closed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before its end, nothing is shipped.
    pub async fn start(ledger: &SqliteLedger, to: &PostgresLedger) -> Result<Self, LedgerError> {
        let runtime = Handle::try_current().map_err(|_| LedgerError::NoRuntime)?;
        let outbox = Arc::new(ledger.outbox().await?);
        let healthy = Arc::new(AtomicBool::new(true));
        let (flushes, asked) = mpsc::unbounded_channel();
        let shipping = Shipping::new(Arc::clone(&outbox), to.clone(), asked, Arc::clone(&healthy));
        let task = runtime.spawn(shipping.run()).abort_handle();
        Ok(Self {
            outbox,
            flushes,
            healthy,
            task,
        })
    }

    /// Waits until all that is [committed](SqliteLedger::flush) by now is shipped, and tries to at once.
    ///
    /// Takes as long as the database is away; put a bound around it.
    ///
    /// # Errors
    ///
    /// [`Closed`](LedgerError::Closed) if the ledger was closed before.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, it only waits no longer.
    pub async fn flush(&self) -> Result<(), LedgerError> {
        let (done, flushed) = oneshot::channel();
        self.flushes.send(done).map_err(|_| LedgerError::Closed)?;
        self.outbox.notify();
        flushed.await.map_err(|_| LedgerError::Closed)
    }

    /// Ends shipping, and waits until it has ended: then another one may start. Nothing is lost, the next one goes on from
    /// there.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, it ends all the same.
    pub async fn stop(self) {
        let ended = self.outbox.ended();
        drop(self);
        ended.await;
    }

    /// What is not shipped yet, for metrics and readiness. Blocks for a short read of the file.
    ///
    /// # Errors
    ///
    /// [`Store`](LedgerError::Store) if the file cannot be read.
    pub fn backlog(&self) -> Result<Unshipped, LedgerError> {
        self.outbox.unshipped()
    }

    /// Whether the last attempt to ship succeeded, and the task still runs.
    #[must_use]
    pub fn healthy(&self) -> bool {
        self.healthy.load(Relaxed) && !self.task.is_finished()
    }
}

impl Drop for Shipper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Shipper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shipper")
            .field("healthy", &self.healthy())
            .finish_non_exhaustive()
    }
}
