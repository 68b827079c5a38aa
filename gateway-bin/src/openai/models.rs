use serde::Serialize;
use utoipa::ToSchema;

use super::call::OWN;

/// Models as OpenAI lists them (API reference, "List models").
#[derive(Serialize, ToSchema)]
pub(super) struct ModelList {
    object: &'static str,
    data: Vec<Model>,
}

/// A name that an agent goes by.
#[derive(Serialize, ToSchema)]
pub(super) struct Model {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
}

/// The names of whoever's own agent, whose own name is `agent` where they have one.
pub(super) fn names(agent: Option<&str>) -> impl Iterator<Item = String> {
    let own = agent.map(|agent| format!("openclaw/{agent}"));
    OWN.into_iter().map(str::to_owned).chain(own)
}

/// All of them.
pub(super) fn list(agent: Option<&str>) -> ModelList {
    ModelList {
        object: "list",
        data: names(agent).map(Model::new).collect(),
    }
}

// === impl Model ===

impl Model {
    pub(super) fn new(id: String) -> Self {
        Self {
            id,
            object: "model",
            created: 0,
            owned_by: "openclaw",
        }
    }
}
