//! One question and its answer.

use std::time::Duration;

use bb8::PooledConnection;
use thiserror::Error;
use tokio::{
    sync::oneshot,
    time::{Instant, error::Elapsed, timeout_at},
};
use tokio_postgres::{
    error::SqlState,
    types::{ToSql, Type},
};

use super::{
    answer::Answer,
    connection::{Connection, Manager, is_lost},
};

/// What the server can be asked: one statement, which takes an object as JSON and answers with another.
#[derive(Clone, Copy)]
pub(super) struct Operation {
    pub(super) statement: &'static str,
    /// Whether it comes to the same if it is run twice.
    pub(super) is_repeatable: bool,
    /// What is said in the same words instead of the answer, if nobody waits for it any more.
    pub(super) undo: Option<&'static str>,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub(super) enum AskError {
    #[error("too many wait for an answer already")]
    Crowd,
    #[error("there was no turn in time")]
    Late(#[source] Elapsed),
    #[error("there is no answer in time")]
    Silent(#[source] Elapsed),
    #[error("the connection was lost")]
    Lost(#[source] tokio_postgres::Error),
    /// The server ended the transaction for the sake of another: a deadlock, or an order that none could have had.
    #[error("others were in the way")]
    GaveWay(#[source] tokio_postgres::Error),
    #[error("the server refuses to answer")]
    Refused(#[source] tokio_postgres::Error),
    #[error("the answer is not one of this version's")]
    Garbled,
}

/// How much longer a connection is kept for an answer that nobody waits for, and again to undo what it says.
const REGRET: Duration = Duration::from_millis(250);

/// One statement in one round trip, without a name of its own at the server, so that poolers between can be used.
pub(super) async fn exchange(
    mut connection: PooledConnection<'static, Manager>,
    operation: Operation,
    question: String,
    deadline: Instant,
) -> Result<Answer, AskError> {
    let (heard, answer) = oneshot::channel();
    // Not in the way of whoever has the connection next if this future is dropped.
    tokio::spawn(async move {
        let is_sound = converse(&connection, operation, &question, deadline, heard).await;
        if !is_sound {
            connection.give_up();
        }
    });
    answer.await.unwrap_or(Err(AskError::Garbled))
}

/// Whether the connection can be used again.
async fn converse(
    connection: &Connection,
    operation: Operation,
    question: &str,
    deadline: Instant,
    heard: oneshot::Sender<Result<Answer, AskError>>,
) -> bool {
    let mut asked = std::pin::pin!(say(connection, operation.statement, question));
    let unheard = match timeout_at(deadline, &mut asked).await {
        Ok(answer) => {
            let is_lost = matches!(answer, Err(AskError::Lost(_)));
            match heard.send(answer) {
                Ok(()) => return !is_lost,
                Err(answer) => answer,
            }
        }
        Err(elapsed) => {
            // Whether anybody waits for it or not.
            let _ = heard.send(Err(AskError::Silent(elapsed)));
            match timeout_at(deadline + REGRET, asked).await {
                Ok(answer) => answer,
                Err(_) => return false,
            }
        }
    };
    match unheard {
        Err(AskError::Lost(_)) => false,
        Ok(answer) if answer.held().is_some() => {
            let Some(undo) = operation.undo else {
                return true;
            };
            let undone = say(connection, undo, question);
            let undone = timeout_at(Instant::now() + REGRET, undone).await;
            !matches!(undone, Err(_) | Ok(Err(AskError::Lost(_))))
        }
        _ => true,
    }
}

async fn say(
    connection: &Connection,
    statement: &'static str,
    question: &str,
) -> Result<Answer, AskError> {
    let values: [(&(dyn ToSql + Sync), Type); 1] = [(&question, Type::TEXT)];
    let row = connection.client.query_typed_one(statement, &values).await;
    let row = row.map_err(AskError::from)?;
    let text: &str = row.try_get(0)?;
    serde_json::from_str(text).map_err(|_| AskError::Garbled)
}

// === impl AskError ===

impl From<tokio_postgres::Error> for AskError {
    fn from(error: tokio_postgres::Error) -> Self {
        let code = error.code();
        // A server that has become a standby: the name may stand for another one by now.
        if is_lost(&error) || code == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) {
            Self::Lost(error)
        } else if code == Some(&SqlState::T_R_DEADLOCK_DETECTED)
            || code == Some(&SqlState::T_R_SERIALIZATION_FAILURE)
        {
            Self::GaveWay(error)
        } else {
            Self::Refused(error)
        }
    }
}
