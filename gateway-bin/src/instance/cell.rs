//! The agent of a cell: the instance's own, working in its person's directory and by models behind our egress. What else
//! it is and may do is as the cell's own configuration says.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Map, Value, json};

use super::admin::{Admin, AdminError};
use super::agent_spec::AgentSpec;

/// The agent that every instance has.
pub const CELL_AGENT: &str = "main";

/// Tools by which an agent administers its instance. OpenClaw keeps them from the agent of who is no administrator
/// (2026.9.6: `GATEWAY_OWNER_ONLY_CORE_TOOLS`), and takes everybody for one who asks over HTTP by its password.
const ADMINISTRATORS: [&str; 14] = [
    "automations",
    "computer",
    "conversations_list",
    "conversations_send",
    "conversations_turn",
    "gateway",
    "mobile_ui",
    "nodes",
    "openclaw",
    "plugins",
    "portal",
    "screen",
    "sessions",
    "terminal",
];

/// Where the agent stands in an instance's configuration.
const ENTRY: &str = "/config/agents/entries/main";

/// Conversations that are listed at a time.
const PAGE: usize = 200;

/// The parameters of a patch that makes the agent as `spec` says, with that key or with the one that it has, where the
/// instance is configured as `current`.
pub(super) fn patch_for(current: &Value, spec: &AgentSpec, virtual_key: Option<&str>) -> Value {
    let (entry, mut providers) = spec.patch(virtual_key.unwrap_or_default());
    if virtual_key.is_none() {
        for provider in providers.values_mut().filter_map(Value::as_object_mut) {
            provider.remove("apiKey");
        }
    }
    let there = current.pointer("/config/models/providers");
    let there = there.and_then(Value::as_object);
    let ours = there.into_iter().flat_map(Map::keys);
    let ours: Vec<&String> = ours.filter(|name| is_ours(name)).collect();
    // OpenClaw refuses to take something from a list that is not named.
    let mut lists: Vec<String> = ours
        .iter()
        .map(|name| format!("models.providers.{name}.models"))
        .collect();
    lists.push(format!("agents.entries.{CELL_AGENT}.modelPolicy.allow"));
    for name in ours {
        providers.entry(name.as_str()).or_insert(Value::Null);
    }
    let patch = json!({
        "agents": { "entries": { CELL_AGENT: entry_for(current, entry) } },
        "models": { "providers": providers },
    });
    json!({
        "raw": patch.to_string(),
        "baseHash": current.get("hash").and_then(Value::as_str).unwrap_or_default(),
        "replacePaths": lists,
    })
}

/// What is to be in the agent's entry, beside what there is.
fn entry_for(current: &Value, mut entry: Value) -> Value {
    let there = current.pointer(ENTRY).unwrap_or(&Value::Null);
    let Some(wanted) = entry.as_object_mut() else {
        return entry;
    };
    let model = there.pointer("/model/primary").and_then(Value::as_str);
    if !wanted.contains_key("model") && model.is_some_and(is_ours) {
        // One that is behind our egress is there no more; any other is the instance's own.
        wanted.insert("model".to_owned(), Value::Null);
        wanted.insert("modelPolicy".to_owned(), Value::Null);
    }
    let denied = there.pointer("/tools/deny").and_then(Value::as_array);
    let denied = denied.into_iter().flatten().filter_map(Value::as_str);
    let denied: BTreeSet<&str> = denied.chain(ADMINISTRATORS).collect();
    wanted.insert("tools".to_owned(), json!({ "deny": denied }));
    entry
}

