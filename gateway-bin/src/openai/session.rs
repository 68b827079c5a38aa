use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;
use tokio_websockets::Message;
use tracing::warn;

use crate::instance::{DialError, Dialer, Person};

/// How long the instance may take to answer, once it is connected.
const ANSWER: Duration = Duration::from_secs(10);

/// Our one request.
const ID: &str = "session";

#[derive(Deserialize)]
struct Answer {
    id: Option<String>,
    ok: Option<bool>,
}

/// Makes a conversation that is the person's own; one that is there is left as it is.
///
/// A session that OpenClaw makes by itself for a request over HTTP is nobody's: where roles hide others' sessions, whoever
/// began it may not go on with it (2026.9.6: "authorizeResolvedSessionMutation" finds no creator). One that was made in
/// their name on a socket is theirs, over HTTP too.
///
/// # Errors
///
/// See [`DialError`].
pub(super) async fn make(
    dialer: &Dialer,
    person: &Person<'_>,
    agent: &str,
    key: &str,
) -> Result<(), DialError> {
    let (mut socket, _) = dialer.connect(person).await?;
    let request = json!({
        "type": "req", "id": ID, "method": "sessions.create", "params": { "agentId": agent, "key": key },
    });
    let unreachable =
        |error: tokio_websockets::Error| DialError::Unreachable(Some(Box::new(error)));
    let made = timeout(ANSWER, async {
        socket
            .send(Message::text(request.to_string()))
            .await
            .map_err(unreachable)?;
        while let Some(message) = socket.next().await {
            let message = message.map_err(unreachable)?;
            let text = message.as_text().unwrap_or_default();
            match serde_json::from_str(text) {
                Ok(Answer { id: Some(id), ok }) if id == ID => {
                    if ok != Some(true) {
                        warn!(
                            answer = text.get(..300).unwrap_or(text),
                            "session was not made"
                        );
                    }
                    return Ok(ok == Some(true));
                }
                _ => {}
            }
        }
        Err(DialError::Unreachable(None))
    });
    let made = made.await.unwrap_or(Err(DialError::Unreachable(None)));
    let _ = socket.close().await;
    match made {
        Ok(true) => Ok(()),
        Ok(false) => Err(DialError::Refused("sessions.create".to_owned())),
        Err(error) => Err(error),
    }
}
