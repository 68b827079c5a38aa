use tower_layer::Layer;

use super::ModelCallService;

/// 32 MiB: a prompt with several inlined pictures.
const BODY_LIMIT: usize = 32 << 20;

/// Reads the body of a model call once and says what it asks for.
///
/// The [`Api`](super::super::Api) is known by the end of the path. Puts a [`ModelCall`](super::ModelCall) into the
/// extensions and hands the body inward as a [`CallBody`](super::CallBody). A streamed chat completion whose client did
/// not ask for usage is asked for it (`stream_options.include_usage`), the others tell it unasked; every other byte of
/// the body stays as it came. `Accept-Encoding` is removed: an answer that is not compressed is metered at less cost.
///
/// # Refusals
///
/// In OpenAI's error form, calls of Anthropic's API in Anthropic's:
///
/// - 404: a path of none of the APIs. What is no model call belongs around the layer.
/// - 413: a body beyond the limit, before any of it is read if the request says its length.
/// - 415: a body that is compressed.
/// - 400: a body that broke off, or is not one JSON object, or has bytes after its end; that names `model`, `stream`, or
///   what limits its output (`n`, `max_tokens`, `max_completion_tokens`, `max_output_tokens`), `stream_options` or
///   `background`, where its API has them, twice or with a wrong type; one that names no model; and a response in the
///   `background`, which is answered before it has used anything, and so could not be accounted for.
///
/// # Examples
///
/// ```
/// # use bytes::Bytes;
/// # use http_body_util::Full;
/// # use tower::{Layer, ServiceExt, service_fn};
/// use tower_usage::llm::{Api, CallBody, ModelCall, ModelCallLayer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let service = ModelCallLayer::new().layer(service_fn(|req: http::Request<CallBody>| async move {
///     let call = req.extensions().get::<ModelCall>().expect("the layer put it there");
///     assert_eq!((call.api, &*call.requested_model), (Api::ChatCompletions, "gpt-4o"));
///     assert_eq!(call.max_output, Some(100));
///     Ok::<_, std::convert::Infallible>(http::Response::new(Full::<Bytes>::default()))
/// }));
/// let body = Full::from(r#"{"model":"gpt-4o","max_completion_tokens":100,"messages":[]}"#);
/// let request = http::Request::post("/v1/chat/completions").body(body).unwrap();
/// assert!(service.oneshot(request).await.unwrap().status().is_success());
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ModelCallLayer {
    limit: usize,
}

// === impl ModelCallLayer ===

impl ModelCallLayer {
    /// A layer that reads bodies of up to 32 MiB.
    #[must_use]
    pub const fn new() -> Self {
        Self { limit: BODY_LIMIT }
    }

    /// Sets how many bytes a body may have.
    #[must_use]
    pub const fn limit(self, bytes: usize) -> Self {
        Self { limit: bytes }
    }
}

impl Default for ModelCallLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for ModelCallLayer {
    type Service = ModelCallService<S>;

    fn layer(&self, inner: S) -> ModelCallService<S> {
        ModelCallService::new(inner, self.limit)
    }
}
