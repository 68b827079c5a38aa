use tower_layer::Layer;

use super::ModelCallService;

/// 32 MiB: a prompt with several inlined pictures.
const BODY_LIMIT: usize = 32 << 20;

/// Reads the body of a chat completion once and says what it asks for.
///
/// Puts a [`ModelCall`](super::ModelCall) into the extensions and hands the body inward as a
/// [`CallBody`](super::CallBody). A stream whose client did not ask for usage is asked for it
/// (`stream_options.include_usage`); every other byte of the body stays as it came. `Accept-Encoding` is removed, since
/// a compressed answer could not be metered.
///
/// A body that is not one JSON object, names `model`, `stream`, `stream_options`, `n`, `max_tokens` or
/// `max_completion_tokens` twice or with a wrong type, or has bytes after its end, is refused with 400, one beyond the
/// limit with 413, in OpenAI's error form.
///
/// # Examples
///
/// ```
/// # use bytes::Bytes;
/// # use http_body_util::Full;
/// # use tower::{Layer, ServiceExt, service_fn};
/// use tower_usage::llm::{CallBody, ModelCall, ModelCallLayer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let service = ModelCallLayer::new().layer(service_fn(|req: http::Request<CallBody>| async move {
///     let call = req.extensions().get::<ModelCall>().expect("the layer put it there");
///     assert_eq!(&*call.requested_model, "gpt-4o");
///     assert_eq!(call.max_output, Some(100));
///     Ok::<_, std::convert::Infallible>(http::Response::new(Full::<Bytes>::default()))
/// }));
/// let body = Full::from(r#"{"model":"gpt-4o","max_completion_tokens":100,"messages":[]}"#);
/// assert!(service.oneshot(http::Request::new(body)).await.unwrap().status().is_success());
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
