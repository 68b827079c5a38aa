use std::{
    collections::VecDeque,
    error::Error,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, mpsc::Sender},
    task::Poll,
    time::Duration,
};

use tokio::{
    sync::{mpsc::UnboundedReceiver, oneshot},
    time::{Instant, timeout, timeout_at},
};

use super::{
    Settle, SettleError, SettleFuture,
    command::{Command, Done, ToSettle, Unsettled},
    row::Settled,
};

/// So many are settled at the same time.
const AT_ONCE: usize = 64;
/// What is not settled in this time is tried again.
const WITHIN: Duration = Duration::from_secs(10);
/// Waits between attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Settles what the writer has stored. Runs as a task until the writer ends.
pub(super) struct Settler {
    settle: Arc<dyn Settle>,
    inbox: UnboundedReceiver<ToSettle>,
    writer: Sender<Command>,
    due: VecDeque<Unsettled>,
    failed: Vec<Unsettled>,
    retry_at: Instant,
    wait: Duration,
    left_over: LeftOver,
    flushes: Vec<oneshot::Sender<()>>,
}

/// How far the rows left over from before have come.
enum LeftOver {
    /// The next page is on its way.
    Awaited,
    /// A page up to this row is being settled.
    Page(i64),
    Done,
}

// === impl Settler ===

impl Settler {
    pub(super) fn new(
        settle: Arc<dyn Settle>,
        inbox: UnboundedReceiver<ToSettle>,
        writer: Sender<Command>,
    ) -> Self {
        Self {
            settle,
            inbox,
            writer,
            due: VecDeque::new(),
            failed: Vec::new(),
            retry_at: Instant::now(),
            wait: RETRY.0,
            left_over: LeftOver::Awaited,
            flushes: Vec::new(),
        }
    }

    pub(super) async fn run(mut self) {
        while self.receive().await {
            while let Ok(message) = self.inbox.try_recv() {
                self.take(message);
            }
            if !self.failed.is_empty() && Instant::now() >= self.retry_at {
                self.due.extend(self.failed.drain(..));
            }
            self.settle_due().await;
            self.when_idle();
        }
    }

    /// Waits for something to do; false if the writer has ended.
    async fn receive(&mut self) -> bool {
        if !self.due.is_empty() {
            return true;
        }
        let message = if self.failed.is_empty() {
            self.inbox.recv().await
        } else {
            match timeout_at(self.retry_at, self.inbox.recv()).await {
                Ok(message) => message,
                Err(_) => return true,
            }
        };
        let ended = message.is_none();
        if let Some(message) = message {
            self.take(message);
        }
        !ended
    }

    fn take(&mut self, message: ToSettle) {
        match message {
            ToSettle::Stored(records) => self.due.extend(records),
            ToSettle::LeftOver { page, last } => {
                self.left_over = last.map_or(LeftOver::Done, LeftOver::Page);
                self.due.extend(page);
            }
            ToSettle::Flush(done) => self.flushes.push(done),
        }
    }

    async fn settle_due(&mut self) {
        let batch: Vec<_> = self.due.drain(..AT_ONCE.min(self.due.len())).collect();
        let mut marks = Vec::with_capacity(batch.len());
        let failed_before = self.failed.len();
        // `None`: it took too long.
        let mut why: Option<Box<dyn Error + Send + Sync>> = None;
        for (item, result) in settle_all(&*self.settle, batch).await {
            let settled = match result {
                Some(Ok(())) => Settled::Yes,
                Some(Err(SettleError::Refused(error))) => {
                    tracing::error!(error, id = %item.record.id, "usage record was refused by its settler");
                    Settled::Refused
                }
                Some(Err(SettleError::Unavailable(error))) => {
                    why = Some(error);
                    self.failed.push(item);
                    continue;
                }
                None => {
                    self.failed.push(item);
                    continue;
                }
            };
            marks.push(Done {
                seq: item.seq,
                settled,
                _owed: item.owed,
            });
        }
        if !marks.is_empty() {
            self.wait = RETRY.0;
            self.tell(Command::Settled(marks));
        }
        if self.failed.len() > failed_before {
            tracing::warn!(
                waiting = self.failed.len(),
                error = why.as_deref().map(|why| why as &(dyn Error + 'static)),
                "usage records could not be settled, trying again"
            );
            self.retry_at = Instant::now() + self.wait;
            self.wait = RETRY.1.min(self.wait * 2);
        }
    }

    /// When nothing is left of what was given, asks for more of what was left over or tells who waits for it.
    fn when_idle(&mut self) {
        if !self.due.is_empty() || !self.failed.is_empty() {
            return;
        }
        match self.left_over {
            LeftOver::Page(after) => {
                self.left_over = LeftOver::Awaited;
                self.tell(Command::Replay { after });
            }
            LeftOver::Awaited => {}
            LeftOver::Done => {
                // Through the writer, so that the marks sent before are stored first.
                while let Some(done) = self.flushes.pop() {
                    self.tell(Command::Flushed(done));
                }
            }
        }
    }

    fn tell(&self, command: Command) {
        // A writer that has ended stores no marks: the rows are settled again at the next start.
        drop(self.writer.send(command));
    }
}

/// Settles these at the same time; `None` for what took too long.
async fn settle_all(
    settle: &dyn Settle,
    batch: Vec<Unsettled>,
) -> impl Iterator<Item = (Unsettled, Option<Result<(), SettleError>>)> {
    let mut calls: Vec<(SettleFuture, Option<Result<(), SettleError>>)> = batch
        .iter()
        .map(|item| (settle.settle(&item.record), None))
        .collect();
    let all = poll_fn(|cx| {
        let mut pending = false;
        for (call, result) in calls.iter_mut().filter(|(_, result)| result.is_none()) {
            match Pin::new(call).poll(cx) {
                Poll::Ready(settled) => *result = Some(settled),
                Poll::Pending => pending = true,
            }
        }
        if pending {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    });
    // What did not end shows by having no result.
    let _ = timeout(WITHIN, all).await;
    batch
        .into_iter()
        .zip(calls.into_iter().map(|(_, result)| result))
}
