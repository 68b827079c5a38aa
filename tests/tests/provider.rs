//! The provider of the kit, by all its APIs but chat completions, which `kit.rs` has.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use gateway_tests::{
    error::{Error, Result},
    http,
    provider::{Api, Provider},
};
use serde_json::{Value, json};

const KEY: &str = "sk-a";

/// All numbers there are; 90 tokens.
const NUMBERS: &str = "[[in=20]] [[cache_read=30]] [[cache_write=10]] [[out=30]] [[reasoning=8]]";

async fn openai(provider: &Provider, path: &str, body: &Value) -> Result<http::Response> {
    http::post(&format!("{}/v1/{path}", provider.url()), Some(KEY), body).await
}

async fn anthropic(
    provider: &Provider,
    headers: &[(&str, &str)],
    body: &Value,
) -> Result<http::Response> {
    let mut request = ::http::Request::post(format!("{}/v1/messages", provider.url()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    http::send(request, body.to_string()).await
}

fn message(text: &str) -> Value {
    json!({
        "model": "test-claude", "max_tokens": 100, "messages": [{"role": "user", "content": text}],
    })
}

/// Names and data of the events of a stream; the data repeat the name.
fn events(answer: &http::Response) -> Vec<(String, Value)> {
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    let text = answer.text();
    let events = text.split_terminator("\n\n").map(|event| {
        let (name, data) = event.split_once('\n').expect("a name and data");
        let name = name.strip_prefix("event: ").expect("a name");
        let data = data.strip_prefix("data: ").expect("data");
        let data: Value = serde_json::from_str(data).expect("JSON");
        assert_eq!(data.get("type").and_then(Value::as_str), Some(name));
        (name.to_owned(), data)
    });
    events.collect()
}

/// Names of events, without repetitions.
fn names(events: &[(String, Value)]) -> Vec<&str> {
    let mut names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
    names.dedup();
    names
}

fn joined(events: &[(String, Value)], pointer: &str) -> String {
    let texts = events.iter().filter_map(|(_, data)| data.pointer(pointer));
    texts.filter_map(Value::as_str).collect()
}

#[tokio::test]
async fn responses_whole_and_in_events_say_what_is_recorded() -> Result<()> {
    let provider = Provider::start([KEY]).await?;
    let mut ask = json!({"model": "test-small", "input": format!("[[words=3]] {NUMBERS}")});
    let whole = openai(&provider, "responses", &ask).await?;
    assert!(whole.header("x-request-id").is_some());
    let whole = whole.json()?;
    let usage = json!({
        "input_tokens": 60, "input_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 10},
        "output_tokens": 30, "output_tokens_details": {"reasoning_tokens": 8}, "total_tokens": 90,
    });
    assert_eq!(whole["usage"], usage);
    let text = &whole["output"][0]["content"][0]["text"];
    assert_eq!(text, "word1 word2 word3");

    ask["stream"] = json!(true);
    let events = events(&openai(&provider, "responses", &ask).await?);
    let expected = [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ];
    assert_eq!(names(&events), expected);
    assert_eq!(joined(&events, "/delta"), "word1 word2 word3");
    let numbers = events
        .iter()
        .map(|(_, data)| data["sequence_number"].as_u64());
    assert!(numbers.eq((0..events.len() as u64).map(Some)));
    let (_, last) = events.last().expect("events");
    assert_eq!(last["response"]["usage"], usage);

    let calls = provider.client().calls().await?;
    assert_eq!(last["response"]["id"], calls[1].id);
    for call in calls {
        let tokens = call.tokens();
        assert_eq!((call.api, call.finished), (Api::Responses, true));
        assert_eq!((tokens.input, tokens.output, tokens.reasoning), (20, 30, 8));
        assert_eq!((tokens.cache_read, tokens.cache_write), (30, 10));
    }
    assert_eq!(
        provider.client().tokens_about("words=3").await?.total(),
        180
    );
    Ok(())
}

#[tokio::test]
async fn responses_call_a_tool_once_in_a_turn() -> Result<()> {
    let provider = Provider::start([KEY]).await?;
    let user = json!({"role": "user", "content": r#"[[tool=ls {"path":"."}]] go"#});
    let ask = json!({"model": "test-small", "input": [user], "stream": true});
    let events = events(&openai(&provider, "responses", &ask).await?);
    assert_eq!(joined(&events, "/delta"), r#"{"path":"."}"#);
    let (_, last) = events.last().expect("events");
    let call = &last["response"]["output"][0];
    assert_eq!(
        (&call["type"], &call["name"]),
        (&json!("function_call"), &json!("ls"))
    );
    let result = json!({"type": "function_call_output", "call_id": call["call_id"], "output": "x"});
    let ask = json!({"model": "test-small", "input": [user, call, result]});
    let answer = openai(&provider, "responses", &ask).await?.json()?;
    assert_eq!(answer["output"][0]["content"][0]["text"], "echo: go");
    let calls = provider.client().calls().await?;
    assert_eq!(calls[1].tool_result.as_deref(), Some("x"));
    Ok(())
}

#[tokio::test]
async fn embeddings_are_one_for_each_input_and_have_no_output() -> Result<()> {
    let provider = Provider::start([KEY]).await?;
    let mut ask = json!({"model": "test-embedding", "input": ["a [[in=7]]", "b"], "dimensions": 2});
    let answer = openai(&provider, "embeddings", &ask).await?.json()?;
    assert_eq!(
        answer["usage"],
        json!({"prompt_tokens": 7, "total_tokens": 7})
    );
    assert_eq!(answer["data"][0]["embedding"], json!([1.0, 0.0]));
    assert_eq!(answer["data"][1]["embedding"], json!([0.0, 1.0]));
    ask["encoding_format"] = json!("base64");
    let answer = openai(&provider, "embeddings", &ask).await?.json()?;
    assert_eq!(answer["data"][1]["embedding"], "AAAAAAAAgD8=");
    let calls = provider.client().calls_about("a [[in=7]]\nb").await?;
    assert_eq!(calls.len(), 2);
    for call in calls {
        assert_eq!((call.prompt_tokens, call.completion_tokens), (7, 0));
        assert!(call.api == Api::Embeddings && call.finished && !call.stream);
    }
    Ok(())
}

#[tokio::test]
async fn messages_whole_and_in_events_say_what_is_recorded() -> Result<()> {
    let provider = Provider::start([KEY]).await?;
    let headers = [("x-api-key", KEY), ("anthropic-version", "2023-06-01")];
    let mut ask = message(&format!("[[words=3]] {NUMBERS}"));
    let whole = anthropic(&provider, &headers, &ask).await?;
    assert!(whole.header("request-id").is_some());
    let whole = whole.json()?;
    let usage = |usage: &Value| {
        let names = [
            "input",
            "cache_read_input",
            "cache_creation_input",
            "output",
        ];
        names.map(|name| usage[format!("{name}_tokens")].as_u64())
    };
    let all = [20, 30, 10, 30].map(Some);
    assert_eq!(usage(&whole["usage"]), all);
    let thinking = &whole["usage"]["output_tokens_details"]["thinking_tokens"];
    assert_eq!(thinking, 8);
    assert_eq!(whole["content"][0]["text"], "word1 word2 word3");

    ask["stream"] = json!(true);
    let events = events(&anthropic(&provider, &headers, &ask).await?);
    let expected = [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(names(&events), expected);
    assert_eq!(joined(&events, "/delta/text"), "word1 word2 word3");
    let first = usage(&events[0].1["message"]["usage"]);
    assert_eq!(first, [20, 30, 10, 1].map(Some));
    let (_, delta) = &events[events.len() - 2];
    assert_eq!(usage(&delta["usage"]), all, "cumulative");

    for call in provider.client().calls().await? {
        let tokens = call.tokens();
        assert_eq!((call.api, call.finished), (Api::Messages, true));
        assert_eq!((tokens.input, tokens.output), (20, 30));
        assert_eq!((tokens.cache_read, tokens.cache_write), (30, 10));
        assert_eq!((call.key.as_str(), call.prompt_tokens), (KEY, 60));
    }
    Ok(())
}

#[tokio::test]
async fn messages_use_a_tool() -> Result<()> {
    let provider = Provider::start([KEY]).await?;
    let headers = [("x-api-key", KEY), ("anthropic-version", "2023-06-01")];
    let mut ask = message(r#"[[tool=ls {"path":"."}]] go"#);
    ask["stream"] = json!(true);
    let events = events(&anthropic(&provider, &headers, &ask).await?);
    assert_eq!(joined(&events, "/delta/partial_json"), r#"{"path":"."}"#);
    assert_eq!(joined(&events, "/delta/stop_reason"), "tool_use");
    let mut block = events[1].1["content_block"].clone();
    assert_eq!(
        (&block["type"], &block["input"]),
        (&json!("tool_use"), &json!({}))
    );
    block["input"] = json!({"path": "."});
    let result = json!({"type": "tool_result", "tool_use_id": block["id"], "content": "x"});
    let messages = ask["messages"].as_array_mut().expect("messages");
    messages.push(json!({"role": "assistant", "content": [block]}));
    messages.push(json!({"role": "user", "content": [result]}));
    ask["stream"] = json!(false);
    let answer = anthropic(&provider, &headers, &ask).await?.json()?;
    assert_eq!(answer["content"][0]["text"], "echo: go");
    Ok(())
}

#[tokio::test]
async fn each_api_wants_its_key_in_its_own_header_and_refuses_in_its_own_form() -> Result<()> {
    let provider = Provider::start([KEY]).await?;
    let version = ("anthropic-version", "2023-06-01");
    let bearer = format!("Bearer {KEY}");
    let hi = message("hi");
    for (headers, ask, status, kind) in [
        (
            vec![version, ("authorization", bearer.as_str())],
            &hi,
            401,
            "authentication_error",
        ),
        (
            vec![version, ("x-api-key", "sk-b")],
            &hi,
            401,
            "authentication_error",
        ),
        (vec![("x-api-key", KEY)], &hi, 400, "invalid_request_error"),
        (
            vec![version, ("x-api-key", KEY)],
            &json!({"model": "m"}),
            400,
            "invalid_request_error",
        ),
        (
            vec![version, ("x-api-key", KEY)],
            &message("[[status=529]]"),
            529,
            "overloaded_error",
        ),
    ] {
        let refused = anthropic(&provider, &headers, ask).await?;
        let (got, body) = (refused.status, refused.json()?);
        assert_eq!((got.as_u16(), &body["type"]), (status, &json!("error")));
        assert_eq!(body["error"]["type"], kind);
    }
    let url = format!("{}/v1/responses", provider.url());
    let request = ::http::Request::post(url).header("x-api-key", KEY);
    let refused = http::send(request, json!({"model": "m", "input": "hi"}).to_string()).await?;
    assert_eq!(refused.status, 401);
    assert!(refused.json()?["error"]["message"].is_string());
    for call in provider.client().calls().await? {
        assert_eq!(call.tokens().total(), 0, "{call:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_call_fails_as_often_as_it_is_told_to() -> Result<()> {
    let provider = Provider::start([KEY]).await?;
    let ask = json!({"model": "test-small", "input": "[[status=500]] [[times=2]]"});
    for status in [500, 500, 200, 200] {
        let answer = openai(&provider, "responses", &ask).await?;
        assert_eq!(answer.status, status);
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_breaks_off_or_ends_in_an_error_as_often_as_it_is_told_to() -> Result<()> {
    let provider = Provider::start([KEY]).await?;
    let headers = [("x-api-key", KEY), ("anthropic-version", "2023-06-01")];
    let mut ask = message(&format!("{NUMBERS} [[words=3]] [[fault=4]] [[times=1]]"));
    ask["stream"] = json!(true);
    let broken = events(&anthropic(&provider, &headers, &ask).await?);
    let expected = [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "error",
    ];
    assert_eq!(names(&broken), expected);
    assert_eq!(broken[4].1["error"]["type"], "overloaded_error");
    let whole = events(&anthropic(&provider, &headers, &ask).await?);
    assert_eq!(names(&whole).last(), Some(&"message_stop"));

    let mut ask = json!({"model": "test-small", "input": "[[fault=2]]", "stream": true});
    let broken = events(&openai(&provider, "responses", &ask).await?);
    assert_eq!(
        names(&broken).last().zip(broken[2].1["code"].as_str()),
        Some((&"error", "server_error"))
    );
    ask["input"] = json!("[[cut=2]]");
    let cut = openai(&provider, "responses", &ask).await;
    assert!(matches!(cut, Err(Error::Connection { .. })), "{cut:?}");

    let text = "[[words=3]] [[out=30]] [[fault=2]]";
    let mut ask = json!({"model": "test-small", "messages": [{"role": "user", "content": text}]});
    ask["stream"] = json!(true);
    let broken = openai(&provider, "chat/completions", &ask).await?.text();
    let last = broken.trim_end().rsplit_once("\n\n").expect("events").1;
    assert!(
        last.starts_with(r#"data: {"error":{"#) && !broken.contains("[DONE]"),
        "{broken}"
    );

    let calls = provider.client().calls().await?;
    let ends: Vec<_> = calls.iter().map(|call| call.finished).collect();
    assert_eq!(ends, [false, true, false, false, false]);
    let billed: Vec<_> = calls.iter().map(|call| call.completion_tokens).collect();
    assert_eq!(billed, [10, 30, 0, 0, 10]);
    Ok(())
}

#[tokio::test]
async fn who_asks_for_usage_where_an_api_knows_no_such_question_is_refused() -> Result<()> {
    let provider = Provider::start([KEY]).await?;
    let headers = [("x-api-key", KEY), ("anthropic-version", "2023-06-01")];
    let options = json!({"include_usage": true});
    let mut ask = message("hi");
    ask["stream"] = json!(true);
    ask["stream_options"] = options.clone();
    let refused = anthropic(&provider, &headers, &ask).await?;
    assert_eq!(refused.status, 400);
    let refused = refused.json()?;
    let message = &refused["error"]["message"];
    assert_eq!(message, "stream_options: Extra inputs are not permitted");
    for (path, stream) in [
        ("responses", true),
        ("embeddings", false),
        ("chat/completions", false),
    ] {
        let ask = json!({"model": "m", "input": "hi", "stream": stream, "stream_options": options});
        let refused = openai(&provider, path, &ask).await?;
        assert_eq!(refused.status, 400, "{path}");
    }
    Ok(())
}
