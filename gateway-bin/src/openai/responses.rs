//! What of a response goes on (OpenAI's API reference, "Create a model response"; OpenClaw's documentation, "OpenResponses
//! API"). OpenClaw's schema is closed, and has its own form for images and files.

use serde_json::{Map, Value, json};

use super::call::conversation;
use super::members::{
    FUNCTIONS_ONLY, Members, NO_FETCHING, OF_A_FUNCTION, Rule, Rules, data_url, is_base64_text,
};
use super::refusal::Refusal;

const ROOT: Rules = &[
    ("instructions", Rule::Pass),
    ("max_output_tokens", Rule::Pass),
    ("stream", Rule::Pass),
    ("temperature", Rule::Pass),
    ("tool_choice", Rule::Pass),
    ("top_p", Rule::Pass),
    ("include", Rule::Ignore),
    ("max_tool_calls", Rule::Ignore),
    ("metadata", Rule::Ignore),
    ("parallel_tool_calls", Rule::Ignore),
    ("prompt_cache_key", Rule::Ignore),
    ("prompt_cache_retention", Rule::Ignore),
    ("reasoning", Rule::Ignore),
    ("safety_identifier", Rule::Ignore),
    ("service_tier", Rule::Ignore),
    ("store", Rule::Ignore),
    ("stream_options", Rule::Ignore),
    ("top_logprobs", Rule::Ignore),
    ("truncation", Rule::Ignore),
    (
        "conversation",
        Rule::Refuse("name it by `user`, or go on with `previous_response_id`"),
    ),
    ("prompt", Rule::Refuse("send its text as `instructions`")),
];

const OF_AN_ITEM: Rules = &[("id", Rule::Pass), ("status", Rule::Pass)];

const OF_A_MESSAGE: Rules = &[
    ("id", Rule::Pass),
    ("phase", Rule::Pass),
    ("status", Rule::Pass),
];

const OF_AN_OUTPUT: Rules = &[("id", Rule::Ignore), ("status", Rule::Ignore)];

const OF_A_TEXT: Rules = &[("annotations", Rule::Ignore), ("logprobs", Rule::Ignore)];

const OF_AN_IMAGE: Rules = &[
    ("detail", Rule::Ignore),
    ("file_id", Rule::Refuse(NO_FETCHING)),
];

const OF_A_FILE: Rules = &[
    ("detail", Rule::Ignore),
    ("file_id", Rule::Refuse(NO_FETCHING)),
    ("file_url", Rule::Refuse(NO_FETCHING)),
];

const OF_TEXT: Rules = &[("verbosity", Rule::Ignore)];

/// How OpenClaw names its responses, before a UUID.
const ID_PREFIX: &str = "resp_";

/// The members of a request that go on, written anew.
pub(super) fn rebuilt(members: Map<String, Value>) -> Result<Map<String, Value>, Refusal> {
    let mut root = Members::root(members);
    let mut rebuilt = Map::new();
    let input = match root.take("input") {
        Some(text @ Value::String(_)) => text,
        Some(Value::Array(items)) => {
            let items = items.into_iter().enumerate();
            let items =
                items.filter_map(|(at, value)| item(format!("input[{at}]"), value).transpose());
            items.collect::<Result<_, _>>()?
        }
        Some(_) => return Err(root.wrong("input", "it must be a string or an array")),
        None => return Err(root.missing("input")),
    };
    rebuilt.insert("input".to_owned(), input);
    if let Some(user) = root.take_text("user")? {
        rebuilt.insert("user".to_owned(), conversation(&user).into());
    }
    if let Some(id) = root.take_text("previous_response_id")? {
        // OpenClaw knows whose each is, and goes on with none but the caller's own.
        let uuid = id.strip_prefix(ID_PREFIX).unwrap_or_default();
        if uuid::Uuid::try_parse(uuid).is_err() {
            return Err(root.wrong("previous_response_id", "there is no such response of yours"));
        }
        rebuilt.insert("previous_response_id".to_owned(), id.into());
    }
    if let Some(tools) = root.take_list("tools")? {
        let tools = tools.into_iter().enumerate();
        let tools = tools.map(|(at, value)| tool(format!("tools[{at}]"), value));
        rebuilt.insert("tools".to_owned(), tools.collect::<Result<_, _>>()?);
    }
    if let Some(text) = root.take("text") {
        let mut text = Members::new("text", text)?;
        let format = text.take("format");
        if format.is_some_and(|format| format != json!({"type": "text"})) {
            return Err(text.wrong("format", "an agent answers in text"));
        }
        text.finish(OF_TEXT, Map::new())?;
    }
    if root.take("background").is_some_and(|value| value != false) {
        return Err(root.wrong("background", "wait for the answer, or stream it"));
    }
    root.finish(ROOT, rebuilt)
}

