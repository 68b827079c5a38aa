use std::{
    collections::VecDeque,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, TransactionBehavior, params};
use tokio::sync::{mpsc::UnboundedSender, oneshot};

#[cfg(feature = "postgres")]
use super::outbox;
use super::{
    backlog::{Backlog, Owed},
    command::{Command, ToSettle, Unsettled},
    joins::{Join, Joins},
    replay::replay_of,
    row::{self, Stored},
};
use crate::{Full, SystemClock, clock::Clock as _};

/// The most commands of one transaction, and rows of one page.
const BATCH: usize = 512;
/// Waits between attempts to write.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// Writes everything the ledger stores. Runs on a thread of its own and keeps what it could not write yet.
#[derive(Debug)]
pub(super) struct Writer {
    conn: Connection,
    commands: Receiver<Command>,
    pending: VecDeque<Command>,
    joins: Joins,
    settler: Option<Settler>,
    backlog: Arc<Backlog>,
}

#[derive(Debug)]
struct Settler {
    inbox: UnboundedSender<ToSettle>,
    /// The last row that was there when settling began.
    left_over: i64,
}

enum Next {
    Go,
    /// The file can be written.
    Written,
    Stop(Option<oneshot::Sender<()>>),
}

/// Ends admission when the writer ends, also by a panic.
struct Running(Arc<Backlog>);

// === impl Writer ===

impl Writer {
    pub(super) fn new(
        conn: Connection,
        commands: Receiver<Command>,
        backlog: Arc<Backlog>,
    ) -> Self {
        Self {
            conn,
            commands,
            pending: VecDeque::new(),
            joins: Joins::default(),
            settler: None,
            backlog,
        }
    }

    pub(super) fn run(mut self) {
        let running = Running(Arc::clone(&self.backlog));
        let mut wait = RETRY.0;
        while self.receive() {
            match self.step() {
                Ok(Next::Go) => {}
                Ok(Next::Written) => {
                    wait = RETRY.0;
                    if self.backlog.set_writable(true) {
                        tracing::info!("usage ledger can be written again");
                    }
                }
                Ok(Next::Stop(done)) => {
                    drop(self.conn);
                    drop(running);
                    return done.map_or((), answer);
                }
                Err(error) => {
                    // What only reads says nothing about that.
                    let writes = self.pending.front().is_some_and(Command::writes);
                    if writes && self.backlog.set_writable(false) {
                        tracing::error!(%error, "usage ledger cannot be written, trying again");
                    }
                    self.refuse_begins();
                    self.wait(wait);
                    wait = RETRY.1.min(wait * 2);
                }
            }
        }
    }

    /// Takes what is queued, waiting if there is nothing to do; false if nothing will come any more.
    fn receive(&mut self) -> bool {
        if self.pending.is_empty() {
            match self.commands.recv() {
                Ok(command) => self.pending.push_back(command),
                Err(_) => return false,
            }
        }
        let room = BATCH.saturating_sub(self.pending.len());
        self.pending.extend(self.commands.try_iter().take(room));
        true
    }

    /// Refuses the calls that wait for being kept: they would wait for as long as the file cannot be written.
    fn refuse_begins(&mut self) {
        for command in std::mem::take(&mut self.pending) {
            match command {
                // Whoever waits for it may have left.
                Command::Begin(_, kept) => drop(kept.send(Err(Full::new()))),
                command => self.pending.push_back(command),
            }
        }
    }

