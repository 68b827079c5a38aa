//! In which sessions an instance has written since a time. Times are in milliseconds since 1970, by the instance's clock.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::instance::{Admin, AdminError};

/// Sessions of one list.
const SESSIONS: u64 = 200;

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
