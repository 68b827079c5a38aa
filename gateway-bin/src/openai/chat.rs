//! What of a chat completion goes on (OpenAI's API reference, "Create chat completion"; OpenClaw's documentation, "OpenAI
//! chat completions").

use serde_json::{Map, Value, json};

use super::call::conversation;
use super::members::{FUNCTIONS_ONLY, Members, NO_FETCHING, OF_A_FUNCTION, Rule, Rules, data_url};
use super::refusal::Refusal;

const ROOT: Rules = &[
    ("frequency_penalty", Rule::Pass),
    ("max_completion_tokens", Rule::Pass),
    ("max_tokens", Rule::Pass),
    ("presence_penalty", Rule::Pass),
    ("response_format", Rule::Pass),
    ("seed", Rule::Pass),
    ("stop", Rule::Pass),
    ("stream", Rule::Pass),
    ("temperature", Rule::Pass),
    ("tool_choice", Rule::Pass),
    ("top_p", Rule::Pass),
    ("logit_bias", Rule::Ignore),
    ("logprobs", Rule::Ignore),
    ("metadata", Rule::Ignore),
    ("modalities", Rule::Ignore),
    ("parallel_tool_calls", Rule::Ignore),
    ("prediction", Rule::Ignore),
    ("prompt_cache_key", Rule::Ignore),
    ("prompt_cache_retention", Rule::Ignore),
    ("reasoning_effort", Rule::Ignore),
    ("safety_identifier", Rule::Ignore),
    ("service_tier", Rule::Ignore),
    ("store", Rule::Ignore),
    ("top_logprobs", Rule::Ignore),
    ("verbosity", Rule::Ignore),
    ("audio", Rule::Refuse("an agent answers in text")),
    ("function_call", Rule::Refuse("use `tool_choice`")),
    ("functions", Rule::Refuse("use `tools`")),
    (
        "web_search_options",
        Rule::Refuse("the agent has tools of its own"),
    ),
];

const OF_STREAM_OPTIONS: Rules = &[
    ("include_usage", Rule::Pass),
    ("include_obfuscation", Rule::Ignore),
];

const OF_A_MESSAGE: Rules = &[
    ("annotations", Rule::Ignore),
    ("reasoning_content", Rule::Ignore),
    ("refusal", Rule::Ignore),
    ("audio", Rule::Refuse("send its text")),
    ("function_call", Rule::Refuse("use `tool_calls`")),
];

const OF_A_TOOL_CALL: Rules = &[("id", Rule::Pass), ("index", Rule::Ignore)];

const OF_A_CALLED_FUNCTION: Rules = &[("name", Rule::Pass), ("arguments", Rule::Pass)];

const OF_A_PART: Rules = &[("cache_control", Rule::Ignore)];

const OF_AN_IMAGE: Rules = &[("detail", Rule::Ignore)];

const ROLES: [&str; 6] = [
    "assistant",
    "developer",
    "function",
    "system",
    "tool",
    "user",
];

/// The members of a request that go on, written anew.
pub(super) fn rebuilt(members: Map<String, Value>) -> Result<Map<String, Value>, Refusal> {
    let mut root = Members::root(members);
    let mut rebuilt = Map::new();
    let messages = root.take_list("messages")?;
    let messages = messages.ok_or_else(|| root.missing("messages"))?;
    let messages = messages.into_iter().enumerate();
    let messages = messages.map(|(at, value)| message(format!("messages[{at}]"), value));
    rebuilt.insert("messages".to_owned(), messages.collect::<Result<_, _>>()?);
    if let Some(user) = root.take_text("user")? {
        rebuilt.insert("user".to_owned(), conversation(&user).into());
    }
    if let Some(options) = root.take("stream_options") {
        let options = Members::new("stream_options", options)?;
        let options = options.finish(OF_STREAM_OPTIONS, Map::new())?;
        rebuilt.insert("stream_options".to_owned(), options.into());
    }
    if let Some(tools) = root.take_list("tools")? {
        let tools = tools.into_iter().enumerate();
        let tools = tools.map(|(at, value)| tool(format!("tools[{at}]"), value));
        rebuilt.insert("tools".to_owned(), tools.collect::<Result<_, _>>()?);
    }
    if root.take("n").is_some_and(|n| n != 1) {
        return Err(root.wrong("n", "an agent answers once"));
    }
    root.finish(ROOT, rebuilt)
}

