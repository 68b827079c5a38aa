//! Whether people's agents are on an instance as they must be: somebody may have changed its configuration, or given them
//! other roles.

use serde_json::{Map, Value, json};

use super::admin::{Admin, AdminError};
use super::agent_spec::AgentSpec;
use super::difference::Difference;
use super::roles;

/// What an instance answers in place of a key.
const REDACTED: &str = "__OPENCLAW_REDACTED__";

/// How an agent stands, and who it is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Standing {
    /// All is as it must be.
    Whole,
    /// Something is not, and can be put right.
    Changed,
    /// The agent is gone, or what it calls models with, or it is somebody else's by now.
    Gone,
}

/// What has to change in a configuration for one agent.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) agents: Map<String, Value>,
    pub(super) providers: Map<String, Value>,
    /// The lists that are replaced or removed.
    pub(super) lists: Vec<String>,
}

/// An instance at one time.
#[derive(Debug)]
pub(super) struct Look {
    config: Value,
    profiles: Value,
    /// Whether roles, and what all agents have in common, are as they must be.
    is_prepared: bool,
}

// === impl Change ===

impl Change {
    fn is_empty(&self) -> bool {
        self.agents.is_empty() && self.providers.is_empty()
    }
}

// === impl Look ===

impl Look {
    pub(super) async fn take(admin: &Admin, slots: u32) -> Result<Self, AdminError> {
        let (mut answer, profiles) = tokio::try_join!(
            admin.call("config.get", json!({})),
            admin.call("users.list", json!({}))
        )?;
        let roles = roles::missing(written(&answer).pointer("/gateway/roles"), slots);
        let is_prepared = roles.is_none() && for_all(&answer).is_none();
        let config = match answer.get_mut("sourceConfig") {
            Some(written) => written.take(),
            None => answer
                .get_mut("config")
                .map(Value::take)
                .unwrap_or_default(),
        };
        Ok(Self {
            config,
            profiles,
            is_prepared,
        })
    }

    pub(super) fn standing(&self, spec: &AgentSpec) -> Standing {
        let at = |list: &str, name: &str| self.config.pointer(list)?.get(name);
        let has_key = |name: &String| {
            let key = at("/models/providers", name).and_then(|provider| provider.get("apiKey"));
            key.is_some_and(is_key)
        };
        let (_, providers) = spec.patch("");
        let is_there = at("/agents/entries", &spec.agent).is_some();
        if !is_there || !providers.keys().all(has_key) {
            return Standing::Gone;
        }
        let has_role = roles::has(&self.profiles, &spec.user, &spec.agent);
        // Our own store may be older than the instance. Nobody is given what somebody else has.
        if !has_role && roles::is_of_other(&self.profiles, &spec.user, &spec.agent) {
            return Standing::Gone;
        }
        match self.is_prepared && has_role && spec.change(&self.config, None).is_empty() {
            true => Standing::Whole,
            false => Standing::Changed,
        }
    }
}

// === impl AgentSpec ===

impl AgentSpec {
    /// What has to change in `config`, as it is written, so that this agent is as it must be, with that key, or with the one
    /// that it has.
    pub(super) fn change(&self, config: &Value, virtual_key: Option<&str>) -> Change {
        let (agent, providers) = self.patch(virtual_key.unwrap_or_default());
        let mut change = Change::default();
        let path = format!("agents.entries.{}", self.agent);
        let actual = config.pointer("/agents/entries");
        let actual = actual.and_then(|entries| entries.get(&*self.agent));
        let Difference { patch, lists } = Difference::new(&path, actual, &agent);
        change.lists.extend(lists);
        change
            .agents
            .extend(patch.map(|patch| (self.agent.to_string(), patch)));

        let none = Map::new();
        let there = config.pointer("/models/providers");
        let there = there.and_then(Value::as_object).unwrap_or(&none);
        let own = format!("{}-", self.agent);
        let left_over = there
            .keys()
            .filter(|name| name.starts_with(&own) && !providers.contains_key(*name));
        let left_over = left_over.map(|name| (name.clone(), Value::Null));
        let left_over: Vec<_> = left_over.collect();
        for (name, mut wanted) in providers.into_iter().chain(left_over) {
            let actual = there.get(&name);
            if virtual_key.is_none()
                && let Some(wanted) = wanted.as_object_mut()
            {
                let key = actual.and_then(|actual| actual.get("apiKey"));
                wanted.insert("apiKey".to_owned(), key.cloned().unwrap_or_default());
            }
            let path = format!("models.providers.{name}");
            let Difference { patch, lists } = Difference::new(&path, actual, &wanted);
            change.lists.extend(lists);
            change.providers.extend(patch.map(|patch| (name, patch)));
        }
        change
    }
}