    /// Waits for a time after a failure, but not long once a call waits for being kept. Takes whatever comes, however much
    /// there is already: behind all of it a call would wait for the file.
    fn wait(&mut self, time: Duration) {
        let failed = Instant::now();
        let mut until = failed + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.commands.recv_timeout(left) {
                Ok(command) => {
                    if matches!(command, Command::Begin(..)) {
                        until = until.min(failed + RETRY.0);
                    }
                    self.pending.push_back(command);
                }
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => return thread::park_timeout(left),
            }
        }
    }

    /// Does the next thing. After an error it is still the next thing.
    fn step(&mut self) -> Result<Next, rusqlite::Error> {
        let writes = self
            .pending
            .iter()
            .take_while(|command| command.is_write())
            .take(BATCH)
            .count();
        if writes > 0 {
            let stored = self.write(writes)?;
            self.hand_on(writes, stored);
            return Ok(Next::Written);
        }
        match self.pending.front() {
            Some(Command::Settle(inbox)) => {
                let inbox = inbox.clone();
                let left_over = self.conn.query_row(
                    "SELECT coalesce(max(seq), 0) FROM token_usage_logs WHERE settled = 0",
                    [],
                    |row| row.get(0),
                )?;
                self.settler = Some(Settler { inbox, left_over });
                self.replay(0)?;
            }
            Some(Command::Replay { after }) => self.replay(*after)?,
            Some(Command::Mark(name, _)) => {
                let mark = row::mark(&self.conn, name, SystemClock.now())?;
                if let Some(Command::Mark(_, marked)) = self.pending.pop_front() {
                    // Whoever asked may have left.
                    let _ = marked.send(mark);
                }
                return Ok(Next::Written);
            }
            Some(Command::Reprice(reprice)) => {
                let page = reprice.run(&mut self.conn)?;
                if let Some(Command::Reprice(reprice)) = self.pending.pop_front() {
                    reprice.answer(page);
                }
                return Ok(Next::Written);
            }
            _ => {}
        }
        match self.pending.pop_front() {
            Some(Command::Flush(done)) => match &self.settler {
                Some(_) => self.send(ToSettle::Flush(done)),
                None => answer(done),
            },
            Some(Command::Flushed(done)) => answer(done),
            Some(Command::Close(done)) => return Ok(Next::Stop(done)),
            _ => {}
        }
        Ok(Next::Go)
    }

    /// Writes the first commands in one transaction; gives the rows of the records among them.
    fn write(&mut self, count: usize) -> Result<Vec<Stored>, rusqlite::Error> {
        let tx = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut stored = Vec::with_capacity(count);
        for command in self.pending.iter().take(count) {
            match command {
                Command::Record(record, _) => {
                    let join = record
                        .response_id
                        .as_deref()
                        .and_then(|id| self.joins.find(id));
                    stored.push(row::insert(&tx, record, join)?);
                }
                Command::Begin(record, _) => row::begin(&tx, record)?,
                Command::Forget(id) => row::forget(&tx, *id)?,
                Command::Join(join) => {
                    let found = set_run(&tx, join)?;
                    if !found {
                        self.joins.put(join);
                    }
                }
                Command::Settled(marks) => {
                    let mut update = tx.prepare_cached(
                        "UPDATE token_usage_logs SET settled = ?2 WHERE seq = ?1",
                    )?;
                    for mark in marks {
                        update.execute(params![mark.seq, mark.settled as i64])?;
                    }
                }
                #[cfg(feature = "postgres")]
                Command::Ship(_) => outbox::begin(&tx)?,
                #[cfg(feature = "postgres")]
                Command::Shipped(shipped, refused, _) => outbox::mark(&tx, *shipped, refused)?,
                _ => {}
            }
        }
        tx.commit()?;
        Ok(stored)
    }

    /// Takes leave of what was written: records go to the settler, the rest is finished.
    fn hand_on(&mut self, count: usize, stored: Vec<Stored>) {
        let mut stored = stored.into_iter();
        let mut unsettled = Vec::new();
        let mut is_stored = false;
        for command in self.pending.drain(..count) {
            is_stored |= matches!(command, Command::Record(..) | Command::Join(_));
            match command {
                Command::Record(record, owed) => {
                    if let Some(id) = record.response_id.as_deref() {
                        self.joins.remove(id);
                    }
                    if let Some(Stored {
                        seq,
                        to_settle: true,
                        original,
                    }) = stored.next()
                    {
                        let record = match original {
                            Some(original) => replay_of(original, record),
                            None => record,
                        };
                        unsettled.push(Unsettled::new(seq, record, owed));
                    }
                }
                // Whoever waits for it may have left; the call is forgotten by a command of its own then.
                Command::Begin(_, kept) => drop(kept.send(Ok(()))),
                Command::Join(_) => self.backlog.end_join(),
                #[cfg(feature = "postgres")]
                Command::Ship(done) | Command::Shipped(_, _, done) => answer(done),
                _ => {}
            }
        }
        if is_stored {
            self.backlog.notify_stored();
        }
        if !unsettled.is_empty() {
            self.send(ToSettle::Stored(unsettled));
        }
    }

    /// Reads the next page of what was left over.
    fn replay(&mut self, after: i64) -> Result<(), rusqlite::Error> {
        let Some(settler) = &self.settler else {
            return Ok(());
        };
        let (mut page, mut last) = (Vec::new(), None);
        {
            let mut select = self.conn.prepare_cached(&row::unsettled_query())?;
            let mut rows = select.query(params![after, settler.left_over, BATCH as i64])?;
            while let Some(row) = rows.next()? {
                let seq = row.get("seq")?;
                last = Some(seq);
                match row::read(row) {
                    Ok(record) => {
                        let owed = Owed::left_over(&self.backlog);
                        page.push(Unsettled::new(seq, record, owed));
                    }
                    // It must not keep the others from being settled.
                    Err(error) => {
                        tracing::error!(%error, seq, "usage record cannot be read, and is not settled");
                    }
                }
            }
        }
        self.send(ToSettle::LeftOver { page, last });
        Ok(())
    }

    /// Gives to the settler, if there is one. What it cannot take stays unsettled until the next start.
    fn send(&mut self, message: ToSettle) {
        let Some(settler) = &self.settler else { return };
        if settler.inbox.send(message).is_err() && self.backlog.lose_settler() {
            tracing::error!("usage ledger has lost its settler");
        }
    }
}

// === impl Running ===

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lose_writer();
    }
}

fn answer(done: oneshot::Sender<()>) {
    // Whoever asked may have left.
    let _ = done.send(());
}

/// Whether there was a record of this answer.
fn set_run(conn: &Connection, join: &Join) -> Result<bool, rusqlite::Error> {
    let mut update = conn.prepare_cached(
        "UPDATE token_usage_logs SET run_id = coalesce(run_id, ?2), session_key = coalesce(session_key, ?3) \
         WHERE response_id = ?1",
    )?;
    let changed = update.execute(params![join.response_id, join.run_id, join.session_key])?;
    Ok(changed > 0)
}
