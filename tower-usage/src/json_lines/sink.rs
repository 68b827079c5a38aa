use std::{
    fmt,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread,
};

use super::writer::{Message, Writer};
use crate::{Full, RecordId, Sink, UsageRecord};

/// Records that may wait to be written, unless said otherwise.
const CAPACITY: usize = 8192;

/// A sink that writes each record as a line of JSON, to a file or whatever else is an [`io::Write`].
///
/// It is a *copy*, for a log collector or a data warehouse; the ledger is the truth. So it never keeps anybody waiting
/// and refuses nobody: a record for which its queue has no room, or whose writing fails, is gone from here and
/// [counted](Self::dropped). Put it beside a ledger with a [`Tee`](crate::Tee).
///
/// Lines are made and written by a thread of its own, which writes out and flushes whenever it has nothing else to do.
/// After a line that was written in part, the next one begins on a line of its own; readers skip what is no JSON.
///
/// The members of a line are those of the gateway's API: `id`, `operation`, `model`, `sessionKey`, `runId`,
/// `responseId`, `inputTokens`, `outputTokens`, `cacheReadTokens`, `cacheWriteTokens`, `reasoningTokens`, `totalTokens`,
/// `cost` (decimal dollars, as text), `source`, `outcome`, `startedAt` and `endedAt` (RFC 3339, UTC); and besides
/// `userId`, `provider`, `requestedModel`, `price` (`input`, `output`, `cacheRead` and `cacheWrite` in dollars per million
/// tokens, as text) and `metadata`. What is not known is `null`.
///
/// # Examples
///
/// Rotated by renaming the file and opening it again:
///
/// ```
/// use std::{fs::OpenOptions, sync::Arc};
///
/// use tower_usage::{JsonLines, Operation, Sink, UsageRecord};
///
/// # let directory = tempfile::tempdir()?;
/// let path = directory.path().join("usage.jsonl");
/// let open = || OpenOptions::new().create(true).append(true).open(&path);
/// let lines = Arc::new(JsonLines::new(open()?)?);
/// lines.record(UsageRecord::new("alice".into(), Operation::Run));
///
/// std::fs::rename(&path, path.with_extension("1"))?;
/// lines.replace(open()?);
/// lines.record(UsageRecord::new("bob".into(), Operation::Run));
/// lines.flush();
/// assert!(std::fs::read_to_string(path)?.contains(r#""userId":"bob""#));
/// assert_eq!(lines.dropped(), 0);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct JsonLines {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

// === impl JsonLines ===

impl JsonLines {
    /// Writes to this, with room for 8192 records that wait.
    ///
    /// Needs no buffer: lines are collected and written together.
    ///
    /// # Errors
    ///
    /// That of the system if there can be no thread.
    pub fn new(writer: impl Write + Send + 'static) -> io::Result<Self> {
        Self::with_capacity(CAPACITY, writer)
    }

    /// Writes to this, with room for so many records that wait.
    ///
    /// # Errors
    ///
    /// That of the system if there can be no thread.
    pub fn with_capacity(records: usize, writer: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, messages) = sync_channel(records);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer::new(messages, Box::new(writer), Arc::clone(&dropped));
        thread::Builder::new()
            .name("usage-json-lines".into())
            .spawn(move || writer.run())?;
        Ok(Self { queue, dropped })
    }

    /// Writes to another from here on; what was recorded before is written to the one before. Blocks while the queue is
    /// full.
    pub fn replace(&self, writer: impl Write + Send + 'static) {
        // The thread ends after this.
        drop(self.queue.send(Message::Replace(Box::new(writer))));
    }

    /// Waits until everything recorded before is written, or counted as dropped. Blocks.
    ///
    /// Call it before the process ends: a sink that is dropped writes the rest in the background.
    pub fn flush(&self) {
        let (done, flushed) = sync_channel(1);
        if self.queue.send(Message::Flush(done)).is_ok() {
            // The thread ends after this.
            let _ = flushed.recv();
        }
    }

    /// How many records were not written: they found no room, or writing them failed, wholly or in part.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }
}

impl Sink for JsonLines {
    /// Never refuses, since a copy must not decide who is served.
    fn admit(&self) -> Result<(), Full> {
        Ok(())
    }

    fn record(&self, record: UsageRecord) {
        let sent = self.queue.try_send(Message::Record(Box::new(record)));
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = sent {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    fn forgo(&self, _: Option<RecordId>) {}
}

impl fmt::Debug for JsonLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonLines")
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}
