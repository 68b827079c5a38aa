//! OpenAI's chat completion, whole and in chunks.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, stream};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    call::Entry,
    directive::{Plan, Reply},
};
use crate::clock::unix_millis;

/// What all parts of one answer repeat.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) id: String,
    pub(super) model: String,
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

/// The answer to a request with `stream`, as server-sent events.
///
/// The entry follows what has been handed over: a client that goes away drops the stream, and what
/// is written down then is what it is billed.
pub(super) fn streamed(
    head: &Head,
    plan: &Plan,
    include_usage: bool,
    entry: Entry,
) -> impl Stream<Item = Bytes> + Send + use<> {
    let delay = Duration::from_millis(plan.chunk_delay);
    let events = events(head, plan, include_usage);
    let total = events.len();
    stream::unfold((events, entry), move |(mut events, entry)| async move {
        let is_first = events.len() == total;
        let event = events.pop_front()?;
        if !is_first && !delay.is_zero() {
            sleep(delay).await;
        }
        entry.update(|call| {
            call.completion_tokens = event.billed;
            call.finished = events.is_empty();
        });
        Some((event.text, (events, entry)))
    })
}

/// One server-sent event, and the output tokens that are billed once it is out.
struct Event {
    text: Bytes,
    billed: u64,
}

fn events(head: &Head, plan: &Plan, include_usage: bool) -> VecDeque<Event> {
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
        Bytes::from(format!("data: {chunk}\n\n"))
    };
    let delta = |delta: Value, finish: Option<&str>| {
        chunk(
            json!([{"index": 0, "delta": delta, "finish_reason": finish}]),
            Value::Null,
        )
    };

    let mut events = VecDeque::new();
    let mut push = |text, billed| events.push_back(Event { text, billed });
    push(delta(json!({"role": "assistant", "content": ""}), None), 0);
    match &plan.reply {
        Reply::Text(text) => {
            let pieces: Vec<_> = text.split_inclusive(' ').collect();
            let count = pieces.len() as u64;
            for (piece, n) in pieces.into_iter().zip(1_u64..) {
                let billed = plan.output.saturating_mul(n) / count;
                push(delta(json!({"content": piece}), None), billed);
            }
        }
        Reply::Tool { .. } => {
            let mut call = tool_call(head, plan);
            call["index"] = json!(0);
            push(delta(json!({"tool_calls": [call]}), None), plan.output);
        }
    }
    push(delta(json!({}), Some(finish_reason(plan))), plan.output);
    if include_usage {
        push(chunk(json!([]), usage(plan)), plan.output);
    }
    push(Bytes::from_static(b"data: [DONE]\n\n"), plan.output);
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
        "prompt_tokens_details": {"cached_tokens": plan.cache_read},
        "completion_tokens_details": {"reasoning_tokens": 0},
    })
}
