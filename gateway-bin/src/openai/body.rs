use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either, Full};
use pin_project_lite::pin_project;

use crate::rpc::RunTap;

/// How far the id of a run is looked for: it stands first in both APIs' answers.
const MAX_HEAD: usize = 1_024;

/// What ids of runs begin with, in a member of that name.
const IDS: [&str; 2] = ["\"id\":\"chatcmpl_", "\"id\":\"resp_"];

pin_project! {
    /// The answer to a run that was asked for over HTTP. Records the run when its id comes by, else when the answer is
    /// over or nobody wants it any more.
    #[derive(Debug)]
    pub struct RunBody<B> {
        #[pin]
        inner: Either<B, Full<Bytes>>,
        unnamed: Option<Unnamed>,
    }
}

/// A run whose id has not come by.
#[derive(Debug)]
struct Unnamed {
    tap: RunTap,
    head: Vec<u8>,
}

// === impl RunBody ===

impl<B> RunBody<B> {
    pub(super) fn new(body: B, tap: Option<RunTap>) -> Self {
        Self {
            inner: Either::Left(body),
            unnamed: tap.map(|tap| Unnamed {
                tap,
                head: Vec::new(),
            }),
        }
    }

    pub(super) fn full(text: Bytes) -> Self {
        Self {
            inner: Either::Right(Full::new(text)),
            unnamed: None,
        }
    }
}

impl<B> Body for RunBody<B>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        let data = match &frame {
            Some(Ok(frame)) => frame.data_ref(),
            // Dropped, it is recorded.
            _ => {
                this.unnamed.take();
                None
            }
        };
        if let (Some(unnamed), Some(data)) = (this.unnamed.as_mut(), data)
            && unnamed.read(data)
        {
            this.unnamed.take();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

// === impl Unnamed ===

impl Unnamed {
    /// Whether there is nothing more to be read for.
    fn read(&mut self, data: &[u8]) -> bool {
        let room = MAX_HEAD.saturating_sub(self.head.len());
        self.head.extend(data.iter().take(room));
        match id_in(&self.head) {
            Some(id) => self.tap.started(Some(id)),
            None if self.head.len() >= MAX_HEAD => self.tap.started(None),
            None => return false,
        }
        true
    }
}

/// The whole id of a run in the beginning of an answer.
fn id_in(head: &[u8]) -> Option<Arc<str>> {
    IDS.iter().find_map(|begin| {
        let at = head
            .windows(begin.len())
            .position(|window| window == begin.as_bytes())?;
        // Behind `"id":"`.
        let id = head.get(at + 6..)?;
        let end = id.iter().position(|byte| *byte == b'"')?;
        let id = std::str::from_utf8(id.get(..end)?).ok()?;
        id.is_ascii().then(|| id.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_run_is_found_in_each_form_of_an_answer() {
        for (head, id) in [
            (
                r#"{"id":"chatcmpl_1-a","object":"chat.completion""#,
                Some("chatcmpl_1-a"),
            ),
            (
                "data: {\"id\":\"chatcmpl_1\",\"object\"",
                Some("chatcmpl_1"),
            ),
            (
                "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_2\",",
                Some("resp_2"),
            ),
            (r#"{"id":"chatcmpl_1-"#, None),
            (r#"{"error":{"message":"x"}}"#, None),
            (r#"{"id":"msg_1"}"#, None),
        ] {
            assert_eq!(id_in(head.as_bytes()).as_deref(), id, "{head}");
        }
    }
}
