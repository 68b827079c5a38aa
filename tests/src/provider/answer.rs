//! What is answered, as HTTP.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use http::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use serde_json::Value;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

pub(super) fn whole(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(
        Full::from(body.to_string())
            .map_err(|never| match never {})
            .boxed_unsync(),
    );
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// An error among the events ends the connection.
pub(super) fn events(
    events: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> Response<Body> {
    let body = StreamBody::new(events.map_ok(Frame::data));
    let mut response = Response::new(BodyExt::boxed_unsync(body));
    let events = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(CONTENT_TYPE, events);
    response
}
