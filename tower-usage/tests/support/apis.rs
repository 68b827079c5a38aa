//! The APIs as their providers document them, and calls of each.

use std::{
    convert::Infallible,
    future::ready,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{Layer, ServiceExt, service_fn};
use tower_usage::{
    Source, UsageLayer, UsageRecord,
    llm::{Api, CallBody, ModelCallLayer},
};

use super::{
    Kept, Play,
    http::{Metered, answer, meter},
};

/// One API as its provider documents it.
pub struct Case {
    pub api: Api,
    pub path: &'static str,
    pub whole: &'static str,
    pub streamed: &'static str,
    pub json: &'static str,
    /// Events, each without its empty line. The first two texts are `Hello` and ` world`.
    pub events: &'static [&'static str],
    /// How many events must have gone by for there to be text, and for there to be all of it.
    pub texts: (usize, usize),
    pub tokens: [Option<u64>; 5],
}

/// OpenAI's API reference, "The response object" and "Streaming events".
pub const RESPONSES: Case = Case {
    api: Api::Responses,
    path: "/v1/responses",
    whole: r#"{"model":"asked","input":"Hi"}"#,
    streamed: r#"{"model":"asked","stream":true,"input":"Hi"}"#,
    json: r#"{"id":"resp_1","object":"response","status":"completed","error":null,"incomplete_details":null,"instructions":null,"model":"m","output":[{"type":"message","id":"msg_1","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hello world","annotations":[]}]}],"usage":{"input_tokens":1000,"input_tokens_details":{"cached_tokens":600},"output_tokens":20,"output_tokens_details":{"reasoning_tokens":5},"total_tokens":1020},"metadata":{}}"#,
    events: &[
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"object\":\"response\",\"status\":\"in_progress\",\"error\":null,\"model\":\"m\",\"output\":[],\"usage\":null},\"sequence_number\":0}",
        "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":{\"id\":\"msg_1\",\"type\":\"message\",\"status\":\"in_progress\",\"role\":\"assistant\",\"content\":[]}}",
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"item_id\":\"msg_1\",\"output_index\":0,\"content_index\":0,\"delta\":\"Hello\",\"logprobs\":[],\"obfuscation\":\"abcdefgh\"}",
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"item_id\":\"msg_1\",\"output_index\":0,\"content_index\":0,\"delta\":\" world\"}",
        "event: response.output_text.done\ndata: {\"type\":\"response.output_text.done\",\"item_id\":\"msg_1\",\"output_index\":0,\"content_index\":0,\"text\":\"Hello world\"}",
        "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\",\"object\":\"response\",\"status\":\"completed\",\"error\":null,\"model\":\"m\",\"output\":[{\"type\":\"message\",\"content\":[{\"type\":\"output_text\",\"text\":\"Hello world\"}]}],\"usage\":{\"input_tokens\":1000,\"input_tokens_details\":{\"cached_tokens\":600},\"output_tokens\":20,\"output_tokens_details\":{\"reasoning_tokens\":5},\"total_tokens\":1020}},\"sequence_number\":9}",
    ],
    texts: (3, 4),
    tokens: [Some(400), Some(20), Some(600), None, Some(5)],
};

/// Anthropic's API reference, "Create a Message", and its documentation, "Streaming Messages".
pub const MESSAGES: Case = Case {
    api: Api::Messages,
    path: "/v1/messages",
    whole: r#"{"model":"asked","max_tokens":64,"messages":[]}"#,
    streamed: r#"{"model":"asked","max_tokens":64,"stream":true,"messages":[]}"#,
    json: r#"{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"Hello world"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":200,"cache_read_input_tokens":600,"cache_creation":{"ephemeral_5m_input_tokens":200,"ephemeral_1h_input_tokens":0},"output_tokens":15,"service_tier":"standard"}}"#,
    events: &[
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"model\":\"m\",\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":25,\"cache_creation_input_tokens\":200,\"cache_read_input_tokens\":600,\"output_tokens\":1}}}",
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}",
        "event: ping\ndata: {\"type\": \"ping\"}",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello\"}}",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" world\"}}",
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":15}}",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}",
    ],
    texts: (4, 5),
    tokens: [Some(25), Some(15), Some(600), Some(200), None],
};

/// OpenAI's API reference, "The chat completion object". Usage is not hidden: the client asks for it.
pub const CHAT: Case = Case {
    api: Api::ChatCompletions,
    path: "/v1/chat/completions",
    whole: r#"{"model":"asked","messages":[]}"#,
    streamed: r#"{"model":"asked","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#,
    json: r#"{"id":"chatcmpl-1","model":"m","choices":[{"message":{"role":"assistant","content":"Hello world"}}],"usage":{"prompt_tokens":1000,"completion_tokens":20,"prompt_tokens_details":{"cached_tokens":600},"completion_tokens_details":{"reasoning_tokens":5}}}"#,
    events: &[
        "data: {\"id\":\"chatcmpl-1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}",
        "data: {\"id\":\"chatcmpl-1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}],\"usage\":null}",
        "data: {\"id\":\"chatcmpl-1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" world\"}}],\"usage\":null}",
        "data: {\"id\":\"chatcmpl-1\",\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":1000,\"completion_tokens\":20,\"prompt_tokens_details\":{\"cached_tokens\":600},\"completion_tokens_details\":{\"reasoning_tokens\":5}}}",
        "data: [DONE]",
    ],
    texts: (2, 3),
    tokens: [Some(400), Some(20), Some(600), None, Some(5)],
};

pub const STREAMING: [&Case; 3] = [&CHAT, &RESPONSES, &MESSAGES];

impl Case {
    pub fn stream(&self) -> String {
        self.events
            .iter()
            .flat_map(|event| [event, "\n\n"])
            .collect()
    }

    pub fn request<B>(&self, body: B) -> Request<B> {
        let mut request = Request::post(self.path).body(body).unwrap();
        request.extensions_mut().insert::<Arc<str>>("alice".into());
        request
    }

    #[track_caller]
    pub fn assert_told(&self, record: &UsageRecord) {
        let tokens = &record.tokens;
        let told = [
            tokens.input,
            tokens.output,
            tokens.cache_read,
            tokens.cache_write,
            tokens.reasoning,
        ];
        assert_eq!(told, self.tokens, "{}", self.api);
        assert_eq!(record.source, Source::Exact);
        assert_eq!(
            record.model.as_deref(),
            Some("m"),
            "the model that answered"
        );
        assert_eq!(record.requested_model.as_deref(), Some("asked"));
        assert!(record.response_id.is_some());
        assert_eq!(record.rate.unwrap().cost(tokens), record.cost);
    }
}

/// Calls the stack with a provider that gives this answer.
pub async fn call(sink: &Arc<Kept>, case: &Case, body: &str, res: Response<Play>) -> Metered {
    let res = Arc::new(Mutex::new(Some(res)));
    let provider = service_fn(move |_: Request<CallBody>| {
        ready(Ok::<_, Infallible>(res.lock().unwrap().take().unwrap()))
    });
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    ModelCallLayer::new()
        .layer(UsageLayer::new(meter(sink.clone())).layer(provider))
        .oneshot(case.request(body))
        .await
        .unwrap()
}

pub async fn stream_call(case: &Case, play: Play) -> (Arc<Kept>, Metered) {
    let sink = Kept::new();
    let res = answer("text/event-stream; charset=utf-8", play);
    let response = call(&sink, case, case.streamed, res).await;
    (sink, response)
}
