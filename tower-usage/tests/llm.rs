//! Metering chat completions over HTTP: [`ModelCallLayer`] outside, [`ModelMeter`] inside, a scripted provider.
#![cfg(feature = "llm")]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may fail"
)]

use std::{
    convert::Infallible,
    future::{Ready, pending, ready},
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::SystemTime,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full as FullBody};
use proptest::prelude::*;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_usage::{
    NanoUsd, Outcome, ResponseBody, Source, UsageLayer, UsageRecord,
    llm::{CallBody, ModelCall, ModelCallLayer, ModelCallService},
};

mod support;
use support::{
    Kept, Play,
    http::{Metered, answer, bytes, meter, post},
    time,
};

const STREAMED: &str = r#"{"model":"asked","stream":true,"messages":[]}"#;
const WITH_USAGE: &str =
    r#"{"model":"asked","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;
const WHOLE: &str = r#"{"model":"asked","messages":[]}"#;
const USAGE_CHUNK: &str = "data: {\"id\":\"chatcmpl-1\",\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":1000,\"completion_tokens\":20,\"prompt_tokens_details\":{\"cached_tokens\":600},\"completion_tokens_details\":{\"reasoning_tokens\":5}}}\n\n";

fn delta(text: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-1\",\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}],\"usage\":null}}\n\n"
    )
}

/// A stream of two deltas, with or without its usage chunk.
fn stream(usage: bool) -> String {
    let usage = if usage { USAGE_CHUNK } else { "" };
    format!(
        "{}{}{usage}data: [DONE]\n\n",
        delta("Hello"),
        delta(" world")
    )
}

fn request(body: &str) -> Request<FullBody<Bytes>> {
    let mut request = post(FullBody::new(Bytes::copy_from_slice(body.as_bytes())));
    request.extensions_mut().insert::<Arc<str>>("alice".into());
    request
}

/// Calls the stack with a provider that gives this answer.
async fn call(sink: &Arc<Kept>, body: &str, res: Response<Play>) -> Metered {
    let res = Arc::new(Mutex::new(Some(res)));
    let provider = service_fn(move |_: Request<CallBody>| {
        ready(Ok::<_, Infallible>(res.lock().unwrap().take().unwrap()))
    });
    let metered = UsageLayer::new(meter(sink.clone())).layer(provider);
    ModelCallLayer::new()
        .layer(metered)
        .oneshot(request(body))
        .await
        .unwrap()
}

async fn stream_call(sink: &Arc<Kept>, body: &str, play: Play) -> Metered {
    call(sink, body, answer("text/event-stream; charset=utf-8", play)).await
}

/// The part of a record that does not differ between two calls.
fn essence(record: &UsageRecord) -> UsageRecord {
    let mut record = record.clone();
    record.id = tower_usage::RecordId::from_u128(0);
    record
}

#[track_caller]
fn assert_is_the_told_usage(record: &UsageRecord) {
    assert_eq!(record.tokens.input, Some(400));
    assert_eq!(record.tokens.cache_read, Some(600));
    assert_eq!(record.tokens.output, Some(20));
    assert_eq!(record.tokens.reasoning, Some(5));
    // 400 at 1.00, 600 at 0.50, 20 at 2.00 dollars a million.
    assert_eq!(record.cost, Some(NanoUsd::from_nanos(740_000)));
    assert_eq!(record.source, Source::Exact);
}

#[tokio::test]
async fn records_a_whole_answer() {
    let sink = Kept::new();
    let json = r#"{"id":"chatcmpl-1","model":"m","choices":[{"message":{"content":"Hello"}}],"usage":{"prompt_tokens":1000,"completion_tokens":20,"prompt_tokens_details":{"cached_tokens":600},"completion_tokens_details":{"reasoning_tokens":5}}}"#;
    for size in [1, 7, json.len()] {
        let sink = Kept::new();
        let response = call(
            &sink,
            WHOLE,
            answer("application/json", Play::cut(json.as_bytes(), size)),
        )
        .await;
        assert_eq!(bytes(response).await, json);
        assert_is_the_told_usage(&sink.only());
    }
    let response = call(&sink, WHOLE, answer("application/json", Play::new([json]))).await;
    bytes(response).await;
    let record = sink.only();
    assert_eq!(&*record.subject, "alice");
    assert_eq!(record.provider.as_deref(), Some("acme"));
    assert_eq!(record.response_id.as_deref(), Some("chatcmpl-1"));
    assert_eq!(record.settle_ref.as_deref(), Some("ticket"));
    assert_eq!(
        (record.admitted_at, record.ended_at),
        (time(100), time(200))
    );
    assert_eq!(record.outcome, Outcome::Complete);
    assert_eq!(record.calls, 0);
}

