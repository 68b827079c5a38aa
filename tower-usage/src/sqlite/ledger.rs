#[cfg(feature = "postgres")]
use std::path::PathBuf;
use std::{
    fmt,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Sender},
    },
    thread,
    time::SystemTime,
};

use rusqlite::{Connection, OpenFlags};
use tokio::{runtime::Handle, sync::oneshot};
use uuid::Uuid;

#[cfg(feature = "postgres")]
use super::outbox::Outbox;
use super::{
    LedgerError, LedgerOptions, Settle,
    backlog::{Backlog, Owed},
    command::Command,
    joins::Join,
    row, schema,
    settler::Settler,
    writer::Writer,
};
use crate::{Begun, Full, RecordId, Sink, UsageRecord};

/// A ledger in an SQLite file.
///
/// Keeps its records in the table `token_usage_logs`, beside whatever else is in the file. See the
/// [module documentation](super).
///
/// A record is safe once it is committed, which a power cut cannot undo (`synchronous=FULL`). A call goes inward once
/// what is known of it is committed too ([`Sink::begin`]); one that was never ended, because the process was killed, is
/// recorded so by the next [`open`](Self::open). When the file cannot be written (disk full, locked) no call begins, and
/// the records of those that end wait in memory and are written when it can. Should the writer end by a panic, what it had not committed is lost, nobody is admitted any more,
/// and the ledger is not [`healthy`](Self::healthy).
///
/// A count above 2⁵³, or a cost beyond 2⁵³ nano-USD either way, is stored as just that.
///
/// Dropping the ledger lets the writer finish in the background; [`close`](Self::close) waits for it.
pub struct SqliteLedger {
    commands: Sender<Command>,
    backlog: Arc<Backlog>,
    settling: AtomicBool,
    pub(super) reader: Mutex<Connection>,
    #[cfg(feature = "postgres")]
    path: PathBuf,
    #[cfg(feature = "postgres")]
    options: LedgerOptions,
}

/// How far a ledger was at a time: see [`SqliteLedger::mark`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Mark {
    /// The number of the last record.
    pub number: u64,
    /// When the mark was made.
    pub at: SystemTime,
}

const READ_ONLY: OpenFlags =
    OpenFlags::SQLITE_OPEN_READ_ONLY.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

// === impl SqliteLedger ===

impl SqliteLedger {
    /// Opens a ledger, and creates it if it is not there. Blocks while it does.
    ///
    /// # Errors
    ///
    /// [`Store`](LedgerError::Store) if the file cannot be opened, read or written,
    /// [`NewerSchema`](LedgerError::NewerSchema) if a later version wrote it, [`Thread`](LedgerError::Thread) if there
    /// can be no writer thread.
    pub fn open(path: impl AsRef<Path>, options: LedgerOptions) -> Result<Arc<Self>, LedgerError> {
        let mut conn =
            connect(path.as_ref(), OpenFlags::default(), options).map_err(LedgerError::store)?;
        schema::migrate(&mut conn)?;
        let recovered = row::recover(&mut conn).map_err(LedgerError::store)?;
        if recovered > 0 {
            tracing::warn!(
                recovered,
                "calls that were not ended are recorded as they began"
            );
        }
        let reader = connect(path.as_ref(), READ_ONLY, options).map_err(LedgerError::store)?;
        let backlog = Arc::new(Backlog::new(options.capacity));
        let (commands, queue) = mpsc::channel();
        let writer = Writer::new(conn, queue, Arc::clone(&backlog));
        thread::Builder::new()
            .name("usage-ledger".into())
            .spawn(move || writer.run())
            .map_err(LedgerError::Thread)?;
        Ok(Arc::new(Self {
            commands,
            backlog,
            settling: AtomicBool::new(false),
            reader: Mutex::new(reader),
            #[cfg(feature = "postgres")]
            path: path.as_ref().into(),
            #[cfg(feature = "postgres")]
            options,
        }))
    }

