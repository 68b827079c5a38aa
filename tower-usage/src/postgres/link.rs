use std::{collections::BTreeSet, time::Duration};

use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::{
    batch::Batches,
    connection::{Connection, Manager},
    month::{Month, Months},
    schema,
};
use crate::{
    UsageRecord,
    sqlite::{
        LedgerError,
        outbox::{Page, Refused, Shipped},
    },
};

/// A connection that ships what is of one ledger.
pub(super) struct Link {
    connection: Connection,
    ledger: Uuid,
    batches: Batches,
    months: Months,
}

const FIND_MARK: &str = "SELECT up_to, changes FROM token_usage_ledgers WHERE ledger = $1";

// === impl Link ===

impl Link {
    /// Connects, with everything made that is needed. Whatever takes longer than `within` ends.
    pub(super) async fn open(
        manager: &Manager,
        ledger: Uuid,
        within: Duration,
    ) -> Result<Self, LedgerError> {
        let mut connection = manager
            .open(within)
            .await
            .map_err(LedgerError::unavailable)?;
        // It is never given back. A server that hangs does not keep it.
        connection.give_up();
        timeout(within, schema::migrate(&mut connection.client))
            .await
            .map_err(LedgerError::unavailable)??;
        Ok(Self {
            connection,
            ledger,
            batches: Batches::new(),
            months: Months::default(),
        })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.connection.client.is_closed()
    }

    /// How far the database has what is of the ledger, given how far that was shipped: less, if the database has lost
    /// something or is another one.
    pub(super) async fn has(&self, shipped: Shipped) -> Result<Shipped, LedgerError> {
        let values = [(&self.ledger as &(dyn ToSql + Sync), Type::UUID)];
        let client = &self.connection.client;
        let has = client
            .query_typed_opt(FIND_MARK, &values)
            .await
            .and_then(|row| {
                let Some(row) = row else {
                    return Ok(Shipped::default());
                };
                Ok(Shipped {
                    up_to: row.try_get("up_to")?,
                    changes: row.try_get("changes")?,
                })
            })
            .map_err(LedgerError::postgres)?;
        Ok(Shipped {
            up_to: match has.changes < shipped.changes {
                // Nobody knows any more which records these changes were of.
                true => 0,
                false => has.up_to.min(shipped.up_to),
            },
            changes: shipped.changes,
        })
    }

    /// Ships a page as a whole, but for the records that the database says it will never take, and gives these.
    pub(super) async fn ship(&mut self, page: &Page) -> Result<Vec<Refused>, LedgerError> {
        let client = &mut self.connection.client;
        let months: BTreeSet<_> = page
            .records
            .iter()
            .map(|record| Month::of(record.admitted_at))
            .collect();
        self.months
            .make(client, months)
            .await
            .map_err(LedgerError::postgres)?;
        let mut refused = Vec::new();
        // Halves of what was refused, the first on top.
        let mut parts: Vec<&[UsageRecord]> = vec![&page.records];
        let mut is_whole = true;
        while let Some(part) = parts.pop() {
            let mark = is_whole.then_some(page.after);
            let shipped = self.batches.ship(client, self.ledger, part, mark).await;
            match shipped {
                Ok(()) if is_whole => return Ok(refused),
                Ok(()) => {}
                Err(error) if is_of_records(&error) => {
                    is_whole = false;
                    match part {
                        [] => return Err(LedgerError::postgres(error)),
                        [record] => refused.push(refuse(record, &error)),
                        _ => {
                            let (first, second) = part.split_at(part.len() / 2);
                            parts.extend([second, first]);
                        }
                    }
                }
                Err(error) => return Err(LedgerError::postgres(error)),
            }
        }
        self.batches
            .ship(client, self.ledger, &[], Some(page.after))
            .await
            .map_err(LedgerError::postgres)?;
        Ok(refused)
    }
}

/// Whether it is what is in a record that is refused: data that cannot be, or that is beyond a limit of the server's
/// (PostgreSQL documentation, "PostgreSQL Error Codes", classes 22 and 54).
fn is_of_records(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        let code = code.code();
        code.starts_with("22") || code.starts_with("54")
    })
}

fn refuse(record: &UsageRecord, error: &tokio_postgres::Error) -> Refused {
    // Not the detail, which may show what is in the record.
    let reason = error.as_db_error().map_or_else(
        || error.to_string(),
        |error| format!("{}: {}", error.code().code(), error.message()),
    );
    let number = record.number.and_then(|number| i64::try_from(number).ok());
    tracing::error!(reason, id = %record.id, "usage record cannot be shipped, and stays in its file");
    Refused {
        number: number.unwrap_or_default(),
        reason,
    }
}