#[tokio::test]
async fn d6_61_bills_the_model_that_answered() {
    let sink = Kept::new();
    bytes(stream_call(&sink, STREAMED, Play::new([stream(true)])).await).await;
    let record = sink.only();
    assert_eq!(record.model.as_deref(), Some("m"));
    assert_eq!(record.requested_model.as_deref(), Some("asked"));
    assert_eq!(
        record.cost,
        Some(NanoUsd::from_nanos(740_000)),
        "at the price of m, `asked` has none"
    );
}

#[tokio::test]
async fn a_model_without_a_price_is_recorded_unpriced() {
    let sink = Kept::new();
    let json = r#"{"model":"m-mini","usage":{"prompt_tokens":10,"completion_tokens":20}}"#;
    bytes(call(&sink, WHOLE, answer("application/json", Play::new([json]))).await).await;
    let record = sink.only();
    assert_eq!(record.cost, None);
    assert_eq!(record.tokens.total(), 30);
}

#[tokio::test]
async fn d6_57_any_cut_gives_the_same_bytes_and_record() {
    let streams = [
        stream(true),
        stream(true).replace('\n', "\r\n"),
        stream(true).replace('\n', "\r"),
        format!("\u{feff}: ping\n\n{}", stream(true)),
        stream(true).replace("data: [DONE]\n\n", "data: [DONE]"),
        stream(true)
            .trim_end_matches("data: [DONE]\n\n")
            .trim_end()
            .to_owned(),
        stream(true).replace(",\"choices\":[],", "\ndata: ,\ndata:\"choices\":[],"),
        stream(true).replace(
            "data: {\"id\":\"chatcmpl-1\",\"model\":\"m\",\"choices\":[]",
            "event: u\nid: 4\ndata:{\"choices\":[]",
        ),
        stream(true).replace("\n\n", "\r\n\n"),
    ];
    for text in &streams {
        let mut expected: Option<(Bytes, UsageRecord)> = None;
        for size in (1..=text.len()).rev() {
            for (body, sees_usage) in [(WITH_USAGE, true), (STREAMED, false)] {
                let sink = Kept::new();
                let out =
                    bytes(stream_call(&sink, body, Play::cut(text.as_bytes(), size)).await).await;
                let record = sink.only();
                assert_is_the_told_usage(&record);
                assert_eq!(record.outcome, Outcome::Complete);
                if sees_usage {
                    assert_eq!(
                        out,
                        text.as_bytes(),
                        "a client who asked for usage sees every byte"
                    );
                    continue;
                }
                assert!(
                    !String::from_utf8_lossy(&out).contains("prompt_tokens"),
                    "usage is hidden: {text:?}"
                );
                let (bytes, record_) =
                    expected.get_or_insert_with(|| (out.clone(), essence(&record)));
                assert_eq!(out, *bytes, "cut into {size}: {text:?}");
                assert_eq!(essence(&record), *record_, "cut into {size}");
            }
        }
        if text.contains(USAGE_CHUNK) {
            let (bytes, _) = expected.unwrap();
            assert_eq!(
                bytes,
                text.replace(USAGE_CHUNK, ""),
                "nothing but the usage chunk is taken out"
            );
        }
    }
}

fn line_end() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("\n"), Just("\r\n"), Just("\r")]
}

