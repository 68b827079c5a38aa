//! Spans of OTLP, read from protobuf byte by byte: by the numbers that fields have in `trace.proto`, `resource.proto` and
//! `common.proto` of opentelemetry-proto 1.x, and by no code that the gateway has.

use std::collections::BTreeMap;

/// A span, as far as it is looked at.
#[derive(Debug, Default)]
pub(crate) struct Span {
    pub(crate) trace: String,
    pub(crate) span: String,
    pub(crate) parent: String,
    pub(crate) name: String,
    pub(crate) kind: u64,
    pub(crate) begin: u64,
    pub(crate) end: u64,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) links: Vec<(String, String)>,
    /// `STATUS_CODE_ERROR` is 2.
    pub(crate) status: u64,
    pub(crate) resource: BTreeMap<String, String>,
}

/// `SPAN_KIND_SERVER` and `SPAN_KIND_CLIENT`.
pub(crate) const SERVER: u64 = 2;
pub(crate) const CLIENT: u64 = 3;

/// A field's value.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The spans of an `ExportTraceServiceRequest`.
pub(crate) fn spans(body: &[u8]) -> Vec<Span> {
    let mut spans = Vec::new();
    for of_resource in messages(body, 1) {
        let resource = messages(of_resource, 1).flat_map(|resource| messages(resource, 1));
        let resource: BTreeMap<_, _> = resource.map(attribute).collect();
        let scopes = messages(of_resource, 2);
        for span in scopes.flat_map(|scope| messages(scope, 2)) {
            let mut read = Span {
                resource: resource.clone(),
                ..Span::default()
            };
            for (number, value) in fields(span) {
                match (number, value) {
                    (1, Value::Bytes(bytes)) => read.trace = hex(bytes),
                    (2, Value::Bytes(bytes)) => read.span = hex(bytes),
                    (4, Value::Bytes(bytes)) => read.parent = hex(bytes),
                    (5, Value::Bytes(bytes)) => read.name = text(bytes),
                    (6, Value::Number(kind)) => read.kind = kind,
                    (7, Value::Number(begin)) => read.begin = begin,
                    (8, Value::Number(end)) => read.end = end,
                    (9, Value::Bytes(bytes)) => read.attributes.extend([attribute(bytes)]),
                    (13, Value::Bytes(bytes)) => {
                        let id = |number| messages(bytes, number).map(hex).collect::<String>();
                        read.links.push((id(1), id(2)));
                    }
                    (15, Value::Bytes(bytes)) => {
                        for (number, value) in fields(bytes) {
                            if let (3, Value::Number(code)) = (number, value) {
                                read.status = code;
                            }
                        }
                    }
                    (16, Value::Number(flags)) => assert_eq!(flags & 1, 1, "it is sampled"),
                    (number, _) => panic!("a span has no field {number}"),
                }
            }
            spans.push(read);
        }
    }
    spans
}

/// A `KeyValue`.
fn attribute(pair: &[u8]) -> (String, String) {
    let key = messages(pair, 1).map(text).collect();
    let mut value = String::new();
    for any in messages(pair, 2) {
        for (number, field) in fields(any) {
            value = match (number, field) {
                (1, Value::Bytes(bytes)) => text(bytes),
                (3, Value::Number(number)) => number.to_string(),
                (number, _) => panic!("no value of ours is of kind {number}"),
            };
        }
    }
    (key, value)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// The values of a field that are messages, texts or bytes.
fn messages(message: &[u8], wanted: u64) -> impl Iterator<Item = &[u8]> {
    let of_field = fields(message)
        .into_iter()
        .filter(move |(number, _)| *number == wanted);
    of_field.filter_map(|(_, value)| match value {
        Value::Bytes(bytes) => Some(bytes),
        Value::Number(_) => None,
    })
}

/// The fields of a message, by number (Protocol Buffers, "Encoding").
fn fields(mut message: &[u8]) -> Vec<(u64, Value<'_>)> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message);
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut message)),
            1 => Value::Number(u64::from_le_bytes(fixed(&mut message))),
            2 => {
                let length = usize::try_from(varint(&mut message)).expect("a length");
                let (value, rest) = message.split_at(length);
                message = rest;
                Value::Bytes(value)
            }
            5 => Value::Number(u32::from_le_bytes(fixed(&mut message)).into()),
            kind => panic!("no wire type {kind}"),
        };
        fields.push((tag >> 3, value));
    }
    fields
}

fn varint(message: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first().expect("a byte");
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return number;
        }
    }
    panic!("a number is too long")
}

fn fixed<const N: usize>(message: &mut &[u8]) -> [u8; N] {
    let (value, rest) = message.split_first_chunk().expect("a number");
    *message = rest;
    *value
}
