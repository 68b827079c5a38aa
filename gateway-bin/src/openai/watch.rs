use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use thiserror::Error;

use crate::environment::Environment;
use crate::socket::{Credential, PlaceTaken};

pin_project! {
    /// An answer that lives no longer than the credential it was asked for with.
    pub(super) struct Watched<B> {
        #[pin]
        inner: B,
        credential: Credential,
        // Until the answer is over.
        held: (PlaceTaken, Option<Environment>),
    }
}

/// The credential has expired, or was revoked.
#[derive(Debug, Error)]
#[error("signed out")]
pub(super) struct SignedOut;

// === impl Watched ===

impl<B> Watched<B> {
    pub(super) const fn new(
        inner: B,
        credential: Credential,
        held: (PlaceTaken, Option<Environment>),
    ) -> Self {
        Self {
            inner,
            credential,
            held,
        }
    }
}

impl<B> Body for Watched<B>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.project();
        if this.credential.poll_end(cx).is_ready() {
            return Poll::Ready(Some(Err(SignedOut.into())));
        }
        let frame = this.inner.poll_frame(cx);
        frame.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