/// Deletes the conversations of a cell, but for the main one, which begins anew, and takes back what we gave its agent for
/// the person whose directory is called `user`.
///
/// # Errors
///
/// See [`AdminError`]; calling it again goes on from there.
pub(super) async fn end(admin: &Admin, user: &str) -> Result<(), AdminError> {
    delete_conversations(admin).await?;
    let current = admin.call("config.get", json!({})).await?;
    let providers = current
        .pointer("/config/models/providers")
        .and_then(Value::as_object);
    let ours = providers.into_iter().flat_map(Map::keys);
    let ours: Vec<&String> = ours.filter(|name| is_ours(name)).collect();
    let workspace = current.pointer(&format!("{ENTRY}/workspace"));
    let workspace = workspace.and_then(Value::as_str).unwrap_or_default();
    // An agent that works on would make the directory anew; one that its operator has given it is left alone.
    let is_theirs = workspace.ends_with(&format!("/{user}/workspace"));
    let mut entry = Map::new();
    if is_theirs {
        entry.insert("workspace".to_owned(), Value::Null);
    }
    if !ours.is_empty() {
        entry.insert("model".to_owned(), Value::Null);
        entry.insert("modelPolicy".to_owned(), Value::Null);
    }
    if entry.is_empty() {
        return Ok(());
    }
    // Lists are removed only where it is said that they are.
    let mut lists: Vec<String> = ours
        .iter()
        .map(|name| format!("models.providers.{name}.models"))
        .collect();
    if !ours.is_empty() {
        lists.push(format!("agents.entries.{CELL_AGENT}.modelPolicy.allow"));
    }
    let removed = ours.into_iter().map(|name| (name.clone(), Value::Null));
    let patch = json!({
        "agents": { "entries": { CELL_AGENT: entry } },
        "models": { "providers": removed.collect::<Map<_, _>>() },
    });
    let params = json!({
        "raw": patch.to_string(),
        "baseHash": current.get("hash").and_then(Value::as_str).unwrap_or_default(),
        "replacePaths": lists,
    });
    admin.call("config.patch", params).await.map(drop)
}

async fn delete_conversations(admin: &Admin) -> Result<(), AdminError> {
    let main = format!("agent:{CELL_AGENT}:main");
    let mut done = HashSet::new();
    loop {
        let params = json!({ "limit": PAGE, "archived": "all" });
        let list = admin.call("sessions.list", params).await?;
        let sessions = list.get("sessions").and_then(Value::as_array);
        let keys = sessions.into_iter().flatten();
        let keys = keys.filter_map(|session| session.get("key")?.as_str());
        let keys: Vec<&str> = keys.filter(|key| !done.contains(*key)).collect();
        if keys.is_empty() {
            return Ok(());
        }
        for key in &keys {
            // The main one is always there: it begins anew.
            let (method, params) = match **key == *main {
                true => ("sessions.reset", json!({ "key": key })),
                false => (
                    "sessions.delete",
                    json!({ "key": key, "deleteTranscript": true }),
                ),
            };
            admin.call(method, params).await?;
        }
        done.extend(keys.into_iter().map(str::to_owned));
    }
}