/// The parameters of a patch that makes all of these, each with that key or with the one that it has, if there is anything
/// to be changed.
pub(super) fn patch_for<'a>(
    current: &Value,
    wanted: impl Iterator<Item = (&'a AgentSpec, Option<&'a str>)>,
) -> Option<Value> {
    let mut all = Change::default();
    for (spec, virtual_key) in wanted {
        let Change {
            agents,
            providers,
            lists,
        } = spec.change(written(current), virtual_key);
        all.agents.extend(agents);
        all.providers.extend(providers);
        all.lists.extend(lists);
    }
    let for_all = for_all(current);
    if all.is_empty() && for_all.is_none() {
        return None;
    }
    let mut patch = for_all.unwrap_or_else(|| json!({ "agents": { "entries": {} } }));
    let entries = patch.pointer_mut("/agents/entries");
    if let Some(entries) = entries.and_then(Value::as_object_mut) {
        entries.extend(all.agents);
    }
    if let Some(patch) = patch.as_object_mut() {
        patch.insert("models".to_owned(), json!({ "providers": all.providers }));
    }
    Some(json!({
        "raw": patch.to_string(),
        "baseHash": current.get("hash").and_then(Value::as_str).unwrap_or_default(),
        "replacePaths": all.lists,
    }))
}

/// The configuration as it is written, without what OpenClaw adds to it.
pub(super) fn written(answer: &Value) -> &Value {
    let written = answer.get("sourceConfig").or_else(|| answer.get("config"));
    written.unwrap_or(&Value::Null)
}

/// What has to change for all agents.
fn for_all(answer: &Value) -> Option<Value> {
    let config = written(answer);
    let ownership = config.pointer("/agents/ownership").and_then(Value::as_str);
    // With entries of its own the instance has no default agent unless it is one of them.
    let has_main = answer.pointer("/config/agents/entries/main").is_some();
    // Tool search offers three more tools beside an allow-list, and can be switched off only for all agents.
    let has_search = config.pointer("/tools/toolSearch") != Some(&Value::Bool(false));
    if ownership == Some("explicit") && has_main && !has_search {
        return None;
    }
    let main = match has_main {
        true => json!({}),
        false => json!({ "main": {} }),
    };
    Some(json!({
        "agents": { "ownership": "explicit", "entries": main },
        "tools": { "toolSearch": false },
    }))
}