/// An item of the input; `None`: it is nothing that the agent would read.
fn item(path: String, value: Value) -> Result<Option<Value>, Refusal> {
    let mut item = Members::new(path, value)?;
    let mut rebuilt = Map::new();
    let kind = item
        .take_text("type")?
        .unwrap_or_else(|| "message".to_owned());
    let rules = match &*kind {
        "message" => {
            message(&mut item, &mut rebuilt)?;
            OF_A_MESSAGE
        }
        "function_call" => {
            for name in ["call_id", "name", "arguments"] {
                rebuilt.insert(name.to_owned(), item.need_text(name)?.into());
            }
            OF_AN_ITEM
        }
        "function_call_output" => {
            rebuilt.insert("call_id".to_owned(), item.need_text("call_id")?.into());
            let output = output(&mut item)?;
            rebuilt.insert("output".to_owned(), output.into());
            OF_AN_OUTPUT
        }
        // What was thought is the provider's, and nothing that OpenClaw sends on.
        "reasoning" => return Ok(None),
        "item_reference" => {
            let what_to_do = "send the item itself, or go on with `previous_response_id`";
            return Err(item.wrong("type", what_to_do));
        }
        _ => return Err(item.wrong("type", "send messages and calls of your own functions")),
    };
    rebuilt.insert("type".to_owned(), kind.into());
    item.finish(rules, rebuilt).map(Value::Object).map(Some)
}

fn message(item: &mut Members, rebuilt: &mut Map<String, Value>) -> Result<(), Refusal> {
    rebuilt.insert("role".to_owned(), item.need_text("role")?.into());
    let path = item.path_of("content");
    let content = match item.take("content") {
        Some(text @ Value::String(_)) => text,
        Some(Value::Array(parts)) => {
            let parts = parts.into_iter().enumerate();
            let parts =
                parts.filter_map(|(at, value)| part(format!("{path}[{at}]"), value).transpose());
            parts.collect::<Result<_, _>>()?
        }
        _ => return Err(item.wrong("content", "it must be a string or an array")),
    };
    rebuilt.insert("content".to_owned(), content);
    Ok(())
}

/// What a function has answered: text, whole or in parts.
fn output(item: &mut Members) -> Result<String, Refusal> {
    let path = item.path_of("output");
    match item.take("output") {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(parts)) => {
            let mut texts = Vec::new();
            for (at, value) in parts.into_iter().enumerate() {
                let mut part = Members::new(format!("{path}[{at}]"), value)?;
                if part.need_text("type")? != "input_text" {
                    return Err(part.wrong("type", "a function answers in text"));
                }
                texts.push(part.need_text("text")?);
                part.finish(OF_A_TEXT, Map::new())?;
            }
            Ok(texts.join("\n"))
        }
        _ => Err(item.wrong("output", "it must be a string or an array")),
    }
}

/// A part of a message; `None`: it is nothing that the agent would read.
fn part(path: String, value: Value) -> Result<Option<Value>, Refusal> {
    let mut part = Members::new(path, value)?;
    let mut rebuilt = Map::new();
    let kind = part.need_text("type")?;
    let rules = match &*kind {
        "input_text" | "output_text" => {
            rebuilt.insert("text".to_owned(), part.need_text("text")?.into());
            OF_A_TEXT
        }
        "refusal" => return Ok(None),
        "input_image" => {
            rebuilt.insert("source".to_owned(), source(&mut part, "image_url")?);
            OF_AN_IMAGE
        }
        "input_file" => {
            let name = part.take_text("filename")?;
            let mut source = source(&mut part, "file_data")?;
            if let (Some(name), Some(source)) = (name, source.as_object_mut()) {
                source.insert("filename".to_owned(), name.into());
            }
            rebuilt.insert("source".to_owned(), source);
            OF_A_FILE
        }
        _ => return Err(part.wrong("type", "send text, images or files")),
    };
    rebuilt.insert("type".to_owned(), kind.into());
    part.finish(rules, rebuilt).map(Value::Object).map(Some)
}

/// What an image or a file consists of, in OpenClaw's form: given in that, or as OpenAI's clients do.
fn source(part: &mut Members, name: &str) -> Result<Value, Refusal> {
    let path = part.path_of("source");
    if let Some(source) = part.take("source") {
        let mut source = Members::new(&*path, source)?;
        if source.need_text("type")? != "base64" {
            return Err(Refusal::of_member(path, "unsupported_url", NO_FETCHING));
        }
        let (kind, data) = (source.need_text("media_type")?, source.need_text("data")?);
        if !is_base64_text(&data) {
            return Err(source.wrong("data", "it must be base64"));
        }
        let mut rebuilt = Map::new();
        if let Some(name) = source.take_text("filename")? {
            rebuilt.insert("filename".to_owned(), name.into());
        }
        source.finish(&[], Map::new())?;
        rebuilt.extend([
            ("type".to_owned(), "base64".into()),
            ("media_type".to_owned(), kind.into()),
            ("data".to_owned(), data.into()),
        ]);
        return Ok(rebuilt.into());
    }
    let Some(url) = part.take_text(name)? else {
        let path = part.path_of(name);
        return Err(Refusal::of_member(path, "unsupported_url", NO_FETCHING));
    };
    match data_url(&url) {
        Some((kind, data)) => Ok(json!({"type": "base64", "media_type": kind, "data": data})),
        None => {
            let path = part.path_of(name);
            Err(Refusal::of_member(path, "unsupported_url", NO_FETCHING))
        }
    }
}

