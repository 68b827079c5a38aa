//! OpenAI's chat completion, whole and in chunks.

use serde_json::{Value, json};

use super::{
    api::Head,
    directive::{Plan, Reply},
    prompt::{Prompt, Turn, text_of},
    stream::{Events, pieces},
};
use crate::clock::unix_millis;

pub(super) fn prompt(body: &Value) -> Prompt {
    let messages = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
    Prompt::of(messages.iter().map(|message| {
        let text = text_of(&message["content"]);
        match message["role"].as_str() {
            Some("user") => Turn::User(text),
            Some("tool") => Turn::Tool(text),
            _ => Turn::Other,
        }
    }))
}

pub(super) fn problem(body: &Value) -> Option<String> {
    let stray = body["stream"] != true && !body["stream_options"].is_null();
    stray.then(|| {
        "The 'stream_options' parameter is only allowed when 'stream' is enabled.".to_owned()
    })
}

/// The answer to a request without `stream`.
pub(super) fn whole(head: &Head, plan: &Plan) -> Value {
    let message = match &plan.reply {
        Reply::Text(text) => json!({"role": "assistant", "content": text}),
        Reply::Tool { .. } => {
            json!({"role": "assistant", "content": null, "tool_calls": [tool_call(head, plan)]})
        }
    };
    json!({
        "id": head.id,
        "object": "chat.completion",
        "created": unix_millis() / 1000,
        "model": head.model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason(plan)}],
        "usage": usage(plan),
    })
}

/// The answer to a request with `stream`.
pub(super) fn events(head: &Head, plan: &Plan, body: &Value) -> Events {
    let include_usage = body["stream_options"]["include_usage"] == true;
    let created = unix_millis() / 1000;
    let chunk = |choices: Value, usage: Value| {
        let mut chunk = json!({
            "id": head.id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": head.model,
            "choices": choices,
        });
        // With `include_usage` every chunk has the field, and only the last a value.
        if include_usage {
            chunk["usage"] = usage;
        }
        chunk
    };
    let delta = |delta: Value, finish: Option<&str>| {
        chunk(
            json!([{"index": 0, "delta": delta, "finish_reason": finish}]),
            Value::Null,
        )
    };

    let mut events = Events::default();
    events.push(delta(json!({"role": "assistant", "content": ""}), None), 0);
    for piece in pieces(plan) {
        let content = match &plan.reply {
            Reply::Text(_) => json!({"content": piece.text}),
            Reply::Tool { .. } => {
                let mut call = tool_call(head, plan);
                call["index"] = json!(0);
                json!({"tool_calls": [call]})
            }
        };
        events.push(delta(content, None), piece.billed);
    }
    let finish = delta(json!({}), Some(finish_reason(plan)));
    events.push(finish, plan.output);
    if include_usage {
        events.push(chunk(json!([]), usage(plan)), plan.output);
    }
    events.push("[DONE]", plan.output);
    events
}

fn tool_call(head: &Head, plan: &Plan) -> Value {
    let Reply::Tool { name, arguments } = &plan.reply else {
        return Value::Null;
    };
    json!({
        "id": format!("call_{}", head.id),
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    })
}

fn finish_reason(plan: &Plan) -> &'static str {
    match plan.reply {
        Reply::Text(_) => "stop",
        Reply::Tool { .. } => "tool_calls",
    }
}

fn usage(plan: &Plan) -> Value {
    json!({
        "prompt_tokens": plan.prompt_tokens(),
        "completion_tokens": plan.output,
        "total_tokens": plan.prompt_tokens().saturating_add(plan.output),
        "prompt_tokens_details": {"cached_tokens": plan.cache_read, "cache_write_tokens": plan.cache_write},
        "completion_tokens_details": {"reasoning_tokens": plan.reasoning},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_contents_in_parts() {
        let prompt = prompt(&json!({"messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": [{"type": "text", "text": "second "}, {"type": "text", "text": "part"}]},
            {"role": "assistant", "content": null},
            {"role": "tool", "content": "file.txt"},
        ]}));
        assert_eq!(prompt.last_user, "second part");
        assert_eq!(prompt.tool_result.as_deref(), Some("file.txt"));
    }
}
