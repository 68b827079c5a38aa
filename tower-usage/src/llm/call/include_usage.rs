use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::wire::present;
use crate::llm::refusal::Refusal;

/// `stream_options` of OpenAI's API reference ("Create chat completion").
#[derive(Deserialize)]
struct StreamOptions<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    include_usage: Option<&'a RawValue>,
}

/// The body that asks for usage, or `None` if it does so already.
pub(super) fn ask_for_usage(
    body: &Bytes,
    options: Option<&RawValue>,
) -> Result<Option<Bytes>, Refusal> {
    let Some(options) = options else {
        return insert(body, body, r#""stream_options":{"include_usage":true}"#).map(Some);
    };
    if options.get() == "null" {
        return replace(body, options, r#"{"include_usage":true}"#).map(Some);
    }
    if !options.get().starts_with('{') {
        return Err(Refusal::Malformed);
    }
    let parsed: StreamOptions<'_> =
        serde_json::from_str(options.get()).map_err(|_| Refusal::Malformed)?;
    match parsed.include_usage {
        None => insert(body, options.get().as_bytes(), r#""include_usage":true"#).map(Some),
        Some(value) if value.get() == "true" => Ok(None),
        Some(value) if matches!(value.get(), "false" | "null") => {
            replace(body, value, "true").map(Some)
        }
        Some(_) => Err(Refusal::Malformed),
    }
}

/// The body with a member put first in `object`, a part of it.
fn insert(body: &[u8], object: &[u8], member: &str) -> Result<Bytes, Refusal> {
    let open = object
        .iter()
        .position(|byte| *byte == b'{')
        .ok_or(Refusal::Malformed)?
        + 1;
    let rest = object.get(open..).unwrap_or_default().trim_ascii_start();
    let comma = if rest.starts_with(b"}") { "" } else { "," };
    splice(body, offset(body, object) + open, 0, &[member, comma])
}

/// The body with `value`, a part of it, replaced.
fn replace(body: &[u8], value: &RawValue, by: &str) -> Result<Bytes, Refusal> {
    let value = value.get().as_bytes();
    splice(body, offset(body, value), value.len(), &[by])
}

fn splice(body: &[u8], at: usize, skip: usize, insert: &[&str]) -> Result<Bytes, Refusal> {
    let (before, after) = body.split_at_checked(at).ok_or(Refusal::Malformed)?;
    let after = after.get(skip..).ok_or(Refusal::Malformed)?;
    let insert = insert.concat();
    Ok([before, insert.as_bytes(), after].concat().into())
}

/// Where `part` begins in `whole`, of which it is a slice.
fn offset(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr())
}