    /// Begins to settle: first what an earlier process left over, and what is stored from now on.
    ///
    /// Runs as a task of the current tokio runtime, whose time driver must be enabled. Until it is called, records with a `settle_ref` wait in the file.
    ///
    /// # Errors
    ///
    /// [`AlreadySettling`](LedgerError::AlreadySettling) the second time, [`NoRuntime`](LedgerError::NoRuntime) outside
    /// of a runtime, [`Closed`](LedgerError::Closed) after [`close`](Self::close).
    pub fn start_settling(&self, settle: Arc<dyn Settle>) -> Result<(), LedgerError> {
        let runtime = Handle::try_current().map_err(|_| LedgerError::NoRuntime)?;
        if self.settling.swap(true, Ordering::Relaxed) {
            return Err(LedgerError::AlreadySettling);
        }
        let (sender, inbox) = tokio::sync::mpsc::unbounded_channel();
        self.tell(Command::Settle(sender))?;
        runtime.spawn(Settler::new(settle, inbox, self.commands.clone()).run());
        Ok(())
    }

    /// Joins a run, and the conversation it belongs to, to its model call by the provider's id of the answer.
    ///
    /// May come before the call is recorded: then it waits for it, among the latest 4096 of its kind and in memory
    /// only. What a record says already stays. Never blocks; dropped when too many are queued.
    pub fn join_run(&self, response_id: Arc<str>, run_id: Arc<str>, session_key: Option<Arc<str>>) {
        if !self.backlog.take_join() {
            tracing::warn!("usage ledger has no room to join another run");
            return;
        }
        // After `close` there is nothing to be joined.
        drop(self.tell(Command::Join(Join {
            response_id,
            run_id,
            session_key,
        })));
    }

    /// Which ledger this is: a name that its file was given when it was made.
    ///
    /// # Errors
    ///
    /// [`Store`](LedgerError::Store) if the file cannot be read.
    pub fn id(&self) -> Result<Uuid, LedgerError> {
        let id = self
            .reader()
            .query_row("SELECT id FROM token_usage_ledger", [], |row| row.get(0));
        id.map(Uuid::from_bytes).map_err(LedgerError::store)
    }

    /// How far the ledger was when a mark of this name was first asked for: it stays the same ever after, also over a
    /// crash.
    ///
    /// It is for counters that are kept elsewhere and are given what [was used](Self::used_until) up to the mark: what
    /// has a greater [number](crate::UsageRecord::number) is for the settler to count.
    ///
    /// # Errors
    ///
    /// [`Closed`](LedgerError::Closed) after [`close`](Self::close).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before its end, the mark may be made or not.
    pub async fn mark(&self, name: &str) -> Result<Mark, LedgerError> {
        let (sender, marked) = oneshot::channel();
        self.tell(Command::Mark(name.to_owned(), sender))?;
        marked.await.map_err(|_| LedgerError::Closed)
    }

    /// The mark of this name, if there is one. Blocks while it reads the file.
    ///
    /// # Errors
    ///
    /// [`Store`](LedgerError::Store) if the file cannot be read.
    pub fn find_mark(&self, name: &str) -> Result<Option<Mark>, LedgerError> {
        row::find_mark(&self.reader(), name).map_err(LedgerError::store)
    }

    /// The number of the last record. Blocks while it reads the file.
    ///
    /// # Errors
    ///
    /// [`Store`](LedgerError::Store) if the file cannot be read.
    pub fn last_number(&self) -> Result<u64, LedgerError> {
        let last = self.reader().query_row(
            "SELECT coalesce(max(seq), 0) FROM token_usage_logs",
            [],
            |row| row.get(0).map(row::count),
        );
        last.map_err(LedgerError::store)
    }