fn message(path: String, value: Value) -> Result<Value, Refusal> {
    let mut message = Members::new(path, value)?;
    let mut rebuilt = Map::new();
    let role = message.need_text("role")?;
    if !ROLES.contains(&&*role) {
        return Err(message.wrong("role", "there is no such role"));
    }
    rebuilt.insert("role".to_owned(), role.into());
    let path = message.path_of("content");
    let content = match message.take("content") {
        Some(Value::Array(parts)) => {
            let parts = parts.into_iter().enumerate();
            let parts =
                parts.filter_map(|(at, value)| part(format!("{path}[{at}]"), value).transpose());
            parts.collect::<Result<_, _>>()?
        }
        Some(text @ Value::String(_)) => text,
        None => Value::Null,
        Some(_) => return Err(message.wrong("content", "it must be a string or an array")),
    };
    rebuilt.insert("content".to_owned(), content);
    for name in ["name", "tool_call_id"] {
        if let Some(text) = message.take_text(name)? {
            rebuilt.insert(name.to_owned(), text.into());
        }
    }
    let path = message.path_of("tool_calls");
    if let Some(calls) = message.take_list("tool_calls")? {
        let calls = calls.into_iter().enumerate();
        let calls = calls.map(|(at, value)| tool_call(format!("{path}[{at}]"), value));
        rebuilt.insert("tool_calls".to_owned(), calls.collect::<Result<_, _>>()?);
    }
    message.finish(OF_A_MESSAGE, rebuilt).map(Value::Object)
}

/// A part of a message; `None`: it is nothing that anybody would read.
fn part(path: String, value: Value) -> Result<Option<Value>, Refusal> {
    let mut part = Members::new(path, value)?;
    let mut rebuilt = Map::new();
    match &*part.need_text("type")? {
        "text" | "input_text" => {
            rebuilt.insert("type".to_owned(), "text".into());
            rebuilt.insert("text".to_owned(), part.need_text("text")?.into());
        }
        "refusal" => {
            part.take("refusal");
            part.finish(OF_A_PART, rebuilt)?;
            return Ok(None);
        }
        "image_url" => {
            let path = part.path_of("image_url");
            let url = match part.take("image_url") {
                Some(Value::String(url)) => url,
                Some(image) => {
                    let mut image = Members::new(&*path, image)?;
                    let url = image.need_text("url")?;
                    image.finish(OF_AN_IMAGE, Map::new())?;
                    url
                }
                None => return Err(part.missing("image_url")),
            };
            let Some((kind, data)) = data_url(&url) else {
                return Err(Refusal::of_member(path, "unsupported_url", NO_FETCHING));
            };
            let url = format!("data:{kind};base64,{data}");
            rebuilt.insert("type".to_owned(), "image_url".into());
            rebuilt.insert("image_url".to_owned(), json!({ "url": url }));
        }
        _ => return Err(part.wrong("type", "send text, or images as `image_url`")),
    }
    part.finish(OF_A_PART, rebuilt).map(Value::Object).map(Some)
}

fn tool_call(path: String, value: Value) -> Result<Value, Refusal> {
    let mut call = Members::new(path, value)?;
    let mut rebuilt = Map::new();
    if call
        .take_text("type")?
        .is_some_and(|kind| kind != "function")
    {
        return Err(call.wrong("type", FUNCTIONS_ONLY));
    }
    rebuilt.insert("type".to_owned(), "function".into());
    let path = call.path_of("function");
    let function = call
        .take("function")
        .ok_or_else(|| call.missing("function"))?;
    let function = Members::new(path, function)?.finish(OF_A_CALLED_FUNCTION, Map::new())?;
    rebuilt.insert("function".to_owned(), function.into());
    call.finish(OF_A_TOOL_CALL, rebuilt).map(Value::Object)
}

