//! What a person typed, found in the messages of a request.

use serde_json::Value;

/// OpenClaw appends context of its own as text of the user, between these.
const CONTEXT: (&str, &str) = (
    "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>",
    "<<<END_OPENCLAW_INTERNAL_CONTEXT>>>",
);

/// The last message of the user that is more than OpenClaw's context.
pub(super) fn last_user(messages: &[Value]) -> String {
    messages.iter().rev().find_map(typed).unwrap_or_default()
}

/// Whether a tool has answered since the user's last message.
pub(super) fn has_tool_result(messages: &[Value]) -> bool {
    messages
        .iter()
        .rev()
        .take_while(|message| typed(message).is_none())
        .any(|message| message["role"] == "tool")
}

/// What a tool has answered last since the user's last message.
pub(super) fn tool_result(messages: &[Value]) -> Option<String> {
    let mut turn = messages
        .iter()
        .rev()
        .take_while(|message| typed(message).is_none());
    let result = turn.find(|message| message["role"] == "tool")?;
    Some(text_of(&result["content"]))
}

/// `last_user` without the time stamp, the sender's block and the run-time line that OpenClaw puts
/// around what was typed, and without directives.
pub(super) fn bare(last_user: &str) -> String {
    let text = last_user
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

fn typed(message: &Value) -> Option<String> {
    let content = (message["role"] == "user").then(|| text_of(&message["content"]))?;
    let typed = without(&content, CONTEXT.0, CONTEXT.1);
    (!typed.trim().is_empty()).then_some(typed)
}

/// A content is a string or a list of parts.
fn text_of(content: &Value) -> String {
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
    use serde_json::json;

    use super::*;

    fn messages() -> Vec<Value> {
        vec![
            json!({"role": "user", "content": "first"}),
            json!({"role": "assistant", "content": "echo"}),
            json!({"role": "user", "content": [{"type": "text", "text": "second "}, {"type": "text", "text": "part"}]}),
            json!({"role": "user", "content": format!("{}[[in=9]]{}\n", CONTEXT.0, CONTEXT.1)}),
        ]
    }

    #[test]
    fn skips_the_context_that_openclaw_adds() {
        assert_eq!(last_user(&messages()), "second part");
    }

    #[test]
    fn sees_a_tool_result_only_of_the_current_turn() {
        let tool = json!({"role": "tool", "content": "file.txt"});
        let mut messages = messages();
        messages.insert(1, tool.clone());
        assert!(
            !has_tool_result(&messages),
            "that tool answered in the turn before"
        );
        assert_eq!(tool_result(&messages), None);
        messages.push(tool);
        assert!(has_tool_result(&messages));
        assert_eq!(tool_result(&messages).as_deref(), Some("file.txt"));
    }

    #[test]
    fn echoes_only_what_was_typed() {
        let sent = "[Sun 2026-11-22 14:09 UTC] hi [[in=3]]there\n\nRuntime: agent=x | repo=/y";
        assert_eq!(bare(sent), "hi there");
        let sent = "Conversation info: x\n```json\n{\"sender\": 1}\n```\n\nhi";
        assert_eq!(bare(sent), "hi");
        assert_eq!(bare("[1] is a footnote"), "[1] is a footnote");
    }
}