    /// Waits until everything recorded so far is committed, and settled if settling was started.
    ///
    /// # Errors
    ///
    /// [`Closed`](LedgerError::Closed) if the ledger or its settler has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, it only waits no longer: what was recorded is committed and settled all the same.
    pub async fn flush(&self) -> Result<(), LedgerError> {
        let (done, flushed) = oneshot::channel();
        self.tell(Command::Flush(done))?;
        flushed.await.map_err(|_| LedgerError::Closed)
    }

    /// Closes in good order: refuses further calls, waits until every admitted one is recorded, committed and, if
    /// settling was started, settled, and closes the file.
    ///
    /// Takes as long as the calls in flight; put a bound around it.
    ///
    /// # Errors
    ///
    /// [`Closed`](LedgerError::Closed) if the ledger or its settler had ended before.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, it leaves a ledger that refuses calls and still records what was admitted. It can be
    /// called again.
    pub async fn close(&self) -> Result<(), LedgerError> {
        self.backlog.close().await;
        self.flush().await?;
        let (done, closed) = oneshot::channel();
        self.tell(Command::Close(Some(done)))?;
        closed.await.map_err(|_| LedgerError::Closed)
    }

    /// Records that are not finished: neither committed nor, if settling was started, settled.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.backlog.owed()
    }

    /// Whether the ledger is open, its file could be written the last time, and a settler that was started still runs.
    #[must_use]
    pub fn healthy(&self) -> bool {
        self.backlog.is_healthy()
    }

    /// What is to be shipped elsewhere, for the one who does.
    #[cfg(feature = "postgres")]
    pub(crate) async fn outbox(&self) -> Result<Outbox, LedgerError> {
        if !self.backlog.begin_shipping() {
            return Err(LedgerError::AlreadyShipping);
        }
        let made = connect(&self.path, READ_ONLY, self.options)
            .map_err(LedgerError::store)
            .and_then(|conn| Ok((conn, self.id()?)));
        let (conn, id) = made.inspect_err(|_| self.backlog.end_shipping())?;
        // From here on it ends with the outbox.
        Outbox::begin(id, conn, self.commands.clone(), Arc::clone(&self.backlog)).await
    }

    pub(super) fn tell(&self, command: Command) -> Result<(), LedgerError> {
        self.commands.send(command).map_err(|_| LedgerError::Closed)
    }
}

impl Sink for SqliteLedger {
    fn admit(&self) -> Result<(), Full> {
        self.backlog.take_place()
    }

    fn begin(&self, record: &UsageRecord) -> Begun {
        let (kept, answer) = oneshot::channel();
        if self.tell(Command::Begin(record.clone(), kept)).is_err() {
            return Begun::ready(Err(Full::new()));
        }
        Begun::boxed(async move { answer.await.unwrap_or(Err(Full::new())) })
    }

    fn record(&self, record: UsageRecord) {
        let owed = Owed::placed(&self.backlog);
        if self.tell(Command::Record(record, owed)).is_err() {
            tracing::error!("usage record is lost, the writer of its ledger has ended");
        }
    }

    fn forgo(&self, begun: Option<RecordId>) {
        if let Some(id) = begun {
            // Without a writer it is the next `open` that decides.
            drop(self.tell(Command::Forget(id)));
        }
        self.backlog.vacate();
    }
}

impl Drop for SqliteLedger {
    fn drop(&mut self) {
        // The settler holds a sender too, so that the queue does not end by itself.
        drop(self.tell(Command::Close(None)));
    }
}

impl fmt::Debug for SqliteLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteLedger")
            .field("backlog", &self.backlog())
            .field("healthy", &self.healthy())
            .finish_non_exhaustive()
    }
}

fn connect(
    path: &Path,
    flags: OpenFlags,
    options: LedgerOptions,
) -> Result<Connection, rusqlite::Error> {
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(options.busy_timeout)?;
    if !conn.is_readonly("main")? {
        conn.pragma_update(None, "journal_mode", "WAL")?;
        conn.pragma_update(None, "synchronous", "FULL")?;
    }
    Ok(conn)
}
