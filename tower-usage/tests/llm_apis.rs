//! Metering every API: the same laws for each, over answers as the providers document them.
#![cfg(feature = "llm")]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may fail"
)]

use std::{
    convert::Infallible,
    future::{pending, ready},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full as FullBody};
use proptest::prelude::*;
use serde_json::Value;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_usage::{
    NanoUsd, Outcome, RecordId, Source, TokenCounts, UsageLayer, UsageRecord,
    llm::{Api, CallBody, ModelCall, ModelCallLayer, Refused},
};

mod support;
use support::{
    Kept, Play,
    apis::{CHAT, Case, MESSAGES, RESPONSES, STREAMING, call, stream_call},
    http::{answer, bytes, meter},
};

async fn whole_call(case: &Case, json: &str) -> UsageRecord {
    let sink = Kept::new();
    let play = Play::cut(json.as_bytes(), 50);
    let response = call(&sink, case, case.whole, answer("application/json", play)).await;
    assert_eq!(bytes(response).await, json);
    sink.only()
}

/// The part of a record that does not differ between two calls.
fn essence(mut record: UsageRecord) -> UsageRecord {
    record.id = RecordId::from_u128(0);
    record
}

#[tokio::test]
async fn whole_answers_are_metered() {
    for case in STREAMING {
        let record = whole_call(case, case.json).await;
        case.assert_told(&record);
        assert_eq!((record.outcome, record.metadata), (Outcome::Complete, None));
    }
}

#[tokio::test]
async fn embeddings_are_metered() {
    // OpenAI's API reference, "Create embeddings".
    let case = embeddings();
    let record = whole_call(&case, case.json).await;
    assert_eq!(
        (record.tokens.input, record.tokens.output),
        (Some(8), Some(0))
    );
    assert_eq!(
        (record.source, record.outcome),
        (Source::Exact, Outcome::Complete)
    );
    assert_eq!(record.cost, Some(NanoUsd::from_nanos(8_000)));
    let record = whole_call(
        &case,
        r#"{"object":"list","data":[{"embedding":[0.1]}],"model":"m"}"#,
    )
    .await;
    assert_eq!(record.source, Source::Estimated);
    assert_eq!(
        (record.tokens.input, record.tokens.output),
        (Some((case.whole.len() as u64).div_ceil(4)), Some(0)),
        "numbers are no text"
    );
    let record = whole_call(&case, "<html>").await;
    assert_eq!(record.tokens.output, Some(0), "embeddings generate nothing");
    let sink = Kept::new();
    let mut res = answer("application/json", Play::new(["opaque"]));
    res.headers_mut()
        .insert("content-encoding", HeaderValue::from_static("x"));
    bytes(call(&sink, &case, case.whole, res).await).await;
    assert_eq!(sink.only().tokens.output, Some(0));
}

fn embeddings() -> Case {
    Case {
        api: Api::Embeddings,
        path: "/v1/embeddings",
        whole: r#"{"model":"asked","input":"The food was delicious"}"#,
        json: r#"{"object":"list","data":[{"object":"embedding","embedding":[0.0023064255,-0.009327292],"index":0}],"model":"m","usage":{"prompt_tokens":8,"total_tokens":8}}"#,
        ..CHAT
    }
}

#[tokio::test]
async fn d6_57_any_cut_of_any_stream_gives_the_same_bytes_and_record() {
    for case in STREAMING {
        let text = case.stream();
        for text in [
            text.clone(),
            text.replace('\n', "\r\n"),
            text.replace('\n', "\r"),
            text.replace("\n\n", "\r\n\n"),
            format!("\u{feff}: wait\n\n{}", text.replace("data: ", "data:")),
            text.replace("}\n\n", "}\n: wait\nid: 7\nretry: 5\n\n"),
            text.replace(",\"", "\ndata: ,\ndata:\""),
            text.trim_end().to_owned(),
            format!("{}\n", text.trim_end()),
        ] {
            let mut expected = None;
            for size in (1..=text.len()).rev() {
                let (sink, response) = stream_call(case, Play::cut(text.as_bytes(), size)).await;
                assert_eq!(bytes(response).await, text, "every byte goes on as it came");
                let record = sink.only();
                if size == text.len() {
                    case.assert_told(&record);
                    assert_eq!(record.outcome, Outcome::Complete);
                }
                let record = essence(record);
                let expected = expected.get_or_insert_with(|| record.clone());
                assert_eq!(record, *expected, "{}, cut into {size}: {text:?}", case.api);
            }
        }
    }
}