fn tool(path: String, value: Value) -> Result<Value, Refusal> {
    let mut tool = Members::new(path, value)?;
    if tool.need_text("type")? != "function" {
        return Err(tool.wrong("type", FUNCTIONS_ONLY));
    }
    let mut rebuilt = tool.finish(OF_A_FUNCTION, Map::new())?;
    rebuilt.insert("type".to_owned(), "function".into());
    Ok(rebuilt.into())
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

    #[test]
    fn what_stock_clients_send_goes_on_in_openclaws_form() {
        let id = format!("resp_{}", uuid::Uuid::new_v4());
        let body = json!({
            "input": [
                {"role": "user", "content": "m"},
                {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "phase": "final_answer",
                    "content": [{"type": "output_text", "text": "a", "annotations": []}]},
                {"type": "reasoning", "id": "rs_1", "summary": []},
                {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "ls", "arguments": "{}", "status": "completed"},
                {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "o"}]},
                {"role": "user", "content": [
                    {"type": "input_image", "image_url": "data:image/png;base64,aGk=", "detail": "auto"},
                    {"type": "input_file", "filename": "f.txt", "file_data": "data:text/plain;base64,aGk="},
                    {"type": "input_image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
                ]},
            ],
            "instructions": null, "store": true, "stream": true, "previous_response_id": id,
            "tools": [{"type": "function", "name": "ls", "strict": false, "parameters": {}}],
            "text": {"format": {"type": "text"}, "verbosity": "low"}, "background": false,
        });
        let file = json!({"type": "base64", "media_type": "text/plain", "data": "aGk=", "filename": "f.txt"});
        let image = json!({"type": "input_image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}});
        assert_eq!(
            of(body).unwrap(),
            json!({
                "input": [
                    {"type": "message", "role": "user", "content": "m"},
                    {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "phase": "final_answer",
                        "content": [{"type": "output_text", "text": "a"}]},
                    {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "ls", "arguments": "{}", "status": "completed"},
                    {"type": "function_call_output", "call_id": "c", "output": "o"},
                    {"type": "message", "role": "user", "content": [
                        image, {"type": "input_file", "source": file}, image,
                    ]},
                ],
                "stream": true, "previous_response_id": id,
                "tools": [{"type": "function", "name": "ls", "strict": false, "parameters": {}}],
            })
        );
    }

    #[test]
    fn d3_38_what_could_name_somebody_elses_is_refused_by_name() {
        for (name, value) in [
            ("conversation", json!("conv_1")),
            ("conversation", json!({"id": "conv_1"})),
            ("prompt", json!({"id": "pmpt_1"})),
            ("sessionKey", json!("agent:slot-001:main")),
            ("session_key", json!("agent:slot-001:main")),
            ("agent_id", json!("slot-001")),
            ("previous_response_id", json!("agent:slot-001:main")),
            ("previous_response_id", json!("resp_../x")),
            ("previous_response_id", json!(["resp_x"])),
            ("background", json!(true)),
        ] {
            let mut body = json!({"input": "m"});
            body[name] = value;
            let refusal = of(body).unwrap_err();
            assert_eq!(refusal.param.as_deref(), Some(name));
        }
        for (item, param) in [
            (
                json!({"type": "item_reference", "id": "msg_1"}),
                "input[0].type",
            ),
            (
                json!({"role": "user", "content": "m", "sessionKey": "x"}),
                "input[0].sessionKey",
            ),
        ] {
            let refusal = of(json!({ "input": [item] })).unwrap_err();
            assert_eq!(refusal.param.as_deref(), Some(param));
        }
    }

    #[test]
    fn d7_68_nothing_makes_the_instance_fetch() {
        let url = "http://169.254.169.254/latest";
        for part in [
            json!({"type": "input_image", "image_url": url}),
            json!({"type": "input_image", "file_id": "file-1"}),
            json!({"type": "input_image", "source": {"type": "url", "url": url}}),
            json!({"type": "input_image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk=", "url": url}}),
            json!({"type": "input_image", "image_url": "data:image/png;base64,aGk=", "file_id": "file-1"}),
            json!({"type": "input_file", "file_url": url}),
            json!({"type": "input_file", "file_data": url}),
            json!({"type": "input_file", "source": {"type": "url", "url": url}}),
            json!({"type": "input_file", "file_data": "data:text/plain;base64,aGk=", "file_url": url}),
        ] {
            let body = json!({"input": [{"role": "user", "content": [part]}]});
            assert!(of(body).is_err(), "{part}");
        }
        for tool in [
            json!({"type": "mcp", "server_url": url, "server_label": "x"}),
            json!({"type": "web_search"}),
            json!({"type": "file_search", "vector_store_ids": ["x"]}),
            json!({"type": "function", "name": "f", "server_url": url}),
        ] {
            assert!(
                of(json!({"input": "m", "tools": [tool]})).is_err(),
                "{tool}"
            );
        }
    }
}
