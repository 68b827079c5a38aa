use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http_body_util::Full;

use super::page::Answer;
use crate::AnswerFuture;

/// The response of a [`LoginService`](super::LoginService) that is still to come.
///
/// It may be dropped at any time; a sign-in whose answer nobody waits for must be begun anew.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture {
    answer: AnswerFuture<Answer>,
    is_head: bool,
}

// === impl ResponseFuture ===

impl ResponseFuture {
    pub(super) const fn new(answer: AnswerFuture<Answer>, is_head: bool) -> Self {
        Self { answer, is_head }
    }
}

impl Future for ResponseFuture {
    type Output = Result<Answer, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(cx));
        Poll::Ready(Ok(if self.is_head {
            answer.map(|_| Full::default())
        } else {
            answer
        }))
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
