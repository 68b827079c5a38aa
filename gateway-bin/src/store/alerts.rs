use std::time::SystemTime;

use rusqlite::{OptionalExtension, Row, params};

use super::database::{Store, StoreError, millis, time};
use crate::clock;

/// That somebody has used a part of a limit.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Alert {
    /// Its id.
    pub id: String,
    /// Whose limit.
    pub subject: String,
    /// Which limit: `daily_tokens`, `monthly_cost` and so on.
    pub alert_type: String,
    /// The part, in percent.
    pub threshold: u8,
    /// When the limit's period began.
    pub window_start: SystemTime,
    /// What was used, in the unit of the limit.
    pub used: u64,
    /// What the limit allowed.
    pub amount: u64,
    /// What has become of it.
    pub state: AlertState,
    /// When it was noticed.
    pub triggered_at: SystemTime,
    /// Who has resolved it, and what they say.
    pub resolved: Option<(String, Option<String>)>,
}

/// What has become of an alert.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum AlertState {
    /// Nobody has looked at it.
    Triggered,
    /// Somebody has.
    Acknowledged,
    /// It is done with.
    Resolved,
}

/// Most alerts of one answer.
const PAGE: i64 = 200;

const COLUMNS: &str = "id, subject, alert_type, threshold, window_start, used, amount, state, triggered_at, \
    resolved_by, note";

// === impl Store ===

impl Store {
    /// Keeps an alert, unless there is one of this subject, type, threshold and period already; whether there was none.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn put_alert(&self, alert: Alert) -> Result<bool, StoreError> {
        self.run(move |connection| {
            let row = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
            let added = connection.execute(
                "INSERT INTO quota_alerts (id, subject, alert_type, threshold, window_start, used, amount, state,
                     triggered_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                 ON CONFLICT (subject, alert_type, threshold, window_start) DO NOTHING",
                params![
                    alert.id,
                    alert.subject,
                    alert.alert_type,
                    alert.threshold,
                    millis(alert.window_start),
                    row(alert.used),
                    row(alert.amount),
                    alert.state.as_str(),
                    millis(alert.triggered_at),
                ],
            )?;
            Ok(added > 0)
        })
        .await
    }

    /// Alerts, the latest first, 200 at most; of one subject or in one state, if that is said.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn alerts(
        &self,
        subject: Option<String>,
        state: Option<AlertState>,
    ) -> Result<Vec<Alert>, StoreError> {
        self.run(move |connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM quota_alerts
                 WHERE (?1 IS NULL OR subject = ?1) AND (?2 IS NULL OR state = ?2)
                 ORDER BY triggered_at DESC, rowid DESC LIMIT {PAGE}"
            ))?;
            let rows =
                statement.query_map(params![subject, state.map(AlertState::as_str)], alert)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// Takes an alert from one of these states to another, by somebody who says this. The alert as it is then, or `None`
    /// if there is none of this id; it stays as it was if it was in no such state.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn move_alert(
        &self,
        id: String,
        to: AlertState,
        by: String,
        note: Option<String>,
    ) -> Result<Option<Alert>, StoreError> {
        self.run(move |connection| {
            let now = millis(clock::now());
            match to {
                AlertState::Triggered => 0,
                AlertState::Acknowledged => connection.execute(
                    "UPDATE quota_alerts SET state = 'acknowledged', acknowledged_at = ?2
                     WHERE id = ?1 AND state = 'triggered'",
                    params![id, now],
                )?,
                AlertState::Resolved => connection.execute(
                    "UPDATE quota_alerts SET state = 'resolved', resolved_at = ?2, resolved_by = ?3, note = ?4
                     WHERE id = ?1 AND state <> 'resolved'",
                    params![id, now, by, note],
                )?,
            };
            let found = connection.query_row(
                &format!("SELECT {COLUMNS} FROM quota_alerts WHERE id = ?1"),
                [&id],
                alert,
            );
            Ok(found.optional()?)
        })
        .await
    }
}

fn alert(row: &Row<'_>) -> rusqlite::Result<Alert> {
    let amount =
        |index| Ok::<_, rusqlite::Error>(u64::try_from(row.get::<_, i64>(index)?).unwrap_or(0));
    let state: String = row.get(7)?;
    let resolved_by: Option<String> = row.get(9)?;
    let note = row.get(10)?;
    Ok(Alert {
        id: row.get(0)?,
        subject: row.get(1)?,
        alert_type: row.get(2)?,
        threshold: row.get(3)?,
        window_start: time(row.get(4)?),
        used: amount(5)?,
        amount: amount(6)?,
        state: AlertState::parse(&state).unwrap_or(AlertState::Triggered),
        triggered_at: time(row.get(8)?),
        resolved: resolved_by.map(|by| (by, note)),
    })
}

// === impl AlertState ===

impl AlertState {
    /// The word in the table and in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Triggered => "triggered",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
        }
    }

    /// The state of this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Triggered, Self::Acknowledged, Self::Resolved]
            .into_iter()
            .find(|state| state.as_str() == word)
    }
}