proptest! {
    #[test]
    fn d6_57_any_split_of_any_stream_gives_the_same(
        texts in prop::collection::vec("[a-z \\\\\"]{0,12}", 0..5),
        ends in prop::collection::vec(line_end(), 8),
        usage_at in 0_usize..6,
        cuts in prop::collection::vec(0_usize..2_000, 0..20),
        knows_its_end: bool,
    ) {
        let mut events: Vec<(String, bool)> = texts
            .iter()
            .map(|text| (delta(&text.replace(['\\', '"'], "\\n")).trim_end().to_owned(), false))
            .collect();
        events.insert(usage_at.min(events.len()), (USAGE_CHUNK.trim_end().to_owned(), true));
        let (mut all, mut shown) = (String::new(), String::new());
        for (n, (event, hidden)) in events.iter().enumerate() {
            let end = ends[n % ends.len()];
            let event = format!("{event}{end}{end}");
            all.push_str(&event);
            if !hidden {
                shown.push_str(&event);
            }
        }
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut % (all.len() + 1)).collect();
        cuts.extend([0, all.len()]);
        cuts.sort_unstable();
        let frames = cuts.windows(2).map(|cut| Bytes::copy_from_slice(&all.as_bytes()[cut[0]..cut[1]]));
        let mut play = Play::new(frames);
        play.knows_its_end = knows_its_end;
        let sink = Kept::new();
        let out = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            bytes(stream_call(&sink, STREAMED, play).await).await
        });
        prop_assert_eq!(String::from_utf8(out.to_vec()).unwrap(), shown);
        assert_is_the_told_usage(&sink.only());
    }
}

#[tokio::test]
async fn d6_58_usage_told_twice_is_the_later_one() {
    let sink = Kept::new();
    let early = r#"data: {"model":"m","choices":[{"delta":{"content":"x"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
    let text = format!("{early}\n\n{}", stream(true));
    bytes(stream_call(&sink, STREAMED, Play::new([text])).await).await;
    assert_is_the_told_usage(&sink.only());
}

#[tokio::test]
async fn d6_58_a_reported_zero_is_not_estimated() {
    let sink = Kept::new();
    let json = r#"{"model":"m","choices":[{"message":{"content":"Hello"}}],"usage":{"prompt_tokens":0,"completion_tokens":0}}"#;
    bytes(call(&sink, WHOLE, answer("application/json", Play::new([json]))).await).await;
    let record = sink.only();
    assert_eq!(
        (record.tokens.input, record.tokens.output),
        (Some(0), Some(0))
    );
    assert_eq!(
        (record.source, record.cost),
        (Source::Exact, Some(NanoUsd::ZERO))
    );
}

