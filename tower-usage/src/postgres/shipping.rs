use std::{
    error::Error,
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc::UnboundedReceiver, oneshot},
    task::spawn_blocking,
    time::{Instant, timeout, timeout_at},
};

use super::{PostgresLedger, link::Link};
use crate::{
    RecordId,
    sqlite::{
        LedgerError,
        outbox::{Outbox, Page, Shipped},
    },
};

/// What a [`Shipper`](super::Shipper) does.
pub(super) struct Shipping {
    outbox: Arc<Outbox>,
    to: PostgresLedger,
    link: Option<Link>,
    /// Whether the database was asked what it has.
    is_compared: bool,
    /// Records of the next page.
    most: usize,
    asked: UnboundedReceiver<oneshot::Sender<()>>,
    flushes: Vec<Flush>,
    healthy: Arc<AtomicBool>,
}

/// Somebody who waits until everything is shipped.
struct Flush {
    /// How far that is, once it was looked at.
    until: Option<Shipped>,
    done: oneshot::Sender<()>,
}

/// Most records of a page, and how many are tried where that takes too long.
const MOST: usize = 5_000;
const FEWEST: usize = 50;

/// The time from one page to the next, unless there is more than one.
const PAUSE: Duration = Duration::from_secs(1);

/// How often the file is looked at, for what others change in it.
const LOOK: Duration = Duration::from_secs(10);

/// Waits between attempts. Each is between half of it and all of it, so that servers do not come all at once.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

// === impl Shipping ===

impl Shipping {
    pub(super) const fn new(
        outbox: Arc<Outbox>,
        to: PostgresLedger,
        asked: UnboundedReceiver<oneshot::Sender<()>>,
        healthy: Arc<AtomicBool>,
    ) -> Self {
        Self {
            outbox,
            to,
            link: None,
            is_compared: false,
            most: MOST,
            asked,
            flushes: Vec::new(),
            healthy,
        }
    }

    /// Ships until the ledger is closed, or nobody wants it any more.
    pub(super) async fn run(mut self) {
        let mut wait = RETRY.0;
        loop {
            let begun = Instant::now();
            let until = match self.ship().await {
                Ok(()) => {
                    wait = RETRY.0;
                    if !self.healthy.swap(true, Relaxed) {
                        tracing::info!("usage records are shipped again");
                    }
                    // Whether something was stored or it is time, the file is looked at.
                    let _ = timeout(LOOK, self.outbox.stored()).await;
                    begun + PAUSE
                }
                Err(LedgerError::Closed) => return,
                Err(error) => {
                    if self.healthy.swap(false, Relaxed) {
                        tracing::warn!(
                            error = &error as &(dyn Error + 'static),
                            "usage records cannot be shipped, trying again"
                        );
                    }
                    let until = Instant::now() + with_jitter(wait);
                    wait = RETRY.1.min(wait * 2);
                    until
                }
            };
            if let Ok(asked) = timeout_at(until, self.asked.recv()).await {
                let Some(done) = asked else { return };
                self.flushes.push(Flush { until: None, done });
            }
        }
    }

    /// Ships until there is nothing left.
    async fn ship(&mut self) -> Result<(), LedgerError> {
        loop {
            self.look_at_flushes().await?;
            let page = self.page().await?;
            if self.is_compared {
                self.answer(page.before);
                if page.is_empty() {
                    return Ok(());
                }
            }
            // Not used again after an error.
            let mut link = match self.link.take() {
                Some(link) if !link.is_closed() => link,
                _ => match self.open(page.before).await? {
                    Some(link) => link,
                    None => continue,
                },
            };
            if !page.is_empty() {
                self.ship_page(&mut link, page).await?;
            }
            self.link = Some(link);
        }
    }

    async fn ship_page(&mut self, link: &mut Link, page: Page) -> Result<(), LedgerError> {
        let shipped = timeout(self.to.within(), link.ship(&page)).await;
        let shipped = shipped.unwrap_or_else(|elapsed| Err(LedgerError::unavailable(elapsed)));
        // It may be that the page was too much, in the time there is.
        let mut refused = shipped.inspect_err(|_| self.most = FEWEST.max(self.most / 2))?;
        self.most = MOST.min(self.most * 2);
        refused.extend(page.refused);
        self.outbox.mark(page.after, refused).await
    }

    /// Connects; `None` if the database does not have what it was shipped, and all that it misses is to be shipped again.
    async fn open(&mut self, shipped: Shipped) -> Result<Option<Link>, LedgerError> {
        let within = self.to.within();
        let link = Link::open(self.to.manager(), self.outbox.ledger(), within).await?;
        let has = timeout(within, link.has(shipped))
            .await
            .map_err(LedgerError::unavailable)??;
        if has != shipped {
            tracing::warn!(
                from = has.up_to,
                "usage records are shipped again, the database does not have them"
            );
            self.outbox.mark(has, Vec::new()).await?;
        }
        self.is_compared = true;
        if has == shipped {
            return Ok(Some(link));
        }
        self.link = Some(link);
        Ok(None)
    }

    /// Notes how far everything is, for those who have begun to wait.
    async fn look_at_flushes(&mut self) -> Result<(), LedgerError> {
        while let Ok(done) = self.asked.try_recv() {
            self.flushes.push(Flush { until: None, done });
        }
        if self.flushes.iter().any(|flush| flush.until.is_none()) {
            let outbox = Arc::clone(&self.outbox);
            let end = blocking(move || outbox.end()).await?;
            for flush in &mut self.flushes {
                flush.until.get_or_insert(end);
            }
        }
        Ok(())
    }

    /// Tells those who have waited for that much.
    fn answer(&mut self, shipped: Shipped) {
        let is_done = |flush: &Flush| {
            let until = flush.until;
            until.is_some_and(|it| it.up_to <= shipped.up_to && it.changes <= shipped.changes)
        };
        let flushes = mem::take(&mut self.flushes).into_iter();
        let (done, waiting): (Vec<_>, Vec<_>) = flushes.partition(is_done);
        self.flushes = waiting;
        for flush in done {
            // Whoever asked may have left.
            let _ = flush.done.send(());
        }
    }

    async fn page(&self) -> Result<Page, LedgerError> {
        let (outbox, most) = (Arc::clone(&self.outbox), self.most);
        blocking(move || outbox.page(most)).await
    }
}

async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, LedgerError> + Send + 'static,
) -> Result<T, LedgerError> {
    spawn_blocking(read).await.map_err(LedgerError::postgres)?
}

/// Between half of the time and all of it.
fn with_jitter(time: Duration) -> Duration {
    // Its last bits are random: RFC 9562 §5.7.
    let [.., last] = RecordId::new().as_u128().to_be_bytes();
    time / 2 + time * u32::from(last) / 512
}
