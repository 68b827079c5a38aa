use serde::Deserialize;
use serde_json::value::RawValue;

use super::object;
use crate::llm::answer::{count::Count, reported::Reported};

/// `usage` of OpenAI's API reference ("The chat completion object"), and of embeddings, which have the first and the
/// last of these.
#[derive(Deserialize)]
pub(super) struct Chat<'a> {
    #[serde(borrow)]
    prompt_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    total_tokens: Option<&'a RawValue>,
}

/// `usage` of OpenAI's API reference ("The response object").
#[derive(Deserialize)]
pub(super) struct Response<'a> {
    #[serde(borrow)]
    input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    output_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    input_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    output_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    total_tokens: Option<&'a RawValue>,
}

/// Of both.
#[derive(Deserialize)]
struct InputDetails<'a> {
    #[serde(borrow)]
    cached_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_write_tokens: Option<&'a RawValue>,
}

/// Of both.
#[derive(Deserialize)]
struct OutputDetails<'a> {
    #[serde(borrow)]
    reasoning_tokens: Option<&'a RawValue>,
}

/// Counts of OpenAI, whose prompt includes what is cached, and whose output includes what was thought.
struct Told {
    prompt: Count,
    output: Count,
    total: Count,
    cached: Count,
    written: Count,
    reasoning: Count,
}

// === impl Chat, Response ===

impl Chat<'_> {
    pub(super) fn into_reported(self) -> Reported {
        let (cached, written) = input_details(self.prompt_tokens_details);
        let told = Told {
            prompt: Count::read(self.prompt_tokens),
            output: Count::read(self.completion_tokens),
            total: Count::read(self.total_tokens),
            cached,
            written,
            reasoning: output_details(self.completion_tokens_details),
        };
        told.into_reported()
    }

    /// Some providers of embeddings tell the total alone.
    pub(super) fn into_embedded(self) -> Reported {
        let total = Count::read(self.total_tokens);
        let input = match (Count::read(self.prompt_tokens), total) {
            (Count::Told(prompt), Count::Told(total)) if prompt != total => Count::Invalid,
            (prompt, total) => prompt.or(total),
        };
        let output = match input {
            Count::Missing => Count::Missing,
            Count::Told(_) | Count::Invalid => Count::Told(0),
        };
        Reported {
            input,
            output,
            ..Reported::default()
        }
    }
}

impl Response<'_> {
    pub(super) fn into_reported(self) -> Reported {
        let (cached, written) = input_details(self.input_tokens_details);
        let told = Told {
            prompt: Count::read(self.input_tokens),
            output: Count::read(self.output_tokens),
            total: Count::read(self.total_tokens),
            cached,
            written,
            reasoning: output_details(self.output_tokens_details),
        };
        told.into_reported()
    }
}

// === impl Told ===

impl Told {
    fn into_reported(mut self) -> Reported {
        let contradicted = self.add_up() || self.total == Count::Invalid;
        let cached = self.cached.told().unwrap_or(0) + self.written.told().unwrap_or(0);
        let input = match self.prompt {
            Count::Told(prompt) => {
                let rest = prompt.checked_sub(cached);
                rest.map_or(Count::Invalid, Count::Told)
            }
            missing => missing,
        };
        if input == Count::Invalid && self.prompt != Count::Invalid {
            // More cached than prompted: neither can be believed.
            (self.cached, self.written) = (Count::Missing, Count::Missing);
        }
        if self.reasoning.told() > self.output.told() && self.output.told().is_some() {
            (self.output, self.reasoning) = (Count::Invalid, Count::Missing);
        }
        Reported {
            input,
            output: self.output,
            cache_read: self.cached,
            cache_write: self.written,
            // It tells of no such thing.
            cache_write_1h: Count::Missing,
            reasoning: self.reasoning,
            contradicted,
        }
    }

    /// Holds prompt and output against the total; true if the total is more than is explained.
    fn add_up(&mut self) -> bool {
        let (Count::Told(prompt), Count::Told(output), Count::Told(total)) =
            (self.prompt, self.output, self.total)
        else {
            return false;
        };
        let Some(beside) = total
            .checked_sub(prompt)
            .filter(|generated| *generated >= output)
        else {
            (self.prompt, self.output) = (Count::Invalid, Count::Invalid);
            return false;
        };
        // Some compatible providers leave what was thought out of the output, and put it into the total.
        self.output = Count::Told(beside);
        beside != output && self.reasoning != Count::Told(beside - output)
    }
}

/// Cached and written tokens of the prompt.
fn input_details(raw: Option<&RawValue>) -> (Count, Count) {
    let Some(raw) = raw else {
        return (Count::Missing, Count::Missing);
    };
    object(raw).map_or(
        (Count::Invalid, Count::Missing),
        |details: InputDetails<'_>| {
            (
                Count::read(details.cached_tokens),
                Count::read(details.cache_write_tokens),
            )
        },
    )
}

/// Thinking tokens of the output.
fn output_details(raw: Option<&RawValue>) -> Count {
    raw.map_or(Count::Missing, |raw| {
        object(raw).map_or(Count::Invalid, |details: OutputDetails<'_>| {
            Count::read(details.reasoning_tokens)
        })
    })
}
