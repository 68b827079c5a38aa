use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The body of a response of [`Sso`](crate::Sso): the inner service's, or that of a refusal.
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    #[derive(Debug)]
    enum Kind<B> {
        Inner { #[pin] body: B },
        Full { bytes: Option<Bytes> },
    }
}

// === impl ResponseBody ===

impl<B> ResponseBody<B> {
    /// Wraps the body of the inner service.
    pub const fn new(body: B) -> Self {
        Self {
            kind: Kind::Inner { body },
        }
    }

    /// A body of these bytes, for a [`Reject`](crate::Reject) of one's own.
    #[must_use]
    pub fn full(bytes: Bytes) -> Self {
        let bytes = Some(bytes).filter(|bytes| !bytes.is_empty());
        Self {
            kind: Kind::Full { bytes },
        }
    }
}

impl<B: Default> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::new(B::default())
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.project().kind.project() {
            KindProj::Inner { body } => body.poll_frame(cx),
            KindProj::Full { bytes } => Poll::Ready(bytes.take().map(Frame::data).map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner { body } => body.is_end_stream(),
            Kind::Full { bytes } => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body } => body.size_hint(),
            Kind::Full { bytes } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::HeaderMap;
    use http_body_util::{BodyExt as _, Empty, Full};

    use super::*;

    #[tokio::test]
    async fn a_full_body_gives_its_bytes_once_and_knows_its_size() {
        let mut body = ResponseBody::<Empty<Bytes>>::full(Bytes::from_static(b"refused"));
        assert_eq!(body.size_hint().exact(), Some(7));
        assert!(!body.is_end_stream());

        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "refused");
        assert!(body.is_end_stream(), "over as soon as the bytes are out");
        assert_eq!(body.size_hint().exact(), Some(0));
        assert!(body.frame().await.is_none());
    }

    #[test]
    fn an_empty_full_body_is_over_at_once() {
        assert!(ResponseBody::<Empty<Bytes>>::full(Bytes::new()).is_end_stream());
    }

    #[tokio::test]
    async fn the_inner_body_is_forwarded_with_size_and_trailers() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        let wanted = trailers.clone();
        let inner = Full::new(Bytes::from_static(b"abc"))
            .with_trailers(async move { Some(Ok::<_, Infallible>(trailers)) });
        let body = ResponseBody::new(inner);
        assert_eq!(body.size_hint().exact(), Some(3));

        let collected = body.collect().await.unwrap();
        assert_eq!(collected.trailers(), Some(&wanted));
        assert_eq!(collected.to_bytes(), "abc");
    }

    #[test]
    fn default_is_the_inner_default() {
        assert!(ResponseBody::<Empty<Bytes>>::default().is_end_stream());
    }
}
