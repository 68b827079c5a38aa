//! What of OTLP is sent (opentelemetry-proto 1.x, `trace/v1/trace.proto` and what it is made of), by its field numbers.

use std::time::{SystemTime, UNIX_EPOCH};

use prost::{Message, Oneof};

use super::span::{Ended, Role};

/// Many spans of one process, as a collector reads them.
pub(super) fn encode(spans: Vec<Ended>, resource: &[(&'static str, String)]) -> Vec<u8> {
    let attributes = resource
        .iter()
        .map(|(key, value)| KeyValue::text(key, value.clone()));
    let message = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: attributes.collect(),
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(Scope {
                    name: env!("CARGO_PKG_NAME").to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                }),
                spans: spans.into_iter().map(Span::from).collect(),
            }],
        }],
    };
    message.encode_to_vec()
}

#[derive(Message)]
struct ExportTraceServiceRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, repeated, tag = "13")]
    links: Vec<Link>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Message)]
struct Link {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
}

#[derive(Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Message)]
struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 3")]
    value: Option<Value>,
}

#[derive(Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
}

/// `SpanKind` and `StatusCode` of the protocol.
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const ERROR: i32 = 2;

/// The trace flags of W3C in the lowest byte: sampled.
const SAMPLED: u32 = 1;

fn nanoseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

// === impl Span ===

impl From<Ended> for Span {
    fn from(ended: Ended) -> Self {
        let texts = ended.texts.into_iter();
        let texts = texts.map(|(key, value)| KeyValue::text(key, value.into_owned()));
        let numbers = ended.numbers.into_iter();
        let numbers = numbers.map(|(key, value)| KeyValue::new(key, Value::Number(value)));
        let link = ended.link.map(|link| Link {
            trace_id: link.trace.to_vec(),
            span_id: link.span.to_vec(),
        });
        Self {
            trace_id: ended.own.trace.to_vec(),
            span_id: ended.own.span.to_vec(),
            parent_span_id: ended.parent.map(|span| span.to_vec()).unwrap_or_default(),
            name: ended.name.into_owned(),
            kind: match ended.role {
                Role::Server => SERVER,
                Role::Client => CLIENT,
            },
            start_time_unix_nano: nanoseconds(ended.begin),
            end_time_unix_nano: nanoseconds(ended.end),
            attributes: texts.chain(numbers).collect(),
            links: link.into_iter().collect(),
            status: ended.failure.map(|how| Status {
                message: how.to_owned(),
                code: ERROR,
            }),
            flags: SAMPLED,
        }
    }
}

// === impl KeyValue ===

impl KeyValue {
    fn new(key: &str, value: Value) -> Self {
        Self {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
        }
    }

    fn text(key: &str, value: String) -> Self {
        Self::new(key, Value::Text(value))
    }
}
