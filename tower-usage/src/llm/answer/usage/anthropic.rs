use serde::Deserialize;
use serde_json::value::RawValue;

use super::object;
use crate::llm::answer::{count::Count, reported::Reported};

/// `usage` of Anthropic's API reference ("Create a Message").
#[derive(Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow)]
    input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_creation_input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_read_input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    output_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_creation: Option<&'a RawValue>,
    #[serde(borrow)]
    iterations: Option<&'a RawValue>,
}

/// One sampling of several that make a message.
#[derive(Deserialize)]
struct Iteration<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_creation_input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_read_input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    output_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_creation: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct CacheCreation<'a> {
    #[serde(borrow)]
    ephemeral_5m_input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    ephemeral_1h_input_tokens: Option<&'a RawValue>,
}

// === impl Message ===

impl Message<'_> {
    /// The input excludes what was read from and written to the cache (Anthropic's documentation, "Prompt caching",
    /// "Tracking cache performance"); what was written is told apart by how long it stays ("1-hour cache duration").
    pub(super) fn into_reported(self) -> Reported {
        let total = Count::read(self.cache_creation_input_tokens);
        let (parts, cache_write_1h) = cache_creation(self.cache_creation);
        let (cache_write, contradicted) = match (total, parts) {
            (Count::Told(total), Count::Told(parts)) => {
                (Count::Told(total.max(parts)), total != parts)
            }
            (total, parts) => (total.or(parts), false),
        };
        let mut reported = Reported {
            input: Count::read(self.input_tokens),
            output: Count::read(self.output_tokens),
            cache_read: Count::read(self.cache_read_input_tokens),
            cache_write,
            cache_write_1h,
            reasoning: Count::Missing,
            contradicted,
        };
        for more in compactions(self.iterations) {
            let Reported {
                input,
                output,
                cache_read,
                cache_write,
                cache_write_1h,
                ..
            } = &mut reported;
            input.add(Count::read(more.input_tokens));
            output.add(Count::read(more.output_tokens));
            cache_read.add(Count::read(more.cache_read_input_tokens));
            cache_write.add(Count::read(more.cache_creation_input_tokens));
            let (_, more) = cache_creation(more.cache_creation);
            if more != Count::Missing {
                *cache_write_1h = cache_write_1h.or(Count::Told(0));
                cache_write_1h.add(more);
            }
        }
        reported.with_parts_within()
    }
}

// === impl Iteration ===

impl Iteration<'_> {
    fn is_compaction(&self) -> bool {
        self.kind
            .is_some_and(|kind| kind.get() == r#""compaction""#)
    }
}

/// Tokens written to the cache, for however long, and for an hour.
fn cache_creation(raw: Option<&RawValue>) -> (Count, Count) {
    let Some(raw) = raw else {
        return (Count::Missing, Count::Missing);
    };
    let Some(parts) = object::<CacheCreation<'_>>(raw) else {
        return (Count::Invalid, Count::Invalid);
    };
    let short = Count::read(parts.ephemeral_5m_input_tokens);
    let long = Count::read(parts.ephemeral_1h_input_tokens);
    let sum = match (short, long) {
        (Count::Told(short), Count::Told(long)) => Count::Told(short + long),
        (Count::Invalid, _) | (_, Count::Invalid) => Count::Invalid,
        (short, long) => short.or(long),
    };
    (sum, long)
}

/// The samplings that shortened the conversation, which the other counts leave out (Anthropic's documentation,
/// "Compaction", "Understanding usage").
fn compactions(raw: Option<&RawValue>) -> impl Iterator<Item = Iteration<'_>> {
    let iterations = raw.and_then(|raw| serde_json::from_str::<Vec<Iteration<'_>>>(raw.get()).ok());
    let iterations = iterations.into_iter().flatten();
    iterations.filter(Iteration::is_compaction)
}
