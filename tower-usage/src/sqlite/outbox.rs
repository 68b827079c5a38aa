use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError, mpsc::Sender},
    time::{Duration, SystemTime},
};

use rusqlite::{Connection, OptionalExtension, Row, params};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{
    LedgerError,
    backlog::Backlog,
    command::Command,
    row::{self, count, millis, time},
};
use crate::{SystemClock, UsageRecord, clock::Clock as _};

/// The ledger as what is to be shipped elsewhere, in the order it was stored. There is one at a time.
#[derive(Debug)]
pub(crate) struct Outbox {
    ledger: Uuid,
    conn: Mutex<Connection>,
    writer: Sender<Command>,
    backlog: Arc<Backlog>,
}

/// How far records were shipped.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Shipped {
    /// All records up to this number.
    pub(crate) up_to: i64,
    /// All changes of these up to this version.
    pub(crate) changes: i64,
}

/// What is to be shipped next.
#[derive(Debug)]
pub(crate) struct Page {
    /// With their numbers, which ascend.
    pub(crate) records: Vec<UsageRecord>,
    /// What cannot be read.
    pub(crate) refused: Vec<Refused>,
    /// How far everything was shipped before, and is with it.
    pub(crate) before: Shipped,
    pub(crate) after: Shipped,
    /// There may be more.
    pub(crate) is_full: bool,
}

/// A record that will never be shipped as it is.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) number: i64,
    pub(crate) reason: String,
}

/// What is not shipped yet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Unshipped {
    /// Records that are not shipped yet, or were changed since.
    pub records: u64,
    /// How long ago the oldest of them ended, or was changed; zero if there is none.
    pub age: Duration,
    /// Records that the other side will never take as they are. The table `token_usage_refused` of the file says why.
    pub refused: u64,
}

// === impl Outbox ===

impl Outbox {
    /// Keeps what is changed from now on. A connection of its own, since pages are long.
    pub(super) async fn begin(
        ledger: Uuid,
        conn: Connection,
        writer: Sender<Command>,
        backlog: Arc<Backlog>,
    ) -> Result<Self, LedgerError> {
        let outbox = Self {
            ledger,
            conn: Mutex::new(conn),
            writer,
            backlog,
        };
        let (begun, answer) = oneshot::channel();
        outbox.tell(Command::Ship(begun))?;
        answer.await.map_err(|_| LedgerError::Closed)?;
        Ok(outbox)
    }

    /// Which ledger it is of.
    pub(crate) const fn ledger(&self) -> Uuid {
        self.ledger
    }

    /// Waits until something was stored since it was last waited for.
    pub(crate) async fn stored(&self) {
        self.backlog.stored().await;
    }

    /// Ends the waiting for something that is stored.
    pub(crate) fn notify(&self) {
        self.backlog.notify_stored();
    }

    /// Reads what is next: at most so many records, and so many changes. Blocks.
    pub(crate) fn page(&self, most: usize) -> Result<Page, LedgerError> {
        self.read(|conn| page(conn, most))
    }

    /// How far everything would be if it was shipped now. Blocks.
    pub(crate) fn end(&self) -> Result<Shipped, LedgerError> {
        self.read(end)
    }

    /// What is not shipped yet. Blocks.
    pub(crate) fn unshipped(&self) -> Result<Unshipped, LedgerError> {
        self.read(|conn| unshipped(conn, SystemClock.now()))
    }

    /// Notes how far everything was shipped, which is stored when it is ready.
    pub(crate) async fn mark(
        &self,
        shipped: Shipped,
        refused: Vec<Refused>,
    ) -> Result<(), LedgerError> {
        let (done, answer) = oneshot::channel();
        self.tell(Command::Shipped(shipped, refused, done))?;
        answer.await.map_err(|_| LedgerError::Closed)
    }

    /// Ready when it, and all that uses it, has ended.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let backlog = Arc::clone(&self.backlog);
        async move { backlog.shipping_ended().await }
    }

    fn tell(&self, command: Command) -> Result<(), LedgerError> {
        self.writer.send(command).map_err(|_| LedgerError::Closed)
    }

    /// Reads as of one time.
    fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, LedgerError> {
        let conn = self.conn.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = conn.unchecked_transaction().map_err(LedgerError::store)?;
        read(&transaction).map_err(LedgerError::store)
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.backlog.end_shipping();
    }
}

// === impl Page ===

impl Page {
    /// Whether there is nothing to be noted.
    pub(crate) fn is_empty(&self) -> bool {
        self.before == self.after
    }
}

/// Begins to keep what is changed.
pub(super) fn begin(conn: &Connection) -> Result<(), rusqlite::Error> {
    conn.execute(
        "INSERT INTO token_usage_shipped SELECT 0, 0 WHERE NOT EXISTS (SELECT 1 FROM token_usage_shipped)",
        [],
    )
    .map(drop)
}

