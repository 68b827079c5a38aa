use std::{borrow::Cow, sync::Arc};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{error_name::ErrorName, service_tier::ServiceTier};
use crate::llm::name::name;

/// What a whole answer or one event of a stream says about itself, of whichever API.
///
/// Members are kept raw and read one by one, so that an odd one does not hide the others.
#[derive(Deserialize)]
pub(super) struct Answer<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    service_tier: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    choices: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

// === impl Answer ===

impl<'a> Answer<'a> {
    pub(super) fn read(json: &'a [u8]) -> Option<Self> {
        // Serde would take an array of the members' values for the object.
        if !json.trim_ascii_start().starts_with(b"{") {
            return None;
        }
        serde_json::from_slice(json).ok()
    }

    /// The `response` or `message` that an event is about.
    pub(super) fn about(&self) -> Option<Self> {
        let about = self.response.or(self.message)?;
        Self::read(about.get().as_bytes())
    }

    pub(super) fn kind(&self) -> Option<Cow<'a, str>> {
        text(self.kind)
    }

    pub(super) fn status(&self) -> Option<Cow<'a, str>> {
        text(self.status)
    }

    pub(super) fn id(&self) -> Option<Arc<str>> {
        name(&text(self.id)?)
    }

    pub(super) fn model(&self) -> Option<Arc<str>> {
        name(&text(self.model)?)
    }

    /// The tier that the call was served in, where it says one.
    pub(super) fn service_tier(&self) -> Option<ServiceTier> {
        Some(ServiceTier::new(&text(self.service_tier)?))
    }

    pub(super) const fn usage(&self) -> Option<&'a RawValue> {
        self.usage
    }

    pub(super) const fn is_error(&self) -> bool {
        self.error.is_some()
    }

    /// What the provider calls its error: the code, or else the type.
    pub(super) fn error_name(&self) -> Option<ErrorName> {
        let Some(error) = self.error else {
            return self.own_error_name();
        };
        match text(Some(error)) {
            Some(text) => ErrorName::new(&text),
            None => Self::read(error.get().as_bytes())?.own_error_name(),
        }
    }

    fn own_error_name(&self) -> Option<ErrorName> {
        let number = || ErrorName::new(self.code?.get());
        let kind = self.kind().filter(|kind| kind != "error");
        let named = [text(self.code), kind, self.status()];
        let mut named = named.into_iter().flatten();
        named.find_map(|name| ErrorName::new(&name)).or_else(number)
    }

    /// Whether this is the chunk that `include_usage` adds: usage and no choice.
    pub(super) fn is_lone_usage(&self) -> bool {
        let usage = self.usage.is_some_and(|usage| usage.get().starts_with('{'));
        let choices = self.choices.is_some_and(|choices| {
            let inner = choices
                .get()
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'));
            inner.is_none_or(|inner| !inner.trim().is_empty())
        });
        usage && !choices && !self.is_error()
    }
}

fn text(raw: Option<&RawValue>) -> Option<Cow<'_, str>> {
    /// Borrows where nothing is escaped.
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    let Text(text) = serde_json::from_str(raw?.get()).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(json: &str) -> Answer<'_> {
        Answer::read(json.as_bytes()).unwrap()
    }

    #[test]
    fn an_odd_member_does_not_hide_the_others() {
        let answer = answer(r#"{"id":7,"model":["x"],"choices":3,"usage":{"prompt_tokens":1}}"#);
        assert_eq!((answer.id(), answer.model()), (None, None));
        assert!(answer.usage().is_some());
    }

    #[test]
    fn names_an_error_as_its_provider_does() {
        for (json, name) in [
            (
                r#"{"error":{"message":"m","type":"requests","code":"rate_limit_exceeded"}}"#,
                Some("rate_limit_exceeded"),
            ),
            (
                r#"{"error":{"message":"m","type":"server_error","code":null}}"#,
                Some("server_error"),
            ),
            (
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                Some("overloaded_error"),
            ),
            (
                r#"{"type":"error","code":"ERR_X","message":"m","param":null}"#,
                Some("ERR_X"),
            ),
            (r#"{"error":{"message":"m","code":529}}"#, Some("529")),
            (
                r#"{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT"}}"#,
                Some("INVALID_ARGUMENT"),
            ),
            (r#"{"error":"invalid_api_key"}"#, Some("invalid_api_key")),
            (r#"{"error":"You sent: what a prompt!"}"#, None),
            (r#"{"error":{"code":"a b","type":"c\"d"}}"#, None),
            (r#"{"error":[]}"#, None),
            (r#"{"type":"error"}"#, None),
        ] {
            let found = answer(json).error_name().map(|name| name.to_string());
            assert_eq!(found.as_deref(), name, "{json}");
        }
        let long = format!(r#"{{"error":{{"code":"{}"}}}}"#, "x".repeat(65));
        assert_eq!(answer(&long).error_name(), None);
    }

    #[test]
    fn knows_the_chunk_that_only_tells_usage() {
        for (json, lone) in [
            (r#"{"choices":[],"usage":{"prompt_tokens":1}}"#, true),
            (r#"{"choices":[ ],"usage":{}}"#, true),
            (r#"{"usage":{"prompt_tokens":-1}}"#, true),
            (r#"{"choices":[],"usage":null}"#, false),
            (r#"{"choices":[],"prompt_filter_results":[]}"#, false),
            (
                r#"{"choices":[{"delta":{}}],"usage":{"prompt_tokens":1}}"#,
                false,
            ),
            (r#"{"choices":[],"usage":{},"error":{}}"#, false),
        ] {
            assert_eq!(answer(json).is_lone_usage(), lone, "{json}");
        }
    }
}