proptest! {
    #[test]
    fn d6_57_any_split_of_any_stream_gives_the_same(
        which in 0..STREAMING.len(),
        ends in prop::collection::vec(prop_oneof![Just("\n"), Just("\r\n"), Just("\r")], 8),
        cuts in prop::collection::vec(0_usize..4_000, 0..20),
        left_out in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        knows_its_end: bool,
    ) {
        let case = STREAMING[which];
        let mut events = case.events.to_vec();
        for index in left_out {
            events.remove(index.index(events.len()));
        }
        let text: String = events
            .iter()
            .zip(ends.iter().cycle())
            .map(|(event, end)| format!("{event}\n\n").replace('\n', end))
            .collect();
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut % (text.len() + 1)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let frames = cuts.windows(2).map(|cut| Bytes::copy_from_slice(&text.as_bytes()[cut[0]..cut[1]]));
        let mut play = Play::new(frames);
        play.knows_its_end = knows_its_end;
        let run = |play| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let (sink, response) = stream_call(case, play).await;
                (bytes(response).await, essence(sink.only()))
            })
        };
        let (out, record) = run(play);
        prop_assert_eq!(&out, text.as_bytes());
        prop_assert_eq!(record, run(Play::new([text])).1);
    }
}

/// The JSON of a whole answer with another usage.
fn with_usage(case: &Case, usage: &str) -> String {
    let mut json: Value = serde_json::from_str(case.json).unwrap();
    json.as_object_mut().unwrap().remove("usage");
    let json = json.to_string();
    format!("{},\"usage\":{usage}}}", json.strip_suffix('}').unwrap())
}

