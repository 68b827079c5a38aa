use std::{
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode};
use thiserror::Error;
use tokio::{sync::oneshot, time::timeout_at};

use crate::{
    jwt::{Clock as _, SystemClock},
    session::StoreError,
};

/// A thread with a connection of its own, and what it is asked. It ends when everything was done that it
/// was asked before this is dropped.
pub(super) struct Worker(SyncSender<Box<dyn Job>>);

/// How long an operation may take, from when it is asked.
pub(super) const TIMEOUT: Duration = Duration::from_secs(2);

/// How many operations may wait.
const WAITING: usize = 1_024;

/// How many writes are one transaction at most: other writers of the file want their turn.
const TOGETHER: usize = 256;

/// An operation that is waited for.
trait Job: Send {
    fn deadline(&self) -> Instant;

    /// Does it if it is not too late, and keeps the answer until it holds. Whether it was done.
    fn run(&mut self, connection: &Connection) -> bool;

    /// Says what came of it; with an error of the whole transaction, that nothing did.
    fn answer(self: Box<Self>, undone: Option<Undone>);
}

struct Operation<T, F> {
    deadline: Instant,
    work: Option<F>,
    done: Option<rusqlite::Result<T>>,
    asked: oneshot::Sender<Result<T, StoreError>>,
}

/// The transaction of an operation came to nothing.
#[derive(Clone, Debug, Error)]
#[error("its transaction came to nothing")]
struct Undone(#[source] Arc<rusqlite::Error>);

// === impl Worker ===

impl Worker {
    /// Does one operation after the other.
    pub(super) fn reader(connection: Connection) -> Result<Self, StoreError> {
        Self::start("sso-read", connection, read_all)
    }

    /// What waits together becomes one transaction, and each operation a savepoint in it.
    pub(super) fn writer(connection: Connection) -> Result<Self, StoreError> {
        Self::start("sso-write", connection, write_all)
    }

    fn start(
        name: &str,
        connection: Connection,
        work: fn(&Connection, &Receiver<Box<dyn Job>>),
    ) -> Result<Self, StoreError> {
        let (sender, asked) = sync_channel(WAITING);
        let thread = thread::Builder::new().name(name.to_owned());
        match thread.spawn(move || work(&connection, &asked)) {
            Ok(_) => Ok(Self(sender)),
            Err(error) => Err(StoreError::new(error)),
        }
    }

    /// Asks for something, with the time in milliseconds since 1970, and waits for it.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, i64) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (asked, answer) = oneshot::channel();
        let deadline = Instant::now() + TIMEOUT;
        let operation = Operation {
            deadline,
            work: Some(work),
            done: None,
            asked,
        };
        match self.0.try_send(Box::new(operation)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                return Err(StoreError::new("too many operations wait for the file"));
            }
            Err(TrySendError::Disconnected(_)) => return Err(StoreError::new(GONE)),
        }
        // A disk that hangs keeps the thread, but not those who wait.
        match timeout_at(deadline.into(), answer).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(StoreError::new(GONE))),
            Err(elapsed) => Err(StoreError::new(elapsed)),
        }
    }
}

const GONE: &str = "the thread of the file has ended";

const LATE: &str = "the file did not get to it within two seconds";

fn read_all(connection: &Connection, asked: &Receiver<Box<dyn Job>>) {
    while let Ok(mut job) = asked.recv() {
        let waits = wait_for(connection, job.deadline());
        if waits.is_ok() {
            job.run(connection);
        }
        job.answer(waits.err().map(Undone::from));
    }
}

fn write_all(connection: &Connection, asked: &Receiver<Box<dyn Job>>) {
    while let Ok(first) = asked.recv() {
        let others = asked.try_iter().take(TOGETHER - 1);
        let mut jobs: Vec<Box<dyn Job>> = std::iter::once(first).chain(others).collect();
        while !jobs.is_empty() {
            write(connection, &mut jobs);
        }
    }
}

/// Does all of them, or takes those away whose time has run out.
fn write(connection: &Connection, jobs: &mut Vec<Box<dyn Job>>) {
    let now = Instant::now();
    let late = jobs.partition_point(|job| job.deadline() <= now);
    jobs.drain(..late).for_each(|job| job.answer(None));
    let Some(first) = jobs.first() else {
        return;
    };
    let begun =
        wait_for(connection, first.deadline()).and_then(|()| run(connection, "BEGIN IMMEDIATE"));
    if let Err(error) = begun {
        // The first has waited for as long as it may. Others may have some time left.
        let is_busy = error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy);
        let refused = if is_busy { 1 } else { jobs.len() };
        refuse(jobs.drain(..refused), &error.into());
        return;
    }
    let committed = jobs
        .iter_mut()
        .try_for_each(|job| run_one(connection, &mut **job))
        .and_then(|()| run(connection, "COMMIT"));
    match committed {
        Ok(()) => jobs.drain(..).for_each(|job| job.answer(None)),
        Err(error) => {
            // Some errors have undone everything already.
            let _ = run(connection, "ROLLBACK");
            refuse(jobs.drain(..), &error.into());
        }
    }
}

/// What fails changes nothing. An error says that the whole transaction is lost.
fn run_one(connection: &Connection, job: &mut dyn Job) -> rusqlite::Result<()> {
    run(connection, "SAVEPOINT one")?;
    if !job.run(connection) {
        run(connection, "ROLLBACK TO one")?;
    }
    run(connection, "RELEASE one")
}

fn run(connection: &Connection, statement: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(statement)?.execute([]).map(drop)
}

/// Another writer of the file is waited for until then.
fn wait_for(connection: &Connection, deadline: Instant) -> rusqlite::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    // SQLite counts whole milliseconds.
    connection.busy_timeout(left + Duration::from_millis(1))
}

fn refuse(jobs: impl Iterator<Item = Box<dyn Job>>, undone: &Undone) {
    for job in jobs {
        job.answer(Some(undone.clone()));
    }
}

// === impl Operation ===

impl<T, F> Job for Operation<T, F>
where
    T: Send,
    F: FnOnce(&Connection, i64) -> rusqlite::Result<T> + Send,
{
    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn run(&mut self, connection: &Connection) -> bool {
        // The lock may have been waited for all the time.
        if Instant::now() >= self.deadline {
            return false;
        }
        let Some(work) = self.work.take() else {
            return false;
        };
        let done = work(connection, super::to_millis(SystemClock.now()));
        let is_done = done.is_ok();
        self.done = Some(done);
        is_done
    }

    fn answer(self: Box<Self>, undone: Option<Undone>) {
        let answer = match (undone, self.done) {
            (Some(undone), _) => Err(StoreError::new(undone)),
            (None, Some(done)) => done.map_err(StoreError::new),
            (None, None) => Err(StoreError::new(LATE)),
        };
        // Whoever asked may have left.
        let _ = self.asked.send(answer);
    }
}

// === impl Undone ===

impl From<rusqlite::Error> for Undone {
    fn from(error: rusqlite::Error) -> Self {
        Self(Arc::new(error))
    }
}