/// Whether a provider, or a model by its reference, is one that we gave the agent.
fn is_ours(name: &str) -> bool {
    let of_agent = name.strip_prefix(CELL_AGENT);
    of_agent.is_some_and(|rest| rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::config::Provider;
    use crate::instance::Offer;

    #[test]
    fn the_agent_keeps_what_the_instance_denies_it_and_no_more_than_a_model_of_its_own() {
        let current = json!({"config": {"agents": {"entries": {"main": {
            "model": {"primary": "main-openai/m"}, "tools": {"deny": ["exec", "gateway"]},
        }}}}});
        let given = json!({"workspace": "/w", "model": {"primary": "main-x/m"}});
        let main = entry_for(&current, given);
        assert_eq!(main["model"]["primary"], "main-x/m");
        let denied = main["tools"]["deny"].as_array().unwrap();
        assert_eq!(denied.len(), ADMINISTRATORS.len() + 1);
        assert!(denied.contains(&json!("exec")) && denied.contains(&json!("openclaw")));

        let main = entry_for(&current, json!({"workspace": "/w"}));
        assert_eq!(
            main.get("model"),
            Some(&Value::Null),
            "it was behind our egress"
        );
        let own = json!({"config": {"agents": {"entries": {"main": {"model": {"primary": "openai/m"}}}}}});
        let main = entry_for(&own, json!({"workspace": "/w"}));
        assert_eq!(main.get("model"), None, "the instance's own stays");
    }

    #[test]
    fn what_is_ours_and_not_wanted_is_removed_and_a_key_that_is_not_given_stays() {
        let provider = json!({"name": "openai", "kind": "openai", "base_url": "https://x/v1", "models": [{"id": "m"}]});
        let provider: Provider = serde_json::from_value(provider).unwrap();
        let offer = Offer::new(&[provider], "http://egress");
        let spec =
            AgentSpec::new(CELL_AGENT.into(), "alice".into(), "/w".to_owned(), &offer).in_cell();
        let current = json!({"hash": "h", "config": {"models": {"providers": {
            "main-openai": {"models": [{"id": "old"}]}, "main-gone": {"models": []}, "own": {},
        }}}});
        let patch = |virtual_key| {
            let params = patch_for(&current, &spec, virtual_key);
            assert_eq!(params["baseHash"], "h");
            let lists = params["replacePaths"].to_string();
            assert!(
                lists.contains("models.providers.main-openai.models"),
                "{lists}"
            );
            assert!(
                lists.contains("models.providers.main-gone.models"),
                "{lists}"
            );
            serde_json::from_str::<Value>(params["raw"].as_str().unwrap()).unwrap()
        };
        let made = patch(Some("ocg-vk-1"));
        let providers = made["models"]["providers"].as_object().unwrap();
        assert_eq!(providers["main-openai"]["apiKey"], "ocg-vk-1");
        assert_eq!(
            (&providers["main-gone"], providers.get("own")),
            (&Value::Null, None)
        );
        assert_eq!(made["agents"]["entries"]["main"]["workspace"], "/w");
        assert_eq!(
            patch(None)["models"]["providers"]["main-openai"].get("apiKey"),
            None
        );
    }

    /// What a cell that is configured so is asked for when its person's end comes.
    async fn ended(config: Value) -> Vec<(String, Value)> {
        let asked: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let admin = Admin::answered_by({
            let asked = Arc::clone(&asked);
            move |method, params| {
                let mut asked = asked.lock().unwrap();
                let was_deleted = asked.iter().any(|(method, _)| method == "sessions.delete");
                asked.push((method.to_owned(), params.clone()));
                Ok(match method {
                    "sessions.list" if was_deleted => {
                        json!({"sessions": [{"key": "agent:main:main"}]})
                    }
                    "sessions.list" => {
                        json!({"sessions": [{"key": "agent:main:a"}, {"key": "agent:main:main"}]})
                    }
                    "config.get" => json!({"hash": "h", "config": config}),
                    _ => json!({}),
                })
            }
        });
        end(&admin, "alice").await.unwrap();
        let asked = asked.lock().unwrap();
        asked.clone()
    }

    /// What of the configuration is changed by that, if anything is.
    fn changed(asked: &[(String, Value)]) -> Option<Value> {
        let (method, params) = asked.last().unwrap();
        let raw = (method == "config.patch").then(|| params["raw"].as_str().unwrap())?;
        Some(serde_json::from_str(raw).unwrap())
    }

    #[tokio::test]
    async fn whose_cell_it_was_leaves_neither_conversations_nor_a_key() {
        let providers = json!({"main-openai": {}, "own": {}});
        let asked = ended(json!({"models": {"providers": providers}})).await;
        let of = |wanted: &str| asked.iter().filter(|(method, _)| method == wanted).count();
        assert_eq!((of("sessions.delete"), of("sessions.reset")), (1, 1));
        let patch = changed(&asked).unwrap();
        assert_eq!(patch["models"]["providers"], json!({"main-openai": null}));
        let (_, params) = asked.last().unwrap();
        assert_eq!(
            params["replacePaths"][0],
            "models.providers.main-openai.models"
        );
    }

    #[tokio::test]
    async fn an_agent_with_models_of_its_own_leaves_the_directory_too() {
        let working_in = |workspace: &str| {
            let main = json!({"workspace": workspace, "model": {"primary": "own/m"}});
            json!({"agents": {"entries": {"main": main}}, "models": {"providers": {"own": {}}}})
        };
        let asked = ended(working_in("/data/users/alice/workspace")).await;
        let patch = changed(&asked).unwrap();
        assert_eq!(
            patch["agents"]["entries"]["main"],
            json!({"workspace": null})
        );
        for others in ["/data/users/malice/workspace", "/home/operator/workspace"] {
            let asked = ended(working_in(others)).await;
            assert_eq!(changed(&asked), None, "{others}");
        }
    }
}
