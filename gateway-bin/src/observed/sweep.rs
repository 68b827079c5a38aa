//! What is read again from the instance, since nobody may have heard it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::message::Message;
use crate::instance::{Admin, AdminError};

/// Sessions of one list.
const SESSIONS: u64 = 200;

/// Messages of one answer; the most that OpenClaw takes for `limit`.
const MESSAGES: u64 = 1_000;

/// Bounds on what is read of one list, and of one session.
const PAGES: usize = 50;

/// The sessions that have changed since then.
///
/// # Errors
///
/// See [`AdminError`].
pub(super) async fn sessions(admin: &Admin, from: SystemTime) -> Result<Vec<Arc<str>>, AdminError> {
    let (from, mut all) = (millis(from), Vec::new());
    for archived in [false, true] {
        let mut offset = 0;
        for _ in 0..PAGES {
            let params = json!({
                "limit": SESSIONS, "offset": offset, "archived": archived, "includeGlobal": true,
                "includeUnknown": true, "configuredAgentsOnly": false,
            });
            let list = admin.call("sessions.list", params).await?;
            let (changed, has_more) = changed(&list, from);
            all.extend(changed);
            let next = list.get("nextOffset").and_then(Value::as_u64);
            match next.filter(|_| has_more) {
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
    from: SystemTime,
) -> Result<Vec<Message>, AdminError> {
    let (from, mut all) = (millis(from), Vec::new());
    let mut offset = 0;
    for _ in 0..PAGES {
        // What people wrote is nobody's business here.
        let params = json!({
            "sessionKey": &**session_key, "limit": MESSAGES, "offset": offset, "maxChars": 1,
        });
        let page = match admin.call("chat.history", params).await {
            // One that was deleted in between, or has a key of its own kind. One that is only busy is to be asked again, as
            // the instance says by when: all of the sweep is, then.
            Err(
                AdminError::Refused {
                    retry_after: None, ..
                }
                | AdminError::Invalid { .. },
            ) => break,
            page => page?,
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

fn millis(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
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
