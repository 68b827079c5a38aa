//! Metering answers that are compressed: read as a copy, forwarded as they came.
#![cfg(feature = "decompression")]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may fail"
)]

use std::{io::Write, sync::Arc};

use bytes::Bytes;
use flate2::{
    Compression,
    write::{DeflateEncoder, GzEncoder, ZlibEncoder},
};
use http::{HeaderValue, Response};
use http_body::Body;
use http_body_util::BodyExt;
use proptest::prelude::*;
use tower_usage::{Outcome, Source, UsageRecord};

mod support;
use support::{
    Kept, Play,
    apis::{CHAT, Case, MESSAGES, RESPONSES, STREAMING, call},
    http::{Metered, answer, bytes},
};

/// A streamed chat completion whose client does not ask for usage.
const HIDING: Case = Case {
    streamed: r#"{"model":"asked","stream":true,"messages":[]}"#,
    ..CHAT
};

/// Content codings: their names, and whether `deflate` is wrapped as it should be.
const CODINGS: [(&str, bool); 5] = [
    ("gzip", true),
    ("deflate", true),
    ("deflate", false),
    ("br", true),
    ("zstd", true),
];

/// The texts compressed one after the other, each so that it can be decoded when it is there.
fn compress(coding: (&str, bool), texts: &[&[u8]]) -> Vec<Vec<u8>> {
    fn run<W: Write>(
        mut writer: W,
        texts: &[&[u8]],
        taken: impl Fn(&mut W) -> Vec<u8>,
        finish: impl FnOnce(W) -> Vec<u8>,
    ) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        for text in texts {
            writer.write_all(text).unwrap();
            writer.flush().unwrap();
            pieces.push(taken(&mut writer));
        }
        pieces.push(finish(writer));
        pieces
    }
    let level = Compression::default();
    let take = std::mem::take::<Vec<u8>>;
    match coding {
        ("gzip", _) => run(
            GzEncoder::new(Vec::new(), level),
            texts,
            |writer| take(writer.get_mut()),
            |writer| writer.finish().unwrap(),
        ),
        ("deflate", true) => run(
            ZlibEncoder::new(Vec::new(), level),
            texts,
            |writer| take(writer.get_mut()),
            |writer| writer.finish().unwrap(),
        ),
        ("deflate", false) => run(
            DeflateEncoder::new(Vec::new(), level),
            texts,
            |writer| take(writer.get_mut()),
            |writer| writer.finish().unwrap(),
        ),
        ("br", _) => run(
            brotli::CompressorWriter::new(Vec::new(), 4_096, 5, 22),
            texts,
            |writer| take(writer.get_mut()),
            brotli::CompressorWriter::into_inner,
        ),
        ("zstd", _) => run(
            zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap(),
            texts,
            |writer| take(writer.get_mut()),
            |writer| writer.finish().unwrap(),
        ),
        _ => panic!("no such coding"),
    }
}

fn whole(coding: (&str, bool), text: &str) -> Vec<u8> {
    compress(coding, &[text.as_bytes()]).concat()
}

fn encoded(kind: &'static str, coding: &'static str, play: Play) -> Response<Play> {
    let mut response = answer(kind, play);
    let headers = response.headers_mut();
    headers.insert("content-encoding", HeaderValue::from_static(coding));
    response
}

async fn stream_call(case: &Case, coding: &'static str, play: Play) -> (Arc<Kept>, Metered) {
    let sink = Kept::new();
    let res = encoded("text/event-stream", coding, play);
    let response = call(&sink, case, case.streamed, res).await;
    (sink, response)
}

/// What a client sees of a stream whose usage is not for it.
fn shown(text: &str) -> String {
    let usage = text
        .split_inclusive("\n\n")
        .find(|event| event.contains("\"prompt_tokens\""));
    text.replace(usage.unwrap(), "")
}

#[tokio::test]
async fn d6_57_compressed_answers_are_read_however_they_are_cut_and_go_on_as_they_came() {
    for case in STREAMING {
        for coding in CODINGS {
            for (body, kind, text) in [
                (case.streamed, "text/event-stream", &*case.stream()),
                (case.whole, "application/json", case.json),
            ] {
                let coded = whole(coding, text);
                for size in (1..20).chain([100, coded.len()]) {
                    let sink = Kept::new();
                    let res = encoded(kind, coding.0, Play::cut(&coded, size));
                    let response = call(&sink, case, body, res).await;
                    assert_eq!(response.headers()["content-encoding"], coding.0);
                    assert_eq!(bytes(response).await, coded, "every byte as it came");
                    let record = sink.only();
                    case.assert_told(&record);
                    assert_eq!(record.outcome, Outcome::Complete);
                }
            }
        }
    }
}

