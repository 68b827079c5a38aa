//! OpenAI's embeddings.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    api::Head,
    directive::Plan,
    prompt::{Prompt, Turn},
};

/// How many numbers an embedding has, if nobody asks for another number of them.
const DIMENSIONS: u64 = 8;

/// The input is a text, a list of texts, or the same in tokens, which say nothing.
pub(super) fn prompt(body: &Value) -> Prompt {
    let texts: Vec<_> = inputs(body).iter().filter_map(Value::as_str).collect();
    Prompt::of([Turn::User(texts.join("\n"))])
}

pub(super) fn problem(body: &Value) -> Option<String> {
    let stray = ["stream", "stream_options"].into_iter();
    let mut stray = stray.filter(|name| !body[*name].is_null());
    let name = stray.next()?;
    Some(format!("Unrecognized request argument supplied: {name}"))
}

pub(super) fn whole(head: &Head, plan: &Plan, body: &Value) -> Value {
    let dimensions = body["dimensions"].as_u64().unwrap_or(DIMENSIONS);
    let encoded = body["encoding_format"] == "base64";
    let count = match inputs(body) {
        // One input in tokens.
        [Value::Number(_), ..] => 1,
        inputs => inputs.len(),
    };
    let embedding = |index: usize| {
        let numbers = (0..dimensions).map(|n| if n == index as u64 { 1.0 } else { 0.0_f32 });
        let embedding = if encoded {
            let bytes: Vec<_> = numbers.flat_map(f32::to_le_bytes).collect();
            json!(STANDARD.encode(bytes))
        } else {
            numbers.collect()
        };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    };
    let data: Vec<_> = (0..count).map(embedding).collect();
    let tokens = plan.prompt_tokens();
    json!({
        "object": "list",
        "data": data,
        "model": head.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })
}

fn inputs(body: &Value) -> &[Value] {
    match &body["input"] {
        Value::Array(inputs) => inputs,
        input => std::slice::from_ref(input),
    }
}