/// Whether that may be a key that was written there: it is shown to nobody. A reference is none.
fn is_key(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    text == REDACTED || (!text.is_empty() && !text.contains("${"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Provider;
    use crate::instance::Offer;

    fn spec() -> AgentSpec {
        let provider = json!({"name": "openai", "kind": "openai", "base_url": "https://x/v1", "models": [{"id": "m"}]});
        let provider: Provider = serde_json::from_value(provider).unwrap();
        let offer = Offer::new(&[provider], "http://egress");
        AgentSpec::new("slot-001".into(), "alice".into(), "/w".to_owned(), &offer)
    }

    /// An instance that has the agent, and what its configuration is.
    fn whole() -> Value {
        let (agent, providers) = spec().patch(REDACTED);
        let mut roles = roles::missing(None, 2).unwrap().patch.unwrap();
        roles["definitions"]["other"] = json!({"agents": "*"});
        json!({
            "agents": {"ownership": "explicit", "entries": {"main": {}, "slot-001": agent}},
            "models": {"providers": providers}, "tools": {"toolSearch": false},
            "gateway": {"roles": roles},
        })
    }

    async fn standing(config: Value, role: &str) -> Standing {
        let profiles = json!({"profiles": [{"id": "1", "emails": ["alice"], "role": role}]});
        let admin = Admin::answered_by(move |method, _| {
            Ok(match method {
                "config.get" => json!({"config": config, "sourceConfig": config, "hash": "1"}),
                _ => profiles.clone(),
            })
        });
        let look = Look::take(&admin, 2).await.unwrap();
        look.standing(&spec())
    }

    #[tokio::test]
    async fn each_change_is_seen_and_nothing_else() {
        assert_eq!(standing(whole(), "slot-001").await, Standing::Whole);
        for (pointer, value, expected) in [
            (
                "/agents/entries/slot-001/workspace",
                json!("/"),
                Standing::Changed,
            ),
            (
                "/agents/entries/slot-001/tools/allow",
                json!(["exec"]),
                Standing::Changed,
            ),
            (
                "/agents/entries/slot-001/tools/fs",
                json!({}),
                Standing::Changed,
            ),
            (
                "/agents/entries/slot-001/modelPolicy",
                Value::Null,
                Standing::Changed,
            ),
            (
                "/agents/entries/slot-001/model",
                json!({"primary": "x"}),
                Standing::Changed,
            ),
            ("/agents/entries/slot-001", json!({}), Standing::Changed),
            ("/agents/entries", json!({"main": {}}), Standing::Gone),
            ("/agents/ownership", json!("implicit"), Standing::Changed),
            ("/tools/toolSearch", json!(true), Standing::Changed),
            (
                "/models/providers/slot-001-openai/baseUrl",
                json!("http://y"),
                Standing::Changed,
            ),
            (
                "/models/providers/slot-001-openai/models",
                json!([]),
                Standing::Changed,
            ),
            (
                "/models/providers/slot-001-openai/apiKey",
                json!("${KEY}"),
                Standing::Gone,
            ),
            (
                "/models/providers/slot-001-openai/apiKey",
                Value::Null,
                Standing::Gone,
            ),
            ("/models/providers", json!({}), Standing::Gone),
            (
                "/gateway/roles/definitions/slot-001/agents",
                json!("*"),
                Standing::Changed,
            ),
            (
                "/gateway/roles/definitions/nobody/scopes",
                json!(["operator.read"]),
                Standing::Changed,
            ),
            ("/gateway/roles/default", json!("other"), Standing::Changed),
            (
                "/gateway/roles/definitions/other",
                json!({}),
                Standing::Whole,
            ),
        ] {
            let mut config = whole();
            *config.pointer_mut(pointer).unwrap() = value;
            assert_eq!(standing(config, "slot-001").await, expected, "{pointer}");
        }
        let mut added = whole();
        added["agents"]["entries"]["slot-001"]["subagents"] = json!({"allowAgents": ["*"]});
        assert_eq!(standing(added, "slot-001").await, Standing::Changed);
        let mut added = whole();
        added["models"]["providers"]["slot-001-mine"] = json!({"apiKey": "x"});
        assert_eq!(standing(added, "slot-001").await, Standing::Changed);
        for role in ["slot-002", "nobody", "other"] {
            assert_eq!(standing(whole(), role).await, Standing::Changed, "{role}");
        }
    }

    #[tokio::test]
    async fn an_agent_that_is_somebody_elses_by_now_is_gone() {
        let standing = async |alices: Value, bobs: &str| {
            let profiles = json!({"profiles": [
                {"id": "1", "emails": ["alice"], "role": alices}, {"id": "2", "emails": ["bob"], "role": bobs},
            ]});
            let admin = Admin::answered_by(move |method, _| {
                Ok(match method {
                    "config.get" => {
                        json!({"config": whole(), "sourceConfig": whole(), "hash": "1"})
                    }
                    _ => profiles.clone(),
                })
            });
            Look::take(&admin, 2).await.unwrap().standing(&spec())
        };
        assert_eq!(
            standing(json!("slot-002"), "slot-001").await,
            Standing::Gone
        );
        assert_eq!(standing(Value::Null, "slot-001").await, Standing::Gone);
        assert_eq!(standing(Value::Null, "slot-002").await, Standing::Changed);
        // It is hers; who else has her role is put right when they come.
        assert_eq!(
            standing(json!("slot-001"), "slot-001").await,
            Standing::Whole
        );
    }

    #[test]
    fn only_what_differs_is_changed_and_the_key_stays() {
        let mut config = whole();
        config["agents"]["entries"]["slot-001"]["tools"]["allow"] = json!(["read", "exec"]);
        config["models"]["providers"]["slot-001-openai"]["baseUrl"] = json!("http://y");
        config["models"]["providers"]["slot-001-old"] = json!({"models": [{"id": "m"}]});
        let change = spec().change(&config, None);
        let allow = spec().patch("").0["tools"]["allow"].clone();
        assert_eq!(
            json!(change.agents),
            json!({"slot-001": {"tools": {"allow": allow}}})
        );
        let providers = json!({"slot-001-openai": {"baseUrl": "http://egress/openai/v1"}, "slot-001-old": null});
        assert_eq!(json!(change.providers), providers);
        assert_eq!(
            change.lists,
            [
                "agents.entries.slot-001.tools.allow",
                "models.providers.slot-001-old.models"
            ]
        );
        let with_key = spec().change(&whole(), Some("ocg-vk-1"));
        let providers = json!({"slot-001-openai": {"apiKey": "ocg-vk-1"}});
        assert_eq!(
            (json!(with_key.providers), with_key.agents.len()),
            (providers, 0)
        );
    }
}
