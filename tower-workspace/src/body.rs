use std::{
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// Response body of [`BindWorkspace`](crate::BindWorkspace) over HTTP: the inner body, or the
    /// sentence of a refusal.
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        #[pin]
        inner: Inner<B>,
    }
}

pin_project! {
    #[project = InnerProj]
    #[derive(Debug)]
    enum Inner<B> {
        Body {
            #[pin]
            body: B,
        },
        Refusal {
            // Empty once it was sent.
            bytes: Bytes,
        },
    }
}

// === impl ResponseBody ===

impl<B> ResponseBody<B> {
    /// The inner body, as it is.
    #[must_use]
    pub const fn new(body: B) -> Self {
        Self {
            inner: Inner::Body { body },
        }
    }

    /// The whole body of a refusal.
    #[must_use]
    pub const fn full(bytes: Bytes) -> Self {
        Self {
            inner: Inner::Refusal { bytes },
        }
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.project().inner.project() {
            InnerProj::Body { body } => body.poll_frame(cx),
            InnerProj::Refusal { bytes } if bytes.is_empty() => Poll::Ready(None),
            InnerProj::Refusal { bytes } => Poll::Ready(Some(Ok(Frame::data(mem::take(bytes))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Body { body } => body.is_end_stream(),
            Inner::Refusal { bytes } => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Body { body } => body.size_hint(),
            Inner::Refusal { bytes } => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}

impl<B: Default> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::new(B::default())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{HeaderMap, HeaderValue};
    use http_body_util::{BodyExt, Full, StreamBody};

    use super::*;

    #[tokio::test]
    async fn a_refusal_is_sent_once_and_knows_its_length() {
        let mut body = ResponseBody::<Full<Bytes>>::full(Bytes::from_static("no".as_bytes()));
        assert_eq!(body.size_hint().exact(), Some(2));
        assert!(!body.is_end_stream());
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "no");
        assert!(body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(0));
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn an_inner_body_passes_with_its_trailers() {
        let trailers = HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static("x"))]);
        let frames = [
            Ok::<_, Infallible>(Frame::data(Bytes::from("data"))),
            Ok(Frame::trailers(trailers.clone())),
        ];
        let body = ResponseBody::new(StreamBody::new(futures_util::stream::iter(frames)));
        let collected = body.collect().await.unwrap();
        assert_eq!(collected.trailers(), Some(&trailers));
        assert_eq!(collected.to_bytes(), "data");
    }

    #[test]
    fn an_inner_body_keeps_its_hints() {
        let body = ResponseBody::new(Full::new(Bytes::from("12345")));
        assert_eq!(body.size_hint().exact(), Some(5));
        assert!(!body.is_end_stream());
        assert!(ResponseBody::<Full<Bytes>>::default().is_end_stream());
    }
}
