//! What is read again from the instance, since nobody may have heard it. Times are in milliseconds since 1970, by the
//! instance's clock.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::message::Message;
use crate::instance::{Admin, AdminError};

/// Sessions of one list.
const SESSIONS: u64 = 200;

/// Messages of one answer; the most that OpenClaw takes for `limit`.
const MESSAGES: u64 = 1_000;

/// A bound on what is read of one session.
const PAGES: usize = 50;

/// What the instance's clock says, if it says it.
///
/// # Errors
///
/// See [`AdminError`].
pub(super) async fn clock(admin: &Admin) -> Result<Option<u64>, AdminError> {
    let list = admin.call("sessions.list", json!({"limit": 1})).await?;
    Ok(list.get("ts").and_then(Value::as_u64))
}

/// The sessions that have changed since then.
///
/// # Errors
///
/// See [`AdminError`].
pub(super) async fn sessions(admin: &Admin, from: u64) -> Result<BTreeSet<Arc<str>>, AdminError> {
    let mut all = BTreeSet::new();
    for (archived, pinned) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut offset = 0;
        loop {
            let params = json!({
                "limit": SESSIONS, "offset": offset, "archived": archived, "pinned": pinned, "includeGlobal": true,
                "includeUnknown": true, "configuredAgentsOnly": false,
            });
            let list = admin.call("sessions.list", params).await?;
            let (changed, has_more) = changed(&list, from);
            all.extend(changed);
            let next = list.get("nextOffset").and_then(Value::as_u64);
            // Those that are pinned are in the order in which they were.
            match next.filter(|_| has_more || pinned) {
                Some(next) if next > offset => offset = next,
                _ => break,
            }
        }
    }
    Ok(all)
}

/// The sessions of a list that have changed since, and whether there may be more behind them: the latest come first.
fn changed(list: &Value, from: u64) -> (Vec<Arc<str>>, bool) {
    let sessions = list.get("sessions").and_then(Value::as_array);
    let sessions = sessions.map_or(&[][..], Vec::as_slice);
    let is_new = |session: &&Value| {
        let at = session.get("updatedAt").and_then(Value::as_f64);
        // One without a time is looked at.
        at.is_none_or(|at| at >= from as f64)
    };
    let changed: Vec<Arc<str>> = sessions
        .iter()
        .filter(is_new)
        .filter_map(|session| session.get("key")?.as_str().map(Arc::from))
        .collect();
    let has_more = sessions.last().is_some_and(|last| is_new(&last));
    (changed, has_more)
}

/// The answers in a session that were written since then; none in one that is not there any more.
///
/// # Errors
///
/// See [`AdminError`].
pub(super) async fn history(
    admin: &Admin,
    session_key: &Arc<str>,
    from: u64,
) -> Result<Vec<Message>, AdminError> {
    let mut all = Vec::new();
    let mut offset = 0;
    for _ in 0..PAGES {
        // What people wrote is nobody's business here.
        let params = json!({
            "sessionKey": &**session_key, "limit": MESSAGES, "offset": offset, "maxChars": 1,
        });
        let Some(page) = found(admin.call("chat.history", params).await)? else {
            break;
        };
        let messages = page.get("messages").and_then(Value::as_array);
        let messages = messages.map_or(&[][..], Vec::as_slice);
        let answers = messages
            .iter()
            .filter_map(|message| Message::of_history(session_key, message));
        all.extend(answers.filter(|answer| answer.written_ms >= from));
        let next = page.get("nextOffset").and_then(Value::as_u64);
        let oldest = messages.iter().find_map(written);
        match next {
            Some(next) if next > offset && oldest.is_none_or(|oldest| oldest >= from as f64) => {
                offset = next;
            }
            _ => break,
        }
    }
    Ok(all)
}

/// What is said of a session; `None` of one that was deleted in between, or has a key of its own kind.
///
/// One that is only busy is to be asked again, as the instance says by when.
fn found(answer: Result<Value, AdminError>) -> Result<Option<Value>, AdminError> {
    match answer {
        Err(
            AdminError::Refused {
                retry_after: None, ..
            }
            | AdminError::Invalid { .. },
        ) => Ok(None),
        answer => answer.map(Some),
    }
}

fn written(message: &Value) -> Option<f64> {
    message.pointer("/__openclaw/recordTimestampMs")?.as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_changed_is_looked_at() {
        let list = json!({"sessions": [
            {"key": "a", "updatedAt": 20}, {"key": "b"}, {"key": "c", "updatedAt": 10.5}, {"key": "d", "updatedAt": 9.9},
        ]});
        let (keys, has_more) = changed(&list, 10);
        assert_eq!(keys, ["a".into(), "b".into(), "c".into()]);
        assert!(!has_more);
        assert!(changed(&list, 5).1);
        assert_eq!(changed(&json!({}), 0), (Vec::new(), false));
    }
}