#[tokio::test]
async fn an_event_is_read_when_it_is_there() {
    for case in STREAMING {
        let text = case.stream();
        let events: Vec<_> = text.split_inclusive("\n\n").map(str::as_bytes).collect();
        for coding in CODINGS {
            let mut pieces = compress(coding, &events);
            pieces.pop();
            let (sink, response) = stream_call(case, coding.0, Play::new(pieces).then_hang()).await;
            let mut body = response.into_body();
            for _ in &events {
                body.frame().await.unwrap().unwrap();
            }
            drop(body);
            let record = sink.only();
            case.assert_told(&record);
            assert_eq!(record.outcome, Outcome::Complete, "{} {coding:?}", case.api);
        }
    }
}

#[tokio::test]
async fn d6_58_the_usage_of_a_compressed_stream_is_hidden_by_decoding_it() {
    let text = HIDING.stream();
    for coding in CODINGS {
        let coded = whole(coding, &text);
        for size in [1, 7, 100, coded.len()] {
            let sink = Kept::new();
            let play = Play::cut(&coded, size).knowing_its_end();
            let mut res = encoded("text/event-stream", coding.0, play);
            res.headers_mut()
                .insert("content-length", HeaderValue::from(coded.len()));
            let response = call(&sink, &HIDING, HIDING.streamed, res).await;
            for gone in ["content-encoding", "content-length"] {
                assert!(
                    !response.headers().contains_key(gone),
                    "{gone} is not true any more"
                );
            }
            let hint = response.body().size_hint();
            assert_eq!((hint.lower(), hint.upper()), (0, None));
            assert_eq!(bytes(response).await, shown(&text));
            HIDING.assert_told(&sink.only());
        }
    }
}

