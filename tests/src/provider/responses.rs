//! OpenAI's response, whole and in events.

use serde_json::{Value, json};

use super::{
    api::Head,
    directive::{Plan, Reply},
    prompt::{Prompt, Turn, text_of},
    stream::{Events, pieces},
};
use crate::clock::unix_millis;

/// The input is a text or a list of items.
pub(super) fn prompt(body: &Value) -> Prompt {
    let Some(items) = body["input"].as_array() else {
        return Prompt::of([Turn::User(text_of(&body["input"]))]);
    };
    Prompt::of(items.iter().map(
        |item| match (item["type"].as_str(), item["role"].as_str()) {
            (Some("function_call_output"), _) => Turn::Tool(text_of(&item["output"])),
            (_, Some("user")) => Turn::User(text_of(&item["content"])),
            _ => Turn::Other,
        },
    ))
}

/// Usage is always told.
pub(super) fn problem(body: &Value) -> Option<String> {
    let name = "include_usage";
    let stray = !body["stream_options"][name].is_null();
    stray.then(|| format!("Unknown parameter: 'stream_options.{name}'."))
}

/// The answer to a request without `stream`.
pub(super) fn whole(head: &Head, plan: &Plan) -> Value {
    response(head, "completed", &[item(head, plan)], Some(&usage(plan)))
}

/// The answer to a request with `stream`.
pub(super) fn events(head: &Head, plan: &Plan) -> Events {
    let mut events = Events::default();
    let mut number = 0_u64;
    let mut push = |name: &str, mut data: Value, billed| {
        data["type"] = json!(name);
        data["sequence_number"] = json!(number);
        number += 1;
        events.push_named(name, &data, billed);
    };
    let begun = json!({"response": response(head, "in_progress", &[], None)});
    push("response.created", begun.clone(), 0);
    push("response.in_progress", begun, 0);
    let item = item(head, plan);
    let mut empty = item.clone();
    empty["status"] = json!("in_progress");
    match &plan.reply {
        Reply::Text(text) => {
            empty["content"] = json!([]);
            added(&mut push, &empty);
            let part = |text: &str| {
                let part = text_part(text);
                json!({"item_id": item["id"], "output_index": 0, "content_index": 0, "part": part})
            };
            let place = json!({"item_id": item["id"], "output_index": 0, "content_index": 0, "logprobs": []});
            push("response.content_part.added", part(""), 0);
            for piece in pieces(plan) {
                let mut delta = place.clone();
                delta["delta"] = json!(piece.text);
                push("response.output_text.delta", delta, piece.billed);
            }
            let mut done = place;
            done["text"] = json!(text);
            push("response.output_text.done", done, plan.output);
            push("response.content_part.done", part(text), plan.output);
        }
        Reply::Tool { arguments, .. } => {
            empty["arguments"] = json!("");
            added(&mut push, &empty);
            for piece in pieces(plan) {
                let delta = json!({"item_id": item["id"], "output_index": 0, "delta": piece.text});
                push(
                    "response.function_call_arguments.delta",
                    delta,
                    piece.billed,
                );
            }
            let done = json!({"item_id": item["id"], "output_index": 0, "arguments": arguments, "name": item["name"]});
            push("response.function_call_arguments.done", done, plan.output);
        }
    }
    let done = json!({"output_index": 0, "item": item});
    push("response.output_item.done", done, plan.output);
    let completed = json!({"response": whole(head, plan)});
    push("response.completed", completed, plan.output);
    events
}

fn added(push: &mut impl FnMut(&str, Value, u64), item: &Value) {
    let added = json!({"output_index": 0, "item": item});
    push("response.output_item.added", added, 0);
}

fn response(head: &Head, status: &str, output: &[Value], usage: Option<&Value>) -> Value {
    json!({
        "id": head.id,
        "object": "response",
        "created_at": unix_millis() / 1000,
        "status": status,
        "error": null,
        "incomplete_details": null,
        "instructions": null,
        "metadata": {},
        "model": head.model,
        "output": output,
        "parallel_tool_calls": true,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage,
    })
}

/// The one item of the output.
fn item(head: &Head, plan: &Plan) -> Value {
    match &plan.reply {
        Reply::Text(text) => json!({
            "id": format!("msg_{}", head.id),
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [text_part(text)],
        }),
        Reply::Tool { name, arguments } => json!({
            "id": format!("fc_{}", head.id),
            "type": "function_call",
            "status": "completed",
            "call_id": format!("call_{}", head.id),
            "name": name,
            "arguments": arguments,
        }),
    }
}

fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn usage(plan: &Plan) -> Value {
    json!({
        "input_tokens": plan.prompt_tokens(),
        "input_tokens_details": {"cached_tokens": plan.cache_read, "cache_write_tokens": plan.cache_write},
        "output_tokens": plan.output,
        "output_tokens_details": {"reasoning_tokens": plan.reasoning},
        "total_tokens": plan.prompt_tokens().saturating_add(plan.output),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_text_and_items() {
        assert_eq!(prompt(&json!({"input": "hi"})).last_user, "hi");
        let prompt = prompt(&json!({"input": [
            {"role": "user", "content": [{"type": "input_text", "text": "run it"}]},
            {"type": "function_call", "call_id": "c", "name": "ls", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "file.txt"},
        ]}));
        assert_eq!(prompt.last_user, "run it");
        assert_eq!(prompt.tool_result.as_deref(), Some("file.txt"));
    }
}