/// Notes how far everything was shipped.
pub(super) fn mark(
    conn: &Connection,
    shipped: Shipped,
    refused: &[Refused],
) -> Result<(), rusqlite::Error> {
    // What was refused before may have been taken.
    conn.prepare_cached(
        "DELETE FROM token_usage_refused
         WHERE seq > (SELECT up_to FROM token_usage_shipped) AND seq <= ?1
             OR seq IN (SELECT seq FROM token_usage_changed WHERE version <= ?2)",
    )?
    .execute([shipped.up_to, shipped.changes])?;
    conn.prepare_cached("UPDATE token_usage_shipped SET up_to = ?1, changes = ?2")?
        .execute([shipped.up_to, shipped.changes])?;
    conn.prepare_cached("DELETE FROM token_usage_changed WHERE version <= ?1")?
        .execute([shipped.changes])?;
    let mut refuse =
        conn.prepare_cached("INSERT OR REPLACE INTO token_usage_refused VALUES (?1, ?2, ?3)")?;
    for refused in refused {
        let now = millis(SystemClock.now());
        refuse.execute(params![refused.number, refused.reason, now])?;
    }
    Ok(())
}

fn shipped(conn: &Connection) -> Result<Shipped, rusqlite::Error> {
    let shipped = conn
        .prepare_cached("SELECT up_to, changes FROM token_usage_shipped")?
        .query_row([], |row| {
            Ok(Shipped {
                up_to: row.get(0)?,
                changes: row.get(1)?,
            })
        })
        .optional();
    shipped.map(Option::unwrap_or_default)
}

fn end(conn: &Connection) -> Result<Shipped, rusqlite::Error> {
    let shipped = shipped(conn)?;
    let last = |query| conn.prepare_cached(query)?.query_row([], |row| row.get(0));
    let up_to = last("SELECT coalesce(max(seq), 0) FROM token_usage_logs")?;
    let changes: i64 = last("SELECT coalesce(max(version), 0) FROM token_usage_changed")?;
    Ok(Shipped {
        up_to,
        changes: changes.max(shipped.changes),
    })
}

fn unshipped(conn: &Connection, now: SystemTime) -> Result<Unshipped, rusqlite::Error> {
    let (from, to) = (shipped(conn)?, end(conn)?);
    // Numbers and versions have no gaps to speak of, so that nothing has to be counted.
    let records =
        to.up_to.saturating_sub(from.up_to).max(0) + to.changes.saturating_sub(from.changes).max(0);
    let oldest = |query, after: i64| {
        conn.prepare_cached(query)?
            .query_row([after], |row| row.get::<_, i64>(0))
            .optional()
    };
    let record = oldest(
        "SELECT created_at FROM token_usage_logs WHERE seq > ?1 ORDER BY seq LIMIT 1",
        from.up_to,
    )?;
    let change = oldest(
        "SELECT changed_at FROM token_usage_changed WHERE version > ?1 ORDER BY version LIMIT 1",
        from.changes,
    )?;
    let oldest = record.into_iter().chain(change).min();
    let age = oldest.and_then(|at| now.duration_since(time(at)).ok());
    let refused = conn
        .prepare_cached("SELECT count(*) FROM token_usage_refused")?
        .query_row([], |row| row.get(0))?;
    Ok(Unshipped {
        records: count(records),
        age: age.unwrap_or_default(),
        refused: count(refused),
    })
}

fn page(conn: &Connection, most: usize) -> Result<Page, rusqlite::Error> {
    let before = shipped(conn)?;
    let mut page = Page {
        records: Vec::new(),
        refused: Vec::new(),
        before,
        after: before,
        is_full: false,
    };
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut changed = BTreeSet::new();
    {
        let mut query = conn.prepare_cached(
            "SELECT version, seq FROM token_usage_changed WHERE version > ?1 ORDER BY version LIMIT ?2",
        )?;
        let mut rows = query.query([before.changes, most])?;
        let mut found = 0;
        while let Some(row) = rows.next()? {
            found += 1;
            page.after.changes = row.get(0)?;
            let seq: i64 = row.get(1)?;
            // What is behind comes as it is by then.
            if seq <= before.up_to {
                changed.insert(seq);
            }
        }
        page.is_full = found == most;
    }
    let columns = row::COLUMNS;
    {
        let query = format!("SELECT {columns} FROM token_usage_logs WHERE seq = ?1");
        let mut query = conn.prepare_cached(&query)?;
        for seq in changed {
            let mut rows = query.query([seq])?;
            if let Some(row) = rows.next()? {
                page.take(row)?;
            }
        }
    }
    let query =
        format!("SELECT {columns} FROM token_usage_logs WHERE seq > ?1 ORDER BY seq LIMIT ?2");
    let mut query = conn.prepare_cached(&query)?;
    let mut rows = query.query([before.up_to, most])?;
    let mut found = 0;
    while let Some(row) = rows.next()? {
        found += 1;
        page.after.up_to = page.take(row)?;
    }
    page.is_full |= found == most;
    Ok(page)
}

// === impl Page, of what is read ===

impl Page {
    fn take(&mut self, row: &Row<'_>) -> Result<i64, rusqlite::Error> {
        let number = row.get("seq")?;
        match row::read(row) {
            Ok(mut record) => {
                record.number = u64::try_from(number).ok();
                self.records.push(record);
            }
            // It must not keep the others from being shipped.
            Err(error) => self.refused.push(Refused {
                number,
                reason: error.to_string(),
            }),
        }
        Ok(number)
    }
}