#[tokio::test]
async fn d6_58_missing_or_unbelievable_usage_is_estimated_and_marked() {
    for (usage, source) in [
        ("null", Source::Estimated),
        ("{}", Source::Estimated),
        (r#"{"prompt_tokens":null}"#, Source::Estimated),
        ("-5", Source::Invalid),
        ("\"many\"", Source::Invalid),
        (
            r#"{"prompt_tokens":-1,"completion_tokens":99999999999999999999}"#,
            Source::Invalid,
        ),
    ] {
        let sink = Kept::new();
        let json = format!(
            r#"{{"model":"m","choices":[{{"message":{{"content":"12345678"}}}}],"usage":{usage}}}"#
        );
        bytes(call(&sink, WHOLE, answer("application/json", Play::new([json]))).await).await;
        let record = sink.only();
        assert_eq!(record.source, source, "{usage}");
        assert_eq!(
            record.tokens.input,
            Some((WHOLE.len() as u64).div_ceil(4)),
            "{usage}"
        );
        assert_eq!(record.tokens.output, Some(2), "{usage}");
        assert_eq!(record.outcome, Outcome::Complete, "{usage}");
        assert!(record.cost.is_some());
    }
}

#[tokio::test]
async fn a_stream_without_usage_is_estimated_from_its_deltas() {
    let sink = Kept::new();
    bytes(stream_call(&sink, STREAMED, Play::new([stream(false)])).await).await;
    let record = sink.only();
    assert_eq!(record.source, Source::Estimated);
    assert_eq!(record.tokens.output, Some(3), "eleven bytes of text");
}

#[tokio::test]
async fn an_answer_that_is_not_json_is_estimated_and_passes() {
    let sink = Kept::new();
    let response = call(
        &sink,
        WHOLE,
        answer("text/html", Play::new(["<h1>hi</h1>"])),
    )
    .await;
    assert_eq!(bytes(response).await, "<h1>hi</h1>");
    let record = sink.only();
    assert_eq!(record.source, Source::Estimated);
    assert_eq!(
        record.tokens.output,
        Some(3),
        "eleven bytes of whatever it is"
    );
}

/// An answer with this label, or none.
fn labelled(kind: Option<&'static str>, body: Play) -> Response<Play> {
    match kind {
        Some(kind) => answer(kind, body),
        None => Response::new(body),
    }
}

#[tokio::test]
async fn a_stream_that_is_not_called_one_is_metered_as_one() {
    let text = stream(true);
    for kind in [None, Some("text/plain"), Some("application/octet-stream")] {
        for size in [1, 50, text.len()] {
            let sink = Kept::new();
            let play = Play::cut(text.as_bytes(), size);
            let response = call(&sink, STREAMED, labelled(kind, play)).await;
            assert_eq!(
                bytes(response).await,
                stream(false),
                "the usage that was asked for in the client's place is hidden: {kind:?}"
            );
            assert_is_the_told_usage(&sink.only());
        }
    }
}

#[tokio::test]
async fn a_whole_answer_to_a_call_for_a_stream_is_read() {
    let json = r#"{"id":"chatcmpl-1","model":"m","choices":[{"message":{"content":"Hello"}}],"usage":{"prompt_tokens":1000,"completion_tokens":20,"prompt_tokens_details":{"cached_tokens":600},"completion_tokens_details":{"reasoning_tokens":5}}}"#;
    for kind in [None, Some("application/json"), Some("text/event-stream")] {
        let sink = Kept::new();
        let response = call(
            &sink,
            STREAMED,
            labelled(kind, Play::cut(json.as_bytes(), 100)),
        )
        .await;
        assert_eq!(bytes(response).await, json);
        assert_is_the_told_usage(&sink.only());
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_estimated_from_its_bytes() {
    let sse = stream(true);
    for (call_body, kind, text, tokens) in [
        (WHOLE, None, "<h1>hi</h1>", 3),
        (WHOLE, Some("application/json"), "{\"choices\":", 3),
        (WHOLE, Some("application/json"), " \n \n ", 0),
        (WHOLE, Some("text/plain"), &sse, 3),
        (STREAMED, None, "<p>\n\n</p>", 2),
        (STREAMED, Some("text/html"), "<h1>hi</h1>", 3),
        (STREAMED, None, ": wait\n\n: wait\n\n", 0),
    ] {
        for size in [1, text.len()] {
            let sink = Kept::new();
            let play = Play::cut(text.as_bytes(), size);
            let response = call(&sink, call_body, labelled(kind, play)).await;
            assert_eq!(bytes(response).await, text);
            let record = sink.only();
            assert_eq!(record.source, Source::Estimated, "{kind:?} {text}");
            assert_eq!(record.tokens.output, Some(tokens), "{kind:?} {text}");
        }
    }
}

#[tokio::test]
async fn d6_59_a_client_that_leaves_at_any_chunk_is_recorded_once() {
    let text = stream(true);
    let events: Vec<_> = text.split_inclusive("\n\n").map(str::to_owned).collect();
    for stay in 0..=events.len() {
        let sink = Kept::new();
        let response = stream_call(&sink, STREAMED, Play::new(events.clone()).then_hang()).await;
        let mut body = response.into_body();
        // The usage chunk is not seen: it takes a poll with the one before or after it.
        let mut seen = 0;
        while seen < stay {
            let Poll::Ready(Some(frame)) = poll_once(std::pin::pin!(body.frame())).await else {
                break;
            };
            seen += usize::from(frame.unwrap().is_data());
        }
        assert!(
            sink.records().is_empty(),
            "it has not ended after {seen} frames"
        );
        drop(body);
        let record = sink.only();
        let done = seen == 3;
        assert_eq!(
            record.outcome,
            if done {
                Outcome::Complete
            } else {
                Outcome::Aborted
            }
        );
        if done {
            assert_is_the_told_usage(&record);
        } else {
            assert_eq!(record.source, Source::Estimated);
            assert_eq!(
                record.tokens.output,
                Some([0, 2, 3][seen]),
                "after {seen} frames"
            );
        }
    }
}

#[tokio::test]
async fn d6_59_what_had_arrived_when_the_client_left_is_exact() {
    let sink = Kept::new();
    let json = r#"{"model":"m","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#;
    let play = Play::new([json]).then_hang();
    let mut body = call(&sink, WHOLE, answer("application/json", play))
        .await
        .into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    let record = sink.only();
    assert_eq!(
        (record.outcome, record.source),
        (Outcome::Aborted, Source::Exact)
    );
    assert_eq!(record.tokens.total(), 10);
}

#[tokio::test]
async fn d6_59_an_upstream_that_breaks_off_at_any_chunk_is_a_failure() {
    let text = stream(true);
    let events: Vec<_> = text.split_inclusive("\n\n").map(str::to_owned).collect();
    for count in 0..=2 {
        let sink = Kept::new();
        let play = Play::new(events[..count].to_vec()).then_error();
        let response = stream_call(&sink, STREAMED, play).await;
        assert!(response.into_body().collect().await.is_err());
        let record = sink.only();
        assert_eq!(record.outcome, Outcome::Failed);
        match count {
            0 => assert_eq!(
                (record.cost, record.tokens.total()),
                (Some(NanoUsd::ZERO), 0)
            ),
            _ => assert_eq!(record.source, Source::Estimated),
        }
    }
}

#[tokio::test]
async fn d6_59_an_error_event_after_200_is_a_failure() {
    let sink = Kept::new();
    let text = "data: {\"error\":{\"message\":\"overloaded\",\"code\":529}}\n\n";
    let response = stream_call(&sink, STREAMED, Play::new([text])).await;
    assert_eq!(bytes(response).await, text);
    let record = sink.only();
    assert_eq!(
        (record.outcome, record.cost),
        (Outcome::Failed, Some(NanoUsd::ZERO))
    );
}

#[tokio::test]
async fn d6_59_a_provider_that_refuses_costs_nothing() {
    for status in [400, 401, 429, 500, 529] {
        let sink = Kept::new();
        let mut refusal = answer(
            "application/json",
            Play::new([r#"{"error":{"message":"no"}}"#]),
        );
        *refusal.status_mut() = StatusCode::from_u16(status).unwrap();
        let response = call(&sink, STREAMED, refusal).await;
        assert_eq!(response.status(), status);
        assert_eq!(bytes(response).await, r#"{"error":{"message":"no"}}"#);
        let record = sink.only();
        assert_eq!(
            (record.outcome, record.cost),
            (Outcome::Failed, Some(NanoUsd::ZERO))
        );
        assert_eq!(record.tokens.input, None);
    }
}

#[tokio::test]
async fn d6_59_an_error_of_the_service_inside_is_recorded_once() {
    let sink = Kept::new();
    let provider = service_fn(|_: Request<CallBody>| ready(Err::<Response<Play>, _>("refused")));
    let service = ModelCallLayer::new().layer(UsageLayer::new(meter(sink.clone())).layer(provider));
    assert_eq!(service.oneshot(request(WHOLE)).await.err(), Some("refused"));
    let record = sink.only();
    assert_eq!(
        (record.outcome, record.cost),
        (Outcome::Failed, Some(NanoUsd::ZERO))
    );
}

#[tokio::test]
async fn d6_59_a_client_that_leaves_before_the_head_pays_its_prompt() {
    let sink = Kept::new();
    let provider =
        service_fn(|_: Request<CallBody>| pending::<Result<Response<Play>, Infallible>>());
    let service = ModelCallLayer::new().layer(UsageLayer::new(meter(sink.clone())).layer(provider));
    let mut call = Box::pin(service.oneshot(request(WHOLE)));
    assert!(poll_once(call.as_mut()).await.is_pending());
    drop(call);
    let record = sink.only();
    assert_eq!(
        (record.outcome, record.source),
        (Outcome::Aborted, Source::Estimated)
    );
    assert_eq!(record.tokens.input, Some((WHOLE.len() as u64).div_ceil(4)));
    assert_eq!(record.tokens.output, Some(0));
}

async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

#[tokio::test]
async fn a_body_that_knows_its_end_is_recorded_with_its_last_frame() {
    let sink = Kept::new();
    let play = Play::cut(stream(true).as_bytes(), 50).knowing_its_end();
    let mut body = stream_call(&sink, STREAMED, play).await.into_body();
    let mut out = Vec::new();
    while !body.is_end_stream() {
        out.extend_from_slice(&body.frame().await.unwrap().unwrap().into_data().unwrap());
    }
    assert_is_the_told_usage(&sink.only());
    assert_eq!(out, stream(false).as_bytes());
}

#[tokio::test]
async fn an_empty_answer_is_recorded_though_nobody_polls_it() {
    let sink = Kept::new();
    let play = Play::new([""; 0]).knowing_its_end();
    let response = call(&sink, WHOLE, answer("application/json", play)).await;
    assert!(response.body().is_end_stream());
    assert_eq!(sink.only().outcome, Outcome::Complete);
}

#[tokio::test]
async fn trailers_go_through_after_what_was_held_back() {
    let sink = Kept::new();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-end", HeaderValue::from_static("yes"));
    let play = Play::new(["data: unfinished"]).then_trailers(trailers.clone());
    let collected = stream_call(&sink, STREAMED, play)
        .await
        .into_body()
        .collect()
        .await
        .unwrap();
    assert_eq!(collected.trailers(), Some(&trailers));
    assert_eq!(collected.to_bytes(), "data: unfinished");
    sink.only();
}

#[tokio::test]
async fn an_event_beyond_a_mebibyte_goes_by() {
    let large = delta(&"x".repeat(3 << 20));
    let text = format!("{large}{}", stream(true));
    let sink = Kept::new();
    let response = stream_call(&sink, STREAMED, Play::cut(text.as_bytes(), 10_000)).await;
    assert_eq!(bytes(response).await, text.replace(USAGE_CHUNK, ""));
    assert_is_the_told_usage(&sink.only());
    let text = format!("{large}{}", stream(false));
    let sink = Kept::new();
    bytes(stream_call(&sink, STREAMED, Play::cut(text.as_bytes(), 10_000)).await).await;
    let estimate = (large.len() as u64 + 11).div_ceil(4);
    assert_eq!(
        sink.only().tokens.output,
        Some(estimate),
        "all its bytes count as text"
    );
}

#[tokio::test]
async fn an_unfinished_event_goes_out_with_the_last_frame() {
    let sink = Kept::new();
    let play = Play::new(["data: x\n\n", "data: unfinished"]).knowing_its_end();
    assert_eq!(
        bytes(stream_call(&sink, STREAMED, play).await).await,
        "data: x\n\ndata: unfinished"
    );
    sink.only();
}

#[tokio::test]
async fn a_body_is_not_polled_again_after_what_was_held_back_at_its_end() {
    let sink = Kept::new();
    let mut body = stream_call(&sink, STREAMED, Play::new(["data: unfinished"]))
        .await
        .into_body();
    let frame = body.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "data: unfinished");
    assert!(body.is_end_stream());
    assert_eq!(body.size_hint().exact(), Some(0));
    for _ in 0..2 {
        assert!(body.frame().await.is_none());
    }
    sink.only();
}

#[tokio::test]
async fn an_answer_beyond_sixteen_mebibytes_is_estimated() {
    let sink = Kept::new();
    let frame = Bytes::from(vec![b' '; 1 << 20]);
    let response = call(
        &sink,
        WHOLE,
        answer("application/json", Play::new(vec![frame; 18])),
    )
    .await;
    assert_eq!(bytes(response).await.len(), 18 << 20);
    let record = sink.only();
    assert_eq!(
        (record.source, record.tokens.output),
        (Source::Estimated, Some((18 << 20) / 4))
    );
}

#[tokio::test]
async fn size_hints_are_true() {
    let sink = Kept::new();
    let text = stream(true);
    let play = Play::cut(text.as_bytes(), 100).knowing_its_end();
    let body = stream_call(&sink, WITH_USAGE, play).await.into_body();
    assert_eq!(body.size_hint().exact(), Some(text.len() as u64));
    let mut answer = answer(
        "text/event-stream",
        Play::cut(text.as_bytes(), 100).knowing_its_end(),
    );
    answer
        .headers_mut()
        .insert("content-length", HeaderValue::from(text.len()));
    let response = call(&sink, STREAMED, answer).await;
    assert!(
        !response.headers().contains_key("content-length"),
        "the length changes"
    );
    let hint = response.body().size_hint();
    assert_eq!((hint.lower(), hint.upper()), (0, Some(text.len() as u64)));
}

#[tokio::test]
async fn refuses_in_openais_form_when_the_sink_is_full() {
    let sink = Kept::with_capacity(0);
    let response = call(&sink, WHOLE, answer("application/json", Play::new(["{}"]))).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "5");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let body: serde_json::Value = serde_json::from_slice(&bytes(response).await).unwrap();
    assert_eq!(body["error"]["code"], "usage_ledger_full");
}

#[tokio::test]
async fn a_call_of_nobody_is_not_metered_and_gives_its_place_back() {
    let sink = Kept::new();
    let provider = service_fn(|_: Request<CallBody>| {
        ready(Ok::<_, Infallible>(answer(
            "application/json",
            Play::new(["{}"]),
        )))
    });
    let service = ModelCallLayer::new().layer(UsageLayer::new(meter(sink.clone())).layer(provider));
    let request = post(FullBody::new(Bytes::from(WHOLE)));
    assert_eq!(bytes(service.oneshot(request).await.unwrap()).await, "{}");
    assert_eq!((sink.records().len(), sink.taken()), (0, 0));
}

#[tokio::test]
async fn a_full_sink_refuses_a_call_of_nobody_too() {
    let provider = service_fn(|_: Request<CallBody>| async {
        panic!("a refused call must not go inward") as Result<Response<Play>, Infallible>
    });
    let meter = meter(Kept::with_capacity(0));
    let service = ModelCallLayer::new().layer(UsageLayer::new(meter).layer(provider));
    let request = post(FullBody::new(Bytes::from(WHOLE)));
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn the_provider_gets_the_body_that_asks_for_usage_and_no_encoding() {
    let seen = Arc::new(Mutex::new(None));
    let sees = Arc::clone(&seen);
    let provider = service_fn(move |req: Request<CallBody>| {
        *sees.lock().unwrap() = Some(req);
        ready(Ok::<_, Infallible>(answer(
            "text/event-stream",
            Play::default(),
        )))
    });
    let mut request = request(STREAMED);
    request
        .headers_mut()
        .insert("accept-encoding", HeaderValue::from_static("gzip"));
    request
        .headers_mut()
        .insert("content-length", HeaderValue::from(STREAMED.len()));
    ModelCallLayer::new()
        .layer(provider)
        .oneshot(request)
        .await
        .unwrap();
    let req = seen.lock().unwrap().take().unwrap();
    assert!(!req.headers().contains_key("accept-encoding"));
    let length: usize = req.headers()["content-length"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let call = req.extensions().get::<ModelCall>().unwrap();
    assert!(call.stream && call.usage_injected);
    assert_eq!(call.estimated_input, (STREAMED.len() as u64).div_ceil(4));
    let again = req.body().clone();
    let body = req.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body.len(), length);
    assert!(body.starts_with(br#"{"stream_options":{"include_usage":true},"model":"asked""#));
    assert_eq!(
        again.collect().await.unwrap().to_bytes(),
        body,
        "a clone can be sent again"
    );
}

#[tokio::test]
async fn refuses_a_body_beyond_the_limit_whether_it_says_so_or_not() {
    let layer = ModelCallLayer::new().limit(WHOLE.len());
    for (body, status) in [
        (Play::new([WHOLE]), 200),
        (Play::cut(WHOLE.as_bytes(), 5), 200),
        (Play::new([WHOLE, " "]), 413),
        (Play::new([WHOLE, " "]).knowing_its_end(), 413),
        (Play::new(["{"]).then_error(), 400),
        (Play::new([WHOLE.replace('}', "")]), 400),
    ] {
        let inner = service_fn(|_: Request<CallBody>| {
            ready(Ok::<_, Infallible>(Response::new(Play::default())))
        });
        let response = layer.layer(inner).oneshot(post(body)).await.unwrap();
        assert_eq!(response.status(), status);
        if status != 200 {
            let body: serde_json::Value = serde_json::from_slice(&bytes(response).await).unwrap();
            assert_eq!(body["error"]["type"], "invalid_request_error");
        }
    }
}

/// Panics when it is called without having been polled ready.
struct Strict {
    ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self { ready: false }
    }
}

impl Service<Request<CallBody>> for Strict {
    type Response = Response<Play>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Play>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<CallBody>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called unready");
        ready(Ok(Response::new(Play::default())))
    }
}

#[tokio::test]
async fn calls_the_service_that_was_polled_ready() {
    let mut service = ModelCallLayer::new().layer(Strict { ready: false });
    for _ in 0..3 {
        let ready: &mut ModelCallService<Strict> =
            ServiceExt::<Request<FullBody<Bytes>>>::ready(&mut service)
                .await
                .unwrap();
        ready.call(request(WHOLE)).await.unwrap();
    }
}

#[test]
fn services_and_bodies_are_send_sync_clone_and_static() {
    fn shared<T: Send + Sync + Clone + 'static>(_: &T) {}
    fn send<T: Send + 'static>() {}
    shared(&meter(Kept::new()));
    shared(&ModelCallLayer::new());
    shared(&ModelCallLayer::new().layer(Strict { ready: false }));
    send::<ResponseBody<Play>>();
    send::<<ModelCallService<Strict> as Service<Request<FullBody<Bytes>>>>::Future>();
    let _: SystemTime = time(0);
}

#[cfg(feature = "tokio")]
mod drain {
    use std::time::Duration;

    use super::*;

    /// Opens a stream, reads its first frame and leaves.
    async fn leave_after_one(sink: &Arc<Kept>, play: Play, bytes: usize) {
        let play = Arc::new(Mutex::new(Some(play)));
        let provider = service_fn(move |_: Request<CallBody>| {
            ready(Ok::<_, Infallible>(answer(
                "text/event-stream",
                play.lock().unwrap().take().unwrap(),
            )))
        });
        let meter = meter(sink.clone()).drain(Duration::from_secs(10), bytes);
        let service = ModelCallLayer::new().layer(UsageLayer::new(meter).layer(provider));
        let mut body = service
            .oneshot(request(STREAMED))
            .await
            .unwrap()
            .into_body();
        body.frame().await.unwrap().unwrap();
        drop(body);
    }

    async fn recorded(sink: &Arc<Kept>) -> UsageRecord {
        while sink.records().is_empty() {
            tokio::task::yield_now().await;
        }
        sink.only()
    }

    #[tokio::test]
    async fn d6_59_the_rest_of_the_answer_is_read_on_and_recorded_exactly() {
        let sink = Kept::new();
        leave_after_one(&sink, Play::cut(stream(true).as_bytes(), 100), 1 << 20).await;
        assert!(sink.records().is_empty(), "it is still being read");
        let record = recorded(&sink).await;
        assert_is_the_told_usage(&record);
        assert_eq!(record.outcome, Outcome::Aborted);
    }

    #[tokio::test]
    async fn beyond_its_bytes_it_is_estimated() {
        let sink = Kept::new();
        leave_after_one(&sink, Play::cut(stream(true).as_bytes(), 200), 220).await;
        let record = recorded(&sink).await;
        assert_eq!(
            (record.outcome, record.source),
            (Outcome::Aborted, Source::Estimated)
        );
        assert_eq!(record.tokens.output, Some(3), "what was read on is counted");
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_its_time_it_is_estimated() {
        let sink = Kept::new();
        let began = tokio::time::Instant::now();
        leave_after_one(&sink, Play::new([delta("Hello")]).then_hang(), 1 << 20).await;
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert!(sink.records().is_empty());
        let record = {
            tokio::time::sleep(Duration::from_secs(2)).await;
            sink.only()
        };
        assert!(began.elapsed() >= Duration::from_secs(10));
        assert_eq!(
            (record.outcome, record.source),
            (Outcome::Aborted, Source::Estimated)
        );
    }

    #[test]
    fn without_a_runtime_it_is_recorded_as_it_stands() {
        let sink = Kept::new();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let meter = meter(sink.clone()).drain(Duration::from_secs(10), 1 << 20);
        let provider = service_fn(|_: Request<CallBody>| {
            ready(Ok::<_, Infallible>(answer(
                "text/event-stream",
                Play::new([stream(true)]),
            )))
        });
        let service = ModelCallLayer::new().layer(UsageLayer::new(meter).layer(provider));
        let response = runtime
            .block_on(service.oneshot(request(STREAMED)))
            .unwrap();
        drop(runtime);
        drop(response);
        assert_eq!(sink.only().outcome, Outcome::Aborted);
    }

    #[test]
    fn a_runtime_that_ends_while_reading_on_loses_no_record() {
        let sink = Kept::new();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let play = Play::new([delta("Hello")]).then_hang();
        runtime.block_on(leave_after_one(&sink, play, 1 << 20));
        drop(runtime);
        assert_eq!(sink.only().outcome, Outcome::Aborted);
    }
}