#[tokio::test]
async fn d6_58_usage_that_is_missing_zero_partial_or_impossible() {
    for case in STREAMING {
        let (input, output) = match case.api {
            Api::ChatCompletions => ("prompt_tokens", "completion_tokens"),
            _ => ("input_tokens", "output_tokens"),
        };
        let prompt = (case.whole.len() as u64).div_ceil(4);
        // Eleven bytes of text.
        let text = 3;
        for (usage, tokens, source) in [
            ("null".to_owned(), (prompt, text), Source::Estimated),
            ("{}".to_owned(), (prompt, text), Source::Estimated),
            (
                format!(r#"{{"{input}":0,"{output}":0}}"#),
                (0, 0),
                Source::Exact,
            ),
            (format!(r#"{{"{input}":7}}"#), (7, text), Source::Estimated),
            (
                format!(r#"{{"{input}":null,"{output}":7}}"#),
                (prompt, 7),
                Source::Estimated,
            ),
            (
                format!(r#"{{"{input}":-1,"{output}":7}}"#),
                (prompt, 7),
                Source::Invalid,
            ),
            (
                format!(r#"{{"{input}":7,"{output}":"7"}}"#),
                (7, text),
                Source::Invalid,
            ),
            (
                format!(r#"{{"{input}":7,"{output}":1000000001}}"#),
                (7, text),
                Source::Invalid,
            ),
            (
                format!(r#"{{"{input}":1.5,"{output}":1e400}}"#),
                (prompt, text),
                Source::Invalid,
            ),
            (
                format!(r#"{{"{input}":1,"{input}":2,"{output}":1}}"#),
                (prompt, text),
                Source::Invalid,
            ),
            ("-5".to_owned(), (prompt, text), Source::Invalid),
            ("[1,2]".to_owned(), (prompt, text), Source::Invalid),
        ] {
            let record = whole_call(case, &with_usage(case, &usage)).await;
            let told = (record.tokens.input.unwrap(), record.tokens.output.unwrap());
            assert_eq!(told, tokens, "{}: {usage}", case.api);
            assert_eq!(record.source, source, "{}: {usage}", case.api);
            assert_eq!(record.outcome, Outcome::Complete);
        }
    }
}

#[tokio::test]
async fn d6_58_what_is_cached_is_not_estimated_once_more() {
    let usage = r#"{"cache_read_input_tokens":5,"output_tokens":1}"#;
    let record = whole_call(&MESSAGES, &with_usage(&MESSAGES, usage)).await;
    let prompt = (MESSAGES.whole.len() as u64).div_ceil(4);
    assert_eq!(record.tokens.input, Some(prompt - 5));
    assert_eq!(record.tokens.cache_read, Some(5));
}

#[tokio::test]
async fn d6_58_usage_told_in_parts_is_merged_and_told_again_replaces() {
    let again = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"input_tokens\":26,\"output_tokens\":17}}";
    let mut events = MESSAGES.events.to_vec();
    events.insert(7, again);
    let text = events.join("\n\n") + "\n\n";
    let (sink, response) = stream_call(&MESSAGES, Play::new([text])).await;
    bytes(response).await;
    let tokens = sink.only().tokens;
    assert_eq!((tokens.input, tokens.output), (Some(26), Some(17)));
    assert_eq!(
        (tokens.cache_read, tokens.cache_write),
        (Some(600), Some(200))
    );
}

/// What is expected of an answer that ended after so many events.
#[track_caller]
fn assert_partial(case: &Case, seen: usize, record: &UsageRecord) {
    let (begun, all) = case.texts;
    let text = match seen {
        _ if seen < begun => 0,
        _ if seen < all => 5_u64,
        _ => 11,
    };
    assert_eq!(
        record.tokens.output,
        Some(text.div_ceil(4)),
        "{} after {seen}",
        case.api
    );
    assert_eq!(record.source, Source::Estimated);
    let announced = case.api == Api::Messages && seen > 0;
    let prompt = (case.streamed.len() as u64).div_ceil(4);
    assert_eq!(
        record.tokens.input,
        Some(if announced { 25 } else { prompt })
    );
    let cached = (record.tokens.cache_read, record.tokens.cache_write);
    assert_eq!(
        cached,
        if announced {
            (Some(600), Some(200))
        } else {
            (None, None)
        }
    );
}

/// How many events must have been seen for usage to be exact, and for the stream to be at its end.
fn ends(case: &Case) -> (usize, usize) {
    let count = case.events.len();
    match case.api {
        Api::Responses => (count, count),
        _ => (count - 1, count),
    }
}

#[tokio::test]
async fn d6_59_a_client_that_leaves_at_any_event_is_recorded_once() {
    for case in STREAMING {
        let (exact, end) = ends(case);
        for stay in 0..=case.events.len() {
            let frames = case.events.iter().map(|event| format!("{event}\n\n"));
            let (sink, response) = stream_call(case, Play::new(frames).then_hang()).await;
            let mut body = response.into_body();
            for _ in 0..stay {
                body.frame().await.unwrap().unwrap();
            }
            assert!(
                sink.records().is_empty(),
                "it has not ended after {stay} events"
            );
            drop(body);
            let record = sink.only();
            if stay < exact {
                assert_partial(case, stay, &record);
            } else {
                case.assert_told(&record);
            }
            let (outcome, metadata) = match stay {
                _ if stay == end => (Outcome::Complete, None),
                _ => (Outcome::Aborted, Some(r#"{"left":true}"#)),
            };
            assert_eq!(record.outcome, outcome, "{} after {stay}", case.api);
            assert_eq!(record.metadata.as_deref(), metadata);
        }
    }
}

#[tokio::test]
async fn d6_59_a_provider_that_breaks_off_at_any_event_has_failed() {
    for case in STREAMING {
        let (exact, _) = ends(case);
        for count in 0..=case.events.len() {
            let frames = case.events[..count]
                .iter()
                .map(|event| format!("{event}\n\n"));
            let (sink, response) = stream_call(case, Play::new(frames).then_error()).await;
            assert!(response.into_body().collect().await.is_err());
            let record = sink.only();
            assert_eq!((record.outcome, &record.metadata), (Outcome::Failed, &None));
            if count < case.texts.0 {
                assert_eq!(record.cost, Some(NanoUsd::ZERO), "nothing was generated");
                assert_eq!(record.tokens, TokenCounts::default());
            } else if count < exact {
                assert_partial(case, count, &record);
            } else {
                case.assert_told(&record);
            }
        }
    }
}

#[tokio::test]
async fn d6_59_an_error_event_after_200_is_a_failure_billed_by_what_is_known() {
    for (case, error, name) in [
        (
            &CHAT,
            "data: {\"error\":{\"message\":\"m\",\"type\":\"server_error\",\"param\":null,\"code\":null}}",
            "server_error",
        ),
        (
            &RESPONSES,
            "event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"m\",\"param\":null}",
            "server_error",
        ),
        (
            &RESPONSES,
            "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"id\":\"resp_1\",\"model\":\"m\",\"status\":\"failed\",\"error\":{\"code\":\"rate_limit_exceeded\",\"message\":\"m\"},\"usage\":null}}",
            "rate_limit_exceeded",
        ),
        (
            &MESSAGES,
            "event: error\ndata: {\"type\": \"error\", \"error\": {\"type\": \"overloaded_error\", \"message\": \"Overloaded\"}}",
            "overloaded_error",
        ),
    ] {
        for count in 0..case.texts.1 + 1 {
            let mut text: String = case.events[..count]
                .iter()
                .flat_map(|event| [event, "\n\n"])
                .collect();
            text += error;
            text += "\n\n";
            let (sink, response) = stream_call(case, Play::cut(text.as_bytes(), 33)).await;
            assert_eq!(bytes(response).await, text);
            let record = sink.only();
            assert_eq!(record.outcome, Outcome::Failed);
            let metadata = format!(r#"{{"error":"{name}"}}"#);
            assert_eq!(record.metadata.as_deref(), Some(&*metadata));
            if count < case.texts.0 {
                assert_eq!(
                    (record.cost, record.tokens.total()),
                    (Some(NanoUsd::ZERO), 0)
                );
            } else {
                assert_partial(case, count, &record);
                assert!(record.cost.unwrap() > NanoUsd::ZERO);
            }
        }
    }
}

fn refusing(status: u16, play: Play) -> Response<Play> {
    let mut refusal = answer("application/json", play);
    *refusal.status_mut() = StatusCode::from_u16(status).unwrap();
    refusal
}

#[tokio::test]
async fn d6_59_a_refusal_is_free_and_noted_with_its_name() {
    let openai = r#"{"error":{"message":"no","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#;
    let anthropic = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}"#;
    for (case, status, body, metadata) in [
        (
            &CHAT,
            429,
            openai,
            r#"{"status":429,"error":"insufficient_quota"}"#,
        ),
        (
            &RESPONSES,
            400,
            openai,
            r#"{"status":400,"error":"insufficient_quota"}"#,
        ),
        (
            &MESSAGES,
            529,
            anthropic,
            r#"{"status":529,"error":"overloaded_error"}"#,
        ),
        (&CHAT, 502, "<html>error</html>", r#"{"status":502}"#),
        (
            &CHAT,
            500,
            r#"{"error":{"message":"what was asked","code":"what was asked"}}"#,
            r#"{"status":500}"#,
        ),
        (&MESSAGES, 302, "", r#"{"status":302}"#),
        (&CHAT, 400, r#"{"error":{"code":"x"#, r#"{"status":400}"#),
    ] {
        for size in [1, 20, 1_000] {
            for streamed in [case.whole, case.streamed] {
                let sink = Kept::new();
                let res = refusing(status, Play::cut(body.as_bytes(), size));
                let response = call(&sink, case, streamed, res).await;
                assert_eq!(response.status(), status);
                assert_eq!(bytes(response).await, body);
                let record = sink.only();
                assert_eq!(
                    (record.outcome, record.cost),
                    (Outcome::Failed, Some(NanoUsd::ZERO))
                );
                assert_eq!(
                    (record.tokens, record.source),
                    (TokenCounts::default(), Source::Exact)
                );
                assert_eq!(record.metadata.as_deref(), Some(metadata), "{body}");
            }
        }
    }
}

#[tokio::test]
async fn d6_58_the_tier_that_served_a_call_is_recorded_and_never_priced_silently() {
    // OpenAI's API reference, `service_tier` of the chat completion and the response object.
    let with = |text: &str, tier: &str| {
        let told = format!(r#""service_tier":{tier},"usage":{{"#);
        text.replace(r#""usage":{"#, &told)
    };
    let marked = |tier: &str| {
        Some(format!(
            r#"{{"tier_unpriced":true,"service_tier":"{tier}"}}"#
        ))
    };
    for (tier, metadata) in [
        (r#""default""#, None),
        (r#""auto""#, None),
        ("null", None),
        ("7", None),
        (r#""flex""#, marked("flex")),
        (r#""priority""#, marked("priority")),
        (r#""a\"b""#, marked("other")),
    ] {
        for case in [&CHAT, &RESPONSES] {
            let record = whole_call(case, &with(case.json, tier)).await;
            case.assert_told(&record);
            assert_eq!(record.metadata.as_deref(), metadata.as_deref(), "{tier}");
            let stream = with(&case.stream(), tier)
                .replace(r#""usage":null}"#, r#""service_tier":"auto","usage":null}"#);
            let (sink, response) = stream_call(case, Play::cut(stream.as_bytes(), 100)).await;
            assert_eq!(bytes(response).await, stream);
            let record = sink.only();
            case.assert_told(&record);
            assert_eq!(record.metadata.as_deref(), metadata.as_deref(), "{tier}");
        }
    }
}

#[tokio::test]
async fn d6_58_what_a_message_caches_for_an_hour_is_recorded_apart() {
    // Anthropic's documentation, "Prompt caching", "1-hour cache duration".
    let usage = r#"{"input_tokens":2048,"cache_read_input_tokens":1800,"cache_creation_input_tokens":248,"output_tokens":503,"cache_creation":{"ephemeral_5m_input_tokens":148,"ephemeral_1h_input_tokens":100}}"#;
    let record = whole_call(&MESSAGES, &with_usage(&MESSAGES, usage)).await;
    assert_eq!(
        (record.tokens.cache_write, record.tokens.cache_write_1h),
        (Some(248), Some(100))
    );
    assert_eq!(
        (record.tokens.total(), record.source),
        (4_599, Source::Exact)
    );
    assert_eq!(
        (record.cost, record.rate),
        (None, None),
        "`m` has no price for an hour"
    );
    assert_eq!(
        record.metadata.as_deref(),
        Some(r#"{"cache_write_1h_unpriced":true}"#)
    );
}

#[tokio::test]
async fn d6_59_of_a_refusal_that_is_answered_by_another_the_providers_own_is_noted() {
    let ours = r#"{"error":{"message":"Tell your administrator.","type":"gateway_error","code":"provider_refused"}}"#;
    let openai = r#"{"error":{"message":"Incorrect API key","type":"invalid_request_error","code":"invalid_api_key"}}"#;
    let anthropic = r#"{"type":"error","error":{"type":"permission_error","message":"no"}}"#;
    for (status, body, metadata) in [
        (401, openai, r#"{"status":401,"error":"invalid_api_key"}"#),
        (
            403,
            anthropic,
            r#"{"status":403,"error":"permission_error"}"#,
        ),
        (403, "<html>", r#"{"status":403}"#),
    ] {
        let sink = Kept::new();
        let mut res = refusing(502, Play::new([ours]));
        let refused = Refused::new(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        res.extensions_mut().insert(refused);
        let response = call(&sink, &CHAT, CHAT.whole, res).await;
        assert_eq!(response.status(), 502);
        assert!(response.extensions().get::<Refused>().is_none());
        assert_eq!(bytes(response).await, ours);
        let record = sink.only();
        assert_eq!(
            (record.outcome, record.cost),
            (Outcome::Failed, Some(NanoUsd::ZERO))
        );
        assert_eq!(record.metadata.as_deref(), Some(metadata));
    }
}

#[tokio::test]
async fn d6_59_a_refusal_goes_on_while_it_is_read() {
    let sink = Kept::new();
    let play = Play::new([r#"{"error":{"code":"#, r#""slow","#]).then_hang();
    let mut body = call(&sink, &CHAT, CHAT.whole, refusing(429, play))
        .await
        .into_body();
    for part in [r#"{"error":{"code":"#, r#""slow","#] {
        assert_eq!(
            body.frame().await.unwrap().unwrap().into_data().unwrap(),
            part
        );
    }
    assert!(sink.records().is_empty());
    drop(body);
    let record = sink.only();
    assert_eq!(record.outcome, Outcome::Failed, "whoever hears of it");
    assert_eq!(record.metadata.as_deref(), Some(r#"{"status":429}"#));
}

#[tokio::test]
async fn d6_59_of_a_long_refusal_the_first_64_kib_are_read() {
    for (padding, metadata) in [
        (60 << 10, r#"{"status":400,"error":"long"}"#),
        (64 << 10, r#"{"status":400}"#),
    ] {
        let text = format!(
            r#"{{"error":{{"code":"long","message":"{}"}}}}"#,
            "x".repeat(padding)
        );
        let sink = Kept::new();
        let res = refusing(400, Play::cut(text.as_bytes(), 1_000));
        assert_eq!(bytes(call(&sink, &CHAT, CHAT.whole, res).await).await, text);
        assert_eq!(sink.only().metadata.as_deref(), Some(metadata));
    }
}

#[tokio::test]
async fn d6_59_a_refusal_that_tells_usage_costs_it() {
    let sink = Kept::new();
    let body = r#"{"error":{"code":"content_filter"},"model":"m","usage":{"prompt_tokens":10,"completion_tokens":1}}"#;
    bytes(call(&sink, &CHAT, CHAT.whole, refusing(400, Play::new([body]))).await).await;
    let record = sink.only();
    assert_eq!(
        (record.outcome, record.source),
        (Outcome::Failed, Source::Exact)
    );
    assert_eq!(record.cost, Some(NanoUsd::from_nanos(12_000)));
}

#[tokio::test]
async fn d6_59_a_client_that_leaves_before_the_head_is_noted() {
    let sink = Kept::new();
    let provider =
        service_fn(|_: Request<CallBody>| pending::<Result<Response<Play>, Infallible>>());
    let service = ModelCallLayer::new().layer(UsageLayer::new(meter(sink.clone())).layer(provider));
    let request = MESSAGES.request(FullBody::new(Bytes::from_static(MESSAGES.whole.as_bytes())));
    let mut call = Box::pin(service.oneshot(request));
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(call.as_mut().poll(cx))).await;
    assert!(polled.is_pending());
    drop(call);
    let record = sink.only();
    assert_eq!(record.outcome, Outcome::Aborted);
    assert_eq!(record.metadata.as_deref(), Some(r#"{"left":true}"#));
}

#[tokio::test]
async fn d6_59_a_call_tried_again_between_the_layers_is_recorded_as_often() {
    let sink = Kept::new();
    let answers = [
        refusing(529, Play::new([""; 0]).knowing_its_end()),
        answer(
            "application/json",
            Play::new([MESSAGES.json]).knowing_its_end(),
        ),
    ];
    let answers = Arc::new(Mutex::new(answers.into_iter()));
    let provider = service_fn(move |_: Request<CallBody>| {
        ready(Ok::<_, Infallible>(answers.lock().unwrap().next().unwrap()))
    });
    let mut metered = UsageLayer::new(meter(sink.clone())).layer(provider);
    let first = Arc::new(Mutex::new(None));
    let id = Arc::clone(&first);
    let again = service_fn(move |req: Request<CallBody>| {
        *id.lock().unwrap() = Some(req.extensions().get::<ModelCall>().unwrap().id);
        let calls = [metered.call(req.clone()), metered.call(req)];
        async move {
            let [failed, answered] = calls;
            drop(failed.await.unwrap());
            answered.await
        }
    });
    let body = FullBody::new(Bytes::from_static(MESSAGES.whole.as_bytes()));
    let service = ModelCallLayer::new().layer(again);
    bytes(service.oneshot(MESSAGES.request(body)).await.unwrap()).await;
    let records = sink.records();
    assert_eq!(records.len(), 2);
    assert_eq!(Some(records[0].id), *first.lock().unwrap());
    assert_ne!(
        records[0].id, records[1].id,
        "a ledger would keep one of them"
    );
    MESSAGES.assert_told(&records[1]);
}

/// A body that must not be read.
struct Unread;

impl Body for Unread {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        panic!("it is read")
    }
}

#[tokio::test]
async fn refuses_by_the_head_alone_before_the_body_is_read() {
    for (path, header, status, openai, anthropic) in [
        (
            "/v1/chat/completions",
            ("content-length", "33554433"),
            413,
            Some("request_too_large"),
            None,
        ),
        (
            "/v1/messages",
            ("content-length", "33554433"),
            413,
            None,
            Some("request_too_large"),
        ),
        (
            "/v1/responses",
            ("content-encoding", "zstd"),
            415,
            Some("unsupported_content_encoding"),
            None,
        ),
        (
            "/v1/messages",
            ("content-encoding", "gzip"),
            415,
            None,
            Some("invalid_request_error"),
        ),
        (
            "/v1/completions",
            ("x", "y"),
            404,
            Some("unknown_url"),
            None,
        ),
        (
            "/v1/messages/count_tokens",
            ("x", "y"),
            404,
            Some("unknown_url"),
            None,
        ),
    ] {
        let inner = service_fn(|_: Request<CallBody>| async {
            panic!("a refused call must not go inward") as Result<Response<Play>, Infallible>
        });
        let mut request = Request::post(path).body(Unread).unwrap();
        request
            .headers_mut()
            .insert(header.0, HeaderValue::from_static(header.1));
        let response = ModelCallLayer::new()
            .layer(inner)
            .oneshot(request)
            .await
            .unwrap();
        assert_eq!(response.status(), status, "{path} {header:?}");
        let body: Value = serde_json::from_slice(&bytes(response).await).unwrap();
        assert_eq!(body["error"]["code"].as_str(), openai, "{path}");
        if anthropic.is_some() {
            assert_eq!(body["type"], "error");
            assert_eq!(body["error"]["type"].as_str(), anthropic);
        }
    }
}

#[tokio::test]
async fn refuses_in_anthropics_form_when_the_sink_is_full() {
    let sink = Kept::with_capacity(0);
    let response = call(
        &sink,
        &MESSAGES,
        MESSAGES.whole,
        Response::new(Play::default()),
    )
    .await;
    assert_eq!(response.status(), 529);
    assert_eq!(response.headers()["retry-after"], "5");
    let body: Value = serde_json::from_slice(&bytes(response).await).unwrap();
    assert_eq!(body["error"]["type"], "overloaded_error");
}

#[tokio::test]
async fn a_last_event_of_several_mebibytes_is_read() {
    // A response that drew a picture has it in its last event.
    let picture = "A".repeat(3 << 20);
    let text = RESPONSES.stream().replace(
        r#""output":[{"type":"message""#,
        &format!(r#""output":[{{"type":"image_generation_call","result":"{picture}"}},{{"type":"message""#),
    );
    assert!(text.len() > 3 << 20);
    let (sink, response) = stream_call(&RESPONSES, Play::cut(text.as_bytes(), 16_000)).await;
    assert_eq!(bytes(response).await, text);
    RESPONSES.assert_told(&sink.only());
}

#[tokio::test]
async fn without_the_layer_outside_the_path_tells_the_api() {
    let sink = Kept::new();
    let provider = service_fn(|_: Request<()>| {
        ready(Ok::<_, Infallible>(answer(
            "application/json",
            Play::new([MESSAGES.json]),
        )))
    });
    let service = UsageLayer::new(meter(sink.clone())).layer(provider);
    bytes(service.oneshot(MESSAGES.request(())).await.unwrap()).await;
    assert_eq!(sink.only().tokens.cache_write, Some(200));
}

#[cfg(feature = "tokio")]
mod drain {
    use std::time::Duration;

    use super::*;

    /// Opens a stream, reads its first frame and leaves.
    async fn leave_after_one(case: &Case, play: Play, bytes: usize) -> UsageRecord {
        let sink = Kept::new();
        let play = Arc::new(Mutex::new(Some(play)));
        let provider = service_fn(move |_: Request<CallBody>| {
            let play = play.lock().unwrap().take().unwrap();
            ready(Ok::<_, Infallible>(answer("text/event-stream", play)))
        });
        let meter = meter(sink.clone()).drain(Duration::from_secs(10), bytes);
        let service = ModelCallLayer::new().layer(UsageLayer::new(meter).layer(provider));
        let body = FullBody::new(Bytes::from_static(case.streamed.as_bytes()));
        let mut body = service
            .oneshot(case.request(body))
            .await
            .unwrap()
            .into_body();
        body.frame().await.unwrap().unwrap();
        assert!(sink.records().is_empty());
        drop(body);
        while sink.records().is_empty() {
            // Paused, the clock goes on when there is nothing else to do.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        sink.only()
    }

    fn frames(case: &Case, count: usize) -> Play {
        Play::new(
            case.events[..count]
                .iter()
                .map(|event| format!("{event}\n\n")),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn d6_59_the_rest_of_every_answer_is_read_on() {
        for case in STREAMING {
            let count = case.events.len();
            for play in [
                frames(case, count),
                frames(case, count).knowing_its_end(),
                frames(case, count).then_hang(),
            ] {
                let record = leave_after_one(case, play, 1 << 20).await;
                case.assert_told(&record);
                assert_eq!(record.outcome, Outcome::Aborted);
                let metadata = record.metadata.as_deref();
                assert_eq!(metadata, Some(r#"{"left":true,"drained":true}"#));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn d6_59_beyond_a_bound_it_is_estimated() {
        for case in STREAMING {
            let all = case.texts.1;
            let size: usize = case.events[1..all]
                .iter()
                .map(|event| event.len() + 2)
                .sum();
            for (play, bytes) in [
                (frames(case, case.events.len()), size),
                (frames(case, all).then_hang(), 1 << 20),
                (frames(case, all).then_error(), 1 << 20),
            ] {
                let record = leave_after_one(case, play, bytes).await;
                assert_partial(case, all, &record);
                assert_eq!(record.outcome, Outcome::Aborted);
                let metadata = record.metadata.as_deref();
                assert_eq!(metadata, Some(r#"{"left":true,"drained":false}"#));
            }
        }
    }
}
