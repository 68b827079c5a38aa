//! Whose turn it is in the answers of a connection.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::sync::Notify;

/// What of a connection's answers is ours to do.
#[derive(Default)]
pub(super) struct Answers {
    /// Told of each request, and of each part of an answer.
    pub(super) moved: Notify,
    /// How many are waited for whose next part we have to make.
    made: AtomicUsize,
}

impl Answers {
    /// Whether somebody waits for us.
    pub(super) fn are_made(&self) -> bool {
        self.made.load(Ordering::Relaxed) > 0
    }
}

/// One of these, as long as it is there.
pub(super) struct Answering(Arc<Answers>);

impl Answering {
    pub(super) fn new(all: &Arc<Answers>) -> Self {
        all.made.fetch_add(1, Ordering::Relaxed);
        all.moved.notify_one();
        Self(Arc::clone(all))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.made.fetch_sub(1, Ordering::Relaxed);
        self.0.moved.notify_one();
    }
}

pin_project! {
    /// The body of an answer, which says when it is us who are waited for, and when the client.
    pub(super) struct Answer<B> {
        #[pin]
        body: B,
        all: Arc<Answers>,
        next: Option<Answering>,
    }
}

impl<B> Answer<B> {
    pub(super) fn new(body: B, next: Answering) -> Self {
        Self {
            body,
            all: Arc::clone(&next.0),
            next: Some(next),
        }
    }
}

impl<B: Body> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let polled = this.body.poll_frame(cx);
        match &polled {
            Poll::Pending => {
                this.next.get_or_insert_with(|| Answering::new(this.all));
            }
            Poll::Ready(_) => *this.next = None,
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
