//! What one person's agent is made of.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::offer::Offer;
use super::sandbox::Sandbox;

/// Tools an agent may use: a list of what is allowed, since a list of what is denied leaks with every new tool.
const TOOLS: [&str; 5] = ["apply_patch", "edit", "ls", "read", "write"];

/// And where they run in a sandbox.
const TOOLS_OF_SANDBOX: [&str; 6] = ["apply_patch", "edit", "exec", "ls", "read", "write"];

/// An agent as it must be on the instance.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AgentSpec {
    /// The agent's id.
    pub agent: Arc<str>,
    /// The name under which the instance knows whose it is.
    pub user: Arc<str>,
    /// Its workspace as the instance sees it.
    pub workspace: String,
    /// What it may use there.
    pub offer: Offer,
    /// Where its tools must run, if they must run in a sandbox.
    pub sandbox: Option<Sandbox>,
    /// Whether it is the agent of a cell.
    pub(super) in_cell: bool,
}

// === impl AgentSpec ===

impl AgentSpec {
    /// An agent from its parts.
    #[must_use]
    pub fn new(agent: Arc<str>, user: Arc<str>, workspace: String, offer: &Offer) -> Self {
        Self {
            agent,
            user,
            workspace,
            offer: offer.clone(),
            sandbox: None,
            in_cell: false,
        }
    }

    /// The same, with tools that run there, or not at all.
    #[must_use]
    pub fn with_sandbox(mut self, sandbox: Option<Sandbox>) -> Self {
        self.sandbox = sandbox;
        self
    }

    /// The same as the agent of a cell, which is there already.
    #[must_use]
    pub const fn in_cell(mut self) -> Self {
        self.in_cell = true;
        self
    }

    /// Changes whenever the agent would have to be made anew.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let (agent, providers) = self.patch("");
        let hash = digest(&SHA256, json!([agent, providers]).to_string().as_bytes());
        URL_SAFE_NO_PAD.encode(hash)
    }

    /// What of this agent is in `agents.entries` and `models.providers`.
    pub(super) fn patch(&self, virtual_key: &str) -> (Value, Map<String, Value>) {
        let (model, policy) = self.offer.of_agent(&self.agent);
        if self.in_cell {
            let agent = match self.offer.is_of_the_instance() {
                true => json!({ "workspace": self.workspace }),
                false => json!({
                    "workspace": self.workspace, "model": model, "modelPolicy": policy,
                }),
            };
            return (agent, self.offer.providers(&self.agent, virtual_key));
        }
        let mut agent = json!({
            "name": &*self.agent,
            "workspace": self.workspace,
            "model": model,
            "modelPolicy": policy,
        });
        let (tools, sandbox) = match &self.sandbox {
            None => (
                json!({ "allow": TOOLS, "fs": { "workspaceOnly": true } }),
                None,
            ),
            Some(sandbox) => (
                json!({
                    "allow": TOOLS_OF_SANDBOX, "fs": { "workspaceOnly": true },
                    // Without the sandbox there is no host to fall back to.
                    "exec": { "host": "sandbox" }, "elevated": { "enabled": false },
                }),
                Some(("sandbox".to_owned(), sandbox.of_slot(&self.agent))),
            ),
        };
        if let Some(agent) = agent.as_object_mut() {
            agent.insert("tools".to_owned(), tools);
            agent.extend(sandbox);
        }
        (agent, self.offer.providers(&self.agent, virtual_key))
    }

    /// Whether it is among `agents`, as it is listed. The agent of a cell is always there: it also must be set up.
    pub(super) fn is_among<'a>(&self, mut agents: impl Iterator<Item = &'a Value>) -> bool {
        let text = |agent: &Value, pointer: &str| {
            let text = agent.pointer(pointer).and_then(Value::as_str);
            text.map(str::to_owned)
        };
        let (model, _) = self.offer.of_agent(&self.agent);
        let model = text(&model, "/primary");
        agents.any(|agent| {
            let is_it = text(agent, "/id").as_deref() == Some(&*self.agent);
            let is_set_up = || {
                text(agent, "/workspace").as_ref() == Some(&self.workspace)
                    && (model.is_none() || text(agent, "/model/primary") == model)
            };
            is_it && (!self.in_cell || is_set_up())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_models_are_the_instances_own_an_agent_has_none_of_ours() {
        let spec = AgentSpec::new(
            "slot-001".into(),
            "alice".into(),
            "/w".to_owned(),
            &Offer::of_the_instance(),
        );
        let (agent, providers) = spec.patch("key");
        assert_eq!(
            (&agent["model"], &agent["modelPolicy"]),
            (&Value::Null, &Value::Null)
        );
        assert!(!agent["tools"]["allow"].as_array().unwrap().is_empty());
        assert!(providers.is_empty());
        let current = json!({"models": {"providers": {
            "openai": {}, "slot-001-openai": {}, "slot-0011-openai": {}, "slot-001": {},
        }}});
        let left_over = json!(spec.change(&current, None).providers);
        assert_eq!(left_over, json!({"slot-001-openai": null}));
        assert!(spec.change(&json!({}), None).providers.is_empty());
    }

    #[test]
    fn only_in_a_sandbox_is_there_a_tool_that_runs_programs() {
        let plain = AgentSpec::new(
            "slot-001".into(),
            "alice".into(),
            "/w".to_owned(),
            &Offer::of_the_instance(),
        );
        let (agent, _) = plain.patch("key");
        assert!(agent.get("sandbox").is_none(), "nothing has changed");
        assert!(!agent.to_string().contains("exec"), "{agent}");

        let config = json!({"agents": {"defaults": {"sandbox": {
            "backend": "ssh", "ssh": {"target": "nobody@host:22", "workspaceRoot": "/home"},
        }}}});
        let instance = "name = \"one\"\nurl = \"http://127.0.0.1:1\"\nsandbox_user = \"sbx-{slot}\"\n\
            auth = { kind = \"trusted-proxy\", password = \"p\" }";
        let sandbox = Sandbox::of(&config, &toml::from_str(instance).unwrap()).unwrap();
        let boxed = plain.clone().with_sandbox(sandbox);
        let (agent, _) = boxed.patch("key");
        assert_eq!(agent["sandbox"]["mode"], "all");
        assert_eq!(agent["sandbox"]["ssh"]["target"], "sbx-slot-001@host:22");
        assert_eq!(agent["tools"]["exec"]["host"], "sandbox");
        assert!(agent["tools"]["allow"].to_string().contains("exec"));
        assert_ne!(boxed.fingerprint(), plain.fingerprint(), "it is made anew");
    }
}
