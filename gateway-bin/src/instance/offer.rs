use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::config::{Model, Provider, ProviderKind};

/// The models that agents may use, all behind our egress; or none of ours, where the instance has its own.
///
/// Each agent has providers of its own on the instance, each with the agent's virtual key, so that what an instance does
/// to a provider that refused something concerns nobody else.
#[derive(Clone, Debug)]
pub struct Offer {
    providers: Arc<[Offered]>,
}

#[derive(Debug)]
struct Offered {
    name: String,
    /// What the instance must know of it, but for the key.
    entry: Map<String, Value>,
    default_model: Option<String>,
}

// === impl Offer ===

impl Offer {
    /// What these providers offer, where instances find egress at `egress_url`.
    #[must_use]
    pub fn new(providers: &[Provider], egress_url: &str) -> Self {
        let egress_url = egress_url.trim_end_matches('/');
        let providers = providers
            .iter()
            .filter_map(|provider| Offered::new(provider, egress_url));
        Self {
            providers: providers.collect(),
        }
    }

    /// Nothing: agents use the models that the instance itself is configured with.
    #[must_use]
    pub fn of_the_instance() -> Self {
        Self {
            providers: Arc::default(),
        }
    }

    /// Whether agents use the instance's own models.
    #[must_use]
    pub fn is_of_the_instance(&self) -> bool {
        self.providers.is_empty()
    }

    /// The name of the provider whose first model is everybody's default; `instance` where that is the instance's own.
    #[must_use]
    pub fn first_provider(&self) -> &str {
        let first = self.providers.first();
        first.map_or("instance", |first| &first.name)
    }

    /// The model that an agent uses unless another is chosen.
    fn default_model(&self, agent: &str) -> String {
        let first = self.providers.first();
        let model = first.and_then(|first| Some((first, first.default_model.as_ref()?)));
        model.map_or_else(String::new, |(first, model)| {
            format!("{}/{model}", first.id(agent))
        })
    }

    /// What an agent's entry says of models. Nothing where they are the instance's own, also if it did before.
    pub(super) fn of_agent(&self, agent: &str) -> (Value, Value) {
        match self.is_of_the_instance() {
            true => (Value::Null, Value::Null),
            false => (
                json!({ "primary": self.default_model(agent) }),
                json!({ "allow": self.allowed(agent) }),
            ),
        }
    }

    /// The models that an agent may choose.
    fn allowed(&self, agent: &str) -> Vec<String> {
        let providers = self.providers.iter();
        providers
            .map(|offered| format!("{}/*", offered.id(agent)))
            .collect()
    }

    /// An agent's providers, by their ids.
    pub(super) fn providers(&self, agent: &str, virtual_key: &str) -> Map<String, Value> {
        let providers = self.providers.iter().map(|offered| {
            let mut entry = offered.entry.clone();
            entry.insert("apiKey".to_owned(), virtual_key.into());
            (offered.id(agent), entry.into())
        });
        providers.collect()
    }
}

// === impl Offered ===

impl Offered {
    /// `None` for a provider that has nothing to chat with.
    fn new(provider: &Provider, egress_url: &str) -> Option<Self> {
        let at = format!("{egress_url}/{}", provider.name);
        // Clients of OpenAI's API have the version in their base URL, those of Anthropic's in the path.
        let (api, base_url) = match provider.kind {
            ProviderKind::Openai => ("openai-completions", format!("{at}/v1")),
            ProviderKind::Anthropic => ("anthropic-messages", at),
        };
        let chats = |model: &&Model| model.max_output_tokens > 0;
        let models: Vec<_> = provider.models.iter().filter(chats).collect();
        let first = models.first()?;
        let default_model = Some(first.id.clone());
        let models: Vec<Value> = models
            .iter()
            .map(|model| {
                json!({
                    "id": model.id, "name": model.id, "reasoning": false, "input": ["text"],
                    "contextWindow": model.context_window, "maxTokens": model.max_output_tokens,
                })
            })
            .collect();
        let entry = [
            ("baseUrl".to_owned(), base_url.into()),
            ("api".to_owned(), api.into()),
            ("models".to_owned(), models.into()),
        ];
        Some(Self {
            name: provider.name.clone(),
            entry: entry.into_iter().collect(),
            default_model,
        })
    }

    /// Id of the provider that only this agent may use: its auth profile's.
    fn id(&self, agent: &str) -> String {
        format!("{agent}-{}", self.name)
    }
}
