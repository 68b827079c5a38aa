//! What is to be changed of a configuration so that a part of it is as it must be.

use serde_json::{Map, Value};

/// A merge patch (RFC 7396) for `config.patch`, and the lists that it shortens: OpenClaw removes what is in a list only where
/// the list is named.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// The patch; `None`: all is as it must be.
    pub(super) patch: Option<Value>,
    /// The paths of lists that are replaced or removed.
    pub(super) lists: Vec<String>,
}

// === impl Difference ===

impl Difference {
    /// What makes `actual`, which stands at `path`, into `wanted`, of which a member that is null is not to be there.
    pub(super) fn new(path: &str, actual: Option<&Value>, wanted: &Value) -> Self {
        let mut lists = Vec::new();
        let patch = patch(path, actual, wanted, &mut lists);
        Self { patch, lists }
    }
}

fn patch(
    path: &str,
    actual: Option<&Value>,
    wanted: &Value,
    lists: &mut Vec<String>,
) -> Option<Value> {
    let actual = actual.filter(|actual| !actual.is_null());
    match (actual, wanted) {
        (None, Value::Null) => None,
        (Some(Value::Object(actual)), Value::Object(wanted)) => {
            let mut changes = Map::new();
            for (name, actual) in actual {
                let below = format!("{path}.{name}");
                let wanted = wanted.get(name).unwrap_or(&Value::Null);
                let change = patch(&below, Some(actual), wanted, lists);
                changes.extend(change.map(|change| (name.clone(), change)));
            }
            let new = wanted
                .iter()
                .filter(|(name, wanted)| !actual.contains_key(*name) && !wanted.is_null());
            changes.extend(new.map(|(name, wanted)| (name.clone(), wanted.clone())));
            (!changes.is_empty()).then_some(Value::Object(changes))
        }
        (Some(actual), wanted) if actual == wanted => None,
        (actual, wanted) => {
            if let Some(actual) = actual {
                name_lists(path, actual, lists);
            }
            Some(wanted.clone())
        }
    }
}

fn name_lists(path: &str, value: &Value, lists: &mut Vec<String>) {
    match value {
        Value::Array(_) => lists.push(path.to_owned()),
        Value::Object(members) => {
            for (name, value) in members {
                name_lists(&format!("{path}.{name}"), value, lists);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn difference(actual: &Value, wanted: &Value) -> (Value, Vec<String>) {
        let Difference { patch, lists } = Difference::new("x", Some(actual), wanted);
        (patch.unwrap_or_default(), lists)
    }

    #[test]
    fn what_is_as_it_must_be_is_not_touched() {
        let value = json!({"a": [1, 2], "b": {"c": true}});
        assert_eq!(difference(&value, &value), (Value::Null, vec![]));
        let with_null = json!({"a": [1, 2], "b": {"c": true}, "d": null});
        assert_eq!(difference(&value, &with_null), (Value::Null, vec![]));
        assert!(Difference::new("x", None, &Value::Null).patch.is_none());
    }

    #[test]
    fn what_was_changed_added_or_removed_is_put_right_and_lists_are_named() {
        let wanted =
            json!({"name": "n", "tools": {"allow": ["read"], "fs": {"only": true}}, "model": null});
        let actual = json!({
            "tools": {"allow": ["read", "exec"], "fs": {"only": false, "more": 1}},
            "model": {"fallbacks": ["m"]}, "skills": {"a": {"b": ["c"]}}, "name": "n",
        });
        let (patch, mut lists) = difference(&actual, &wanted);
        lists.sort();
        assert_eq!(
            patch,
            json!({"tools": {"allow": ["read"], "fs": {"only": true, "more": null}}, "model": null, "skills": null})
        );
        assert_eq!(
            lists,
            ["x.model.fallbacks", "x.skills.a.b", "x.tools.allow"]
        );
        assert_eq!(
            difference(&json!({"tools": "all", "name": "n"}), &wanted),
            (json!({"tools": wanted["tools"]}), vec![])
        );
        let new = Difference::new("x", None, &wanted);
        assert_eq!((new.patch, new.lists), (Some(wanted), vec![]));
    }
}
