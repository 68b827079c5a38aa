//! Anthropic's message, whole and in events.

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{
    api::Head,
    directive::{Plan, Reply},
    prompt::{Prompt, Turn, text_of},
    stream::{Events, pieces},
};

/// What a request may have (API reference, "Create a Message"; Anthropic's SDK 0.125.0).
const FIELDS: [&str; 18] = [
    "cache_control",
    "container",
    "inference_geo",
    "max_tokens",
    "messages",
    "metadata",
    "model",
    "output_config",
    "service_tier",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
];

/// What tools have answered is in messages of the user, before what the user says.
pub(super) fn prompt(body: &Value) -> Prompt {
    let messages = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
    let turns = messages.iter().flat_map(|message| {
        if message["role"] != "user" {
            return vec![Turn::Other];
        }
        let blocks = message["content"].as_array().into_iter().flatten();
        let results = blocks.filter(|block| block["type"] == "tool_result");
        let results = results.map(|block| Turn::Tool(text_of(&block["content"])));
        let typed = Turn::User(text_of(&message["content"]));
        results.chain([typed]).collect::<Vec<_>>()
    });
    Prompt::of(turns.collect::<Vec<_>>())
}

pub(super) fn problem(headers: &HeaderMap, body: &Value) -> Option<String> {
    if !headers.contains_key("anthropic-version") {
        return Some("anthropic-version: header is required".to_owned());
    }
    let mut required = ["model", "max_tokens", "messages"].into_iter();
    if let Some(name) = required.find(|name| body[*name].is_null()) {
        return Some(format!("{name}: Field required"));
    }
    // What a beta adds is not known here, but none adds this.
    let is_beta = headers.contains_key("anthropic-beta");
    let is_stray = |name: &&String| match name.as_str() {
        "stream_options" => true,
        name => !is_beta && !FIELDS.contains(&name),
    };
    let stray = body.as_object()?.keys().find(is_stray)?;
    Some(format!("{stray}: Extra inputs are not permitted"))
}

/// The answer to a request without `stream`.
pub(super) fn whole(head: &Head, plan: &Plan) -> Value {
    let content = [block(head, plan)];
    let usage = usage(plan, plan.output);
    message(head, &content, Some(stop_reason(plan)), &usage)
}

/// The answer to a request with `stream`.
pub(super) fn events(head: &Head, plan: &Plan) -> Events {
    let mut events = Events::default();
    let mut push = |name: &str, mut data: Value, billed| {
        data["type"] = json!(name);
        events.push_named(name, &data, billed);
    };
    // Whoever adds this to what `message_delta` says counts it twice.
    let first = plan.output.min(1);
    let message = message(head, &[], None, &usage(plan, first));
    push("message_start", json!({"message": message}), first);
    let mut empty = block(head, plan);
    let delta = match &plan.reply {
        Reply::Text(_) => {
            empty["text"] = json!("");
            |text: &str| json!({"type": "text_delta", "text": text})
        }
        Reply::Tool { .. } => {
            empty["input"] = json!({});
            |text: &str| json!({"type": "input_json_delta", "partial_json": text})
        }
    };
    let start = json!({"index": 0, "content_block": empty});
    push("content_block_start", start, first);
    push("ping", json!({}), first);
    for piece in pieces(plan) {
        let data = json!({"index": 0, "delta": delta(piece.text)});
        push("content_block_delta", data, piece.billed.max(first));
    }
    push("content_block_stop", json!({"index": 0}), plan.output);
    // Counted from the beginning of the message.
    let delta = json!({
        "delta": {"stop_reason": stop_reason(plan), "stop_sequence": null},
        "usage": {
            "input_tokens": plan.input,
            "cache_creation_input_tokens": plan.cache_write,
            "cache_read_input_tokens": plan.cache_read,
            "output_tokens": plan.output,
            "output_tokens_details": {"thinking_tokens": plan.reasoning},
        },
    });
    push("message_delta", delta, plan.output);
    push("message_stop", json!({}), plan.output);
    events
}

/// An error as Anthropic words it.
pub(super) fn error(status: StatusCode, message: &str, request_id: &str) -> Value {
    let kind = match status.as_u16() {
        400 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id})
}

fn message(head: &Head, content: &[Value], stop_reason: Option<&str>, usage: &Value) -> Value {
    json!({
        "id": head.id,
        "type": "message",
        "role": "assistant",
        "model": head.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": null,
        "usage": usage,
    })
}

/// The one block of the content.
fn block(head: &Head, plan: &Plan) -> Value {
    match &plan.reply {
        Reply::Text(text) => json!({"type": "text", "text": text}),
        Reply::Tool { name, arguments } => json!({
            "type": "tool_use",
            "id": format!("toolu_{}", head.id),
            "name": name,
            "input": serde_json::from_str::<Value>(arguments).unwrap_or_default(),
        }),
    }
}

fn stop_reason(plan: &Plan) -> &'static str {
    match plan.reply {
        Reply::Text(_) => "end_turn",
        Reply::Tool { .. } => "tool_use",
    }
}

/// Anthropic does not count cached tokens as input.
fn usage(plan: &Plan, output: u64) -> Value {
    json!({
        "input_tokens": plan.input,
        "cache_creation_input_tokens": plan.cache_write,
        "cache_read_input_tokens": plan.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": plan.cache_write,
            "ephemeral_1h_input_tokens": 0,
        },
        "output_tokens": output,
        "output_tokens_details": {"thinking_tokens": plan.reasoning.min(output)},
        "service_tier": "standard",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_user_says_and_what_tools_answer() {
        let typed = json!({"role": "user", "content": [{"type": "text", "text": "run "}, {"type": "text", "text": "it"}]});
        let asked = json!({"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "ls", "input": {}}]});
        let answer = json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "file.txt"}]},
        ]});
        let mut messages = vec![typed, asked, answer];
        let of_turn = prompt(&json!({"messages": messages}));
        assert_eq!(of_turn.last_user, "run it");
        assert_eq!(of_turn.tool_result.as_deref(), Some("file.txt"));
        messages.push(json!({"role": "user", "content": "and now"}));
        let of_next = prompt(&json!({"messages": messages}));
        assert_eq!(of_next.last_user, "and now");
        assert_eq!(of_next.tool_result, None);
    }
}