#[tokio::test]
async fn d6_59_the_name_of_a_compressed_error_is_read() {
    for coding in CODINGS {
        for padding in [0, 1 << 20] {
            let error = format!(
                r#"{{"error":{{"code":"slow_down","x":"{}"}}}}"#,
                "y".repeat(padding)
            );
            let coded = whole(coding, &error);
            let sink = Kept::new();
            let mut res = encoded("application/json", coding.0, Play::cut(&coded, 9));
            *res.status_mut() = http::StatusCode::TOO_MANY_REQUESTS;
            let response = call(&sink, &CHAT, CHAT.whole, res).await;
            assert_eq!(bytes(response).await, coded);
            let name = if padding == 0 {
                r#","error":"slow_down""#
            } else {
                ""
            };
            let metadata = format!(r#"{{"status":429{name}}}"#);
            let record = sink.only();
            assert_eq!(record.metadata.as_deref(), Some(&*metadata));
            assert_eq!(
                (record.outcome, record.tokens.total()),
                (Outcome::Failed, 0)
            );
        }
    }
}

#[tokio::test]
async fn a_corrupt_answer_goes_on_and_is_estimated() {
    for case in [&CHAT, &RESPONSES, &MESSAGES] {
        let text = case.stream();
        let events: Vec<_> = text.split_inclusive("\n\n").map(str::as_bytes).collect();
        for coding in CODINGS {
            let mut pieces = compress(coding, &events[..case.texts.1]);
            *pieces.last_mut().unwrap() = vec![0xff; 40];
            let came = pieces.concat();
            let (sink, response) = stream_call(case, coding.0, Play::new(pieces)).await;
            assert_eq!(bytes(response).await, came, "{} {coding:?}", case.api);
            let record = sink.only();
            assert_eq!(record.source, Source::Estimated);
            let output = record.tokens.output.unwrap();
            assert!(
                (3..=13).contains(&output),
                "{output} of eleven bytes and up to forty"
            );
        }
    }
}

#[tokio::test]
async fn a_client_is_told_when_what_it_is_shown_breaks() {
    let text = HIDING.stream();
    let events: Vec<_> = text.split_inclusive("\n\n").map(str::as_bytes).collect();
    for coding in CODINGS {
        let mut pieces = compress(coding, &events[..3]);
        *pieces.last_mut().unwrap() = vec![0xff; 40];
        let play = Play::new(pieces).then_hang();
        let (sink, response) = stream_call(&HIDING, coding.0, play).await;
        let out = bytes(response).await;
        let (before, error) = out.split_at(events[..3].concat().len());
        assert_eq!(before, events[..3].concat());
        let error = String::from_utf8(error.to_vec()).unwrap();
        assert!(
            error.starts_with("\n\ndata: {\"error\":") && error.ends_with("}\n\n"),
            "{error}"
        );
        let record = sink.only();
        assert_eq!(
            (record.outcome, record.source),
            (Outcome::Failed, Source::Estimated)
        );
        assert_eq!(record.tokens.output, Some(3), "{coding:?}");
    }
}

/// An answer that decodes to more than 32 MiB.
fn bomb(coding: (&str, bool)) -> Vec<u8> {
    let blank = vec![b' '; 1 << 20];
    let mut texts = vec![&*blank; 33];
    texts.insert(0, b"{\"model\":\"m\",\"x\":\"");
    compress(coding, &texts).concat()
}

#[tokio::test]
async fn an_answer_that_blows_up_is_decoded_to_a_limit() {
    for coding in CODINGS {
        let coded = bomb(coding);
        assert!(coded.len() < 1 << 18, "{} bytes", coded.len());
        let (body, kind) = match coding.0 {
            "gzip" => (CHAT.streamed, "text/event-stream"),
            _ => (CHAT.whole, "application/json"),
        };
        let sink = Kept::new();
        let res = encoded(kind, coding.0, Play::cut(&coded, 1_000));
        let response = call(&sink, &CHAT, body, res).await;
        assert_eq!(bytes(response).await, coded);
        let record = sink.only();
        assert_eq!(
            (record.outcome, record.source),
            (Outcome::Complete, Source::Estimated)
        );
        let estimate = (coded.len() as u64).div_ceil(4);
        let output = record.tokens.output;
        assert_eq!(
            output,
            Some(estimate),
            "of what came, not of what it became"
        );
    }
}

#[tokio::test]
async fn a_refusal_that_blows_up_is_free() {
    for size in [100, 1 << 20] {
        let coded = bomb(("zstd", true));
        let sink = Kept::new();
        let mut res = encoded("application/json", "zstd", Play::cut(&coded, size));
        *res.status_mut() = http::StatusCode::BAD_GATEWAY;
        let response = call(&sink, &CHAT, CHAT.whole, res).await;
        assert_eq!(bytes(response).await, coded);
        let record = sink.only();
        assert_eq!(
            (record.outcome, record.tokens.total()),
            (Outcome::Failed, 0)
        );
        assert_eq!(record.metadata.as_deref(), Some(r#"{"status":502}"#));
    }
}

#[tokio::test]
async fn a_client_is_shown_no_more_than_the_limit() {
    let coded = bomb(("zstd", true));
    let (sink, response) = stream_call(&HIDING, "zstd", Play::cut(&coded, 1_000)).await;
    let out = bytes(response).await;
    assert!(out.len() <= 33 << 20 && out.ends_with(b"\"undecodable_answer\"}}\n\n"));
    assert_eq!(sink.only().outcome, Outcome::Failed);
}

#[tokio::test]
async fn an_unknown_or_twofold_coding_is_not_read() {
    for coding in ["compress", "gzip, br", "gzip, gzip", "x", ""] {
        let sink = Kept::new();
        let res = encoded("application/json", coding, Play::new([CHAT.json]));
        let response = call(&sink, &CHAT, CHAT.whole, res).await;
        assert_eq!(response.headers()["content-encoding"], coding);
        assert_eq!(bytes(response).await, CHAT.json);
        let record: UsageRecord = sink.only();
        assert_eq!(record.source, Source::Estimated);
        let estimate = (CHAT.json.len() as u64).div_ceil(4);
        assert_eq!(record.tokens.output, Some(estimate), "every byte counts");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_bytes_break_a_decoder(
        which in 0..CODINGS.len(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        size in 1_usize..300,
        hides: bool,
    ) {
        let case = if hides { &HIDING } else { &CHAT };
        let mut coded = whole(CODINGS[which], &case.stream());
        for (index, byte) in flips {
            let at = index.index(coded.len());
            coded[at] = byte;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (out, record): (Bytes, _) = runtime.block_on(async {
            let (sink, response) = stream_call(case, CODINGS[which].0, Play::cut(&coded, size)).await;
            (bytes(response).await, sink.only())
        });
        prop_assert!(record.tokens.output.is_some() || record.outcome == Outcome::Failed);
        if !hides {
            prop_assert_eq!(out, coded);
        }
    }
}
