//! Reading an object member by member.

use serde_json::{Map, Value};

use super::refusal::Refusal;

/// What becomes of a member. Complete: what is in no list is refused.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// Goes on as it is.
    Pass,
    /// Means nothing to OpenClaw, or nothing that anybody misses.
    Ignore,
    /// Is refused with what to do instead.
    Refuse(&'static str),
}

pub(super) type Rules = &'static [(&'static str, Rule)];

/// What names a conversation, in the words of those who have tried.
const OF_A_SESSION: &str = "a conversation is named by `user`, and is one of your own agent's";

/// An object of a request, of which what is known is taken out until nothing is left.
pub(super) struct Members {
    path: String,
    left: Map<String, Value>,
}

// === impl Members ===

impl Members {
    pub(super) fn new(path: impl Into<String>, value: Value) -> Result<Self, Refusal> {
        let path = path.into();
        match value {
            Value::Object(left) => Ok(Self { path, left }),
            _ => Err(Refusal::of_member(
                path,
                "invalid_type",
                "it must be an object",
            )),
        }
    }

    pub(super) const fn root(left: Map<String, Value>) -> Self {
        Self {
            path: String::new(),
            left,
        }
    }

    pub(super) fn path_of(&self, name: &str) -> String {
        match self.path.is_empty() {
            true => name.to_owned(),
            false => format!("{}.{name}", self.path),
        }
    }

    /// A member; `null` is as good as none.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name).filter(|value| !value.is_null())
    }

    pub(super) fn take_text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "it must be a string")),
        }
    }

    pub(super) fn need_text(&mut self, name: &str) -> Result<String, Refusal> {
        let text = self.take_text(name)?;
        text.ok_or_else(|| self.missing(name))
    }

    pub(super) fn take_list(&mut self, name: &str) -> Result<Option<Vec<Value>>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(self.wrong(name, "it must be an array")),
        }
    }

    pub(super) fn wrong(&self, name: &str, what_to_do: &str) -> Refusal {
        Refusal::of_member(self.path_of(name), "invalid_value", what_to_do)
    }

    pub(super) fn missing(&self, name: &str) -> Refusal {
        let mut refusal = Refusal::of_member(self.path_of(name), "missing_required_parameter", "");
        refusal.message = format!("`{}` is missing.", self.path_of(name)).into();
        refusal
    }

    /// Puts into `rebuilt` what passes of the rest, and refuses what is not known.
    pub(super) fn finish(
        self,
        rules: Rules,
        mut rebuilt: Map<String, Value>,
    ) -> Result<Map<String, Value>, Refusal> {
        let Self { path, left } = self;
        for (name, value) in left {
            let rule = rules.iter().find(|(known, _)| *known == name);
            match rule.map(|(_, rule)| *rule) {
                Some(Rule::Pass) if !value.is_null() => drop(rebuilt.insert(name, value)),
                Some(Rule::Pass | Rule::Ignore) => {}
                Some(Rule::Refuse(what_to_do)) => {
                    let path = joined(&path, &name);
                    return Err(Refusal::of_member(
                        path,
                        "unsupported_parameter",
                        what_to_do,
                    ));
                }
                None => {
                    let path = joined(&path, &name);
                    let what_to_do = match is_of_a_session(&name) {
                        true => OF_A_SESSION,
                        false => "leave it out",
                    };
                    return Err(Refusal::of_member(path, "unknown_parameter", what_to_do));
                }
            }
        }
        Ok(rebuilt)
    }
}

fn joined(path: &str, name: &str) -> String {
    // A name of the client's own making is not repeated to the end.
    let name: String = name.chars().take(64).collect();
    match path.is_empty() {
        true => name,
        false => format!("{path}.{name}"),
    }
}

fn is_of_a_session(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["session", "agent", "conversation", "thread"]
        .iter()
        .any(|word| name.contains(word))
}

/// `data:<type>[;…];base64,<data>`: its type and its data. Anything else that is called a URL would have to be fetched.
pub(super) fn data_url(url: &str) -> Option<(String, &str)> {
    let (scheme, rest) = url.split_once(':')?;
    if !scheme.eq_ignore_ascii_case("data") {
        return None;
    }
    let (head, data) = rest.split_once(',')?;
    let mut parts = head.split(';');
    let kind = parts.next()?.to_ascii_lowercase();
    let is_type = kind.split_once('/').is_some_and(|(group, of)| {
        let is_word = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-+.".contains(&byte))
        };
        is_word(group) && is_word(of)
    });
    let is_base64 = parts.any(|part| part.eq_ignore_ascii_case("base64"));
    (is_type && is_base64 && is_base64_text(data)).then_some((kind, data))
}

pub(super) fn is_base64_text(data: &str) -> bool {
    let is_digit = |byte: u8| {
        byte.is_ascii_alphanumeric() || b"+/=-_".contains(&byte) || byte.is_ascii_whitespace()
    };
    !data.is_empty() && data.bytes().all(is_digit)
}

/// A tool of the client's own, of whose definition both APIs have the same members.
pub(super) const OF_A_FUNCTION: Rules = &[
    ("name", Rule::Pass),
    ("description", Rule::Pass),
    ("parameters", Rule::Pass),
    ("strict", Rule::Pass),
];

/// What to do where something would have to be fetched.
pub(super) const NO_FETCHING: &str =
    "nothing is fetched for you here; send the content itself as a `data:` URL in base64";

/// What to do where only a function is a tool.
pub(super) const FUNCTIONS_ONLY: &str =
    "only tools of type `function`, which you run yourself, can be given to the agent";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_there_in_whole_is_a_data_url() {
        for (url, kind) in [
            ("data:image/png;base64,aGk=", "image/png"),
            ("DATA:Image/PNG;name=x;BASE64,aGk=", "image/png"),
        ] {
            assert_eq!(data_url(url), Some((kind.to_owned(), "aGk=")), "{url}");
        }
        for other in [
            "http://127.0.0.1/x.png",
            "https://example.com/data:image/png;base64,aGk=",
            "file:///etc/passwd",
            " data:image/png;base64,aGk=",
            "data:image/png,aGk=",
            "data:;base64,aGk=",
            "data:image/png;base64,",
            "data:image/png;base64,http://127.0.0.1/",
            "data:image/png;base64",
            "//example.com/x.png",
            "",
        ] {
            assert_eq!(data_url(other), None, "{other}");
        }
    }
}
