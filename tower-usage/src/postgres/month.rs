//! The months that the table is partitioned by.

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use tokio_postgres::{Client, error::SqlState};

use super::schema::LOCK;
use crate::sqlite::row::millis;

/// A month of the calendar, in UTC: months since year zero.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Month(i64);

/// The months that need not be made any more, as far as one connection knows.
#[derive(Debug, Default)]
pub(super) struct Months {
    known: BTreeSet<Month>,
    now: Option<(Month, Instant)>,
}

/// No month before this one is made: what is said to be older has a wrong time.
const FIRST: Month = Month::of_year(2020);

/// How often the database is asked which month it is.
const ASK: Duration = Duration::from_secs(600);

const DAY: i64 = 86_400_000;

// === impl Month ===

impl Month {
    /// January.
    const fn of_year(year: i64) -> Self {
        Self(year * 12)
    }

    /// The month of a time.
    pub(super) fn of(time: SystemTime) -> Self {
        // Of the proleptic Gregorian calendar, in years that begin with March, in eras of 400 of them: Howard Hinnant,
        // "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
        let day = millis(time).div_euclid(DAY) + 719_468;
        let (era, day_of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        Self((era * 400 + year_of_era) * 12 + from_march + 2)
    }

    const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// When it begins, for Postgres.
    fn begin(self) -> String {
        format!("'{self}-01 00:00:00+00'")
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:04}-{:02}",
            self.0.div_euclid(12),
            self.0.rem_euclid(12) + 1
        )
    }
}

// === impl Months ===

impl Months {
    /// Makes the months of records that are not there, and those of now, but for those of wrong times.
    pub(super) async fn make(
        &mut self,
        client: &mut Client,
        mut wanted: BTreeSet<Month>,
    ) -> Result<(), tokio_postgres::Error> {
        let now = match self.now {
            Some((now, asked)) if asked.elapsed() < ASK => now,
            _ => {
                let now = ask_now(client).await?;
                self.now = Some((now, Instant::now()));
                now
            }
        };
        wanted.extend([now, now.next()]);
        for month in wanted {
            if month >= FIRST && month <= now.next() && !self.known.contains(&month) {
                self.make_one(client, month).await?;
            }
        }
        Ok(())
    }

    async fn make_one(
        &mut self,
        client: &mut Client,
        month: Month,
    ) -> Result<(), tokio_postgres::Error> {
        let Err(error) = make_one(client, month).await else {
            self.known.insert(month);
            return Ok(());
        };
        match error.code() {
            // Somebody reads or writes for longer than others could wait: the next time, then.
            Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(()),
            // It is there, or made otherwise by others.
            Some(&(SqlState::DUPLICATE_TABLE | SqlState::INVALID_OBJECT_DEFINITION)) => {
                self.known.insert(month);
                Ok(())
            }
            // Too many came early for it to be moved while others wait. They are found where they are; the next shipper that
            // starts tries again.
            Some(&SqlState::QUERY_CANCELED) => {
                tracing::warn!(
                    %month,
                    "usage records of a month stay in token_usage_logs_other, there are too many to be moved by the way"
                );
                self.known.insert(month);
                Ok(())
            }
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                tracing::warn!(
                    %error, %month,
                    "usage records of a month go to token_usage_logs_other, its partition may not be made"
                );
                self.known.insert(month);
                Ok(())
            }
            _ => Err(error),
        }
    }
}

/// How long records that came early may take to be moved, in milliseconds: others wait meanwhile.
const MOVE_MS: u32 = 2_000;

async fn ask_now(client: &Client) -> Result<Month, tokio_postgres::Error> {
    let row = client
        .query_typed_one(
            "SELECT (extract(year FROM utc) * 12 + extract(month FROM utc) - 1)::bigint
             FROM (SELECT now() AT TIME ZONE 'UTC' AS utc) AS now",
            &[],
        )
        .await?;
    row.try_get(0).map(Month)
}

/// Makes a month, unless there is a table of its name: if it is not attached, somebody wants it so.
pub(super) async fn make_one(
    client: &mut Client,
    month: Month,
) -> Result<(), tokio_postgres::Error> {
    let name = format!("token_usage_logs_{}", month.to_string().replace('-', "_"));
    let is_there = format!("SELECT to_regclass('{name}') IS NOT NULL");
    let row = client.query_typed_one(&is_there, &[]).await?;
    if row.try_get(0)? {
        return Ok(());
    }
    let transaction = client.transaction().await?;
    // Whoever waits to make it keeps others from reading, so it does not wait for long.
    transaction
        .batch_execute(&format!(
            "SET LOCAL lock_timeout TO '1s'; SET LOCAL statement_timeout TO '{MOVE_MS}'; SELECT pg_advisory_xact_lock({LOCK}, 1)"
        ))
        .await?;
    let row = transaction.query_typed_one(&is_there, &[]).await?;
    if row.try_get(0)? {
        return Ok(());
    }
    let (from, to) = (month.begin(), month.next().begin());
    // Made beside and attached, so that the other months can be read and written meanwhile. What came too early for it
    // is moved; nothing comes any more once the lock is held.
    transaction
        .batch_execute(&format!(
            "LOCK TABLE token_usage_logs_other IN ACCESS EXCLUSIVE MODE;
             CREATE TABLE {name} (LIKE token_usage_logs INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
             WITH early AS (
                 DELETE FROM token_usage_logs_other WHERE admitted_at >= {from} AND admitted_at < {to} RETURNING *
             ) INSERT INTO {name} SELECT * FROM early;
             ALTER TABLE token_usage_logs ATTACH PARTITION {name} FOR VALUES FROM ({from}) TO ({to})"
        ))
        .await?;
    transaction.commit().await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rusqlite::Connection;

    use super::*;
    use crate::sqlite::row::time;

    fn by_sqlite(conn: &Connection, millis: i64) -> String {
        let query = "SELECT strftime('%Y-%m', ?1, 'unixepoch')";
        conn.query_row(query, [millis.div_euclid(1_000)], |row| row.get(0))
            .unwrap()
    }

    proptest! {
        #[test]
        fn the_month_of_a_time_is_the_calendars(millis in -62_135_596_800_000_i64..253_402_300_800_000) {
            let conn = Connection::open_in_memory().unwrap();
            prop_assert_eq!(Month::of(time(millis)).to_string(), by_sqlite(&conn, millis));
        }
    }

    #[test]
    fn a_month_begins_at_midnight_of_its_first_day() {
        let conn = Connection::open_in_memory().unwrap();
        for day in -800_000..2_900_000 / 10 {
            let (before, at) = (day * DAY - 1, day * DAY);
            let turns = Month::of(time(before)) != Month::of(time(at));
            if turns {
                assert_eq!(Month::of(time(at)).to_string(), by_sqlite(&conn, at));
                assert_eq!(
                    Month::of(time(before)).to_string(),
                    by_sqlite(&conn, before)
                );
            }
        }
        for wild in [i64::MIN, i64::MAX] {
            let _ = Month::of(time(wild)).to_string();
        }
    }
}
