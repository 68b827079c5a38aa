use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value};

use super::refusal::Refusal;
use super::{chat, commands, responses, strict};

/// What OpenClaw calls whoever's own agent.
pub(super) const OWN: [&str; 2] = ["openclaw", "openclaw/default"];

/// Longest name of a conversation that goes on as it is.
const MAX_NAME: usize = 64;

/// A way to ask for a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Endpoint {
    /// `/v1/chat/completions`
    ChatCompletions,
    /// `/v1/responses`
    Responses,
}

/// A run that somebody asks for: their request, read and found to be harmless, with nothing in it that names an agent, a
/// session or a user.
#[derive(Clone, Debug, PartialEq)]
pub struct RunCall {
    pub(super) endpoint: Endpoint,
    pub(super) model: String,
    pub(super) members: Map<String, Value>,
}

// === impl Endpoint ===

impl Endpoint {
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Responses => "/v1/responses",
        }
    }

    /// How OpenClaw calls the sessions that it derives from `user`.
    const fn session_prefix(self) -> &'static str {
        match self {
            Self::ChatCompletions => "openai",
            Self::Responses => "openresponses",
        }
    }
}

// === impl RunCall ===

impl RunCall {
    /// Reads the body of a request.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn parse(endpoint: Endpoint, body: &[u8]) -> Result<Self, Refusal> {
        let mut members = strict::object(body).map_err(|error| {
            let message = format!("The body is not the JSON that is needed: {error}.");
            Refusal::new(StatusCode::BAD_REQUEST, "invalid_json", message)
        })?;
        let model = match members.remove("model") {
            Some(Value::String(model)) => model,
            _ => {
                let what_to_do = format!("name one, such as `{}`", OWN[0]);
                return Err(Refusal::of_member("model", "invalid_model", what_to_do));
            }
        };
        let members = match endpoint {
            Endpoint::ChatCompletions => chat::rebuilt(members)?,
            Endpoint::Responses => in_a_conversation(responses::rebuilt(members)?),
        };
        commands::check(&members)?;
        Ok(Self {
            endpoint,
            model,
            members,
        })
    }

    /// Whether it asks for `agent`, by a name of those that are listed for whose it is.
    pub(super) fn is_for(&self, agent: &str) -> bool {
        OWN.contains(&&*self.model) || self.model.strip_prefix("openclaw/") == Some(agent)
    }

    /// Whether it goes on with an earlier answer.
    pub(super) fn goes_on(&self) -> bool {
        self.members.contains_key("previous_response_id")
    }

    /// The session that it is in, where it says so itself.
    #[must_use]
    pub fn session_of(&self, agent: &str) -> Option<String> {
        let user = self.members.get("user")?.as_str()?;
        let prefix = self.endpoint.session_prefix();
        Some(format!("agent:{agent}:{prefix}-user:{user}"))
    }

    /// The request that the instance gets, for `agent` alone.
    pub(super) fn to_body(&self, agent: &str) -> Bytes {
        let mut members = self.members.clone();
        members.insert("model".to_owned(), format!("openclaw/{agent}").into());
        Value::Object(members).to_string().into()
    }
}

/// A response that begins a conversation and does not name it gets a name, so that it can be gone on with.
fn in_a_conversation(mut members: Map<String, Value>) -> Map<String, Value> {
    if !members.contains_key("user") && !members.contains_key("previous_response_id") {
        let name = uuid::Uuid::new_v4().to_string();
        members.insert("user".to_owned(), name.into());
    }
    members
}

/// What goes on for a `user`, by which OpenClaw names a conversation of the agent's: a plain word as it is, anything else as
/// its hash. OpenClaw sees more in some names, such as those of its sub-agents and of jobs.
pub(super) fn conversation(user: &str) -> String {
    let is_plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    if (1..=MAX_NAME).contains(&user.len()) && user.bytes().all(is_plain) {
        return user.to_owned();
    }
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, user.as_bytes());
    let hex = hash
        .as_ref()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"));
    hex.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<RunCall, Refusal> {
        RunCall::parse(Endpoint::ChatCompletions, body.as_bytes())
    }

    #[test]
    fn d3_38_the_agent_is_the_callers_own_whatever_the_model() {
        let call = |model: &str| {
            parse(&format!(
                r#"{{"model":"{model}","messages":[{{"role":"user","content":"m"}}]}}"#
            ))
            .unwrap()
        };
        for own in ["openclaw", "openclaw/default", "openclaw/slot-002"] {
            let call = call(own);
            assert!(call.is_for("slot-002"), "{own}");
            let body: Value = serde_json::from_slice(&call.to_body("slot-002")).unwrap();
            assert_eq!(body["model"], "openclaw/slot-002");
        }
        for other in [
            "openclaw/slot-001",
            "openclaw:slot-002",
            "agent:slot-002",
            "OpenClaw",
            " openclaw",
            "openclaw/",
            "openclaw/slot-002 ",
            "openclaw/SLOT-002",
            "openclaw/main",
            "gpt-4o",
            "",
        ] {
            assert!(!call(other).is_for("slot-002"), "{other}");
        }
        for body in [
            r#"{"messages":[]}"#,
            r#"{"model":["openclaw"],"messages":[]}"#,
        ] {
            assert_eq!(parse(body).unwrap_err().param.as_deref(), Some("model"));
        }
    }

    #[test]
    fn d3_38_a_conversations_name_is_a_plain_word() {
        assert_eq!(conversation("thread-1_a"), "thread-1_a");
        for odd in [
            "",
            "Thread",
            "agent:slot-001:main",
            "x:subagent:y",
            "cron:x",
            "x:thread:1",
            "../x",
            " a",
            "é",
            &"a".repeat(65),
        ] {
            let name = conversation(odd);
            assert!(
                name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "{odd}: {name}"
            );
        }
        assert_ne!(conversation("A"), conversation("B"));
    }
}
