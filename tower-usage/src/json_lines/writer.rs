use std::{
    io::{self, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender},
    },
};

use super::line;
use crate::UsageRecord;

/// Lines are written out when there are so many bytes of them, if there is no pause before.
const ENOUGH: usize = 64 << 10;

/// What the writer is told, in the order it is told.
pub(super) enum Message {
    Record(Box<UsageRecord>),
    Replace(Box<dyn Write + Send>),
    /// Answer when all before is written.
    Flush(SyncSender<()>),
}

/// Makes lines and writes them. Runs on a thread of its own.
pub(super) struct Writer {
    messages: Receiver<Message>,
    writer: Box<dyn Write + Send>,
    /// Whole lines that are not written yet, and how many.
    lines: Vec<u8>,
    count: u64,
    /// The last write may have ended within a line.
    torn: bool,
    failing: bool,
    dropped: Arc<AtomicU64>,
}

// === impl Writer ===

impl Writer {
    pub(super) fn new(
        messages: Receiver<Message>,
        writer: Box<dyn Write + Send>,
        dropped: Arc<AtomicU64>,
    ) -> Self {
        Self {
            messages,
            writer,
            lines: Vec::new(),
            count: 0,
            torn: false,
            failing: false,
            dropped,
        }
    }

    pub(super) fn run(mut self) {
        while let Ok(message) = self.messages.recv() {
            self.take(message);
            while self.lines.len() < ENOUGH
                && let Ok(message) = self.messages.try_recv()
            {
                self.take(message);
            }
            self.write_out();
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Record(record) => {
                let whole = self.lines.len();
                if line::write(&record, &mut self.lines).is_ok() {
                    self.count += 1;
                } else {
                    self.lines.truncate(whole);
                    self.dropped.fetch_add(1, Relaxed);
                }
            }
            Message::Replace(writer) => {
                self.write_out();
                self.writer = writer;
                self.torn = false;
            }
            Message::Flush(done) => {
                self.write_out();
                // Whoever waits may have left.
                let _ = done.send(());
            }
        }
    }

    fn write_out(&mut self) {
        if self.count == 0 {
            return;
        }
        // A writer that panics is one that fails: the thread is there for the next.
        let written = catch_unwind(AssertUnwindSafe(|| self.try_write()));
        let written = written.unwrap_or_else(|_| Err(io::Error::other("the writer panicked")));
        self.torn = written.is_err();
        match written {
            Ok(()) => {
                if self.failing {
                    tracing::info!("usage records are written as lines again");
                }
            }
            Err(error) => {
                self.dropped.fetch_add(self.count, Relaxed);
                if !self.failing {
                    tracing::error!(%error, "usage records cannot be written as lines, and are dropped");
                }
            }
        }
        self.failing = self.torn;
        self.lines.clear();
        self.count = 0;
    }

    fn try_write(&mut self) -> io::Result<()> {
        if self.torn {
            self.writer.write_all(b"\n")?;
        }
        self.writer.write_all(&self.lines)?;
        self.writer.flush()
    }
}
