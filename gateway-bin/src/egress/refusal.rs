use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::{Either, Full};

/// An answer of ours in the place of a provider's, in the form of OpenAI's errors.
pub(super) fn refusal<B>(
    status: StatusCode,
    code: &'static str,
    message: &'static str,
) -> Response<Either<B, Full<Bytes>>> {
    let body = serde_json::json!({
        "error": { "message": message, "type": "gateway_error", "param": null, "code": code },
    });
    let mut response = Response::new(Either::Right(Full::from(body.to_string())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
