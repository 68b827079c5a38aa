//! One turn: the conversation goes to the agent's model, the answer comes back as events.

use bytes::Bytes;
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::DemoInstance;
use super::state::{Instance, now};

/// Largest answer that is read.
const MAX_ANSWER: usize = 4 << 20;

/// An agent's model and how it is reached.
pub(super) struct Model {
    pub(super) provider: String,
    pub(super) id: String,
    base_url: String,
    key: String,
}

/// What a model has answered.
#[derive(Default)]
struct Reply {
    id: String,
    text: String,
    usage: Value,
}

/// The model of an agent, as the configuration says.
pub(super) fn model_of(instance: &Instance, agent: &str) -> Option<Model> {
    let agents = instance.agents();
    let primary = agents.get(agent)?.pointer("/model/primary")?.as_str()?;
    let (provider, id) = primary.split_once('/')?;
    let provider_config = instance
        .config
        .pointer("/models/providers")?
        .get(provider)?;
    let text = |name: &str| provider_config.get(name)?.as_str().map(str::to_owned);
    Some(Model {
        provider: provider.to_owned(),
        id: id.to_owned(),
        base_url: text("baseUrl")?,
        key: text("apiKey")?,
    })
}

/// Runs a turn to its end.
pub(super) async fn run(demo: DemoInstance, key: String, run_id: String, abort: CancellationToken) {
    let turn = Turn { demo, key, run_id };
    let (model, messages) = {
        let mut instance = turn.demo.lock();
        turn.tell(
            &mut instance,
            "agent",
            json!({"stream": "lifecycle", "data": {"phase": "start"}}),
        );
        turn.tell(
            &mut instance,
            "chat",
            json!({"state": "status", "phase": "starting_model"}),
        );
        let session = instance.sessions.get(&turn.key);
        let model = session.and_then(|session| model_of(&instance, &session.agent));
        (
            model,
            session
                .map(|session| session.messages.clone())
                .unwrap_or_default(),
        )
    };
    let Some(model) = model else {
        return turn.fail("the agent has no model");
    };
    let mut reply = Reply::default();
    let called = abort
        .run_until_cancelled(turn.call(&model, &messages, &mut reply))
        .await;
    match called {
        Some(Ok(())) => turn.end("final", &model, &reply),
        Some(Err(message)) => turn.fail(&message),
        None => turn.end("aborted", &model, &reply),
    }
}

struct Turn {
    demo: DemoInstance,
    key: String,
    run_id: String,
}

// === impl Turn ===

impl Turn {
    async fn call(
        &self,
        model: &Model,
        messages: &[Value],
        reply: &mut Reply,
    ) -> Result<(), String> {
        let told = messages.iter().map(|message| {
            let content = message.get("content");
            let text = content
                .and_then(|content| content.pointer("/0/text"))
                .or(content);
            json!({"role": message.get("role"), "content": text})
        });
        let body = json!({
            "model": model.id, "messages": told.collect::<Value>(), "stream": true,
            "stream_options": {"include_usage": true},
        });
        let request = Request::post(format!("{}/chat/completions", model.base_url))
            .header(AUTHORIZATION, format!("Bearer {}", model.key))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|_| "the model's address is wrong".to_owned())?;
        let response = self.demo.0.http.request(request).await;
        let response = response.map_err(|_| "the model cannot be reached".to_owned())?;
        let succeeded = response.status().is_success();
        let mut body = response.into_body();
        let (mut unread, mut read) = (Vec::new(), 0_usize);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| "the model broke off".to_owned())?;
            let Some(data) = frame.data_ref() else {
                continue;
            };
            read = read.saturating_add(data.len());
            if read > MAX_ANSWER {
                return Err("the model's answer is too long".to_owned());
            }
            unread.extend_from_slice(data);
            while succeeded && let Some(end) = unread.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = unread.drain(..end + 2).collect();
                self.event(&event, model, reply);
            }
        }
        if succeeded {
            return Ok(());
        }
        let refusal: Value = serde_json::from_slice(&unread).unwrap_or_default();
        let message = refusal.pointer("/error/message").and_then(Value::as_str);
        Err(message.unwrap_or("the model refused").to_owned())
    }

    fn event(&self, event: &[u8], model: &Model, reply: &mut Reply) {
        let chunk = event.strip_prefix(b"data: ").unwrap_or_default();
        let Ok(chunk) = serde_json::from_slice::<Value>(chunk) else {
            return;
        };
        if let Some(id) = chunk.get("id").and_then(Value::as_str) {
            id.clone_into(&mut reply.id);
        }
        if let Some(usage) = chunk.get("usage").filter(|usage| usage.is_object()) {
            reply.usage = usage.clone();
        }
        let delta = chunk
            .pointer("/choices/0/delta/content")
            .and_then(Value::as_str);
        let Some(delta) = delta.filter(|delta| !delta.is_empty()) else {
            return;
        };
        reply.text.push_str(delta);
        let told = json!({"state": "delta", "deltaText": delta, "message": message(model, reply, &self.run_id)});
        self.tell(&mut self.demo.lock(), "chat", told);
    }

    /// Sends an event of this turn, with its names.
    fn tell(&self, instance: &mut Instance, event: &str, mut payload: Value) {
        let agent = instance
            .sessions
            .get(&self.key)
            .map(|session| session.agent.clone());
        if let Some(members) = payload.as_object_mut() {
            members.insert("runId".to_owned(), self.run_id.clone().into());
            members.insert("sessionKey".to_owned(), self.key.clone().into());
            members.insert("agentId".to_owned(), agent.into());
        }
        instance.tell_of(&self.key, event, &payload);
    }

    fn end(&self, state: &str, model: &Model, reply: &Reply) {
        let mut instance = self.demo.lock();
        let said = message(model, reply, &self.run_id);
        instance.say(&self.key, &said);
        self.over(
            &mut instance,
            json!({"state": state, "stopReason": "stop", "message": said}),
        );
    }

    fn fail(&self, message: &str) {
        self.over(
            &mut self.demo.lock(),
            json!({"state": "error", "errorMessage": message}),
        );
    }

    fn over(&self, instance: &mut Instance, payload: Value) {
        if let Some(run) = instance.runs.get_mut(&self.run_id) {
            run.is_over = true;
        }
        self.tell(
            instance,
            "agent",
            json!({"stream": "lifecycle", "data": {"phase": "end"}}),
        );
        self.tell(instance, "chat", payload);
    }
}

/// What the assistant has said, as a session has it.
fn message(model: &Model, reply: &Reply, run_id: &str) -> Value {
    let count = |name: &str| reply.usage.get(name).and_then(Value::as_u64).unwrap_or(0);
    json!({
        "role": "assistant", "content": [{"type": "text", "text": reply.text}], "timestamp": now(),
        "provider": model.provider, "model": model.id, "responseId": reply.id, "__openclaw": {"runId": run_id},
        "usage": {
            "input": count("prompt_tokens"), "output": count("completion_tokens"), "cacheRead": 0, "cacheWrite": 0,
            "totalTokens": count("total_tokens"),
        },
    })
}
