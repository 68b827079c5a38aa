//! Slash commands in what people say over HTTP: OpenClaw may carry them out as those in a frame.

use serde_json::{Map, Value};

use super::refusal::Refusal;
use crate::protocol::slash;

/// Who says what an agent answers to; what it has said itself, and is told about itself, is no command.
const SAID: [&str; 3] = ["function", "tool", "user"];

/// Refuses a request of which something that is said has a command in it that nobody may use.
///
/// # Errors
///
/// The member with the command, and why not.
pub(super) fn check(members: &Map<String, Value>) -> Result<(), Refusal> {
    for name in ["messages", "input"] {
        match members.get(name) {
            Some(Value::String(text)) => check_text(text, || name.to_owned())?,
            Some(Value::Array(items)) => {
                for (at, item) in items.iter().enumerate() {
                    check_item(item, || format!("{name}[{at}]"))?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_item(item: &Value, path: impl Fn() -> String) -> Result<(), Refusal> {
    let role = item.get("role").and_then(Value::as_str);
    if role.is_some_and(|role| !SAID.contains(&role)) {
        return Ok(());
    }
    for name in ["content", "output"] {
        match item.get(name) {
            Some(Value::String(text)) => check_text(text, || format!("{}.{name}", path()))?,
            Some(Value::Array(parts)) => {
                for (at, part) in parts.iter().enumerate() {
                    let text = part.get("text").and_then(Value::as_str).unwrap_or_default();
                    check_text(text, || format!("{}.{name}[{at}].text", path()))?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_text(text: &str, path: impl FnOnce() -> String) -> Result<(), Refusal> {
    slash::check(text).map_err(|refused| {
        let mut refusal = Refusal::of_member(path(), "command_not_available", "");
        refusal.message = refused.to_string().into();
        refusal
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(body: Value) -> Option<String> {
        let Value::Object(members) = body else {
            panic!("an object")
        };
        check(&members).err().and_then(|refusal| refusal.param)
    }

    #[test]
    fn d3_39_a_command_is_refused_wherever_it_is_said() {
        let said =
            |role: &str, content: Value| json!({"messages": [{"role": role, "content": content}]});
        let parts = json!([{"type": "text", "text": "look"}, {"type": "text", "text": "/tts on"}]);
        for (body, param) in [
            (said("user", json!("/tts on")), "messages[0].content"),
            (said("user", parts), "messages[0].content[1].text"),
            (said("tool", json!(" /config show")), "messages[0].content"),
            (json!({"input": "/restart"}), "input"),
            (
                json!({"input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "/bash ls"}]}]}),
                "input[0].content[0].text",
            ),
            (
                json!({"input": [{"type": "function_call_output", "call_id": "c", "output": "/update"}]}),
                "input[0].output",
            ),
        ] {
            assert_eq!(refused(body).as_deref(), Some(param));
        }
        for body in [
            said("user", json!("what does /tts do?")),
            said("assistant", json!("/tts on")),
            said("system", json!("/tts on")),
            json!({"input": "/status"}),
        ] {
            assert_eq!(refused(body), None);
        }
    }
}