fn tool(path: String, value: Value) -> Result<Value, Refusal> {
    let mut tool = Members::new(path, value)?;
    if tool.need_text("type")? != "function" {
        return Err(tool.wrong("type", FUNCTIONS_ONLY));
    }
    let path = tool.path_of("function");
    let function = tool
        .take("function")
        .ok_or_else(|| tool.missing("function"))?;
    let function = Members::new(path, function)?.finish(OF_A_FUNCTION, Map::new())?;
    tool.finish(&[], Map::new())?;
    Ok(json!({ "type": "function", "function": function }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: Value) -> Result<Value, Refusal> {
        let Value::Object(members) = body else {
            panic!("an object")
        };
        rebuilt(members).map(Value::Object)
    }

    fn with(name: &str, value: Value) -> Result<Value, Refusal> {
        let mut body = json!({"messages": [{"role": "user", "content": "m"}]});
        body[name] = value;
        of(body)
    }

    #[test]
    fn what_stock_clients_send_goes_on() {
        let body = json!({
            "messages": [
                {"role": "system", "content": [{"type": "text", "text": "s"}]},
                {"role": "user", "content": "m", "name": "n"},
                {"role": "assistant", "content": null, "refusal": null, "annotations": [],
                    "tool_calls": [{"id": "c", "index": 0, "type": "function", "function": {"name": "ls", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "c", "content": ""},
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk=", "detail": "low"}}]},
            ],
            "stream": true, "stream_options": {"include_usage": true}, "temperature": 0.5, "n": 1, "store": false,
            "user": "thread-1", "max_tokens": null, "tool_choice": "auto",
            "tools": [{"type": "function", "function": {"name": "ls", "parameters": {"properties": {"sessionKey": {}}}}}],
        });
        assert_eq!(
            of(body).unwrap(),
            json!({
                "messages": [
                    {"role": "system", "content": [{"type": "text", "text": "s"}]},
                    {"role": "user", "content": "m", "name": "n"},
                    {"role": "assistant", "content": null,
                        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "ls", "arguments": "{}"}}]},
                    {"role": "tool", "tool_call_id": "c", "content": ""},
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]},
                ],
                "stream": true, "stream_options": {"include_usage": true}, "temperature": 0.5, "user": "thread-1",
                "tool_choice": "auto",
                "tools": [{"type": "function", "function": {"name": "ls", "parameters": {"properties": {"sessionKey": {}}}}}],
            })
        );
    }

    #[test]
    fn d3_38_what_could_name_somebody_elses_is_refused_by_name() {
        for name in [
            "sessionKey",
            "session_key",
            "SessionKey",
            "session_id",
            "agentId",
            "agent",
            "conversation",
            "thread_id",
            "workspaceDir",
            "authProfileId",
            "previous_response_id",
            "extra_body",
            "functions",
        ] {
            let refusal = with(name, json!("agent:slot-001:main")).unwrap_err();
            assert_eq!(refusal.param.as_deref(), Some(name));
            assert_eq!(refusal.status, 400);
        }
        for (message, param) in [
            (
                json!({"role": "user", "content": "m", "sessionKey": "x"}),
                "messages[0].sessionKey",
            ),
            (json!({"role": "boss", "content": "m"}), "messages[0].role"),
            (
                json!({"role": "user", "content": {"text": "m"}}),
                "messages[0].content",
            ),
            (
                json!({"role": "user", "content": [{"type": "text", "text": "m", "agentId": "x"}]}),
                "messages[0].content[0].agentId",
            ),
            (json!("m"), "messages[0]"),
        ] {
            let refusal = of(json!({ "messages": [message] })).unwrap_err();
            assert_eq!(refusal.param.as_deref(), Some(param));
        }
    }

    #[test]
    fn d7_68_nothing_makes_the_instance_fetch() {
        for url in [
            "http://127.0.0.1/",
            "https://example.com/x.png",
            "file:///etc/passwd",
            "data:text",
        ] {
            for image in [json!({ "url": url }), json!(url)] {
                let part = json!({"type": "image_url", "image_url": image});
                // Not of the last message only: what reads the others may be changed.
                let messages =
                    json!([{"role": "user", "content": [part]}, {"role": "user", "content": "m"}]);
                let refusal = of(json!({ "messages": messages })).unwrap_err();
                assert_eq!(refusal.code, "unsupported_url", "{url}");
            }
        }
        for part in [
            json!({"type": "file", "file": {"file_id": "x"}}),
            json!({"type": "input_audio", "input_audio": {"data": "x"}}),
            json!({"type": "video_url", "video_url": {"url": "http://127.0.0.1/"}}),
            json!({"type": "text", "text": "m", "image_url": "http://127.0.0.1/"}),
        ] {
            assert!(
                of(json!({ "messages": [{"role": "user", "content": [part]}] })).is_err(),
                "{part}"
            );
        }
        let tool = json!([{"type": "mcp", "server_url": "http://127.0.0.1/"}]);
        assert!(with("tools", tool).is_err());
    }
}
