use serde_json::{Value, json};

use super::call::OWN;

/// The names of whoever's own agent, whose own name is `agent` where they have one.
pub(super) fn names(agent: Option<&str>) -> impl Iterator<Item = String> {
    let own = agent.map(|agent| format!("openclaw/{agent}"));
    OWN.into_iter().map(str::to_owned).chain(own)
}

/// All of them, as OpenAI lists models (API reference, "List models").
pub(super) fn list(agent: Option<&str>) -> Value {
    let models: Value = names(agent).map(|name| shown(&name)).collect();
    json!({ "object": "list", "data": models })
}

/// One of them.
pub(super) fn shown(name: &str) -> Value {
    json!({ "id": name, "object": "model", "created": 0, "owned_by": "openclaw" })
}
