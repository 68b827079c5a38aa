use std::time::SystemTime;

use serde_json::{Value, json};

use super::database::Store;
use super::row::Row;
use super::statement::Statement;
use super::{Note, StoreError};

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
    /// How often somebody has begun to deliver it.
    pub attempts: u32,
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

/// What [`alert`] reads.
macro_rules! columns {
    () => {
        "id, subject, alert_type, threshold, window_start, used, amount, state, triggered_at, resolved_by, note, \
         delivery_attempts"
    };
}
pub(super) use columns;

// === impl Store ===

impl Store {
    /// Keeps an alert, unless there is one of this subject, type, threshold and period already; whether there was none.
    /// One that is to be delivered is due at once.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn put_alert(&self, alert: Alert, deliver: bool) -> Result<bool, StoreError> {
        let put = Statement::new(
            "INSERT INTO quota_alerts (id, subject, alert_type, threshold, window_start, used, amount, state,
                 triggered_at, deliver_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, CASE WHEN $10 THEN now_ms() END)
             ON CONFLICT (subject, alert_type, threshold, window_start) DO NOTHING RETURNING 1",
        );
        let put = put
            .with(alert.id)
            .with(alert.subject)
            .with(alert.alert_type)
            .with(u32::from(alert.threshold))
            .with(alert.window_start)
            .with(alert.used)
            .with(alert.amount)
            .with(alert.state.as_str())
            .with(alert.triggered_at)
            .with(deliver);
        self.does(put).await
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
        let list = Statement::new(concat!(
            "SELECT ",
            columns!(),
            " FROM quota_alerts WHERE ($1 IS NULL OR subject = $1) AND ($2 IS NULL OR state = $2)
             ORDER BY triggered_at DESC, rowid DESC LIMIT 200"
        ));
        let list = list.with(subject).with(state.map(AlertState::as_str));
        self.query(list, alert).await
    }

    /// An alert.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn find_alert(&self, id: &str) -> Result<Option<Alert>, StoreError> {
        let find = Statement::new(concat!(
            "SELECT ",
            columns!(),
            " FROM quota_alerts WHERE id = $1"
        ));
        self.query_one(find.with(id), alert).await
    }

    /// Takes an alert from one of these states to another, by somebody who says this, which is an administrative act;
    /// `false`, and nothing is noted: there is none of this id, or it was in no such state.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn move_alert(
        &self,
        id: &str,
        to: AlertState,
        by: String,
        said: Option<String>,
        note: Note,
    ) -> Result<bool, StoreError> {
        let moved = match to {
            AlertState::Triggered => return Ok(false),
            AlertState::Acknowledged => Statement::new(
                "UPDATE quota_alerts SET state = 'acknowledged', acknowledged_at = now_ms()
                 WHERE id = $1 AND state = 'triggered' RETURNING 1",
            )
            .with(id),
            AlertState::Resolved => Statement::new(
                "UPDATE quota_alerts SET state = 'resolved', resolved_at = now_ms(), resolved_by = $2, note = $3
                 WHERE id = $1 AND state <> 'resolved' RETURNING 1",
            )
            .with(id)
            .with(by)
            .with(said),
        };
        let look = Statement::new("SELECT state, note FROM quota_alerts WHERE id = $1").with(id);
        let read = |row: &Row<'_>| -> Result<Value, StoreError> {
            let (state, said): (String, Option<String>) = (row.get(0)?, row.get(1)?);
            Ok(json!({ "state": state, "note": said }))
        };
        self.change(id, moved, Some((look, read)), note).await
    }
}

pub(super) fn alert(row: &Row<'_>) -> Result<Alert, StoreError> {
    let state: String = row.get(7)?;
    let resolved_by: Option<String> = row.get(9)?;
    let note = row.get(10)?;
    Ok(Alert {
        id: row.get(0)?,
        subject: row.get(1)?,
        alert_type: row.get(2)?,
        threshold: row.small(3)?,
        window_start: row.time(4)?,
        used: row.amount(5)?,
        amount: row.amount(6)?,
        state: AlertState::parse(&state).unwrap_or(AlertState::Triggered),
        triggered_at: row.time(8)?,
        resolved: resolved_by.map(|by| (by, note)),
        attempts: row.small(11)?,
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
