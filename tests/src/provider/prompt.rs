//! What a person typed and what tools answered, found in the messages of a request.

use serde_json::Value;

/// OpenClaw appends context of its own as text of the user, between these.
const CONTEXT: (&str, &str) = (
    "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>",
    "<<<END_OPENCLAW_INTERNAL_CONTEXT>>>",
);

/// One message, by whatever API it came.
#[derive(Clone, Debug)]
pub(super) enum Turn {
    User(String),
    Tool(String),
    Other,
}

/// What a request is about.
#[derive(Clone, Debug, Default)]
pub(super) struct Prompt {
    /// The last message of the user that is more than OpenClaw's context.
    pub(super) last_user: String,
    /// What a tool has answered last since then.
    pub(super) tool_result: Option<String>,
    /// How many of them have answered since then.
    pub(super) tool_results: u64,
}

impl Prompt {
    /// Of messages, oldest first.
    pub(super) fn of(turns: impl IntoIterator<Item = Turn, IntoIter: DoubleEndedIterator>) -> Self {
        let mut prompt = Self::default();
        for turn in turns.into_iter().rev() {
            match turn {
                Turn::User(text) => {
                    let typed = without(&text, CONTEXT.0, CONTEXT.1);
                    if !typed.trim().is_empty() {
                        prompt.last_user = typed;
                        break;
                    }
                }
                Turn::Tool(answer) => {
                    prompt.tool_result.get_or_insert(answer);
                    prompt.tool_results += 1;
                }
                Turn::Other => {}
            }
        }
        prompt
    }

    /// What was typed, without the time stamp, the sender's block and the run-time line that OpenClaw puts around it, and
    /// without directives.
    pub(super) fn bare(&self) -> String {
        let text = self
            .last_user
            .split("\n\nRuntime: agent=")
            .next()
            .unwrap_or_default();
        let text = text.trim_start();
        let text = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((stamp, rest)) if stamp.contains(" 20") => rest,
            _ => text,
        };
        let text = text.trim_start();
        let text = match text
            .strip_prefix("Conversation info:")
            .and_then(|rest| rest.split_once('\n'))
        {
            Some((_, rest)) => after_fence(rest),
            None => text,
        };
        without(text, "[[", "]]").trim().to_owned()
    }
}

/// A content is a string or a list of parts.
pub(super) fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| part["text"].as_str())
            .collect(),
        _ => String::new(),
    }
}

/// What follows a fenced block that `text` begins with.
fn after_fence(text: &str) -> &str {
    match text
        .strip_prefix("```")
        .and_then(|rest| rest.split_once("\n```"))
    {
        Some((_, rest)) => rest,
        None => text,
    }
}

/// `text` without everything from a `begin` to the next `end`.
fn without(text: &str, begin: &str, end: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(begin) {
        let Some((_, after)) = after.split_once(end) else {
            break;
        };
        kept.push_str(before);
        rest = after;
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns() -> Vec<Turn> {
        vec![
            Turn::User("first".to_owned()),
            Turn::Other,
            Turn::User("second part".to_owned()),
            Turn::User(format!("{}[[in=9]]{}\n", CONTEXT.0, CONTEXT.1)),
        ]
    }

    #[test]
    fn skips_the_context_that_openclaw_adds() {
        assert_eq!(Prompt::of(turns()).last_user, "second part");
    }

    #[test]
    fn sees_a_tool_result_only_of_the_current_turn() {
        let tool = Turn::Tool("file.txt".to_owned());
        let mut turns = turns();
        turns.insert(1, tool.clone());
        let before = Prompt::of(turns.clone()).tool_result;
        assert_eq!(before, None, "that tool answered in the turn before");
        turns.push(tool);
        let now = Prompt::of(turns).tool_result;
        assert_eq!(now.as_deref(), Some("file.txt"));
    }

    #[test]
    fn echoes_only_what_was_typed() {
        let bare = |sent: &str| Prompt::of([Turn::User(sent.to_owned())]).bare();
        let sent = "[Sun 2026-11-22 14:09 UTC] hi [[in=3]]there\n\nRuntime: agent=x | repo=/y";
        assert_eq!(bare(sent), "hi there");
        let sent = "Conversation info: x\n```json\n{\"sender\": 1}\n```\n\nhi";
        assert_eq!(bare(sent), "hi");
        assert_eq!(bare("[1] is a footnote"), "[1] is a footnote");
    }
}
